//! What answers requests, and the future that runs it.

use std::{
    error::Error,
    future::{Future, poll_fn},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use fcgi_engine::server::{
    Failed, HandlerEnd, IntoAppStatus, RequestSpan, catch_panic, log_failure,
};
use fcgi_proto::RequestKey;
use pin_project_lite::pin_project;

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
    fn call(&self, mut request: Request) -> impl Future<Output = Result<u32, Failed>> + Send {
        let (shared, key) = request.keep();
        Answer { answer: self(request), shared, key }
    }
}

pin_project! {
    /// Waits for a handler's answer, and logs its failure. As an `async` block it would keep the
    /// handler's future twice, in each connection.
    struct Answer<F> {
        #[pin]
        answer: F,
        shared: Arc<Shared>,
        key: RequestKey,
    }
}

impl<F: Future<Output: IntoAppStatus>> Future for Answer<F> {
    type Output = Result<u32, Failed>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        let status = ready!(this.answer.poll(cx)).into_app_status();
        let failed = |error: Box<dyn Error + Send + Sync>| {
            log_failure(&*error, &this.shared.take_params(*this.key))
        };
        Poll::Ready(status.map_err(failed))
    }
}

/// Starts a handler. It may panic before it returns its future; then this returns `None`.
#[inline]
pub(super) fn start<'a, H: Handler>(
    handler: &'a H,
    shared: &Shared,
    request: Request,
    key: RequestKey,
    span: &RequestSpan,
) -> Option<impl Future<Output = Result<u32, Failed>> + Send + use<'a, H>> {
    let _span = span.enter();
    catch_panic(key.id(), || shared.take_params(key), || handler.call(request)).ok()
}

/// Runs a handler that has [started](start) until it ends or must be dropped, and catches its
/// panic. Whether it must be dropped is checked when it waits, since it was checked a moment ago.
pub(super) fn run(
    shared: &Shared,
    key: RequestKey,
    span: RequestSpan,
    mut handler: Pin<&mut Option<impl Future<Output = Result<u32, Failed>>>>,
) -> impl Future<Output = HandlerEnd> {
    let mut fresh = true;
    poll_fn(move |cx| {
        let _span = span.enter();
        let fresh = std::mem::take(&mut fresh);
        if !fresh && shared.poll_over(cx, key).is_ready() {
            return Poll::Ready(HandlerEnd::Dropped);
        }
        let Some(handler) = handler.as_mut().as_pin_mut() else {
            return Poll::Ready(HandlerEnd::Panicked);
        };
        match catch_panic(key.id(), || shared.take_params(key), || handler.poll(cx)) {
            Ok(Poll::Ready(returned)) => Poll::Ready(HandlerEnd::Returned(returned)),
            Ok(Poll::Pending) if fresh => shared.poll_over(cx, key).map(|()| HandlerEnd::Dropped),
            Ok(Poll::Pending) => Poll::Pending,
            Err(panicked) => Poll::Ready(panicked),
        }
    })
}
