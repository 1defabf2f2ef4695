//! A client over a stream that is there already.

use std::os::fd::OwnedFd;

use super::{Client, Connector, Place, link::Link};
use crate::{Address, stream::Stream};

impl Connector {
    /// A client over a stream that is connected already: anything that has a descriptor which
    /// poll(2) can wait for, such as a socket of any family. It becomes non-blocking. A stream that
    /// keeps bytes for itself, as TLS does, can't be waited for in this way. Errors and logs call it
    /// `(stream)`.
    pub fn over(&self, io: impl Into<OwnedFd>) -> Client {
        let name = Address::STREAM.to_string().into();
        let link = Link::new(Stream::over(io.into()), name, self.settings, None);
        Client {
            place: Place::Here(Box::new(link)),
            address: Address::STREAM,
            used: false,
            cancel: None,
        }
    }
}

impl Client {
    /// A client over a stream that is connected already, with the default settings; as
    /// [`Connector::over`].
    pub fn over(io: impl Into<OwnedFd>) -> Self {
        Connector::new().over(io)
    }
}
