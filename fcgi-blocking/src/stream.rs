//! A connected socket or another descriptor, in nonblocking mode: poll(2) does the waiting.

use std::{
    io::{self, IoSlice},
    net::TcpStream,
    os::{
        fd::{AsFd, BorrowedFd, OwnedFd},
        unix::net::UnixStream,
    },
    task::Poll,
};

use fcgi_engine::{
    listener::StdListener,
    pump::Socket,
    socket::{self, Peer, StdSocket},
};
use rustix::net::RecvFlags;

/// A connected socket.
#[derive(Debug)]
pub(crate) enum Stream {
    Unix(UnixStream),
    /// TCP without Nagle's delay.
    Tcp(TcpStream),
    /// Anything else that poll(2) can wait for.
    Other(OwnedFd),
}

impl Stream {
    /// A connection that waits at a listening socket, with its peer.
    pub(crate) fn accept(listener: &StdListener) -> Poll<io::Result<(Self, Peer)>> {
        let accepted = match listener {
            StdListener::Unix(listener) => socket::accept_unix(listener.as_fd()),
            StdListener::Tcp(listener) => socket::accept_tcp(listener.as_fd()),
            _ => Err(io::ErrorKind::Unsupported.into()),
        };
        match accepted {
            Ok((StdSocket::Unix(stream), peer)) => Poll::Ready(Ok((Self::Unix(stream), peer))),
            Ok((StdSocket::Tcp(stream), peer)) => Poll::Ready(Ok((Self::Tcp(stream), peer))),
            Ok(_) => Poll::Ready(Err(io::ErrorKind::Unsupported.into())),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Poll::Pending,
            Err(error) => Poll::Ready(Err(error)),
        }
    }

    /// A stream that somebody else has connected.
    pub(crate) fn over(fd: OwnedFd) -> Self {
        // If this fails, reads and writes fail too.
        let _ = rustix::io::ioctl_fionbio(&fd, true);
        // Only TCP has this option.
        let _ = rustix::net::sockopt::set_tcp_nodelay(&fd, true);
        Self::Other(fd)
    }

    /// The kind of the peer, for a stream that no listener accepted.
    pub(crate) fn peer(&self) -> Peer {
        let address = rustix::net::getsockname(self);
        match address.map(|address| address.address_family()) {
            Ok(rustix::net::AddressFamily::UNIX) => Peer::Unix,
            _ => Peer::Stream,
        }
    }

    pub(crate) fn unix(stream: UnixStream) -> io::Result<Self> {
        stream.set_nonblocking(true)?;
        Ok(Self::Unix(stream))
    }

    pub(crate) fn tcp(stream: TcpStream) -> io::Result<Self> {
        stream.set_nonblocking(true)?;
        // Some systems refuse this for a connection that is gone already.
        let _ = stream.set_nodelay(true);
        Ok(Self::Tcp(stream))
    }

    /// Reads what has come; `WouldBlock` if nothing has, 0 at the end of file.
    ///
    /// Neither this nor a write goes through std. There each call is one of libc, which costs a
    /// process with threads two atomic operations, so that a thread can be cancelled meanwhile.
    pub(crate) fn read(&self, buf: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Other(fd) => Ok(rustix::io::read(fd, buf)?),
            socket => Ok(rustix::net::recv(socket, buf, RecvFlags::empty())?.0),
        }
    }
}

impl Socket for &Stream {
    fn fills(&self) -> bool {
        true
    }

    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        Stream::read(self, buf)
    }

    fn write_vectored(&mut self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        match self {
            Stream::Other(fd) => Ok(rustix::io::writev(fd, slices)?),
            stream => socket::write(stream, slices),
        }
    }

    fn widen(&mut self) -> bool {
        matches!(self, Stream::Unix(stream) if socket::widen(stream))
    }
}

impl AsFd for Stream {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Self::Unix(stream) => stream.as_fd(),
            Self::Tcp(stream) => stream.as_fd(),
            Self::Other(fd) => fd.as_fd(),
        }
    }
}
