//! Timers that can be set again. All of them share one timer of the reactor.
//!
//! Setting a timer of the reactor wakes its thread, even if that timer is the last to fire. Here only
//! a timer that fires before all others is passed to the reactor, so that the time limit of a new
//! connection mostly costs no system call. A timer that is not needed any more stays in the reactor
//! until its time, and then wakes nobody.

use std::{
    collections::BTreeMap,
    future::Future,
    pin::Pin,
    sync::{Arc, LazyLock, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, Wake, Waker},
    time::Instant,
};

use fcgi_driver::runtime;

use crate::wake_all;

/// A timer.
#[derive(Debug, Default)]
pub struct Timer {
    /// Its place among the timers that wait; `None` if it is not set.
    place: Option<Place>,
}

/// When a timer fires, and a number that no other timer has.
type Place = (Instant, u64);

impl runtime::Timer for Timer {
    fn poll_until(&mut self, cx: &mut Context<'_>, deadline: Instant) -> Poll<()> {
        let mut timers = lock();
        // Dropped without the lock: the last waker of a task may drop the task, with its timers.
        let _before;
        if let Some(place) = self.place.filter(|place| place.0 == deadline) {
            if let Some(waker) = timers.waiting.get_mut(&place) {
                _before = (!waker.will_wake(cx.waker()))
                    .then(|| std::mem::replace(waker, cx.waker().clone()));
                drop(timers);
                return Poll::Pending;
            }
        }
        _before = self.place.take().and_then(|place| timers.waiting.remove(&place));
        let mut due = Vec::new();
        if Instant::now() < deadline {
            let place = (deadline, timers.next);
            timers.next += 1;
            timers.waiting.insert(place, cx.waker().clone());
            self.place = Some(place);
            if timers.told.is_none_or(|told| deadline < told) {
                due = timers.settle();
            }
        }
        drop(timers);
        wake_all(due);
        if self.place.is_some() { Poll::Pending } else { Poll::Ready(()) }
    }
}

impl Drop for Timer {
    fn drop(&mut self) {
        if let Some(place) = self.place {
            let _waker = lock().waiting.remove(&place);
        }
    }
}

/// All timers that wait.
struct Timers {
    waiting: BTreeMap<Place, Waker>,
    /// The number of the next timer.
    next: u64,
    /// The reactor's timer.
    alarm: async_io::Timer,
    /// What it is set to: no timer that waits fires before this.
    told: Option<Instant>,
}

static TIMERS: LazyLock<Mutex<Timers>> = LazyLock::new(|| {
    let alarm = async_io::Timer::never();
    Mutex::new(Timers { waiting: BTreeMap::new(), next: 0, alarm, told: None })
});

/// What the reactor wakes when the first of them is due.
static ALARM: LazyLock<Waker> = LazyLock::new(|| Arc::new(Alarm).into());

fn lock() -> MutexGuard<'static, Timers> {
    // Nothing panics while the lock is held.
    TIMERS.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Timers {
    /// Takes those that are due, and sets the reactor's timer to the first of the others.
    fn settle(&mut self) -> Vec<Waker> {
        let mut due = Vec::new();
        loop {
            let now = Instant::now();
            while let Some(first) = self.waiting.first_entry().filter(|first| first.key().0 <= now)
            {
                due.push(first.remove());
            }
            self.told = self.waiting.first_key_value().map(|(&(first, _), _)| first);
            let Some(first) = self.told else { return due };
            self.alarm.set_at(first);
            // If it is due by now, the reactor wakes nobody.
            if Pin::new(&mut self.alarm).poll(&mut Context::from_waker(&ALARM)).is_pending() {
                return due;
            }
        }
    }
}

struct Alarm;

impl Wake for Alarm {
    fn wake(self: Arc<Self>) {
        let due = lock().settle();
        wake_all(due);
    }
}
