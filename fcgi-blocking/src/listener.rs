//! Listening sockets.

use std::{
    io,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
};

use fcgi_engine::{
    Address, ListeningSocket,
    socket::{Peer, SocketFile, StdListener},
};

use crate::stream::Stream;

/// Where a server takes connections from. A unix socket's file is removed when this is dropped.
///
/// ```
/// use fcgi_blocking as fcgi;
///
/// let listener = fcgi::Listener::bind(&"tcp:127.0.0.1:0".parse()?)?;
/// println!("listens at {}", listener.local_address());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct Listener {
    listener: StdListener,
    address: Address,
    file: Option<SocketFile>,
}

impl Listener {
    /// Listens at a unix path or a TCP host and port, or on descriptor 0 for `-`
    /// (FCGI_LISTENSOCK_FILENO, FC-2.2-1).
    ///
    /// A unix socket file that nobody listens on is replaced.
    ///
    /// # Errors
    /// The socket's own; [`io::ErrorKind::InvalidInput`] when descriptor 0 does not listen.
    pub fn bind(address: &Address) -> io::Result<Self> {
        Ok(Self::take(ListeningSocket::bind(address)?))
    }

    /// Takes over a listening socket, from systemd's socket activation for example.
    ///
    /// # Errors
    /// As for [`bind`](Self::bind).
    pub fn from_fd(fd: OwnedFd) -> io::Result<Self> {
        Ok(Self::take(ListeningSocket::from_fd(fd)?))
    }

    /// Where it listens: for TCP with the port that the system chose.
    #[must_use]
    pub fn local_address(&self) -> &Address {
        &self.address
    }

    fn take(socket: ListeningSocket) -> Self {
        let ListeningSocket { listener, address, file } = socket;
        Self { listener, address, file }
    }

    /// Nobody finds a unix socket of ours from now on; who has connected can still be accepted.
    pub(crate) fn hide(&mut self) {
        self.file = None;
    }

    /// A connection that waits; `WouldBlock` when none does.
    pub(crate) fn accept(&self) -> io::Result<(Stream, Peer)> {
        match &self.listener {
            StdListener::Unix(listener) => {
                let (stream, _) = listener.accept()?;
                Ok((Stream::unix(stream)?, Peer::Unix))
            }
            StdListener::Tcp(listener) => {
                let (stream, peer) = listener.accept()?;
                Ok((Stream::tcp(stream)?, Peer::Tcp(peer)))
            }
        }
    }
}

impl AsFd for Listener {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match &self.listener {
            StdListener::Unix(listener) => listener.as_fd(),
            StdListener::Tcp(listener) => listener.as_fd(),
        }
    }
}
