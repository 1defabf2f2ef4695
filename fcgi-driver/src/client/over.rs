//! A client over a stream that is connected already.

use super::{Client, Connection, Connector, Place};
use crate::{Address, runtime::Runtime};

impl<R: Runtime> Connector<R> {
    /// A client over a stream that is connected already, such as TLS, vsock, a pipe in memory, or a
    /// socket. Errors and logs name it `(stream)`.
    pub fn over(&self, io: impl Into<R::Transport>) -> Client<R> {
        let name = Address::STREAM.to_string().into();
        let place = Place::Here(Box::new(Connection::new(io.into(), name, self.settings())));
        Client { place, address: Address::STREAM }
    }
}

impl<R: Runtime> Client<R> {
    /// Like [`Connector::over`], with the default settings.
    pub fn over(io: impl Into<R::Transport>) -> Self {
        Connector::new().over(io)
    }
}
