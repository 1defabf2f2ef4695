//! The leader's part: calls poll(2) on the listener and on every connection that is not quiet, and
//! handles the results.

use std::{
    io,
    os::fd::AsFd,
    sync::{Arc, atomic::Ordering},
    task::Poll,
    time::Instant,
};

use fcgi_engine::{
    listener::StdListener,
    notify::{self, Serving},
    pump,
    server::{ACCEPT_PAUSE, Sockets},
    socket::Peer,
};
use rustix::{
    event::{self, PollFd, PollFlags},
    io::Errno,
};
use tracing::{Span, span::EnteredSpan};

use super::{
    connection::{Connection, Served},
    engine::Engine,
    pool::{Job, Lead, Pool},
    quiet::{FEW, Quiet, SILENT_POLLS},
    slot::Slot,
};
use crate::{stream::Stream, waker::poll_timeout};

/// The sockets; the thread that leads owns them.
pub(super) struct Leader {
    engine: Arc<Engine>,
    listening: Option<Sockets<StdListener>>,
    /// Kept while connections are taken.
    serving: Option<Serving>,
    slots: Vec<Slot>,
    quiet: Quiet,
    /// Requests that have begun and wait for a thread.
    pub(super) jobs: Vec<Job<Connection>>,
    stage: Stage,
    /// Connections that handlers have news of, the first one last.
    dirty: Vec<Arc<Connection>>,
    /// Of the slots before this, those that are [ready](Slot::ready) are still to be served.
    rest: usize,
    /// How many connections may still be accepted before the next poll.
    accepts: usize,
    /// Each request is run before the next connection is served.
    at_once: bool,
    /// Kept for their memory.
    ready: Vec<(usize, PollFlags)>,
    fds: Vec<PollFd<'static>>,
}

/// What a poll has found, apart from connections.
#[derive(Clone, Copy, Debug, Default)]
struct Found {
    /// Somebody woke the leader.
    woken: bool,
    /// A connection waits to be accepted.
    accept: bool,
    /// A quiet connection has an event.
    quiet: bool,
}

#[derive(Clone, Copy, Debug)]
enum Stage {
    Serving,
    /// Requests may finish.
    Draining {
        until: Option<Instant>,
    },
    /// The handlers were told to stop.
    Cancelled {
        until: Option<Instant>,
    },
}

impl Lead<Connection> for Leader {
    fn lead(mut self: Box<Self>, pool: &Pool<Connection>) -> Option<Job<Connection>> {
        loop {
            // It may have turned out to be slow.
            self.at_once &= pool.at_once();
            self = self.stay()?;
            if !self.has_turn() {
                self.go_on();
            }
            if self.jobs.is_empty() {
                let found = self.poll(None);
                self.at_once = pool.is_for_one(found);
                self.go_on();
            }
            if self.jobs.is_empty() {
                if pool.is_left() {
                    pool.give_back(self);
                    return None;
                }
            } else if let Some(turn) = pool.hand_over(&mut self.jobs) {
                return Some(turn.put_down(self));
            }
        }
    }

    fn lead_while(
        mut self: Box<Self>,
        waits: &dyn Fn() -> bool,
        until: Option<Instant>,
    ) -> Option<Box<dyn Lead<Connection>>> {
        // Others run what comes.
        self.at_once = false;
        loop {
            self = self.stay()?;
            if !self.jobs.is_empty() {
                self.engine.pool.submit(self.jobs.drain(..));
            }
            if !waits() || until.is_some_and(|until| until <= Instant::now()) {
                return Some(self);
            }
            if self.rest == 0 && self.accepts == 0 {
                self.poll(until);
            }
            self.go_on();
        }
    }
}

/// An empty list of the same memory.
fn emptied<'a>(fds: Vec<PollFd<'_>>) -> Vec<PollFd<'a>> {
    fds.into_iter().map_while(|_| None).collect()
}

/// Leaves the span of the request whose handler leads: what the server does is no part of it.
fn apart() -> Option<EnteredSpan> {
    let inside = !Span::current().is_none();
    inside.then(|| tracing::error_span!(parent: None, "fcgi_server").entered())
}

impl Leader {
    /// Looks again at connections that asked for it, and ends a shutdown that nobody holds up any
    /// more. `None` then.
    fn stay(mut self: Box<Self>) -> Option<Box<Self>> {
        // This comes first, since it may close the connection that a shutdown waits for.
        self.look_again();
        if !self.is_done() {
            return Some(self);
        }
        let engine = Arc::clone(&self.engine);
        drop(self);
        engine.stop();
        None
    }

    pub(super) fn new(engine: &Arc<Engine>, sockets: Sockets<StdListener>) -> Box<Self> {
        let mut leader = Self::with(engine, Some(sockets));
        leader.serving = Some(notify::serving());
        leader
    }

    fn with(engine: &Arc<Engine>, listening: Option<Sockets<StdListener>>) -> Box<Self> {
        Box::new(Self {
            engine: Arc::clone(engine),
            listening,
            serving: None,
            slots: Vec::new(),
            quiet: Quiet::default(),
            jobs: Vec::new(),
            stage: Stage::Serving,
            dirty: Vec::new(),
            rest: 0,
            accepts: 0,
            at_once: false,
            ready: Vec::new(),
            fds: Vec::new(),
        })
    }

    /// The leader of a server with a single connection, which ends with it.
    pub(super) fn of_one(engine: &Arc<Engine>, stream: Stream) -> Box<Self> {
        let mut leader = Self::with(engine, None);
        let peer = stream.peer();
        leader.add(stream, peer);
        // The end of its last handler may be that of the server.
        engine.pool.drain();
        leader
    }

    /// Drives the shutdown, step by step.
    fn is_done(&mut self) -> bool {
        let limit = self.engine.tally.settings().shutdown;
        let until = |limit| Instant::now().checked_add(limit);
        let late = |at: Option<Instant>| at.is_some_and(|at| at <= Instant::now());
        match self.stage {
            Stage::Serving if !self.engine.is_leaving() => {
                return self.listening.is_none() && self.is_empty();
            }
            Stage::Serving => {
                self.serving = None;
                // Connections that are there already are served (W-13).
                if let Some(sockets) = &mut self.listening {
                    sockets.hide();
                }
                while self.accept() {}
                self.listening = None;
                self.engine.pool.drain();
                self.stage = Stage::Draining { until: until(limit) };
                self.serve_all(Connection::shutdown);
            }
            Stage::Draining { until: at } if late(at) => {
                let _apart = apart();
                tracing::warn!("shutdown: requests cancelled after {limit:?}");
                self.stage = Stage::Cancelled { until: until(self.engine.last_wait()) };
                self.serve_all(Connection::cancel);
            }
            Stage::Cancelled { until } if late(until) => return true,
            Stage::Draining { .. } | Stage::Cancelled { .. } => {}
        }
        self.is_empty()
    }

    /// Whether there are neither connections nor requests.
    fn is_empty(&self) -> bool {
        self.slots.is_empty()
            && self.quiet.is_empty()
            && self.jobs.is_empty()
            && self.engine.pool.is_idle()
    }

    fn serve_all(&mut self, first: impl Fn(&Connection)) {
        let mut all = Vec::new();
        self.quiet.late(None, &mut all);
        for (number, _) in all {
            self.find(number);
        }
        for index in (0..self.slots.len()).rev() {
            first(&self.slots[index].connection);
            self.serve(index, PollFlags::empty());
        }
    }

    /// Checks the connections that handlers have news of.
    fn look_again(&mut self) {
        if self.dirty.is_empty() {
            self.engine.pool.wakeups.take(&mut self.dirty);
            self.dirty.reverse();
        }
        while !self.has_turn() {
            let Some(connection) = self.dirty.pop() else { return };
            // A connection that was closed meanwhile has no slot.
            if let Some(index) = self.find(connection.index()) {
                self.serve(index, PollFlags::empty());
            }
        }
    }

    /// Serves the connections that the last poll has found, and accepts new ones.
    fn go_on(&mut self) {
        while self.rest > 0 {
            self.rest -= 1;
            let slot = self.slots.get_mut(self.rest);
            let Some(ready) = slot.and_then(|slot| slot.ready.take()) else { continue };
            self.serve(self.rest, ready);
            if self.has_turn() {
                return;
            }
        }
        while self.accepts > 0 {
            self.accepts = if self.accept() { self.accepts - 1 } else { 0 };
            if self.has_turn() {
                return;
            }
        }
    }

    /// Whether a request should run before anything else is done.
    fn has_turn(&self) -> bool {
        self.at_once && !self.jobs.is_empty()
    }

    /// The slot of a connection by its number. A quiet connection gets a slot again.
    fn find(&mut self, number: usize) -> Option<usize> {
        if number < self.slots.len() {
            return Some(number);
        }
        let slot = self.quiet.take(number)?;
        Some(self.push(Slot { silent: 0, ready: None, ..slot }))
    }

    fn push(&mut self, slot: Slot) -> usize {
        let index = self.slots.len();
        slot.connection.slot.store(index, Ordering::Relaxed);
        self.slots.push(slot);
        index
    }

    fn remove(&mut self, index: usize) -> Slot {
        let slot = self.slots.swap_remove(index);
        if let Some(moved) = self.slots.get(index) {
            moved.connection.slot.store(index, Ordering::Relaxed);
        }
        slot
    }

    fn are_many(&self) -> bool {
        self.slots.len() + self.quiet.len() > FEW
    }

    /// Counts the polls in which connections had nothing, if there are many connections.
    fn count_silence(&mut self) {
        if !self.are_many() {
            return;
        }
        for slot in &mut self.slots {
            slot.silent = if slot.ready.is_some() { 0 } else { slot.silent.saturating_add(1) };
        }
    }

    /// If there are many connections, moves all without events out of the poll: each that stays
    /// makes every poll longer.
    fn set_quiet_apart(&mut self) {
        if !self.are_many() {
            return;
        }
        for index in (0..self.slots.len()).rev() {
            if self.slots[index].silent >= SILENT_POLLS {
                if !self.quiet.is_able() {
                    return;
                }
                let slot = self.remove(index);
                if let Err(slot) = self.quiet.add(slot) {
                    self.push(slot);
                }
            }
        }
    }

    /// One connection's turn. If that was its last, the last connection takes its slot.
    fn serve(&mut self, index: usize, ready: PollFlags) {
        let slot = &mut self.slots[index];
        match slot.connection.serve(ready, &mut self.jobs) {
            Served::Waits(watch) => slot.watch = watch,
            Served::HasMore(watch) if self.at_once => {
                slot.watch = watch;
                slot.ready = Some(PollFlags::empty());
                self.rest = self.rest.max(index + 1);
            }
            Served::HasMore(watch) => {
                slot.watch = watch;
                self.engine.pool.wakeups.touch(&slot.connection, false, true, None);
            }
            Served::Closed => drop(self.remove(index)),
        }
    }

    /// Waits until there is something to do, until `until` at most. Notes what, and returns how many
    /// connections have something.
    fn poll(&mut self, until: Option<Instant>) -> usize {
        let stage = match self.stage {
            Stage::Serving => None,
            Stage::Draining { until } | Stage::Cancelled { until } => until,
        };
        let limits = self.slots.iter().filter_map(|slot| slot.watch.until);
        let listening = self.listening.as_mut();
        let pause = listening.and_then(|sockets| sockets.paused_until(Instant::now));
        let limits = limits.chain(stage).chain(pause).chain(self.quiet.until());
        let until = limits.chain(until).min();
        if !self.engine.pool.wakeups.begin_poll(until) {
            return 0;
        }
        let mut ready = std::mem::take(&mut self.ready);
        let Found { woken, accept, quiet } = self.wait(until, pause.is_none(), &mut ready);
        self.engine.pool.wakeups.end_poll();
        if woken {
            self.engine.pool.wakeups.waker.drain();
        }
        let found = ready.len();
        for (index, events) in ready.drain(..) {
            self.slots[index].ready = Some(events);
        }
        self.count_silence();
        self.set_quiet_apart();
        if quiet {
            self.quiet.ready(&mut ready);
        }
        let late = until.map(|until| (until, Instant::now())).filter(|(until, now)| until <= now);
        if let Some((_, now)) = late {
            self.quiet.late(Some(now), &mut ready);
            for slot in self.slots.iter_mut().filter(|slot| slot.is_late(now)) {
                slot.ready.get_or_insert(PollFlags::empty());
            }
        }
        let found = found + ready.len() + usize::from(accept);
        for (number, events) in ready.drain(..) {
            if let Some(index) = self.find(number) {
                self.slots[index].ready = Some(events);
            }
        }
        self.ready = ready;
        // The open ones get their turn even when many connections come at once.
        self.accepts = if accept { pump::MAX_ROUNDS } else { 0 };
        // In reverse order, since the last connection takes a slot that is freed.
        self.rest = self.slots.len();
        found
    }

    /// Calls poll(2), on the listeners only if it `accepts`. Adds the connections that are ready to
    /// `ready`.
    fn wait(
        &mut self,
        until: Option<Instant>,
        accepts: bool,
        ready: &mut Vec<(usize, PollFlags)>,
    ) -> Found {
        let listening = self.listening.as_ref().filter(|_| accepts);
        let listeners = listening.into_iter().flat_map(Sockets::iter);
        let mut fds = emptied(std::mem::take(&mut self.fds));
        fds.push(PollFd::new(&*self.engine.pool.wakeups.waker, PollFlags::IN));
        fds.extend(listeners.map(|listener| PollFd::new(listener, PollFlags::IN)));
        let at_quiet = fds.len();
        let quiet = self.quiet.polled();
        fds.extend(quiet.map(|set| PollFd::from_borrowed_fd(set, PollFlags::IN)));
        let first = fds.len();
        fds.extend(
            self.slots
                .iter()
                .filter(|slot| slot.is_watched())
                .map(|slot| PollFd::new(&*slot.stream, slot.watch.events)),
        );
        let timeout = poll_timeout(until);
        match event::poll(&mut fds, timeout.as_ref()) {
            Ok(0) | Err(Errno::INTR) => return Found::default(),
            Ok(_) => {}
            Err(error) => {
                let _apart = apart();
                tracing::error!(error = %io::Error::from(error), "poll failed");
                std::thread::sleep(ACCEPT_PAUSE);
                return Found::default();
            }
        }
        let slots = self.slots.iter().enumerate().filter(|(_, slot)| slot.is_watched());
        ready.extend(
            slots
                .zip(&fds[first..])
                .map(|((index, _), fd)| (index, fd.revents()))
                .filter(|(_, revents)| !revents.is_empty()),
        );
        let is_ready = |fds: &[PollFd<'_>]| fds.iter().any(|fd| !fd.revents().is_empty());
        let found = Found {
            woken: is_ready(&fds[..1]),
            accept: is_ready(&fds[1..at_quiet]),
            quiet: is_ready(&fds[at_quiet..first]),
        };
        self.fds = emptied(fds);
        found
    }

    /// Adds a new connection and returns its slot.
    fn add(&mut self, stream: Stream, peer: Peer) -> usize {
        let stream = Arc::new(stream);
        let connection = Arc::new(self.engine.connection(Arc::clone(&stream), peer));
        let watch = connection.watch();
        self.push(Slot { connection, stream, watch, ready: None, silent: 0 })
    }

    /// Accepts a connection that waits, and reads what it has sent; mostly that is a request. Returns
    /// false if none waits.
    fn accept(&mut self) -> bool {
        let _apart = apart();
        let Some(sockets) = &mut self.listening else { return false };
        let accepted = sockets.poll_accept(
            &self.engine.tally,
            Instant::now,
            |listener| Some(listener.as_fd()),
            |listener| Stream::accept(listener),
        );
        match accepted {
            Poll::Ready(Ok(Some((stream, peer)))) => {
                let index = self.add(stream, peer);
                self.serve(index, PollFlags::IN);
            }
            Poll::Ready(Ok(None)) => {}
            Poll::Ready(Err(error)) => {
                self.engine.fail(error);
                return false;
            }
            Poll::Pending => return false,
        }
        true
    }
}
