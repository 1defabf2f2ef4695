//! A request as a handler sees it: its parameters and its streams.

use std::{
    io,
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::{Bytes, BytesMut};
use fcgi_engine::server::Write;
use fcgi_proto::{Input, Output, Params, Rejection, RequestKey, Role, server::AbortReason};

use super::connection::Connection;
use crate::Error;

/// The largest read of a stream, in bytes.
const CHUNK: usize = 64 * 1024;

/// A request to answer. Its streams are separate handles, which other threads may use too. Once the
/// handler has returned they do nothing.
#[derive(Debug)]
pub struct Request {
    pub(super) connection: Arc<Connection>,
    pub(super) key: RequestKey,
    role: Role,
    keep_conn: bool,
    params: Params,
    /// The parameters are given back when it is dropped.
    kept: bool,
}

/// So that the log can say of which request a handler has failed.
impl Drop for Request {
    fn drop(&mut self) {
        if self.kept {
            self.connection.keep_params(self.key, std::mem::take(&mut self.params));
        }
    }
}

impl Request {
    pub(super) fn new(
        connection: Arc<Connection>,
        key: RequestKey,
        role: Role,
        keep_conn: bool,
        params: Params,
    ) -> Self {
        Self { connection, key, role, keep_conn, params, kept: false }
    }

    /// Has the request give its parameters back when its handler drops it; and where they are then.
    pub(super) fn keep(&mut self) -> (Arc<Connection>, RequestKey) {
        self.kept = true;
        (Arc::clone(&self.connection), self.key)
    }

    /// The role that the web server asks for.
    #[must_use]
    pub fn role(&self) -> Role {
        self.role
    }

    /// The parameters, in the order in which they came.
    #[must_use]
    pub fn params(&self) -> &Params {
        &self.params
    }

    /// The value of one parameter.
    #[must_use]
    pub fn param(&self, name: &str) -> Option<&[u8]> {
        self.params.get(name)
    }

    /// The value of one parameter, if it is UTF-8.
    #[must_use]
    pub fn param_str(&self, name: &str) -> Option<&str> {
        self.params.get_str(name)
    }

    /// Takes the parameters out of the request.
    #[cfg(feature = "http")]
    pub(crate) fn take_params(&mut self) -> Params {
        std::mem::take(&mut self.params)
    }

    /// Whether the connection stays open after this request (FCGI_KEEP_CONN).
    #[must_use]
    pub fn keep_conn(&self) -> bool {
        self.keep_conn
    }

    /// The body of the HTTP request. Empty for an Authorizer.
    #[must_use]
    pub fn stdin(&self) -> InputStream {
        self.input(Input::Stdin)
    }

    /// A Filter's file. Empty for other roles.
    #[must_use]
    pub fn data(&self) -> InputStream {
        self.input(Input::Data)
    }

    /// The response.
    #[must_use]
    pub fn stdout(&self) -> OutputStream {
        self.output(Output::Stdout)
    }

    /// Text for the web server's error log.
    #[must_use]
    pub fn stderr(&self) -> OutputStream {
        self.output(Output::Stderr)
    }

    /// Makes the request end with a protocol status instead of REQUEST_COMPLETE, once the handler
    /// returns (FC-5.5-1).
    pub fn reject(&self, rejection: Rejection) {
        self.connection.reject(self.key, rejection);
    }

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
    /// The next bytes, as soon as there are any; `None` at the end. Large chunks are slices of the
    /// receive buffer, not copies. Written bytes are sent before it waits.
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

    /// Everything up to the end.
    ///
    /// # Errors
    /// [`Error::InputTooLarge`] for more than `limit` bytes; as for [`chunk`](Self::chunk).
    pub fn read_to_end(&mut self, limit: usize) -> Result<Bytes, Error> {
        let first = self.chunk()?.unwrap_or_default();
        let Some(second) = self.chunk()? else {
            return if first.len() > limit {
                Err(Error::InputTooLarge { limit })
            } else {
                Ok(first)
            };
        };
        let mut all = BytesMut::from(&first[..]);
        let mut next = Some(second);
        while let Some(chunk) = next {
            if all.len().saturating_add(chunk.len()) > limit {
                return Err(Error::InputTooLarge { limit });
            }
            all.extend_from_slice(&chunk);
            next = self.chunk()?;
        }
        Ok(all.freeze())
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
        for piece in bytes.as_ref().chunks(CHUNK) {
            self.put(Bytes::copy_from_slice(piece), Write::Stream)?;
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
        // Copies small pieces, so that a full queue does not cost a large copy.
        let mut bytes = Bytes::copy_from_slice(&buf[..buf.len().min(CHUNK)]);
        Ok(self.connection.write(self.key, self.output, &mut bytes, Write::Stream)?)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(self.connection.flush(self.key)?)
    }
}
