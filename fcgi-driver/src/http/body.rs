//! The bodies that a service reads.

use std::{
    pin::Pin,
    sync::{Arc, Mutex, PoisonError},
    task::{Context, Poll, Waker, ready},
};

use bytes::Bytes;
use fcgi_engine::http::input_length;
use fcgi_http::BodyLength;
use http_body::{Frame, SizeHint};

use crate::{Error, server::InputStream};

/// The body of a request, as it comes on STDIN; or bytes at hand, for a response.
///
/// It ends with [`Error::InputLength`] when STDIN has fewer bytes than CONTENT_LENGTH says, since
/// the HTTP client went away, or more (FC-6.2-2); with [`Error::Aborted`] when the web server gives
/// the request up. It can be read until the response has ended.
#[derive(Debug, Default)]
pub struct Body(Kind);

#[derive(Debug, Default)]
enum Kind {
    #[default]
    Empty,
    Bytes(Bytes),
    Input(Input),
}

#[derive(Debug)]
struct Input {
    stream: InputStream,
    length: BodyLength,
    /// Handed out next.
    first: Option<Bytes>,
}

impl Body {
    /// No bytes.
    #[must_use]
    pub const fn empty() -> Self {
        Self(Kind::Empty)
    }

    /// A stream of so many bytes, or of as many as there are.
    pub(super) fn from_input(mut stream: InputStream, declared: Option<u64>) -> Self {
        let mut first = None;
        if declared.is_none() {
            // Most requests without CONTENT_LENGTH have no body, and its end has come already.
            match stream.poll_chunk(&mut Context::from_waker(Waker::noop())) {
                Poll::Ready(Ok(None)) => return Self::empty(),
                Poll::Ready(Ok(chunk)) => first = chunk,
                Poll::Ready(Err(_)) | Poll::Pending => {}
            }
        }
        Self(Kind::Input(Input { stream, length: BodyLength::new(declared), first }))
    }
}

impl Input {
    fn poll_chunk(&mut self, cx: &mut Context<'_>) -> Poll<Result<Option<Bytes>, Error>> {
        let chunk = match self.first.take() {
            Some(first) => Some(first),
            None => ready!(self.stream.poll_chunk(cx))?,
        };
        let counted = match &chunk {
            Some(bytes) => self.length.accept(bytes.len()).map(drop),
            None => self.length.finish(),
        };
        Poll::Ready(counted.map_err(|error| input_length(&error)).map(|()| chunk))
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
            Kind::Input(input) => ready!(input.poll_chunk(cx)),
        };
        if !matches!((&self.0, &chunk), (Kind::Input(_), Ok(Some(_)))) {
            self.0 = Kind::Empty;
        }
        Poll::Ready(chunk.map(|chunk| chunk.map(Frame::data)).transpose())
    }

    fn is_end_stream(&self) -> bool {
        match &self.0 {
            Kind::Empty => true,
            Kind::Bytes(bytes) => bytes.is_empty(),
            // Only STDIN's end tells that there are not too many bytes.
            Kind::Input(_) => false,
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.0 {
            Kind::Empty => SizeHint::with_exact(0),
            Kind::Bytes(bytes) => SizeHint::with_exact(bytes.len() as u64),
            Kind::Input(input) => {
                input.length.remaining().map_or_else(SizeHint::default, SizeHint::with_exact)
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
