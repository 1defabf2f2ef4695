//! A response's body as it comes.

use std::{
    fmt,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
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
    address: Arc<str>,
    /// What came with the head.
    first: Bytes,
    length: BodyLength,
    /// Handed out next.
    failed: Option<HttpError>,
}

impl<R: Runtime> ResponseBody<R> {
    pub(super) fn new(
        response: pool::Response<R>,
        address: Arc<str>,
        first: Bytes,
        length: BodyLength,
    ) -> Self {
        Self { response: Some(Box::new(response)), address, first, length, failed: None }
    }

    /// The next bytes of STDOUT, counted.
    fn poll_data(&mut self, cx: &mut Context<'_>) -> Poll<Result<Option<Bytes>, HttpError>> {
        loop {
            if let Some(error) = self.failed.take() {
                self.response = None;
                return Poll::Ready(Err(error));
            }
            let mut bytes = if self.first.is_empty() {
                let Some(bytes) = ready!(self.poll_stdout(cx))? else {
                    return Poll::Ready(Ok(None));
                };
                bytes
            } else {
                std::mem::take(&mut self.first)
            };
            match self.length.accept(bytes.len()) {
                Ok(0) => continue,
                Ok(_) => {}
                Err(source) => {
                    // What belongs to the body is passed on, and then that there is more.
                    let left = self.length.remaining().unwrap_or_default();
                    bytes.truncate(usize::try_from(left).unwrap_or_default());
                    self.failed =
                        Some(HttpError::Body { address: Arc::clone(&self.address), source });
                    if bytes.is_empty() {
                        continue;
                    }
                    let _ = self.length.accept(bytes.len());
                }
            }
            if self.length.remaining() == Some(0) && self.failed.is_none() {
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
                    return Poll::Ready(self.end(app_status));
                }
                Err(error) => {
                    self.response = None;
                    return Poll::Ready(Err(error.into()));
                }
            }
        }
    }

    /// Whether only the end of the request ends the body.
    fn is_endless(&self) -> bool {
        self.length.declared().is_none() && !self.length.is_dropped()
    }

    fn end(&self, app_status: u32) -> Result<Option<Bytes>, HttpError> {
        let address = Arc::clone(&self.address);
        match self.length.finish() {
            Err(source) => Err(HttpError::Body { address, source }),
            Ok(()) if app_status != 0 && self.is_endless() => {
                Err(HttpError::AppStatus { address, app_status })
            }
            Ok(()) => Ok(None),
        }
    }
}

impl<R: Runtime> fmt::Debug for ResponseBody<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ResponseBody")
            .field("address", &self.address)
            .field("length", &self.length)
            .finish_non_exhaustive()
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
        self.response.is_none() && self.first.is_empty() && self.failed.is_none()
    }

    fn size_hint(&self) -> SizeHint {
        if self.length.is_dropped() {
            return SizeHint::with_exact(0);
        }
        self.length.remaining().map_or_else(SizeHint::default, SizeHint::with_exact)
    }
}
