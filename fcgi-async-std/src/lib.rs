//! FastCGI for async-std, both ends of the wire.
//!
//! **Deprecated**, like async-std itself, which was discontinued in favour of smol. For a new
//! program use `fcgi-smol`, which has the same names.
//!
//! A [`Server`] answers requests from nginx, Apache, HAProxy and other web servers; a [`Client`]
//! sends requests to php-fpm or any other application. The other adapters have the same names, so a
//! program changes runtime by changing `use fcgi_async_std as fcgi`.
//!
//! ```no_run
//! use fcgi_async_std as fcgi;
//!
//! fn main() -> Result<(), fcgi::Error> {
//!     let hello = |request: fcgi::Request| async move {
//!         let name = request.param_str("QUERY_STRING").unwrap_or("world").to_owned();
//!         let page = format!("Content-Type: text/plain\r\n\r\nHello, {name}\n");
//!         request.stdout().write_all(page).await
//!     };
//!     let listener = fcgi::Listener::from_env("unix:/run/app.sock")?;
//!     let serve = fcgi::serve(listener, hello).with_graceful_shutdown(fcgi::shutdown_signal());
//!     async_std::task::block_on(serve)
//! }
//! ```
//!
//! # Threads
//! Handlers are async-std's tasks. These run on one thread per core, or on as many threads as the
//! environment variable ASYNC_STD_THREAD_COUNT says.
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

/// The runtime: sockets and timers of `async-io`, tasks of async-std.
pub type AsyncStd = fcgi_async_io::AsyncIo<Tasks>;

/// async-std's tasks. This is only a name: no value of it exists.
#[derive(Clone, Copy, Debug)]
pub enum Tasks {}

impl fcgi_async_io::Spawn for Tasks {
    fn spawn(future: impl Future<Output = ()> + Send + 'static) {
        async_std::task::spawn(future);
    }
}

fcgi_driver::adapter!(AsyncStd, "fcgi_async_std");
