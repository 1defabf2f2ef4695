//! The leader's part: calls poll(2) on the listener and on every connection that is not quiet, and
//! handles the results.

use std::{
    io,
    sync::{Arc, atomic::Ordering},
    task::Poll,
    time::Instant,
};

use fcgi_engine::{
    notify::{self, Serving},
    pump,
    server::{ACCEPT_PAUSE, LAST_ACCEPTS, accept_again},
    socket::Peer,
};
use rustix::{
    event::{self, PollFd, PollFlags},
    io::Errno,
};
use tracing::{Span, span::EnteredSpan};

use super::{
    connection::{Connection, Crew, Job},
    engine::{Engine, Lead},
    quiet::{FEW, Quiet, SILENT_POLLS},
    slot::Slot,
};
use crate::{acceptor::Acceptor, stream::Stream, waker::poll_timeout};

/// The sockets; the thread that leads owns them.
#[derive(Debug)]
pub(super) struct Leader {
    acceptor: Option<Acceptor>,
    /// Kept while there is an acceptor that takes connections.
    serving: Option<Serving>,
    slots: Vec<Slot>,
    quiet: Quiet,
    /// Requests that have begun and wait for a thread.
    pub(super) jobs: Vec<Job>,
    /// Accepts nothing before this time.
    accept_at: Option<Instant>,
    stage: Stage,
    dirty: Vec<Arc<Connection>>,
    ready: Vec<(usize, PollFlags)>,
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

impl Lead for Leader {
    fn lead(mut self: Box<Self>, engine: &Arc<Engine>) -> Option<Job> {
        loop {
            self = self.stay(engine)?;
            if self.jobs.is_empty() {
                self.poll(engine, None);
            }
            if self.jobs.is_empty() {
                if engine.pool.is_left() {
                    engine.pool.give_back(self);
                    return None;
                }
            } else if let Some(turn) = engine.pool.hand_over(&mut self.jobs) {
                return Some(turn.put_down(self));
            }
        }
    }

    fn lead_while(
        mut self: Box<Self>,
        engine: &Arc<Engine>,
        waits: &dyn Fn() -> bool,
        until: Option<Instant>,
    ) -> Option<Box<dyn Lead>> {
        loop {
            self = self.stay(engine)?;
            if !self.jobs.is_empty() {
                engine.pool.submit(self.jobs.drain(..));
            }
            if !waits() || until.is_some_and(|until| until <= Instant::now()) {
                return Some(self);
            }
            self.poll(engine, until);
        }
    }
}

/// Leaves the span of the request whose handler leads: what the server does is no part of it.
fn apart() -> Option<EnteredSpan> {
    let inside = !Span::current().is_none();
    inside.then(|| tracing::error_span!(parent: None, "fcgi_server").entered())
}

impl Leader {
    /// Looks again at connections that asked for it, and ends a shutdown that nobody holds up any
    /// more. `None` then.
    fn stay(mut self: Box<Self>, engine: &Arc<Engine>) -> Option<Box<Self>> {
        // This comes first, since it may close the connection that a shutdown waits for.
        self.look_again(engine);
        if !self.is_done(engine) {
            return Some(self);
        }
        drop(self);
        engine.stop();
        None
    }

    pub(super) fn new(acceptor: Acceptor) -> Box<Self> {
        let mut leader = Self::with(Some(acceptor));
        leader.serving = Some(notify::serving());
        leader
    }

    fn with(acceptor: Option<Acceptor>) -> Box<Self> {
        Box::new(Self {
            acceptor,
            serving: None,
            slots: Vec::new(),
            quiet: Quiet::default(),
            jobs: Vec::new(),
            accept_at: None,
            stage: Stage::Serving,
            dirty: Vec::new(),
            ready: Vec::new(),
        })
    }

    /// The leader of a server with a single connection, which ends with it.
    pub(super) fn of_one(engine: &Arc<Engine>, stream: Stream) -> Box<Self> {
        let mut leader = Self::with(None);
        let peer = stream.peer();
        leader.add(engine, stream, peer);
        // The end of its last handler may be that of the server.
        engine.pool.drain();
        leader
    }

    /// Drives the shutdown, step by step.
    fn is_done(&mut self, engine: &Arc<Engine>) -> bool {
        let limit = engine.tally.settings().shutdown;
        let until = |limit| Instant::now().checked_add(limit);
        let late = |at: Option<Instant>| at.is_some_and(|at| at <= Instant::now());
        match self.stage {
            Stage::Serving if !engine.is_leaving() => {
                return self.acceptor.is_none() && self.is_empty(engine);
            }
            Stage::Serving => {
                self.serving = None;
                // Connections that are there already are served (W-13).
                if let Some(acceptor) = &mut self.acceptor {
                    acceptor.hide();
                }
                self.accept(engine, LAST_ACCEPTS);
                self.acceptor = None;
                engine.pool.drain();
                self.stage = Stage::Draining { until: until(limit) };
                self.serve_all(Connection::shutdown);
            }
            Stage::Draining { until: at } if late(at) => {
                let _apart = apart();
                tracing::warn!("shutdown: requests cancelled after {limit:?}");
                self.stage = Stage::Cancelled { until: until(engine.last_wait()) };
                self.serve_all(Connection::cancel);
            }
            Stage::Cancelled { until } if late(until) => return true,
            Stage::Draining { .. } | Stage::Cancelled { .. } => {}
        }
        self.is_empty(engine)
    }

    /// Whether there are neither connections nor requests.
    fn is_empty(&self, engine: &Engine) -> bool {
        self.slots.is_empty()
            && self.quiet.is_empty()
            && self.jobs.is_empty()
            && engine.pool.is_idle()
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
    fn look_again(&mut self, engine: &Engine) {
        let mut dirty = std::mem::take(&mut self.dirty);
        engine.wakeups.take(&mut dirty);
        for connection in dirty.drain(..) {
            // A connection that was closed meanwhile has no slot.
            if let Some(index) = self.find(connection.index()) {
                self.serve(index, PollFlags::empty());
            }
        }
        self.dirty = dirty;
    }

    /// The slot of a connection by its number. A quiet connection gets a slot again.
    fn find(&mut self, number: usize) -> Option<usize> {
        if number < self.slots.len() {
            return Some(number);
        }
        let slot = self.quiet.take(number)?;
        Some(self.push(Slot { silent: 0, ..slot }))
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
    fn count_silence(&mut self, ready: &[(usize, PollFlags)]) {
        if !self.are_many() {
            return;
        }
        for slot in &mut self.slots {
            slot.silent = slot.silent.saturating_add(1);
        }
        for (index, _) in ready {
            self.slots[*index].silent = 0;
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
        if let Some(watch) = slot.connection.serve(ready, &mut self.jobs) {
            slot.watch = watch;
            return;
        }
        self.remove(index);
    }

    /// Waits until there is something to do, until `until` at most, and does it.
    fn poll(&mut self, engine: &Arc<Engine>, until: Option<Instant>) {
        let stage = match self.stage {
            Stage::Serving => None,
            Stage::Draining { until } | Stage::Cancelled { until } => until,
        };
        let limits = self.slots.iter().filter_map(|slot| slot.watch.until);
        let limits = limits.chain(stage).chain(self.accept_at).chain(self.quiet.until());
        let until = limits.chain(until).min();
        if !engine.wakeups.begin_poll(until) {
            return;
        }
        let mut ready = std::mem::take(&mut self.ready);
        let Found { woken, accept, quiet } = self.wait(engine, until, &mut ready);
        engine.wakeups.end_poll();
        if woken {
            engine.wakeups.waker.drain();
        }
        self.count_silence(&ready);
        // In reverse order, since the last connection takes a slot that is freed.
        for (index, events) in ready.drain(..).rev() {
            self.serve(index, events);
        }
        if quiet {
            self.quiet.ready(&mut ready);
        }
        let now = Instant::now();
        self.quiet.late(Some(now), &mut ready);
        for (number, events) in ready.drain(..) {
            if let Some(index) = self.find(number) {
                self.serve(index, events);
            }
        }
        self.ready = ready;
        self.set_quiet_apart();
        if until.is_some_and(|until| until <= now) {
            for index in (0..self.slots.len()).rev() {
                if self.slots[index].watch.until.is_some_and(|until| until <= now) {
                    self.serve(index, PollFlags::empty());
                }
            }
            self.accept_at = self.accept_at.filter(|at| *at > now);
        }
        if accept {
            // The open ones get their turn even when many connections come at once.
            self.accept(engine, pump::MAX_ROUNDS);
        }
    }

    /// Calls poll(2). Adds the connections that are ready to `ready`.
    fn wait(
        &self,
        engine: &Engine,
        until: Option<Instant>,
        ready: &mut Vec<(usize, PollFlags)>,
    ) -> Found {
        let acceptor = self.acceptor.as_ref().filter(|_| self.accept_at.is_none());
        let listeners = acceptor.into_iter().flat_map(Acceptor::listeners);
        let mut fds = Vec::with_capacity(self.slots.len() + 3);
        fds.push(PollFd::new(&*engine.wakeups.waker, PollFlags::IN));
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
        Found {
            woken: is_ready(&fds[..1]),
            accept: is_ready(&fds[1..at_quiet]),
            quiet: is_ready(&fds[at_quiet..first]),
        }
    }

    /// Adds a new connection and returns its slot.
    fn add(&mut self, engine: &Arc<Engine>, stream: Stream, peer: Peer) -> usize {
        let stream = Arc::new(stream);
        let crew = Arc::clone(engine) as Arc<dyn Crew>;
        let connection = Connection::new(crew, &engine.tally, Arc::clone(&stream), peer);
        let connection = Arc::new(connection);
        let watch = connection.watch();
        self.push(Slot { connection, stream, watch, silent: 0 })
    }

    /// Accepts at most this many of the waiting connections.
    fn accept(&mut self, engine: &Arc<Engine>, most: usize) {
        let _apart = apart();
        for _ in 0..most {
            let Some(acceptor) = &mut self.acceptor else { return };
            let Poll::Ready(accepted) = acceptor.accept() else { return };
            match accepted {
                Ok((_, peer)) if !engine.tally.admits(peer) => {}
                Ok((stream, peer)) => {
                    let index = self.add(engine, stream, peer);
                    self.serve(index, PollFlags::empty());
                }
                Err((error, address)) => match accept_again(error, &address, Instant::now()) {
                    Ok(None) => {}
                    Ok(pause) => {
                        self.accept_at = pause;
                        return;
                    }
                    Err(error) => return engine.fail(error),
                },
            }
        }
    }
}
