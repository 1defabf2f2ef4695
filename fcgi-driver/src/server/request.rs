//! A request as a handler sees it: its parameters and its streams.

use std::{
    future::poll_fn,
    io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use fcgi_engine::server::{CHUNK, Whole, Write, piece, pieces};
use fcgi_proto::{Input, Output, Params, RequestKey, Role, server::AbortReason};

use super::shared::Shared;
use crate::{
    Error,
    io::{byte_reader, tokio_writer},
};

/// A request to answer. Its streams are separate handles, so that one can be read while another is
/// written. Once the handler has returned they do nothing.
#[derive(Debug)]
pub struct Request {
    shared: Arc<Shared>,
    key: RequestKey,
    role: Role,
    keep_conn: bool,
    params: Params,
    /// Whether the parameters are given back when the request is dropped.
    kept: bool,
}

/// This lets the log name the request of a handler that failed.
impl Drop for Request {
    fn drop(&mut self) {
        if self.kept {
            self.shared.keep_params(self.key, std::mem::take(&mut self.params));
        }
    }
}

impl Request {
    fcgi_engine::request_methods!(shared: Shared);

    /// Waits until the web server aborts the request or is gone.
    ///
    /// # Cancellation safety
    /// Dropping the future loses nothing.
    pub async fn cancelled(&self) -> AbortReason {
        poll_fn(|cx| self.shared.poll_cancelled(cx, self.key)).await
    }

    pub(crate) fn input(&self, input: Input) -> InputStream {
        InputStream { shared: Arc::clone(&self.shared), key: self.key, input }
    }

    fn output(&self, output: Output) -> OutputStream {
        OutputStream { shared: Arc::clone(&self.shared), key: self.key, output, closed: false }
    }
}

/// STDIN or DATA of a request. Several handles of one stream share its bytes: each byte goes to one
/// of them. One task at a time may wait for a stream.
///
/// It is also a [`Stream`](futures_core::Stream) of chunks and a [`futures_io::AsyncRead`], and with
/// the feature `tokio` an `AsyncRead` of tokio.
#[derive(Debug)]
pub struct InputStream {
    shared: Arc<Shared>,
    key: RequestKey,
    input: Input,
}

impl InputStream {
    /// Waits for the next bytes. Returns `None` at the end. Large chunks are slices of the receive
    /// buffer, not copies.
    ///
    /// # Errors
    /// [`Error::Aborted`] when the web server has aborted the request or is gone,
    /// [`Error::Timeout`] after [`stdin_timeout`](super::Server::stdin_timeout) without more bytes
    /// of the stream.
    ///
    /// # Cancellation safety
    /// Dropping the future loses nothing.
    pub async fn chunk(&mut self) -> Result<Option<Bytes>, Error> {
        poll_fn(|cx| self.poll_chunk(cx)).await
    }

    /// Reads everything up to the end.
    ///
    /// # Errors
    /// [`Error::InputTooLarge`] for more than `limit` bytes; those of [`chunk`](Self::chunk).
    ///
    /// # Cancellation safety
    /// Dropping the future loses the bytes that it had read.
    pub async fn read_to_end(&mut self, limit: usize) -> Result<Bytes, Error> {
        let mut whole = Whole::new(limit);
        while let Some(chunk) = self.chunk().await? {
            whole.push(chunk)?;
        }
        Ok(whole.finish())
    }

    /// Like [`chunk`](Self::chunk), without waiting.
    #[cfg(feature = "http")]
    pub(crate) fn try_chunk(&mut self) -> Poll<Result<Option<Bytes>, Error>> {
        self.shared.try_read(self.key, self.input, CHUNK)
    }

    pub(crate) fn poll_chunk(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Result<Option<Bytes>, Error>> {
        self.shared.poll_read(cx, self.key, self.input, CHUNK)
    }

    /// Takes no more than the caller has room for: bytes kept here would be lost with the handle.
    fn poll_bytes(&mut self, cx: &mut Context<'_>, max: usize) -> Poll<io::Result<Bytes>> {
        let chunk = ready!(self.shared.poll_read(cx, self.key, self.input, max.min(CHUNK)))?;
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
    shared: Arc<Shared>,
    key: RequestKey,
    output: Output,
    closed: bool,
}

impl OutputStream {
    /// Writes all of the bytes, by copying them; waits while more than the send limit is queued.
    /// Use [`write_chunk`](Self::write_chunk) to avoid the copy.
    ///
    /// # Errors
    /// [`Error::Aborted`] when the web server has aborted the request or is gone.
    ///
    /// # Cancellation safety
    /// Dropping the future may leave some of the bytes written.
    pub async fn write_all(&mut self, bytes: impl AsRef<[u8]>) -> Result<(), Error> {
        for piece in pieces(bytes.as_ref()) {
            self.write(piece, Write::Stream).await?;
        }
        Ok(())
    }

    /// Writes all of the bytes; waits while more than the send limit is queued. More than 4 KiB are
    /// sent without a copy.
    ///
    /// # Errors
    /// As for [`write_all`](Self::write_all).
    ///
    /// # Cancellation safety
    /// Dropping the future may leave some of the bytes written.
    pub async fn write_chunk(&mut self, bytes: impl Into<Bytes>) -> Result<(), Error> {
        self.write(bytes.into(), Write::Stream).await
    }

    /// Writes all of the bytes in one record, if they fit (W-1). Later ones may share the record.
    #[cfg(feature = "http")]
    pub(crate) async fn write_record(&mut self, bytes: Bytes) -> Result<(), Error> {
        self.write(bytes, Write::Record).await
    }

    async fn write(&mut self, mut bytes: Bytes, how: Write) -> Result<(), Error> {
        while !bytes.is_empty() {
            poll_fn(|cx| self.shared.poll_write(cx, self.key, self.output, &mut bytes, how))
                .await?;
        }
        Ok(())
    }

    /// Waits until everything written so far was handed to the socket.
    ///
    /// # Errors
    /// As for [`write_all`](Self::write_all).
    ///
    /// # Cancellation safety
    /// Dropping the future loses nothing.
    pub async fn flush(&mut self) -> Result<(), Error> {
        poll_fn(|cx| self.shared.poll_flush(cx, self.key)).await
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
        let written = self.shared.poll_write(cx, self.key, self.output, &mut bytes, Write::Stream);
        let taken = ready!(written)?;
        Poll::Ready(Ok(taken))
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.shared.poll_flush(cx, self.key).map_err(Into::into)
    }

    fn poll_close(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.closed = true;
        self.poll_flush(cx)
    }
}

tokio_writer!(OutputStream);
