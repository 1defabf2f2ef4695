//! A response as it comes, while the request's body still goes out.

use std::{
    future::poll_fn,
    pin::Pin,
    task::{Context, Poll, ready},
};

use super::{Chunk, Client, Collected, Collector, Exchange};
use crate::{Error, runtime::Runtime};

/// A response in progress. It borrows the connection until it is read to its end or dropped;
/// dropping it early aborts the request, of which nothing reaches a later one (H-11).
///
/// It is a [`Stream`](futures_core::Stream) of chunks too.
#[derive(Debug)]
pub struct Response<'a, R: Runtime> {
    pub(super) client: &'a mut Client<R>,
    pub(super) exchange: Exchange<R>,
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
        self.exchange.app_status()
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
            collector.push(chunk, &self.exchange.address())?;
        }
        Ok(collector.finish(self.app_status()))
    }

    fn poll_chunk(&mut self, cx: &mut Context<'_>) -> Poll<Result<Option<Chunk>, Error>> {
        if let Some(first) = self.first.take() {
            return Poll::Ready(Ok(Some(first)));
        }
        self.client.poll_exchange(cx, &mut self.exchange)
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
        self.client.abort(self.exchange.key());
    }
}
