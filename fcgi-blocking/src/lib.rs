//! FastCGI with threads, both ends of the wire.
//!
//! For programs without an async runtime: std's sockets, poll(2), and threads. A [`Server`] answers
//! requests from nginx, Apache, HAProxy and other web servers, each on a thread of a bounded pool.
//! A [`Client`] or a [`Pool`] sends requests to php-fpm or any other application. The names are
//! those of `fcgi-tokio` and its siblings, without `async`.
//!
//! ```
//! use fcgi_blocking as fcgi;
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let listener = fcgi::Listener::bind("tcp:127.0.0.1:0")?;
//! let address = listener.local_addr().clone();
//! let shutdown = fcgi::Shutdown::new(); // a program has fcgi::shutdown_signal()
//! let hello = |request: fcgi::Request| {
//!     let name = request.param_str("QUERY_STRING").unwrap_or("world").to_owned();
//!     request.stdout().write_all(format!("Content-Type: text/plain\r\n\r\nHello, {name}\n"))
//! };
//! let serve = fcgi::serve(listener, hello).with_graceful_shutdown(&shutdown);
//! let server = std::thread::spawn(|| serve.run());
//!
//! let mut client = fcgi::Client::connect(&address)?;
//! let request = fcgi::client::Request::responder().param("QUERY_STRING", "you");
//! let answer = client.send(request)?.collect(1 << 20)?;
//! assert!(answer.stdout.ends_with(b"Hello, you\n"));
//!
//! drop(client);
//! shutdown.trigger();
//! server.join().expect("it does not panic")?;
//! # Ok(())
//! # }
//! ```
//!
//! With the feature `http`, a handler is a function of `http::Request`s:
//!
//! ```no_run
//! # #[cfg(feature = "http")]
//! # fn main() -> Result<(), fcgi_blocking::Error> {
//! use fcgi_blocking as fcgi;
//!
//! let listener = fcgi::Listener::from_env("unix:/run/app.sock")?;
//! let app = |request: http::Request<fcgi::http::Body>| {
//!     let page = format!("Hello from {}\n", request.uri().path());
//!     http::Response::builder()
//!         .header("Content-Type", "text/plain")
//!         .body(fcgi::http::Body::from(page))
//! };
//! fcgi::serve_http(listener, app).with_graceful_shutdown(fcgi::shutdown_signal()).run()
//! # }
//! # #[cfg(not(feature = "http"))]
//! # fn main() {}
//! ```
//!
//! # Features
//! - `http`: `http`, with `serve_http` and an `HttpClient`.
//! - `php-fpm`: php-fpm's ping and status pages; includes `http`.
//! - `metrics`: counters through the `metrics` facade; see the [list of spans, events and
//!   counters](https://docs.rs/fcgi-engine/latest/fcgi_engine/observe).
//! - `sd-notify`: reports a server's start and end to systemd (`Type=notify`).
#![cfg_attr(docsrs, feature(doc_cfg))]
#![deny(missing_docs)]
#![forbid(unsafe_code)]

pub mod client;
#[cfg(feature = "http")]
pub mod http;
#[cfg(feature = "php-fpm")]
pub mod php_fpm;
pub mod pool;
pub mod server;
mod stream;
mod waker;

pub use client::{CancelHandle, Client};
pub use fcgi_engine::{
    Account, Address, AddressError, Error, Listener, ListenerBuilder, Phase, Target, is_fastcgi,
};
pub use fcgi_proto as proto;
pub use fcgi_proto::{
    FullRequest, Limits, Params, ProtocolError, Rejection, Role, Roles, Values, server::AbortReason,
};
pub use pool::Pool;
pub use server::{
    CANCELLED, EndOfFile, FAILED, Failed, Handler, InputStream, IntoAppStatus, OutputStream,
    PANICKED, Request, Serve, Server, Shutdown, shutdown_signal,
};

/// Serves requests with a handler once [`run`](Serve::run) is called. The settings are those of
/// [`Server::from_env`].
pub fn serve<H: Handler>(listener: impl Into<Listener>, handler: H) -> Serve<H> {
    Server::from_env().serve(listener, handler)
}

/// Serves one connection to its end once [`run`](Serve::run) is called; see
/// [`Server::serve_connection`]. The settings are those of [`Server::from_env`].
pub fn serve_connection<H: Handler>(io: impl Into<std::os::fd::OwnedFd>, handler: H) -> Serve<H> {
    Server::from_env().serve_connection(io, handler)
}

/// Serves HTTP requests with a function once [`run`](Serve::run) is called. The settings are those
/// of [`Server::from_env`].
#[cfg(feature = "http")]
pub fn serve_http<H, A, B>(listener: impl Into<Listener>, handler: H) -> Serve<http::Responder<H>>
where
    H: Fn(::http::Request<http::Body>) -> A + Send + Sync + 'static,
    A: http::IntoAnswer<Answer = ::http::Response<B>>,
    B: std::io::Read + 'static,
{
    Server::from_env().serve_http(listener, handler)
}

/// Serves HTTP requests with a function, in the way in which the process was started, once
/// [`run`](Serve::run) is called: one request as a CGI program, otherwise FastCGI on systemd's
/// sockets, descriptor 0, or the address in FCGI_ADDR. See [`Server::serve_http_auto`]. The
/// settings are those of [`Server::from_env`].
#[cfg(feature = "http")]
pub fn serve_http_auto<H, A, B>(handler: H) -> Serve<http::Responder<H>>
where
    H: Fn(::http::Request<http::Body>) -> A + Send + Sync + 'static,
    A: http::IntoAnswer<Answer = ::http::Response<B>>,
    B: std::io::Read + 'static,
{
    Server::from_env().serve_http_auto(handler)
}

#[cfg(all(doctest, feature = "http"))]
#[doc = include_str!("../README.md")]
struct ReadmeExample;
