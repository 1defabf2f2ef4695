//! A response, received while the body of the request is still sent.

use std::{
    fmt,
    future::poll_fn,
    io,
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::Bytes;

use super::{Chunk, Collected, Collector, Exchange, away, connection::Place};
use crate::{
    Error,
    io::{byte_reader, poll_stdout},
    runtime::Runtime,
};

/// A response in progress. It borrows the connection until it is read to its end or dropped.
/// Dropping it early aborts the request, and none of the response's bytes reach a later request
/// (H-11).
///
/// It is also a [`Stream`](futures_core::Stream) of chunks and a [`futures_io::AsyncRead`] of
/// STDOUT, and with the feature `tokio` an `AsyncRead` of tokio. A reader skips STDERR, which is
/// logged in any case.
#[must_use = "dropping a response aborts its request; `detach` lets it go on"]
pub struct Response<'a, R: Runtime> {
    /// `None` once it was detached.
    pub(super) running: Option<(&'a mut Place<R>, Exchange<R>)>,
    /// The chunk to hand out next.
    pub(super) first: Option<Chunk>,
}

impl<R: Runtime> Response<'_, R> {
    /// Waits for the next bytes. Returns `None` once the application has finished the request;
    /// [`app_status`](Self::app_status) is known then.
    ///
    /// # Errors
    /// [`Error::Rejected`], [`Error::Truncated`], [`Error::Protocol`], [`Error::Io`],
    /// [`Error::Body`], [`Error::Timeout`]. Calls after an error return `None`.
    ///
    /// # Cancellation safety
    /// Dropping the future loses nothing.
    pub async fn chunk(&mut self) -> Result<Option<Chunk>, Error> {
        poll_fn(|cx| self.poll_chunk(cx)).await
    }

    /// The application's status, if the response was read to its end.
    #[must_use]
    pub fn app_status(&self) -> Option<u32> {
        self.running.as_ref()?.1.app_status()
    }

    /// Detaches the request from its caller. A new task sends its body, reads its response to the
    /// end, and drops it. The client's time limits still apply. Without a
    /// [`total_timeout`](super::Connector::total_timeout) the request is aborted after ten minutes.
    /// The client's next request waits until it has ended. The client may be dropped earlier.
    ///
    /// If no runtime can run the task, the request is aborted.
    pub fn detach(mut self) {
        if let Some((place, exchange)) = self.running.take() {
            away::run(place, exchange);
        }
    }

    /// Reads the whole response, of at most `limit` bytes of STDOUT and `limit` bytes of STDERR.
    ///
    /// # Errors
    /// Those of [`chunk`](Self::chunk), and [`Error::TooLarge`].
    ///
    /// # Cancellation safety
    /// Dropping the future aborts the request.
    pub async fn collect(mut self, limit: usize) -> Result<Collected, Error> {
        let mut collector = Collector::new(limit);
        while let Some(chunk) = self.chunk().await? {
            if let Some((_, exchange)) = &self.running {
                collector.push(chunk, exchange.address())?;
            }
        }
        Ok(collector.finish(self.app_status()))
    }

    fn poll_chunk(&mut self, cx: &mut Context<'_>) -> Poll<Result<Option<Chunk>, Error>> {
        if let Some(first) = self.first.take() {
            return Poll::Ready(Ok(Some(first)));
        }
        let Some((place, exchange)) = &mut self.running else { return Poll::Ready(Ok(None)) };
        match place.connection() {
            Some(connection) => connection.poll_exchange(cx, exchange),
            None => Poll::Ready(Ok(None)),
        }
    }

    /// Bytes of STDOUT, for a reader.
    fn poll_bytes(&mut self, cx: &mut Context<'_>, max: usize) -> Poll<io::Result<Bytes>> {
        let (bytes, rest) = ready!(poll_stdout(max, || self.poll_chunk(cx)))?;
        if rest.is_some() {
            self.first = rest;
        }
        Poll::Ready(Ok(bytes))
    }
}

byte_reader!([R: Runtime] Response<'_, R>);

impl<R: Runtime> fmt::Debug for Response<'_, R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Response").field("running", &self.running).finish_non_exhaustive()
    }
}

impl<R: Runtime> futures_core::Stream for Response<'_, R> {
    type Item = Result<Chunk, Error>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let chunk = ready!(self.get_mut().poll_chunk(cx));
        Poll::Ready(chunk.transpose())
    }
}

impl<R: Runtime> Drop for Response<'_, R> {
    fn drop(&mut self) {
        let Some((place, exchange)) = &mut self.running else { return };
        if let Some(connection) = place.connection() {
            connection.abort(exchange.key());
        }
    }
}
