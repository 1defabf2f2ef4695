//! A client's stream: TCP or a unix socket.

use std::{
    io::{self, IoSlice},
    os::fd::{AsFd, BorrowedFd},
    task::{Context, Poll},
};

use rustix::net::{RecvFlags, SendAncillaryBuffer, SendFlags, recv, sendmsg};
use tokio::{
    io::Interest,
    net::{TcpStream, UnixStream},
};

#[derive(Debug)]
pub(super) enum Stream {
    Tcp(TcpStream),
    Unix(UnixStream),
}

/// Does the same for either kind.
macro_rules! either {
    ($stream:expr, $it:ident => $what:expr) => {
        match $stream {
            Stream::Tcp($it) => $what,
            Stream::Unix($it) => $what,
        }
    };
}

impl Stream {
    pub(super) fn poll_read_ready(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        either!(self, it => it.poll_read_ready(cx))
    }

    pub(super) fn poll_write_ready(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        either!(self, it => it.poll_write_ready(cx))
    }

    /// Reads what has arrived. If that does not fill the buffer, the stream counts as not readable
    /// until more arrives, which saves a read that would find nothing.
    pub(super) fn try_read(&self, buffer: &mut [u8]) -> io::Result<usize> {
        let room = buffer.len();
        let mut read = None;
        let tried = either!(self, it => it.try_io(Interest::READABLE, || {
            let (n, _) = recv(it, &mut *buffer, RecvFlags::empty())?;
            read = Some(n);
            if (1..room).contains(&n) { Err(io::ErrorKind::WouldBlock.into()) } else { Ok(()) }
        }));
        match read {
            Some(n) => Ok(n),
            None => tried.map(|()| 0),
        }
    }

    /// Writes bytes that may wait in the socket, because more follow at once.
    pub(super) fn try_write_more(&self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        #[cfg(any(target_os = "linux", target_os = "android"))]
        let flags = SendFlags::NOSIGNAL.union(SendFlags::MORE);
        #[cfg(not(any(target_os = "linux", target_os = "android")))]
        let flags = SendFlags::empty();
        self.try_write_by(|stream| {
            Ok(sendmsg(stream, slices, &mut SendAncillaryBuffer::default(), flags)?)
        })
    }

    /// Writes with another system call. Only call it when the stream is writable.
    pub(super) fn try_write_by<T>(
        &self,
        write: impl FnOnce(BorrowedFd<'_>) -> io::Result<T>,
    ) -> io::Result<T> {
        either!(self, it => it.try_io(Interest::WRITABLE, || write(it.as_fd())))
    }

    pub(super) fn try_write(&self, bytes: &[u8]) -> io::Result<usize> {
        either!(self, it => it.try_write(bytes))
    }

    pub(super) fn try_write_vectored(&self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        either!(self, it => it.try_write_vectored(slices))
    }

    pub(super) async fn readable(&self) -> io::Result<()> {
        either!(self, it => it.readable().await)
    }

    pub(super) async fn writable(&self) -> io::Result<()> {
        either!(self, it => it.writable().await)
    }
}

impl AsFd for Stream {
    fn as_fd(&self) -> BorrowedFd<'_> {
        either!(self, it => it.as_fd())
    }
}
