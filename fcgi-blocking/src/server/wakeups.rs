//! What handlers pass to the leader: connections to check again, and wake-ups from its poll.

use std::{
    io,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Instant,
};

use crate::waker::Waker;

pub(super) struct Wakeups<C> {
    pub(super) waker: Arc<Waker>,
    /// [`take`](Self::take) may find something. A leader that misses it finds it before it polls.
    news: AtomicBool,
    state: Mutex<State<C>>,
}

struct State<C> {
    dirty: Vec<Arc<C>>,
    /// The leader is polling and was not woken.
    polling: bool,
    /// When the poll ends by itself.
    until: Option<Instant>,
    /// The leader must check first whether it goes on.
    interrupted: bool,
}

impl<C> Wakeups<C> {
    pub(super) fn new() -> io::Result<Self> {
        let state = State { dirty: Vec::new(), polling: false, until: None, interrupted: false };
        let (waker, news) = (Arc::new(Waker::new()?), AtomicBool::new(false));
        Ok(Self { waker, news, state: Mutex::new(state) })
    }

    /// Makes the leader check a connection, unless it is `listed` already. It does so now if that
    /// is `urgent`, or if the connection's new deadline comes before the end of the poll; otherwise
    /// when it next checks anything. If the leader is not polling, this needs no system call.
    pub(super) fn touch(
        &self,
        connection: &Arc<C>,
        listed: bool,
        urgent: bool,
        deadline: Option<Instant>,
    ) {
        let mut state = self.lock();
        if !listed {
            state.dirty.push(Arc::clone(connection));
            self.news.store(true, Ordering::Relaxed);
        }
        let late = deadline.is_some_and(|at| state.until.is_none_or(|until| at < until));
        if state.polling && (urgent || late) {
            state.polling = false;
            self.waker.wake();
        }
    }

    /// Makes the leader check whether it goes on.
    pub(super) fn interrupt(&self) {
        let mut state = self.lock();
        state.interrupted = true;
        self.news.store(true, Ordering::Relaxed);
        if std::mem::take(&mut state.polling) {
            self.waker.wake();
        }
    }

    /// The connections to check before the next poll.
    pub(super) fn take(&self, into: &mut Vec<Arc<C>>) {
        if !self.news.load(Ordering::Relaxed) {
            return;
        }
        let mut state = self.lock();
        self.news.store(false, Ordering::Relaxed);
        state.interrupted = false;
        std::mem::swap(&mut state.dirty, into);
    }

    /// The leader is about to poll; false if it must check something first.
    pub(super) fn begin_poll(&self, until: Option<Instant>) -> bool {
        let mut state = self.lock();
        state.polling = state.dirty.is_empty() && !state.interrupted;
        state.until = until;
        state.polling
    }

    pub(super) fn end_poll(&self) {
        self.lock().polling = false;
    }

    /// Forgets everything: the server has ended.
    pub(super) fn clear(&self) {
        self.lock().dirty = Vec::new();
    }

    fn lock(&self) -> MutexGuard<'_, State<C>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
