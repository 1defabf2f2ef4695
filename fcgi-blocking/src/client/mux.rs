//! A connection that several requests share, without a thread of its own.
//!
//! Of the callers that wait for their responses one leads: it polls the socket, reads, and wakes
//! those whose bytes have come. The others are parked. When the leader's own wait is over, another
//! one that waits takes its place. Who has something to send writes it under the lock. If nobody
//! waits, nobody reads, and the socket pushes back.

use std::{
    collections::HashMap,
    io,
    os::fd::AsFd,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    thread::{self, Thread},
    time::Instant,
};

use fcgi_engine::{
    client::{Chunk, is_close},
    pump::Read,
};
use fcgi_proto::{
    BeginRequest, Connection, ProtocolError, RequestKey,
    client::{Event, Outcome},
};
use rustix::event::PollFlags;

use super::{
    Body, CancelHandle, Wake,
    exchange::{Exchange, Fed},
    link::{Link, Wrote, wait_failed},
    wait::{Waited, park, wait_woken},
};
use crate::{Error, stream::Stream, waker::Waker};

/// A shared connection, as its requests see it.
#[derive(Clone, Debug)]
pub(crate) struct Mux(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    stream: Arc<Stream>,
    /// Ends the leader's poll.
    waker: Arc<Waker>,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    link: Link,
    requests: HashMap<RequestKey, Slot>,
    /// What the leader polls for, while there is one.
    leading: Option<PollFlags>,
    /// The socket was full.
    blocked: bool,
    /// When bytes last went out.
    wrote: Option<Instant>,
    failed: Option<Failure>,
    /// Takes no more requests.
    closing: bool,
}

/// One request, as the leader sees it.
#[derive(Debug, Default)]
struct Slot {
    /// Parked until something comes for it, or until it is to lead.
    thread: Option<Thread>,
    outcome: Option<Outcome>,
}

/// What ended the connection under its requests, other than its orderly end.
#[derive(Clone, Copy, Debug)]
enum Failure {
    Protocol(ProtocolError),
    Read(io::ErrorKind),
}

impl Mux {
    pub(crate) fn new(link: Link) -> io::Result<Self> {
        Ok(Self(Arc::new(Shared {
            stream: Arc::clone(&link.stream),
            waker: Arc::new(Waker::new()?),
            state: Mutex::new(State {
                link,
                requests: HashMap::new(),
                leading: None,
                blocked: false,
                wrote: None,
                failed: None,
                closing: false,
            }),
        })))
    }

    /// Begins a request beside the others. One that asks for the connection not to be kept is sent
    /// as if it did not, since the application would close under the others; no other follows it.
    pub(crate) fn begin(
        &self,
        begin: &BeginRequest,
        bodies: [Body; 2],
        started: Instant,
        cancel: Option<CancelHandle>,
    ) -> Result<Exchange, Error> {
        let mut state = self.lock();
        if !state.is_usable() {
            return Err(Error::Closed { address: Arc::clone(&state.link.address) });
        }
        let link = &mut state.link;
        let exchange = if begin.keep_conn {
            Exchange::begin(link, begin, bodies, started, cancel)?
        } else {
            let kept = BeginRequest { keep_conn: true, ..begin.clone() };
            Exchange::begin(link, &kept, bodies, started, cancel)?
        };
        state.closing |= !begin.keep_conn;
        state.requests.insert(exchange.key, Slot::default());
        Ok(exchange)
    }

    /// The next bytes of a request's response, or its end.
    pub(crate) fn chunk(&self, exchange: &mut Exchange) -> Result<Option<Chunk>, Error> {
        if let Some(pending) = exchange.pending.take() {
            return Ok(Some(pending));
        }
        if exchange.over {
            return Ok(None);
        }
        let next = self.next(exchange);
        exchange.note(&next);
        if next.is_err() {
            self.abort(exchange);
        }
        next
    }

    fn next(&self, exchange: &mut Exchange) -> Result<Option<Chunk>, Error> {
        // What came late to be read is not the application's silence.
        if exchange.answered {
            exchange.progress = Instant::now();
        }
        let mut turn = Turn { mux: self, key: exchange.key, state: Some(self.lock()) };
        loop {
            let state = turn.state();
            state.drain_events();
            exchange.check_cancelled()?;
            exchange.check_total()?;
            if let Some(chunk) = exchange.take_chunk(&mut state.link.connection) {
                // It made room: what comes behind it may be for others.
                state.drain_events();
                return Ok(Some(chunk));
            }
            let slot = state.requests.get(&exchange.key);
            exchange.outcome = exchange.outcome.or(slot.and_then(|slot| slot.outcome));
            if let Some(outcome) = exchange.outcome {
                return exchange.end(outcome);
            }
            if let Some(failure) = state.failed {
                return Err(failure.error(&exchange.address));
            }
            let fed = exchange.feed(&mut state.link)?;
            let wrote = state.write();
            match fed {
                Fed::Full if wrote.any && !wrote.blocked => continue,
                Fed::Reader if !wrote.blocked && !state.link.write_gone => {
                    if state.leading.is_none() && state.read() {
                        continue;
                    }
                    // It may block: somebody else leads meanwhile.
                    turn.unlocked(|| exchange.read_body())?;
                    continue;
                }
                Fed::All | Fed::Full | Fed::Reader => {}
            }
            if !exchange.answered {
                state.note_progress(exchange, fed);
            }
            if state.leading.is_none() {
                self.lead(&mut turn, exchange)?;
            } else {
                self.follow(&mut turn, exchange)?;
            }
        }
    }

    /// Polls the socket for everybody.
    fn lead(&self, turn: &mut Turn<'_>, exchange: &Exchange) -> Result<(), Error> {
        let limit = exchange.limit();
        let state = turn.state();
        let interest = state.link.interest(state.blocked);
        state.leading = Some(interest);
        turn.state = None;
        let on = (self.0.stream.as_fd(), interest);
        let until = limit.map(|(until, ..)| until);
        let waited = wait_woken(Some(on), until, exchange.cancel.get(), &self.0.waker);
        let state = turn.state();
        state.leading = None;
        match waited.map_err(|source| wait_failed(&exchange.address, source))? {
            Waited::Ready(ready) if ready == PollFlags::OUT => {}
            Waited::Ready(_) => {
                state.read();
            }
            Waited::TimedOut => exchange.check_limit(limit)?,
            Waited::Woken => {}
        }
        Ok(())
    }

    /// Waits for the leader to find something, or to leave its place.
    fn follow(&self, turn: &mut Turn<'_>, exchange: &Exchange) -> Result<(), Error> {
        let limit = exchange.limit();
        exchange.check_limit(limit)?;
        let state = turn.state();
        state.nudge(&self.0.waker);
        if let Some(slot) = state.requests.get_mut(&exchange.key) {
            slot.thread = Some(thread::current());
        }
        turn.state = None;
        let cancel = exchange.cancel.get();
        let registration = cancel.map(|cancel| cancel.wakes(Wake::Park(thread::current())));
        if !cancel.is_some_and(CancelHandle::is_cancelled) {
            park(limit.map(|(until, ..)| until));
        }
        drop(registration);
        if let Some(slot) = turn.state().requests.get_mut(&exchange.key) {
            slot.thread = None;
        }
        Ok(())
    }

    /// Gives a request up, or what is left of one that has ended; the others go on.
    pub(crate) fn abort(&self, exchange: &mut Exchange) {
        exchange.give_up();
        let mut state = self.lock();
        state.requests.remove(&exchange.key);
        if let Some(request) = state.link.connection.request(exchange.key) {
            request.abort();
            state.write();
        }
        state.hand_on(&self.0.waker);
    }

    /// Whether another request can begin now, on a connection that was kept: the same as
    /// [`Link::is_quiet`] if nobody uses it.
    pub(crate) fn is_quiet(&self) -> bool {
        let mut state = self.lock();
        if state.requests.is_empty() && state.leading.is_none() {
            state.closing |= !state.link.is_quiet();
        }
        state.is_usable()
    }

    /// Whether another request can begin, as far as is known.
    pub(crate) fn is_usable(&self) -> bool {
        self.lock().is_usable()
    }

    /// Whether it may be kept for other requests.
    pub(crate) fn is_reusable(&self) -> bool {
        let state = self.lock();
        state.is_usable() && (!state.requests.is_empty() || state.link.is_reusable())
    }

    /// How many bytes have come.
    pub(crate) fn received(&self) -> u64 {
        self.lock().link.received
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Nothing panics while it is held.
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A caller's turn with the connection. However it ends, somebody else leads on.
struct Turn<'a> {
    mux: &'a Mux,
    key: RequestKey,
    state: Option<MutexGuard<'a, State>>,
}

impl Turn<'_> {
    fn state(&mut self) -> &mut State {
        self.state.get_or_insert_with(|| self.mux.lock())
    }

    fn unlocked<T>(&mut self, f: impl FnOnce() -> T) -> T {
        let mux = self.mux;
        self.state().hand_on(&mux.0.waker);
        self.state = None;
        f()
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        let (mux, key) = (self.mux, self.key);
        let state = self.state();
        if let Some(slot) = state.requests.get_mut(&key) {
            slot.thread = None;
        }
        state.hand_on(&mux.0.waker);
    }
}

impl State {
    fn is_usable(&self) -> bool {
        !self.closing
            && self.failed.is_none()
            && !self.link.closed
            && !self.link.write_gone
            && self.link.connection.can_begin()
    }

    /// Hands every event to its request.
    fn drain_events(&mut self) {
        while self.failed.is_none() {
            match self.link.connection.poll_event() {
                Ok(None) => return,
                Ok(Some(Event::Readable { key, .. } | Event::Writable { key })) => {
                    if let Some(slot) = self.requests.get_mut(&key) {
                        slot.wake();
                    }
                }
                Ok(Some(Event::Finished { key, outcome })) => {
                    if let Some(slot) = self.requests.get_mut(&key) {
                        slot.outcome = Some(outcome);
                        slot.wake();
                    }
                }
                Ok(Some(_)) => {}
                Err(error) => self.fail(Failure::Protocol(error)),
            }
        }
    }

    fn write(&mut self) -> Wrote {
        let wrote = self.link.write();
        self.blocked = wrote.blocked;
        if wrote.any {
            self.wrote = Some(Instant::now());
        }
        // There may be room for those who waited for it.
        self.drain_events();
        wrote
    }

    /// Takes in what has come; says whether it was anything, be it the end.
    fn read(&mut self) -> bool {
        match self.link.read() {
            Read::Nothing => return false,
            Read::Some { .. } => {}
            Read::Eof => self.link.connection.handle_eof(),
            Read::Gone(error) if is_close(&error) => self.link.connection.handle_eof(),
            Read::Gone(error) => self.fail(Failure::Read(error.kind())),
        }
        true
    }

    fn fail(&mut self, failure: Failure) {
        self.failed = Some(failure);
        for slot in self.requests.values_mut() {
            slot.wake();
        }
    }

    /// The first byte's limit counts from the last byte of the request, which another caller may
    /// have sent.
    fn note_progress(&mut self, exchange: &mut Exchange, fed: Fed) {
        if fed == Fed::All && exchange.flushed_at.is_none() {
            exchange.flushed_at = Some(self.link.sent + self.link.queued());
        }
        if !exchange.flushed {
            exchange.progress =
                self.wrote.map_or(exchange.progress, |at| at.max(exchange.progress));
            exchange.flushed = exchange.flushed_at.is_some_and(|at| self.link.sent >= at);
        }
    }

    /// Has the leader poll for what is of interest now.
    fn nudge(&self, waker: &Waker) {
        let interest = self.link.interest(self.blocked);
        if self.leading.is_some_and(|polled| !polled.contains(interest)) {
            waker.wake();
        }
    }

    /// Sees to it that somebody leads, if anybody waits.
    fn hand_on(&mut self, waker: &Waker) {
        self.drain_events();
        if self.leading.is_some() {
            self.nudge(waker);
        } else if let Some(slot) = self.requests.values_mut().find(|slot| slot.thread.is_some()) {
            slot.wake();
        }
    }
}

impl Slot {
    fn wake(&mut self) {
        if let Some(thread) = self.thread.take() {
            thread.unpark();
        }
    }
}

impl Failure {
    fn error(self, address: &Arc<str>) -> Error {
        let address = Arc::clone(address);
        match self {
            Self::Protocol(source) => Error::Protocol { address, source },
            Self::Read(kind) => Error::Io { address, doing: "read from", source: kind.into() },
        }
    }
}
