//! A request as a handler sees it: its parameters and its streams.

use std::{
    io,
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::Bytes;
use fcgi_engine::server::{CHUNK, Write, piece};
use fcgi_proto::{Output, RequestKey, server::AbortReason};

use super::connection::Connection;
use crate::Error;

fcgi_engine::request_handles! {
    [;], connection: Connection,
    chunk(stream) { stream.connection.read(stream.key, stream.input, CHUNK) }
    flush(stream) { stream.connection.flush(stream.key) }
    /// STDIN or DATA of a request. Several handles of one stream share its bytes: each byte goes to
    /// one of them. It is also an [`io::Read`].
}

impl Request {
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
    /// Queues all of the bytes.
    fn put(&mut self, mut bytes: Bytes, how: Write) -> Result<(), Error> {
        while !bytes.is_empty() {
            self.connection.write(self.key, self.output, &mut bytes, how)?;
        }
        Ok(())
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
