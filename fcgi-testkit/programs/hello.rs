//! Answers every request with `Hello, world`, to measure throughput.
//!
//! `hello ADDR`, where ADDR is `unix:PATH`, `tcp:HOST:PORT`, or `-` for descriptor 0. With
//! FCGI_THREADS=1 handlers run on one thread. On SIGTERM or SIGINT it finishes its requests and
//! ends.
//!
//! The example of this name of every async adapter is this file, with the adapter's `fcgi` and
//! `runtime`.

use crate::{fcgi, runtime};

pub(crate) fn main() -> anyhow::Result<()> {
    let Some(address) = std::env::args().nth(1) else { anyhow::bail!("usage: hello ADDR") };
    runtime::block_on(async move {
        // This comes first: whoever sees the socket may send the signal.
        let stop = fcgi::shutdown_signal();
        let listener = fcgi::Listener::bind(address)?;
        Ok(fcgi::serve(listener, hello).with_graceful_shutdown(stop).await?)
    })?
}

async fn hello(request: fcgi::Request) -> Result<(), fcgi::Error> {
    request.stdout().write_chunk("Content-Type: text/plain\r\n\r\nHello, world\n").await
}
