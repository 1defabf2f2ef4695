//! An axum application behind any web server, started by systemd, by spawn-fcgi or by hand. It
//! listens on the socket that it was started with or at FCGI_ADDR, otherwise at /run/app.sock.

use fcgi_tokio as fcgi;

#[tokio::main]
async fn main() -> Result<(), fcgi::Error> {
    let app = axum::Router::new().route("/", axum::routing::get(async || "hello\n"));
    let listener = fcgi::Listener::from_env("unix:/run/app.sock")?;
    fcgi::serve_http(listener, app).with_graceful_shutdown(fcgi::shutdown_signal()).await
}
