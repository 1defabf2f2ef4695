//! A client over a stream that is already connected.

use std::os::fd::OwnedFd;

use super::{
    Client, Connector,
    link::{Link, Session},
};
use crate::{Address, stream::Stream};

impl Connector {
    /// A client over a stream that is already connected. It may be anything with a descriptor that
    /// poll(2) can wait for, such as a socket of any family, and becomes nonblocking. A stream with
    /// its own buffer, such as TLS, does not work: poll(2) can't see that buffer. Errors and logs
    /// name the client `(stream)`.
    pub fn over(&self, io: impl Into<OwnedFd>) -> Client {
        let name = Address::STREAM.to_string().into();
        let session = Session::new(name, self.settings);
        let link = Link::new(Stream::over(io.into()), session, None);
        Client::new(link, Address::STREAM)
    }
}

impl Client {
    /// Like [`Connector::over`], with the default settings.
    pub fn over(io: impl Into<OwnedFd>) -> Self {
        Connector::new().over(io)
    }
}
