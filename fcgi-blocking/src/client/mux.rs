//! A connection that several requests share, without a thread for it.
//!
//! One of the callers that wait for their responses leads: it polls the socket, reads, and wakes
//! those whose bytes have come. The others are parked. When the leader's own wait is over, another
//! waiting caller takes its place. A caller with something to send writes it under the lock. If
//! nobody waits, nobody reads, and the socket slows the peer down.

use std::{
    io,
    os::fd::AsFd,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    thread,
    time::Instant,
};

use fcgi_engine::{
    client::{Carrier, Chunk},
    socket,
};
use fcgi_proto::RequestKey;
use rustix::event::PollFlags;

use super::{
    CancelHandle, Wake,
    exchange::{Exchange, Step},
    link::{Link, Session, wait_failed},
    wait::{Waited, park, wait_woken},
};
use crate::{Error, stream::Stream, waker::Waker};

/// A request's handle of a shared connection.
#[derive(Clone, Debug)]
pub(crate) struct Mux(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    stream: Arc<Stream>,
    /// Interrupts the leader's poll.
    waker: Arc<Waker>,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    link: Link,
    /// What the leader polls for, while there is a leader.
    leading: Option<PollFlags>,
}

impl Mux {
    pub(crate) fn new(link: Link) -> io::Result<Self> {
        Ok(Self(Arc::new(Shared {
            stream: Arc::clone(&link.stream),
            waker: Arc::new(Waker::new()?),
            state: Mutex::new(State { link, leading: None }),
        })))
    }

    /// The next bytes of a request's response, or its end.
    pub(crate) fn chunk(&self, exchange: &mut Exchange) -> Result<Option<Chunk>, Error> {
        exchange.hand_out(|exchange| self.next(exchange))
    }

    fn next(&self, exchange: &mut Exchange) -> Result<Option<Chunk>, Error> {
        let mut turn = Turn { mux: self, key: exchange.core.key(), state: Some(self.lock()) };
        let mut led = false;
        loop {
            let looked = std::mem::take(&mut led);
            let state = turn.state();
            match exchange.step(&mut state.link, &mut None)? {
                Step::Done(chunk) => return Ok(chunk),
                Step::Reader => {
                    if state.leading.is_some() || !state.link.turn(true) {
                        // The reader may block; somebody else leads meanwhile.
                        turn.unlocked(|| exchange.read_body())?;
                    }
                }
                Step::Wait if state.leading.is_none() => {
                    led = self.lead(&mut turn, exchange, looked)?;
                }
                Step::Wait => self.follow(&mut turn, exchange)?,
            }
        }
    }

    /// Polls the socket for everybody; true if there was something to read. `looked` means that a
    /// read followed the last poll. Then a steady flow of bytes for others is no reason to wait
    /// past the request's own limit.
    fn lead(
        &self,
        turn: &mut Turn<'_>,
        exchange: &mut Exchange,
        looked: bool,
    ) -> Result<bool, Error> {
        let state = turn.state();
        let limit = state.link.session.limit(&mut exchange.core, Instant::now());
        if looked {
            exchange.check_limit(limit)?;
        }
        let interest = state.link.interest();
        state.leading = Some(interest);
        turn.state = None;
        let on = (self.0.stream.as_fd(), interest);
        let until = limit.map(|limit| limit.at);
        let waited = wait_woken(Some(on), until, exchange.cancel.get(), &self.0.waker);
        let state = turn.state();
        state.leading = None;
        match waited.map_err(|source| wait_failed(exchange.core.address(), source))? {
            Waited::Ready(ready) => {
                state.link.turn(ready != PollFlags::OUT);
                return Ok(ready != PollFlags::OUT);
            }
            Waited::TimedOut => {
                let limit = state.link.session.limit(&mut exchange.core, Instant::now());
                exchange.check_limit(limit)?;
            }
            Waited::Woken => {}
        }
        Ok(false)
    }

    /// Waits until the leader finds something, or stops leading.
    fn follow(&self, turn: &mut Turn<'_>, exchange: &mut Exchange) -> Result<(), Error> {
        let state = turn.state();
        let limit = state.link.session.limit(&mut exchange.core, Instant::now());
        exchange.check_limit(limit)?;
        state.nudge(&self.0.waker);
        let key = exchange.core.key();
        state.link.session.wait(key, |who| *who = Some(Wake::Park(thread::current())));
        turn.state = None;
        let cancel = exchange.cancel.get();
        let registration = cancel.map(|cancel| cancel.wakes(Wake::Park(thread::current())));
        if !cancel.is_some_and(CancelHandle::is_cancelled) {
            park(limit.map(|limit| limit.at));
        }
        drop(registration);
        turn.state().link.session.wait(key, |who| *who = None);
        Ok(())
    }

    /// Reads and sends what it can for an aborted request. Returns whether the connection can still
    /// be used, once the request has ended. Until then, returns what to wait for besides the waker:
    /// nothing if somebody leads, who will call the waker. Without a waker nobody waits.
    pub(crate) fn poll_drained(
        &self,
        key: RequestKey,
        waker: Option<&Arc<Waker>>,
    ) -> Result<bool, PollFlags> {
        let mut state = self.lock();
        let leads = state.leading.is_none();
        state.link.turn(leads);
        if let Some(outlived) = state.link.session.drained(key, || true) {
            return Ok(outlived);
        }
        state.link.session.wait(key, |who| *who = waker.map(|waker| Wake::Poll(Arc::clone(waker))));
        if leads {
            return Err(state.link.interest());
        }
        state.nudge(&self.0.waker);
        Err(PollFlags::empty())
    }

    /// The socket.
    pub(crate) fn stream(&self) -> &Arc<Stream> {
        &self.0.stream
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Nothing panics while the lock is held.
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Carrier for Mux {
    type Who = Wake;

    fn with<T>(&mut self, f: impl FnOnce(&mut Session, &dyn Fn() -> bool) -> T) -> T {
        let mut state = self.lock();
        let link = &mut state.link;
        let done = f(&mut link.session, &|| socket::is_readable(&*link.stream));
        if link.session.take_due() {
            link.turn(false);
            // If the caller of a request that is over should have led next, somebody else does.
            state.hand_on(&self.0.waker);
        }
        done
    }
}

/// A caller's turn with the connection. However it ends, somebody else leads next.
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
        state.link.session.wait(key, |who| *who = None);
        state.hand_on(&mux.0.waker);
    }
}

impl State {
    /// Makes the leader poll for what is needed now.
    fn nudge(&self, waker: &Waker) {
        let interest = self.link.interest();
        if self.leading.is_some_and(|polled| !polled.contains(interest)) {
            waker.wake();
        }
    }

    /// Makes sure that somebody leads, if anybody waits.
    fn hand_on(&mut self, waker: &Waker) {
        self.link.session.handle_events(|who| who.wake());
        if self.leading.is_some() {
            self.nudge(waker);
        } else if let Some(who) = self.link.session.take_waiting() {
            who.wake();
        }
    }
}
