//! An answer that comes in pieces.

use std::{
    convert::Infallible,
    future::Future,
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use futures_core::Stream;
use tokio::time::{Instant, Sleep, sleep_until};

const PIECES: u32 = 8;
const PAUSE: Duration = Duration::from_millis(400);

/// A few lines, with pauses between them.
pub(super) struct Pieces {
    sent: u32,
    started: Instant,
    timer: Pin<Box<Sleep>>,
}

impl Pieces {
    pub(super) fn new() -> Self {
        let started = Instant::now();
        Self { sent: 0, started, timer: Box::pin(sleep_until(started)) }
    }
}

impl Stream for Pieces {
    type Item = Result<String, Infallible>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if self.sent == PIECES {
            return Poll::Ready(None);
        }
        ready!(self.timer.as_mut().poll(cx));
        self.sent += 1;
        let next = self.started + PAUSE * self.sent;
        self.timer.as_mut().reset(next);
        let (sent, ms) = (self.sent, self.started.elapsed().as_millis());
        Poll::Ready(Some(Ok(format!("piece {sent} of {PIECES}, written after {ms} ms\n"))))
    }
}
