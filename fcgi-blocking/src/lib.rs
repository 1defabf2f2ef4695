//! FastCGI with threads, both ends of the wire.
#![deny(missing_docs)]
#![forbid(unsafe_code)]

pub mod client;
mod listener;
pub mod pool;
pub mod server;
mod stream;
mod waker;

pub use client::{CancelHandle, Client};
pub use fcgi_net::{Address, AddressError, Error, Phase, is_fastcgi};
pub use fcgi_proto as proto;
pub use fcgi_proto::{
    FullRequest, Limits, Params, ProtocolError, Rejection, Role, Roles, Values, server::AbortReason,
};
pub use listener::Listener;
pub use pool::Pool;
pub use server::{
    CANCELLED, FAILED, Handler, InputStream, IntoAppStatus, OutputStream, PANICKED, Request,
    Server, Shutdown,
};
