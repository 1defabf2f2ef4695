//! Carries out what the policy says: who gets which connection, and when one is closed.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
    thread::{self, Thread},
    time::{Duration, Instant},
};

use fcgi_engine::{
    observe::{self, PoolEvent, Side},
    pool::Settings,
};
use fcgi_proto::{
    Values,
    pool::{AcquireError, Action, ConnectionId, PoolPolicy, PoolStats, Release, Ticket},
};

use super::lease::{Patience, Place};
use crate::{
    Address, Error, Phase,
    client::{Connector, Wake, link::Link, mux::Mux, wait::park},
};

/// A pool, as its callers and its connections share it.
#[derive(Debug)]
pub(super) struct Inner {
    pub(super) address: Address,
    name: Arc<str>,
    pub(super) connector: Connector,
    settings: Settings,
    /// The policy's times are since then.
    epoch: Instant,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    policy: PoolPolicy,
    waiting: HashMap<Ticket, Waiting>,
    idle: HashMap<ConnectionId, Box<Link>>,
    shared: HashMap<ConnectionId, Mux>,
    values: Discovery,
    reaper: Option<Reaper>,
}

/// A caller in the queue.
#[derive(Debug)]
enum Waiting {
    Queued(Option<Thread>),
    Granted { connection: ConnectionId, fresh: bool },
    TimedOut,
    Refused,
}

/// What is known of the application's capacity.
#[derive(Clone, Copy, Debug)]
enum Discovery {
    Unknown,
    Asking,
    Known(Values),
}

/// The thread that closes idle connections when their time is up. It lives only while there are
/// some.
#[derive(Debug)]
struct Reaper {
    /// When it looks again.
    until: Duration,
    thread: Thread,
}

/// What a caller was granted.
pub(super) enum Granted {
    /// A connection for the caller to open.
    Fresh,
    /// One that is open.
    Open(Place),
    /// One that has closed in the meantime.
    Gone,
}

impl Inner {
    pub(super) fn new(address: Address, connector: Connector, settings: Settings) -> Self {
        Self {
            name: address.to_string().into(),
            address,
            connector,
            settings,
            epoch: Instant::now(),
            state: Mutex::new(State {
                policy: PoolPolicy::new(settings.limits),
                waiting: HashMap::new(),
                idle: HashMap::new(),
                shared: HashMap::new(),
                values: Discovery::Unknown,
                reaper: None,
            }),
        }
    }

    pub(super) fn name(&self) -> Arc<str> {
        Arc::clone(&self.name)
    }

    pub(super) fn stats(&self) -> PoolStats {
        self.lock().policy.stats()
    }

    /// Joins the queue; says when.
    pub(super) fn acquire(self: &Arc<Self>) -> Result<(Ticket, Duration), Error> {
        let acquired = self.update(|state, now| {
            let ticket = state.policy.acquire(now)?;
            state.waiting.insert(ticket, Waiting::Queued(None));
            Ok((ticket, now))
        });
        acquired.map_err(|error| match error {
            AcquireError::Full { waiting } => {
                observe::pool(PoolEvent::Full);
                Error::PoolFull { address: self.name(), waiting }
            }
            _ => Error::PoolClosed { address: self.name() },
        })
    }

    /// Waits until the caller, who joined the queue then, has a connection, or will not get one.
    pub(super) fn granted(
        self: &Arc<Self>,
        ticket: Ticket,
        queued: Duration,
        patience: &Patience<'_>,
    ) -> Result<Granted, Error> {
        let cancel = patience.cancel;
        let _registration = cancel.map(|cancel| cancel.wakes(Wake::Park(thread::current())));
        let limit = self.settings.limits.wait_timeout;
        let end = limit.and_then(|limit| queued.checked_add(limit));
        let end = end.and_then(|end| self.epoch.checked_add(end));
        loop {
            if let Some(granted) = self.poll_granted(ticket)? {
                return Ok(granted);
            }
            patience.check(&self.name)?;
            park(patience.until(end));
            if end.is_some_and(|end| Instant::now() >= end) {
                // The policy says whether it is to be told, or has a connection just now.
                self.update(|_, _| ());
            }
        }
    }

    fn poll_granted(&self, ticket: Ticket) -> Result<Option<Granted>, Error> {
        let mut guard = self.lock();
        let state = &mut *guard;
        match state.waiting.get_mut(&ticket) {
            Some(Waiting::Queued(thread)) => {
                *thread = Some(thread::current());
                return Ok(None);
            }
            Some(&mut Waiting::Granted { connection, fresh }) => {
                state.waiting.remove(&ticket);
                if fresh {
                    return Ok(Some(Granted::Fresh));
                }
                let own = state.idle.remove(&connection).map(Place::Own);
                let shared = || state.shared.get(&connection).cloned().map(Place::Shared);
                return Ok(Some(own.or_else(shared).map_or(Granted::Gone, Granted::Open)));
            }
            Some(Waiting::TimedOut) => {
                let (address, phase) = (self.name(), Phase::Acquire);
                let limit = self.settings.limits.wait_timeout.unwrap_or_default();
                observe::timed_out(Side::Client, phase, limit, &address);
                return Err(Error::Timeout { address, phase, limit });
            }
            Some(Waiting::Refused) | None => {}
        }
        Err(Error::PoolClosed { address: self.name() })
    }

    /// The caller left the queue, or has not used what it was granted.
    pub(super) fn cancel(self: &Arc<Self>, ticket: Ticket) {
        self.update(|state, now| {
            state.waiting.remove(&ticket);
            state.policy.cancel(ticket, now);
        });
    }

    /// The caller's fresh connection is open; if it is shared, others may join.
    pub(super) fn connected(self: &Arc<Self>, ticket: Ticket, place: &Place) {
        self.update(|state, now| {
            let connection = state.policy.connection(ticket);
            if let (Some(connection), Place::Shared(mux)) = (connection, place) {
                state.shared.insert(connection, mux.clone());
            }
            // It was granted to this ticket as a fresh one.
            let _ = state.policy.connected(ticket, now);
        });
    }

    /// The caller gives its connection back.
    pub(super) fn release(self: &Arc<Self>, ticket: Ticket, place: Option<Place>, how: Release) {
        let kept = match (place, how) {
            (Some(Place::Own(link)), Release::Reusable | Release::Unused) => Some(link),
            // Closed before another one may be opened in its place.
            _ => None,
        };
        self.update(|state, now| {
            if let Some(connection) = state.policy.connection(ticket) {
                state.idle.extend(kept.map(|link| (connection, link)));
                if how == Release::Closed {
                    state.shared.remove(&connection);
                }
            }
            let _ = state.policy.release(ticket, how, now);
        });
    }

    /// The caller's connection, which was given up, failed before the first byte of an answer.
    /// Gives the time.
    pub(super) fn retry(self: &Arc<Self>, ticket: Ticket) -> Duration {
        self.update(|state, now| {
            state.retry(ticket, now);
            now
        })
    }

    /// The application does not multiplex, whatever it said. Gives the time.
    pub(super) fn retry_alone(self: &Arc<Self>, ticket: Ticket) -> Duration {
        self.update(|state, now| {
            if let Discovery::Known(values) = &mut state.values {
                values.mpxs_conns = Some(false);
            }
            state.policy.set_multiplexing(1);
            if state.policy.retry_shared(ticket, now).is_ok() {
                state.waiting.insert(ticket, Waiting::Queued(None));
            }
            now
        })
    }

    pub(super) fn close(self: &Arc<Self>) {
        self.update(|state, _| state.policy.close());
    }

    pub(super) fn known_values(&self) -> Option<Values> {
        match self.lock().values {
            Discovery::Known(values) => Some(values),
            _ => None,
        }
    }

    /// Whether the caller is to ask for the application's capacity before its request: only where
    /// it matters, and one caller alone.
    pub(super) fn begin_discovery(&self) -> bool {
        let mut state = self.lock();
        let ask = self.shares() && matches!(state.values, Discovery::Unknown);
        if ask {
            state.values = Discovery::Asking;
        }
        ask
    }

    /// What the application said, or `None` if it could not be asked.
    pub(super) fn end_discovery(self: &Arc<Self>, values: Option<Values>) {
        self.update(|state, _| match values {
            None if matches!(state.values, Discovery::Asking) => state.values = Discovery::Unknown,
            None => {}
            Some(values) => {
                state.values = Discovery::Known(values);
                state.policy.set_multiplexing(self.multiplexing(values));
                if let Some(most) = values.max_conns {
                    state.policy.set_max_connections(most as usize);
                }
            }
        });
    }

    /// Whether connections may come to be shared: also those that are opened before it is known.
    pub(super) fn shares(&self) -> bool {
        self.settings.multiplex > 1
    }

    /// How many requests a connection takes at once. Beside those that the policy lets share it
    /// there may be aborted ones that have not ended.
    pub(super) fn requests_per_connection(&self) -> usize {
        match self.settings.multiplex {
            0 | 1 => self.connector.settings.limits.requests.min(1),
            most => most.saturating_add(self.connector.settings.limits.tombstones),
        }
    }

    fn multiplexing(&self, values: Values) -> usize {
        if values.mpxs_conns != Some(true) {
            return 1;
        }
        self.settings.multiplex.min(values.max_reqs.map_or(usize::MAX, |most| most as usize)).max(1)
    }

    /// Tells the policy something, then does what it says.
    fn update<T>(self: &Arc<Self>, tell: impl FnOnce(&mut State, Duration) -> T) -> T {
        let now = self.now();
        let mut state = self.lock();
        let told = tell(&mut state, now);
        state.carry_out(now);
        self.schedule(&mut state);
        told
    }

    /// Sees to it that the reaper looks in time, if there is anything for it to do.
    fn schedule(self: &Arc<Self>, state: &mut State) {
        if state.policy.stats().idle == 0 {
            return;
        }
        let Some(next) = state.policy.next_deadline() else { return };
        match &mut state.reaper {
            Some(reaper) if reaper.until <= next => {}
            Some(reaper) => {
                reaper.until = next;
                reaper.thread.unpark();
            }
            None => {
                let pool = Arc::downgrade(self);
                let reaper = thread::Builder::new().name("fcgi-pool".to_owned());
                match reaper.spawn(move || reap(&pool)) {
                    Ok(reaper) => {
                        let thread = reaper.thread().clone();
                        state.reaper = Some(Reaper { until: next, thread });
                    }
                    // Idle connections are closed late, when the pool is used next.
                    Err(error) => tracing::warn!(%error, "no thread to close idle connections"),
                }
            }
        }
    }

    fn now(&self) -> Duration {
        self.epoch.elapsed()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Nothing panics while it is held.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        // It has nothing to wait for any more.
        if let Some(reaper) = &self.lock().reaper {
            reaper.thread.unpark();
        }
    }
}

impl State {
    /// Does what the policy says, in its order: what is closed is so before another is opened.
    fn carry_out(&mut self, now: Duration) {
        while let Some(action) = self.policy.poll_action(now) {
            match action {
                Action::Grant { ticket, connection, fresh } => {
                    self.answer(ticket, Waiting::Granted { connection, fresh });
                }
                Action::TimedOut { ticket } => self.answer(ticket, Waiting::TimedOut),
                Action::Refused { ticket } => self.answer(ticket, Waiting::Refused),
                Action::Close { connection } => {
                    self.idle.remove(&connection);
                    self.shared.remove(&connection);
                }
                _ => {}
            }
        }
    }

    fn answer(&mut self, ticket: Ticket, answer: Waiting) {
        if let Some(Waiting::Queued(Some(thread))) = self.waiting.insert(ticket, answer) {
            thread.unpark();
        }
    }

    fn retry(&mut self, ticket: Ticket, now: Duration) {
        if let Some(connection) = self.policy.connection(ticket) {
            self.shared.remove(&connection);
        }
        if self.policy.retry(ticket, now).is_ok() {
            self.waiting.insert(ticket, Waiting::Queued(None));
        }
    }
}

/// Sleeps from one of the policy's deadlines to the next, until there is no idle connection at one
/// of them, or no pool. A connection that is always used again costs a wake-up now and then, and no
/// new thread.
fn reap(pool: &Weak<Inner>) {
    loop {
        let Some(inner) = pool.upgrade() else { return };
        let mut state = inner.lock();
        let now = inner.now();
        state.carry_out(now);
        let next = state.policy.next_deadline().filter(|_| state.policy.stats().idle > 0);
        let Some(reaper) = &mut state.reaper else { return };
        if now >= reaper.until {
            let Some(next) = next else {
                state.reaper = None;
                return;
            };
            reaper.until = next;
        }
        let until = inner.epoch.checked_add(reaper.until);
        drop(state);
        drop(inner);
        park(until);
    }
}
