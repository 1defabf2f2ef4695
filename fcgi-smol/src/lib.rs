//! FastCGI for smol, both ends of the wire.
//!
//! A [`Server`] answers requests from nginx, Apache, HAProxy and other web servers; a [`Client`]
//! sends requests to php-fpm or any other application. The other adapters have the same names, so a
//! program changes runtime by changing `use fcgi_smol as fcgi`.
//!
//! ```no_run
//! use fcgi_smol as fcgi;
//!
//! fn main() -> Result<(), fcgi::Error> {
//!     let hello = |request: fcgi::Request| async move {
//!         let name = request.param_str("QUERY_STRING").unwrap_or("world").to_owned();
//!         let page = format!("Content-Type: text/plain\r\n\r\nHello, {name}\n");
//!         request.stdout().write_all(page).await
//!     };
//!     let listener = fcgi::Listener::from_env("unix:/run/app.sock")?;
//!     let serve = fcgi::serve(listener, hello).with_graceful_shutdown(fcgi::shutdown_signal());
//!     smol::block_on(serve)
//! }
//! ```
//!
//! # Threads
//! Handlers are tasks of smol's global executor. It has one thread, or as many as the environment
//! variable SMOL_THREADS says. A handler that blocks its thread holds up the others.
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

pub use fcgi_async_io::{Timer, Transport, TransportListener, shutdown_signal};

/// The runtime: sockets and timers of `async-io`, tasks of smol.
pub type Smol = fcgi_async_io::AsyncIo<Tasks>;

/// smol's tasks. This is only a name: no value of it exists.
#[derive(Clone, Copy, Debug)]
pub enum Tasks {}

impl fcgi_async_io::Spawn for Tasks {
    fn spawn(future: impl Future<Output = ()> + Send + 'static) {
        smol::spawn(future).detach();
    }
}

fcgi_driver::adapter!(Smol, "fcgi_smol");
