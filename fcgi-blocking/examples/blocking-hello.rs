//! Answers every request with `Hello, world`: what throughput is measured on.
//!
//! `hello ADDR`, where ADDR is `unix:PATH`, `tcp:HOST:PORT`, or `-` for descriptor 0. One thread
//! for handlers when FCGI_THREADS=1.

use fcgi_blocking as fcgi;
use signal_hook::{
    consts::{SIGINT, SIGTERM},
    iterator::Signals,
};

fn main() -> anyhow::Result<()> {
    let Some(address) = std::env::args().nth(1) else { anyhow::bail!("usage: hello ADDR") };
    let mut server = fcgi::Server::new();
    if std::env::var("FCGI_THREADS").as_deref() == Ok("1") {
        server = server.threads(1);
    }
    let mut signals = Signals::new([SIGTERM, SIGINT])?;
    let listener = fcgi::Listener::bind(&address.parse()?)?;
    let shutdown = fcgi::Shutdown::new();
    let stop = shutdown.clone();
    std::thread::spawn(move || {
        if signals.forever().next().is_some() {
            stop.trigger();
        }
    });
    server.serve_until(listener, hello, &shutdown)?;
    Ok(())
}

fn hello(request: fcgi::Request) -> Result<(), fcgi::Error> {
    request.stdout().write_all("Content-Type: text/plain\r\n\r\nHello, world\n")
}
