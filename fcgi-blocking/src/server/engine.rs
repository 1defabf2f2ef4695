//! What all threads and connections of a server share, and what each thread does.

use std::{
    fmt, io,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use fcgi_engine::{
    server::{self, HandlerEnd, Settings, Tally, catch_panic},
    socket::Peer,
};

use super::{
    connection::Connection,
    handler::Handler,
    pool::{Job, Pool, QUICK, Ran, Task},
    request::Request,
    shutdown::Shutdown,
};
use crate::{Error, stream::Stream};

/// A thread answers this many requests of a connection one after the other, before it looks at what
/// else there is to do.
const AT_ONCE: usize = 16;

/// What all threads and connections of a server share.
pub(super) struct Engine {
    pub(super) tally: Arc<Tally>,
    pub(super) threads: usize,
    handler: Box<dyn Handler>,
    pub(super) pool: Arc<Pool<Connection>>,
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
            pool: Arc::new(Pool::new(threads)?),
            shutdown,
            failed: AtomicBool::new(false),
            error: Mutex::new(None),
        })
    }

    /// A new connection.
    pub(super) fn connection(&self, stream: Arc<Stream>, peer: Peer) -> Connection {
        Connection::new(Arc::clone(&self.pool), &self.tally, stream, peer)
    }

    /// The main loop of a thread.
    pub(super) fn run(&self) {
        let mut comes_back = false;
        let mut ran = None;
        loop {
            let job = match self.pool.next(comes_back, ran.take()) {
                Task::Run(job) => job,
                Task::Lead(leader) => match leader.lead(&self.pool) {
                    Some(job) => job,
                    None => {
                        comes_back = false;
                        continue;
                    }
                },
                Task::Drained => {
                    // The leader waits for the last handler.
                    self.pool.wakeups.waker.wake();
                    continue;
                }
                Task::Exit => return,
            };
            ran = Some(self.answer(job));
            comes_back = true;
        }
    }

    /// Answers one request, and a few quick ones that came together with it.
    fn answer(&self, Job { connection, mut request }: Job<Connection>) -> Ran {
        let mut ran = Ran { handler: Duration::ZERO, whole: request.whole };
        let mut started = Instant::now();
        for n in 1..=AT_ONCE {
            if !connection.start(&mut request, n > 1) {
                break;
            }
            let goes_on = || {
                // The end of a request and the start of the next one take too little to count.
                let began = std::mem::replace(&mut started, Instant::now());
                ran.handler = ran.handler.max(started - began);
                n < AT_ONCE && ran.handler <= QUICK
            };
            match self.answer_one(&connection, request, goes_on) {
                Some(next) => request = next,
                None => break,
            }
        }
        ran
    }

    /// Runs the handler on one request, catches its panic, and ends the request. If it `goes_on` when
    /// the handler has returned, it may return the next request.
    fn answer_one(
        &self,
        connection: &Arc<Connection>,
        request: server::Job,
        goes_on: impl FnOnce() -> bool,
    ) -> Option<server::Job> {
        let key = request.key;
        let (request, span) = Request::new(Arc::clone(connection), request);
        let _entered = span.enter();
        let params = || connection.take_params(key);
        let end = catch_panic(key.id(), params, || self.handler.call(request));
        let end = end.map_or_else(|panicked| panicked, HandlerEnd::Returned);
        connection.finish(key, end, goes_on())
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
        self.pool.wakeups.clear();
    }
}

impl fmt::Debug for Engine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Engine").field("threads", &self.threads).finish_non_exhaustive()
    }
}
