//! A pool's shared state behind one lock: who waits, what is idle or shared, and what is known of
//! the application. It carries out the decisions of [`fcgi_proto::pool`]. Waking callers and
//! closing connections run other code, so both are noted under the lock and done after it.

use std::{
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::Poll,
    time::{Duration, Instant},
};

use fcgi_proto::{
    Values,
    pool::{AcquireError, Action, ConnectionId, PoolPolicy, PoolStats, Release, Ticket},
};

use super::{Settings, counted::Counted, discovery::Discovery};
use crate::{
    Address, Error, Phase,
    client::Carrier,
    observe::{self, PoolEvent},
};

/// When the reaper looks again if nothing is due.
const FAR: Duration = Duration::from_secs(24 * 60 * 60);
/// How long the reaper stays while connections are in use, at least.
const LINGER: Duration = Duration::from_secs(1);

/// An adapter's connections and clock, and how its callers wait.
pub trait Pooled: Sized + 'static {
    /// A connection that carries one request at a time. Dropping it closes it.
    type Own: Carrier;
    /// A handle of a connection that several requests share.
    type Shared: Carrier + Clone;
    /// What waits: a waker, or a thread.
    type Who;

    /// The time.
    fn now(&self) -> Instant;
    /// Wakes a caller so that it looks again.
    fn wake(&self, who: Self::Who);
    /// Makes something call [`Desk::reap`] at the times that it returns, until it returns `None`. It
    /// closes idle connections, and ends waits for a connection.
    fn spawn_reaper(desk: &Arc<Desk<Self>>);
}

/// A connection from one request's point of view.
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

/// A pool's state, shared by its callers and its connections.
pub struct Desk<K: Pooled> {
    address: Address,
    name: Arc<str>,
    adapter: K,
    settings: Settings,
    /// The instant from which the policy's times count.
    epoch: Instant,
    state: Mutex<State<K>>,
}

struct State<K: Pooled> {
    policy: PoolPolicy,
    waiting: Counted<Ticket, Waiting<K::Who>>,
    idle: Counted<ConnectionId, K::Own>,
    shared: Counted<ConnectionId, K::Shared>,
    discovery: Discovery<K::Who>,
    /// When the reaper looks again, while it exists, and how to wake it.
    reaper: Option<(Duration, Option<K::Who>)>,
    todo: Todo<K>,
    /// Connections that are being closed outside of the lock. They still count.
    closing: usize,
}

/// A caller in the queue, or one that has not taken its result yet.
enum Waiting<W> {
    Queued(Option<W>),
    Granted { connection: ConnectionId, fresh: bool, who: Option<W> },
    TimedOut,
    Refused,
}

/// What to do once the lock is released.
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
                waiting: Counted::default(),
                idle: Counted::default(),
                shared: Counted::default(),
                discovery: Discovery::new(),
                reaper: None,
                todo: Todo::default(),
                closing: 0,
            }),
        }
    }

    /// The address of the application.
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

    /// The numbers of connections and callers.
    pub fn stats(&self) -> PoolStats {
        self.lock().policy.stats()
    }

    /// Takes no more callers, refuses those that wait, and closes idle connections.
    pub fn close(self: &Arc<Self>) {
        self.update(|state, _| state.policy.close());
    }

    // ---- A caller's turn -----------------------------------------------------------------------

    /// Joins the queue. Returns the ticket, the time, and an open connection if one was available
    /// at once.
    pub(super) fn acquire(self: &Arc<Self>) -> Result<(Ticket, Instant, Option<Turn<K>>), Error> {
        let at = self.adapter.now();
        let open = {
            let mut state = self.lock();
            let open = state.policy.acquire_open(at.saturating_duration_since(self.epoch));
            open.map(|(ticket, connection)| (ticket, at, Some(state.open(connection))))
        };
        // Nothing else is due then, and the reaper looks early enough.
        if let Some(open) = open {
            return Ok(open);
        }
        let acquired = self.update(|state, now| {
            let ticket = state.policy.acquire(now)?;
            state.waiting.insert(ticket, Waiting::Queued(None));
            Ok((ticket, self.epoch + now, None))
        });
        acquired.map_err(|error| match error {
            AcquireError::Full { waiting } => {
                observe::pool(PoolEvent::Full);
                Error::PoolFull { address: self.name(), waiting }
            }
            _ => Error::PoolClosed { address: self.name() },
        })
    }

    /// Ready once the caller has a connection, or will get none; `wait` records whom to wake.
    pub(super) fn poll_turn(
        &self,
        ticket: Ticket,
        wait: impl FnOnce(&mut Option<K::Who>),
    ) -> Poll<Result<Turn<K>, Error>> {
        // Dropped after the lock is released: the last waker of a task may drop the task.
        let _gone;
        let mut guard = self.lock();
        let state = &mut *guard;
        let full = state.is_full();
        match state.waiting.get_mut(&ticket) {
            Some(Waiting::Queued(who)) => {
                wait(who);
                return Poll::Pending;
            }
            // The connection that this one replaces is still being closed.
            Some(Waiting::Granted { fresh: true, who, .. }) if full => {
                wait(who);
                return Poll::Pending;
            }
            Some(&mut Waiting::Granted { connection, fresh, .. }) => {
                _gone = state.waiting.remove(&ticket);
                if fresh {
                    return Poll::Ready(Ok(Turn::Fresh));
                }
                return Poll::Ready(Ok(state.open(connection)));
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

    /// The caller left the queue, or did not use what it was granted.
    pub(super) fn cancel(self: &Arc<Self>, ticket: Ticket) {
        let gone = self.update(|state, now| {
            let gone = (state.waiting.remove(&ticket), state.discovery.leave(ticket));
            state.policy.cancel(ticket, now);
            gone
        });
        // Dropping the last waker of a task may drop the task and all that it holds: not under the lock.
        drop(gone);
    }

    /// The caller has opened its fresh connection. If it is a shared one, others may join.
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
            // Can't fail: it was granted to this ticket as a fresh one.
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
            (Some(Place::Own(own)), Release::Reusable) => match self.rest(ticket, own) {
                None => return,
                own => own,
            },
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
            // Can't fail: it was granted to this ticket.
            let _ = state.policy.release(ticket, how, now);
        });
    }

    /// The caller gives its connection back, and it becomes idle, if nothing else is to be done;
    /// otherwise it is returned.
    fn rest(self: &Arc<Self>, ticket: Ticket, own: K::Own) -> Option<K::Own> {
        let now = self.elapsed();
        let mut state = self.lock();
        let Some(connection) = state.policy.release_open(ticket, now) else { return Some(own) };
        state.idle.insert(connection, own);
        self.end_update(state);
        None
    }

    /// The caller's connection failed before the first byte of an answer. Returns the time.
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

    /// The application does not multiplex, whatever it reported. Returns the time.
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

    /// A shared connection takes no more requests: no new caller gets it from now on.
    pub fn handle_closed(self: &Arc<Self>, connection: ConnectionId) {
        self.update(|state, now| {
            state.close(connection);
            state.policy.handle_closed(connection, now);
        });
    }

    /// Closes a connection before another may be opened in its place.
    fn end(&self, place: Option<Place<K>>) {
        match place {
            Some(Place::Own(own)) => drop(own),
            Some(Place::Shared(mut shared)) => shared.close(),
            None => {}
        }
    }

    // ---- The application's capacity ------------------------------------------------------------

    /// The capacity that the application reported, if it was asked.
    pub fn values(&self) -> Option<Values> {
        self.lock().discovery.values()
    }

    /// Ready once a connection may be opened. If the application's capacity matters and is unknown,
    /// one caller gets `true` and must ask for it first, and the others wait.
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

    /// The application's answer, or `None` if it could not be asked.
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

    /// The application could not be asked. All who waited for its answer get this error.
    pub(super) fn fail_discovery(self: &Arc<Self>, error: &Error) {
        self.update(|state, _| state.todo.wake.extend(state.discovery.fail(error)));
    }

    /// How many concurrent requests a connection carries that is opened now.
    pub(super) fn requests_per_connection(&self) -> usize {
        self.values().map_or(1, |values| self.multiplexing(values))
    }

    fn multiplexing(&self, values: Values) -> usize {
        if values.mpxs_conns != Some(true) {
            return 1;
        }
        self.settings.multiplex.min(values.max_reqs.map_or(usize::MAX, |most| most as usize)).max(1)
    }

    // ---- Time ----------------------------------------------------------------------------------

    /// The reaper's turn: does what is due. Returns when to look again; the reaper may also be
    /// woken earlier. `None` ends the reaper.
    pub fn reap(&self, who: K::Who) -> Option<Instant> {
        let mut state = self.lock();
        let now = self.elapsed();
        state.carry_out(now);
        let next = state
            .policy
            .next_deadline()
            .or_else(|| state.linger(now, self.settings.limits.idle_timeout));
        state.reaper = next.map(|next| (next, Some(who)));
        self.finish(state);
        // A time too far ahead to add never comes.
        next.map(|next| self.epoch.checked_add(next).unwrap_or_else(|| self.adapter.now() + FAR))
    }

    /// The reaper has ended early, so another one may be spawned.
    pub fn reaper_gone(&self) {
        let gone = self.lock().reaper.take();
        drop(gone);
    }

    /// Reports something to the policy, then carries out its actions.
    fn update<T>(self: &Arc<Self>, tell: impl FnOnce(&mut State<K>, Duration) -> T) -> T {
        let now = self.elapsed();
        let mut state = self.lock();
        let told = tell(&mut state, now);
        state.carry_out(now);
        self.end_update(state);
        told
    }

    /// Makes sure that the reaper looks in time, and [finishes](Self::finish).
    fn end_update(self: &Arc<Self>, mut state: MutexGuard<'_, State<K>>) {
        let reap = state.schedule();
        self.finish(state);
        if reap {
            K::spawn_reaper(self);
        }
    }

    /// Releases the lock, then does what was noted under it. Connections are closed before the
    /// callers are woken that open others in their place.
    fn finish(&self, mut state: MutexGuard<'_, State<K>>) {
        /// Frees the places even if closing panics.
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
        // Nothing panics while the lock is held.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<K: Pooled> State<K> {
    /// Carries out the policy's actions in order.
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

    /// Takes a connection out of the pool. It is closed after the lock is released.
    fn close(&mut self, connection: ConnectionId) {
        self.todo.close.extend(self.idle.remove(&connection).map(Place::Own));
        self.todo.close.extend(self.shared.remove(&connection).map(Place::Shared));
    }

    /// Whether connections that are being closed leave no room for one that was granted.
    fn is_full(&self) -> bool {
        let connections = self.policy.stats().connections + self.closing;
        self.closing > 0 && connections > self.policy.max_connections()
    }

    /// The callers that waited for a place that is now free.
    fn with_place(&mut self) -> Vec<K::Who> {
        let granted = self.waiting.values_mut().filter_map(|waiting| match waiting {
            Waiting::Granted { who, .. } => who.take(),
            _ => None,
        });
        granted.collect()
    }

    /// The open connection that a caller was granted.
    fn open(&mut self, connection: ConnectionId) -> Turn<K> {
        let own = self.idle.remove(&connection).map(Place::Own);
        let shared = || self.shared.get(&connection).cloned().map(Place::Shared);
        own.or_else(shared).map_or(Turn::Gone, Turn::Open)
    }

    /// While connections are in use, the reaper stays although it has nothing to do. They will soon
    /// be idle again, and otherwise each request would start a reaper: a task or a thread. It looks
    /// again at the time that it already had, so that nobody has to wake it.
    fn linger(&self, now: Duration, idle_timeout: Duration) -> Option<Duration> {
        if self.policy.stats().connections == 0 {
            return None;
        }
        let known = self.reaper.as_ref().map(|(until, _)| *until).filter(|until| *until > now);
        known.or_else(|| now.checked_add(idle_timeout.max(LINGER)))
    }

    /// Makes sure that the reaper looks in time; true if there is no reaper yet.
    fn schedule(&mut self) -> bool {
        let Some(next) = self.policy.next_deadline() else { return false };
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
        // The tasks that move their bytes would keep them open.
        state.shared.drain().for_each(|(_, mut shared)| shared.close());
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
