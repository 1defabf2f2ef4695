//! The application that docs/deploy.md puts behind web servers.

use std::{env, error::Error, time::Duration};

use axum::{
    Router,
    body::Bytes,
    http::Uri,
    routing::{get, post},
};
use fcgi_tokio as fcgi;
use tokio::signal::unix::{SignalKind, signal};

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let mut terminated = signal(SignalKind::terminate())?;
    let app = Router::new()
        .route("/", get(async || "hello from the application\n"))
        .route("/echo", post(async |body: Bytes| body))
        .route("/pid", get(async || std::process::id().to_string()))
        .route("/slow", get(slow))
        .fallback(async |uri: Uri| uri.to_string());
    // Without an address: descriptor 0.
    let address = env::var("FCGI_ADDR").unwrap_or_else(|_| "-".to_owned());
    let listener = fcgi::Listener::bind(&address.parse()?)?;
    let stop = async move {
        terminated.recv().await;
    };
    fcgi::Server::new().serve_http_until(listener, app, stop).await?;
    Ok(())
}

/// Long enough to be under way when the process is asked to end.
async fn slow() -> String {
    tokio::time::sleep(Duration::from_millis(500)).await;
    std::process::id().to_string()
}
