//! One axum router, behind FastCGI and under hyper alone.

use std::path::Path;

use anyhow::Result;
use axum::Router;
use axum::routing::get;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::net::UnixListener;

fn router() -> Router {
    Router::new().route("/articles", get(async || "Hello, world\n"))
}

/// Serves the router over FastCGI.
pub(super) async fn fastcgi(socket: &Path) -> Result<()> {
    let listener = fcgi_tokio::Listener::bind(socket)?;
    Ok(fcgi_tokio::serve_http(listener, router()).await?)
}

/// Serves the router over HTTP/1.1.
pub(super) async fn http(socket: &Path) -> Result<()> {
    let listener = UnixListener::bind(socket)?;
    let service = TowerToHyperService::new(router());
    loop {
        let (stream, _) = listener.accept().await?;
        let service = service.clone();
        tokio::spawn(async move {
            let mut hyper = http1::Builder::new();
            // It does not matter if a client closes its connection.
            let _ = hyper
                .timer(TokioTimer::new())
                .serve_connection(TokioIo::new(stream), service)
                .await;
        });
    }
}
