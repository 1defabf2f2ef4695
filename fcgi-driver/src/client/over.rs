//! A client over a stream that is there already.

use super::{Client, Connection, Connector, Place};
use crate::{Address, runtime::Runtime};

impl<R: Runtime> Connector<R> {
    /// A client over a stream that is connected already: TLS, vsock, a pipe in memory, a socket.
    /// Errors and logs call it `(stream)`.
    pub fn over(&self, io: impl Into<R::Transport>) -> Client<R> {
        let name = Address::STREAM.to_string().into();
        let place = Place::Here(Box::new(Connection::new(io.into(), name, self.settings())));
        Client { place, address: Address::STREAM }
    }
}

impl<R: Runtime> Client<R> {
    /// A client over a stream that is connected already, with the default settings; as
    /// [`Connector::over`].
    pub fn over(io: impl Into<R::Transport>) -> Self {
        Connector::new().over(io)
    }
}
