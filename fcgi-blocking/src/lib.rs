//! FastCGI with threads, both ends of the wire.
#![deny(missing_docs)]
#![forbid(unsafe_code)]

pub mod client;
pub mod pool;
mod stream;
mod waker;

pub use client::{CancelHandle, Client};
pub use pool::Pool;

pub use fcgi_net::{
    Address, AddressError, Error, Phase, is_fastcgi,
    server::{CANCELLED, FAILED, IntoAppStatus, PANICKED},
};
pub use fcgi_proto as proto;
pub use fcgi_proto::{
    FullRequest, Limits, Params, ProtocolError, Rejection, Role, Roles, Values, server::AbortReason,
};
