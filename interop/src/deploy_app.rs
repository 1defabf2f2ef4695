//! The application that docs/deploy.md puts behind web servers.

use std::time::Duration;

use axum::{
    Router,
    body::Bytes,
    http::Uri,
    routing::{get, post},
};
use fcgi_tokio as fcgi;

#[tokio::main]
async fn main() -> Result<(), fcgi::Error> {
    let stop = fcgi::shutdown_signal();
    let app = Router::new()
        .route("/", get(async || "hello from the application\n"))
        .route("/echo", post(async |body: Bytes| body))
        .route("/pid", get(async || std::process::id().to_string()))
        .route("/slow", get(slow))
        .fallback(async |uri: Uri| uri.to_string());
    let listener = fcgi::Listener::from_env("unix:/run/app/app.sock")?;
    fcgi::serve_http(listener, app).with_graceful_shutdown(stop).await
}

/// Long enough to be under way when the process is asked to end.
async fn slow() -> String {
    tokio::time::sleep(Duration::from_millis(500)).await;
    std::process::id().to_string()
}
