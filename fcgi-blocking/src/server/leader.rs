//! The leader's part: poll(2) on the listener and on every connection that is not quiet, and what
//! follows.

use std::{
    io,
    sync::{Arc, atomic::Ordering},
    time::{Duration, Instant},
};

use fcgi_engine::{
    notify, pump,
    server::{ACCEPT_PAUSE, LAST_ACCEPTS, is_fatal, is_peers_fault},
    socket::Peer,
};
use rustix::{
    event::{self, PollFd, PollFlags, Timespec},
    io::Errno,
};

use super::{
    Engine, Job,
    connection::{Connection, Watch},
    quiet::{FEW, Quiet, SILENT_POLLS},
    serve::accept_failed,
};
use crate::{acceptor::Acceptor, stream::Stream};

/// Some systems' poll takes no longer times.
const LONGEST_POLL: Duration = Duration::from_secs(3600);

/// The sockets, in the hands of the thread that leads.
#[derive(Debug)]
pub(super) struct Leader {
    acceptor: Option<Acceptor>,
    slots: Vec<Slot>,
    quiet: Quiet,
    /// Requests that have begun and wait for a thread.
    pub(super) jobs: Vec<Job>,
    /// Accepts nothing before then.
    accept_at: Option<Instant>,
    stage: Stage,
    dirty: Vec<Arc<Connection>>,
    ready: Vec<(usize, PollFlags)>,
}

/// A connection.
#[derive(Debug)]
pub(super) struct Slot {
    pub(super) connection: Arc<Connection>,
    pub(super) stream: Arc<Stream>,
    pub(super) watch: Watch,
    /// Polls in a row in which it had nothing.
    silent: u8,
}

impl Slot {
    /// Whether the system is asked for it: one that is known to be hung up has nothing to tell.
    pub(super) fn is_watched(&self) -> bool {
        !(self.watch.events.is_empty() && self.watch.hung_up)
    }
}

/// What a poll has found beside connections.
#[derive(Clone, Copy, Debug, Default)]
struct Found {
    /// Somebody woke the leader.
    woken: bool,
    /// A connection waits to be accepted.
    accept: bool,
    /// A quiet connection has something.
    quiet: bool,
}

#[derive(Clone, Copy, Debug)]
enum Stage {
    Serving,
    /// Requests finish.
    Draining {
        until: Option<Instant>,
    },
    /// They were told to stop.
    Cancelled {
        until: Option<Instant>,
    },
}

impl Leader {
    pub(super) fn new(acceptor: Acceptor) -> Box<Self> {
        Self::with(Some(acceptor))
    }

    fn with(acceptor: Option<Acceptor>) -> Box<Self> {
        Box::new(Self {
            acceptor,
            slots: Vec::new(),
            quiet: Quiet::default(),
            jobs: Vec::new(),
            accept_at: None,
            stage: Stage::Serving,
            dirty: Vec::new(),
            ready: Vec::new(),
        })
    }

    /// The leader of a server that has one connection, and ends with it.
    pub(super) fn of_one(engine: &Arc<Engine>, stream: Stream) -> Box<Self> {
        let mut leader = Self::with(None);
        let peer = stream.peer();
        leader.add(engine, stream, peer);
        // Its last handler's end may be the server's.
        engine.pool.drain();
        leader
    }

    /// Leads until there is a request to run. `None` at the server's end.
    pub(super) fn lead(mut self: Box<Self>, engine: &Arc<Engine>) -> Option<Job> {
        loop {
            // First, since it may close the connection that a shutdown waits for.
            self.look_again(engine);
            if self.is_done(engine) {
                drop(self);
                engine.stop();
                return None;
            }
            if self.jobs.is_empty() {
                self.poll(engine);
            }
            if !self.jobs.is_empty() {
                self = match engine.pool.hand_over(self) {
                    Ok(job) => return Some(job),
                    Err(leader) => leader,
                };
            }
        }
    }

    /// The shutdown, step by step.
    fn is_done(&mut self, engine: &Arc<Engine>) -> bool {
        let limit = engine.tally.settings().shutdown;
        let until = |limit| Instant::now().checked_add(limit);
        let late = |at: Option<Instant>| at.is_some_and(|at| at <= Instant::now());
        match self.stage {
            Stage::Serving if !engine.is_leaving() => {
                return self.acceptor.is_none() && self.is_empty(engine);
            }
            Stage::Serving => {
                // Who has connected already is served (W-13).
                notify::stopping();
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
                tracing::warn!("shutdown: requests cancelled after {limit:?}");
                self.stage = Stage::Cancelled { until: until(engine.last_wait()) };
                self.serve_all(Connection::cancel);
            }
            Stage::Cancelled { until } if late(until) => return true,
            Stage::Draining { .. } | Stage::Cancelled { .. } => {}
        }
        self.is_empty(engine)
    }

    /// Whether there is no connection, and no request.
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

    /// Connections that handlers have something to tell of.
    fn look_again(&mut self, engine: &Engine) {
        let mut dirty = std::mem::take(&mut self.dirty);
        engine.wakeups.take(&mut dirty);
        for connection in dirty.drain(..) {
            // One that was closed meanwhile has no slot.
            if let Some(index) = self.find(connection.index()) {
                self.serve(index, PollFlags::empty());
            }
        }
        self.dirty = dirty;
    }

    /// The slot of a connection by its number; a quiet one gets one again.
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

    /// Notes who had nothing in a poll, where there are many.
    fn count_silence(&mut self, ready: &[(usize, PollFlags)]) {
        if self.slots.len() <= FEW {
            return;
        }
        for slot in &mut self.slots {
            slot.silent = slot.silent.saturating_add(1);
        }
        for (index, _) in ready {
            self.slots[*index].silent = 0;
        }
    }

    /// Where there are many connections, those that say nothing are not polled.
    fn set_quiet_apart(&mut self) {
        for index in (0..self.slots.len()).rev() {
            if self.slots.len() <= FEW || !self.quiet.is_able() {
                return;
            }
            if self.slots[index].silent >= SILENT_POLLS {
                let slot = self.remove(index);
                if let Err(slot) = self.quiet.add(slot) {
                    self.push(slot);
                }
            }
        }
    }

    /// One connection's turn. The last one takes its slot if that was its last.
    fn serve(&mut self, index: usize, ready: PollFlags) {
        let slot = &mut self.slots[index];
        if let Some(watch) = slot.connection.serve(ready, &mut self.jobs) {
            slot.watch = watch;
            return;
        }
        self.remove(index);
    }

    /// Waits until there is something to do, and does it.
    fn poll(&mut self, engine: &Arc<Engine>) {
        let stage = match self.stage {
            Stage::Serving => None,
            Stage::Draining { until } | Stage::Cancelled { until } => until,
        };
        let limits = self.slots.iter().filter_map(|slot| slot.watch.until);
        let until = limits.chain(stage).chain(self.accept_at).chain(self.quiet.until()).min();
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
        // From the last, since a slot that is freed is taken by the last.
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
            // Those that are here get their turn even when many come at once.
            self.accept(engine, pump::MAX_ROUNDS);
        }
    }

    /// poll(2). Those that are ready are added to `ready`.
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
        let timeout = until.map(|until| {
            let left = until.saturating_duration_since(Instant::now()).min(LONGEST_POLL);
            Timespec::try_from(left).unwrap_or_default()
        });
        match event::poll(&mut fds, timeout.as_ref()) {
            Ok(0) | Err(Errno::INTR) => return Found::default(),
            Ok(_) => {}
            Err(error) => {
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

    /// A new connection; says which slot it has.
    fn add(&mut self, engine: &Arc<Engine>, stream: Stream, peer: Peer) -> usize {
        let stream = Arc::new(stream);
        let connection = Arc::new(Connection::new(engine, Arc::clone(&stream), peer));
        let watch = connection.watch();
        self.push(Slot { connection, stream, watch, silent: 0 })
    }

    /// Takes so many of the connections that wait.
    fn accept(&mut self, engine: &Arc<Engine>, most: usize) {
        for _ in 0..most {
            let Some(acceptor) = &mut self.acceptor else { return };
            match acceptor.accept() {
                Ok((_, peer)) if !engine.tally.settings().admits(peer) => {
                    tracing::warn!(%peer, "connection closed: not in FCGI_WEB_SERVER_ADDRS");
                }
                Ok((stream, peer)) => {
                    let index = self.add(engine, stream, peer);
                    self.serve(index, PollFlags::empty());
                }
                Err((error, _)) if error.kind() == io::ErrorKind::WouldBlock => return,
                Err((error, _)) if is_peers_fault(&error) => {}
                Err((error, address)) if is_fatal(&error) => {
                    return engine.fail(accept_failed(&address, error));
                }
                Err((error, address)) => {
                    tracing::error!(%error, %address, "accept failed");
                    self.accept_at = Instant::now().checked_add(ACCEPT_PAUSE);
                    return;
                }
            }
        }
    }
}
