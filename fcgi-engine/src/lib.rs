//! What the FastCGI adapters decide and share, on any runtime.
//!
//! `fcgi-proto` knows the protocol and does no IO. An adapter brings sockets and timers, and waits.
//! This crate makes every decision in between, in one place: how bytes move ([`pump`]), what a
//! connection and its requests do and for how long ([`client`], [`server`]), who gets which
//! connection ([`pool`]). The caller passes the time in: there is no runtime, thread, `async` or
//! clock. The crate also has addresses and listening sockets ([`Address`], [`Listener`]), CGI
//! ([`cgi`]), errors ([`Error`], [`Phase`]), settings with their defaults, and the escaping of a
//! peer's text for a log ([`text`]). Applications use an adapter, not this crate.
//!
//! ```
//! let address: fcgi_engine::Address = "unix:/run/php/php-fpm.sock".parse()?;
//! # Ok::<(), fcgi_engine::AddressError>(())
//! ```
//!
//! # What may grow
//! Types that applications see are `#[non_exhaustive]`, except for sets that the specification
//! closes. Types that only adapters see are not: an adapter must know each step and each setting,
//! and is pinned to one version of this crate.
//!
//! # Features
//! - `http`: the shared part of the adapters' `http` modules.
//! - `php-fpm`: php-fpm's ping and status pages; includes `http`.
//! - `metrics`: counters through the `metrics` facade; see [`observe`].
#![cfg_attr(docsrs, feature(doc_cfg))]
#![deny(missing_docs)]
#![forbid(unsafe_code)]

mod address;
pub mod cgi;
pub mod client;
mod error;
#[cfg(feature = "http")]
pub mod http;
mod joined;
pub mod listener;
pub mod notify;
pub mod observe;
#[cfg(feature = "php-fpm")]
pub mod php_fpm;
pub mod pool;
pub mod pump;
pub mod server;
mod setters;
pub mod socket;
pub mod text;

pub use address::{Address, AddressError, Target};
pub use error::{Error, Phase};
#[doc(hidden)]
pub use joined::Joined;
pub use listener::{Account, Listener, ListenerBuilder};
pub use socket::is_fastcgi;
