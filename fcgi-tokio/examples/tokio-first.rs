//! An axum application behind any web server, under systemd, spawn-fcgi or by hand: it listens where
//! it was started to, at FCGI_ADDR for one, else at /run/app.sock.

use fcgi_tokio as fcgi;

#[tokio::main]
async fn main() -> Result<(), fcgi::Error> {
    let app = axum::Router::new().route("/", axum::routing::get(async || "hello\n"));
    let listener = fcgi::Listener::from_env("unix:/run/app.sock")?;
    fcgi::serve_http(listener, app).with_graceful_shutdown(fcgi::shutdown_signal()).await
}
