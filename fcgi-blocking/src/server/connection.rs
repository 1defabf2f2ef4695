//! A connection's turns: its reads and writes, its time limits, its end.
//!
//! The leader serves a connection when its socket is ready or a limit passes. A handler's thread
//! takes the same steps, but for reading, when it writes, ends, or waits.

use std::{
    sync::{Arc, atomic::Ordering},
    time::Instant,
};

use fcgi_engine::{
    Phase,
    observe::{self, OpenConnection, Outcome, RequestLog, Side},
    pump::{self, Read, Wrote},
    server::LINGER,
    socket::{is_hung_up, shutdown_write},
};
use fcgi_proto::{Connection, RequestKey, ServerConnection};
use rustix::event::PollFlags;

use super::{
    Engine, Job,
    active::{Counted, Requests, Stop},
    shared::Shared,
};
use crate::stream::Stream;

/// What the state of a connection is, for whoever holds its lock.
#[derive(Debug)]
pub(super) struct Inner {
    pub(super) connection: ServerConnection,
    pub(super) requests: Requests,
    /// Requests that no thread was asked to run yet.
    pub(super) begun: Vec<Job>,
    /// Whether anybody waits for a flush.
    pub(super) flushing: bool,
    /// The peer broke the protocol.
    pub(super) failed: bool,
    /// What the leader goes by, and whether it will look again anyway.
    pub(super) told: Watch,
    pub(super) dirty: bool,
    /// Closed with the connection, whoever else has a handle to a request.
    stream: Option<Arc<Stream>>,
    /// Its place among the connections that are served.
    pub(super) place: Option<Counted>,
    open: Option<OpenConnection>,
    waiting: Phase,
    wait_until: Option<Instant>,
    /// A request has begun on this connection.
    pub(super) heard: bool,
    /// The socket is full: the leader says when it no longer is.
    write_blocked: bool,
    /// The peer takes no more, and the handlers run on all the same (W-8).
    gone: bool,
    /// There is nobody at the other end: the socket is to be closed.
    dead: bool,
    /// The peer has hung up, but what it has sent is still to be read.
    hung_up: bool,
    lingering: bool,
}

/// What the leader watches a connection for.
#[derive(Clone, Copy, Debug)]
pub(super) struct Watch {
    pub(super) events: PollFlags,
    pub(super) until: Option<Instant>,
    /// It is known to be hung up; telling that again and again would keep the leader from sleep.
    pub(super) hung_up: bool,
}

impl Inner {
    pub(super) fn new(engine: &Engine, stream: Arc<Stream>, open: OpenConnection) -> Self {
        let limit = engine.settings.limit(Phase::FirstRecord);
        Self {
            connection: ServerConnection::new(engine.config),
            requests: Requests::default(),
            begun: Vec::new(),
            flushing: false,
            failed: false,
            told: Watch { events: PollFlags::empty(), until: None, hung_up: false },
            dirty: false,
            stream: Some(stream),
            place: engine.place(),
            open: Some(open),
            waiting: Phase::FirstRecord,
            wait_until: limit.and_then(|limit| Instant::now().checked_add(limit)),
            heard: false,
            write_blocked: false,
            gone: false,
            dead: false,
            hung_up: false,
            lingering: false,
        }
    }

    /// Whether nothing is left to do but to close the socket.
    pub(super) fn is_over(&self) -> bool {
        !self.lingering && (self.dead || self.connection.is_closed())
    }

    /// Whether the socket was closed.
    pub(super) fn is_shut(&self) -> bool {
        self.stream.is_none()
    }

    pub(super) fn log(&mut self, key: RequestKey, f: impl FnOnce(&mut RequestLog)) {
        if let Some(log) = self.requests.get_mut(key).and_then(|active| active.log.as_mut()) {
            f(log);
        }
    }

    fn events(&self) -> PollFlags {
        if self.lingering {
            return PollFlags::IN;
        }
        let mut events = PollFlags::empty();
        if self.connection.wants_read() && !self.gone {
            events |= PollFlags::IN;
        }
        if self.write_blocked {
            events |= PollFlags::OUT;
        }
        events
    }

    /// What goes on has its time anew.
    pub(super) fn renew(&mut self) {
        (self.waiting, self.wait_until) = (Phase::Handler, None);
    }

    fn phase(&self) -> Phase {
        if self.write_blocked {
            Phase::Write
        } else if self.requests.any_live() {
            // It has a limit of its own.
            Phase::Handler
        } else if self.connection.active_requests() > 0 {
            Phase::Params
        } else if self.heard {
            Phase::NextRequest
        } else {
            Phase::FirstRecord
        }
    }
}

impl Shared {
    /// Hands every event to those who wait for it, and sends what is queued if `send` says so.
    pub(super) fn advance(self: &Arc<Self>, inner: &mut Inner, send: bool) {
        loop {
            self.drain_events(inner);
            if !send || inner.write_blocked || inner.lingering {
                return;
            }
            let wrote = match &inner.stream {
                Some(stream) if !inner.gone => {
                    pump::write(&mut stream.as_ref(), &mut inner.connection)
                }
                _ => pump::discard(&mut inner.connection),
            };
            match wrote {
                Wrote::Done { bytes: 0, blocked: false } => return,
                Wrote::Done { blocked: false, .. } => {
                    inner.renew();
                    if std::mem::take(&mut inner.flushing) {
                        inner.requests.iter().for_each(|(_, active)| active.wake());
                    }
                }
                Wrote::Done { bytes, .. } => {
                    inner.write_blocked = true;
                    if bytes > 0 {
                        inner.renew();
                    }
                }
                // The peer may leave before the last record (W-7).
                Wrote::Gone(_) => self.lose_peer(inner),
            }
        }
    }

    /// The peer is gone in both directions.
    fn lose_peer(&self, inner: &mut Inner) {
        inner.write_blocked = false;
        if self.engine.settings.cancel_on_disconnect {
            inner.connection.handle_disconnect();
            inner.dead = true;
        } else {
            inner.connection.handle_eof();
            inner.gone = true;
        }
    }

    /// What the leader should watch for, now.
    pub(super) fn watch(&self, inner: &mut Inner) -> Watch {
        if !inner.lingering {
            let phase = inner.phase();
            if phase != inner.waiting {
                inner.waiting = phase;
                // A request has its limit from its beginning.
                let limit = self.engine.settings.limit(phase).filter(|_| phase != Phase::Handler);
                inner.wait_until = limit.and_then(|limit| Instant::now().checked_add(limit));
            }
        }
        let live = inner.requests.iter().filter(|(_, active)| !active.ended);
        let until = live.filter_map(|(_, active)| active.stop_at).chain(inner.wait_until).min();
        Watch { events: inner.events(), until, hung_up: inner.hung_up || inner.gone }
    }

    /// The leader's turn: what the socket is ready for, and what is too late. Requests that have
    /// begun are added to `jobs`. `None` once the connection is closed.
    pub(super) fn serve(self: &Arc<Self>, ready: PollFlags, jobs: &mut Vec<Job>) -> Option<Watch> {
        let mut guard = self.lock();
        let inner = &mut *guard;
        inner.dirty = false;
        if inner.lingering {
            return self.linger(inner, ready);
        }
        let hung_up = ready.intersects(PollFlags::HUP | PollFlags::ERR);
        if hung_up || ready.contains(PollFlags::OUT) {
            inner.write_blocked = false;
        }
        self.advance(inner, true);
        if hung_up || ready.contains(PollFlags::IN) {
            self.receive(inner, hung_up);
        }
        let mut watch = self.watch(inner);
        if watch.until.is_some_and(|until| until <= Instant::now()) {
            self.on_time(inner);
            watch = self.watch(inner);
        }
        jobs.append(&mut inner.begun);
        if inner.is_over() {
            let Some(stream) = &inner.stream else { return None };
            let pending = !inner.dead && !inner.gone && inner.connection.is_input_pending();
            if !pending {
                return self.close(inner);
            }
            // Reads on for a while when the peer may still be sending, so that a close does not
            // become a reset that takes the response with it.
            shutdown_write(stream);
            inner.lingering = true;
            inner.wait_until = Instant::now().checked_add(LINGER);
            watch = self.watch(inner);
        }
        inner.told = watch;
        Some(watch)
    }

    fn receive(self: &Arc<Self>, inner: &mut Inner, hung_up: bool) {
        for _ in 0..pump::MAX_ROUNDS {
            let Some(stream) = &inner.stream else { return };
            match pump::read(&mut stream.as_ref(), &mut inner.connection) {
                Read::Nothing => break,
                Read::Some { more, .. } => {
                    self.advance(inner, true);
                    if !more {
                        return;
                    }
                }
                Read::Eof => {
                    if is_hung_up(stream) {
                        self.lose_peer(inner);
                    } else {
                        inner.connection.handle_eof();
                    }
                    return self.advance(inner, true);
                }
                Read::Gone(_) => {
                    self.lose_peer(inner);
                    return self.advance(inner, true);
                }
            }
        }
        // A paused connection would not come to its end of file (W-8).
        if hung_up && !inner.connection.wants_read() && !inner.dead {
            if self.engine.settings.cancel_on_disconnect {
                self.lose_peer(inner);
                self.advance(inner, true);
            } else {
                inner.hung_up = true;
            }
        }
    }

    /// Ends what has taken too long.
    fn on_time(self: &Arc<Self>, inner: &mut Inner) {
        let now = Instant::now();
        let late = |at: Option<Instant>| at.is_some_and(|at| at <= now);
        let overdue: Vec<_> = inner
            .requests
            .iter()
            .filter(|(_, active)| !active.ended && late(active.stop_at))
            .map(|(key, active)| (key, active.stop.is_some()))
            .collect();
        for (key, told) in overdue {
            if told {
                self.end_early(inner, key, Outcome::Aborted);
                continue;
            }
            let limit = self.engine.settings.handler.unwrap_or_default();
            observe::timed_out(Side::Server, Phase::Handler, limit, &self.peer);
            inner.stop(key, Stop::TimedOut);
            self.end_early(inner, key, Outcome::TimedOut(Phase::Handler));
        }
        if late(inner.wait_until) {
            let limit = self.engine.settings.limit(inner.waiting).unwrap_or_default();
            observe::timed_out(Side::Server, inner.waiting, limit, &self.peer);
            inner.connection.handle_disconnect();
            inner.dead = true;
        }
        self.advance(inner, true);
    }

    fn linger(&self, inner: &mut Inner, ready: PollFlags) -> Option<Watch> {
        let mut scratch = [0; 16 * 1024];
        let late = inner.wait_until.is_none_or(|until| until <= Instant::now());
        let mut over = late || inner.dead;
        if !over && !ready.is_empty() {
            for _ in 0..pump::MAX_ROUNDS {
                let Some(stream) = &inner.stream else { break };
                match stream.read(&mut scratch) {
                    Ok(n) if n > 0 => {}
                    Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => break,
                    Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                    Ok(_) | Err(_) => {
                        over = true;
                        break;
                    }
                }
            }
        }
        if over {
            return self.close(inner);
        }
        inner.told = self.watch(inner);
        Some(inner.told)
    }

    fn close(&self, inner: &mut Inner) -> Option<Watch> {
        (inner.stream, inner.place, inner.open) = (None, None, None);
        self.slot.store(usize::MAX, Ordering::Relaxed);
        None
    }

    /// Takes no more requests (FC-7-1).
    pub(super) fn shutdown(&self) {
        self.lock().connection.shutdown();
    }

    /// Ends the connection, and tells its handlers.
    pub(super) fn cancel(&self) {
        let mut inner = self.lock();
        inner.connection.handle_disconnect();
        inner.dead = true;
    }
}
