//! A client over a stream that is already connected.

use super::{Client, Connection, Connector};
use crate::{Address, runtime::Runtime};

impl<R: Runtime> Connector<R> {
    /// A client over a stream that is already connected, such as TLS, vsock, a pipe in memory, or a
    /// socket. Errors and logs name it `(stream)`.
    pub fn over(&self, io: impl Into<R::Transport>) -> Client<R> {
        let name = Address::STREAM.to_string().into();
        let connection = Box::new(Connection::new(io.into(), name, self.settings()));
        Client { place: connection.into_place(), address: Address::STREAM }
    }
}

impl<R: Runtime> Client<R> {
    /// Like [`Connector::over`], with the default settings.
    pub fn over(io: impl Into<R::Transport>) -> Self {
        Connector::new().over(io)
    }
}
