//! A connection's turns: its reads and writes, its time limits, its end.

use std::time::{Duration, Instant};

use fcgi_proto::Connection;

use super::{
    EndOfFile, LINGER, LONGEST_LINGER,
    job::Job,
    notes::Note,
    requests::{Awaited, Waiters},
    session::{Life, Session},
    settings::grace_end,
};
use crate::{
    Phase,
    pump::{self, MAX_ROUNDS, Read, Socket, Wrote},
    socket::{HangUp, Peer},
};

/// How often to look at a peer that has closed its sending side. No read shows when it closes the
/// other side too (W-8).
const LOOK_AFTER_HALF_CLOSE: Duration = Duration::from_secs(1);
/// How long a request may go on after an end of file over TCP that means that the peer is gone, while
/// nothing shows that it is not. A peer that has only shut down its sending side gets the answer if that
/// comes soon, and all of it, however slowly it reads (FC-3.5-2).
const HALF_CLOSE_GRACE: Duration = Duration::from_millis(500);
/// How often to look at a peer that nobody reads from, because the request's input is not read.
const LOOK_WHILE_PAUSED: Duration = Duration::from_millis(50);

/// The pause between the last byte of a response that is cut off and the end of file. If both come
/// at once, lighttpd takes the response as complete (W-12).
const CUT_PAUSE: Duration = Duration::from_millis(100);

/// A connection's socket.
pub trait Duplex: Socket {
    /// Whether something notices a peer that hangs up while nobody reads, and then calls
    /// [`Session::handle_hang_up`]. If not, the session checks now and then.
    const HEARS_HANG_UP: bool;

    /// Whether the peer has hung up, as the system knows it now.
    fn hang_up(&self) -> HangUp;

    /// Shuts down the sending side, so that the peer sees the end of file.
    fn shutdown_write(&self);

    /// Refuses what the peer sends from now on; true if that was possible. What it sent before can
    /// still be read, up to the end of file.
    fn refuse_input(&self) -> bool;
}

/// The result of a turn.
#[derive(Debug)]
pub enum Turn {
    /// Run this handler; there may be more to do.
    Run(Job),
    /// There is more to do, after others have had their turn.
    Again,
    /// Nothing can be done until the socket is ready, the [`Session::deadline`] passes, or a
    /// handler does something.
    Wait,
    /// Close the socket. Handlers may still be running.
    Closed,
}

impl<W: Waiters> Session<W> {
    /// Does everything that can be done now: time limits, events, writes, reads. The time is read
    /// only where there is a limit.
    #[inline]
    pub fn turn<D: Duplex>(&mut self, io: &mut D, now: impl Fn() -> Instant + Copy) -> Turn {
        let turn = self.take_turn(io, now);
        self.attention = false;
        turn
    }

    #[inline]
    fn take_turn<D: Duplex>(&mut self, io: &mut D, now: impl Fn() -> Instant + Copy) -> Turn {
        if self.has_deadline() {
            self.handle_time(io, now());
        }
        for _ in 0..MAX_ROUNDS {
            if let Some(job) = self.poll_job(now) {
                return Turn::Run(job);
            }
            // If the handler takes its input now, the next read may use the same buffer.
            if W::AT_ONCE && std::mem::take(&mut self.fed) {
                return Turn::Again;
            }
            match self.life {
                Life::Closed => return self.close(),
                Life::Lingering => return self.linger(io, now()),
                Life::Open | Life::Unread => {}
            }
            // Sending replies may let the parser go on with what has come already (H-9).
            let paused = !self.connection.wants_read();
            if self.others_first && self.connection.queued() > 0 {
                self.others_first = false;
                return Turn::Again;
            }
            match self.send(io) {
                None => continue,
                Some(0) => {}
                Some(_) => {
                    if self.handlers() > 0 {
                        self.handle_events(now);
                    }
                    if paused && !self.write_blocked || self.begun.next().is_some() {
                        continue;
                    }
                }
            }
            if self.connection.is_closed() {
                self.end_sending(io, now);
                continue;
            }
            match self.reader.read(io, &mut self.connection) {
                Read::Nothing if self.may_leave(io, now) => {}
                Read::Nothing if self.drains() => return self.drain::<D>(io, now),
                Read::Nothing => return self.rest::<D>(now),
                Read::Some { .. } => {
                    self.just_read = true;
                    self.forget_end();
                    self.writer.handle_read();
                }
                Read::Eof => self.handle_eof(io),
                Read::Gone(_) => self.lose_peer(),
            }
        }
        Turn::Again
    }

    /// Makes the [`turn`](Self::turn) that comes to a write end before it, so that others have theirs.
    /// The turn after it writes.
    #[inline]
    pub fn let_others_first(&mut self) {
        self.others_first = true;
    }

    /// When the next [`turn`](Self::turn) is due if nothing else happens.
    #[must_use]
    pub fn deadline(&self) -> Option<Instant> {
        if !self.has_deadline() {
            return None;
        }
        let mut next = self.bound;
        for at in [self.until, self.look_at, self.leaving, self.shutdown_at, self.close_at] {
            if at.is_some_and(|at| next.is_none_or(|next| at < next)) {
                next = at;
            }
        }
        next
    }

    #[inline]
    fn has_deadline(&self) -> bool {
        self.until.is_some()
            || self.bound.is_some()
            || self.look_at.is_some()
            || self.leaving.is_some()
            || self.shutdown_at.is_some()
            || self.close_at.is_some()
    }

    /// Reports the state of a peer that nobody reads from. While somebody reads, a read shows it.
    pub fn handle_hang_up(&mut self, seen: HangUp) {
        if self.life != Life::Open || self.connection.wants_read() {
            return;
        }
        match seen {
            HangUp::No => {}
            // If handlers run on, they first read what has come.
            HangUp::Gone if self.half_closed || self.settings().cancel_on_disconnect => {
                self.lose_peer();
            }
            seen => {
                if self.hung_up != seen {
                    // The peer may be in doubt now, which has a limit of its own.
                    self.look_at = None;
                }
                self.hung_up = seen;
            }
        }
    }

    /// What comes before the peer's end of file is read again, so that is no longer overdue.
    fn forget_end(&mut self) {
        if self.hung_up == HangUp::EndOfFile {
            (self.hung_up, self.look_at) = (HangUp::No, None);
        }
    }

    /// Whether the socket should be read.
    #[must_use]
    pub fn wants_read(&self) -> bool {
        match self.life {
            Life::Open => self.connection.wants_read() || self.drains(),
            Life::Lingering => true,
            Life::Unread | Life::Closed => false,
        }
    }

    /// Whether the socket is full, and more is queued.
    #[must_use]
    pub fn wants_write(&self) -> bool {
        self.write_blocked
    }

    /// Whether an end of file behind bytes that nobody reads would be news.
    #[must_use]
    pub fn wants_hang_up(&self) -> bool {
        self.is_unwatched() && !self.half_closed && self.hung_up == HangUp::No
    }

    /// Whether the peer is gone for good but that changes nothing: there is nothing to wait for.
    #[must_use]
    pub fn is_deaf(&self) -> bool {
        self.life == Life::Unread || self.hung_up == HangUp::Gone
    }

    /// Whether the socket should be closed.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.life == Life::Closed
    }

    /// Whether no read would show that the peer is gone.
    fn is_unwatched(&self) -> bool {
        self.life == Life::Open && !self.connection.wants_read()
    }

    /// Whether the server shuts down and this connection has not closed for that yet.
    #[must_use]
    pub fn is_leaving(&self) -> bool {
        self.leaving.is_some()
    }

    fn handle_time(&mut self, io: &impl Duplex, now: Instant) {
        let late = |at: Option<Instant>| at.is_some_and(|at| at <= now);
        self.handle_limits(now);
        if late(self.look_at) {
            self.look_at = None;
            if self.is_in_doubt() {
                self.lose_peer();
            } else {
                self.handle_hang_up(io.hang_up());
            }
        }
        if late(self.shutdown_at) {
            self.shutdown_at = None;
            io.shutdown_write();
        }
        if late(self.close_at) {
            self.close_at = None;
            self.connection.handle_disconnect();
            self.life = Life::Closed;
        }
        if late(self.until) {
            self.until = None;
            if self.life != Life::Lingering && !self.cancelled {
                self.log_timeout(self.phase);
            }
            self.connection.handle_disconnect();
            self.life = Life::Closed;
        }
    }

    /// Sends what is queued. Returns how many bytes were sent, or `None` if the peer is gone.
    fn send(&mut self, io: &mut impl Socket) -> Option<usize> {
        let wrote = match self.life {
            Life::Unread => pump::discard(&mut self.connection),
            _ => self.writer.write(io, &mut self.connection),
        };
        match wrote {
            Wrote::Done { bytes, blocked } => {
                self.write_blocked = blocked;
                // The peer reads, or its system will say that it is gone.
                if bytes > 0 && self.look_at.is_some() && self.is_in_doubt() {
                    self.look_at = None;
                }
                // Only a stalled write's time restarts: the connection's own replies prolong nothing.
                if bytes > 0 && self.phase == Phase::Write {
                    self.renew();
                }
                if !blocked && std::mem::take(&mut self.flushing) {
                    for (_, active) in self.requests.iter_mut() {
                        if std::mem::take(&mut active.flushing) {
                            active.waiters.wake(Awaited::Flush, &mut self.woken);
                        }
                    }
                }
                Some(bytes)
            }
            // The peer may leave before the last record (W-7).
            Wrote::Gone(_) => {
                self.lose_peer();
                None
            }
        }
    }

    /// Whether an end of file means that the peer is gone. Only a unix socket knows; else the
    /// setting decides.
    fn is_gone_at_end_of_file(&self) -> bool {
        self.peer != Peer::Unix && self.settings().end_of_file == EndOfFile::Gone
    }

    /// Whether the peer has sent its end of file, and is taken as gone if it gets no answer soon. One
    /// that has not read all of the answer yet is not: if it were gone, its system would have said so.
    fn is_in_doubt(&self) -> bool {
        let ended = self.half_closed
            || self.hung_up == HangUp::EndOfFile && self.settings().cancel_on_disconnect;
        ended
            && !self.write_blocked
            && !self.refuses
            && self.life == Life::Open
            && self.is_gone_at_end_of_file()
    }

    fn handle_eof(&mut self, io: &impl Duplex) {
        if self.refuses {
            // The peer may have been in the middle of a request.
            self.connection.handle_eof();
            self.connection.shutdown();
            self.half_closed = true;
        } else if io.hang_up() == HangUp::Gone {
            self.lose_peer();
        } else {
            self.connection.handle_eof();
            self.half_closed = true;
        }
    }

    /// The peer is gone in both directions.
    fn lose_peer(&mut self) {
        (self.write_blocked, self.half_closed) = (false, false);
        if self.settings().cancel_on_disconnect {
            self.connection.handle_disconnect();
            self.life = Life::Closed;
        } else {
            self.connection.handle_eof();
            self.life = Life::Unread;
        }
    }

    /// Everything that has come was served. If the server shuts down, this may be the time to
    /// close. Right after an answer is best, since the peer then sees both at once.
    ///
    /// What comes between the last read and the close would be lost. So, if the socket can, the
    /// connection first refuses more input and serves what came before that (W-13).
    fn may_leave(&mut self, io: &impl Duplex, now: impl Fn() -> Instant + Copy) -> bool {
        let Some(until) = self.leaving else { return false };
        let now = now();
        let (active, queued) = (self.connection.active_requests(), self.connection.queued());
        let at_rest = active == 0 && queued == 0 && self.connection.is_between_records();
        let late = now >= until;
        if !(late || at_rest && self.answered) {
            return false;
        }
        // A peer with one request at a time sends the next after the answer. One with more
        // may never leave the connection idle.
        if active == 1 || active == 0 && queued > 0 {
            let again = self.settings().shutdown_grace.max(LOOK_WHILE_PAUSED);
            self.leaving = Some(grace_end(now, again));
            return false;
        }
        self.leaving = None;
        self.refuses = at_rest && io.refuse_input();
        if !self.refuses {
            self.connection.shutdown();
        }
        true
    }

    /// Only closing the socket is left. If it were closed while the peer still sends, that would
    /// become a reset, which destroys the response. A request that came alone and was answered at
    /// once leaves nothing to wait for.
    fn end_sending(&mut self, io: &impl Duplex, now: impl Fn() -> Instant) {
        let done = self.just_read && io.fills() && self.connection.is_peer_done();
        let lingers = self.life == Life::Open && self.connection.is_input_pending() && !done;
        (self.leaving, self.place, self.look_at) = (None, None, None);
        (self.life, self.until) = (Life::Closed, None);
        if lingers {
            let now = now();
            match now.checked_add(CUT_PAUSE).filter(|_| self.connection.is_cut()) {
                Some(at) => self.shutdown_at = Some(at),
                None => io.shutdown_write(),
            }
            self.life = Life::Lingering;
            self.until = now.checked_add(LINGER);
            self.linger_until = now.checked_add(LONGEST_LINGER);
        }
    }

    /// Whether input that nobody needs must still be read: a peer that sends everything before it
    /// reads would otherwise never read the answer (W-16).
    fn drains(&self) -> bool {
        self.life == Life::Open
            && self.write_blocked
            && self.connection.active_requests() == 0
            && self.connection.is_input_pending()
            && !self.connection.wants_read()
    }

    fn drain<D: Duplex>(&mut self, io: &mut D, now: impl Fn() -> Instant + Copy) -> Turn {
        for _ in 0..MAX_ROUNDS {
            match pump::skip(io) {
                Read::Nothing => return self.rest::<D>(now),
                Read::Some { .. } => continue,
                Read::Eof => self.handle_eof(io),
                Read::Gone(_) => self.lose_peer(),
            }
            break;
        }
        Turn::Again
    }

    fn linger(&mut self, io: &mut impl Socket, now: Instant) -> Turn {
        for _ in 0..MAX_ROUNDS {
            match pump::skip(io) {
                Read::Nothing => return Turn::Wait,
                Read::Some { .. } => self.until = now.checked_add(LINGER).min(self.linger_until),
                Read::Eof | Read::Gone(_) => return self.close(),
            }
        }
        Turn::Again
    }

    fn close(&mut self) -> Turn {
        self.life = Life::Closed;
        if let Some(open) = self.open.take().filter(|_| cfg!(feature = "metrics")) {
            self.note(Note::Closed(open));
        }
        (self.place, self.until) = (None, None);
        (self.leaving, self.look_at, self.shutdown_at, self.close_at) = (None, None, None, None);
        Turn::Closed
    }

    fn rest<D: Duplex>(&mut self, now: impl Fn() -> Instant + Copy) -> Turn {
        self.just_read = false;
        let phase = self.current_phase();
        if phase != self.phase {
            let limit = match phase {
                // Each request has its own limit.
                Phase::Handler => None,
                phase => self.settings().limit(phase),
            };
            (self.phase, self.until) = (phase, limit.and_then(|limit| now().checked_add(limit)));
        }
        self.was_paused |= self.is_unwatched() && !self.half_closed;
        let in_doubt = self.is_in_doubt();
        let looks = (in_doubt || !D::HEARS_HANG_UP)
            && self.is_unwatched()
            && self.hung_up != HangUp::Gone
            && self.requests.any_live();
        if !looks {
            self.look_at = None;
        } else if self.look_at.is_none() {
            let pause = match self.half_closed {
                _ if in_doubt => HALF_CLOSE_GRACE,
                true => LOOK_AFTER_HALF_CLOSE,
                false => LOOK_WHILE_PAUSED,
            };
            self.look_at = now().checked_add(pause);
        }
        Turn::Wait
    }

    fn current_phase(&self) -> Phase {
        if self.write_blocked {
            Phase::Write
        } else if self.requests.any_live() {
            Phase::Handler
        } else if self.connection.active_requests() > 0 {
            Phase::Params
        } else if !self.heard {
            Phase::FirstRecord
        } else if self.connection.is_between_records() {
            Phase::NextRequest
        } else {
            // The next request has begun to come.
            Phase::Params
        }
    }
}
