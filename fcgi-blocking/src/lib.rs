//! FastCGI with threads, both ends of the wire.
//!
//! For programs that have no async runtime and want none: std's sockets, poll(2), and threads. A
//! [`Server`] answers the requests that nginx, Apache or HAProxy hand on, each on a thread of a
//! bounded pool; a [`Client`] or a [`Pool`] sends requests to php-fpm or any other application. The
//! names are those of `fcgi-tokio` and its siblings, without `async`.
//!
//! ```
//! use fcgi_blocking as fcgi;
//!
//! let listener = fcgi::Listener::bind(&"tcp:127.0.0.1:0".parse()?)?;
//! let address = listener.local_address().clone();
//! let shutdown = fcgi::Shutdown::new();
//! let stop = shutdown.clone();
//! let server = std::thread::spawn(move || {
//!     let hello = |request: fcgi::Request| {
//!         let name = request.param_str("QUERY_STRING").unwrap_or("world").to_owned();
//!         request.stdout().write_all(format!("Content-Type: text/plain\r\n\r\nHello, {name}\n"))
//!     };
//!     fcgi::Server::new().serve_until(listener, hello, &stop)
//! });
//!
//! let mut client = fcgi::Client::connect(&address)?;
//! let request = fcgi::client::Request::responder().param("QUERY_STRING", "you");
//! let answer = client.send(request)?.collect(1 << 20)?;
//! assert!(answer.stdout.ends_with(b"Hello, you\n"));
//!
//! drop(client);
//! shutdown.trigger();
//! server.join().expect("it does not panic")?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! With the feature `http`, a handler is a function of `http::Request`s:
//!
//! ```no_run
//! # #[cfg(feature = "http")]
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! use fcgi_blocking as fcgi;
//!
//! let listener = fcgi::Listener::bind(&"unix:/run/app.sock".parse()?)?;
//! fcgi::Server::new().serve_http(listener, |request: http::Request<fcgi::http::Body>| {
//!     let page = format!("Hello from {}\n", request.uri().path());
//!     http::Response::builder()
//!         .header("Content-Type", "text/plain")
//!         .body(fcgi::http::Body::from(page))
//! })?;
//! # Ok(())
//! # }
//! # #[cfg(not(feature = "http"))]
//! # fn main() {}
//! ```
//!
//! # Features
//! - `http`: `http`, with `Server::serve_http` and an `HttpClient`.
//! - `php-fpm`: php-fpm's ping and status pages, and `http`.
//! - `metrics`: counters through the `metrics` facade; see docs/observability.md.
#![cfg_attr(docsrs, feature(doc_cfg))]
#![deny(missing_docs)]
#![forbid(unsafe_code)]

pub mod client;
#[cfg(feature = "http")]
pub mod http;
mod listener;
#[cfg(feature = "php-fpm")]
pub mod php_fpm;
pub mod pool;
pub mod server;
mod stream;
mod waker;

pub use client::{CancelHandle, Client};
pub use fcgi_engine::{Address, AddressError, Error, Phase, Target, is_fastcgi};
pub use fcgi_proto as proto;
pub use fcgi_proto::{
    FullRequest, Limits, Params, ProtocolError, Rejection, Role, Roles, Values, server::AbortReason,
};
pub use listener::Listener;
pub use pool::Pool;
pub use server::{
    CANCELLED, EndOfFile, FAILED, Failed, Handler, InputStream, IntoAppStatus, OutputStream,
    PANICKED, Request, Server, Shutdown,
};

#[cfg(all(doctest, feature = "http"))]
#[doc = include_str!("../README.md")]
struct ReadmeExample;
