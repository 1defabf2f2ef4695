//! A listening socket whose connections the runtime does not watch from the start.
//!
//! tokio's own listeners register each connection that they accept. Most of those that are not kept
//! end before anybody waits for them.

use std::{
    io,
    os::{
        fd::{AsFd, BorrowedFd, OwnedFd},
        unix::net::UnixStream as StdUnixStream,
    },
    task::{Context, Poll, ready},
};

use fcgi_driver::StdListener;
use fcgi_engine::socket::{Peer, StdSocket, accept_tcp, accept_unix};
use tokio::{io::Interest, net::UnixStream};

/// A listening unix or TCP socket of the standard library.
#[derive(Debug)]
pub struct Listening {
    /// tokio reports without an operation of its own only whether a stream is readable. So to tokio
    /// this is one, which is never read.
    socket: UnixStream,
    accept: fn(BorrowedFd<'_>) -> io::Result<(StdSocket, Peer)>,
}

impl Listening {
    /// Lets the current runtime watch a socket in nonblocking mode.
    pub(crate) fn new(listener: StdListener) -> io::Result<Self> {
        let (socket, accept): (OwnedFd, fn(BorrowedFd<'_>) -> _) = match listener {
            StdListener::Unix(unix) => (unix.into(), accept_unix),
            StdListener::Tcp(tcp) => (tcp.into(), accept_tcp),
            _ => return Err(io::ErrorKind::Unsupported.into()),
        };
        Ok(Self { socket: UnixStream::from_std(StdUnixStream::from(socket))?, accept })
    }

    pub(crate) fn poll_accept(&self, cx: &mut Context<'_>) -> Poll<io::Result<(StdSocket, Peer)>> {
        loop {
            ready!(self.socket.poll_read_ready(cx))?;
            match self.socket.try_io(Interest::READABLE, || (self.accept)(self.socket.as_fd())) {
                // From now on it is not ready.
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                accepted => return Poll::Ready(accepted),
            }
        }
    }
}

impl AsFd for Listening {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}
