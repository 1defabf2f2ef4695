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
mod engine;
mod handler;
mod leader;
mod pool;
mod quiet;
mod ready;
mod request;
mod serve;
mod shutdown;
mod slot;
mod waiting;
mod wakeups;

use std::time::Duration;

use fcgi_engine::server::Settings;
pub use fcgi_engine::server::{CANCELLED, EndOfFile, FAILED, Failed, IntoAppStatus, PANICKED};

pub use handler::Handler;
#[cfg(feature = "http")]
pub use request::Cancelled;
pub use request::{InputStream, OutputStream, Request};
pub use serve::Serve;
pub use shutdown::{Shutdown, shutdown_signal};

#[cfg(doc)]
use crate::Error;

/// How long a handler whose request was aborted may take to end the request itself.
const ABORT_GRACE: Duration = Duration::from_secs(5);

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
    fn with(settings: Settings) -> Self {
        let settings = Settings { abort_grace: ABORT_GRACE, ..settings };
        Self { settings, threads: None }
    }

    fcgi_engine::server_setters!();

    fcgi_engine::setters! {
        /// How many handlers run at once, each on its own thread; one more thread does the waiting.
        /// With 1, a connection carries one request at a time: a second gets CANT_MPX_CONN, and
        /// FCGI_MPXS_CONNS is 0 (FC-4.1-2). Default four per core, and at least 16; 4 for [one
        /// connection](Self::serve_connection). 0 counts as 1.
        threads(n: usize) { self.threads = Some(n.max(1)) }

        /// How long a handler whose request was aborted may take to end the request itself, with its
        /// own status (FC-5.4-1). It learns of the abort from [`Request::cancelled`] and from its
        /// streams. After that the request is ended with [`CANCELLED`]. The handler can't be stopped,
        /// and occupies its thread until it returns. Default 5 s; in the async adapters, which can drop
        /// a handler, the default is zero. `None` waits for as long as the handler takes.
        abort_grace(limit or MAX) { self.settings.abort_grace }

        /// How long a request may take in all, from the end of its PARAMS, including the wait for a
        /// thread. After that it fails: with a page with status 500 if nothing was written, otherwise
        /// the response is cut off (W-12). The handler notices: its streams fail with
        /// [`Error::Timeout`], and [`Request::cancelled`] returns. The handler can't be stopped, and
        /// occupies its thread until it returns. Default no limit.
        handler_timeout(limit) { self.settings.handler }
    }
}
