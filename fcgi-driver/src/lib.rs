//! The engine of the async adapters: FastCGI's two ends over any runtime.
//!
//! `fcgi-proto` knows the protocol and does no IO; a runtime has sockets and timers. This crate is
//! the part in between: the poll loop that reads and writes at the same time, the server that runs
//! handlers, and the client with its time limits and cancellation. It depends on no runtime: an
//! adapter such as `fcgi-tokio` implements [`runtime::Runtime`] in some 200 lines and re-exports
//! the rest. Applications use an adapter, not this crate.
//!
//! ```
//! let address: fcgi_driver::Address = "unix:/run/php/php-fpm.sock".parse()?;
//! # Ok::<(), fcgi_driver::AddressError>(())
//! ```
//!
//! # Features
//! - `http`: HTTP for servers and clients.
//! - `axum`: lets axum's handlers take `http::RemoteAddr` and `http::MetaVariables` as arguments.
//! - `php-fpm`: php-fpm's ping and status pages; includes `http`.
//! - `metrics`: counters through the `metrics` facade.
//! - `sd-notify`: reports a server's start and end to systemd.
//! - `tokio`: tokio's `AsyncRead` and `AsyncWrite` for streams and bodies, in addition to those of
//!   futures-io.
#![cfg_attr(docsrs, feature(doc_cfg))]
#![deny(missing_docs)]
#![forbid(unsafe_code)]

mod acceptor;
mod adapter;
pub mod client;
mod deadline;
#[cfg(feature = "http")]
pub mod http;
mod io;
mod over;
#[cfg(feature = "php-fpm")]
pub mod php_fpm;
pub mod pool;
mod pump;
pub mod runtime;
pub mod server;
mod wakers;

pub use acceptor::Acceptor;
pub use fcgi_engine::{
    Account, Address, AddressError, Error, Listener, ListenerBuilder, Phase, Target, is_fastcgi,
    listener::StdListener,
};
pub use over::Over;
