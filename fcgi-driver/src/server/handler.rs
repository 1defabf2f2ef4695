//! What answers requests, and the future that runs it.

use std::{
    future::{Future, poll_fn},
    pin::Pin,
    task::Poll,
};

use fcgi_engine::server::{Failed, HandlerEnd, IntoAppStatus, catch_panic, log_failure};
use fcgi_proto::RequestKey;
use tracing::Span;

use super::{Request, shared::Shared};

/// What answers requests: any `Fn(Request) -> impl Future<Output = impl IntoAppStatus>`.
pub trait Handler: Send + Sync + 'static {
    /// Answers one request; returns its app status, or that it failed.
    fn call(&self, request: Request) -> impl Future<Output = Result<u32, Failed>> + Send;
}

impl<F, Fut> Handler for F
where
    F: Fn(Request) -> Fut + Send + Sync + 'static,
    Fut: Future<Output: IntoAppStatus> + Send,
{
    async fn call(&self, mut request: Request) -> Result<u32, Failed> {
        let (shared, key) = request.keep();
        let status = self(request).await.into_app_status();
        status.map_err(|error| log_failure(&*error, &shared.take_params(key)))
    }
}

/// Runs a handler on one request until it ends or must be dropped, catches its panic, and ends the
/// request. A `fresh` request was checked a moment ago, and is checked again only when its handler
/// waits.
pub(super) async fn run(
    shared: &Shared,
    key: RequestKey,
    span: Span,
    mut fresh: bool,
    mut handler: Pin<&mut impl Future<Output = Result<u32, Failed>>>,
) {
    let end = poll_fn(|cx| {
        let _span = span.enter();
        let fresh = std::mem::take(&mut fresh);
        if !fresh && shared.poll_over(cx, key).is_ready() {
            return Poll::Ready(HandlerEnd::Dropped);
        }
        let params = || shared.take_params(key);
        match catch_panic(key.id(), params, || handler.as_mut().poll(cx)) {
            Ok(Poll::Ready(returned)) => Poll::Ready(HandlerEnd::Returned(returned)),
            Ok(Poll::Pending) if fresh => shared.poll_over(cx, key).map(|()| HandlerEnd::Dropped),
            Ok(Poll::Pending) => Poll::Pending,
            Err(panicked) => Poll::Ready(panicked),
        }
    })
    .await;
    shared.finish(key, end);
}
