//! Listening sockets that a runtime has taken over.

use std::{
    io,
    os::fd::OwnedFd,
    task::{Context, Poll},
};

use fcgi_engine::{
    ListeningSocket,
    socket::{self, Peer, SocketFile},
};

use crate::{Address, runtime::Runtime};

/// A connection that was accepted, and who is at its other end.
type Accepted<R> = io::Result<(<R as Runtime>::Transport, Peer)>;

/// Where a server takes connections from. A unix socket's file is removed when this is dropped.
pub struct Listener<R: Runtime> {
    listener: R::Listener,
    address: Address,
    file: Option<SocketFile>,
}

impl<R: Runtime> Listener<R> {
    /// Listens at a unix path or a TCP host and port, or on descriptor 0 for `-`
    /// (FCGI_LISTENSOCK_FILENO, FC-2.2-1). Call it inside the runtime.
    ///
    /// A unix socket file that nobody listens on is replaced.
    ///
    /// # Errors
    /// The socket's own; [`io::ErrorKind::InvalidInput`] when descriptor 0 does not listen.
    pub fn bind(address: &Address) -> io::Result<Self> {
        Self::take(ListeningSocket::bind(address)?)
    }

    /// Takes over a listening socket, from systemd's socket activation for example.
    ///
    /// # Errors
    /// As for [`bind`](Self::bind).
    pub fn from_fd(fd: OwnedFd) -> io::Result<Self> {
        Self::take(ListeningSocket::from_fd(fd)?)
    }

    /// A listener that the runtime has made itself; `address` is what logs call it.
    pub fn from_runtime(listener: R::Listener, address: Address) -> Self {
        Self { listener, address, file: None }
    }

    /// Where it listens: for TCP with the port that the system chose.
    #[must_use]
    pub fn local_address(&self) -> &Address {
        &self.address
    }

    fn take(socket: ListeningSocket) -> io::Result<Self> {
        let ListeningSocket { listener, address, file } = socket;
        Ok(Self { listener: R::listen(listener)?, address, file })
    }

    pub(crate) fn poll_accept(&mut self, cx: &mut Context<'_>) -> Poll<Accepted<R>> {
        R::poll_accept(&mut self.listener, cx)
    }

    /// Nobody finds a unix socket of ours from now on; who has connected can still be accepted.
    pub(crate) fn hide(&mut self) {
        self.file = None;
    }

    /// A connection that was there before; ready with `None` when none is left.
    pub(crate) fn poll_accept_last(&mut self, cx: &mut Context<'_>) -> Poll<Option<Accepted<R>>> {
        match self.poll_accept(cx) {
            // Asked in this order, since what comes after the first question wakes the task.
            Poll::Pending => match R::listener_fd(&self.listener) {
                Some(fd) if socket::is_readable(fd) => Poll::Pending,
                _ => Poll::Ready(None),
            },
            accepted => accepted.map(Some),
        }
    }
}

impl<R: Runtime> std::fmt::Debug for Listener<R> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Listener").field("address", &self.address).finish_non_exhaustive()
    }
}
