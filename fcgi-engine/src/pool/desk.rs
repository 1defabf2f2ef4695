//! A pool's desk: who waits, what is idle or shared, and what is known of the application, behind
//! one lock. It carries out what [`fcgi_proto::pool`] decides. Wake-ups, and the ends of
//! connections, run code of others: they are noted under the lock and done after it.

use std::{
    collections::HashMap,
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::Poll,
    time::{Duration, Instant},
};

use fcgi_proto::{
    RequestKey, Values,
    pool::{AcquireError, Action, ConnectionId, PoolPolicy, PoolStats, Release, Ticket},
};

use super::{Settings, discovery::Discovery};
use crate::{
    Address, Error, Phase,
    observe::{self, PoolEvent},
};

/// When the reaper looks again where it need not.
const FAR: Duration = Duration::from_secs(24 * 60 * 60);

/// An adapter's connections, its clock, and how its callers wait.
pub trait Pooled: Sized + 'static {
    /// A connection that carries one request at a time. Dropping it closes it.
    type Own;
    /// A handle of a connection that several requests share.
    type Shared: Clone;
    /// Who waits: a waker, a thread.
    type Who;
    /// Whether the reaper also ends the waits for a connection. Otherwise each caller looks at the
    /// clock itself, and calls [`Lease::handle_time`](super::Lease::handle_time).
    const ENDS_WAITS: bool;

    /// The time.
    fn now(&self) -> Instant;
    /// Has whoever waits look again.
    fn wake(&self, who: Self::Who);
    /// Whether a connection can carry a request now: it was not closed, and nothing came that
    /// nobody asked for (Q-10, H-11). A shared one in use is asked only whether it takes more.
    fn is_quiet(&self, place: &mut Place<Self>) -> bool;
    /// A shared connection keeps nothing of a request that has ended or was aborted.
    fn forget(&self, shared: &Self::Shared, key: RequestKey);
    /// Closes a shared connection once its requests are over.
    fn close(&self, shared: Self::Shared);
    /// Has somebody call [`Desk::reap`] at the times that it gives, until it gives `None`.
    fn spawn_reaper(desk: &Arc<Desk<Self>>);
}

/// A connection, as one request sees it.
pub enum Place<K: Pooled> {
    /// The request has the connection to itself.
    Own(K::Own),
    /// The request shares the connection with others.
    Shared(K::Shared),
}

/// What a caller was granted.
pub(super) enum Turn<K: Pooled> {
    /// A connection for the caller to open.
    Fresh,
    /// An open connection.
    Open(Place<K>),
    /// A connection that has closed in the meantime.
    Gone,
}

/// A pool, as its callers and its connections share it.
pub struct Desk<K: Pooled> {
    address: Address,
    name: Arc<str>,
    adapter: K,
    settings: Settings,
    /// The policy's times count from here.
    epoch: Instant,
    state: Mutex<State<K>>,
}

struct State<K: Pooled> {
    policy: PoolPolicy,
    waiting: HashMap<Ticket, Waiting<K::Who>>,
    idle: HashMap<ConnectionId, K::Own>,
    shared: HashMap<ConnectionId, K::Shared>,
    discovery: Discovery<K::Who>,
    /// When the reaper looks again, while there is one, and how to wake it.
    reaper: Option<(Duration, Option<K::Who>)>,
    todo: Todo<K>,
    /// Connections that are being closed outside of the lock. They still take a place.
    closing: usize,
}

/// A caller in the queue, or one that has not fetched its answer yet.
enum Waiting<W> {
    Queued(Option<W>),
    Granted { connection: ConnectionId, fresh: bool, who: Option<W> },
    TimedOut,
    Refused,
}

/// What is done once the lock is released.
struct Todo<K: Pooled> {
    close: Vec<Place<K>>,
    wake: Vec<K::Who>,
}

impl<K: Pooled> Desk<K> {
    /// A pool without a connection.
    pub fn new(address: Address, adapter: K, settings: Settings) -> Self {
        Self {
            name: address.to_string().into(),
            address,
            epoch: adapter.now(),
            adapter,
            settings,
            state: Mutex::new(State {
                policy: PoolPolicy::new(settings.limits),
                waiting: HashMap::new(),
                idle: HashMap::new(),
                shared: HashMap::new(),
                discovery: Discovery::new(),
                reaper: None,
                todo: Todo::default(),
                closing: 0,
            }),
        }
    }

    /// Where the application is.
    pub fn address(&self) -> &Address {
        &self.address
    }

    /// The address, for errors and logs.
    pub fn name(&self) -> Arc<str> {
        Arc::clone(&self.name)
    }

    /// The adapter's part.
    pub fn adapter(&self) -> &K {
        &self.adapter
    }

    /// The settings.
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// How many there are of each.
    pub fn stats(&self) -> PoolStats {
        self.lock().policy.stats()
    }

    /// Takes no more callers, refuses those that wait, and closes idle connections.
    pub fn close(self: &Arc<Self>) {
        self.update(|state, _| state.policy.close());
    }

    // ---- A caller's turn -----------------------------------------------------------------------

    /// Joins the queue; says when.
    pub(super) fn acquire(self: &Arc<Self>) -> Result<(Ticket, Instant), Error> {
        let acquired = self.update(|state, now| {
            let ticket = state.policy.acquire(now)?;
            state.waiting.insert(ticket, Waiting::Queued(None));
            Ok((ticket, self.epoch + now))
        });
        acquired.map_err(|error| match error {
            AcquireError::Full { waiting } => {
                observe::pool(PoolEvent::Full);
                Error::PoolFull { address: self.name(), waiting }
            }
            _ => Error::PoolClosed { address: self.name() },
        })
    }

    /// Ready once the caller has a connection, or will not get one; `wait` notes whom to wake.
    pub(super) fn poll_turn(
        &self,
        ticket: Ticket,
        wait: impl FnOnce(&mut Option<K::Who>),
    ) -> Poll<Result<Turn<K>, Error>> {
        let mut guard = self.lock();
        let state = &mut *guard;
        let full = state.is_full();
        match state.waiting.get_mut(&ticket) {
            Some(Waiting::Queued(who)) => {
                wait(who);
                return Poll::Pending;
            }
            // What this one takes the place of is still being closed.
            Some(Waiting::Granted { fresh: true, who, .. }) if full => {
                wait(who);
                return Poll::Pending;
            }
            Some(&mut Waiting::Granted { connection, fresh, .. }) => {
                state.waiting.remove(&ticket);
                if fresh {
                    return Poll::Ready(Ok(Turn::Fresh));
                }
                let own = state.idle.remove(&connection).map(Place::Own);
                let shared = || state.shared.get(&connection).cloned().map(Place::Shared);
                return Poll::Ready(Ok(own.or_else(shared).map_or(Turn::Gone, Turn::Open)));
            }
            Some(Waiting::TimedOut) => {
                drop(guard);
                let limit = self.settings.limits.wait_timeout.unwrap_or_default();
                let error = observe::client_timeout(self.name(), Phase::Acquire, limit);
                return Poll::Ready(Err(error));
            }
            Some(Waiting::Refused) | None => {}
        }
        Poll::Ready(Err(Error::PoolClosed { address: self.name() }))
    }

    /// The caller left the queue, or has not used what it was granted.
    pub(super) fn cancel(self: &Arc<Self>, ticket: Ticket) {
        let gone = self.update(|state, now| {
            let gone = (state.waiting.remove(&ticket), state.discovery.leave(ticket));
            state.policy.cancel(ticket, now);
            gone
        });
        // With the last waker of a task may go the task, and what it holds.
        drop(gone);
    }

    /// The caller's fresh connection is open; if it is shared, others may join.
    pub(super) fn connected(
        self: &Arc<Self>,
        ticket: Ticket,
        place: &Place<K>,
    ) -> Option<ConnectionId> {
        self.update(|state, now| {
            let connection = state.policy.connection(ticket);
            if let (Some(connection), Place::Shared(shared)) = (connection, place) {
                state.shared.insert(connection, shared.clone());
            }
            // It was granted to this ticket as a fresh one.
            let _ = state.policy.connected(ticket, now);
            connection
        })
    }

    /// The caller gives its connection back.
    pub(super) fn release(self: &Arc<Self>, ticket: Ticket, place: Option<Place<K>>, how: Release) {
        let kept = match (place, how) {
            (place, Release::Closed) => {
                self.end(place);
                None
            }
            (Some(Place::Own(own)), _) => Some(own),
            _ => None,
        };
        self.update(|state, now| {
            if let Some(connection) = state.policy.connection(ticket) {
                state.idle.extend(kept.map(|own| (connection, own)));
                if how == Release::Closed {
                    state.close(connection);
                }
            }
            // It was granted to this ticket.
            let _ = state.policy.release(ticket, how, now);
        });
    }

    /// The caller's connection failed before the first byte of an answer. Says when.
    pub(super) fn retry(self: &Arc<Self>, ticket: Ticket, place: Option<Place<K>>) -> Instant {
        self.end(place);
        self.update(|state, now| {
            if let Some(connection) = state.policy.connection(ticket) {
                state.close(connection);
            }
            if state.policy.retry(ticket, now).is_ok() {
                state.waiting.insert(ticket, Waiting::Queued(None));
            }
            self.epoch + now
        })
    }

    /// The application does not multiplex, whatever it said. Says when.
    pub(super) fn retry_alone(self: &Arc<Self>, ticket: Ticket) -> Instant {
        self.update(|state, now| {
            state.discovery.deny();
            state.policy.set_multiplexing(1);
            if state.policy.retry_shared(ticket, now).is_ok() {
                state.waiting.insert(ticket, Waiting::Queued(None));
            }
            self.epoch + now
        })
    }

    /// A shared connection takes no more requests: nobody is sent to it from now on.
    pub fn handle_closed(self: &Arc<Self>, connection: ConnectionId) {
        self.update(|state, now| {
            state.close(connection);
            state.policy.handle_closed(connection, now);
        });
    }

    /// A caller's time may be up.
    pub(super) fn handle_time(self: &Arc<Self>) {
        self.update(|_, _| ());
    }

    /// Closes a connection, before another may be opened in its place.
    fn end(&self, place: Option<Place<K>>) {
        match place {
            Some(Place::Own(own)) => drop(own),
            Some(Place::Shared(shared)) => self.adapter.close(shared),
            None => {}
        }
    }

    // ---- The application's capacity ------------------------------------------------------------

    /// What the application said of its capacity, if it was asked.
    pub fn values(&self) -> Option<Values> {
        self.lock().discovery.values()
    }

    /// Ready once a connection may be opened. Where the application's capacity matters and is not
    /// known, one caller asks for it first (`true`), and the others wait.
    pub(super) fn poll_discovery(
        &self,
        ticket: Ticket,
        wait: impl FnOnce(&mut Option<K::Who>),
    ) -> Poll<Result<bool, Error>> {
        if self.settings.multiplex <= 1 {
            return Poll::Ready(Ok(false));
        }
        self.lock().discovery.poll(ticket, wait)
    }

    /// What the application said, or `None` if it could not be asked.
    pub fn end_discovery(self: &Arc<Self>, values: Option<Values>) {
        self.update(|state, _| {
            state.todo.wake.extend(state.discovery.end(values));
            if let Some(values) = values {
                state.policy.set_multiplexing(self.multiplexing(values));
                if let Some(most) = values.max_conns {
                    state.policy.set_max_connections(most as usize);
                }
            }
        });
    }

    /// The application could not be asked: that holds for all who waited for its answer.
    pub(super) fn fail_discovery(self: &Arc<Self>, error: &Error) {
        self.update(|state, _| state.todo.wake.extend(state.discovery.fail(error)));
    }

    /// How many requests a connection that is opened now carries at once.
    pub fn requests_per_connection(&self) -> usize {
        self.values().map_or(1, |values| self.multiplexing(values))
    }

    fn multiplexing(&self, values: Values) -> usize {
        if values.mpxs_conns != Some(true) {
            return 1;
        }
        self.settings.multiplex.min(values.max_reqs.map_or(usize::MAX, |most| most as usize)).max(1)
    }

    // ---- Time ----------------------------------------------------------------------------------

    /// The reaper's turn: does what is due; gives the time to look again, at which it may also be
    /// woken before. `None` ends the reaper.
    pub fn reap(&self, who: K::Who) -> Option<Instant> {
        let mut state = self.lock();
        state.carry_out(self.elapsed());
        let next = state.deadline();
        state.reaper = next.map(|next| (next, Some(who)));
        self.finish(state);
        // A time that is too far to add never comes.
        next.map(|next| self.epoch.checked_add(next).unwrap_or_else(|| self.adapter.now() + FAR))
    }

    /// The reaper has ended before its time: there may be another.
    pub fn reaper_gone(&self) {
        let gone = self.lock().reaper.take();
        drop(gone);
    }

    /// Tells the policy something, then does what it says.
    fn update<T>(self: &Arc<Self>, tell: impl FnOnce(&mut State<K>, Duration) -> T) -> T {
        let now = self.elapsed();
        let mut state = self.lock();
        let told = tell(&mut state, now);
        state.carry_out(now);
        let reap = state.schedule();
        self.finish(state);
        if reap {
            K::spawn_reaper(self);
        }
        told
    }

    /// Releases the lock, and does what was noted under it: what is to be closed is, before who
    /// opens another in its place is woken.
    fn finish(&self, mut state: MutexGuard<'_, State<K>>) {
        /// Frees the places however the closing ends.
        struct Places<'a, K: Pooled>(&'a Desk<K>, usize);
        impl<K: Pooled> Drop for Places<'_, K> {
            fn drop(&mut self) {
                let mut state = self.0.lock();
                state.closing -= self.1;
                let wake = state.with_place();
                drop(state);
                wake.into_iter().for_each(|who| self.0.adapter.wake(who));
            }
        }
        let Todo { close, wake } = std::mem::take(&mut state.todo);
        state.closing += close.len();
        drop(state);
        if !close.is_empty() {
            let _places = Places(self, close.len());
            close.into_iter().for_each(|place| self.end(Some(place)));
        }
        wake.into_iter().for_each(|who| self.adapter.wake(who));
    }

    fn elapsed(&self) -> Duration {
        self.adapter.now().saturating_duration_since(self.epoch)
    }

    fn lock(&self) -> MutexGuard<'_, State<K>> {
        // Nothing panics while it is held.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<K: Pooled> State<K> {
    /// Does what the policy says, in its order.
    fn carry_out(&mut self, now: Duration) {
        while let Some(action) = self.policy.poll_action(now) {
            match action {
                Action::Grant { ticket, connection, fresh } => {
                    self.answer(ticket, Waiting::Granted { connection, fresh, who: None });
                }
                Action::TimedOut { ticket } => self.answer(ticket, Waiting::TimedOut),
                Action::Refused { ticket } => self.answer(ticket, Waiting::Refused),
                Action::Close { connection } => self.close(connection),
                _ => {}
            }
        }
    }

    fn answer(&mut self, ticket: Ticket, answer: Waiting<K::Who>) {
        if let Some(Waiting::Queued(who)) = self.waiting.insert(ticket, answer) {
            self.todo.wake.extend(who);
        }
    }

    /// Takes a connection out; it is closed after the lock.
    fn close(&mut self, connection: ConnectionId) {
        self.todo.close.extend(self.idle.remove(&connection).map(Place::Own));
        self.todo.close.extend(self.shared.remove(&connection).map(Place::Shared));
    }

    /// Whether those that are being closed are in the way of one that was granted.
    fn is_full(&self) -> bool {
        let connections = self.policy.stats().connections + self.closing;
        self.closing > 0 && connections > self.policy.max_connections()
    }

    /// Who has waited for a place that is free now.
    fn with_place(&mut self) -> Vec<K::Who> {
        let granted = self.waiting.values_mut().filter_map(|waiting| match waiting {
            Waiting::Granted { who, .. } => who.take(),
            _ => None,
        });
        granted.collect()
    }

    fn deadline(&self) -> Option<Duration> {
        let needed = K::ENDS_WAITS || self.policy.stats().idle > 0;
        self.policy.next_deadline().filter(|_| needed)
    }

    /// Sees to it that the reaper looks in time; true if there is none yet.
    fn schedule(&mut self) -> bool {
        let Some(next) = self.deadline() else { return false };
        let Some((until, who)) = &mut self.reaper else {
            self.reaper = Some((next, None));
            return true;
        };
        if next < *until {
            *until = next;
            self.todo.wake.extend(who.take());
        }
        false
    }
}

impl<K: Pooled> Default for Todo<K> {
    fn default() -> Self {
        Self { close: Vec::new(), wake: Vec::new() }
    }
}

impl<K: Pooled> Drop for Desk<K> {
    fn drop(&mut self) {
        let state = self.state.get_mut().unwrap_or_else(PoisonError::into_inner);
        // What moves their bytes would keep them.
        state.shared.drain().for_each(|(_, shared)| self.adapter.close(shared));
        // The reaper has nothing to wait for any more.
        let reaper = state.reaper.take().and_then(|(_, who)| who);
        reaper.into_iter().for_each(|who| self.adapter.wake(who));
    }
}

impl<K: Pooled> fmt::Debug for Place<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if matches!(self, Self::Own(_)) { "Own" } else { "Shared" })
    }
}

impl<K: Pooled> fmt::Debug for Desk<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pool")
            .field("address", &self.address)
            .field("stats", &self.stats())
            .finish_non_exhaustive()
    }
}
