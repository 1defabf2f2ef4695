//! Applications that write to STDERR without end. They are read no faster than a log can be
//! written, so that they have to wait instead of keeping the gateway busy.

use std::{
    future::Future,
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use tokio::time::{Instant, Sleep, sleep_until};

use super::log::{self, Title};

/// How much STDERR one request may write at once, and then each second, in bytes.
const BURST: usize = 1 << 20;
const RATE: usize = 1 << 20;

/// The allowance of one request.
#[derive(Debug)]
pub(super) struct Throttle {
    title: Title,
    /// How many bytes exceed the allowance so far, and when that was counted.
    level: usize,
    since: Option<Instant>,
    pause: Option<Pin<Box<Sleep>>>,
}

impl Throttle {
    pub(super) fn new(title: Title) -> Self {
        Self { title, level: 0, since: None, pause: None }
    }

    /// Polls on behalf of the request, once its pause is over.
    pub(super) fn poll<T>(
        &mut self,
        cx: &mut Context<'_>,
        poll: impl FnOnce(&mut Context<'_>) -> Poll<T>,
    ) -> Poll<T> {
        if let Some(pause) = &mut self.pause {
            ready!(pause.as_mut().poll(cx));
            self.pause = None;
        }
        let (polled, stderr) = log::on_behalf(&self.title, || poll(cx));
        if stderr > 0 {
            self.count(stderr);
        }
        if let (Poll::Pending, Some(pause)) = (&polled, &mut self.pause) {
            // It waits for the pause, even if something wakes the task earlier.
            let _ = pause.as_mut().poll(cx);
        }
        polled
    }

    fn count(&mut self, stderr: usize) {
        let now = Instant::now();
        let passed = self.since.map_or(Duration::ZERO, |since| now.duration_since(since));
        let grown = (passed.as_secs_f64() * RATE as f64) as usize;
        // The excess is capped, so that a pause is never long enough to miss a time limit.
        self.level = self.level.saturating_sub(grown).saturating_add(stderr).min(BURST + RATE);
        self.since = Some(now);
        if let Some(beyond) = self.level.checked_sub(BURST).filter(|beyond| *beyond > 0) {
            let pause = Duration::from_secs_f64(beyond as f64 / RATE as f64);
            self.pause = Some(Box::pin(sleep_until(now + pause)));
        }
    }

    /// Runs a future on behalf of the request.
    pub(super) async fn run<F: Future + Unpin>(&mut self, future: F) -> F::Output {
        let mut future = OnBehalf::new(self.title.clone(), future);
        std::future::poll_fn(|cx| {
            self.poll(cx, |cx| match future.as_mut() {
                Some(future) => Pin::new(future).poll(cx),
                None => Poll::Pending,
            })
        })
        .await
    }
}

/// A value that may log for its request when it is dropped.
pub(super) struct OnBehalf<T> {
    title: Title,
    /// `None` while it is being dropped.
    what: Option<T>,
}

impl<T> OnBehalf<T> {
    pub(super) fn new(title: Title, what: T) -> Self {
        Self { title, what: Some(what) }
    }

    /// The value. It is there as long as this is.
    pub(super) fn as_ref(&self) -> Option<&T> {
        self.what.as_ref()
    }

    pub(super) fn as_mut(&mut self) -> Option<&mut T> {
        self.what.as_mut()
    }
}

impl<T> Drop for OnBehalf<T> {
    fn drop(&mut self) {
        let what = self.what.take();
        log::on_behalf(&self.title, || drop(what));
    }
}
