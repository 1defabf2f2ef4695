//! The body of an answer, of any kind.

use std::{
    pin::Pin,
    task::{Context, Poll},
};

use bytes::Bytes;
use http_body::{Frame, SizeHint};
use http_body_util::{BodyExt, combinators::UnsyncBoxBody};

pub(super) type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// The client left while it was sending its request, so it does not see the answer.
#[derive(Clone, Copy, Debug)]
pub(super) struct Left;

/// The body of an answer, or of a request.
pub(super) enum Body {
    /// Complete and in memory: it can't fail.
    Full(Bytes),
    Other(UnsyncBoxBody<Bytes, BoxError>),
}

impl Body {
    pub(super) fn new(
        body: impl http_body::Body<Data = Bytes, Error = BoxError> + Send + 'static,
    ) -> Self {
        Self::Other(body.boxed_unsync())
    }
}

impl http_body::Body for Body {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        match &mut *self {
            Self::Full(bytes) => {
                let bytes = std::mem::take(bytes);
                Poll::Ready((!bytes.is_empty()).then(|| Ok(Frame::data(bytes))))
            }
            Self::Other(body) => Pin::new(body).poll_frame(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Full(bytes) => bytes.is_empty(),
            Self::Other(body) => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Full(bytes) => SizeHint::with_exact(bytes.len() as u64),
            Self::Other(body) => body.size_hint(),
        }
    }
}

pub(super) fn empty() -> Body {
    Body::Full(Bytes::new())
}

pub(super) fn full(bytes: impl Into<Bytes>) -> Body {
    Body::Full(bytes.into())
}
