//! The bodies that a handler reads, or answers with.

use std::{
    any::Any,
    fmt,
    io::{self, Read},
    sync::{Arc, Mutex, PoisonError},
};

use bytes::{Buf, Bytes};
use fcgi_engine::http::{input_length, length_error, read_piece};
use fcgi_http::{BodyLength, BodyLengthError};

#[cfg(doc)]
use crate::Error;
use crate::server::InputStream;

/// The body of a request, as it comes on STDIN; or the body of a response: bytes at hand, or any
/// reader. It is a [`Read`].
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
/// A request's ends with [`Error::InputLength`] when STDIN has fewer bytes than CONTENT_LENGTH
/// says, since the HTTP client went away, or more (FC-6.2-2); with [`Error::Aborted`] when the web
/// server gives the request up. These are inside of the [`io::Error`]. It can be read until the
/// response has ended.
#[derive(Default)]
pub struct Body {
    kind: Kind,
    /// What `Read` has taken and not handed out.
    rest: Bytes,
}

#[derive(Default)]
enum Kind {
    #[default]
    Empty,
    Bytes(Bytes),
    Input(InputStream, BodyLength),
    Reader(Box<dyn Read + Send>, BodyLength),
}

impl Body {
    /// No bytes.
    #[must_use]
    pub fn empty() -> Self {
        Self::default()
    }

    /// What a reader gives, to its end.
    pub fn from_reader(reader: impl Read + Send + 'static) -> Self {
        Self::new(Kind::Reader(Box::new(reader), BodyLength::new(None)))
    }

    /// What a reader gives that has so many bytes: a file, for example. One with fewer or more ends
    /// with an error.
    pub fn sized(reader: impl Read + Send + 'static, length: u64) -> Self {
        Self::new(Kind::Reader(Box::new(reader), BodyLength::exactly(length)))
    }

    /// A stream of so many bytes, or of as many as there are.
    pub(super) fn from_input(stream: InputStream, declared: Option<u64>) -> Self {
        // Most requests without CONTENT_LENGTH have no body, and its end has come already.
        if declared.is_none() && stream.is_at_end() {
            return Self::empty();
        }
        Self::new(Kind::Input(stream, BodyLength::new(declared)))
    }

    fn new(kind: Kind) -> Self {
        Self { kind, rest: Bytes::new() }
    }

    /// How many bytes are still to be read, where that is known.
    #[must_use]
    pub fn size_hint(&self) -> Option<u64> {
        let more = match &self.kind {
            Kind::Empty => Some(0),
            Kind::Bytes(bytes) => Some(bytes.len() as u64),
            Kind::Input(_, length) | Kind::Reader(_, length) => length.remaining(),
        };
        Some(more? + self.rest.len() as u64)
    }

    /// The next bytes, as soon as there are any; `None` at the end. Those of a request are slices
    /// of the receive buffer, not copies.
    ///
    /// # Errors
    /// The reader's; [`Error::InputLength`] and those of [`InputStream::chunk`]. After one, `None`.
    pub fn chunk(&mut self) -> io::Result<Option<Bytes>> {
        if !self.rest.is_empty() {
            return Ok(Some(std::mem::take(&mut self.rest)));
        }
        let next = self.next();
        if !matches!(next, Ok(Some(_))) {
            self.kind = Kind::Empty;
        }
        next
    }

    fn next(&mut self) -> io::Result<Option<Bytes>> {
        match &mut self.kind {
            Kind::Empty => Ok(None),
            Kind::Bytes(bytes) => {
                let bytes = std::mem::take(bytes);
                self.kind = Kind::Empty;
                Ok(Some(bytes))
            }
            Kind::Input(stream, length) => {
                let chunk = stream.chunk()?;
                count(length, &chunk).map_err(|error| input_length(&error))?;
                Ok(chunk)
            }
            Kind::Reader(reader, length) => {
                let chunk = Some(read_piece(reader)?).filter(|piece| !piece.is_empty());
                count(length, &chunk).map_err(length_error)?;
                Ok(chunk)
            }
        }
    }

    /// Whether what was written is to be sent before the body is asked for more: STDIN itself sees
    /// to that.
    fn is_foreign(&self) -> bool {
        matches!(self.kind, Kind::Reader(..))
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
        self.rest = chunk;
        Ok(n)
    }
}

impl<T: Into<Bytes>> From<T> for Body {
    fn from(bytes: T) -> Self {
        let bytes = bytes.into();
        Self::new(if bytes.is_empty() { Kind::Empty } else { Kind::Bytes(bytes) })
    }
}

impl fmt::Debug for Body {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Body").field("size_hint", &self.size_hint()).finish()
    }
}

/// Counts the next bytes, or the end.
fn count(length: &mut BodyLength, chunk: &Option<Bytes>) -> Result<(), BodyLengthError> {
    match chunk {
        Some(bytes) => length.accept(bytes.len()).map(drop),
        None => length.finish(),
    }
}

/// Any reader; of a [`Body`] more is known.
pub(super) struct Source<B>(B);

impl<B: Read + 'static> Source<B> {
    pub(super) fn new(body: B) -> Self {
        Self(body)
    }

    fn body(&self) -> Option<&Body> {
        (&self.0 as &dyn Any).downcast_ref()
    }

    fn body_mut(&mut self) -> Option<&mut Body> {
        (&mut self.0 as &mut dyn Any).downcast_mut()
    }

    /// All bytes, if they are at hand.
    pub(super) fn take_bytes(&mut self) -> Option<Bytes> {
        let body = self.body_mut()?;
        match std::mem::take(&mut body.kind) {
            Kind::Empty => Some(std::mem::take(&mut body.rest)),
            Kind::Bytes(bytes) if body.rest.is_empty() => Some(bytes),
            other => {
                body.kind = other;
                None
            }
        }
    }

    /// How many bytes there are, where that is known.
    pub(super) fn size_hint(&self) -> Option<u64> {
        self.body().and_then(Body::size_hint)
    }

    /// Whether asking for more may wait for something that is not of the request's.
    pub(super) fn may_wait(&self) -> bool {
        self.body().is_none_or(Body::is_foreign)
    }

    /// The next bytes; `None` at the end.
    pub(super) fn chunk(&mut self) -> io::Result<Option<Bytes>> {
        match self.body_mut() {
            Some(body) => body.chunk(),
            None => Ok(Some(read_piece(&mut self.0)?).filter(|piece| !piece.is_empty())),
        }
    }
}

/// A Filter's file, in the extensions of its request: DATA, held against FCGI_DATA_LENGTH.
///
/// A web server sends DATA after STDIN: read the request's body first (FC-6.4-1).
#[derive(Clone, Debug)]
pub struct FilterData(Arc<Mutex<Option<Body>>>);

impl FilterData {
    pub(super) fn new(body: Body) -> Self {
        Self(Arc::new(Mutex::new(Some(body))))
    }

    /// The file, once; `None` when it was taken before.
    #[must_use]
    pub fn take(&self) -> Option<Body> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}
