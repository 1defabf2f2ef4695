//! A response that owns its place on a connection.

use std::{
    fmt,
    future::poll_fn,
    sync::Arc,
    task::{Context, Poll, ready},
};

use super::lease::Lease;
use crate::{
    Error,
    client::{Body, Chunk, Exchange, response},
    runtime::{Runtime, spawn_or_warn},
};

fcgi_engine::pool_response! {
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
    [async; .await], [R: Runtime], Response<R>: Lease<R>, Exchange<R>;
    next(lease, exchange) { poll_fn(|cx| lease.poll_exchange(cx, exchange)).await }
}

impl<R: Runtime> Response<R> {
    /// Detaches the request from its caller. A new task sends its body, reads its response to the
    /// end, and drops it. The request keeps its place on a connection until then, and the time
    /// limits still apply. Without a [`total_timeout`](crate::client::Connector::total_timeout) it
    /// is aborted after ten minutes. [`Pool::close`](super::Pool::close) does not end it.
    ///
    /// If no runtime can run the task, the request is aborted.
    pub fn detach(mut self) {
        if self.lease.is_some() {
            self.exchange.core.detach(R::now());
            let address = Arc::clone(self.exchange.core.address());
            spawn_or_warn::<R>(
                &address,
                async move { while let Ok(Some(_)) = self.chunk().await {} },
            );
        }
    }

    pub(crate) fn poll_chunk(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Result<Option<Chunk>, Error>> {
        let Some(lease) = &mut self.lease else { return Poll::Ready(Ok(None)) };
        let chunk = ready!(lease.poll_exchange(cx, &mut self.exchange));
        self.finish_if_over();
        Poll::Ready(chunk)
    }
}

response!([R: Runtime] Response<R>);

impl<R: Runtime> fmt::Debug for Response<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Response").field("exchange", &self.exchange).finish_non_exhaustive()
    }
}
