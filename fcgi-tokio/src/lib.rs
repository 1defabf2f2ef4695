//! FastCGI for tokio, both ends of the wire.
//!
//! A [`Server`] answers requests from nginx, Apache, HAProxy and other web servers; a [`Client`]
//! sends requests to php-fpm or any other application. The other adapters have the same names, so a
//! program changes runtime by changing `use fcgi_tokio as fcgi`.
//!
//! ```no_run
//! use fcgi_tokio as fcgi;
//!
//! #[tokio::main]
//! async fn main() -> Result<(), fcgi::Error> {
//!     let hello = |request: fcgi::Request| async move {
//!         let name = request.param_str("QUERY_STRING").unwrap_or("world").to_owned();
//!         let page = format!("Content-Type: text/plain\r\n\r\nHello, {name}\n");
//!         request.stdout().write_all(page).await
//!     };
//!     let listener = fcgi::Listener::from_env("unix:/run/app.sock")?;
//!     fcgi::serve(listener, hello).with_graceful_shutdown(fcgi::shutdown_signal()).await
//! }
//! ```
//!
//! # Features
//! - `http`: [`http`], with `serve_http` for tower services and `HttpClient`.
//! - `axum`: lets axum's handlers take `http::RemoteAddr` and `http::MetaVariables` as arguments.
//! - `php-fpm`: php-fpm's ping and status pages; includes `http`.
//! - `metrics`: counters through the `metrics` facade; see the [list of spans, events and
//!   counters](https://docs.rs/fcgi-engine/latest/fcgi_engine/observe).
//! - `sd-notify`: reports a server's start and end to systemd (`Type=notify`).
#![cfg_attr(docsrs, feature(doc_cfg))]
#![deny(missing_docs)]
#![forbid(unsafe_code)]

mod connected;
mod listening;
mod over;
mod reading;
mod runtime;

pub use connected::Connected;
pub use listening::Listening;
pub use reading::Reading;
pub use runtime::{Timer, Tokio, Transport, TransportListener, shutdown_signal};

fcgi_driver::adapter!(Tokio, "fcgi_tokio");
