//! A timer that can be set again.

use std::{
    future::Future,
    pin::Pin,
    task::{Context, Poll, ready},
    time::Instant,
};

use fcgi_driver::runtime;

/// A timer.
#[derive(Debug, Default)]
pub struct Timer {
    timer: Option<async_io::Timer>,
    /// The time that the timer is set to; `None` once it has fired.
    deadline: Option<Instant>,
}

impl runtime::Timer for Timer {
    fn poll_until(&mut self, cx: &mut Context<'_>, deadline: Instant) -> Poll<()> {
        let timer = self.timer.get_or_insert_with(async_io::Timer::never);
        if self.deadline != Some(deadline) {
            timer.set_at(deadline);
            self.deadline = Some(deadline);
        }
        ready!(Pin::new(timer).poll(cx));
        self.deadline = None;
        Poll::Ready(())
    }
}
