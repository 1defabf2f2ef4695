//! A request as a handler sees it: its parameters and its streams.

use std::{
    future::{Future, poll_fn},
    io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use fcgi_engine::server::{CHUNK, Write, piece};
use fcgi_proto::{Output, RequestKey, server::AbortReason};

use super::shared::Shared;
use crate::{
    Error,
    io::{byte_reader, tokio_writer},
};

fcgi_engine::request_handles! {
    [async; .await], connection: Shared,
    chunk(stream) { poll_fn(|cx| stream.poll_chunk(cx)).await }
    flush(stream) { poll_fn(|cx| stream.connection.poll_flush(cx, stream.key)).await }
    /// STDIN or DATA of a request. Several handles of one stream share its bytes: each byte goes to
    /// one of them. One task at a time may wait for a stream.
    ///
    /// It is also a [`Stream`](futures_core::Stream) of chunks and a [`futures_io::AsyncRead`], and
    /// with the feature `tokio` an `AsyncRead` of tokio.
}

impl Request {
    /// Waits until the web server aborts the request or is gone.
    ///
    /// # Cancellation safety
    /// Dropping the future loses nothing.
    pub async fn cancelled(&self) -> AbortReason {
        poll_fn(|cx| self.connection.poll_cancelled(cx, self.key)).await
    }

    fn output(&self, output: Output) -> OutputStream {
        OutputStream {
            connection: Arc::clone(&self.connection),
            key: self.key,
            output,
            closed: false,
        }
    }
}

impl InputStream {
    pub(crate) fn poll_chunk(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Result<Option<Bytes>, Error>> {
        self.connection.poll_read(cx, self.key, self.input, CHUNK)
    }

    /// Takes no more than the caller has room for: bytes kept here would be lost with the handle.
    fn poll_bytes(&mut self, cx: &mut Context<'_>, max: usize) -> Poll<io::Result<Bytes>> {
        let chunk = ready!(self.connection.poll_read(cx, self.key, self.input, max.min(CHUNK)))?;
        Poll::Ready(Ok(chunk.unwrap_or_default()))
    }
}

impl futures_core::Stream for InputStream {
    type Item = Result<Bytes, Error>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.get_mut().poll_chunk(cx).map(Result::transpose)
    }
}

byte_reader!([] InputStream);

/// STDOUT or STDERR of a request.
///
/// Written bytes are sent when the handler next waits for something, or returns; writes in between
/// share records and the write to the socket. One task at a time may wait for a stream.
///
/// It is also a [`futures_io::AsyncWrite`], and with the feature `tokio` an `AsyncWrite` of tokio.
/// Closing it flushes it and ends this handle, which then accepts no more bytes. The stream itself
/// ends with the request, when the handler has returned (FC-5.5-1).
#[derive(Debug)]
pub struct OutputStream {
    connection: Arc<Shared>,
    key: RequestKey,
    output: Output,
    closed: bool,
}

impl OutputStream {
    /// Queues all of the bytes.
    // No `async fn`: its future would keep the bytes twice.
    fn put(
        &mut self,
        mut bytes: Bytes,
        how: Write,
    ) -> impl Future<Output = Result<(), Error>> + Send + use<'_> {
        let Self { connection, key, output, .. } = self;
        poll_fn(move |cx| {
            while !bytes.is_empty() {
                ready!(connection.poll_write(cx, *key, *output, &mut bytes, how))?;
            }
            Poll::Ready(Ok(()))
        })
    }
}

impl futures_io::AsyncWrite for OutputStream {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        if self.closed {
            let closed = "the stream was closed by this handle";
            return Poll::Ready(Err(io::Error::new(io::ErrorKind::BrokenPipe, closed)));
        }
        let mut bytes = piece(buf);
        let written =
            self.connection.poll_write(cx, self.key, self.output, &mut bytes, Write::Stream);
        let taken = ready!(written)?;
        Poll::Ready(Ok(taken))
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.connection.poll_flush(cx, self.key).map_err(Into::into)
    }

    fn poll_close(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.closed = true;
        self.poll_flush(cx)
    }
}

tokio_writer!(OutputStream);
