//! What a request sends as STDIN or DATA.

use std::{
    fmt, io,
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use fcgi_engine::pool::Replay;
use futures_core::Stream;

#[cfg(feature = "tokio")]
use crate::io::FromTokio;

/// The most that is read from a reader at once, in bytes.
const READ_SIZE: usize = 64 * 1024;

/// The bytes of a stream towards the application: none, all at hand, or coming.
#[derive(Default)]
pub struct Body(Kind);

#[derive(Default)]
enum Kind {
    #[default]
    Empty,
    Bytes(Bytes),
    Stream(Pin<Box<dyn Stream<Item = io::Result<Bytes>> + Send>>),
}

impl Body {
    /// No bytes.
    #[must_use]
    pub const fn empty() -> Self {
        Self(Kind::Empty)
    }

    /// Chunks as they come. An error aborts the request.
    pub fn from_stream(stream: impl Stream<Item = io::Result<Bytes>> + Send + 'static) -> Self {
        Self(Kind::Stream(Box::pin(stream)))
    }

    /// What a reader gives, to its end. An error aborts the request.
    pub fn from_reader(reader: impl futures_io::AsyncRead + Send + 'static) -> Self {
        Self::from_stream(ReaderStream { reader: Box::pin(reader), done: false })
    }

    /// What a reader of tokio's gives, to its end. An error aborts the request.
    #[cfg(feature = "tokio")]
    pub fn from_tokio_reader(reader: impl tokio::io::AsyncRead + Send + 'static) -> Self {
        Self::from_reader(FromTokio(Box::pin(reader)))
    }

    /// How many bytes there are, where that is known before they are read.
    #[must_use]
    pub fn len(&self) -> Option<u64> {
        match &self.0 {
            Kind::Empty => Some(0),
            Kind::Bytes(bytes) => Some(bytes.len() as u64),
            Kind::Stream(_) => None,
        }
    }

    /// Whether it is known to have no bytes.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == Some(0)
    }

    pub(crate) fn poll_chunk(&mut self, cx: &mut Context<'_>) -> Poll<Option<io::Result<Bytes>>> {
        match &mut self.0 {
            Kind::Stream(stream) => {
                let chunk = ready!(stream.as_mut().poll_next(cx));
                if !matches!(chunk, Some(Ok(_))) {
                    self.0 = Kind::Empty;
                }
                Poll::Ready(chunk)
            }
            Kind::Empty => Poll::Ready(None),
            Kind::Bytes(bytes) => {
                let bytes = std::mem::take(bytes);
                self.0 = Kind::Empty;
                Poll::Ready(Some(Ok(bytes)))
            }
        }
    }
}

impl Replay for Body {
    fn replay(&self) -> Option<Self> {
        match &self.0 {
            Kind::Empty => Some(Self::empty()),
            Kind::Bytes(bytes) => Some(Self(Kind::Bytes(bytes.clone()))),
            Kind::Stream(_) => None,
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

struct ReaderStream<R> {
    reader: Pin<Box<R>>,
    done: bool,
}

impl<R: futures_io::AsyncRead> Stream for ReaderStream<R> {
    type Item = io::Result<Bytes>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = self.get_mut();
        if this.done {
            return Poll::Ready(None);
        }
        let mut buffer = vec![0; READ_SIZE];
        match ready!(this.reader.as_mut().poll_read(cx, &mut buffer)) {
            Ok(0) => {
                this.done = true;
                Poll::Ready(None)
            }
            Ok(n) => {
                buffer.truncate(n);
                Poll::Ready(Some(Ok(buffer.into())))
            }
            Err(error) => {
                this.done = true;
                Poll::Ready(Some(Err(error)))
            }
        }
    }
}
