//! What a request sends as STDIN or DATA.

use std::{
    fmt,
    io::{self, Read},
};

use bytes::Bytes;
use fcgi_engine::pool::Replay;

/// The most that is read from a reader at once, in bytes.
const READ_SIZE: usize = 64 * 1024;

/// The bytes of a stream towards the application: none, all at hand, or read as they are sent.
#[derive(Default)]
pub struct Body(Kind);

#[derive(Default)]
enum Kind {
    #[default]
    Empty,
    Bytes(Bytes),
    Reader(Box<dyn Read + Send>),
}

/// What comes next of a body.
pub(crate) enum Next {
    Bytes(Bytes),
    /// Whatever [`Body::read`] gives, which may block.
    Reader,
    End,
}

impl Body {
    /// No bytes.
    #[must_use]
    pub const fn empty() -> Self {
        Self(Kind::Empty)
    }

    /// What a reader gives, to its end. An error aborts the request.
    ///
    /// All that was read before is sent before the reader is asked for more, and what has come of
    /// the response is taken in. While the reader blocks, so does the call that sends the request:
    /// no time limit and no [`CancelHandle`](super::CancelHandle) ends that before the reader does.
    pub fn from_reader(reader: impl Read + Send + 'static) -> Self {
        Self(Kind::Reader(Box::new(reader)))
    }

    /// How many bytes there are, where that is known before they are read.
    #[must_use]
    pub fn len(&self) -> Option<u64> {
        match &self.0 {
            Kind::Empty => Some(0),
            Kind::Bytes(bytes) => Some(bytes.len() as u64),
            Kind::Reader(_) => None,
        }
    }

    /// Whether it is known to have no bytes.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == Some(0)
    }

    pub(crate) fn next(&mut self) -> Next {
        match &mut self.0 {
            Kind::Reader(_) => Next::Reader,
            Kind::Empty => Next::End,
            Kind::Bytes(bytes) => {
                let bytes = std::mem::take(bytes);
                self.0 = Kind::Empty;
                if bytes.is_empty() { Next::End } else { Next::Bytes(bytes) }
            }
        }
    }

    /// Reads from the reader; empty at its end.
    pub(crate) fn read(&mut self) -> io::Result<Bytes> {
        let Kind::Reader(reader) = &mut self.0 else { return Ok(Bytes::new()) };
        let mut buffer = vec![0; READ_SIZE];
        let read = loop {
            match reader.read(&mut buffer) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                // A reader that says more than it was asked for is not believed.
                read => break read.map(|n| n.min(READ_SIZE)),
            }
        };
        if !matches!(read, Ok(1..)) {
            self.0 = Kind::Empty;
        }
        buffer.truncate(read?);
        Ok(buffer.into())
    }
}

impl Replay for Body {
    fn replay(&self) -> Option<Self> {
        match &self.0 {
            Kind::Empty => Some(Self::empty()),
            Kind::Bytes(bytes) => Some(Self(Kind::Bytes(bytes.clone()))),
            Kind::Reader(_) => None,
        }
    }
}

impl<T: Into<Bytes>> From<T> for Body {
    fn from(bytes: T) -> Self {
        Self(Kind::Bytes(bytes.into()))
    }
}

impl fmt::Debug for Body {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Body").field("len", &self.len()).finish()
    }
}
