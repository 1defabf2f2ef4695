//! A response as it comes, while the request's body still goes out.

use std::{
    fmt,
    future::poll_fn,
    io,
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::Bytes;

use super::{Chunk, Client, Collected, Collector, Exchange, Place};
use crate::{
    Error,
    io::{byte_reader, poll_stdout},
    runtime::Runtime,
};

/// A response in progress. It borrows the connection until it is read to its end or dropped;
/// dropping it early aborts the request, of which nothing reaches a later one (H-11).
///
/// It is a [`Stream`](futures_core::Stream) of chunks too, and a [`futures_io::AsyncRead`] of STDOUT, with
/// the feature `tokio` tokio's too. A reader passes over STDERR, which is logged in any case.
#[must_use = "dropping a response aborts its request; `detach` lets it go on"]
pub struct Response<'a, R: Runtime> {
    /// `None` once it was detached.
    pub(super) running: Option<(&'a mut Client<R>, Exchange<R>)>,
    /// Handed out next.
    pub(super) first: Option<Chunk>,
}

impl<R: Runtime> Response<'_, R> {
    /// The next bytes, as soon as there are any; `None` once the application has done the
    /// request, when [`app_status`](Self::app_status) is known.
    ///
    /// # Errors
    /// [`Error::Rejected`], [`Error::Truncated`], [`Error::Protocol`], [`Error::Io`],
    /// [`Error::Body`], [`Error::Timeout`]; after one, `None`.
    ///
    /// # Cancellation safety
    /// Dropping the future loses nothing.
    pub async fn chunk(&mut self) -> Result<Option<Chunk>, Error> {
        poll_fn(|cx| self.poll_chunk(cx)).await
    }

    /// The application's status, once the response was read to its end.
    #[must_use]
    pub fn app_status(&self) -> Option<u32> {
        self.running.as_ref()?.1.app_status()
    }

    /// Lets the request go on without its caller, in a task of its own: its body is sent and its
    /// response read to the end, and dropped. The client's time limits hold: without a
    /// [`total_timeout`](super::Connector::total_timeout) it is given up after ten minutes. The client's next
    /// request waits for that end; the client may be dropped before it.
    ///
    /// Where no runtime runs the task, the request is aborted.
    pub fn detach(mut self) {
        if let Some((client, exchange)) = self.running.take() {
            client.detach(exchange);
        }
    }

    /// The whole response, of at most `limit` bytes of STDOUT and as many of STDERR.
    ///
    /// # Errors
    /// As for [`chunk`](Self::chunk); [`Error::TooLarge`].
    ///
    /// # Cancellation safety
    /// Dropping the future aborts the request.
    pub async fn collect(mut self, limit: usize) -> Result<Collected, Error> {
        let mut collector = Collector::new(limit);
        while let Some(chunk) = self.chunk().await? {
            if let Some((_, exchange)) = &self.running {
                collector.push(chunk, &exchange.address())?;
            }
        }
        Ok(collector.finish(self.app_status()))
    }

    fn poll_chunk(&mut self, cx: &mut Context<'_>) -> Poll<Result<Option<Chunk>, Error>> {
        if let Some(first) = self.first.take() {
            return Poll::Ready(Ok(Some(first)));
        }
        match &mut self.running {
            Some((Client { place: Place::Here(connection), .. }, exchange)) => {
                connection.poll_exchange(cx, exchange)
            }
            _ => Poll::Ready(Ok(None)),
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
        if let Some((Client { place: Place::Here(connection), .. }, exchange)) = &mut self.running {
            connection.abort(exchange.key());
        }
    }
}
