//! A connection's requests: how they begin, are aborted, time out, and end.

use std::{sync::Arc, time::Instant};

use fcgi_proto::{
    Connection, Input, Rejection, RequestKey, Role, ServerConnection,
    server::{AbortReason, Event, Whole},
};

use super::{
    CANCELLED, FAILED, Failed, LINGER, PANICKED, Settings,
    begun::{Beginning, Begun},
    job::{HandlerEnd, Job},
    notes::{ConnectionSpan, Ended, Note, Notes, RequestSpan},
    requests::{Active, Awaited, InputWait, Requests, Stop, Waiters},
    settings::grace_end,
    spare,
    tally::{Count, Tally},
};
use crate::{
    Phase,
    observe::{self, OpenConnection, Outcome, RequestLog, Side},
    pump::{self, Reader, Writer},
    socket::{HangUp, Peer},
};

/// A connection from a web server, with its requests, the ends of their handlers, and all of its
/// time limits. An adapter keeps it behind a lock, moves its bytes with [`turn`](Self::turn), and
/// runs the handlers, never under the lock.
///
/// - **The connection's task or thread** uses `turn`, `let_others_first`, `deadline`, `handle_hang_up`,
///   `handle_limits`, `start`, `poll_unstarted`, and to wait `wants_read`, `wants_write`,
///   `wants_hang_up`.
/// - **Handlers** use `read`, `write`, `flush`, `cancelled`, `reject`, register in `waiters` if
///   they have to wait, and then check `take_attention`.
/// - **Whoever releases the lock** takes what is in `woken` and `notes` before, and wakes and logs it
///   after. A request's span is opened then too: [`Job::open`], `attach`.
/// - **Whatever runs the handlers** uses `is_over`, `finish`.
/// - **The server** uses `shutdown`, `cancel`, `abandon`, and `desert` if the task is dropped.
#[derive(Debug)]
pub struct Session<W: Waiters> {
    pub(super) connection: ServerConnection,
    pub(super) reader: Reader,
    pub(super) writer: Writer,
    pub(super) requests: Requests<W>,
    pub(super) tally: Arc<Tally>,
    pub(super) peer: Peer,
    span: ConnectionSpan,
    pub(super) notes: Notes,
    /// Requests whose handlers must be run.
    pub(super) begun: Begun,
    /// Requests that an adapter took but need not run any more.
    unstarted: Vec<RequestKey>,
    /// Requests that it took before all of their input had come, and has not started.
    waiting: Vec<RequestKey>,
    pub(super) open: Option<OpenConnection>,
    /// This connection's slot in the count of open connections.
    pub(super) place: Option<Count>,
    pub(super) life: Life,
    pub(super) phase: Phase,
    pub(super) until: Option<Instant>,
    /// No time limit of a request passes before this.
    pub(super) bound: Option<Instant>,
    /// Whether a request has begun on this connection.
    pub(super) heard: bool,
    /// The first request's handler waited for input that has come.
    pub(super) fed: bool,
    /// Others have their turn before the next write.
    pub(super) others_first: bool,
    /// Somebody waits for a flush.
    pub(super) flushing: bool,
    /// The socket is full.
    pub(super) write_blocked: bool,
    /// The peer sends no more, but may still read.
    pub(super) half_closed: bool,
    /// Nobody has waited since bytes came, so that mostly no others have come.
    pub(super) just_read: bool,
    /// Nobody read from the peer for a while.
    pub(super) was_paused: bool,
    /// The peer has hung up in a way that changes nothing.
    pub(super) hung_up: HangUp,
    /// When to look at a peer that nobody reads from.
    pub(super) look_at: Option<Instant>,
    /// When the sending side is shut down after a response that was cut off.
    pub(super) shutdown_at: Option<Instant>,
    /// When lingering ends at the latest.
    pub(super) linger_until: Option<Instant>,
    /// The peer broke the protocol.
    failed: bool,
    /// The server shuts down; until this time a request may still come.
    pub(super) leaving: Option<Instant>,
    /// A request has ended since then.
    pub(super) answered: bool,
    /// Input from the peer is refused now; what it sent before is still read.
    pub(super) refuses: bool,
    pub(super) cancelled: bool,
    /// When a cancelled connection is closed, whatever is left to do.
    pub(super) close_at: Option<Instant>,
    pub(super) attention: bool,
    pub(super) woken: W::Woken,
}

/// The stage of a connection.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Life {
    Open,
    /// The peer takes no more, but the handlers run on (W-8).
    Unread,
    /// Everything was sent; what the peer still sends is dropped.
    Lingering,
    Closed,
}

impl<W: Waiters> Session<W> {
    /// The session of a newly accepted connection.
    #[must_use]
    pub fn new(tally: &Arc<Tally>, peer: Peer, now: Instant) -> Self {
        let limit = tally.settings().first_record;
        Self {
            connection: ServerConnection::new(tally.config()),
            reader: Reader::default(),
            writer: Writer::default(),
            requests: Requests::new(tally.count()),
            tally: Arc::clone(tally),
            peer,
            span: ConnectionSpan::new(peer),
            notes: Notes::default(),
            begun: Begun::default(),
            unstarted: Vec::new(),
            waiting: Vec::new(),
            open: Some(OpenConnection::new(Side::Server)),
            place: tally.place(),
            life: Life::Open,
            phase: Phase::FirstRecord,
            until: limit.and_then(|limit| now.checked_add(limit)),
            bound: None,
            heard: false,
            fed: false,
            others_first: false,
            flushing: false,
            write_blocked: false,
            half_closed: false,
            just_read: false,
            was_paused: false,
            hung_up: HangUp::No,
            look_at: None,
            shutdown_at: None,
            linger_until: None,
            failed: false,
            leaving: None,
            answered: false,
            refuses: false,
            cancelled: false,
            close_at: None,
            attention: false,
            woken: W::Woken::default(),
        }
    }

    /// The connection's span.
    #[must_use]
    pub fn span(&self) -> ConnectionSpan {
        self.span.clone()
    }

    pub(super) fn note(&mut self, note: Note) {
        self.notes.push(&self.span, self.peer, note);
    }

    /// Keeps a request's [open](Job::open) log until its end. Returns it if that has been logged.
    #[must_use = "drop it without a lock"]
    pub fn attach(&mut self, key: RequestKey, log: Box<RequestLog>) -> Option<Box<RequestLog>> {
        match self.requests.get_mut(key).filter(|active| !active.ended) {
            Some(active) => active.log.replace(log),
            None => Some(log),
        }
    }

    pub(super) fn settings(&self) -> &Settings {
        self.tally.settings()
    }

    /// Requests whose handlers have not returned.
    #[must_use]
    pub fn handlers(&self) -> usize {
        self.requests.len()
    }

    /// A handler starts; false if its request has ended already.
    #[inline]
    pub fn start(&mut self, key: RequestKey) -> bool {
        let Some(active) = self.requests.get_mut(key) else { return false };
        active.started = true;
        if !self.waiting.is_empty() {
            self.waiting.retain(|waiting| *waiting != key);
        }
        true
    }

    /// A request that [`turn`](Self::turn) returned, but whose handler need not be run any more.
    pub fn poll_unstarted(&mut self) -> Option<RequestKey> {
        self.unstarted.pop()
    }

    /// Requests that [`turn`](Self::turn) returned before they were complete, that were not
    /// started, and that are complete now. For an adapter that lets others go first.
    pub fn whole_now(&mut self) -> impl Iterator<Item = RequestKey> {
        let Self { connection, waiting, .. } = self;
        waiting.iter().copied().filter(|key| {
            connection.request(*key).is_some_and(|request| request.is_input_complete())
        })
    }

    /// Whether a handler must be dropped.
    #[must_use]
    pub fn is_over(&self, key: RequestKey) -> bool {
        self.requests.get(key).is_none_or(|active| active.over)
    }

    /// A handler has ended. This ends its request, unless that has ended before. Returns what is to
    /// be logged, if anybody wants to know.
    #[inline]
    pub fn finish(
        &mut self,
        key: RequestKey,
        end: HandlerEnd,
        now: impl FnOnce() -> Instant,
    ) -> Option<Ended> {
        let active = self.requests.get_mut(key)?;
        // The handler may have passed its handles to others, who may wait.
        active.waiters.wake_all(&mut self.woken);
        spare::put_back(&mut active.params);
        let &mut Active { stop, rejection, ended, .. } = active;
        let outcome = (!ended).then(|| self.end(key, stop, rejection, end));
        let ended = outcome.and_then(|outcome| self.ended(key, outcome, now));
        self.requests.forget(key);
        if self.requests.is_empty() {
            self.bound = None;
        }
        self.attention = true;
        ended
    }

    /// What is to be logged of a request that has ended, if anybody wants to know.
    #[inline]
    fn ended(
        &mut self,
        key: RequestKey,
        outcome: Outcome,
        now: impl FnOnce() -> Instant,
    ) -> Option<Ended> {
        let active = self.requests.get_mut(key)?;
        if self.span.is_silent() && active.log.is_none() {
            return None;
        }
        let elapsed = active.begun.map(|begun| now().saturating_duration_since(begun));
        Some(Ended {
            log: active.log.take(),
            id: key.id(),
            role: active.role,
            outcome,
            sent: active.sent,
            received: active.received,
            elapsed: elapsed.unwrap_or_default(),
        })
    }

    /// The server shuts down. A request that is on its way is still taken, then the connection
    /// closes (FC-7-1, W-13).
    pub fn shutdown(&mut self, now: Instant) {
        if matches!(self.life, Life::Lingering | Life::Closed) {
            return;
        }
        self.leaving = Some(grace_end(now, self.settings().shutdown_grace));
        self.attention = true;
    }

    /// Ends every request, and with them the connection.
    pub fn cancel(&mut self, now: Instant) {
        self.connection.fail_all(CANCELLED);
        (self.cancelled, self.attention) = (true, true);
        if self.life != Life::Closed {
            self.close_at = now.checked_add(LINGER);
        }
        let grace = self.settings().abort_grace;
        for key in self.requests.keys() {
            let Some(active) = self.requests.get_mut(key) else { continue };
            active.stop(Stop::Aborted(AbortReason::Disconnected), &mut self.woken);
            if active.ended {
                continue;
            }
            let runs_on = active.started && !grace.is_zero();
            active.stop_at = now.checked_add(grace).filter(|_| runs_on);
            self.remind(now.checked_add(grace));
            self.end_early(key, !runs_on, now);
        }
    }

    /// Closes the connection at once, as the end of the process would. It sends nothing more, so
    /// that a web server may ask another application.
    pub fn abandon(&mut self, now: Instant) {
        self.connection.handle_disconnect();
        self.life = Life::Closed;
        self.cancel(now);
    }

    /// [Abandons](Self::abandon) a connection that nobody attends to any more: its handlers must be
    /// dropped now, since nobody would end them after their grace.
    pub fn desert(&mut self, now: Instant) {
        self.abandon(now);
        for (_, active) in self.requests.iter_mut() {
            active.over = true;
            active.waiters.wake_all(&mut self.woken);
        }
    }

    /// A request whose handler must be run, in addition to those that [`turn`](Self::turn) returns.
    pub fn poll_job(&mut self, now: impl Fn() -> Instant + Copy) -> Option<Job> {
        if let Some(job) = self.poll_whole(now) {
            return Some(job);
        }
        self.handle_events(now);
        let Beginning { key, role, keep_conn, params } = self.begun.pop()?;
        let request = self.connection.request(key);
        let whole = request.is_none_or(|request| request.is_input_complete());
        if !whole {
            self.waiting.push(key);
        }
        Some(Job { key, role, keep_conn, params, whole, span: RequestSpan::default() })
    }

    /// The fast path: a request that came whole and is the only one. It takes no place in `begun`.
    #[inline]
    fn poll_whole(&mut self, now: impl Fn() -> Instant + Copy) -> Option<Job> {
        if !self.begun.is_empty() {
            return None;
        }
        let Whole { key, role, keep_conn, params } = self.connection.poll_whole(spare::take)?;
        let begins = self.begin(key, role, now);
        if begins && (self.takes_turns() || self.connection.is_quiet()) {
            pump::reclaim(&mut self.connection);
            let span = RequestSpan::default();
            return Some(Job { key, role, keep_conn, params, whole: true, span });
        }
        if begins {
            self.begun.push(Beginning { key, role, keep_conn, params });
        }
        None
    }

    /// Passes events to those who wait for them, without a turn. For a handler that made room for
    /// what has come already. These are all events, or [those](Waiters::AT_ONCE) up to the first
    /// request to run.
    #[inline]
    pub fn handle_events(&mut self, now: impl Fn() -> Instant + Copy) {
        if !self.connection.is_quiet() {
            self.drain_events(now);
        }
        pump::reclaim(&mut self.connection);
    }

    /// Whether a turn would find something to do without the socket: a request to run, or bytes to
    /// look at.
    #[must_use]
    #[inline]
    pub fn has_more(&self) -> bool {
        !self.connection.is_quiet() || self.begun.next().is_some()
    }

    fn drain_events(&mut self, now: impl Fn() -> Instant + Copy) {
        let in_turn = self.takes_turns();
        while !(in_turn && self.is_next_whole()) {
            match self.connection.poll_event() {
                Ok(Some(event)) => self.on_event(event, now),
                Ok(None) => return,
                Err(error) => {
                    if !std::mem::replace(&mut self.failed, true) {
                        self.note(Note::Broken(error));
                        for key in self.requests.keys() {
                            self.on_aborted(key, AbortReason::Disconnected, now());
                        }
                    }
                    return;
                }
            }
        }
    }

    /// Whether requests that came together are taken one after the other. A connection that takes
    /// one request at a time refuses the next, even if it came together with one that will end at
    /// once (FC-5.5-2).
    #[inline]
    fn takes_turns(&self) -> bool {
        W::AT_ONCE && self.settings().config.limits.requests > 1
    }

    /// A request has begun; false if it is refused.
    #[inline]
    fn begin(&mut self, key: RequestKey, role: Role, now: impl Fn() -> Instant + Copy) -> bool {
        self.heard = true;
        self.renew();
        if self.place.is_none() {
            self.place = self.tally.place();
        }
        if self.place.is_none() || !self.requests.begin() {
            if let Some(request) = self.connection.request(key) {
                // It was reported a moment ago, so it is active.
                let _ = request.reject(Rejection::Overloaded);
            }
            return false;
        }
        let begun = observe::is_timed().then(now);
        let stop_at = self.settings().handler.and_then(|limit| now().checked_add(limit));
        self.remind(stop_at);
        self.requests.add(key, || Active::new(role, begun, stop_at));
        true
    }

    /// Whether all input of the next request to run has come.
    fn is_next_whole(&mut self) -> bool {
        let Some(key) = self.begun.next() else { return false };
        self.connection.request(key).is_none_or(|request| request.is_input_complete())
    }

    fn on_event(&mut self, event: Event, now: impl Fn() -> Instant + Copy) {
        match event {
            Event::Request { key, role, params, keep_conn } => {
                if !self.begin(key, role, now) {
                    return;
                }
                self.begun.push(Beginning { key, role, keep_conn, params });
                // Its handler does not run yet, so nothing waits to be told.
                self.connection.take_end(key);
            }
            Event::Readable { key, input } => {
                let first = self.requests.is_first(key);
                if let Some(active) = self.requests.get_mut(key) {
                    *active.input(input) = InputWait::No;
                    let waited = active.waiters.wake(Awaited::Input(input), &mut self.woken);
                    self.fed |= W::AT_ONCE && first && waited;
                }
            }
            Event::Writable { key } => {
                if let Some(active) = self.requests.get_mut(key) {
                    active.waiters.wake(Awaited::Output, &mut self.woken);
                }
            }
            Event::Aborted { key, reason } => self.on_aborted(key, reason, now()),
        }
    }

    fn on_aborted(&mut self, key: RequestKey, reason: AbortReason, now: Instant) {
        let grace = self.settings().abort_grace;
        let Some(active) = self.requests.get_mut(key) else { return };
        active.stop(Stop::Aborted(reason), &mut self.woken);
        if !active.started || grace.is_zero() {
            return self.end_early(key, true, now);
        }
        let end_of_grace = now.checked_add(grace);
        active.stop_at = [active.stop_at, end_of_grace].into_iter().flatten().min();
        self.remind(end_of_grace);
    }

    /// Ends a request whose handler has not returned, or not started.
    fn end_early(&mut self, key: RequestKey, over: bool, now: Instant) {
        let Some(active) = self.requests.get_mut(key) else { return };
        active.over |= over;
        if std::mem::replace(&mut active.ended, true) {
            return;
        }
        let (stop, started) = (active.stop, active.started);
        let outcome = self.end(key, stop, None, HandlerEnd::Dropped);
        if let Some(ended) = self.ended(key, outcome, || now) {
            self.note(Note::Ended(ended));
        }
        // A request that was not started waits no more and does not count as waiting.
        if !started {
            self.requests.forget(key);
            self.waiting.retain(|waiting| *waiting != key);
            if !self.begun.remove(key) {
                self.unstarted.push(key);
            }
        }
    }

    /// Ends a request on the wire; returns the outcome for the log.
    #[inline(always)]
    fn end(
        &mut self,
        key: RequestKey,
        stop: Option<Stop>,
        rejection: Option<Rejection>,
        end: HandlerEnd,
    ) -> Outcome {
        self.answered |= self.leaving.is_some();
        let (app_status, whole) = match end {
            HandlerEnd::Returned(Ok(app_status)) => (app_status, true),
            HandlerEnd::Returned(Err(Failed)) => (FAILED, false),
            HandlerEnd::Panicked => (PANICKED, false),
            HandlerEnd::Dropped => (CANCELLED, false),
        };
        let (mut cut, mut empty) = (false, false);
        if let Some(request) = self.connection.request(key) {
            let begun = request.has_begun();
            let given_up = stop == Some(Stop::Aborted(AbortReason::Requested));
            cut = begun && !(whole && rejection.is_none());
            empty = !begun && app_status == 0;
            // The request is active: `request` found it.
            let _ = match rejection {
                Some(rejection) if !begun => request.reject(rejection),
                None if begun && whole => request.finish(app_status),
                _ if given_up => request.finish(app_status),
                _ => request.fail(app_status),
            };
        }
        match (stop, rejection) {
            (Some(Stop::TimedOut(phase)), _) => Outcome::TimedOut(phase),
            (Some(Stop::Aborted(_)), _) if self.failed => Outcome::Failed,
            (Some(Stop::Aborted(_)), _) => Outcome::Aborted,
            (None, _) if cut => Outcome::Failed,
            (None, Some(rejection)) => Outcome::Rejected(rejection),
            // It wrote nothing, so it gets the page of a failure, even if it returned a good status.
            (None, None) if empty => Outcome::Failed,
            (None, None) => Outcome::Complete { app_status },
        }
    }

    /// Ends requests that have taken too long, on a connection that has no more turns.
    pub fn handle_limits(&mut self, now: Instant) {
        if self.bound.is_none_or(|bound| bound > now) {
            return;
        }
        self.bound = None;
        let late = |at: Option<Instant>| at.is_some_and(|at| at <= now);
        // While paused the peer could not send: that excuses it, unless this request caused the pause.
        let paused = !self.connection.wants_read() || std::mem::take(&mut self.was_paused);
        let full = self.settings().config.limits.unread_request;
        let stdin = self.settings().stdin.and_then(|limit| now.checked_add(limit));
        for key in self.requests.keys() {
            let own = self.connection.request(key).is_some_and(|request| request.unread() >= full);
            let Some(active) = self.requests.get_mut(key) else { continue };
            for input in [Input::Stdin, Input::Data] {
                match (active.input(input), stdin) {
                    (InputWait::Until(at), Some(anew)) if *at <= now && paused && !own => {
                        *at = anew
                    }
                    (wait @ InputWait::Until(_), _) if wait.is_late(now) => {
                        *wait = InputWait::Late;
                        active.waiters.wake(Awaited::Input(input), &mut self.woken);
                    }
                    _ => {}
                }
            }
            if active.ended {
                active.over |= late(active.stop_at);
                if active.over {
                    active.waiters.wake_all(&mut self.woken);
                }
            } else if late(active.stop_at) && active.stop.is_some() {
                self.end_early(key, true, now);
            } else if late(active.stop_at) {
                self.time_out(key, Phase::Handler, now);
            }
            if let Some(active) = self.requests.get(key).filter(|active| !active.over) {
                let [stdin, data] = active.inputs.map(InputWait::until);
                let ahead = [active.stop_at, stdin, data];
                self.remind(ahead.into_iter().flatten().filter(|at| *at > now).min());
            }
        }
    }

    pub(super) fn time_out(&mut self, key: RequestKey, phase: Phase, now: Instant) {
        self.log_timeout(phase);
        if let Some(active) = self.requests.get_mut(key) {
            active.stop(Stop::TimedOut(phase), &mut self.woken);
        }
        self.end_early(key, true, now);
    }

    pub(super) fn log_timeout(&mut self, phase: Phase) {
        let limit = self.settings().limit(phase).unwrap_or_default();
        self.note(Note::TimedOut(phase, limit));
    }

    /// Notes when a time limit of a request passes.
    #[inline]
    pub(super) fn remind(&mut self, at: Option<Instant>) {
        let Some(at) = at else { return };
        if self.bound.is_none_or(|bound| at < bound) {
            self.bound = Some(at);
            self.attention = true;
        }
    }

    /// Restarts the time of the current phase after progress.
    pub(super) fn renew(&mut self) {
        (self.phase, self.until) = (Phase::Handler, None);
    }
}
