//! The threads that wait for something of one request.

use std::{
    sync::{Arc, Condvar},
    time::{Duration, Instant},
};

use fcgi_engine::server::{Awaited, Waiters};

use super::pool::Pool;

/// The threads that wait for something of one request; created for the first.
#[derive(Debug)]
pub(super) struct Threads<C>(Option<Box<Waiting<C>>>);

#[derive(Debug)]
pub(super) struct Waiting<C> {
    pool: Arc<Pool<C>>,
    pub(super) condvar: Arc<Condvar>,
    /// How many of them sleep.
    pub(super) asleep: usize,
    /// How many of them lead, or try to.
    pub(super) leaders: usize,
    /// How often they were woken.
    pub(super) wakes: u64,
    /// When the handler last got what it waited for.
    since: Option<Instant>,
}

impl<C> Threads<C> {
    pub(super) fn get(&mut self) -> Option<&mut Waiting<C>> {
        self.0.as_deref_mut()
    }

    pub(super) fn get_or_new(&mut self, pool: &Arc<Pool<C>>) -> &mut Waiting<C> {
        self.0.get_or_insert_with(|| {
            Box::new(Waiting {
                pool: Arc::clone(pool),
                condvar: Arc::default(),
                asleep: 0,
                leaders: 0,
                wakes: 0,
                since: None,
            })
        })
    }
}

impl<C> Default for Threads<C> {
    fn default() -> Self {
        Self(None)
    }
}

impl<C> Waiting<C> {
    /// The handler goes on.
    pub(super) fn go_on(&mut self) {
        self.since = Some(Instant::now());
    }

    /// How long the handler has worked since it last went on.
    pub(super) fn worked(&mut self) -> Option<Duration> {
        self.since.take().map(|since| since.elapsed())
    }

    fn wake(&mut self) {
        self.wakes += 1;
        let asleep = std::mem::take(&mut self.asleep);
        if asleep > 0 {
            self.pool.end_wait(asleep);
            self.condvar.notify_all();
        }
        if self.leaders > 0 {
            self.pool.wakeups.interrupt();
        }
    }
}

impl<C> Waiters for Threads<C> {
    const AT_ONCE: bool = true;

    /// Notifying runs no foreign code.
    type Woken = ();

    fn wake(&mut self, _: Awaited, woken: &mut ()) -> bool {
        self.wake_all(woken);
        false
    }

    fn wake_all(&mut self, (): &mut ()) {
        if let Some(waiting) = &mut self.0 {
            waiting.wake();
        }
    }
}
