//! One timer for a deadline that moves often.

use std::{
    task::{Context, Poll, Waker},
    time::Instant,
};

use crate::runtime::{Runtime, Timer};

/// A deadline that costs nothing to postpone. The timer is set again only when it fires early, or
/// when the deadline comes nearer.
pub(crate) struct Deadline<R: Runtime> {
    timer: Option<R::Timer>,
    armed: Option<(Instant, Waker)>,
}

impl<R: Runtime> Deadline<R> {
    pub(crate) const fn new() -> Self {
        Self { timer: None, armed: None }
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

impl<R: Runtime> std::fmt::Debug for Deadline<R> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Deadline").field(&self.armed.as_ref().map(|armed| armed.0)).finish()
    }
}
