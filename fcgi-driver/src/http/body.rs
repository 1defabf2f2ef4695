//! The bodies that a service reads.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use fcgi_engine::http::InputBody;
use http_body::{Frame, SizeHint};

use crate::{Error, io::byte_reader, server::InputStream};

/// The body of a request, as it arrives on STDIN; or bytes in memory, for a response.
///
/// A request's body ends after CONTENT_LENGTH bytes, whether or not STDIN has ended (W-16). It ends
/// with [`Error::InputLength`] if STDIN has fewer bytes, because the HTTP client disconnected, or
/// more (FC-6.2-2). It ends with [`Error::Aborted`] if the web server aborts the request. It can be
/// read until the response has ended.
///
/// It is also an [`AsyncRead`](futures_io::AsyncRead), and with the feature `tokio` an `AsyncRead`
/// of tokio.
#[derive(Debug, Default)]
pub struct Body {
    kind: Kind,
    /// Bytes that a reader took and has not handed out yet.
    rest: Bytes,
}

#[derive(Debug, Default)]
enum Kind {
    #[default]
    Empty,
    Bytes(Bytes),
    Input(InputStream, InputBody),
}

impl Body {
    /// No bytes.
    #[must_use]
    pub const fn empty() -> Self {
        Self::new(Kind::Empty)
    }

    const fn new(kind: Kind) -> Self {
        Self { kind, rest: Bytes::new() }
    }

    /// A stream of the declared length, or of unknown length.
    pub(super) fn from_input(mut stream: InputStream, declared: Option<u64>) -> Self {
        let look = || stream.try_chunk();
        match InputBody::new(declared, look) {
            Some(body) => Self::new(Kind::Input(stream, body)),
            None => Self::empty(),
        }
    }
}

impl Body {
    fn poll_chunk(&mut self, cx: &mut Context<'_>) -> Poll<Result<Option<Bytes>, Error>> {
        if !self.rest.is_empty() {
            return Poll::Ready(Ok(Some(std::mem::take(&mut self.rest))));
        }
        let chunk = match &mut self.kind {
            Kind::Empty => Ok(None),
            Kind::Bytes(bytes) => Ok(Some(std::mem::take(bytes))),
            Kind::Input(stream, body) => {
                let poll = |wait| if wait { stream.poll_chunk(cx) } else { stream.try_chunk() };
                ready!(body.poll(poll))
            }
        };
        if !matches!((&self.kind, &chunk), (Kind::Input(..), Ok(Some(_)))) {
            self.kind = Kind::Empty;
        }
        Poll::Ready(chunk)
    }

    /// A part of the next chunk, for a reader.
    fn poll_bytes(&mut self, cx: &mut Context<'_>, max: usize) -> Poll<io::Result<Bytes>> {
        let mut chunk = ready!(self.poll_chunk(cx))?.unwrap_or_default();
        let taken = chunk.split_to(chunk.len().min(max));
        self.rest = chunk;
        Poll::Ready(Ok(taken))
    }
}

byte_reader!([] Body);

impl http_body::Body for Body {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        let chunk = ready!(self.get_mut().poll_chunk(cx));
        Poll::Ready(chunk.map(|chunk| chunk.map(Frame::data)).transpose())
    }

    fn is_end_stream(&self) -> bool {
        match &self.kind {
            _ if !self.rest.is_empty() => false,
            Kind::Empty => true,
            Kind::Bytes(bytes) => bytes.is_empty(),
            // There may be more bytes than the declared number.
            Kind::Input(..) => false,
        }
    }

    fn size_hint(&self) -> SizeHint {
        let more = match &self.kind {
            Kind::Empty => Some(0),
            Kind::Bytes(bytes) => Some(bytes.len() as u64),
            Kind::Input(_, body) => body.remaining(),
        };
        let rest = self.rest.len() as u64;
        more.map_or_else(SizeHint::default, |more| SizeHint::with_exact(more + rest))
    }
}

impl<T: Into<Bytes>> From<T> for Body {
    fn from(bytes: T) -> Self {
        let bytes = bytes.into();
        Self::new(if bytes.is_empty() { Kind::Empty } else { Kind::Bytes(bytes) })
    }
}
