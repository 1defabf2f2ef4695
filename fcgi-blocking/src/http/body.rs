//! The bodies that a handler reads or answers with.

use std::{
    any::Any,
    fmt,
    io::{self, Read},
    task::Poll,
};

use bytes::{Buf, Bytes};
use fcgi_engine::{
    client::PieceReader,
    http::{InputBody, length_error},
};
use fcgi_http::BodyLength;

#[cfg(doc)]
use crate::Error;
use crate::server::InputStream;

/// The body of a request, as it arrives on STDIN; or the body of a response: bytes in memory, or
/// any reader. It is a [`Read`].
///
/// ```
/// use std::io::Read;
/// use fcgi_blocking::http::Body;
///
/// let mut page = String::new();
/// Body::from("hello\n").read_to_string(&mut page)?;
/// assert_eq!(page, "hello\n");
/// assert_eq!(Body::from(vec![1, 2, 3]).size_hint(), Some(3));
/// assert_eq!(Body::from_reader(std::io::repeat(7).take(9)).size_hint(), None);
/// # Ok::<(), std::io::Error>(())
/// ```
///
/// A request's body ends after CONTENT_LENGTH bytes, whether or not STDIN has ended (W-16). It ends
/// with [`Error::InputLength`] if STDIN has fewer bytes, because the HTTP client disconnected, or
/// more (FC-6.2-2). It ends with [`Error::Aborted`] if the web server aborts the request. These
/// errors are inside of the [`io::Error`]. The body can be read until the response has ended.
#[derive(Default)]
pub struct Body {
    /// Bytes to hand out next.
    ready: Bytes,
    /// What follows them, until its end.
    rest: Option<Rest>,
}

enum Rest {
    Input(InputStream, InputBody),
    /// It fails if its length is not the declared one (FC-6.2-2, Q-4).
    Reader(Box<dyn FnMut() -> io::Result<Option<Bytes>> + Send>, BodyLength),
}

impl Body {
    /// No bytes.
    #[must_use]
    pub fn empty() -> Self {
        Self::default()
    }

    /// All bytes of a reader.
    pub fn from_reader(reader: impl Read + Send + 'static) -> Self {
        Self::after(Bytes::new(), Source::new(reader), None)
    }

    /// A reader of known length, such as a file. If it gives fewer or more bytes, the body ends
    /// with an error.
    pub fn sized(reader: impl Read + Send + 'static, length: u64) -> Self {
        Self::after(Bytes::new(), Source::new(reader), Some(length))
    }

    /// A stream of the declared length, or of unknown length.
    pub(super) fn from_input(mut stream: InputStream, declared: Option<u64>) -> Self {
        let body = InputBody::new(declared, || stream.try_chunk());
        Self { ready: Bytes::new(), rest: body.map(|body| Rest::Input(stream, body)) }
    }

    /// Bytes that were read from a source, and the rest of it. `length` is that of both together.
    pub(super) fn after<B: Read + Send + 'static>(
        ready: Bytes,
        mut source: Source<B>,
        length: Option<u64>,
    ) -> Self {
        let mut length = BodyLength::new(length);
        if !ready.is_empty() {
            // Can't fail: whoever has read them has checked that.
            let _ = length.count(Some(ready.len()));
        }
        Self { ready, rest: Some(Rest::Reader(Box::new(move || source.chunk()), length)) }
    }

    /// The number of bytes that are still to come, if it is known.
    #[must_use]
    pub fn size_hint(&self) -> Option<u64> {
        let more = match &self.rest {
            None => Some(0),
            Some(Rest::Input(_, body)) => body.remaining(),
            Some(Rest::Reader(_, length)) => length.remaining(),
        };
        Some(more? + self.ready.len() as u64)
    }

    /// Waits for the next bytes. Returns `None` at the end. The bytes of a request are slices of
    /// the receive buffer, not copies.
    ///
    /// # Errors
    /// Errors of the reader; [`Error::InputLength`] and those of [`InputStream::chunk`]. Calls
    /// after an error return `None`.
    pub fn chunk(&mut self) -> io::Result<Option<Bytes>> {
        if !self.ready.is_empty() {
            return Ok(Some(std::mem::take(&mut self.ready)));
        }
        let next = self.rest.as_mut().map_or(Ok(None), Rest::next);
        if !matches!(next, Ok(Some(_))) {
            self.rest = None;
        }
        next
    }

    /// Whether to send what was written before reading more of the body. STDIN does that by itself.
    fn is_foreign(&self) -> bool {
        matches!(self.rest, Some(Rest::Reader(..)))
    }
}

impl Rest {
    fn next(&mut self) -> io::Result<Option<Bytes>> {
        match self {
            Self::Input(stream, body) => {
                let read =
                    |wait| if wait { Poll::Ready(stream.chunk()) } else { stream.try_chunk() };
                match body.poll(read) {
                    Poll::Ready(chunk) => Ok(chunk?),
                    // `None` only means that nothing was waited for.
                    Poll::Pending => Ok(None),
                }
            }
            Self::Reader(reader, length) => {
                let chunk = reader()?;
                length.count(chunk.as_ref().map(Bytes::len)).map_err(length_error)?;
                Ok(chunk)
            }
        }
    }
}

impl Read for Body {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        if buf.is_empty() {
            return Ok(0);
        }
        let Some(mut chunk) = self.chunk()? else { return Ok(0) };
        let n = chunk.len().min(buf.len());
        chunk.copy_to_slice(&mut buf[..n]);
        self.ready = chunk;
        Ok(n)
    }
}

impl<T: Into<Bytes>> From<T> for Body {
    fn from(bytes: T) -> Self {
        Self { ready: bytes.into(), rest: None }
    }
}

impl fmt::Debug for Body {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Body").field("size_hint", &self.size_hint()).finish()
    }
}

/// Any reader. If it is a [`Body`], more is known about it.
pub(super) struct Source<B>(PieceReader<B>);

impl<B: Read + 'static> Source<B> {
    pub(super) fn new(body: B) -> Self {
        Self(PieceReader::new(body))
    }

    fn body(&self) -> Option<&Body> {
        as_body(self.0.get_ref())
    }

    /// The next bytes; `None` at the end.
    pub(super) fn chunk(&mut self) -> io::Result<Option<Bytes>> {
        match (self.0.get_mut() as &mut dyn Any).downcast_mut::<Body>() {
            Some(body) => body.chunk(),
            None => self.0.read_piece(),
        }
    }

    /// Whether all bytes are in memory.
    pub(super) fn is_at_hand(&self) -> bool {
        self.body().is_some_and(|body| body.rest.is_none())
    }

    /// Whether reading more may block on something other than this request's input.
    pub(super) fn may_wait(&self) -> bool {
        self.body().is_none_or(Body::is_foreign)
    }
}

/// The number of bytes of a reader, if it is known.
pub(super) fn size_hint<B: Read + 'static>(reader: &B) -> Option<u64> {
    as_body(reader).and_then(Body::size_hint)
}

fn as_body<B: Read + 'static>(reader: &B) -> Option<&Body> {
    (reader as &dyn Any).downcast_ref()
}
