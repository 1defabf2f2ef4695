//! One timer for a deadline that moves often.

use std::{
    future::{Future, poll_fn},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, Waker},
    time::{Duration, Instant},
};

use fcgi_engine::{Error, Phase, client::Limit};

use crate::runtime::{Runtime, Timer};

/// A deadline that costs nothing to postpone. The timer is set again only when it fires early, or
/// when the deadline comes nearer.
pub(crate) struct Deadline<R: Runtime> {
    timer: Option<R::Timer>,
    armed: Option<Armed>,
    /// The timer was freed once.
    freed: bool,
}

/// When the timer fires, and whom it wakes.
type Armed = (Instant, Waker);

impl<R: Runtime> Deadline<R> {
    pub(crate) const fn new() -> Self {
        Self { timer: None, armed: None, freed: false }
    }

    /// Nothing is due for now. The first time this returns the timer, to be dropped without a lock:
    /// an idle connection keeps none, and the runtime has none to look at before it sleeps. If it is
    /// needed again it stays, since it may be needed for each request.
    #[must_use = "drop it without a lock"]
    pub(crate) fn free(&mut self) -> Option<(R::Timer, Option<Armed>)> {
        let timer = if self.freed { None } else { self.timer.take() }?;
        self.freed = true;
        Some((timer, self.armed.take()))
    }

    /// Ready once `deadline` has passed; never with `None`.
    pub(crate) fn poll(
        &mut self,
        cx: &mut Context<'_>,
        deadline: Option<Instant>,
        now: Instant,
    ) -> Poll<()> {
        let Some(deadline) = deadline else { return Poll::Pending };
        if now >= deadline {
            self.armed = None;
            return Poll::Ready(());
        }
        if let Some((at, waker)) = &self.armed {
            if now < *at && *at <= deadline && waker.will_wake(cx.waker()) {
                return Poll::Pending;
            }
        }
        let timer = self.timer.get_or_insert_with(R::timer);
        if timer.poll_until(cx, deadline).is_ready() {
            self.armed = None;
            return Poll::Ready(());
        }
        self.armed = Some((deadline, cx.waker().clone()));
        Poll::Pending
    }
}

/// Waits for a future; `None` once `until` has passed.
pub(crate) async fn within<R: Runtime, T>(
    until: Option<Instant>,
    mut future: Pin<&mut impl Future<Output = T>>,
) -> Option<T> {
    let mut deadline = Deadline::<R>::new();
    poll_fn(|cx| match future.as_mut().poll(cx) {
        Poll::Pending => deadline.poll(cx, until, R::now()).map(|()| None),
        Poll::Ready(value) => Poll::Ready(Some(value)),
    })
    .await
}

/// Waits for a future, up to the time limit of a whole request, which counts from `started`.
pub(crate) async fn within_total<R: Runtime, T>(
    total: Option<Duration>,
    started: Instant,
    address: impl FnOnce() -> Arc<str>,
    future: Pin<&mut impl Future<Output = Result<T, Error>>>,
) -> Result<T, Error> {
    let Some(limit) = Limit::of(started, Phase::Response, total) else { return future.await };
    within::<R, _>(Some(limit.at), future).await.unwrap_or_else(|| Err(limit.error(&address())))
}

impl<R: Runtime> std::fmt::Debug for Deadline<R> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Deadline").field(&self.armed.as_ref().map(|armed| armed.0)).finish()
    }
}
