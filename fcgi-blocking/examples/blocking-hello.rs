//! Answers every request with `Hello, world`, to measure throughput.
//!
//! `hello ADDR`, where ADDR is `unix:PATH`, `tcp:HOST:PORT`, or `-` for descriptor 0. With
//! FCGI_THREADS=1 handlers run on one thread.

use fcgi_blocking as fcgi;

fn main() -> anyhow::Result<()> {
    let Some(address) = std::env::args().nth(1) else { anyhow::bail!("usage: hello ADDR") };
    let mut server = fcgi::Server::from_env();
    if std::env::var("FCGI_THREADS").as_deref() == Ok("1") {
        server = server.threads(1);
    }
    // This comes first: whoever sees the socket may send the signal.
    let stop = fcgi::shutdown_signal();
    let listener = fcgi::Listener::bind(address)?;
    Ok(server.serve(listener, hello).with_graceful_shutdown(stop).run()?)
}

fn hello(request: fcgi::Request) -> Result<(), fcgi::Error> {
    request.stdout().write_chunk("Content-Type: text/plain\r\n\r\nHello, world\n")
}
