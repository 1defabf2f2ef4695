//! What answers requests, and the future that runs it.

use std::{
    future::{Future, poll_fn},
    panic::{AssertUnwindSafe, catch_unwind},
    pin::pin,
    sync::Arc,
    task::Poll,
    time::Duration,
};

use fcgi_proto::RequestKey;

use super::{Request, shared::Shared};
use crate::{deadline::Deadline, runtime::Runtime};

/// The app status of a handler that panicked, which is what Rust programs exit with.
pub const PANICKED: u32 = 101;
/// The app status of a handler that was stopped: its request was aborted or took too long.
pub const CANCELLED: u32 = 1;
/// The app status of a handler that returned an error.
pub const FAILED: u32 = 1;

/// What answers requests: any `Fn(Request) -> impl Future<Output = impl IntoAppStatus>`.
pub trait Handler: Send + Sync + 'static {
    /// Answers one request; gives its app status.
    fn call(&self, request: Request) -> impl Future<Output = u32> + Send;
}

impl<F, Fut> Handler for F
where
    F: Fn(Request) -> Fut + Send + Sync + 'static,
    Fut: Future<Output: IntoAppStatus> + Send,
{
    async fn call(&self, request: Request) -> u32 {
        self(request).await.into_app_status()
    }
}

/// What a handler may return: nothing, an app status, or a result, whose error is logged and
/// becomes [`FAILED`].
pub trait IntoAppStatus {
    /// The app status.
    fn into_app_status(self) -> u32;
}

impl IntoAppStatus for () {
    fn into_app_status(self) -> u32 {
        0
    }
}

impl IntoAppStatus for u32 {
    fn into_app_status(self) -> u32 {
        self
    }
}

impl<T: IntoAppStatus, E: std::fmt::Display> IntoAppStatus for Result<T, E> {
    fn into_app_status(self) -> u32 {
        match self {
            Ok(status) => status.into_app_status(),
            Err(error) => {
                tracing::warn!(%error, "the handler of a request failed");
                FAILED
            }
        }
    }
}

/// Runs a handler on one request: stops it when the request was aborted and its grace is over, or
/// when its time is, catches its panic, and ends the request.
pub(super) async fn run<R: Runtime>(
    shared: Arc<Shared>,
    key: RequestKey,
    times: Times,
    handler: impl Future<Output = u32>,
) {
    let mut handler = pin!(handler);
    let mut deadline = Deadline::<R>::new();
    let mut stop_at = times.limit.and_then(|limit| R::now().checked_add(limit));
    let mut told = false;
    let status = poll_fn(|cx| {
        let aborted = shared.lock().poll_aborted(cx, key);
        if aborted.is_some() && !told {
            told = true;
            if times.grace.is_zero() {
                return Poll::Ready(CANCELLED);
            }
            let end_of_grace = R::now().checked_add(times.grace);
            stop_at = [stop_at, end_of_grace].into_iter().flatten().min();
        }
        if stop_at.is_some() && deadline.poll(cx, stop_at, R::now()).is_ready() {
            tracing::warn!(request_id = key.id(), "handler stopped: its time is over");
            return Poll::Ready(CANCELLED);
        }
        catch_unwind(AssertUnwindSafe(|| handler.as_mut().poll(cx))).unwrap_or_else(|_| {
            tracing::error!(request_id = key.id(), "handler panicked");
            Poll::Ready(PANICKED)
        })
    })
    .await;
    shared.lock().finish(key, status);
}

/// The time that a handler has.
#[derive(Clone, Copy, Debug)]
pub(super) struct Times {
    /// After its request was aborted.
    pub(super) grace: Duration,
    /// In all.
    pub(super) limit: Option<Duration>,
}
