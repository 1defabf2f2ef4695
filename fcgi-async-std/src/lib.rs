//! FastCGI for async-std, both ends of the wire.
//!
//! **Deprecated**, as async-std is: its authors have discontinued it in favour of smol. For a new
//! program take `fcgi-smol`, which has the same names.
//!
//! A [`Server`] answers the requests that nginx, Apache or HAProxy hand on; a [`Client`] sends
//! requests to php-fpm or any other application. The other adapters have the same names, so that
//! a program changes runtime by changing `use fcgi_async_std as fcgi`.
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
//! Handlers are async-std's tasks, which run on a thread for each core unless
//! ASYNC_STD_THREAD_COUNT in the environment says how many.
//!
//! # Features
//! - `http`: [`http`], with `serve_http` for tower services and a client that is one.
//! - `axum`: axum's handlers take `http::RemoteAddr` and `http::MetaVariables` as arguments.
//! - `php-fpm`: php-fpm's ping and status pages, and `http`.
//! - `metrics`: counters through the `metrics` facade; see docs/observability.md.
//! - `sd-notify`: systemd hears of a server's start and end (`Type=notify`).
#![cfg_attr(docsrs, feature(doc_cfg))]
#![deny(missing_docs)]
#![forbid(unsafe_code)]

pub use fcgi_async_io::{Timer, Transport, TransportListener, shutdown_signal};

/// The runtime: sockets and timers of `async-io`, tasks of async-std.
pub type AsyncStd = fcgi_async_io::AsyncIo<Tasks>;

/// async-std's tasks. It is only a name: there is no value of it.
#[derive(Clone, Copy, Debug)]
pub enum Tasks {}

impl fcgi_async_io::Spawn for Tasks {
    fn spawn(future: impl Future<Output = ()> + Send + 'static) {
        async_std::task::spawn(future);
    }
}

fcgi_driver::adapter!(AsyncStd, "fcgi_async_std");
