//! What answers requests, and the future that runs it.

use std::{
    future::{Future, poll_fn},
    panic::{AssertUnwindSafe, catch_unwind},
    pin::pin,
    sync::Arc,
    task::Poll,
};

use fcgi_engine::{
    Phase,
    observe::{self, Outcome, Side},
    server::{CANCELLED, FAILED, Failed, IntoAppStatus, PANICKED, Settings},
    socket::Peer,
};
use fcgi_proto::RequestKey;

use super::{Request, shared::Shared};
use crate::{deadline::Deadline, runtime::Runtime};

/// What answers requests: any `Fn(Request) -> impl Future<Output = impl IntoAppStatus>`.
pub trait Handler: Send + Sync + 'static {
    /// Answers one request; gives its app status, or says that it failed.
    fn call(&self, request: Request) -> impl Future<Output = Result<u32, Failed>> + Send;
}

impl<F, Fut> Handler for F
where
    F: Fn(Request) -> Fut + Send + Sync + 'static,
    Fut: Future<Output: IntoAppStatus> + Send,
{
    async fn call(&self, request: Request) -> Result<u32, Failed> {
        self(request).await.into_app_status()
    }
}

/// Runs a handler on one request: stops it when the request was aborted and its grace is over, or
/// when its time is, catches its panic, and ends the request.
pub(super) async fn run<R: Runtime>(
    shared: Arc<Shared>,
    key: RequestKey,
    peer: Peer,
    settings: &Settings,
    handler: impl Future<Output = Result<u32, Failed>>,
) {
    let mut handler = pin!(handler);
    let span = shared.lock().span(key);
    let mut deadline = Deadline::<R>::new();
    let mut stop_at = settings.handler.and_then(|limit| R::now().checked_add(limit));
    let mut told = false;
    let (status, stopped) = poll_fn(|cx| {
        let _span = span.enter();
        let aborted = shared.lock().poll_aborted(cx, key);
        if aborted.is_some() && !told {
            told = true;
            if settings.abort_grace.is_zero() {
                return Poll::Ready((CANCELLED, Some(Outcome::Aborted)));
            }
            let end_of_grace = R::now().checked_add(settings.abort_grace);
            stop_at = [stop_at, end_of_grace].into_iter().flatten().min();
        }
        if stop_at.is_some() && deadline.poll(cx, stop_at, R::now()).is_ready() {
            if told {
                return Poll::Ready((CANCELLED, Some(Outcome::Aborted)));
            }
            let limit = settings.handler.unwrap_or_default();
            observe::timed_out(Side::Server, Phase::Handler, limit, &peer);
            return Poll::Ready((CANCELLED, Some(Outcome::TimedOut(Phase::Handler))));
        }
        match catch_unwind(AssertUnwindSafe(|| handler.as_mut().poll(cx))) {
            Ok(polled) => {
                polled.map(|status| (status.unwrap_or(FAILED), told.then_some(Outcome::Aborted)))
            }
            Err(_) => {
                tracing::error!(request_id = key.id(), "handler panicked");
                Poll::Ready((PANICKED, None))
            }
        }
    })
    .await;
    shared.lock().finish(key, status, stopped, R::now);
}
