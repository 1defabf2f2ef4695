//! A server's life: it accepts, and at its end lets its requests finish.

use std::{
    fmt,
    future::{Future, IntoFuture, Pending, pending, poll_fn},
    pin::{Pin, pin},
    sync::Arc,
    task::{Poll, ready},
};

use fcgi_engine::{
    notify,
    server::{ACCEPT_PAUSE, LAST_ACCEPTS, Settings, is_fatal, is_peers_fault},
    socket::Peer,
};

use super::{
    Handler, connection,
    state::{Registered, State},
};
use crate::{
    Acceptor, Error,
    acceptor::failed,
    deadline::Deadline,
    pump::MAX_ROUNDS,
    runtime::{Runtime, Transport},
};

/// A server that is about to start: await it, as it is or
/// [with a signal](Self::with_graceful_shutdown).
///
/// Without a signal it serves until the future is dropped.
///
/// # Errors
/// [`Error::Io`] when the listener can't accept any more. Failures of single connections are
/// logged.
///
/// # Cancellation safety
/// Dropping the future closes the listener and every connection, and cancels every request: the
/// web server gets no answer, as from a process that was killed.
#[must_use = "it serves once it is awaited"]
pub struct Serve<R: Runtime, H, S = Pending<()>> {
    settings: Settings,
    acceptor: Acceptor<R>,
    handler: H,
    signal: S,
}

impl<R: Runtime, H: Handler> Serve<R, H> {
    pub(super) fn new(settings: Settings, acceptor: Acceptor<R>, handler: H) -> Self {
        Self { settings, acceptor, handler, signal: pending() }
    }
}

impl<R: Runtime, H: Handler, S> Serve<R, H, S> {
    /// Serves until `signal` completes, then takes no more connections, lets requests finish for
    /// [`shutdown_timeout`], and ends the rest as failed ones (FC-7-1).
    ///
    /// Requests that were sent before it closes are served: connections that wait to be accepted
    /// are, and those without a request are kept open for [`shutdown_grace`] (W-13). The next
    /// process may listen on the same socket meanwhile.
    ///
    /// [`shutdown_timeout`]: super::Server::shutdown_timeout
    /// [`shutdown_grace`]: super::Server::shutdown_grace
    pub fn with_graceful_shutdown<F>(self, signal: F) -> Serve<R, H, F>
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let Self { settings, acceptor, handler, .. } = self;
        Serve { settings, acceptor, handler, signal }
    }

    async fn run(self) -> Result<(), Error>
    where
        S: Future<Output = ()>,
    {
        let Self { settings, mut acceptor, handler, signal } = self;
        let limit = settings.shutdown;
        acceptor.register()?;
        let serving = notify::serving();
        let state = Arc::new(State::new(settings, handler));
        let _abandon = AbandonOnDrop(&state);
        let accepted = accept_until(&mut acceptor, &state, signal).await;
        drop(serving);
        // Who has connected already is served (W-13).
        acceptor.hide();
        accept_last(&mut acceptor, &state).await;
        drop(acceptor);
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

impl<R, H, S> IntoFuture for Serve<R, H, S>
where
    R: Runtime,
    H: Handler,
    S: Future<Output = ()> + Send + 'static,
{
    type Output = Result<(), Error>;
    type IntoFuture = Pin<Box<dyn Future<Output = Result<(), Error>> + Send>>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(self.run())
    }
}

impl<R: Runtime, H, S> fmt::Debug for Serve<R, H, S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { settings, acceptor, .. } = self;
        let mut fields = f.debug_struct("Serve");
        fields.field("settings", settings).field("acceptor", acceptor).finish_non_exhaustive()
    }
}

/// Takes connections until the signal.
async fn accept_until<R: Runtime, H: Handler>(
    acceptor: &mut Acceptor<R>,
    state: &Arc<State<H>>,
    signal: impl Future<Output = ()>,
) -> Result<(), Error> {
    let mut signal = pin!(signal);
    let mut pause = Deadline::<R>::new();
    let mut paused_until = None;
    poll_fn(|cx| {
        if signal.as_mut().poll(cx).is_ready() {
            return Poll::Ready(Ok(()));
        }
        for _ in 0..MAX_ROUNDS {
            if paused_until.is_some() {
                if pause.poll(cx, paused_until, R::now()).is_pending() {
                    return Poll::Pending;
                }
                paused_until = None;
            }
            match acceptor.poll_accept(cx) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(Ok((io, peer))) => {
                    if let Err(error) = begin::<R, H>(state, io, peer) {
                        return Poll::Ready(Err(failed(acceptor.local_addr(), error)));
                    }
                }
                Poll::Ready(Err((error, _))) if is_peers_fault(&error) => {}
                Poll::Ready(Err((error, address))) if is_fatal(&error) => {
                    return Poll::Ready(Err(failed(&address, error)));
                }
                Poll::Ready(Err((error, address))) => {
                    tracing::error!(%error, %address, "accept failed");
                    paused_until = Some(R::now() + ACCEPT_PAUSE);
                }
            }
        }
        // Many come at once: those that are here get their turn.
        cx.waker().wake_by_ref();
        Poll::Pending
    })
    .await
}

/// Takes the connections that wait already.
async fn accept_last<R: Runtime, H: Handler>(acceptor: &mut Acceptor<R>, state: &Arc<State<H>>) {
    let mut last = LAST_ACCEPTS;
    poll_fn(|cx| {
        while last > 0 {
            last -= 1;
            let failure = match ready!(acceptor.poll_accept_last(cx)) {
                Some(Ok((io, peer))) => begin::<R, H>(state, io, peer).err(),
                Some(Err((error, _))) if is_peers_fault(&error) => None,
                Some(Err((error, _))) => Some(error),
                None => break,
            };
            if let Some(error) = failure {
                tracing::error!(%error, "accept failed");
                break;
            }
        }
        Poll::Ready(())
    })
    .await;
}

/// Serves one connection, without a listener.
pub(super) async fn connection<R: Runtime, H: Handler>(
    settings: Settings,
    io: R::Transport,
    handler: H,
) {
    let state = Arc::new(State::new(settings, handler));
    let _abandon = AbandonOnDrop(&state);
    let (id, shared) = state.connect(io.peer(), R::now);
    let registered = Registered { state: Arc::clone(&state), id };
    connection::serve::<R, H>(io, Arc::clone(&state), shared).await;
    drop(registered);
}

/// Serves a connection beside the others.
fn begin<R: Runtime, H: Handler>(
    state: &Arc<State<H>>,
    io: R::Transport,
    peer: Peer,
) -> std::io::Result<()> {
    if !state.tally.settings().admits(peer) {
        tracing::warn!(%peer, "connection closed: not in FCGI_WEB_SERVER_ADDRS");
        return Ok(());
    }
    let (id, shared) = state.connect(peer, R::now);
    let state = Arc::clone(state);
    // Dropped with the task, also where there is none.
    let registered = Registered { state, id };
    R::spawn(async move {
        connection::serve::<R, H>(io, Arc::clone(&registered.state), shared).await;
        drop(registered);
    })
}

/// Closes the connections of a server whose future is dropped.
struct AbandonOnDrop<'a, H>(&'a State<H>);

impl<H> Drop for AbandonOnDrop<'_, H> {
    fn drop(&mut self) {
        self.0.abandon();
    }
}
