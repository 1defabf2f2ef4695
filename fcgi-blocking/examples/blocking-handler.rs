//! A bare handler, with settings. `blocking-handler ADDR [GROUP]` greets the user whom the web
//! server has authenticated, and sends the request's body back. ADDR is a unix socket, `unix:PATH`,
//! which its owner and GROUP, such as `www-data`, may open. On SIGTERM or SIGINT it finishes its
//! requests and ends.

use std::time::Duration;

use fcgi_blocking as fcgi;

fn main() -> anyhow::Result<()> {
    let mut args = std::env::args().skip(1);
    let Some(address) = args.next() else { anyhow::bail!("usage: handler ADDR [GROUP]") };
    let stop = fcgi::shutdown_signal();
    let mut listener = fcgi::Listener::builder(address).mode(0o660).backlog(1024);
    if let Some(group) = args.next() {
        listener = listener.group(group);
    }
    fcgi::Server::builder()
        .max_connections(200)
        .handler_timeout(Duration::from_secs(30))
        .serve(listener.bind()?, |request: fcgi::Request| {
            let who = request.param_str("REMOTE_USER").unwrap_or("world").to_owned();
            let body = request.stdin().read_to_end(1 << 20)?;
            let head = format!("Content-Type: text/plain\r\n\r\nHello, {who}\n");
            request.stdout().write_all(head)?;
            // Bytes: no copy.
            request.stdout().write_chunk(body)
        })
        .with_graceful_shutdown(stop)
        .run()?;
    Ok(())
}
