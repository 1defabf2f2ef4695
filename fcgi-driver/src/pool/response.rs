//! A response that owns its place on a connection.

use std::{
    fmt,
    future::poll_fn,
    task::{Context, Poll, ready},
};

use fcgi_engine::pool::{Reached, Sending};

use super::lease::Lease;
use crate::{
    Error,
    client::{Body, Chunk, Exchange, response},
    runtime::{Runtime, spawn_or_warn},
};

/// A response in progress, for a request that a [`Pool`](super::Pool) sent. Its connection goes
/// back to the pool as soon as the response was read to its end.
///
/// Dropping it early aborts the request. None of the aborted response's bytes reach a later request
/// (H-11): the connection is only used again once the application has ended the request. If that
/// takes longer than [`drain_timeout`](crate::client::Connector::drain_timeout), the connection is
/// closed. A connection that is not kept is closed at once.
///
/// It is also a [`Stream`](futures_core::Stream) of chunks and a [`futures_io::AsyncRead`] of
/// STDOUT, and with the feature `tokio` an `AsyncRead` of tokio. A reader skips STDERR, which is
/// logged in any case.
#[must_use = "dropping a response aborts its request; `detach` lets it go on"]
pub struct Response<R: Runtime> {
    /// `None` after the end of the response.
    lease: Option<Lease<R>>,
    exchange: Exchange<R>,
}

impl<R: Runtime> Response<R> {
    pub(super) fn new(lease: Lease<R>, exchange: Exchange<R>) -> Self {
        Self { lease: Some(lease), exchange }
    }

    /// Waits for something to hand out.
    pub(super) async fn first(&mut self) -> Result<(), Error> {
        let first = poll_fn(|cx| self.poll_next_chunk(cx)).await?;
        self.exchange.core.hold(first);
        if self.exchange.is_over() {
            self.finish();
        }
        Ok(())
    }

    /// Queues the request that failed again, if it can be sent again.
    pub(super) fn again(
        mut self,
        sending: &mut Sending<Body>,
        error: Error,
    ) -> Result<Lease<R>, Error> {
        let Some(mut lease) = self.lease.take() else { return Err(error) };
        if let Err(error) = lease.inner.judge(sending, error, Reached::of(&self.exchange.core)) {
            self.lease = Some(lease);
            return Err(error);
        }
        Ok(lease)
    }

    /// Detaches the request from its caller. A new task sends its body, reads its response to the
    /// end, and drops it. The request keeps its place on a connection until then, and the time
    /// limits still apply. Without a [`total_timeout`](crate::client::Connector::total_timeout) it
    /// is aborted after ten minutes. [`Pool::close`](super::Pool::close) does not end it.
    ///
    /// If no runtime can run the task, the request is aborted.
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

    /// The address of the application.
    #[cfg(feature = "http")]
    pub(crate) fn address(&self) -> std::sync::Arc<str> {
        self.exchange.address()
    }

    pub(crate) fn poll_chunk(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Result<Option<Chunk>, Error>> {
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

    fn exchange(&self) -> Option<&Exchange<R>> {
        Some(&self.exchange)
    }

    fn exchange_mut(&mut self) -> Option<&mut Exchange<R>> {
        Some(&mut self.exchange)
    }

    /// Called at the end of the request, successful or not. Gives the connection back, or closes
    /// it.
    fn finish(&mut self) {
        if let Some(lease) = self.lease.take() {
            lease.finish(&self.exchange);
        }
    }
}

response!([R: Runtime] Response<R>);

impl<R: Runtime> fmt::Debug for Response<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Response").field("exchange", &self.exchange).finish_non_exhaustive()
    }
}

impl<R: Runtime> Drop for Response<R> {
    fn drop(&mut self) {
        self.finish();
    }
}
