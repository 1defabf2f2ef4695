//! The threads that wait for something of one request.

use std::{
    fmt,
    sync::{Arc, Condvar},
    time::{Duration, Instant},
};

use fcgi_engine::server::{Awaited, Waiters};

/// Who must know that waiting threads were woken.
pub(super) trait Watched: fmt::Debug + Send + Sync {
    /// Makes a thread that leads check whether its handler still waits.
    fn interrupt(&self);
    /// That many sleeping threads are woken.
    fn end_wait(&self, threads: usize);
}

/// The threads that wait for something of one request; created for the first.
#[derive(Debug, Default)]
pub(super) struct Threads(Option<Box<Waiting>>);

#[derive(Debug)]
pub(super) struct Waiting {
    watched: Arc<dyn Watched>,
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

impl Threads {
    pub(super) fn get(&mut self) -> Option<&mut Waiting> {
        self.0.as_deref_mut()
    }

    pub(super) fn get_or_new(
        &mut self,
        watched: impl FnOnce() -> Arc<dyn Watched>,
    ) -> &mut Waiting {
        self.0.get_or_insert_with(|| {
            Box::new(Waiting {
                watched: watched(),
                condvar: Arc::default(),
                asleep: 0,
                leaders: 0,
                wakes: 0,
                since: None,
            })
        })
    }
}

impl Waiting {
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
            self.watched.end_wait(asleep);
            self.condvar.notify_all();
        }
        if self.leaders > 0 {
            self.watched.interrupt();
        }
    }
}

impl Waiters for Threads {
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
