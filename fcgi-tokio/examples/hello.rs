//! Answers every request with `Hello, world`: what throughput is measured on.
//!
//! `hello ADDR`, where ADDR is `unix:PATH`, `tcp:HOST:PORT`, or `-` for descriptor 0. One thread
//! when FCGI_THREADS=1.

use fcgi_tokio as fcgi;
use tokio::signal::unix::{SignalKind, signal};

fn main() -> anyhow::Result<()> {
    let Some(address) = std::env::args().nth(1) else { anyhow::bail!("usage: hello ADDR") };
    let mut runtime = match std::env::var("FCGI_THREADS").as_deref() {
        Ok("1") => tokio::runtime::Builder::new_current_thread(),
        _ => tokio::runtime::Builder::new_multi_thread(),
    };
    runtime.enable_all().build()?.block_on(async {
        let listener = fcgi::Listener::bind(&address.parse()?)?;
        let (mut term, mut int) =
            (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
        let stop = async { tokio::select!(_ = term.recv() => {}, _ = int.recv() => {}) };
        fcgi::Server::new().serve_until(listener, hello, stop).await?;
        Ok(())
    })
}

async fn hello(request: fcgi::Request) -> Result<(), fcgi::Error> {
    request.stdout().write_all("Content-Type: text/plain\r\n\r\nHello, world\n").await
}
