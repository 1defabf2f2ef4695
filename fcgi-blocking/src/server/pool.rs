//! The threads: leader and followers.
//!
//! N threads may run handlers. There is one more, so that one is always free to lead, that is, to
//! poll the sockets. A leader that has received a request gives up the leadership and runs the
//! handler itself, so that no request changes threads; any free thread leads next.
//!
//! Waking a thread costs more than a handler that only formats a page. So if recent handlers were
//! quick, the thread puts the leadership down without waking anybody. It comes back for it within
//! microseconds, and first runs the few requests that have come meanwhile. One other thread, the
//! watcher, checks every [`TICK`]. If the handler turns out to be slow, the watcher takes over the
//! rest.
//!
//! Requests that came together are queued, so that other threads may help, unless all of them take
//! only some microseconds. Then the leader puts the leadership down, runs a request, and goes on
//! where it was: a connection is read, parsed and answered before the next one is looked at, and all
//! of them use the same memory.
//!
//! A handler that waits for the web server leads itself meanwhile, unless somebody else does. So a
//! long body needs one thread and not two in turn. If another thread leads, the handler sleeps. If
//! it is the only one that sleeps and is quick between its waits, the leader leaves the leadership
//! to it.

use std::{
    collections::VecDeque,
    fmt, io,
    sync::{
        Arc, Condvar, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use fcgi_engine::server;
use fcgi_proto::RequestKey;

use super::wakeups::Wakeups;

/// How often the watcher checks.
const TICK: Duration = Duration::from_millis(1);
/// After this many checks without a request the watcher sleeps.
const QUIET: u32 = 16;
/// A handler that takes longer than this is slow.
pub(super) const QUICK: Duration = Duration::from_micros(50);
/// A handler that works longer than this between two waits is busy: another thread should lead then.
const BUSY: Duration = Duration::from_micros(250);
/// This much work in quick requests is worth another thread, if there is another processor.
const BATCH: Duration = Duration::from_micros(200);
/// If handlers take no longer, requests that came together are run one after the other: even sixteen
/// would not be worth another thread.
const AT_ONCE: Duration = Duration::from_micros(12);
/// What a quick request takes beside its handler, mostly to send its answer.
const ANSWER: Duration = Duration::from_micros(3);
/// A pace that no quick request has.
const SLOW: u64 = u64::MAX;
/// How many handlers are assumed to be slow after a slow one, or pauses between waits to be long.
const SLOW_RUN: u32 = 16;
/// One thread in this many is reserved for requests whose input is complete, so that requests
/// without input can't hold up all others.
const RESERVED: usize = 8;

/// The one who waits for all connections.
pub(super) trait Lead<C>: Send {
    /// Leads until there is a request to run. `None` when the server ends, or when a handler is to
    /// lead next.
    fn lead(self: Box<Self>, pool: &Pool<C>) -> Option<Job<C>>;

    /// Leads while a handler waits, until `until` at most; others run what comes. `None` when the
    /// server ends.
    fn lead_while(
        self: Box<Self>,
        waits: &dyn Fn() -> bool,
        until: Option<Instant>,
    ) -> Option<Box<dyn Lead<C>>>;
}

/// A request whose handler must be run.
pub(super) struct Job<C> {
    pub(super) connection: Arc<C>,
    pub(super) request: server::Job,
}

impl<C> Job<C> {
    pub(super) fn is(&self, connection: &C, key: RequestKey) -> bool {
        self.request.key == key && std::ptr::eq(Arc::as_ptr(&self.connection), connection)
    }
}

/// The threads of a server, as its connections `C` know them.
pub(super) struct Pool<C> {
    /// N: how many handlers run at once.
    threads: usize,
    /// The process has one processor: another thread would only take turns with this one.
    alone: bool,
    state: Mutex<State<C>>,
    work: Condvar,
    done: Condvar,
    /// How many nanoseconds a request takes, if it is run [at once](Self::at_once), or `SLOW`.
    pace: AtomicU64,
    /// What handlers pass to the leader.
    pub(super) wakeups: Wakeups<C>,
}

struct State<C> {
    /// The leadership, while nobody leads.
    lead: Option<Box<dyn Lead<C>>>,
    /// A thread should take it now.
    wanted: bool,
    queue: Queue<C>,
    running: usize,
    /// How many of the running handlers may wait for input.
    open: usize,
    /// How many handlers sleep until the leader has done something.
    waiting: usize,
    watched: bool,
    /// A thread was woken, and will wake the next if there is more to do.
    called: bool,
    /// Counts how often the leadership was put down.
    turn: u64,
    slow: u32,
    busy: u32,
    /// The last handler that slept was woken: it may lead when it next waits.
    left: bool,
    /// How many nanoseconds handlers have taken lately.
    handlers: u64,
    draining: bool,
    stopped: bool,
}

/// Requests that wait for a thread, in order: those whose input is complete, and the others.
struct Queue<C> {
    whole: VecDeque<(u64, Job<C>)>,
    open: VecDeque<(u64, Job<C>)>,
    last: u64,
}

impl<C> Queue<C> {
    const fn new() -> Self {
        Self { whole: VecDeque::new(), open: VecDeque::new(), last: 0 }
    }

    fn extend(&mut self, jobs: impl IntoIterator<Item = Job<C>>) {
        for job in jobs {
            self.last += 1;
            let queue = if job.request.whole { &mut self.whole } else { &mut self.open };
            queue.push_back((self.last, job));
        }
    }

    /// The oldest request that may run.
    fn pop(&mut self, open: bool) -> Option<Job<C>> {
        let first = |queue: &VecDeque<(u64, Job<C>)>| queue.front().map(|(number, _)| *number);
        let open_first = match (first(&self.whole), first(&self.open)) {
            (whole, Some(number)) if open => whole.is_none_or(|whole| number < whole),
            _ => false,
        };
        let queue = if open_first { &mut self.open } else { &mut self.whole };
        queue.pop_front().map(|(_, job)| job)
    }

    /// How many requests may run.
    fn len(&self, open: bool) -> usize {
        self.whole.len() + if open { self.open.len() } else { 0 }
    }

    fn is_empty(&self) -> bool {
        self.len(true) == 0
    }

    fn promote(&mut self, connection: &C, key: RequestKey) -> bool {
        let place = self.open.iter().position(|(_, job)| job.is(connection, key));
        let removed = place.and_then(|place| self.open.remove(place));
        let Some((_, mut job)) = removed else { return false };
        job.request.whole = true;
        self.extend([job]);
        true
    }

    fn remove(&mut self, connection: &C, key: RequestKey) -> Option<Job<C>> {
        [&mut self.open, &mut self.whole].into_iter().find_map(|queue| {
            let place = queue.iter().position(|(_, job)| job.is(connection, key))?;
            queue.remove(place).map(|(_, job)| job)
        })
    }
}

/// A short time in nanoseconds, which are quicker to reckon with.
const fn nanos(time: Duration) -> u64 {
    time.as_nanos() as u64
}

/// What a thread should do next.
pub(super) enum Task<C> {
    Run(Job<C>),
    Lead(Box<dyn Lead<C>>),
    /// Tell the leader that the last handler has ended.
    Drained,
    Exit,
}

/// A request that was answered.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ran {
    /// How long its handler took, or the slowest of several. Sending the answer may wake the web
    /// server, which takes longer than a quick handler but makes it no slow one.
    pub(super) handler: Duration,
    /// Its input was complete when it started.
    pub(super) whole: bool,
}

/// A job that the leader's thread runs once it has put down the leadership.
pub(super) struct HandOver<'a, C> {
    pool: &'a Pool<C>,
    state: MutexGuard<'a, State<C>>,
    job: Job<C>,
}

impl<C> HandOver<'_, C> {
    /// Puts the leadership down, for another thread to take.
    pub(super) fn put_down(mut self, leader: Box<dyn Lead<C>>) -> Job<C> {
        self.state.lead = Some(leader);
        self.state.turn += 1;
        self.state.wanted = !self.state.is_quick();
        self.pool.call_others(&mut self.state);
        self.job
    }
}

impl<C> Pool<C> {
    pub(super) fn new(threads: usize) -> io::Result<Self> {
        Ok(Self {
            threads,
            alone: thread::available_parallelism().is_ok_and(|n| n.get() == 1),
            state: Mutex::new(State {
                lead: None,
                wanted: false,
                queue: Queue::new(),
                running: 0,
                open: 0,
                waiting: 0,
                watched: false,
                called: false,
                turn: 0,
                slow: SLOW_RUN,
                busy: 0,
                left: false,
                handlers: nanos(QUICK),
                draining: false,
                stopped: false,
            }),
            work: Condvar::new(),
            done: Condvar::new(),
            pace: AtomicU64::new(SLOW),
            wakeups: Wakeups::new()?,
        })
    }

    /// Waits for something to do, after a request was answered. A thread that `comes_back` from a
    /// handler takes the leadership if nobody has it.
    pub(super) fn next(&self, comes_back: bool, ran: Option<Ran>) -> Task<C> {
        let mut state = self.lock();
        if let Some(ran) = ran {
            state.ran(ran);
            self.note_pace(&state);
            if state.draining && state.is_idle() {
                return Task::Drained;
            }
        }
        let mut take = comes_back;
        let mut watching = false;
        let mut quiet = 0;
        let task = loop {
            if state.stopped {
                break Task::Exit;
            }
            if let Some(job) = state.next_job(self.threads) {
                break Task::Run(job);
            }
            if take || state.wanted {
                if let Some(leader) = state.lead.take() {
                    state.wanted = false;
                    break Task::Lead(leader);
                }
            }
            take = false;
            if !state.watched && state.lead.is_some() {
                (state.watched, watching, quiet) = (true, true, 0);
            }
            state.called = false;
            if !watching {
                state = self.work.wait(state).unwrap_or_else(PoisonError::into_inner);
                state.called = false;
                continue;
            }
            let turn = state.turn;
            let (woken, timeout) =
                self.work.wait_timeout(state, TICK).unwrap_or_else(PoisonError::into_inner);
            state = woken;
            state.called = false;
            if !timeout.timed_out() {
                continue;
            }
            match () {
                () if state.turn != turn => quiet = 0,
                () if state.lead.is_some() => state.wanted = true,
                () => quiet += 1,
            }
            if quiet >= QUIET {
                (state.watched, watching) = (false, false);
            }
        };
        if watching {
            state.watched = false;
        }
        self.call_others(&mut state);
        task
    }

    /// Whether requests that came together on a connection are run one after the other.
    pub(super) fn at_once(&self) -> bool {
        self.pace.load(Ordering::Relaxed) != SLOW
    }

    /// Whether another thread would gain nothing by helping with so many connections: then each
    /// request is run before the next connection is served.
    pub(super) fn is_for_one(&self, connections: usize) -> bool {
        match self.pace.load(Ordering::Relaxed) {
            SLOW => false,
            _ if self.alone || self.threads == 1 => true,
            pace => pace.saturating_mul(connections as u64) <= nanos(BATCH),
        }
    }

    fn note_pace(&self, state: &State<C>) {
        let at_once = state.is_quick() && state.handlers <= nanos(AT_ONCE);
        let pace = if at_once { state.pace() } else { SLOW };
        self.pace.store(pace, Ordering::Relaxed);
    }

    /// Takes what the leader has received; gives a job for its thread to run, if any thread may run
    /// one. Then the leader is [put down](HandOver::put_down).
    pub(super) fn hand_over(&self, jobs: &mut Vec<Job<C>>) -> Option<HandOver<'_, C>> {
        let mut state = self.lock();
        if !state.may_skip_queue(jobs, self.threads) {
            state.queue.extend(jobs.drain(..));
            let job = state.next_job(self.threads)?;
            return Some(HandOver { pool: self, state, job });
        }
        let job = jobs.pop()?;
        state.count(&job);
        Some(HandOver { pool: self, state, job })
    }

    /// Requests that a handler's thread has received, but can't run because its handler goes on.
    pub(super) fn submit(&self, jobs: impl IntoIterator<Item = Job<C>>) {
        let mut state = self.lock();
        state.queue.extend(jobs);
        state.slow = SLOW_RUN;
        self.note_pace(&state);
        self.call_others(&mut state);
    }

    /// Takes a request out of the queue, if it is there.
    pub(super) fn forget(&self, connection: &C, key: RequestKey) {
        let job = self.lock().queue.remove(connection, key);
        // The job holds its connection, so it is dropped outside of the lock.
        drop(job);
    }

    /// Whether the thread that asks, which runs a handler, is about to lead, after it has run
    /// `another` one, if that. Until then it can leave to the leader what can wait for some
    /// microseconds.
    pub(super) fn comes_back(&self, another: bool) -> bool {
        let state = self.lock();
        let more = || state.queue.len(state.may_wait(self.threads)) > 0;
        state.is_quick() && state.lead.is_some() && (!another || more())
    }

    /// The input of a request is complete now; the request may be in the queue.
    pub(super) fn promote(&self, connection: &C, key: RequestKey) {
        let mut state = self.lock();
        if state.queue.promote(connection, key) {
            self.call_others(&mut state);
        }
    }

    /// Starts with the first leader, unless it was stopped already.
    pub(super) fn start(&self, leader: Box<dyn Lead<C>>) {
        self.put(leader, |_| true);
    }

    fn put(&self, leader: Box<dyn Lead<C>>, wanted: impl FnOnce(&State<C>) -> bool) {
        let mut state = self.lock();
        if state.stopped {
            drop(state);
            return drop(leader);
        }
        state.lead = Some(leader);
        state.turn += 1;
        state.wanted = wanted(&state);
        self.call_others(&mut state);
    }

    /// Wakes a thread for a job, for the leadership, or to watch. That thread wakes the next one if
    /// needed.
    fn call_others(&self, state: &mut State<C>) {
        let run = state.running < self.threads && state.has_much(self);
        let lead = state.lead.is_some() && (state.wanted || !state.watched);
        if (run || lead) && !state.called {
            state.called = true;
            self.work.notify_one();
        }
    }

    /// Leads while a handler waits, until `until` at most, unless another thread leads; then it
    /// returns false at once. The handler has `worked` this long since it last waited.
    pub(super) fn lead_while(
        &self,
        waits: &dyn Fn() -> bool,
        until: Option<Instant>,
        worked: Option<Duration>,
    ) -> bool {
        let Some(leader) = self.take_lead(worked) else { return false };
        if let Some(leader) = leader.lead_while(waits, until) {
            self.give_back(leader);
        }
        true
    }

    fn take_lead(&self, worked: Option<Duration>) -> Option<Box<dyn Lead<C>>> {
        let mut state = self.lock();
        if let Some(worked) = worked {
            state.busy = if worked > BUSY { SLOW_RUN } else { state.busy.saturating_sub(1) };
        }
        let leader = state.lead.take()?;
        state.wanted = false;
        Some(leader)
    }

    /// Puts down the leadership of a thread that has no request to run, or goes on with one.
    pub(super) fn give_back(&self, leader: Box<dyn Lead<C>>) {
        self.put(leader, |state| !state.waits_soon());
    }

    /// Whether the leader should leave the leadership to the handler that it has just woken.
    pub(super) fn is_left(&self) -> bool {
        let mut state = self.lock();
        std::mem::take(&mut state.left) && state.waits_soon() && state.running > 0
    }

    /// A handler goes to sleep until a leader has done something.
    pub(super) fn begin_wait(&self) {
        let mut state = self.lock();
        state.waiting += 1;
        state.wanted = state.lead.is_some();
        self.call_others(&mut state);
    }

    /// That many of them are woken.
    pub(super) fn end_wait(&self, threads: usize) {
        let mut state = self.lock();
        state.waiting -= threads;
        state.left = state.waiting == 0;
    }

    /// From now on the end of the last handler is reported.
    pub(super) fn drain(&self) {
        self.lock().draining = true;
    }

    /// Whether no handler is running or queued.
    pub(super) fn is_idle(&self) -> bool {
        self.lock().is_idle()
    }

    /// Makes every thread exit once its handler has returned.
    pub(super) fn stop(&self) {
        let mut state = self.lock();
        state.stopped = true;
        let queue = std::mem::replace(&mut state.queue, Queue::new());
        let lead = state.lead.take();
        self.work.notify_all();
        self.done.notify_all();
        drop(state);
        // These hold connections, whose end may use the pool, so they are dropped outside of the lock.
        drop((queue, lead));
    }

    /// Waits for [`stop`](Self::stop); returns how many handlers are still running then.
    pub(super) fn wait_stopped(&self) -> usize {
        let mut state = self.lock();
        while !state.stopped {
            state = self.done.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        state.running
    }

    fn lock(&self) -> MutexGuard<'_, State<C>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<C> State<C> {
    fn ran(&mut self, ran: Ran) {
        self.running -= 1;
        self.open -= usize::from(!ran.whole);
        self.slow = if ran.handler > QUICK { SLOW_RUN } else { self.slow.saturating_sub(1) };
        self.handlers = (self.handlers * 7 + nanos(ran.handler.min(BATCH))) / 8;
    }

    /// How many nanoseconds a request takes in all, about.
    fn pace(&self) -> u64 {
        self.handlers + nanos(ANSWER)
    }

    fn next_job(&mut self, threads: usize) -> Option<Job<C>> {
        if self.running >= threads {
            return None;
        }
        let job = self.queue.pop(self.may_wait(threads))?;
        self.count(&job);
        Some(job)
    }

    /// Whether this is a single request that may run now.
    fn may_skip_queue(&self, jobs: &[Job<C>], threads: usize) -> bool {
        let [job] = jobs else { return false };
        self.queue.is_empty()
            && self.running < threads
            && (job.request.whole || self.may_wait(threads))
    }

    /// A thread runs the request.
    fn count(&mut self, job: &Job<C>) {
        self.running += 1;
        self.open += usize::from(!job.request.whole);
    }

    /// Whether another handler that may wait for input may run.
    fn may_wait(&self, threads: usize) -> bool {
        self.open < threads - threads / RESERVED
    }

    /// Whether the queue has enough for another thread.
    fn has_much(&self, pool: &Pool<C>) -> bool {
        let len = self.queue.len(self.may_wait(pool.threads));
        let work = self.pace().saturating_mul(len as u64);
        len > 0 && !(self.is_quick() && (pool.alone || work <= nanos(BATCH)))
    }

    /// Whether a handler that was woken is about to wait again, and may lead then.
    fn waits_soon(&self) -> bool {
        self.busy == 0 && self.waiting == 0
    }

    fn is_quick(&self) -> bool {
        self.slow == 0 && self.waiting == 0
    }

    fn is_idle(&self) -> bool {
        self.running == 0 && self.queue.is_empty()
    }
}

impl<C> fmt::Debug for Pool<C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pool").field("threads", &self.threads).finish_non_exhaustive()
    }
}
