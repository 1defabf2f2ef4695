//! The application's side: accepts connections and runs a handler on each request, on threads.
//!
//! ```no_run
//! use fcgi_blocking as fcgi;
//!
//! # fn main() -> Result<(), fcgi::Error> {
//! let listener = fcgi::Listener::from_env("unix:/run/app.sock")?;
//! let hello = |request: fcgi::Request| {
//!     request.stdout().write_all("Content-Type: text/plain\r\n\r\nhello\n")
//! };
//! fcgi::Server::from_env()
//!     .threads(32)
//!     .serve(listener, hello)
//!     .with_graceful_shutdown(fcgi::shutdown_signal())
//!     .run()
//! # }
//! ```
//!
//! Handlers run on a bounded number of threads ([`Server::threads`]). If all are busy, requests
//! wait in arrival order, up to [`Server::max_requests`]. With eight threads or more, one of eight
//! takes only requests whose input is complete, so that handlers that wait for input leave a thread
//! for others. A connection that is silent, idle or slow to send its request occupies no thread
//! (H-16): one thread polls them all, and handles aborts, lost peers and time limits while handlers
//! run. The requests of one connection run concurrently, each on its own thread, unless there is
//! only one thread: then a second request on a connection gets CANT_MPX_CONN (FC-5.5-2).

mod connection;
mod leader;
mod pool;
mod quiet;
mod request;
mod serve;
mod shutdown;
mod slot;
mod wakeups;

use std::{
    fmt, io,
    os::fd::OwnedFd,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

pub use fcgi_engine::server::{CANCELLED, EndOfFile, FAILED, Failed, IntoAppStatus, PANICKED};
use fcgi_engine::server::{HandlerEnd, Settings, Tally, log_failure, log_panic};

#[cfg(feature = "http")]
pub use request::Cancelled;
pub use request::{InputStream, OutputStream, Request};
pub use serve::Serve;
pub use shutdown::{Shutdown, shutdown_signal};

use crate::{Error, Listener};
use connection::Job;
use pool::{Pool, Task};
use wakeups::Wakeups;

/// How long a handler whose request was aborted may take to end the request itself.
const ABORT_GRACE: Duration = Duration::from_secs(5);

/// What answers requests: any `Fn(Request) -> impl IntoAppStatus`. Several threads call it at
/// once.
pub trait Handler: Send + Sync + 'static {
    /// Answers one request; returns its app status.
    ///
    /// # Errors
    /// [`Failed`] when the response is incomplete.
    fn call(&self, request: Request) -> Result<u32, Failed>;
}

impl<F, R> Handler for F
where
    F: Fn(Request) -> R + Send + Sync + 'static,
    R: IntoAppStatus,
{
    fn call(&self, mut request: Request) -> Result<u32, Failed> {
        let (connection, key) = request.keep();
        self(request).into_app_status().map_err(|error| {
            log_failure(&*error, &connection.take_params(key));
            Failed
        })
    }
}

/// The settings of a FastCGI application, each with a default. [`serve`](Self::serve) starts with
/// them.
#[derive(Clone, Debug)]
pub struct Server {
    pub(crate) settings: Settings,
    /// `None` means the default for where the connections come from.
    threads: Option<usize>,
}

impl Default for Server {
    fn default() -> Self {
        Self::new()
    }
}

impl Server {
    /// The defaults. This reads nothing from the environment.
    #[must_use]
    pub fn new() -> Self {
        Self::with(Settings::new())
    }

    /// The same as [`new`](Self::new).
    #[must_use]
    pub fn builder() -> Self {
        Self::new()
    }

    /// The defaults, with FCGI_WEB_SERVER_ADDRS from the environment (FC-3.2-1): the only addresses
    /// to accept connections from.
    #[must_use]
    pub fn from_env() -> Self {
        Self::with(Settings::from_env())
    }

    fn with(settings: Settings) -> Self {
        let settings = Settings { abort_grace: ABORT_GRACE, ..settings };
        Self { settings, threads: None }
    }

    fcgi_engine::server_setters!();

    /// How many handlers run at once, each on its own thread; one more thread does the waiting.
    /// With 1, a connection carries one request at a time: a second gets CANT_MPX_CONN, and
    /// FCGI_MPXS_CONNS is 0 (FC-4.1-2). Default four per core, and at least 16; 4 for [one
    /// connection](Self::serve_connection). 0 counts as 1.
    #[must_use]
    pub fn threads(mut self, n: usize) -> Self {
        self.threads = Some(n.max(1));
        self
    }

    /// How long a handler whose request was aborted may take to end the request itself, with its
    /// own status (FC-5.4-1). It learns of the abort from [`Request::cancelled`] and from its
    /// streams. After that the request is ended with [`CANCELLED`]. The handler can't be stopped,
    /// and occupies its thread until it returns. Default 5 s; in the async adapters, which can drop
    /// a handler, the default is zero.
    #[must_use]
    pub fn abort_grace(mut self, grace: Duration) -> Self {
        self.settings.abort_grace = grace;
        self
    }

    /// How long a request may take in all, from the end of its PARAMS, including the wait for a
    /// thread. After that it fails: with a page with status 500 if nothing was written, otherwise
    /// the response is cut off (W-12). The handler notices: its streams fail with
    /// [`Error::Timeout`], and [`Request::cancelled`] returns. The handler can't be stopped, and
    /// occupies its thread until it returns. Default no limit.
    #[must_use]
    pub fn handler_timeout(mut self, limit: impl Into<Option<Duration>>) -> Self {
        self.settings.handler = limit.into();
        self
    }

    /// Serves once [`run`](Serve::run) is called: for ever, or until a
    /// [signal](Serve::with_graceful_shutdown).
    pub fn serve<H: Handler>(self, listener: impl Into<Listener>, handler: H) -> Serve<H> {
        Serve::new(self, listener.into(), handler)
    }

    /// Serves in the way in which the process was started, once [`run`](Serve::run) is called. As a
    /// CGI program, with GATEWAY_INTERFACE in the environment and no listening socket on descriptor
    /// 0, it serves one request. Otherwise it serves FastCGI with the listener that
    /// [`Listener::from_env`] finds.
    ///
    /// A CGI program gives up descriptor 1 at once: what it prints goes to standard error, which is
    /// the web server's log. `run` fails with [`Error::Listen`] if the process was started in
    /// neither way, and with [`Error::Io`] if a CGI response could not be written whole.
    pub fn serve_auto<H: Handler>(self, handler: H) -> Serve<H> {
        Serve::auto(self, handler)
    }

    /// Serves one connection to its end once [`run`](Serve::run) is called. It may be anything with
    /// a descriptor that poll(2) can wait for, such as a socket of any family, and becomes
    /// nonblocking. Whoever made the connection has decided who may connect.
    ///
    /// A stream with its own buffer, such as TLS, does not work: poll(2) can't see that
    /// buffer. For such streams use an async adapter, or a socket pair with a thread that copies
    /// the bytes.
    ///
    /// Each call is a separate server with its own threads: by default four of them run handlers
    /// ([`threads`](Self::threads)), and one waits.
    pub fn serve_connection<H: Handler>(self, io: impl Into<OwnedFd>, handler: H) -> Serve<H> {
        Serve::connection(self, io.into(), handler)
    }
}

/// What all threads and connections of a server share.
struct Engine {
    tally: Arc<Tally>,
    threads: usize,
    handler: Box<dyn Handler>,
    pool: Pool,
    wakeups: Wakeups,
    shutdown: Shutdown,
    failed: AtomicBool,
    error: Mutex<Option<Error>>,
}

impl Engine {
    fn new(
        server: Server,
        threads: usize,
        handler: Box<dyn Handler>,
        shutdown: Shutdown,
    ) -> io::Result<Self> {
        let threads = server.threads.unwrap_or(threads);
        let mut settings = server.settings;
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
    fn run(self: Arc<Self>) {
        let mut comes_back = false;
        loop {
            let job = match self.pool.next(comes_back) {
                Task::Run(job) => job,
                Task::Lead(leader) => match leader.lead(&self) {
                    Some(job) => job,
                    None => return,
                },
                Task::Exit => return,
            };
            let whole = job.request.whole;
            let took = pool::timed(|| self.answer(job));
            if self.pool.ran(took, whole) {
                // The leader waits for the last handler.
                self.wakeups.waker.wake();
            }
            comes_back = true;
        }
    }

    /// Runs the handler on one request, catches its panic, and ends the request.
    fn answer(&self, Job { connection, request }: Job) {
        let key = request.key;
        if !connection.start(key) {
            return;
        }
        let (request, span) = Request::new(Arc::clone(&connection), request);
        let _entered = span.enter();
        let call = AssertUnwindSafe(|| self.handler.call(request));
        let end = catch_unwind(call).map_or_else(
            |_| {
                log_panic(key.id(), &connection.take_params(key));
                HandlerEnd::Panicked
            },
            HandlerEnd::Returned,
        );
        connection.finish(key, end);
    }

    /// How long a shutdown waits for handlers that it has cancelled.
    fn last_wait(&self) -> Duration {
        let settings = self.tally.settings();
        settings.shutdown.max(settings.abort_grace)
    }

    fn is_leaving(&self) -> bool {
        self.shutdown.is_triggered() || self.failed.load(Ordering::SeqCst)
    }

    /// Ends the server with an error.
    fn fail(&self, error: Error) {
        *self.error.lock().unwrap_or_else(PoisonError::into_inner) = Some(error);
        self.failed.store(true, Ordering::SeqCst);
    }

    fn error(&self) -> Option<Error> {
        self.error.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    fn stop(&self) {
        self.pool.stop();
        self.wakeups.clear();
    }
}

impl fmt::Debug for Engine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Engine").field("threads", &self.threads).finish_non_exhaustive()
    }
}
