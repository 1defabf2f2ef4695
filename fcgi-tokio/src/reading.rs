//! A unix socket that the runtime watches for reading only.
//!
//! Whenever the peer has read an answer, Linux reports that the socket can be written to. A runtime
//! that watches for it wakes up once more for each answer, and finds nothing to do. So the runtime
//! watches for that only once the socket has been full, which those of small answers never are.

use std::{
    io::{self, IoSlice},
    os::{
        fd::{AsFd, BorrowedFd},
        unix::net::UnixStream as StdUnixStream,
    },
    pin::Pin,
    task::{Context, Poll, ready},
};

use fcgi_engine::socket;
use tokio::{
    io::{AsyncRead, ReadBuf},
    net::{UnixStream, unix::pipe::Receiver},
    runtime::Handle,
};

/// A unix socket that the runtime watches for reading only.
#[derive(Debug)]
pub struct Reading {
    /// To tokio it is the reading end of a pipe. That is the only type that tokio watches for reading
    /// alone without an unsafe or deprecated call; it takes any descriptor that can be read. `None` if
    /// tokio could not watch it for writing too: it is closed then.
    socket: Option<Receiver>,
    /// Whoever finds it full may not be inside the runtime.
    runtime: Handle,
}

impl Reading {
    pub(crate) fn new(socket: StdUnixStream, runtime: Handle) -> io::Result<Self> {
        let socket = {
            let _inside = runtime.enter();
            Receiver::from_owned_fd_unchecked(socket.into())?
        };
        Ok(Self { socket: Some(socket), runtime })
    }

    pub(crate) fn poll_read_ready(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &self.socket {
            Some(socket) => socket.poll_read_ready(cx),
            None => Poll::Ready(closed()),
        }
    }

    pub(crate) fn poll_read(
        &mut self,
        cx: &mut Context<'_>,
        buf: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        let Some(socket) = &mut self.socket else { return Poll::Ready(closed()) };
        let mut buf = ReadBuf::new(buf);
        ready!(Pin::new(socket).poll_read(cx, &mut buf))?;
        Poll::Ready(Ok(buf.filled().len()))
    }

    /// Writes what there is room for.
    pub(crate) fn write(&self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        self.socket.as_ref().map_or_else(closed, |socket| socket::write(socket, slices))
    }

    /// Lets the runtime watch it for writing too.
    pub(crate) fn watch_writes(&mut self) -> io::Result<UnixStream> {
        let Some(socket) = self.socket.take() else { return closed() };
        let _inside = self.runtime.enter();
        UnixStream::from_std(socket.into_nonblocking_fd()?.into())
    }

    pub(crate) fn as_socket(&self) -> Option<BorrowedFd<'_>> {
        self.socket.as_ref().map(AsFd::as_fd)
    }
}

/// The error of a socket that the runtime could not watch.
fn closed<T>() -> io::Result<T> {
    Err(io::ErrorKind::NotConnected.into())
}
