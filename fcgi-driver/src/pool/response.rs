//! A response that owns its place on a connection.

use std::{
    fmt,
    future::poll_fn,
    pin::Pin,
    task::{Context, Poll, ready},
};

use fcgi_engine::pool::Sending;

use super::lease::Lease;
use crate::{
    Error,
    client::{Body, Chunk, Collected, Collector, Exchange},
    runtime::{Runtime, spawn_or_warn},
};

/// A response in progress, of a request that a [`Pool`](super::Pool) sent. Its connection goes
/// back to the pool as soon as the response was read to its end. Dropping it early aborts the
/// request, of which nothing reaches a later one (H-11): the connection is used again once the
/// application has ended the request, or closed after
/// [`drain_timeout`](crate::client::Connector::drain_timeout); one that is not kept is closed
/// at once.
///
/// It is a [`Stream`](futures_core::Stream) of chunks too.
#[must_use = "dropping a response aborts its request; `detach` lets it go on"]
pub struct Response<R: Runtime> {
    /// Until the end of the response.
    lease: Option<Lease<R>>,
    exchange: Exchange<R>,
    /// Handed out next.
    first: Option<Chunk>,
}

impl<R: Runtime> Response<R> {
    pub(super) fn new(lease: Lease<R>, exchange: Exchange<R>) -> Self {
        Self { lease: Some(lease), exchange, first: None }
    }

    /// Waits for something to hand out.
    pub(super) async fn first(&mut self) -> Result<(), Error> {
        self.first = poll_fn(|cx| self.poll_next_chunk(cx)).await?;
        if self.exchange.is_over() {
            self.finish();
        }
        Ok(())
    }

    /// Back into the queue, if the request that failed is sent again.
    pub(super) fn again(
        mut self,
        sending: &mut Sending<Body>,
        error: Error,
    ) -> Result<Lease<R>, Error> {
        let Some(mut lease) = self.lease.take() else { return Err(error) };
        if let Err(error) = lease.inner.judge(sending, error, self.exchange.reached()) {
            self.lease = Some(lease);
            return Err(error);
        }
        Ok(lease)
    }

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

    /// Lets the request go on without its caller, in a task of its own: its body is sent and its
    /// response read to the end, and dropped. It keeps its place on a connection until then, as if
    /// its caller read it, and the time limits hold: without a
    /// [`total_timeout`](crate::client::Connector::total_timeout) it is given up after ten minutes.
    /// [`Pool::close`](super::Pool::close) does not end it.
    ///
    /// Where no runtime runs the task, the request is aborted.
    pub fn detach(mut self) {
        if self.lease.is_some() {
            self.exchange.detach();
            let address = self.exchange.address();
            spawn_or_warn::<R>(
                &address,
                async move { while let Ok(Some(_)) = self.chunk().await {} },
            );
        }
    }

    /// Where the application is.
    #[cfg(feature = "http")]
    pub(crate) fn address(&self) -> std::sync::Arc<str> {
        self.exchange.address()
    }

    pub(crate) fn poll_chunk(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Result<Option<Chunk>, Error>> {
        if let Some(first) = self.first.take() {
            return Poll::Ready(Ok(Some(first)));
        }
        let chunk = ready!(self.poll_next_chunk(cx));
        if self.exchange.is_over() {
            self.finish();
        }
        Poll::Ready(chunk)
    }

    fn poll_next_chunk(&mut self, cx: &mut Context<'_>) -> Poll<Result<Option<Chunk>, Error>> {
        match &mut self.lease {
            Some(lease) => lease.poll_exchange(cx, &mut self.exchange),
            None => Poll::Ready(Ok(None)),
        }
    }

    /// The request is over, well or not: its connection goes back, or is given up with it.
    fn finish(&mut self) {
        if let Some(lease) = self.lease.take() {
            lease.finish(&self.exchange);
        }
    }
}

impl<R: Runtime> fmt::Debug for Response<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Response").field("exchange", &self.exchange).finish_non_exhaustive()
    }
}

impl<R: Runtime> futures_core::Stream for Response<R> {
    type Item = Result<Chunk, Error>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.get_mut().poll_chunk(cx).map(Result::transpose)
    }
}

impl<R: Runtime> Drop for Response<R> {
    fn drop(&mut self) {
        self.finish();
    }
}
