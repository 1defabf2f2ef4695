//! `axum ADDR` serves an axum `Router` at `unix:PATH` or `tcp:HOST:PORT` (or descriptor 0 when ADDR
//! is `-`) until SIGTERM or SIGINT, then finishes its requests.
//!
//! Behind nginx: `fastcgi_pass unix:/run/app.sock;` and `include fastcgi_params;`.

use std::env;

use anyhow::Context;
use axum::{
    Extension, Router,
    body::Body,
    routing::{get, post},
};
use fcgi::http::MetaVariables;
use fcgi_tokio as fcgi;

/// The client's address, as the web server reports it.
async fn client(Extension(meta): Extension<MetaVariables>) -> String {
    match meta.remote_addr() {
        Some(address) => format!("{address}\n"),
        None => "unknown\n".to_owned(),
    }
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let address = env::args().nth(1).context("usage: axum ADDR")?;
    let app = Router::new()
        .route("/client", get(client))
        .route("/echo", post(async |body: Body| body))
        .fallback(async || "Hello, world\n");
    let listener = fcgi::Listener::bind(address)?;
    Ok(fcgi::serve_http(listener, app).with_graceful_shutdown(fcgi::shutdown_signal()).await?)
}
