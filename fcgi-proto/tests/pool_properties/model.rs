//! The plain model: it keeps lists, searches them from end to end, and judges each action: whether
//! it was owed, whether it was allowed, and, when there is none, whether one was due.

use std::time::Duration;

use fcgi_proto::pool::{
    AcquireError, Action, ConnectionId, PolicyMisuse, PoolLimits, PoolPolicy, Release, Ticket,
};

#[derive(Clone, Copy, PartialEq, Debug)]
pub(crate) enum Need {
    Any,
    Alone,
    Fresh,
}

#[derive(Clone, Debug)]
pub(crate) struct Waiter {
    pub(crate) ticket: Ticket,
    pub(crate) need: Need,
    pub(crate) since: Duration,
}

#[derive(Clone, Debug)]
pub(crate) struct Conn {
    pub(crate) id: ConnectionId,
    pub(crate) callers: Vec<Ticket>,
    pub(crate) requests: u64,
    pub(crate) connected: Option<Duration>,
    pub(crate) last_use: (Duration, usize),
    pub(crate) given_up: bool,
    pub(crate) closed_by_peer: bool,
    pub(crate) alone: bool,
}

pub(crate) struct Model {
    pub(crate) limits: PoolLimits,
    pub(crate) max: usize,
    pub(crate) multiplexing: usize,
    pub(crate) closed: bool,
    pub(crate) now: Duration,
    pub(crate) uses: usize,
    pub(crate) queue: Vec<Waiter>,
    pub(crate) conns: Vec<Conn>,
    pub(crate) ever: Vec<Ticket>,
    pub(crate) ids: Vec<ConnectionId>,
}

impl Model {
    pub(crate) fn new(limits: PoolLimits) -> Self {
        Self {
            limits,
            max: limits.connections.max(1),
            multiplexing: 1,
            closed: false,
            now: Duration::ZERO,
            uses: 0,
            queue: Vec::new(),
            conns: Vec::new(),
            ever: Vec::new(),
            ids: Vec::new(),
        }
    }

    /// May it carry one more request?
    fn fit(&self, conn: &Conn) -> bool {
        let requests = self.limits.requests_per_connection.unwrap_or(u64::MAX).max(1);
        conn.connected.is_some_and(|at| self.limits.age.is_none_or(|age| self.now - at < age))
            && conn.requests < requests
            && !conn.given_up
            && !conn.closed_by_peer
            && !conn.alone
    }

    fn idle_and_fit(&self, conn: &Conn) -> bool {
        conn.callers.is_empty()
            && self.fit(conn)
            && self.now - conn.last_use.0 < self.limits.idle_timeout
    }

    /// Idle ones, the one used last at the end.
    fn idle(&self) -> Vec<&Conn> {
        let mut idle: Vec<_> = self.conns.iter().filter(|conn| self.idle_and_fit(conn)).collect();
        idle.sort_by_key(|conn| conn.last_use);
        idle
    }

    /// Without callers and unfit: to be closed before anything else.
    fn spent(&self) -> impl Iterator<Item = &Conn> {
        self.conns.iter().filter(|conn| conn.callers.is_empty() && !self.idle_and_fit(conn))
    }

    fn with_room(&self) -> Option<&Conn> {
        let used = self.conns.iter().filter(|conn| !conn.callers.is_empty() && self.fit(conn));
        used.filter(|conn| conn.callers.len() < self.multiplexing)
            .max_by_key(|conn| (conn.callers.len(), conn.id))
    }

    /// The open connection that the first in the queue gets, if it takes an open one.
    fn reusable(&self, need: Need) -> Option<&Conn> {
        let idle = || self.idle().last().copied();
        match need {
            Need::Any => self.with_room().or_else(idle),
            Need::Alone => idle(),
            Need::Fresh => None,
        }
    }

    /// Whether the first in the queue can be served, once the idle ones in its way are closed.
    fn can_serve(&self, need: Need) -> bool {
        let in_use = self.conns.iter().filter(|conn| !conn.callers.is_empty()).count();
        !self.closed && ((need == Need::Any && self.with_room().is_some()) || in_use < self.max)
    }

    fn late(&self, waiter: &Waiter) -> bool {
        self.limits.wait_timeout.is_some_and(|limit| self.now - waiter.since >= limit)
    }

    fn lease(&self, ticket: Ticket) -> Result<usize, PolicyMisuse> {
        if let Some(at) = self.conns.iter().position(|conn| conn.callers.contains(&ticket)) {
            return Ok(at);
        }
        let waits = self.queue.iter().any(|waiter| waiter.ticket == ticket);
        Err(if waits {
            PolicyMisuse::NotGranted(ticket)
        } else {
            PolicyMisuse::UnknownTicket(ticket)
        })
    }

    pub(crate) fn acquire(&self) -> Result<(), AcquireError> {
        if self.closed {
            return Err(AcquireError::Closed);
        }
        let waiting = self.queue.len();
        let served = waiting == 0 && self.can_serve(Need::Any);
        if waiting >= self.limits.waiting && !served {
            return Err(AcquireError::Full { waiting });
        }
        Ok(())
    }

    pub(crate) fn connected(&mut self, ticket: Ticket) -> Result<(), PolicyMisuse> {
        let at = self.lease(ticket)?;
        if self.conns[at].connected.is_some() {
            return Err(PolicyMisuse::AlreadyConnected(ticket));
        }
        self.uses += 1;
        self.conns[at].connected = Some(self.now);
        self.conns[at].last_use = (self.now, self.uses);
        Ok(())
    }

    pub(crate) fn release(&mut self, ticket: Ticket, how: Release) -> Result<(), PolicyMisuse> {
        let at = self.lease(ticket)?;
        let conn = &mut self.conns[at];
        if how == Release::Reusable && conn.connected.is_none() {
            return Err(PolicyMisuse::NotConnected(ticket));
        }
        conn.callers.retain(|caller| *caller != ticket);
        self.uses += 1;
        match how {
            Release::Reusable => conn.last_use = (self.now, self.uses),
            Release::Closed => conn.given_up = true,
            Release::Unused => conn.requests -= 1,
            _ => panic!("the model does not know {how:?}"),
        }
        if conn.callers.is_empty() {
            conn.alone = false;
            // Nothing is left to be closed.
            if how == Release::Closed || conn.closed_by_peer || conn.connected.is_none() {
                self.conns.remove(at);
            } else if !self.fit(&self.conns[at]) {
                // Time or a later change must not make it fit again.
                self.conns[at].given_up = true;
            }
        }
        Ok(())
    }

    /// Callers that had a connection wait before those that had none, the oldest first.
    pub(crate) fn retry(&mut self, ticket: Ticket, need: Need) -> Result<(), PolicyMisuse> {
        let at = self.lease(ticket)?;
        let how = if need == Need::Fresh { Release::Closed } else { Release::Reusable };
        if need == Need::Alone && self.conns[at].connected.is_some() {
            self.conns[at].alone = true;
        }
        self.release(ticket, how)?;
        let is_before = |waiter: &&Waiter| self.age_of(waiter.ticket) < self.age_of(ticket);
        let place = self.queue.iter().take_while(is_before).count();
        self.queue.insert(place, Waiter { ticket, need, since: self.now });
        Ok(())
    }

    fn age_of(&self, ticket: Ticket) -> usize {
        self.ever.iter().position(|known| *known == ticket).unwrap()
    }

    pub(crate) fn cancel(&mut self, ticket: Ticket) -> bool {
        let before = self.queue.len();
        self.queue.retain(|waiter| waiter.ticket != ticket);
        self.queue.len() < before || self.release(ticket, Release::Unused).is_ok()
    }

    pub(crate) fn handle_closed(&mut self, id: ConnectionId) -> bool {
        let Some(at) = self.conns.iter().position(|conn| conn.id == id) else { return false };
        let conn = &mut self.conns[at];
        if conn.connected.is_none() {
            return false;
        }
        conn.closed_by_peer = true;
        if conn.callers.is_empty() {
            self.conns.remove(at);
        }
        true
    }

    /// Judges an action and takes it over.
    pub(crate) fn action(&mut self, action: Action) {
        match action {
            Action::Grant { ticket, connection, fresh } => self.granted(ticket, connection, fresh),
            Action::Close { connection } => self.close(connection),
            Action::Refused { ticket } => {
                assert!(self.closed, "refused by an open pool");
                assert_eq!(self.queue.remove(0).ticket, ticket, "refused out of order");
            }
            Action::TimedOut { ticket } => {
                assert!(!self.can_serve(self.queue[0].need), "timed out beside a free connection");
                let at = self.queue.iter().position(|waiter| waiter.ticket == ticket);
                let waiter = self.queue.remove(at.expect("timed out without waiting"));
                assert!(self.late(&waiter), "timed out early");
            }
            other => panic!("{other:?}"),
        }
    }

    fn granted(&mut self, ticket: Ticket, id: ConnectionId, fresh: bool) {
        assert!(!self.closed, "granted by a closed pool");
        let waiter = self.queue.remove(0);
        assert_eq!(waiter.ticket, ticket, "granted out of order");
        let reusable = self.reusable(waiter.need).map(|conn| conn.id);
        if fresh {
            assert_eq!(reusable, None, "opened one for nothing");
            assert!(!self.ids.contains(&id), "an id was used again");
            self.ids.push(id);
            self.conns.push(Conn {
                id,
                callers: vec![ticket],
                requests: 1,
                connected: None,
                last_use: (self.now, 0),
                given_up: false,
                closed_by_peer: false,
                alone: waiter.need == Need::Alone,
            });
            assert!(self.conns.len() <= self.max, "too many connections");
        } else {
            assert_eq!(Some(id), reusable, "the wrong connection for {waiter:?}");
            let conn = self.conns.iter_mut().find(|conn| conn.id == id).unwrap();
            conn.callers.push(ticket);
            conn.requests += 1;
            conn.alone |= waiter.need == Need::Alone;
        }
    }

    fn close(&mut self, id: ConnectionId) {
        let at = self.conns.iter().position(|conn| conn.id == id).expect("closed twice");
        assert!(self.conns[at].callers.is_empty(), "closed while in use");
        if self.idle_and_fit(&self.conns[at]) {
            assert_eq!(self.spent().count(), 0, "a spent one is closed first");
            assert_eq!(self.idle()[0].id, id, "not the one idle for longest");
            let head = self.queue.first().map(|waiter| waiter.need);
            let in_the_way = head == Some(Need::Fresh) && self.conns.len() >= self.max;
            let too_many = self.idle().len() > self.limits.idle
                && head.is_none_or(|need| !self.can_serve(need));
            assert!(
                self.closed || self.conns.len() > self.max || in_the_way || too_many,
                "closed for nothing"
            );
        }
        self.conns.remove(at);
    }

    /// Nothing is left to do, so nothing may be due.
    pub(crate) fn at_rest(&self, pool: &PoolPolicy) {
        assert_eq!(self.spent().count(), 0, "a connection is left open");
        if let Some(head) = self.queue.first() {
            assert!(!self.can_serve(head.need), "a lost wake-up of {head:?}");
        }
        assert!(!self.closed || self.queue.is_empty(), "waits at a closed pool");
        assert!(!self.queue.iter().any(|waiter| self.late(waiter)), "waits for too long");
        let idle = self.idle();
        assert!(idle.len() <= self.limits.idle && (!self.closed || idle.is_empty()));
        assert!(self.conns.len() <= self.max || idle.is_empty());
        assert_eq!(pool.stats().idle, idle.len());
        let ends = idle.iter().flat_map(|conn| {
            let age = self.limits.age.and_then(|age| conn.connected?.checked_add(age));
            [conn.last_use.0.checked_add(self.limits.idle_timeout), age]
        });
        let waits = self.queue.iter().map(|w| w.since.checked_add(self.limits.wait_timeout?));
        let next = ends.chain(waits).flatten().min();
        assert_eq!(pool.next_deadline(), next);
        assert!(next.is_none_or(|next| next > self.now), "would be polled for ever");
    }
}
