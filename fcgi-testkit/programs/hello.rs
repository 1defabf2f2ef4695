//! Answers every request with `Hello, world`: what throughput is measured on.
//!
//! `hello ADDR`, where ADDR is `unix:PATH`, `tcp:HOST:PORT`, or `-` for descriptor 0. One thread
//! of handlers when FCGI_THREADS=1. SIGTERM or SIGINT ends it after its requests.
//!
//! Every async adapter's example of this name is this file, with its `fcgi` and its `runtime`.

use crate::{fcgi, runtime};

pub(crate) fn main() -> anyhow::Result<()> {
    let Some(address) = std::env::args().nth(1) else { anyhow::bail!("usage: hello ADDR") };
    runtime::block_on(async move {
        // First: whoever sees the socket may send the signal.
        let stop = fcgi::shutdown_signal();
        let listener = fcgi::Listener::bind(address)?;
        Ok(fcgi::serve(listener, hello).with_graceful_shutdown(stop).await?)
    })?
}

async fn hello(request: fcgi::Request) -> Result<(), fcgi::Error> {
    request.stdout().write_chunk("Content-Type: text/plain\r\n\r\nHello, world\n").await
}
