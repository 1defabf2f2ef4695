//! A response's body as it comes.

use std::{
    fmt,
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use fcgi_engine::http::BodyCheck;
use fcgi_http::BodyLength;
use http_body::{Body, Frame, SizeHint};

use super::super::HttpError;
use crate::{client::Chunk, pool, runtime::Runtime};

/// The body of a response, held against its Content-Length (CGI-6.3.5-1).
///
/// It ends with an error when it is shorter or longer than that, when the application breaks off
/// or when it ends with a status other than 0 and has not said how long the body is.
/// Dropping it before its end aborts the request.
pub struct ResponseBody<R: Runtime> {
    /// Until its end.
    response: Option<Box<pool::Response<R>>>,
    /// What came with the head.
    first: Bytes,
    check: BodyCheck,
    /// Handed out next.
    failed: Option<HttpError>,
}

impl<R: Runtime> ResponseBody<R> {
    pub(super) fn new(response: pool::Response<R>, first: Bytes, length: BodyLength) -> Self {
        let check = BodyCheck::new(response.address(), length);
        Self { response: Some(Box::new(response)), first, check, failed: None }
    }

    /// The next bytes of STDOUT, counted.
    fn poll_data(&mut self, cx: &mut Context<'_>) -> Poll<Result<Option<Bytes>, HttpError>> {
        loop {
            if let Some(error) = self.failed.take().or_else(|| self.check.take_error()) {
                self.response = None;
                return Poll::Ready(Err(error));
            }
            let bytes = if self.first.is_empty() {
                let Some(bytes) = ready!(self.poll_stdout(cx))? else {
                    return Poll::Ready(Ok(None));
                };
                bytes
            } else {
                std::mem::take(&mut self.first)
            };
            let Some(bytes) = self.check.accept(bytes) else { continue };
            if self.check.remaining() == Some(0) && !self.check.has_error() {
                self.look_ahead(cx);
            }
            return Poll::Ready(Ok(Some(bytes)));
        }
    }

    /// Takes the end of the request when it has come with the last byte: whoever has read as many
    /// bytes as Content-Length says may not ask for more, and the connection is to be kept.
    fn look_ahead(&mut self, cx: &mut Context<'_>) {
        match self.poll_stdout(cx) {
            Poll::Ready(Ok(Some(bytes))) => self.first = bytes,
            Poll::Ready(Err(error)) => self.failed = Some(error),
            Poll::Ready(Ok(None)) | Poll::Pending => {}
        }
    }

    /// The next bytes of STDOUT; `None` at a good end.
    fn poll_stdout(&mut self, cx: &mut Context<'_>) -> Poll<Result<Option<Bytes>, HttpError>> {
        loop {
            let Some(response) = &mut self.response else { return Poll::Ready(Ok(None)) };
            match ready!(response.poll_chunk(cx)) {
                Ok(Some(Chunk::Stdout(bytes))) if !bytes.is_empty() => {
                    return Poll::Ready(Ok(Some(bytes)));
                }
                // STDERR is in the log.
                Ok(Some(_)) => {}
                Ok(None) => {
                    let app_status = response.app_status().unwrap_or_default();
                    self.response = None;
                    return Poll::Ready(self.check.end(app_status).map(|()| None));
                }
                Err(error) => {
                    self.response = None;
                    return Poll::Ready(Err(error.into()));
                }
            }
        }
    }
}

impl<R: Runtime> fmt::Debug for ResponseBody<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ResponseBody").field("check", &self.check).finish_non_exhaustive()
    }
}

impl<R: Runtime> Body for ResponseBody<R> {
    type Data = Bytes;
    type Error = HttpError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, HttpError>>> {
        let data = ready!(self.get_mut().poll_data(cx));
        Poll::Ready(data.map(|data| data.map(Frame::data)).transpose())
    }

    fn is_end_stream(&self) -> bool {
        self.response.is_none()
            && self.first.is_empty()
            && self.failed.is_none()
            && !self.check.has_error()
    }

    fn size_hint(&self) -> SizeHint {
        self.check.remaining().map_or_else(SizeHint::default, SizeHint::with_exact)
    }
}
