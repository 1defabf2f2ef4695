//! A client's socket, whose writes must make progress (H-16).

use std::{
    future::Future,
    io::{self, IoSlice},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use rustix::net::{Shutdown, shutdown, sockopt::set_socket_linger};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    time::{Sleep, sleep, timeout},
};

use super::{client::Client, stream::Stream};

/// How long a connection that was closed early is read on, so that its client gets the answer, for
/// example that of a refused upload.
const LINGER: Duration = Duration::from_secs(2);

/// How long a truncated HTTP/1.0 answer may take to reach its client before the connection is
/// reset.
const RESET_AFTER: Duration = Duration::from_millis(500);

/// A connection that fails if its client reads no byte for this long.
#[derive(Debug)]
pub(super) struct Socket {
    client: Arc<Client>,
    limit: Duration,
    stalled: Option<Pin<Box<Sleep>>>,
}

impl Socket {
    pub(super) fn new(client: Arc<Client>, limit: Duration) -> Self {
        Self { client, limit, stalled: None }
    }

    fn poll_written(
        &mut self,
        cx: &mut Context<'_>,
        mut write: impl FnMut(&Stream) -> io::Result<usize>,
    ) -> Poll<io::Result<usize>> {
        loop {
            match self.client.stream.poll_write_ready(cx) {
                Poll::Ready(ready) => ready?,
                Poll::Pending => {
                    if self.stalled.is_none() {
                        self.client.on_write(true);
                    }
                    let limit = self.limit;
                    let timer = self.stalled.get_or_insert_with(|| Box::pin(sleep(limit)));
                    ready!(timer.as_mut().poll(cx));
                    return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
                }
            }
            match write(&self.client.stream) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                written => {
                    self.stalled = None;
                    self.client.on_write(false);
                    return Poll::Ready(written);
                }
            }
        }
    }
}

/// Waits until the client has closed too, or for [`LINGER`]: closing with unread bytes would
/// destroy the answer.
pub(super) async fn linger(client: &Client) {
    let stream = &client.stream;
    let limit = if client.is_to_be_reset() {
        // A normal end of the connection would look like the end of the answer. A reset does not;
        // closing with a linger time of zero makes one.
        let _ = set_socket_linger(stream, Some(Duration::ZERO));
        RESET_AFTER
    } else {
        // If this fails, the client is gone and needs nothing.
        let _ = shutdown(stream, Shutdown::Write);
        LINGER
    };
    let until_closed = async {
        let mut block = vec![0; 16 * 1024];
        while stream.readable().await.is_ok() {
            match stream.try_read(&mut block) {
                Ok(1..) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Ok(0) | Err(_) => return,
            }
        }
    };
    let _ = timeout(limit, until_closed).await;
}

impl AsyncRead for Socket {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        loop {
            ready!(self.client.stream.poll_read_ready(cx))?;
            match self.client.stream.try_read(buffer.initialize_unfilled()) {
                Ok(n) => {
                    self.client.on_read(&buffer.initialize_unfilled()[..n]);
                    buffer.advance(n);
                    return Poll::Ready(Ok(()));
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Poll::Ready(Err(error)),
            }
        }
    }
}

impl AsyncWrite for Socket {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        if self.client.is_refusal(bytes) {
            return Poll::Ready(Ok(bytes.len()));
        }
        self.get_mut().poll_written(cx, |stream| stream.try_write(bytes))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        if let [bytes] = slices {
            return self.poll_write(cx, bytes);
        }
        self.get_mut().poll_written(cx, |stream| stream.try_write_vectored(slices))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.client.on_flush();
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.client.refused().is_some() {
            // The page must still be sent.
            return Poll::Ready(Ok(()));
        }
        Poll::Ready(shutdown(&self.client.stream, Shutdown::Write).map_err(Into::into))
    }
}
