//! The listening sockets of a server.

use std::io;

use fcgi_engine::{
    Listener,
    listener::{ListeningSocket, StdListener},
    server::accept_failed,
    socket::Peer,
};

use crate::{Address, Error, stream::Stream};

/// A listener's sockets, in nonblocking mode.
#[derive(Debug)]
pub(crate) struct Acceptor {
    sockets: Vec<ListeningSocket>,
    /// Which socket to ask first, so that a busy one does not keep the others waiting.
    next: usize,
}

impl Acceptor {
    pub(crate) fn new(listener: Listener) -> Result<Self, Error> {
        let mut sockets = listener.into_sockets();
        for socket in &mut sockets {
            let set = socket.listener.set_nonblocking();
            set.map_err(|error| accept_failed(&socket.address, error))?;
        }
        Ok(Self { sockets, next: 0 })
    }

    /// The sockets to poll.
    pub(crate) fn listeners(&self) -> impl ExactSizeIterator<Item = &StdListener> {
        self.sockets.iter().map(|socket| &socket.listener)
    }

    /// Removes the files of our unix sockets, so that nobody finds them any more. Connections that
    /// were made before can still be accepted.
    pub(crate) fn hide(&mut self) {
        for socket in &mut self.sockets {
            socket.file = None;
        }
    }

    /// A connection that waits, or an error with its address; `WouldBlock` if none waits.
    pub(crate) fn accept(&mut self) -> Result<(Stream, Peer), (io::Error, Address)> {
        let many = self.sockets.len();
        for turn in 0..many {
            let index = (self.next + turn) % many;
            let socket = &self.sockets[index];
            match accept(&socket.listener) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                accepted => {
                    self.next = (index + 1) % many;
                    return accepted.map_err(|error| (error, socket.address.clone()));
                }
            }
        }
        Err((io::ErrorKind::WouldBlock.into(), self.sockets[0].address.clone()))
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
