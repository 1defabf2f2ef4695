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
    /// Bytes to hand out next.
    ready: Bytes,
    /// What follows them, until its end.
    input: Option<(InputStream, InputBody)>,
}

impl Body {
    /// No bytes.
    #[must_use]
    pub const fn empty() -> Self {
        Self { ready: Bytes::new(), input: None }
    }

    /// A stream of the declared length, or of unknown length.
    pub(super) fn from_input(mut stream: InputStream, declared: Option<u64>) -> Self {
        let body = InputBody::new(declared, || stream.try_chunk());
        Self { ready: Bytes::new(), input: body.map(|body| (stream, body)) }
    }

    fn poll_chunk(&mut self, cx: &mut Context<'_>) -> Poll<Result<Option<Bytes>, Error>> {
        if !self.ready.is_empty() {
            return Poll::Ready(Ok(Some(std::mem::take(&mut self.ready))));
        }
        let Some((stream, body)) = &mut self.input else { return Poll::Ready(Ok(None)) };
        let poll = |wait| if wait { stream.poll_chunk(cx) } else { stream.try_chunk() };
        let chunk = ready!(body.poll(poll));
        if !matches!(chunk, Ok(Some(_))) {
            self.input = None;
        }
        Poll::Ready(chunk)
    }

    /// A part of the next chunk, for a reader.
    fn poll_bytes(&mut self, cx: &mut Context<'_>, max: usize) -> Poll<io::Result<Bytes>> {
        let mut chunk = ready!(self.poll_chunk(cx))?.unwrap_or_default();
        let taken = chunk.split_to(chunk.len().min(max));
        self.ready = chunk;
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

    /// There may be more bytes of an input than the declared number.
    fn is_end_stream(&self) -> bool {
        self.ready.is_empty() && self.input.is_none()
    }

    fn size_hint(&self) -> SizeHint {
        let more = self.input.as_ref().map_or(Some(0), |(_, body)| body.remaining());
        let ready = self.ready.len() as u64;
        more.map_or_else(SizeHint::default, |more| SizeHint::with_exact(ready + more))
    }
}

impl<T: Into<Bytes>> From<T> for Body {
    fn from(bytes: T) -> Self {
        Self { ready: bytes.into(), input: None }
    }
}
