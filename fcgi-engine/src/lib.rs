//! What the FastCGI adapters share, whatever their runtime.
//!
//! `fcgi-proto` knows the protocol and does no IO; an adapter brings sockets and timers. Between
//! them lies what is the same in every adapter, async or blocking: where an application listens
//! ([`Address`], [`ListeningSocket`]), what can go wrong ([`Error`], [`Phase`]), the settings of
//! servers and clients with their defaults ([`server`], [`client`]), and the
//! peer's text made safe for a log ([`text`]). Applications use an adapter, not this crate.
//!
//! ```
//! let address: fcgi_engine::Address = "unix:/run/php/php-fpm.sock".parse()?;
//! # Ok::<(), fcgi_engine::AddressError>(())
//! ```
//!
//! # Features
//! - `http`: what the adapters' modules of that name share.
//! - `metrics`: counters through the `metrics` facade; see docs/observability.md.
#![deny(missing_docs)]
#![forbid(unsafe_code)]

mod address;
pub mod client;
mod error;
#[cfg(feature = "http")]
pub mod http;
pub mod observe;
pub mod pool;
pub mod pump;
pub mod server;
pub mod socket;
pub mod text;

pub use address::{Address, AddressError, Target};
pub use error::{Error, Phase};
pub use socket::{ListeningSocket, is_fastcgi};
