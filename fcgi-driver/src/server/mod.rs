//! The application's side: accepts connections and runs a handler on each request.
//!
//! ```no_run
//! use fcgi_tokio as fcgi; // or any other adapter
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let listener = fcgi::Listener::bind(&"unix:/run/app.sock".parse()?)?;
//! let hello = |request: fcgi::Request| async move {
//!     request.stdout().write_all("Content-Type: text/plain\r\n\r\nhello\n").await
//! };
//! fcgi::Server::new().serve(listener, hello).await?;
//! # Ok(())
//! # }
//! ```

mod connection;
mod handler;
mod request;
mod shared;
mod state;

use std::{
    future::{Future, pending, poll_fn},
    io,
    marker::PhantomData,
    net::IpAddr,
    pin::pin,
    sync::Arc,
    task::Poll,
    time::Duration,
};

use fcgi_proto::{Limits, Roles, ServerConfig};

pub use handler::{CANCELLED, FAILED, Handler, IntoAppStatus, PANICKED};
pub use request::{InputStream, OutputStream, Request};

use crate::{Listener, deadline::Deadline, runtime::Runtime};
use handler::Times;
use state::State;

/// Pause after an accept that failed for want of descriptors or memory.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// A FastCGI application's settings. Each has a default; [`serve`](Self::serve) starts it.
#[derive(Clone, Debug)]
pub struct Server<R> {
    config: ServerConfig,
    max_connections: usize,
    max_requests: usize,
    web_server_addrs: Option<Vec<IpAddr>>,
    times: Times,
    first_record: Option<Duration>,
    params: Option<Duration>,
    idle: Option<Duration>,
    write_stall: Option<Duration>,
    shutdown: Duration,
    runtime: PhantomData<fn() -> R>,
}

impl<R: Runtime> Default for Server<R> {
    fn default() -> Self {
        Self::new()
    }
}

impl<R: Runtime> Server<R> {
    /// The defaults, and FCGI_WEB_SERVER_ADDRS from the environment.
    #[must_use]
    pub fn new() -> Self {
        Self {
            config: ServerConfig::default(),
            max_connections: 10_000,
            max_requests: 10_000,
            web_server_addrs: std::env::var("FCGI_WEB_SERVER_ADDRS")
                .ok()
                .filter(|list| !list.trim().is_empty())
                .map(|list| addrs(&list)),
            times: Times { grace: Duration::ZERO, limit: None },
            first_record: Some(Duration::from_secs(30)),
            params: Some(Duration::from_secs(30)),
            idle: None,
            write_stall: Some(Duration::from_secs(120)),
            shutdown: Duration::from_secs(30),
            runtime: PhantomData,
        }
    }

    /// The roles offered; others get UNKNOWN_ROLE (FC-5.1-2). Default all three.
    #[must_use]
    pub fn roles(mut self, roles: Roles) -> Self {
        self.config.roles = roles;
        self
    }

    /// What one connection may cost. Default [`Limits::server`].
    #[must_use]
    pub fn limits(mut self, limits: Limits) -> Self {
        self.config.limits = limits;
        self
    }

    /// Whether a refused Responder request carries a `Status: 503` page (W-2). Default true.
    #[must_use]
    pub fn rejection_body(mut self, on: bool) -> Self {
        self.config.rejection_body = on;
        self
    }

    /// Connections at once, which FCGI_MAX_CONNS tells. Those past it are answered with
    /// OVERLOADED. Default 10,000.
    #[must_use]
    pub fn max_connections(mut self, n: usize) -> Self {
        self.max_connections = n;
        self
    }

    /// Requests at once on all connections, which FCGI_MAX_REQS tells. Those past it get
    /// OVERLOADED. Default 10,000.
    #[must_use]
    pub fn max_requests(mut self, n: usize) -> Self {
        self.max_requests = n;
        self
    }

    /// The only addresses that connections are taken from; `None` takes all. With a list, unix
    /// sockets' are closed too (FC-3.2-1). Default: what FCGI_WEB_SERVER_ADDRS says.
    #[must_use]
    pub fn web_server_addrs(mut self, addrs: Option<Vec<IpAddr>>) -> Self {
        self.web_server_addrs = addrs;
        self
    }

    /// How long a handler whose request was aborted may go on before it is dropped; it learns of
    /// the abort from [`Request::cancelled`] and from its streams. Default zero: dropped at once.
    #[must_use]
    pub fn abort_grace(mut self, grace: Duration) -> Self {
        self.times.grace = grace;
        self
    }

    /// How long a handler may take in all. Default no limit.
    #[must_use]
    pub fn handler_timeout(mut self, limit: Option<Duration>) -> Self {
        self.times.limit = limit;
        self
    }

    /// How long a new connection may be silent (H-16). Default 30 s.
    #[must_use]
    pub fn first_record_timeout(mut self, limit: Option<Duration>) -> Self {
        self.first_record = limit;
        self
    }

    /// How long PARAMS may take from their BEGIN_REQUEST (H-16). Default 30 s.
    #[must_use]
    pub fn params_timeout(mut self, limit: Option<Duration>) -> Self {
        self.params = limit;
        self
    }

    /// How long a kept connection may be idle. Default no limit: the web server decides.
    #[must_use]
    pub fn idle_timeout(mut self, limit: Option<Duration>) -> Self {
        self.idle = limit;
        self
    }

    /// How long a write may make no progress. Default 120 s.
    #[must_use]
    pub fn write_timeout(mut self, limit: Option<Duration>) -> Self {
        self.write_stall = limit;
        self
    }

    /// How long a shutdown waits for requests before it cancels them. Default 30 s.
    #[must_use]
    pub fn shutdown_timeout(mut self, limit: Duration) -> Self {
        self.shutdown = limit;
        self
    }

    /// Serves until the future is dropped, which drops the handlers too.
    ///
    /// # Errors
    /// As for [`serve_until`](Self::serve_until).
    pub async fn serve<H: Handler>(self, listener: Listener<R>, handler: H) -> io::Result<()> {
        self.serve_until(listener, handler, pending()).await
    }

    /// Serves until `shutdown` completes, then takes no more connections and requests, closes
    /// idle connections at once, lets requests finish for [`shutdown_timeout`], and cancels the
    /// rest (FC-7-1).
    ///
    /// [`shutdown_timeout`]: Self::shutdown_timeout
    ///
    /// # Errors
    /// The listener's, when it can't accept any more. Failures of single connections are logged.
    pub async fn serve_until<H: Handler>(
        self,
        mut listener: Listener<R>,
        handler: H,
        shutdown: impl Future<Output = ()>,
    ) -> io::Result<()> {
        let limit = self.shutdown;
        let state = Arc::new(State::new(self, handler));
        let _cancel = CancelOnDrop(&state);
        let mut shutdown = pin!(shutdown);
        let mut pause = Deadline::<R>::new();
        let mut paused_until = None;
        let accepted = poll_fn(|cx| {
            if shutdown.as_mut().poll(cx).is_ready() {
                return Poll::Ready(Ok(()));
            }
            loop {
                if paused_until.is_some() {
                    if pause.poll(cx, paused_until, R::now()).is_pending() {
                        return Poll::Pending;
                    }
                    paused_until = None;
                }
                match listener.poll_accept(cx) {
                    Poll::Pending => return Poll::Pending,
                    Poll::Ready(Ok((io, peer))) => accept::<R, H>(&state, io, peer),
                    Poll::Ready(Err(error)) if is_peers_fault(&error) => {}
                    Poll::Ready(Err(error)) if is_fatal(&error) => return Poll::Ready(Err(error)),
                    Poll::Ready(Err(error)) => {
                        tracing::error!(%error, "accept failed");
                        paused_until = Some(R::now() + ACCEPT_PAUSE);
                    }
                }
            }
        })
        .await;
        drop(listener);
        state.shutdown();
        let mut deadline = Deadline::<R>::new();
        let mut until = R::now().checked_add(limit);
        poll_fn(|cx| {
            if state.poll_idle(cx).is_ready() {
                return Poll::Ready(());
            }
            if deadline.poll(cx, until, R::now()).is_ready() {
                tracing::warn!("shutdown: requests cancelled after {limit:?}");
                state.cancel();
                until = None;
            }
            Poll::Pending
        })
        .await;
        accepted
    }
}

/// Ends the connections of a server whose future is dropped.
struct CancelOnDrop<'a, H>(&'a State<H>);

impl<H> Drop for CancelOnDrop<'_, H> {
    fn drop(&mut self) {
        self.0.cancel();
    }
}

fn accept<R: Runtime, H: Handler>(state: &Arc<State<H>>, io: R::Transport, peer: Option<IpAddr>) {
    if !state.admits(peer) {
        tracing::warn!(?peer, "connection closed: not in FCGI_WEB_SERVER_ADDRS");
        return;
    }
    let (id, shared) = state.connect();
    let state = Arc::clone(state);
    R::spawn(async move {
        let _registered = state::Registered { state: &*state, id };
        connection::serve::<R, H>(io, Arc::clone(&state), shared).await;
    });
}

/// The connection was gone before it was accepted.
fn is_peers_fault(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionAborted
            | io::ErrorKind::ConnectionReset
            | io::ErrorKind::Interrupted
    )
}

/// The listener itself is no good.
fn is_fatal(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::InvalidInput | io::ErrorKind::NotConnected)
}

/// The IP addresses of FCGI_WEB_SERVER_ADDRS. What is no address admits nobody.
fn addrs(list: &str) -> Vec<IpAddr> {
    list.split(',').filter_map(|addr| addr.trim().parse().ok()).collect()
}
