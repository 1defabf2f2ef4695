//! Carries out what the policy says: who gets which connection, and when one is closed.

use std::{
    collections::HashMap,
    future::poll_fn,
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
    task::{Context, Poll, Waker},
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

use super::lease::Link;
use crate::{
    Address, Error, Phase,
    client::{Client, Connector, Mux},
    deadline::Deadline,
    runtime::Runtime,
    wakers::{wait, wake},
};

/// A pool, as its callers and its connections share it.
#[derive(Debug)]
pub(super) struct Inner<R: Runtime> {
    pub(super) address: Address,
    name: Arc<str>,
    pub(super) connector: Connector<R>,
    settings: Settings,
    /// The policy's times are since then.
    epoch: Instant,
    state: Mutex<State<R>>,
}

#[derive(Debug)]
struct State<R: Runtime> {
    policy: PoolPolicy,
    waiting: HashMap<Ticket, Waiting>,
    idle: HashMap<ConnectionId, Box<Client<R>>>,
    shared: HashMap<ConnectionId, Mux<R>>,
    values: Discovery,
    /// When the reaper looks again, while there is one.
    reaper: Option<Reaper>,
}

/// A caller in the queue.
#[derive(Debug)]
enum Waiting {
    Queued(Option<Waker>),
    Granted { connection: ConnectionId, fresh: bool },
    TimedOut,
    Refused,
}

/// What is known of the application's capacity.
#[derive(Debug)]
enum Discovery {
    Unknown,
    /// One caller asks; those who are to open a connection wait.
    Asking(Vec<Waker>),
    Known(Values),
}

/// The task that closes idle connections and ends waits when their time is up. It lives only while
/// there is something to wait for.
#[derive(Debug)]
struct Reaper {
    until: Duration,
    waker: Option<Waker>,
}

/// What a caller was granted.
pub(super) enum Granted<R: Runtime> {
    /// A connection for the caller to open.
    Fresh,
    /// One that is open.
    Open(Link<R>),
    /// One that has closed in the meantime.
    Gone,
}

impl<R: Runtime> Inner<R> {
    pub(super) fn new(address: Address, connector: Connector<R>, settings: Settings) -> Self {
        Self {
            name: address.to_string().into(),
            address,
            connector,
            settings,
            epoch: R::now(),
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

    /// Joins the queue.
    pub(super) fn acquire(self: &Arc<Self>) -> Result<Ticket, Error> {
        let acquired = self.update(|state, now| {
            let ticket = state.policy.acquire(now)?;
            state.waiting.insert(ticket, Waiting::Queued(None));
            Ok(ticket)
        });
        acquired.map_err(|error| match error {
            AcquireError::Full { waiting } => {
                observe::pool(PoolEvent::Full);
                Error::PoolFull { address: self.name(), waiting }
            }
            _ => Error::PoolClosed { address: self.name() },
        })
    }

    /// Ready once the caller has a connection, or will not get one.
    pub(super) fn poll_granted(
        &self,
        cx: &mut Context<'_>,
        ticket: Ticket,
    ) -> Poll<Result<Granted<R>, Error>> {
        let mut guard = self.lock();
        let state = &mut *guard;
        match state.waiting.get_mut(&ticket) {
            Some(Waiting::Queued(waker)) => {
                wait(waker, cx);
                return Poll::Pending;
            }
            Some(&mut Waiting::Granted { connection, fresh }) => {
                state.waiting.remove(&ticket);
                if fresh {
                    return Poll::Ready(Ok(Granted::Fresh));
                }
                let own = state.idle.remove(&connection).map(Link::Own);
                let link = own.or_else(|| state.shared.get(&connection).cloned().map(Link::Shared));
                return Poll::Ready(Ok(link.map_or(Granted::Gone, Granted::Open)));
            }
            Some(Waiting::TimedOut) => {
                let (address, phase) = (self.name(), Phase::Acquire);
                let limit = self.settings.limits.wait_timeout.unwrap_or_default();
                observe::timed_out(Side::Client, phase, limit, &address);
                return Poll::Ready(Err(Error::Timeout { address, phase, limit }));
            }
            Some(Waiting::Refused) | None => {}
        }
        Poll::Ready(Err(Error::PoolClosed { address: self.name() }))
    }

    /// The caller left the queue, or has not used what it was granted.
    pub(super) fn cancel(self: &Arc<Self>, ticket: Ticket) {
        self.update(|state, now| {
            state.waiting.remove(&ticket);
            state.policy.cancel(ticket, now);
        });
    }

    /// The caller's fresh connection is open; if it is shared, others may join.
    pub(super) fn connected(
        self: &Arc<Self>,
        ticket: Ticket,
        link: &Link<R>,
    ) -> Option<ConnectionId> {
        self.update(|state, now| {
            let connection = state.policy.connection(ticket);
            if let (Some(connection), Link::Shared(mux)) = (connection, link) {
                state.shared.insert(connection, mux.clone());
            }
            // It was granted to this ticket as a fresh one.
            let _ = state.policy.connected(ticket, now);
            connection
        })
    }

    /// The caller gives its connection back.
    pub(super) fn release(self: &Arc<Self>, ticket: Ticket, link: Option<Link<R>>, how: Release) {
        let kept = match (link, how) {
            (Some(Link::Own(client)), Release::Reusable | Release::Unused) => Some(client),
            // Closed before another may be opened in its place.
            (link, Release::Closed) => {
                close(link);
                None
            }
            _ => None,
        };
        self.update(|state, now| {
            if let Some(connection) = state.policy.connection(ticket) {
                state.idle.extend(kept.map(|client| (connection, client)));
                if how == Release::Closed {
                    state.shared.remove(&connection);
                }
            }
            // It was granted to this ticket.
            let _ = state.policy.release(ticket, how, now);
        });
    }

    /// The caller's connection failed before the first byte of an answer.
    pub(super) fn retry(self: &Arc<Self>, ticket: Ticket, link: Option<Link<R>>) {
        // Closed before another is opened in its place.
        close(link);
        self.update(|state, now| {
            if let Some(connection) = state.policy.connection(ticket) {
                state.shared.remove(&connection);
            }
            if state.policy.retry(ticket, now).is_ok() {
                state.waiting.insert(ticket, Waiting::Queued(None));
            }
        });
    }

    /// The application does not multiplex, whatever it said.
    pub(super) fn retry_alone(self: &Arc<Self>, ticket: Ticket) {
        self.update(|state, now| {
            if let Discovery::Known(values) = &mut state.values {
                values.mpxs_conns = Some(false);
            }
            state.policy.set_multiplexing(1);
            if state.policy.retry_shared(ticket, now).is_ok() {
                state.waiting.insert(ticket, Waiting::Queued(None));
            }
        });
    }

    /// A shared connection has ended.
    pub(super) fn handle_closed(self: &Arc<Self>, connection: ConnectionId) {
        self.update(|state, now| {
            state.shared.remove(&connection);
            state.policy.handle_closed(connection, now);
        });
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

    /// Ready once a connection may be opened: at once unless it matters what the application's
    /// capacity is. True if the caller is to ask for it, one caller alone.
    pub(super) fn poll_discovery(&self, cx: &mut Context<'_>) -> Poll<bool> {
        let mut state = self.lock();
        match &mut state.values {
            _ if self.settings.multiplex <= 1 => Poll::Ready(false),
            Discovery::Known(_) => Poll::Ready(false),
            Discovery::Asking(waiting) => {
                if !waiting.iter().any(|waker| waker.will_wake(cx.waker())) {
                    waiting.push(cx.waker().clone());
                }
                Poll::Pending
            }
            Discovery::Unknown => {
                state.values = Discovery::Asking(Vec::new());
                Poll::Ready(true)
            }
        }
    }

    /// What the application said, or `None` if it could not be asked.
    pub(super) fn end_discovery(self: &Arc<Self>, values: Option<Values>) {
        self.update(|state, _| {
            let before = std::mem::replace(&mut state.values, Discovery::Unknown);
            match (before, values) {
                (Discovery::Asking(waiting), _) => waiting.into_iter().for_each(Waker::wake),
                (known @ Discovery::Known(_), None) => state.values = known,
                _ => {}
            }
            if let Some(values) = values {
                state.values = Discovery::Known(values);
                state.policy.set_multiplexing(self.multiplexing(values));
                if let Some(most) = values.max_conns {
                    state.policy.set_max_connections(most as usize);
                }
            }
        });
    }

    /// How many requests a connection that is opened now carries at once.
    pub(super) fn requests_per_connection(&self) -> usize {
        self.known_values().map_or(1, |values| self.multiplexing(values))
    }

    fn multiplexing(&self, values: Values) -> usize {
        if values.mpxs_conns != Some(true) {
            return 1;
        }
        self.settings.multiplex.min(values.max_reqs.map_or(usize::MAX, |most| most as usize)).max(1)
    }

    /// Tells the policy something, then does what it says.
    fn update<T>(self: &Arc<Self>, tell: impl FnOnce(&mut State<R>, Duration) -> T) -> T {
        let now = self.now();
        let mut state = self.lock();
        let told = tell(&mut state, now);
        state.carry_out(now);
        let reap = state.schedule();
        drop(state);
        if reap {
            R::spawn(reaper(Arc::downgrade(self)));
        }
        told
    }

    fn now(&self) -> Duration {
        R::now().saturating_duration_since(self.epoch)
    }

    fn lock(&self) -> MutexGuard<'_, State<R>> {
        // Nothing panics while it is held.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<R: Runtime> Drop for Inner<R> {
    fn drop(&mut self) {
        // Their tasks would keep them.
        self.lock().shared.drain().for_each(|(_, mux)| mux.close());
    }
}

/// Closes a connection: one that others share once these are done with it.
fn close<R: Runtime>(link: Option<Link<R>>) {
    if let Some(Link::Shared(mux)) = link {
        mux.close();
    }
}

impl<R: Runtime> State<R> {
    /// Does what the policy says, in its order: what is to be closed is, before another is opened
    /// in its place.
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
                    if let Some(mux) = self.shared.remove(&connection) {
                        mux.close();
                    }
                }
                _ => {}
            }
        }
    }

    fn answer(&mut self, ticket: Ticket, answer: Waiting) {
        if let Some(Waiting::Queued(mut waker)) = self.waiting.insert(ticket, answer) {
            wake(&mut waker);
        }
    }

    /// Sees to it that the reaper looks in time; true if there is none yet.
    fn schedule(&mut self) -> bool {
        let Some(next) = self.policy.next_deadline() else { return false };
        match &mut self.reaper {
            None => {
                self.reaper = Some(Reaper { until: next, waker: None });
                true
            }
            Some(reaper) => {
                if next < reaper.until {
                    reaper.until = next;
                    wake(&mut reaper.waker);
                }
                false
            }
        }
    }
}

/// Wakes up at the policy's deadlines, as long as there are any and the pool lives.
async fn reaper<R: Runtime>(pool: Weak<Inner<R>>) {
    /// Makes way for another reaper, however this one ends.
    struct Gone<R: Runtime>(Weak<Inner<R>>);
    impl<R: Runtime> Drop for Gone<R> {
        fn drop(&mut self) {
            if let Some(pool) = self.0.upgrade() {
                pool.lock().reaper = None;
            }
        }
    }
    let mut gone = Gone(pool);
    let mut deadline = Deadline::<R>::new();
    poll_fn(|cx| {
        loop {
            let Some(pool) = gone.0.upgrade() else { return Poll::Ready(()) };
            let mut state = pool.lock();
            state.carry_out(pool.now());
            let Some(next) = state.policy.next_deadline() else {
                state.reaper = None;
                // There may be another one from now on.
                gone.0 = Weak::new();
                return Poll::Ready(());
            };
            state.reaper = Some(Reaper { until: next, waker: Some(cx.waker().clone()) });
            let until = pool.epoch.checked_add(next);
            drop(state);
            if deadline.poll(cx, until, R::now()).is_pending() {
                return Poll::Pending;
            }
        }
    })
    .await;
}
