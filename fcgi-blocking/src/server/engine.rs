//! What all threads and connections of a server share, and what each thread does.

use std::{
    fmt, io,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use fcgi_engine::server::{HandlerEnd, Settings, Tally, catch_panic};
use fcgi_proto::RequestKey;

use super::{
    connection::{Connection, Crew, Job},
    handler::Handler,
    pool::{Pool, Ran, Task},
    request::Request,
    shutdown::Shutdown,
    waiting::Watched,
    wakeups::Wakeups,
};
use crate::Error;

/// The one who waits for all connections.
pub(super) trait Lead: fmt::Debug + Send {
    /// Leads until there is a request to run. `None` when the server ends, or when a handler is to
    /// lead next.
    fn lead(self: Box<Self>, engine: &Arc<Engine>) -> Option<Job>;

    /// Leads while a handler waits, until `until` at most; others run what comes. `None` when the
    /// server ends.
    fn lead_while(
        self: Box<Self>,
        engine: &Arc<Engine>,
        waits: &dyn Fn() -> bool,
        until: Option<Instant>,
    ) -> Option<Box<dyn Lead>>;
}

/// What all threads and connections of a server share.
pub(super) struct Engine {
    pub(super) tally: Arc<Tally>,
    pub(super) threads: usize,
    handler: Box<dyn Handler>,
    pub(super) pool: Pool<dyn Lead>,
    pub(super) wakeups: Wakeups,
    shutdown: Shutdown,
    failed: AtomicBool,
    error: Mutex<Option<Error>>,
}

impl Engine {
    pub(super) fn new(
        mut settings: Settings,
        threads: usize,
        handler: Box<dyn Handler>,
        shutdown: Shutdown,
    ) -> io::Result<Self> {
        if threads == 1 {
            settings.config.limits.requests = 1;
        }
        Ok(Self {
            tally: Arc::new(Tally::new(settings)),
            threads,
            handler,
            pool: Pool::new(threads),
            wakeups: Wakeups::new()?,
            shutdown,
            failed: AtomicBool::new(false),
            error: Mutex::new(None),
        })
    }

    /// The main loop of a thread.
    pub(super) fn run(self: Arc<Self>) {
        let mut comes_back = false;
        let mut ran = None;
        loop {
            let job = match self.pool.next(comes_back, ran.take()) {
                Task::Run(job) => job,
                Task::Lead(leader) => match leader.lead(&self) {
                    Some(job) => job,
                    None => {
                        comes_back = false;
                        continue;
                    }
                },
                Task::Drained => {
                    // The leader waits for the last handler.
                    self.wakeups.waker.wake();
                    continue;
                }
                Task::Exit => return,
            };
            let whole = job.request.whole;
            let started = Instant::now();
            let returned = self.answer(job);
            ran = Some(Ran { handler: returned - started, all: started.elapsed(), whole });
            comes_back = true;
        }
    }

    /// Runs the handler on one request, catches its panic, and ends the request. Returns when the
    /// handler had returned.
    fn answer(&self, Job { connection, mut request }: Job) -> Instant {
        let key = request.key;
        if !connection.start(&mut request) {
            return Instant::now();
        }
        let (request, span) = Request::new(Arc::clone(&connection), request);
        let _entered = span.enter();
        let params = || connection.take_params(key);
        let end = catch_panic(key.id(), params, || self.handler.call(request));
        let end = end.map_or_else(|panicked| panicked, HandlerEnd::Returned);
        let returned = Instant::now();
        connection.finish(key, end);
        returned
    }

    /// How long a shutdown waits for handlers that it has cancelled.
    pub(super) fn last_wait(&self) -> Duration {
        let settings = self.tally.settings();
        settings.shutdown.max(settings.abort_grace)
    }

    pub(super) fn is_leaving(&self) -> bool {
        self.shutdown.is_triggered() || self.failed.load(Ordering::SeqCst)
    }

    /// Ends the server with an error.
    pub(super) fn fail(&self, error: Error) {
        *self.error.lock().unwrap_or_else(PoisonError::into_inner) = Some(error);
        self.failed.store(true, Ordering::SeqCst);
    }

    pub(super) fn error(&self) -> Option<Error> {
        self.error.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    pub(super) fn stop(&self) {
        self.pool.stop();
        self.wakeups.clear();
    }
}

impl Crew for Engine {
    fn touch(
        &self,
        connection: &Arc<Connection>,
        listed: bool,
        urgent: bool,
        deadline: Option<Instant>,
    ) {
        self.wakeups.touch(connection, listed, urgent, deadline);
    }

    fn submit(&self, jobs: Vec<Job>) {
        self.pool.submit(jobs);
    }

    fn forget(&self, connection: &Connection, key: RequestKey) {
        self.pool.forget(connection, key);
    }

    fn promote(&self, connection: &Connection, key: RequestKey) {
        self.pool.promote(connection, key);
    }

    fn at_once(&self) -> bool {
        self.pool.at_once()
    }

    fn comes_back(&self, another: bool) -> bool {
        self.pool.comes_back(another)
    }

    fn lead_while(
        self: Arc<Self>,
        waits: &dyn Fn() -> bool,
        until: Option<Instant>,
        worked: Option<Duration>,
    ) -> bool {
        let Some(leader) = self.pool.take_lead(worked) else { return false };
        if let Some(leader) = leader.lead_while(&self, waits, until) {
            self.pool.give_back(leader);
        }
        true
    }

    fn begin_wait(&self) {
        self.pool.begin_wait();
    }

    fn watched(self: Arc<Self>) -> Arc<dyn Watched> {
        self
    }
}

impl Watched for Engine {
    fn interrupt(&self) {
        self.wakeups.interrupt();
    }

    fn end_wait(&self, threads: usize) {
        self.pool.end_wait(threads);
    }
}

impl fmt::Debug for Engine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Engine").field("threads", &self.threads).finish_non_exhaustive()
    }
}
