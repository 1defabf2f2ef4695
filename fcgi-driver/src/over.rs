//! Any stream as a transport.

use std::{
    cell::Cell,
    fmt,
    io::{self, IoSlice},
    pin::Pin,
    task::{Context, Poll, Waker, ready},
};

use fcgi_engine::socket::HangUp;
use futures_io::{AsyncRead, AsyncWrite};

use crate::runtime::Transport;

/// A [`Transport`] over any stream, such as TLS, vsock, or a pipe in memory. An adapter's own
/// transport can be made from it, so that its servers and clients take such streams too.
///
/// What only a socket can report is not known here: that the peer is gone shows only in a read or a
/// write.
pub struct Over<T: AsyncRead + AsyncWrite + Unpin> {
    io: T,
    /// Bytes that the stream took but has not passed on yet.
    unflushed: usize,
    /// The end of the stream is to be sent.
    closing: Cell<bool>,
    closed: bool,
}

impl<T: AsyncRead + AsyncWrite + Unpin> Over<T> {
    /// A transport over this stream.
    pub const fn new(io: T) -> Self {
        Self { io, unflushed: 0, closing: Cell::new(false), closed: false }
    }

    /// Sends the end of the stream, if that was asked for.
    fn poll_close(&mut self, cx: &mut Context<'_>) {
        if self.closing.get() && !self.closed {
            self.closed = Pin::new(&mut self.io).poll_close(cx).is_ready();
        }
    }
}

impl<T: AsyncRead + AsyncWrite + Send + Unpin + 'static> Transport for Over<T> {
    fn poll_read_ready(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.poll_close(cx);
        // Only a read can tell.
        Poll::Ready(Ok(()))
    }

    fn poll_read(&mut self, cx: &mut Context<'_>, buf: &mut [u8]) -> Poll<io::Result<usize>> {
        self.poll_close(cx);
        Pin::new(&mut self.io).poll_read(cx, buf)
    }

    /// Bytes that the stream keeps in its own buffer are not written yet. They are flushed before
    /// it is dropped.
    fn poll_write(
        &mut self,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        if self.unflushed == 0 {
            self.unflushed = ready!(Pin::new(&mut self.io).poll_write_vectored(cx, slices))?;
        }
        ready!(Pin::new(&mut self.io).poll_flush(cx))?;
        Poll::Ready(Ok(std::mem::take(&mut self.unflushed)))
    }

    fn hang_up(&self) -> HangUp {
        HangUp::No
    }

    fn is_readable(&self) -> bool {
        false
    }

    fn shutdown_write(&self) {
        self.closing.set(true);
    }
}

/// Closes the stream: TLS, for one, announces its end.
impl<T: AsyncRead + AsyncWrite + Unpin> Drop for Over<T> {
    fn drop(&mut self) {
        self.closing.set(true);
        self.poll_close(&mut Context::from_waker(Waker::noop()));
    }
}

impl<T: AsyncRead + AsyncWrite + Unpin> fmt::Debug for Over<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Over").field("stream", &std::any::type_name::<T>()).finish()
    }
}
