//! Who gets which connection, and when one is opened, kept, retried or closed.
//!
//! Cancelled, slow and broken requests meet in a connection pool, and tests with sockets don't show
//! its mistakes: a waiter that nobody wakes, a connection too many, a dead one handed on. So all
//! decisions of a pool are made here, without sockets, threads or a clock, and the adapters' pools
//! only carry them out. The caller passes all times, measured from an instant of its choice. A time
//! before an earlier one counts as that one.
//! # The rules
//! - Callers are served in the order in which they came; only the first in the queue is considered.
//!   A caller that retries gets its old place, before all callers that have had no connection yet.
//! - A caller opens the connection that it needs; none is opened in advance (Q-5). There are never
//!   more than [`PoolLimits::connections`], counting connections that are being opened, idle, or
//!   given up but still in use.
//! - The most recently used idle connection is used next, so that the others time out and free
//!   php-fpm's workers (Q-5).
//! - With [multiplexing](PoolPolicy::set_multiplexing), an open connection is filled before another
//!   is used: the one with the most requests that still has room, and of several the youngest. So
//!   few connections are in use and the others become idle. A connection is not shared while it is
//!   being opened.
//! - A connection that was given up, is too old or has carried enough requests gets no new caller.
//!   It is closed once its last caller has released it.
//!
//! # Carrying it out
//! After every call, and at [`next_deadline`](PoolPolicy::next_deadline), call
//! [`poll_action`](PoolPolicy::poll_action) until it returns `None`. Carry out the actions in that
//! order.
//!
//! ```
//! use core::time::Duration;
//! use fcgi_proto::pool::{Action, PoolLimits, PoolPolicy, PoolStats, Release};
//!
//! let ms = Duration::from_millis;
//! let mut limits = PoolLimits::default();
//! (limits.connections, limits.age) = (1, None);
//! let mut pool = PoolPolicy::new(limits);
//!
//! // The first caller opens the connection; the second waits for it.
//! let (first, second) = (pool.acquire(ms(0))?, pool.acquire(ms(1))?);
//! let Some(Action::Grant { ticket, connection, fresh: true }) = pool.poll_action(ms(1)) else {
//!     unreachable!()
//! };
//! assert_eq!(ticket, first);
//! assert_eq!(pool.poll_action(ms(1)), None);
//! pool.connected(first, ms(5))?;
//! pool.release(first, Release::Reusable, ms(20))?;
//! assert_eq!(
//!     pool.poll_action(ms(20)),
//!     Some(Action::Grant { ticket: second, connection, fresh: false })
//! );
//!
//! // It was dead: the second caller opens a new one, before all others.
//! pool.retry(second, ms(21))?;
//! let Some(Action::Grant { fresh: true, .. }) = pool.poll_action(ms(21)) else { unreachable!() };
//! pool.connected(second, ms(22))?;
//! pool.release(second, Release::Reusable, ms(40))?;
//!
//! // Nobody else comes: it is closed when the idle limit of 1.5 s ends.
//! assert_eq!(pool.poll_action(ms(40)), None);
//! assert_eq!(pool.next_deadline(), Some(ms(1540)));
//! assert!(matches!(pool.poll_action(ms(1540)), Some(Action::Close { .. })));
//! assert_eq!(pool.stats(), PoolStats::default());
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod action;
mod connections;
mod limits;
mod ordered;
mod slots;

use alloc::collections::{BTreeMap, BTreeSet};
use core::time::Duration;

pub use action::{AcquireError, Action, ConnectionId, PolicyMisuse, PoolStats, Release, Ticket};
pub use limits::PoolLimits;

use connections::{Connections, earlier};
use slots::Slots;

/// The decisions of a pool; see the [module](self).
///
/// - Commands: [`acquire`](Self::acquire), [`acquire_open`](Self::acquire_open),
///   [`connected`](Self::connected), [`release`](Self::release),
///   [`release_open`](Self::release_open), [`cancel`](Self::cancel), [`retry`](Self::retry),
///   [`retry_shared`](Self::retry_shared), [`close`](Self::close).
/// - Reports: [`handle_closed`](Self::handle_closed),
///   [`set_multiplexing`](Self::set_multiplexing),
///   [`set_max_connections`](Self::set_max_connections).
/// - Polls: [`poll_action`](Self::poll_action), [`next_deadline`](Self::next_deadline).
/// - Getters: [`stats`](Self::stats), [`connection`](Self::connection),
///   [`max_connections`](Self::max_connections), [`is_closed`](Self::is_closed).
///
/// Every call takes at most logarithmic time. Any order of calls is safe.
#[derive(Debug)]
pub struct PoolPolicy {
    limits: PoolLimits,
    /// The most connections, by the pool's own limit and by the peer's.
    connections_max: usize,
    /// Requests at once on one connection.
    multiplexing: usize,
    closed: bool,
    /// The latest time seen.
    now: Duration,
    /// Every caller that waits or has a connection, with that connection.
    callers: Slots<Option<ConnectionId>>,
    /// By ticket, which is the order of the queue. A caller that had a connection came before all
    /// that had none, so a retried ticket goes before them by its number.
    waiting: BTreeMap<Ticket, Waiting>,
    wait_ends: BTreeSet<(Duration, Ticket)>,
    connections: Connections,
}

#[derive(Clone, Copy, Debug)]
struct Waiting {
    need: Need,
    /// `None` without a limit.
    end: Option<Duration>,
}

/// Which connections will do.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Need {
    Any,
    /// One that nobody else has (Q-11).
    Alone,
    /// One that was never used (Q-10).
    Fresh,
}

impl PoolPolicy {
    /// A pool without connections.
    #[must_use]
    pub fn new(limits: PoolLimits) -> Self {
        Self {
            limits,
            connections_max: limits.connections.max(1),
            multiplexing: 1,
            closed: false,
            now: Duration::ZERO,
            callers: Slots::new(),
            waiting: BTreeMap::new(),
            wait_ends: BTreeSet::new(),
            connections: Connections::new(&limits),
        }
    }

    // ---- Commands ------------------------------------------------------------------------------

    /// A caller wants a connection and joins the end of the queue. `poll_action` reports when it
    /// has one.
    ///
    /// # Errors
    /// [`AcquireError::Full`] past [`PoolLimits::waiting`], and [`AcquireError::Closed`] after
    /// [`close`](Self::close).
    pub fn acquire(&mut self, now: Duration) -> Result<Ticket, AcquireError> {
        let now = self.tick(now);
        if self.closed {
            return Err(AcquireError::Closed);
        }
        let waiting = self.waiting.len();
        // A caller that will get a connection at once does not wait.
        if waiting >= self.limits.waiting && !(waiting == 0 && self.has_free(now)) {
            return Err(AcquireError::Full { waiting });
        }
        let ticket = Ticket(self.callers.insert(None));
        self.enqueue(ticket, Need::Any, now);
        Ok(ticket)
    }

    /// A caller wants a connection and gets an open one at once, if nobody waits and nothing else is
    /// due: [`acquire`](Self::acquire) and [`poll_action`](Self::poll_action) in one step. Returns
    /// `None` in every other case; call `acquire` then.
    pub fn acquire_open(&mut self, now: Duration) -> Option<(Ticket, ConnectionId)> {
        let now = self.tick(now);
        let is_free = !self.closed && self.waiting.is_empty();
        // Idle ones above the limit are closed first.
        let too_many = self.connections.len() > self.connections_max && self.connections.idle() > 0;
        if !is_free || too_many || self.connections.is_due(now) {
            return None;
        }
        let connection = self.open_one(now)?;
        self.connections.lease(connection, false);
        Some((Ticket(self.callers.insert(Some(connection))), connection))
    }

    /// The caller has opened its connection. Its age counts from now, and others may share it if
    /// [multiplexing](Self::set_multiplexing) is on.
    ///
    /// # Errors
    /// [`PolicyMisuse`] if the ticket has no connection, or one that was open before.
    pub fn connected(&mut self, ticket: Ticket, now: Duration) -> Result<(), PolicyMisuse> {
        let now = self.tick(now);
        let connection = self.lease(ticket)?;
        if self.connections.connected(connection, now) {
            Ok(())
        } else {
            Err(PolicyMisuse::AlreadyConnected(ticket))
        }
    }

    /// The caller gives its connection back. It goes to the next caller or becomes idle, unless a
    /// limit ends it; `poll_action` then says to close it.
    ///
    /// # Errors
    /// [`PolicyMisuse`] if the ticket has no connection, or its connection was never open but is
    /// given back as reusable.
    pub fn release(
        &mut self,
        ticket: Ticket,
        how: Release,
        now: Duration,
    ) -> Result<(), PolicyMisuse> {
        self.end_lease(ticket, how, now)?;
        self.callers.remove(ticket.0);
        Ok(())
    }

    /// The caller gives its connection back as [`Release::Reusable`], and it becomes idle, if nobody
    /// waits and nothing is to be done then: [`release`](Self::release) and
    /// [`poll_action`](Self::poll_action) in one step. Returns `None`, and changes nothing, in every
    /// other case; call `release` then.
    pub fn release_open(&mut self, ticket: Ticket, now: Duration) -> Option<ConnectionId> {
        let now = self.tick(now);
        let connection = self.lease(ticket).ok()?;
        let is_free = !self.closed
            && self.waiting.is_empty()
            && self.connections.len() <= self.connections_max
            && self.connections.idle() < self.limits.idle;
        if !is_free || self.connections.is_due(now) || !self.connections.rest(connection, now) {
            return None;
        }
        self.callers.remove(ticket.0);
        Some(connection)
    }

    /// The caller gives its connection back, but stays a caller.
    fn end_lease(
        &mut self,
        ticket: Ticket,
        how: Release,
        now: Duration,
    ) -> Result<(), PolicyMisuse> {
        let now = self.tick(now);
        let connection = self.lease(ticket)?;
        if how == Release::Reusable && !self.connections.is_open(connection) {
            return Err(PolicyMisuse::NotConnected(ticket));
        }
        self.set_connection(ticket, None);
        self.connections.end_lease(connection, how, now);
        Ok(())
    }

    /// The caller left without sending anything. This takes it out of the queue, or releases its
    /// connection as [`Release::Unused`]. False if the ticket has ended already.
    ///
    /// A caller that has sent part of its request calls [`release`](Self::release) with
    /// [`Release::Closed`] instead.
    pub fn cancel(&mut self, ticket: Ticket, now: Duration) -> bool {
        let now = self.tick(now);
        if self.dequeue(ticket).is_some() {
            self.callers.remove(ticket.0);
            return true;
        }
        self.release(ticket, Release::Unused, now).is_ok()
    }

    /// The caller's connection failed before the first byte of an answer. Most likely it was a kept
    /// one that the peer had closed (Q-10). It is given up as by [`Release::Closed`], and the
    /// ticket waits for a newly opened one, before all callers that have had no connection yet. If
    /// only idle connections stand in the way, one of them is closed. The wait limit starts again.
    /// The caller decides how often to retry.
    ///
    /// # Errors
    /// [`PolicyMisuse`] if the ticket has no connection.
    pub fn retry(&mut self, ticket: Ticket, now: Duration) -> Result<(), PolicyMisuse> {
        let now = self.tick(now);
        self.end_lease(ticket, Release::Closed, now)?;
        self.enqueue(ticket, Need::Fresh, now);
        Ok(())
    }

    /// The peer refused the caller's request with CANT_MPX_CONN because the connection carries
    /// others (Q-11). Those go on, but no new caller joins them until all have ended. The ticket
    /// waits for a connection that it does not have to share, before all callers that have had no
    /// connection yet. The wait limit starts again.
    ///
    /// If the pool multiplexes, also call [`set_multiplexing(1)`](Self::set_multiplexing).
    ///
    /// # Errors
    /// [`PolicyMisuse`] if the ticket has no connection, or one that was never open.
    pub fn retry_shared(&mut self, ticket: Ticket, now: Duration) -> Result<(), PolicyMisuse> {
        let now = self.tick(now);
        let connection = self.lease(ticket)?;
        // The end of the last lease undoes this, and that may be this lease.
        if self.connections.is_open(connection) {
            self.connections.set_alone(connection);
        }
        self.end_lease(ticket, Release::Reusable, now)?;
        self.enqueue(ticket, Need::Alone, now);
        Ok(())
    }

    /// Closes the pool: idle connections are closed now and the others when they are released.
    /// Callers that wait or retry are refused.
    pub fn close(&mut self) {
        self.closed = true;
    }

    // ---- Reports -------------------------------------------------------------------------------

    /// The peer closed a connection, idle or in use. It gets no new callers; those who have it
    /// release or retry as usual. False if there is no such connection, or if it is still being
    /// opened: its caller reports that failure with [`Release::Closed`].
    pub fn handle_closed(&mut self, connection: ConnectionId, now: Duration) -> bool {
        self.tick(now);
        self.connections.handle_closed(connection)
    }

    /// Sets how many requests a connection may carry at once. The default is 1: connections are not
    /// shared. 0 counts as 1. Set more for a peer that reports `FCGI_MPXS_CONNS=1` (Q-10). The
    /// number may go down at any time (Q-11): connections with more requests get no new ones.
    pub fn set_multiplexing(&mut self, requests: usize) {
        self.multiplexing = requests.max(1);
        if self.multiplexing > 1 {
            self.connections.share();
        }
    }

    /// Sets how many connections the peer takes, as FCGI_MAX_CONNS reports; 0 counts as 1. The pool
    /// never has more than this and [`PoolLimits::connections`]. If it has more now, idle ones are
    /// closed at once, and the others when they are released.
    pub fn set_max_connections(&mut self, connections: usize) {
        self.connections_max = connections.min(self.limits.connections).max(1);
    }

    // ---- Polls ---------------------------------------------------------------------------------

    /// What to do now. Call it after every other call and at
    /// [`next_deadline`](Self::next_deadline), until it returns `None`.
    pub fn poll_action(&mut self, now: Duration) -> Option<Action> {
        let now = self.tick(now);
        if let Some(connection) = self.connections.pop_due(now) {
            return Some(Action::Close { connection });
        }
        if self.closed || self.connections.len() > self.connections_max {
            if let Some(connection) = self.connections.pop_oldest_idle() {
                return Some(Action::Close { connection });
            }
        }
        if self.closed {
            let ticket = *self.waiting.first_key_value()?.0;
            self.dequeue(ticket);
            self.callers.remove(ticket.0);
            return Some(Action::Refused { ticket });
        }
        self.grant(now).or_else(|| self.time_out(now)).or_else(|| self.close_idle())
    }

    /// When [`poll_action`](Self::poll_action) will have something to do if nothing else happens:
    /// the earliest end of an idle limit, of an idle connection's age, or of a wait. Ask once
    /// `poll_action` returns `None`.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Duration> {
        let wait = self.wait_ends.first().map(|(end, _)| *end);
        earlier(wait, self.connections.next_deadline())
    }

    /// Gives the first caller in the queue what it needs, or makes room for it.
    fn grant(&mut self, now: Duration) -> Option<Action> {
        let (&ticket, &Waiting { need, .. }) = self.waiting.first_key_value()?;
        let reused = match need {
            Need::Any => self.open_one(now),
            Need::Alone => self.connections.newest_idle(),
            Need::Fresh => None,
        };
        let connection = match reused {
            Some(connection) => {
                self.connections.lease(connection, need == Need::Alone);
                connection
            }
            None if self.connections.len() < self.connections_max => {
                self.connections.open(need == Need::Alone)
            }
            // There are idle ones here only if the ticket needs a fresh one.
            None => {
                let connection = self.connections.pop_oldest_idle()?;
                return Some(Action::Close { connection });
            }
        };
        self.dequeue(ticket);
        self.set_connection(ticket, Some(connection));
        Some(Action::Grant { ticket, connection, fresh: reused.is_none() })
    }

    /// An open connection for any caller: one in use with room, otherwise an idle one.
    fn open_one(&mut self, now: Duration) -> Option<ConnectionId> {
        let room = self.connections.room(self.multiplexing, now);
        room.or_else(|| self.connections.newest_idle())
    }

    fn time_out(&mut self, now: Duration) -> Option<Action> {
        let &(_, ticket) = self.wait_ends.first().filter(|(end, _)| *end <= now)?;
        self.dequeue(ticket);
        self.callers.remove(ticket.0);
        Some(Action::TimedOut { ticket })
    }

    fn close_idle(&mut self) -> Option<Action> {
        if self.connections.idle() <= self.limits.idle {
            return None;
        }
        let connection = self.connections.pop_oldest_idle()?;
        Some(Action::Close { connection })
    }

    // ---- Getters -------------------------------------------------------------------------------

    /// The numbers of connections and callers.
    #[must_use]
    pub fn stats(&self) -> PoolStats {
        PoolStats {
            connections: self.connections.len() + self.connections.closing(),
            idle: self.connections.idle(),
            active: self.callers.len() - self.waiting.len(),
            waiting: self.waiting.len(),
        }
    }

    /// The connection that the ticket was granted and has not released.
    #[must_use]
    pub fn connection(&self, ticket: Ticket) -> Option<ConnectionId> {
        self.callers.get(ticket.0).copied().flatten()
    }

    /// The most connections that there may be: [`PoolLimits::connections`], or the peer's [own
    /// limit](Self::set_max_connections) if it is lower.
    #[must_use]
    pub fn max_connections(&self) -> usize {
        self.connections_max
    }

    /// Whether [`close`](Self::close) was called.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.closed
    }

    // ---- Parts ---------------------------------------------------------------------------------

    fn tick(&mut self, now: Duration) -> Duration {
        self.now = self.now.max(now);
        self.now
    }

    fn lease(&self, ticket: Ticket) -> Result<ConnectionId, PolicyMisuse> {
        match self.callers.get(ticket.0) {
            Some(Some(connection)) => Ok(*connection),
            Some(None) => Err(PolicyMisuse::NotGranted(ticket)),
            None => Err(PolicyMisuse::UnknownTicket(ticket)),
        }
    }

    fn set_connection(&mut self, ticket: Ticket, connection: Option<ConnectionId>) {
        if let Some(caller) = self.callers.get_mut(ticket.0) {
            *caller = connection;
        }
    }

    /// Whether the first caller in the queue could have a connection at once: a shared one with
    /// room, an idle one, or a new one.
    fn has_free(&mut self, now: Duration) -> bool {
        self.connections.len() - self.connections.idle() < self.connections_max
            || self.connections.room(self.multiplexing, now).is_some()
    }

    fn enqueue(&mut self, ticket: Ticket, need: Need, now: Duration) {
        // A limit too large to add means no limit.
        let end = self.limits.wait_timeout.and_then(|limit| now.checked_add(limit));
        self.waiting.insert(ticket, Waiting { need, end });
        self.wait_ends.extend(end.map(|end| (end, ticket)));
    }

    fn dequeue(&mut self, ticket: Ticket) -> Option<Waiting> {
        let waiting = self.waiting.remove(&ticket)?;
        if let Some(end) = waiting.end {
            self.wait_ends.remove(&(end, ticket));
        }
        Some(waiting)
    }
}
