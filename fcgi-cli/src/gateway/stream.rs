//! A client's stream: TCP or a unix socket.

use std::{
    io::{self, IoSlice},
    os::fd::{AsFd, BorrowedFd},
    task::{Context, Poll},
};

use tokio::net::{TcpStream, UnixStream};

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

    pub(super) fn try_read(&self, buffer: &mut [u8]) -> io::Result<usize> {
        either!(self, it => it.try_read(buffer))
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
