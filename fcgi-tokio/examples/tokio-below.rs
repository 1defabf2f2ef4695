//! `tokio-below ADDR` serves an axum `Router` that can be mounted below any path of a site, at
//! `unix:PATH` or `tcp:HOST:PORT` (or descriptor 0 when ADDR is `-`) until SIGTERM or SIGINT.
//!
//! It routes by PATH_INFO, and its links begin with SCRIPT_NAME. In nginx, below `/app`:
//!
//! ```nginx
//! location /app/ {
//!     include fastcgi_params;
//!     fastcgi_split_path_info ^(/app)(/.*)$;
//!     fastcgi_param SCRIPT_NAME $fastcgi_script_name;
//!     fastcgi_param PATH_INFO   $fastcgi_path_info;
//!     fastcgi_pass unix:/run/app.sock;
//! }
//! ```
//!
//! In Apache: `ProxyPass "/app/" "unix:/run/app.sock|fcgi://app/"`.

use std::env;

use anyhow::Context;
use axum::{Extension, Router, extract::Path, routing::get};
use fcgi::http::{MetaVariables, MountPoint, PathSource, RemoteAddr};
use fcgi_tokio as fcgi;

/// The start page. Its links work wherever the application is mounted.
async fn index(Extension(mount): Extension<MountPoint>) -> String {
    format!("index of {mount}/\nsee {mount}/users/ann\n")
}

async fn user(Path(name): Path<String>) -> String {
    format!("user {name}\n")
}

/// The client's address, as the web server reports it. Without one the client gets a page with
/// status 500 that says so.
async fn who(client: RemoteAddr, meta: MetaVariables) -> String {
    let server = meta.params().get_str("SERVER_SOFTWARE").unwrap_or("an unknown server");
    format!("{client} through {server}\n")
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let address = env::args().nth(1).context("usage: tokio-below ADDR")?;
    let app = Router::new()
        .route("/", get(index))
        .route("/users/{name}", get(user))
        .route("/who", get(who))
        .fallback(async |uri: http::Uri| (http::StatusCode::NOT_FOUND, format!("no {uri}\n")));
    let listener = fcgi::Listener::bind(address)?;
    fcgi::Server::from_env()
        .path(PathSource::PathInfo)
        .serve_http(listener, app)
        .with_graceful_shutdown(fcgi::shutdown_signal())
        .await?;
    Ok(())
}
