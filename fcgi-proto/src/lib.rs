//! FastCGI 1.0 as a state machine: bytes in, events and records out; no IO, no clock.
//!
//! FastCGI carries HTTP requests from a web server to a long-lived application. This crate is the
//! protocol and nothing else: [`ServerConnection`] is the application's end of a connection,
//! [`ClientConnection`] the web server's, and both have one shape, [`Connection`]. The adapters
//! (`fcgi-tokio` and its siblings) drive them with sockets and timers; so can you, with any
//! runtime, with threads, or with none.
//!
//! # Driving a connection
//! 1. While [`wants_read`](Connection::wants_read), read into
//!    [`recv_buffer`](Connection::recv_buffer) and report it with
//!    [`handle_recv`](Connection::handle_recv), the end with
//!    [`handle_eof`](Connection::handle_eof).
//! 2. Drain [`poll_event`](Connection::poll_event); serve requests through `request(key)`.
//! 3. Write what [`poll_transmit`](Connection::poll_transmit) gives and `advance` it.
//! 4. Close when [`is_closed`](Connection::is_closed).
//!
//! The [`server`] and [`client`] modules start with whole examples.
//!
//! # What it guards
//! All memory that a peer can cause is bounded by [`Limits`]; nothing is allocated in proportion
//! to a length that was merely declared; nothing that a peer or a caller does panics. Streams pass
//! through: a byte of STDIN or STDOUT can be read as soon as it has arrived, and large chunks are
//! never copied, in either direction.
//!
//! # What may grow
//! Errors, limits, actions and statistics are `#[non_exhaustive]`. What the specification closes is
//! not: roles, streams, record types and their bodies, rejections, the names of GET_VALUES. Nor are
//! events and outcomes: whoever drives a connection has to know each of them. A configuration is
//! made with `..Default::default()`, so that it may have more fields.
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
pub use sender::Transmit;
pub use server::{Roles, ServerConfig, ServerConnection};
pub use values::Values;

#[cfg(any(doc, doctest))]
#[doc = include_str!("../docs/driving.md")]
pub mod driving {}

#[cfg(doctest)]
#[doc = include_str!("../README.md")]
mod readme {}
