//! The listening sockets of a server.

use std::{io, task::Poll, time::Instant};

use fcgi_engine::{
    Listener,
    listener::StdListener,
    server::{Sockets, Tally, accept_failed},
    socket::Peer,
};

use crate::{Error, stream::Stream};

/// A listener's sockets, in nonblocking mode.
#[derive(Debug)]
pub(crate) struct Acceptor(Sockets<StdListener>);

impl Acceptor {
    pub(crate) fn new(listener: Listener) -> Result<Self, Error> {
        let sockets = Sockets::new(listener, |listener| listener);
        for (listener, address) in sockets.iter() {
            listener.set_nonblocking().map_err(|error| accept_failed(address, error))?;
        }
        Ok(Self(sockets))
    }

    /// The sockets to poll.
    pub(crate) fn listeners(&self) -> impl ExactSizeIterator<Item = &StdListener> {
        self.0.iter().map(|(listener, _)| listener)
    }

    /// See [`Sockets::hide`].
    pub(crate) fn hide(&mut self) {
        self.0.hide();
    }

    /// See [`Sockets::paused_until`].
    pub(crate) fn paused_until(&mut self) -> Option<Instant> {
        self.0.paused_until(Instant::now)
    }

    /// See [`Sockets::poll_accept`].
    pub(crate) fn accept(&mut self, tally: &Tally) -> Poll<Result<Option<(Stream, Peer)>, Error>> {
        self.0.poll_accept(tally, Instant::now, |listener| match accept(listener) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Poll::Pending,
            accepted => Poll::Ready(accepted),
        })
    }
}

fn accept(listener: &StdListener) -> io::Result<(Stream, Peer)> {
    match listener {
        StdListener::Unix(listener) => {
            let (stream, _) = listener.accept()?;
            Ok((Stream::unix(stream)?, Peer::Unix))
        }
        StdListener::Tcp(listener) => {
            let (stream, peer) = listener.accept()?;
            Ok((Stream::tcp(stream)?, Peer::Tcp(peer)))
        }
        _ => Err(io::ErrorKind::Unsupported.into()),
    }
}
