//! A request as a handler sees it: its parameters and its streams.

use std::{
    io,
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::Bytes;
use fcgi_engine::server::{CHUNK, Whole, Write, piece, pieces};
use fcgi_proto::{Input, Output, Params, RequestKey, Role, server::AbortReason};

use super::connection::Connection;
use crate::Error;

/// A request to answer. Its streams are separate handles, which other threads may use too. Once the
/// handler has returned they do nothing.
#[derive(Debug)]
pub struct Request {
    connection: Arc<Connection>,
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
            self.connection.keep_params(self.key, std::mem::take(&mut self.params));
        }
    }
}

impl Request {
    fcgi_engine::request_methods!(connection: Connection);

    /// Waits until the web server aborts the request or is gone, or until the request has ended,
    /// which counts as [`AbortReason::Disconnected`]. The request also ends after
    /// [`handler_timeout`](super::Server::handler_timeout). Written bytes are sent first.
    pub fn cancelled(&self) -> AbortReason {
        loop {
            if let Some(reason) = self.connection.cancelled(self.key, None) {
                return reason;
            }
        }
    }

    /// Like [`cancelled`](Self::cancelled), for at most this long; `None` when the time is over.
    /// Use it as a sleep that ends when the request does.
    #[must_use]
    pub fn cancelled_within(&self, limit: Duration) -> Option<AbortReason> {
        match Instant::now().checked_add(limit) {
            Some(until) => self.connection.cancelled(self.key, Some(until)),
            None => Some(self.cancelled()),
        }
    }

    /// Whether [`cancelled`](Self::cancelled) would return at once. A handler that computes should
    /// check this now and then, since a thread can't be stopped from outside.
    #[must_use]
    pub fn is_cancelled(&self) -> bool {
        self.connection.is_cancelled(self.key)
    }

    #[cfg(feature = "http")]
    pub(crate) fn cancellation(&self) -> Cancelled {
        Cancelled { connection: Arc::clone(&self.connection), key: self.key }
    }

    pub(crate) fn input(&self, input: Input) -> InputStream {
        InputStream { connection: Arc::clone(&self.connection), key: self.key, input }
    }

    fn output(&self, output: Output) -> OutputStream {
        OutputStream { connection: Arc::clone(&self.connection), key: self.key, output }
    }
}

/// Whether a request was aborted, in the extensions of an HTTP request. For a handler that neither
/// reads nor writes for a long time: a thread can't be stopped from outside.
#[cfg(feature = "http")]
#[derive(Clone, Debug)]
pub struct Cancelled {
    connection: Arc<Connection>,
    key: RequestKey,
}

#[cfg(feature = "http")]
impl Cancelled {
    /// Whether the web server has aborted the request or is gone, or the request has ended.
    #[must_use]
    pub fn is_cancelled(&self) -> bool {
        self.connection.is_cancelled(self.key)
    }

    /// Waits until that is so, for at most this long; `None` when the time is over. Use it as a
    /// sleep that ends when the request does, like [`Request::cancelled_within`].
    #[must_use]
    pub fn within(&self, limit: Duration) -> Option<AbortReason> {
        // A limit too large to add means no limit.
        self.connection.cancelled(self.key, Instant::now().checked_add(limit))
    }
}

/// STDIN or DATA of a request. Several handles of one stream share its bytes: each byte goes to one
/// of them. It is also an [`io::Read`].
#[derive(Debug)]
pub struct InputStream {
    connection: Arc<Connection>,
    key: RequestKey,
    input: Input,
}

impl InputStream {
    /// Waits for the next bytes. Returns `None` at the end. Large chunks are slices of the receive
    /// buffer, not copies. Written bytes are sent before it waits.
    ///
    /// # Errors
    /// [`Error::Aborted`] when the web server has aborted the request or is gone,
    /// [`Error::Timeout`] after [`handler_timeout`](super::Server::handler_timeout), or after
    /// [`stdin_timeout`](super::Server::stdin_timeout) without more bytes of the stream.
    pub fn chunk(&mut self) -> Result<Option<Bytes>, Error> {
        self.connection.read(self.key, self.input, CHUNK)
    }

    /// Like [`chunk`](Self::chunk), without waiting.
    #[cfg(feature = "http")]
    pub(crate) fn try_chunk(&mut self) -> std::task::Poll<Result<Option<Bytes>, Error>> {
        self.connection.try_read(self.key, self.input, CHUNK)
    }

    /// Reads everything up to the end.
    ///
    /// # Errors
    /// [`Error::InputTooLarge`] for more than `limit` bytes; those of [`chunk`](Self::chunk).
    pub fn read_to_end(&mut self, limit: usize) -> Result<Bytes, Error> {
        let mut whole = Whole::new(limit);
        while let Some(chunk) = self.chunk()? {
            whole.push(chunk)?;
        }
        Ok(whole.finish())
    }
}

impl io::Read for InputStream {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        if buf.is_empty() {
            return Ok(0);
        }
        // Takes no more than the caller has room for: bytes kept here would be lost with the handle.
        let max = buf.len().min(CHUNK);
        let chunk = self.connection.read(self.key, self.input, max)?.unwrap_or_default();
        buf[..chunk.len()].copy_from_slice(&chunk);
        Ok(chunk.len())
    }
}

/// STDOUT or STDERR of a request.
///
/// Written bytes are sent when there are more than 64 KiB of them, when the handler waits for
/// something of the request, and when it returns. Writes in between share records and the write to
/// the socket. A handler that is about to do something else for a long time should call
/// [`flush`](Self::flush). It is also an [`io::Write`].
#[derive(Debug)]
pub struct OutputStream {
    connection: Arc<Connection>,
    key: RequestKey,
    output: Output,
}

impl OutputStream {
    /// Writes all of the bytes, by copying them; waits while more than the send limit is queued.
    /// Use [`write_chunk`](Self::write_chunk) to avoid the copy.
    ///
    /// # Errors
    /// [`Error::Aborted`] when the web server has aborted the request or is gone,
    /// [`Error::Timeout`] after [`handler_timeout`](super::Server::handler_timeout).
    pub fn write_all(&mut self, bytes: impl AsRef<[u8]>) -> Result<(), Error> {
        for piece in pieces(bytes.as_ref()) {
            self.put(piece, Write::Stream)?;
        }
        Ok(())
    }

    /// Writes all of the bytes; waits while more than the send limit is queued. More than 4 KiB are
    /// sent without a copy.
    ///
    /// # Errors
    /// As for [`write_all`](Self::write_all).
    pub fn write_chunk(&mut self, bytes: impl Into<Bytes>) -> Result<(), Error> {
        self.put(bytes.into(), Write::Stream)
    }

    /// Writes all of the bytes in one record, if they fit (W-1). Later ones may share the record.
    #[cfg(feature = "http")]
    pub(crate) fn write_record(&mut self, bytes: Bytes) -> Result<(), Error> {
        self.put(bytes, Write::Record)
    }

    fn put(&self, mut bytes: Bytes, how: Write) -> Result<(), Error> {
        while !bytes.is_empty() {
            self.connection.write(self.key, self.output, &mut bytes, how)?;
        }
        Ok(())
    }

    /// Waits until everything written so far was handed to the socket.
    ///
    /// # Errors
    /// As for [`write_all`](Self::write_all).
    pub fn flush(&mut self) -> Result<(), Error> {
        self.connection.flush(self.key)
    }
}

impl io::Write for OutputStream {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        if buf.is_empty() {
            return Ok(0);
        }
        let mut bytes = piece(buf);
        Ok(self.connection.write(self.key, self.output, &mut bytes, Write::Stream)?)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(self.connection.flush(self.key)?)
    }
}
