//! The bodies that a service reads.

use std::{
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use fcgi_engine::http::InputBody;
use http_body::{Frame, SizeHint};

use crate::{Error, server::InputStream};

/// The body of a request, as it comes on STDIN; or bytes at hand, for a response.
///
/// It is over when as many bytes have come as CONTENT_LENGTH says, whether or not STDIN was ended
/// (W-16). It ends with [`Error::InputLength`] when STDIN has fewer bytes, since the HTTP client went
/// away, or more (FC-6.2-2); with [`Error::Aborted`] when the web server gives the request up. It
/// can be read until the response has ended.
#[derive(Debug, Default)]
pub struct Body(Kind);

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
        Self(Kind::Empty)
    }

    /// A stream of so many bytes, or of as many as there are.
    pub(super) fn from_input(mut stream: InputStream, declared: Option<u64>) -> Self {
        let look = || stream.try_chunk();
        match InputBody::new(declared, look) {
            Some(body) => Self(Kind::Input(stream, body)),
            None => Self::empty(),
        }
    }
}

impl http_body::Body for Body {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        let chunk = match &mut self.0 {
            Kind::Empty => Ok(None),
            Kind::Bytes(bytes) => Ok(Some(std::mem::take(bytes))),
            Kind::Input(stream, body) => {
                let poll = |wait| if wait { stream.poll_chunk(cx) } else { stream.try_chunk() };
                ready!(body.poll(poll))
            }
        };
        if !matches!((&self.0, &chunk), (Kind::Input(..), Ok(Some(_)))) {
            self.0 = Kind::Empty;
        }
        Poll::Ready(chunk.map(|chunk| chunk.map(Frame::data)).transpose())
    }

    fn is_end_stream(&self) -> bool {
        match &self.0 {
            Kind::Empty => true,
            Kind::Bytes(bytes) => bytes.is_empty(),
            // There may be more bytes than were declared.
            Kind::Input(..) => false,
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.0 {
            Kind::Empty => SizeHint::with_exact(0),
            Kind::Bytes(bytes) => SizeHint::with_exact(bytes.len() as u64),
            Kind::Input(_, body) => {
                body.remaining().map_or_else(SizeHint::default, SizeHint::with_exact)
            }
        }
    }
}

impl<T: Into<Bytes>> From<T> for Body {
    fn from(bytes: T) -> Self {
        let bytes = bytes.into();
        Self(if bytes.is_empty() { Kind::Empty } else { Kind::Bytes(bytes) })
    }
}
