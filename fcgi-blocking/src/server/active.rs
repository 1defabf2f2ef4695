//! The requests of a connection whose handlers have not returned.

use std::{
    collections::HashMap,
    sync::{
        Arc, Condvar,
        atomic::{AtomicUsize, Ordering},
    },
    time::Instant,
};

use fcgi_engine::observe::RequestLog;
use fcgi_proto::{Rejection, RequestKey, server::AbortReason};

/// One request, from its event to its handler's return.
#[derive(Debug)]
pub(super) struct Active {
    /// Why its handler should return.
    pub(super) stop: Option<Stop>,
    pub(super) rejection: Option<Rejection>,
    /// A thread runs its handler.
    pub(super) started: bool,
    /// It was ended without waiting for the handler.
    pub(super) ended: bool,
    /// When it is to be ended so.
    pub(super) stop_at: Option<Instant>,
    pub(super) counted: Counted,
    pub(super) log: Option<RequestLog>,
    /// Where its handler waits; made when it first does.
    condvar: Option<Arc<Condvar>>,
}

/// Why a handler should return.
#[derive(Clone, Copy, Debug)]
pub(super) enum Stop {
    Aborted(AbortReason),
    TimedOut,
}

impl Active {
    pub(super) fn new(counted: Counted, log: RequestLog, stop_at: Option<Instant>) -> Self {
        Self {
            stop: None,
            rejection: None,
            started: false,
            ended: false,
            stop_at,
            counted,
            log: Some(log),
            condvar: None,
        }
    }

    pub(super) fn condvar(&mut self) -> Arc<Condvar> {
        Arc::clone(self.condvar.get_or_insert_default())
    }

    /// Has everybody who waits for something of this request look again.
    pub(super) fn wake(&self) {
        if let Some(condvar) = &self.condvar {
            condvar.notify_all();
        }
    }
}

/// The first request needs no allocation; those beside it are in a map.
#[derive(Debug, Default)]
pub(super) struct Requests {
    first: Option<(RequestKey, Active)>,
    rest: HashMap<RequestKey, Active>,
}

impl Requests {
    pub(super) fn add(&mut self, key: RequestKey, active: Active) {
        if self.first.is_none() {
            self.first = Some((key, active));
        } else {
            self.rest.insert(key, active);
        }
    }

    pub(super) fn get(&self, key: RequestKey) -> Option<&Active> {
        match &self.first {
            Some((first, active)) if *first == key => Some(active),
            _ => self.rest.get(&key),
        }
    }

    pub(super) fn get_mut(&mut self, key: RequestKey) -> Option<&mut Active> {
        match &mut self.first {
            Some((first, active)) if *first == key => Some(active),
            _ => self.rest.get_mut(&key),
        }
    }

    pub(super) fn remove(&mut self, key: RequestKey) -> Option<Active> {
        if self.first.as_ref().is_some_and(|(first, _)| *first == key) {
            return self.first.take().map(|(_, active)| active);
        }
        let removed = self.rest.remove(&key);
        if self.rest.is_empty() {
            self.rest = HashMap::new();
        }
        removed
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (RequestKey, &Active)> {
        let first = self.first.iter().map(|(key, active)| (*key, active));
        first.chain(self.rest.iter().map(|(key, active)| (*key, active)))
    }

    /// Whether any was not ended.
    pub(super) fn any_live(&self) -> bool {
        self.iter().any(|(_, active)| !active.ended)
    }
}

/// A request or a connection that counts as long as this lives.
#[derive(Debug)]
pub(super) struct Counted(Arc<AtomicUsize>);

impl Counted {
    /// `None` when it is one too many.
    pub(super) fn new(count: &Arc<AtomicUsize>, most: usize) -> Option<Self> {
        let before = count.fetch_add(1, Ordering::Relaxed);
        let counted = Self(Arc::clone(count));
        (before < most).then_some(counted)
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}
