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
    pin::pin,
    sync::Arc,
    task::{Poll, ready},
    time::Duration,
};

use fcgi_engine::{
    server::{ACCEPT_PAUSE, LAST_ACCEPTS, Settings, is_fatal, is_peers_fault},
    socket::Peer,
};

pub use fcgi_engine::server::{CANCELLED, EndOfFile, FAILED, Failed, IntoAppStatus, PANICKED};
pub use handler::Handler;
pub use request::{InputStream, OutputStream, Request};

use crate::{Listener, deadline::Deadline, pump::MAX_ROUNDS, runtime::Runtime};
use state::State;

/// A FastCGI application's settings. Each has a default; [`serve`](Self::serve) starts it.
#[derive(Clone, Debug)]
pub struct Server<R> {
    pub(crate) settings: Settings,
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
        Self { settings: Settings::from_env(), runtime: PhantomData }
    }

    fcgi_engine::server_setters!();

    /// How long a handler whose request was aborted may go on before it is dropped; it learns of
    /// the abort from [`Request::cancelled`] and from its streams. Default zero: dropped at once.
    #[must_use]
    pub fn abort_grace(mut self, grace: Duration) -> Self {
        self.settings.abort_grace = grace;
        self
    }

    /// How long a handler may take in all, from the end of PARAMS. Then it is dropped and its request
    /// fails: a page with status 500 if nothing was written, else the response is cut (W-12). Default
    /// no limit.
    #[must_use]
    pub fn handler_timeout(mut self, limit: Option<Duration>) -> Self {
        self.settings.handler = limit;
        self
    }

    /// Serves until the future is dropped.
    ///
    /// # Errors
    /// As for [`serve_until`](Self::serve_until).
    ///
    /// # Cancellation safety
    /// Dropping the future closes the listener and cancels every request: it is no graceful
    /// shutdown.
    pub async fn serve<H: Handler>(self, listener: Listener<R>, handler: H) -> io::Result<()> {
        self.serve_until(listener, handler, pending()).await
    }

    /// Serves until `shutdown` completes, then takes no more connections, lets requests finish for
    /// [`shutdown_timeout`], and ends the rest as failed ones (FC-7-1).
    ///
    /// Requests that were sent before it closes are served: connections that wait to be accepted
    /// are, and those without a request are kept open for [`shutdown_grace`](Self::shutdown_grace)
    /// (W-13). The next process may listen on the same socket meanwhile.
    ///
    /// [`shutdown_timeout`]: Self::shutdown_timeout
    ///
    /// # Errors
    /// The listener's, when it can't accept any more. Failures of single connections are logged.
    ///
    /// # Cancellation safety
    /// Dropping the future closes the listener and every connection, and cancels every request: the
    /// web server gets no answer, as from a process that was killed.
    pub async fn serve_until<H: Handler>(
        self,
        mut listener: Listener<R>,
        handler: H,
        shutdown: impl Future<Output = ()>,
    ) -> io::Result<()> {
        let limit = self.settings.shutdown;
        let state = Arc::new(State::new(self.settings, handler));
        let _abandon = AbandonOnDrop(&state);
        let mut shutdown = pin!(shutdown);
        let mut pause = Deadline::<R>::new();
        let mut paused_until = None;
        let accepted = poll_fn(|cx| {
            if shutdown.as_mut().poll(cx).is_ready() {
                return Poll::Ready(Ok(()));
            }
            for _ in 0..MAX_ROUNDS {
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
            // Many come at once: those that are here get their turn.
            cx.waker().wake_by_ref();
            Poll::Pending
        })
        .await;
        // Who has connected already is served (W-13).
        listener.hide();
        let mut last = LAST_ACCEPTS;
        poll_fn(|cx| {
            while last > 0 {
                last -= 1;
                match ready!(listener.poll_accept_last(cx)) {
                    Some(Ok((io, peer))) => accept::<R, H>(&state, io, peer),
                    Some(Err(error)) if is_peers_fault(&error) => {}
                    Some(Err(error)) => {
                        tracing::error!(%error, "accept failed");
                        break;
                    }
                    None => break,
                }
            }
            Poll::Ready(())
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

/// Closes the connections of a server whose future is dropped.
struct AbandonOnDrop<'a, H>(&'a State<H>);

impl<H> Drop for AbandonOnDrop<'_, H> {
    fn drop(&mut self) {
        self.0.abandon();
    }
}

fn accept<R: Runtime, H: Handler>(state: &Arc<State<H>>, io: R::Transport, peer: Peer) {
    if !state.tally.settings().admits(peer) {
        tracing::warn!(%peer, "connection closed: not in FCGI_WEB_SERVER_ADDRS");
        return;
    }
    let (id, shared) = state.connect(peer, R::now);
    let state = Arc::clone(state);
    R::spawn(async move {
        let _registered = state::Registered { state: &*state, id };
        connection::serve::<R, H>(io, Arc::clone(&state), shared).await;
    });
}
