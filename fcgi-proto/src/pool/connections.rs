//! The connections of a pool, and the order in which they are used and closed.

use alloc::{collections::BTreeSet, vec::Vec};
use core::time::Duration;

use super::{ConnectionId, PoolLimits, Release, ordered::Ordered, slots::Slots};

/// When a connection was last used, and a number that tells equal times apart.
type Used = (Duration, u64);

#[derive(Debug)]
struct Connection {
    /// The callers that have it.
    leases: usize,
    /// Requests that it has carried and carries.
    requests: u64,
    /// When it was connected; `None` while it is being opened.
    opened: Option<Duration>,
    used: Used,
    fate: Fate,
    /// No new caller joins those who have it.
    alone: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Fate {
    /// It may carry more requests.
    Kept,
    /// It gets no new requests and is closed after the last.
    Doomed,
    /// The peer closed it, but callers still have it.
    Gone,
}

/// Every connection, and indexes that find the one to use or to close in O(log n).
#[derive(Debug)]
pub(super) struct Connections {
    idle_timeout: Duration,
    age: Option<Duration>,
    requests: u64,
    all: Slots<Connection>,
    /// In use and able to take more, by leases, once connections may be shared. Full ones are
    /// included, so that a change of the number of concurrent requests needs no change here.
    shared: BTreeSet<(usize, ConnectionId)>,
    /// Whether connections may be shared, now or later.
    shares: bool,
    /// Open, without leases.
    idle: Ordered<(Used, ConnectionId)>,
    /// The same connections by when they were connected, if age matters.
    aging: Ordered<(Duration, ConnectionId)>,
    /// Removed from `all`, but still to be closed.
    closing: BTreeSet<ConnectionId>,
    uses: u64,
}

impl Connections {
    pub(super) fn new(limits: &PoolLimits) -> Self {
        Self {
            idle_timeout: limits.idle_timeout,
            age: limits.age,
            requests: limits.requests_per_connection.map_or(u64::MAX, |requests| requests.max(1)),
            all: Slots::new(),
            shared: BTreeSet::new(),
            shares: false,
            idle: Ordered::new(),
            aging: Ordered::new(),
            closing: BTreeSet::new(),
            uses: 0,
        }
    }

    /// Allows connections to be shared from now on.
    pub(super) fn share(&mut self) {
        if !core::mem::replace(&mut self.shares, true) {
            let ids: Vec<ConnectionId> = self.all.keys().map(ConnectionId).collect();
            for id in ids {
                self.unindex(id);
                self.index(id);
            }
        }
    }

    /// Whether there is a connection to close now.
    pub(super) fn is_due(&self, now: Duration) -> bool {
        !self.closing.is_empty() || due(self.next_deadline(), now)
    }

    /// All connections except those about to be closed.
    pub(super) fn len(&self) -> usize {
        self.all.len()
    }

    pub(super) fn closing(&self) -> usize {
        self.closing.len()
    }

    pub(super) fn idle(&self) -> usize {
        self.idle.len()
    }

    /// The connection in use with the most leases, but fewer than `requests`; of several, the
    /// youngest.
    pub(super) fn room(&mut self, requests: usize, now: Duration) -> Option<ConnectionId> {
        loop {
            let &(_, id) = self.shared.range(..(requests, ConnectionId::MIN)).next_back()?;
            if !self.is_aged(self.all.get(id.0)?, now) {
                return Some(id);
            }
            self.change(id, |connection| connection.fate = Fate::Doomed);
        }
    }

    /// The most recently used one, so that the others time out.
    pub(super) fn newest_idle(&self) -> Option<ConnectionId> {
        self.idle.last().map(|(_, id)| id)
    }

    /// A connection that its first caller is about to open.
    pub(super) fn open(&mut self, alone: bool) -> ConnectionId {
        let used = (Duration::ZERO, 0);
        let connection =
            Connection { leases: 1, requests: 1, opened: None, used, fate: Fate::Kept, alone };
        ConnectionId(self.all.insert(connection))
    }

    /// One more caller for an open connection.
    pub(super) fn lease(&mut self, id: ConnectionId, alone: bool) {
        self.change(id, |connection| {
            connection.leases += 1;
            connection.requests += 1;
            connection.alone |= alone;
        });
    }

    /// False if it was open before.
    pub(super) fn connected(&mut self, id: ConnectionId, now: Duration) -> bool {
        let used = self.next_use(now);
        self.change(id, |connection| {
            let opening = connection.opened.is_none();
            if opening {
                (connection.opened, connection.used) = (Some(now), used);
            }
            opening
        })
        .unwrap_or(false)
    }

    pub(super) fn is_open(&self, id: ConnectionId) -> bool {
        self.all.get(id.0).is_some_and(|connection| connection.opened.is_some())
    }

    /// No new caller joins those who have it, until all have released it.
    pub(super) fn set_alone(&mut self, id: ConnectionId) {
        self.change(id, |connection| connection.alone = true);
    }

    /// A caller gives it back.
    pub(super) fn end_lease(&mut self, id: ConnectionId, how: Release, now: Duration) {
        let used = self.next_use(now);
        self.unindex(id);
        let Some(connection) = self.all.get_mut(id.0) else { return };
        connection.leases = connection.leases.saturating_sub(1);
        match how {
            Release::Reusable => connection.used = used,
            // `used` stays as it is: a peer that counts from the last request has seen none.
            Release::Unused => connection.requests = connection.requests.saturating_sub(1),
            Release::Closed if connection.fate == Fate::Kept => connection.fate = Fate::Doomed,
            Release::Closed => {}
        }
        if connection.leases == 0 {
            connection.alone = false;
            let closed = how == Release::Closed
                || connection.fate == Fate::Gone
                || connection.opened.is_none();
            let doomed = connection.fate == Fate::Doomed || connection.requests >= self.requests;
            // A connection that is too old is found among the idle ones later.
            if closed || doomed {
                self.all.remove(id.0);
                if !closed {
                    self.closing.insert(id);
                }
                return;
            }
        }
        self.index(id);
    }

    /// Its only caller gives it back, and it becomes idle. False, and nothing has changed, if it may
    /// be shared or must be closed.
    pub(super) fn rest(&mut self, id: ConnectionId, now: Duration) -> bool {
        let Some(connection) = self.all.get(id.0) else { return false };
        let rests = !self.shares
            && connection.leases == 1
            && connection.fate == Fate::Kept
            && connection.requests < self.requests
            && !self.idle_timeout.is_zero()
            && !self.is_aged(connection, now);
        let (true, Some(opened)) = (rests, connection.opened) else { return false };
        let used = self.next_use(now);
        if let Some(connection) = self.all.get_mut(id.0) {
            (connection.leases, connection.used, connection.alone) = (0, used, false);
        }
        self.rested(id, used, opened);
        true
    }

    /// False if there is no such open connection.
    pub(super) fn handle_closed(&mut self, id: ConnectionId) -> bool {
        if self.closing.remove(&id) {
            return true;
        }
        if !self.is_open(id) {
            return false;
        }
        let in_use = self.change(id, |connection| {
            connection.fate = Fate::Gone;
            connection.leases > 0
        });
        if in_use == Some(false) {
            self.remove_idle(id);
        }
        true
    }

    /// A connection that must be closed now, whatever else happens.
    pub(super) fn pop_due(&mut self, now: Duration) -> Option<ConnectionId> {
        if let Some(id) = self.closing.pop_first() {
            return Some(id);
        }
        let idle = self.idle.first().filter(|_| due(self.idle_end(), now));
        let aged = || self.aging.first().filter(|_| due(self.aging_end(), now));
        let id = idle.map(|(_, id)| id).or_else(|| aged().map(|(_, id)| id))?;
        self.remove_idle(id);
        Some(id)
    }

    /// The connection that has been idle longest, to be closed.
    pub(super) fn pop_oldest_idle(&mut self) -> Option<ConnectionId> {
        let (_, id) = self.idle.first()?;
        self.remove_idle(id);
        Some(id)
    }

    /// When the next idle connection must be closed.
    pub(super) fn next_deadline(&self) -> Option<Duration> {
        earlier(self.idle_end(), self.aging_end())
    }

    fn idle_end(&self) -> Option<Duration> {
        // A limit too large to add means no limit.
        self.idle.first()?.0.0.checked_add(self.idle_timeout)
    }

    fn aging_end(&self) -> Option<Duration> {
        self.aging.first()?.0.checked_add(self.age?)
    }

    fn is_aged(&self, connection: &Connection, now: Duration) -> bool {
        let end = connection.opened.zip(self.age).and_then(|(opened, age)| opened.checked_add(age));
        due(end, now)
    }

    fn next_use(&mut self, now: Duration) -> Used {
        self.uses += 1;
        (now, self.uses)
    }

    fn remove_idle(&mut self, id: ConnectionId) {
        self.unindex(id);
        self.all.remove(id.0);
    }

    /// Changes a connection and updates the indexes.
    fn change<T>(&mut self, id: ConnectionId, how: impl FnOnce(&mut Connection) -> T) -> Option<T> {
        self.unindex(id);
        let result = self.all.get_mut(id.0).map(how);
        self.index(id);
        result
    }

    fn unindex(&mut self, id: ConnectionId) {
        let Some(connection) = self.all.get(id.0) else { return };
        if connection.leases > 0 {
            if self.shares {
                self.shared.remove(&(connection.leases, id));
            }
        } else {
            self.idle.remove((connection.used, id));
            if let (Some(_), Some(opened)) = (self.age, connection.opened) {
                self.aging.remove((opened, id));
            }
        }
    }

    fn index(&mut self, id: ConnectionId) {
        let Some(connection) = self.all.get(id.0) else { return };
        let Some(opened) = connection.opened else { return };
        if connection.leases == 0 {
            self.rested(id, connection.used, opened);
        } else if self.shares
            && connection.fate == Fate::Kept
            && !connection.alone
            && connection.requests < self.requests
        {
            self.shared.insert((connection.leases, id));
        }
    }

    #[inline]
    fn rested(&mut self, id: ConnectionId, used: Used, opened: Duration) {
        self.idle.insert((used, id));
        if self.age.is_some() {
            self.aging.insert((opened, id));
        }
    }
}

/// The earlier of two times, of which there may be none.
#[inline]
pub(super) fn earlier(one: Option<Duration>, other: Option<Duration>) -> Option<Duration> {
    match (one, other) {
        (Some(one), Some(other)) => Some(one.min(other)),
        _ => one.or(other),
    }
}

#[inline]
fn due(end: Option<Duration>, now: Duration) -> bool {
    end.is_some_and(|end| end <= now)
}
