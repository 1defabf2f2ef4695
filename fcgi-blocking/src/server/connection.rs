//! A connection, shared by the leader and the handlers of its requests, behind one lock: the
//! session and the threads that wait.
//!
//! The leader serves a connection when its socket is ready or a limit passes. When a handler
//! writes, ends or waits, its thread takes the same steps, except reading.

use std::{
    ops::{Deref, DerefMut},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    task::Poll,
    time::Instant,
};

use bytes::Bytes;
use fcgi_engine::{
    server::{self, ConnectionSpan, HandlerEnd, Session, Tally, Turn, Write},
    socket::{END_OF_FILE, HangUp, Peer},
};
use fcgi_proto::{Input, Output, Params, Rejection, RequestKey, server::AbortReason};
use rustix::event::PollFlags;

use super::{
    pool::{Job, Pool},
    ready::Ready,
    waiting::{Threads, Waiting},
};
use crate::{Error, stream::Stream};

/// How many bytes may be queued before a handler's write sends them.
const SEND_AT: usize = 64 * 1024;
/// After this many reads of its own a handler polls, even if there is more to read, so that other
/// connections get their turn.
const OWN_READS: u32 = 8;

/// A connection.
#[derive(Debug)]
pub(super) struct Connection {
    pool: Arc<Pool<Connection>>,
    /// Its slot in the leader's table.
    pub(super) slot: AtomicUsize,
    span: ConnectionSpan,
    inner: Mutex<Inner>,
}

/// The connection's lock. What its holder has noted is logged once it is released: a subscriber is
/// code of others, which may use the connection.
struct Locked<'a> {
    /// Only [`Connection::wait`] takes it, for as long as it waits.
    guard: Option<MutexGuard<'a, Inner>>,
}

impl Deref for Locked<'_> {
    type Target = Inner;

    fn deref(&self) -> &Inner {
        self.guard.as_ref().expect("it is locked")
    }
}

impl DerefMut for Locked<'_> {
    fn deref_mut(&mut self) -> &mut Inner {
        self.guard.as_mut().expect("it is locked")
    }
}

impl Drop for Locked<'_> {
    #[inline]
    fn drop(&mut self) {
        let Some(mut guard) = self.guard.take() else { return };
        if !guard.session.notes().is_empty() {
            let notes = std::mem::take(guard.session.notes());
            drop(guard);
            drop(notes);
        }
    }
}

#[derive(Debug)]
struct Inner {
    session: Session<Threads<Connection>>,
    /// Dropped when the connection closes, even if others still have a handle of a request.
    stream: Option<Arc<Stream>>,
    /// What the leader knows of the connection, and whether it will check it anyway.
    told: Watch,
    dirty: bool,
    /// It has left something of its own turn, and comes back to it before it polls.
    left: bool,
    /// How many handlers lead, or try to, while they wait.
    leaders: usize,
    /// The last read filled its buffer, so there may be more.
    more: bool,
    /// Consecutive reads of a handler's own.
    own_reads: u32,
}

/// What the leader watches on a connection.
#[derive(Clone, Copy, Debug)]
pub(super) struct Watch {
    pub(super) events: PollFlags,
    pub(super) until: Option<Instant>,
    /// It is known to be hung up. Polling it would report that again and again, and the leader
    /// would never sleep.
    pub(super) hung_up: bool,
}

/// What the leader's turn has left to do.
#[derive(Debug)]
pub(super) enum Served {
    /// Nothing, until something happens that the leader watches.
    Waits(Watch),
    /// More, right after the request that has begun.
    HasMore(Watch),
    /// Nothing ever.
    Closed,
}

impl Watch {
    fn new(session: &Session<Threads<Connection>>) -> Self {
        let mut events = PollFlags::empty();
        events.set(PollFlags::IN, session.wants_read());
        events.set(PollFlags::OUT, session.wants_write());
        events.set(END_OF_FILE, session.wants_hang_up());
        Self { events, until: session.deadline(), hung_up: session.is_deaf() }
    }
}

impl Inner {
    /// The threads that wait for the request, if any ever did.
    fn waiting(&mut self, key: RequestKey) -> Option<&mut Waiting<Connection>> {
        self.session.waiters(key)?.get()
    }

    /// Whether nobody has woken those who wait for the request since there were this many wakes.
    fn is_waiting(&mut self, key: RequestKey, wakes: u64) -> bool {
        self.waiting(key).is_some_and(|waiting| waiting.wakes == wakes)
    }
}

impl Connection {
    pub(super) fn new(
        pool: Arc<Pool<Connection>>,
        tally: &Arc<Tally>,
        stream: Arc<Stream>,
        peer: Peer,
    ) -> Self {
        let session = Session::new(tally, peer, Instant::now());
        let (told, span) = (Watch::new(&session), session.span());
        let inner = Inner {
            session,
            stream: Some(stream),
            told,
            dirty: false,
            left: false,
            leaders: 0,
            more: false,
            own_reads: 0,
        };
        Self { pool, slot: AtomicUsize::new(usize::MAX), span, inner: Mutex::new(inner) }
    }

    fn lock(&self) -> Locked<'_> {
        // Nothing panics while the lock is held; a handler's panic is caught outside.
        let guard = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        Locked { guard: Some(guard) }
    }

    /// Its slot among the leader's connections.
    pub(super) fn index(&self) -> usize {
        self.slot.load(Ordering::Relaxed)
    }

    /// What the leader should watch on it.
    pub(super) fn watch(&self) -> Watch {
        self.lock().told
    }

    /// The leader's turn: handles what the socket is ready for, and limits that have passed.
    /// Requests that have begun are added to `jobs`.
    pub(super) fn serve(self: &Arc<Self>, ready: PollFlags, jobs: &mut Vec<Job<Self>>) -> Served {
        let mut guard = self.lock();
        let inner = &mut *guard;
        (inner.dirty, inner.left) = (false, false);
        let seen = HangUp::of(ready);
        let readable = seen != HangUp::No || ready.contains(PollFlags::IN);
        let writable = seen != HangUp::No || ready.contains(PollFlags::OUT);
        let mut more = self.turns(inner, jobs, readable, writable);
        if seen != HangUp::No {
            inner.session.handle_hang_up(seen);
            more |= self.turns(inner, jobs, false, false);
        }
        if inner.session.is_closed() {
            inner.stream = None;
            self.slot.store(usize::MAX, Ordering::Relaxed);
            return Served::Closed;
        }
        inner.told = Watch::new(&inner.session);
        if !more {
            return Served::Waits(inner.told);
        }
        (inner.dirty, inner.left) = (true, true);
        Served::HasMore(inner.told)
    }

    /// Runs the session's turns, given what the socket is known to be ready for. Returns true if
    /// there is more to do after the last request that has begun.
    fn turns(
        self: &Arc<Self>,
        inner: &mut Inner,
        jobs: &mut Vec<Job<Self>>,
        readable: bool,
        writable: bool,
    ) -> bool {
        let Some(stream) = &inner.stream else { return false };
        let session = &mut inner.session;
        // A connection that will close reads once more.
        let readable = readable || session.is_leaving();
        let writable = writable || !session.wants_write();
        // A handler that waits may take what has come, and the next read may use the same buffer.
        let mut io = Ready::new(stream, readable, writable, inner.leaders > 0);
        // A connection that leaves has more to do than to read the next request.
        let at_once = self.pool.at_once() && !session.is_leaving();
        let more = loop {
            match session.turn(&mut io, Instant::now) {
                Turn::Run(job) => {
                    let last = job.whole && at_once;
                    jobs.push(self.job(job));
                    // What is left comes before the next poll, whoever leads then: the handler may
                    // turn out to be slow.
                    if last && (session.has_more() || session.queued() > 0) {
                        break true;
                    }
                    if last && session.wants_read() {
                        break false;
                    }
                }
                Turn::Again => {
                    let listed = std::mem::replace(&mut inner.dirty, true);
                    self.pool.wakeups.touch(self, listed, true, None);
                    break false;
                }
                Turn::Wait | Turn::Closed => break false,
            }
        };
        if let Some(filled) = io.more() {
            inner.more = filled;
        }
        while let Some(key) = session.poll_unstarted() {
            self.pool.forget(self, key);
        }
        for key in session.whole_now() {
            match jobs.iter_mut().find(|job| job.is(self, key)) {
                Some(job) => job.request.whole = true,
                None => self.pool.promote(self, key),
            }
        }
        more
    }

    fn job(self: &Arc<Self>, request: server::Job) -> Job<Self> {
        Job { connection: Arc::clone(self), request }
    }

    pub(super) fn keep_params(&self, key: RequestKey, params: Params) {
        self.lock().session.keep_params(key, params);
    }

    pub(super) fn take_params(&self, key: RequestKey) -> Params {
        self.lock().session.take_params(key)
    }

    /// Takes no more requests (FC-7-1).
    pub(super) fn shutdown(&self) {
        self.lock().session.shutdown(Instant::now());
    }

    /// Ends the connection and stops its handlers.
    pub(super) fn cancel(&self) {
        self.lock().session.cancel(Instant::now());
    }

    /// The next bytes of a stream; `None` at its end.
    pub(super) fn read(
        self: &Arc<Self>,
        key: RequestKey,
        input: Input,
        max: usize,
    ) -> Result<Option<Bytes>, Error> {
        let read =
            |session: &mut Session<_>| session.read(key, input, max, || Some(Instant::now()));
        let (mut inner, read) = self.until_ready(key, true, read);
        if inner.session.take_attention() {
            self.act(&mut inner, false);
        }
        read
    }

    /// Waits until `poll` is ready. What was written is sent first. If it `reads`, and there may be
    /// more to read, its thread reads that itself, without a poll.
    fn until_ready<T>(
        self: &Arc<Self>,
        key: RequestKey,
        reads: bool,
        mut poll: impl FnMut(&mut Session<Threads<Connection>>) -> Poll<T>,
    ) -> (Locked<'_>, T) {
        let mut inner = self.lock();
        let mut acted = false;
        loop {
            match poll(&mut inner.session) {
                Poll::Ready(ready) => return (inner, ready),
                Poll::Pending if !acted => self.exchange(&mut inner, key, reads),
                Poll::Pending => inner = self.wait(inner, key, None),
            }
            acted = !acted;
        }
    }

    /// Sends what a handler has written, and reads what it waits for if that may have come.
    fn exchange(self: &Arc<Self>, inner: &mut Inner, key: RequestKey, reads: bool) {
        let readable = reads && inner.more && inner.own_reads < OWN_READS;
        if !readable {
            inner.own_reads = 0;
            return self.act(inner, true);
        }
        inner.own_reads += 1;
        inner.leaders += 1;
        self.act_on(inner, true, true);
        inner.leaders -= 1;
        if let Some(waiting) = inner.waiting(key) {
            waiting.go_on();
        }
    }

    /// Like [`read`](Self::read), without waiting.
    #[cfg(feature = "http")]
    pub(super) fn try_read(
        self: &Arc<Self>,
        key: RequestKey,
        input: Input,
        max: usize,
    ) -> Poll<Result<Option<Bytes>, Error>> {
        let mut inner = self.lock();
        let read = inner.session.read(key, input, max, || None);
        if inner.session.take_attention() {
            self.act(&mut inner, false);
        }
        read
    }

    /// Queues some of `bytes`, or all in one record. Sends the queue if it is long, and waits while
    /// it is too long.
    pub(super) fn write(
        self: &Arc<Self>,
        key: RequestKey,
        output: Output,
        bytes: &mut Bytes,
        how: Write,
    ) -> Result<usize, Error> {
        let write = |session: &mut Session<_>| session.write(key, output, bytes, how);
        let (mut inner, written) = self.until_ready(key, false, write);
        if inner.session.queued() >= SEND_AT {
            self.act(&mut inner, true);
        }
        written
    }

    /// Waits until everything queued on the connection was handed to the socket.
    pub(super) fn flush(self: &Arc<Self>, key: RequestKey) -> Result<(), Error> {
        self.until_ready(key, false, |session| session.flush(key)).1
    }

    /// Waits until the request was aborted or has ended; `None` if `until` comes first.
    pub(super) fn cancelled(
        self: &Arc<Self>,
        key: RequestKey,
        until: Option<Instant>,
    ) -> Option<AbortReason> {
        let mut inner = self.lock();
        self.act(&mut inner, true);
        loop {
            match inner.session.cancelled(key) {
                Poll::Ready(reason) => return Some(reason),
                Poll::Pending if until.is_some_and(|until| Instant::now() >= until) => return None,
                Poll::Pending => inner = self.wait(inner, key, until),
            }
        }
    }

    pub(super) fn is_cancelled(&self, key: RequestKey) -> bool {
        self.lock().session.cancelled(key).is_ready()
    }

    pub(super) fn reject(&self, key: RequestKey, rejection: Rejection) {
        self.lock().session.reject(key, rejection);
    }

    /// A thread starts the handler; false if the request has ended already. [`finish`](Self::finish)
    /// may have `started` it.
    pub(super) fn start(&self, request: &mut server::Job, started: bool) -> bool {
        let (key, log) = (request.key, request.open(&self.span));
        if started && log.is_none() {
            return true;
        }
        // Declared before the guard, so that it is dropped without the lock.
        let _ended;
        let mut inner = self.lock();
        let starts = inner.session.start(key);
        _ended = log.and_then(|log| inner.session.attach(key, log));
        starts
    }

    /// A handler has ended; sends everything. If other requests of the connection are about to end
    /// too, their answers share a write. Returns a request that the thread should run next, if it
    /// `goes_on`, and has started it.
    pub(super) fn finish(
        self: &Arc<Self>,
        key: RequestKey,
        end: HandlerEnd,
        goes_on: bool,
    ) -> Option<server::Job> {
        let mut guard = self.lock();
        let inner = &mut *guard;
        let ended = inner.session.finish(key, end, Instant::now);
        let next = if goes_on { self.next(inner) } else { None };
        if next.is_none() {
            self.ended(inner);
        }
        drop(guard);
        if let Some(ended) = ended {
            ended.log();
        }
        next
    }

    /// The next of the requests that came together. The leader would come back to it, and does so
    /// if its handler is slow.
    fn next(self: &Arc<Self>, inner: &mut Inner) -> Option<server::Job> {
        let session = &mut inner.session;
        if !inner.left
            || !self.pool.at_once()
            || session.is_leaving()
            || session.queued() >= SEND_AT
        {
            return None;
        }
        let job = session.poll_job(Instant::now)?;
        if job.whole {
            session.start(job.key);
            return Some(job);
        }
        self.pool.submit([self.job(job)]);
        None
    }

    /// Sends everything, or leaves that to the end of another request.
    fn ended(self: &Arc<Self>, inner: &mut Inner) {
        let session = &inner.session;
        let others = session.handlers() > 0;
        if (others || inner.dirty)
            && session.queued() < SEND_AT
            && self.pool.comes_back(!inner.dirty)
        {
            // Whoever leads next sends, even if the next handler is slow.
            if !std::mem::replace(&mut inner.dirty, true) {
                self.pool.wakeups.touch(self, false, true, None);
            }
            return;
        }
        self.act(inner, true);
    }

    /// Waits until something has happened to the request, or until `until`. The thread leads
    /// meanwhile if nobody else does.
    fn wait<'a>(
        &'a self,
        mut inner: Locked<'a>,
        key: RequestKey,
        until: Option<Instant>,
    ) -> Locked<'a> {
        if !inner.session.notes().is_empty() {
            // What is logged may change what is waited for.
            drop(inner);
            return self.lock();
        }
        let Some(threads) = inner.session.waiters(key) else { return inner };
        let waiting = threads.get_or_new(&self.pool);
        // Counts from here: whoever wakes them must find this one before it leads.
        waiting.leaders += 1;
        let (wakes, worked) = (waiting.wakes, waiting.worked());
        inner.leaders += 1;
        drop(inner);
        let waits = || self.lock().is_waiting(key, wakes);
        let led = self.pool.lead_while(&waits, until, worked);
        let mut inner = self.lock();
        inner.leaders -= 1;
        if let Some(waiting) = inner.waiting(key) {
            waiting.leaders -= 1;
        }
        if !led && inner.is_waiting(key, wakes) {
            inner = self.sleep(inner, key, wakes, until);
        }
        if let Some(waiting) = inner.waiting(key) {
            waiting.go_on();
        }
        inner
    }

    /// Sleeps until another thread has woken those who wait for the request.
    fn sleep<'a>(
        &self,
        mut inner: Locked<'a>,
        key: RequestKey,
        wakes: u64,
        until: Option<Instant>,
    ) -> Locked<'a> {
        let Some(waiting) = inner.waiting(key) else { return inner };
        waiting.asleep += 1;
        let condvar = Arc::clone(&waiting.condvar);
        let Some(guard) = inner.guard.take() else { return inner };
        self.pool.begin_wait();
        let guard = match until {
            None => condvar.wait(guard).unwrap_or_else(PoisonError::into_inner),
            Some(until) => {
                let limit = until.saturating_duration_since(Instant::now());
                condvar.wait_timeout(guard, limit).unwrap_or_else(PoisonError::into_inner).0
            }
        };
        inner.guard = Some(guard);
        if inner.is_waiting(key, wakes) {
            // Nobody has woken it, so nobody has counted that it no longer sleeps.
            if let Some(waiting) = inner.waiting(key) {
                waiting.asleep -= 1;
            }
            self.pool.end_wait(1);
        }
        inner
    }

    /// Handles the effects of what a handler's thread has done: events, a write if it is time for
    /// one, and news for the leader and the pool.
    fn act(self: &Arc<Self>, inner: &mut Inner, send: bool) {
        self.act_on(inner, send, false);
    }

    /// [`act`](Self::act) on a socket that may be readable.
    fn act_on(self: &Arc<Self>, inner: &mut Inner, send: bool, readable: bool) {
        if inner.stream.is_none() {
            return;
        }
        let mut begun = Vec::new();
        if send {
            if self.turns(inner, &mut begun, readable, false) {
                let listed = std::mem::replace(&mut inner.dirty, true);
                self.pool.wakeups.touch(self, listed, true, None);
            }
        } else {
            let jobs = std::iter::from_fn(|| inner.session.poll_job(Instant::now));
            begun.extend(jobs.map(|job| self.job(job)));
        }
        if !begun.is_empty() {
            self.pool.submit(begun);
        }
        let (wanted, told) = (Watch::new(&inner.session), inner.told);
        let urgent = inner.session.is_closed() || !told.events.contains(wanted.events);
        let sooner = wanted.until.is_some_and(|until| told.until.is_none_or(|told| until < told));
        if urgent || sooner {
            let listed = std::mem::replace(&mut inner.dirty, true);
            self.pool.wakeups.touch(self, listed, urgent, wanted.until);
        }
    }
}
