//! FastCGI 1.0 as a state machine: bytes in, events and records out. It does no IO and has no
//! clock.
//!
//! FastCGI carries HTTP requests from a web server to a long-lived application. This crate is the
//! protocol and nothing else. [`ServerConnection`] is the application's end of a connection and
//! [`ClientConnection`] is the web server's. Both have the same shape, [`Connection`]. The adapters
//! (`fcgi-tokio` and its siblings) drive them with sockets and timers. You can drive them too, with
//! any runtime, with threads, or with neither.
//!
//! # Driving a connection
//! 1. While [`wants_read`](Connection::wants_read) is true, read into
//!    [`recv_buffer`](Connection::recv_buffer) and report the bytes with
//!    [`handle_recv`](Connection::handle_recv), and the end of file with
//!    [`handle_eof`](Connection::handle_eof).
//! 2. Drain [`poll_event`](Connection::poll_event); serve requests through `request(key)`.
//! 3. Write the bytes of [`poll_transmit`](Connection::poll_transmit) and call `advance`.
//! 4. Close the socket when [`is_closed`](Connection::is_closed) is true.
//!
//! The [`server`] and [`client`] modules start with whole examples.
//!
//! # What it guards against
//! [`Limits`] bounds all memory that a peer can cause. A length that a peer declares allocates
//! nothing; only bytes that have arrived do. Nothing that a peer or a caller does causes a panic.
//! Streams pass through: a byte of STDIN or STDOUT can be read as soon as it has arrived, and large
//! chunks are never copied, in either direction.
//!
//! # What may grow
//! Errors, limits, actions and statistics are `#[non_exhaustive]`. Sets that the specification
//! closes are not: roles, streams, record types and their bodies, rejections, and the names of
//! GET_VALUES. Events and outcomes are not either, because the code that drives a connection must
//! know each of them. Make a configuration with `..Default::default()`, because it may get more
//! fields.
#![cfg_attr(docsrs, feature(doc_cfg))]
#![no_std]
#![forbid(unsafe_code)]
#![deny(missing_docs)]

extern crate alloc;
#[cfg(feature = "std")]
extern crate std;

pub mod client;
mod connection;
mod error;
mod inbound;
mod limits;
pub mod pairs;
pub mod params;
pub mod pool;
mod receiver;
pub mod record;
mod requests;
mod sender;
pub mod server;
#[doc(hidden)]
pub mod states;
mod values;

pub use client::{BeginRequest, ClientConfig, ClientConnection};
pub use connection::{Connection, Input, Output, Rejection, RequestKey, Role};
pub use error::{ProtocolError, ProtocolErrorKind, UsageError};
pub use limits::{FullRequest, Limits};
pub use params::Params;
pub use pool::{PoolLimits, PoolPolicy};
pub use receiver::recv_buffer;
pub use sender::Transmit;
pub use server::{Roles, ServerConfig, ServerConnection};
pub use values::Values;

#[cfg(any(doc, doctest))]
#[doc = include_str!("../docs/driving.md")]
pub mod driving {}

#[cfg(doctest)]
#[doc = include_str!("../README.md")]
mod readme {}
