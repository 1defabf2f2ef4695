//! A response's body, read piece by piece.

use std::{
    fmt, io,
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use fcgi_engine::http::Incoming;
use http_body::{Body, Frame, SizeHint};

use super::super::HttpError;
use crate::{io::byte_reader, pool, runtime::Runtime};

/// The body of a response, checked against its Content-Length (CGI-6.3.5-1).
///
/// It ends with an error if it is shorter or longer than its Content-Length, if the application
/// breaks off, or if it has no Content-Length and the application ends with a status other
/// than 0. Dropping the body before its end aborts the request.
///
/// It is also an [`AsyncRead`](futures_io::AsyncRead), and with the feature `tokio` an `AsyncRead`
/// of tokio.
#[must_use = "dropping a body before its end aborts the request"]
pub struct ResponseBody<R: Runtime> {
    /// `None` after the end.
    response: Option<Box<pool::Response<R>>>,
    incoming: Incoming,
}

impl<R: Runtime> ResponseBody<R> {
    pub(super) fn new(response: pool::Response<R>, incoming: Incoming) -> Self {
        let response = (!incoming.has_end()).then(|| Box::new(response));
        Self { response, incoming }
    }

    /// Detaches the request from its caller; see
    /// [`pool::Response::detach`](crate::pool::Response::detach).
    pub fn detach(self) {
        if let Some(response) = self.response {
            response.detach();
        }
    }

    /// The next bytes of STDOUT, checked against the declared length.
    fn poll_data(&mut self, cx: &mut Context<'_>) -> Poll<Result<Option<Bytes>, HttpError>> {
        loop {
            if let Poll::Ready(next) = self.incoming.poll_chunk() {
                if self.incoming.looks_ahead() {
                    let _ = self.poll_response(cx);
                }
                return Poll::Ready(next);
            }
            ready!(self.poll_response(cx));
        }
    }

    /// A part of the next bytes, for a reader.
    fn poll_bytes(&mut self, cx: &mut Context<'_>, max: usize) -> Poll<io::Result<Bytes>> {
        let mut data = ready!(self.poll_data(cx))?.unwrap_or_default();
        let taken = data.split_to(data.len().min(max));
        self.incoming.give_back(data);
        Poll::Ready(Ok(taken))
    }

    fn poll_response(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let Some(response) = &mut self.response else { return Poll::Ready(()) };
        let chunk = ready!(response.poll_chunk(cx));
        self.incoming.handle_chunk(chunk, response.app_status());
        if self.incoming.has_end() {
            self.response = None;
        }
        Poll::Ready(())
    }
}

byte_reader!([R: Runtime] ResponseBody<R>);

impl<R: Runtime> fmt::Debug for ResponseBody<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ResponseBody").field("incoming", &self.incoming).finish_non_exhaustive()
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
        self.incoming.is_over()
    }

    fn size_hint(&self) -> SizeHint {
        self.incoming.remaining().map_or_else(SizeHint::default, SizeHint::with_exact)
    }
}
