//! A bare handler, with settings. `handler ADDR [GROUP]` greets the user whom the web server has
//! authenticated, and sends the request's body back. ADDR is a unix socket, `unix:PATH`, which its
//! owner and GROUP, such as `www-data`, may open. On SIGTERM or SIGINT it finishes its requests and
//! ends.
//!
//! The example of this name of every async adapter is this file, with the adapter's `fcgi` and
//! `runtime`.

use std::time::Duration;

use crate::{fcgi, runtime};

pub(crate) fn main() -> anyhow::Result<()> {
    let mut args = std::env::args().skip(1);
    let Some(address) = args.next() else { anyhow::bail!("usage: handler ADDR [GROUP]") };
    runtime::block_on(async move {
        let stop = fcgi::shutdown_signal();
        let mut listener = fcgi::Listener::builder(address).mode(0o660).backlog(1024);
        if let Some(group) = args.next() {
            listener = listener.group(group);
        }
        fcgi::Server::builder()
            .max_connections(200)
            .handler_timeout(Duration::from_secs(30))
            .serve(listener.bind()?, |request: fcgi::Request| async move {
                let who = request.param_str("REMOTE_USER").unwrap_or("world").to_owned();
                let body = request.stdin().read_to_end(1 << 20).await?;
                let head = format!("Content-Type: text/plain\r\n\r\nHello, {who}\n");
                request.stdout().write_all(head).await?;
                // Bytes: no copy.
                request.stdout().write_chunk(body).await
            })
            .with_graceful_shutdown(stop)
            .await?;
        Ok(())
    })?
}
