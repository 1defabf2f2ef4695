//! The life of a server: it accepts, and when it shuts down it lets requests finish.

use std::{
    fmt,
    future::{Future, Pending, pending, poll_fn},
    io,
    os::unix::net::UnixStream,
    pin::{Pin, pin},
    sync::Arc,
    task::{Context, Poll, ready},
    thread::JoinHandle,
    time::Duration,
};

use fcgi_engine::{
    cgi::{self, Relay},
    notify,
    server::{Settings, Sockets, accept_failed},
    socket::{self, Peer},
};

use super::{Handler, connection, state::State};
use crate::{
    Acceptor, Error,
    deadline::Deadline,
    pump::MAX_ROUNDS,
    runtime::{Runtime, Transport},
};

/// A server that is ready to start: await or spawn it, as it is or [with a
/// signal](Self::with_graceful_shutdown).
///
/// Without a signal it serves until the future is dropped, or a single connection to its end.
///
/// # Errors
/// [`Error::Io`] when the listener can't accept any more. Failures of single connections are only
/// logged.
///
/// # Cancellation safety
/// Dropping the future closes the listener and every connection, and cancels every request. The web
/// server gets no answer, as if the process had been killed.
#[must_use = "it serves once it is awaited"]
pub struct Serve<R: Runtime, H, S = Pending<()>> {
    /// `None` once it was polled.
    start: Option<Plan<R, H, S>>,
    running: Option<Running>,
}

type Running = Pin<Box<dyn Future<Output = Result<(), Error>> + Send>>;

/// Everything that it needs to start.
struct Plan<R: Runtime, H, S> {
    settings: Settings,
    source: Source<R>,
    handler: H,
    signal: S,
}

/// None of the fields is pinned in place: the running future is in a box.
impl<R: Runtime, H, S> Unpin for Serve<R, H, S> {}

/// Where requests come from.
pub(super) type Source<R> = cgi::Source<Acceptor<R>, <R as Runtime>::Transport>;

impl<R: Runtime, H: Handler> Serve<R, H> {
    pub(super) fn new(settings: Settings, source: Source<R>, handler: H) -> Self {
        let start = Plan { settings, source, handler, signal: pending() };
        Self { start: Some(start), running: None }
    }
}

impl<R: Runtime, H: Handler, S> Serve<R, H, S> {
    /// Serves until `signal` completes. Then it takes no more connections, lets requests finish for
    /// at most [`shutdown_timeout`], and ends the rest as failed (FC-7-1).
    ///
    /// Requests that were sent before it closes are served: it still accepts connections that wait,
    /// and keeps connections without a request open for [`shutdown_grace`] (W-13). The next process
    /// may listen on the same socket meanwhile.
    ///
    /// Call it before the server is first polled: a server that already runs keeps the signal that
    /// it has.
    ///
    /// [`shutdown_timeout`]: super::Server::shutdown_timeout
    /// [`shutdown_grace`]: super::Server::shutdown_grace
    pub fn with_graceful_shutdown<F>(self, signal: F) -> Serve<R, H, F>
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let start = self.start.map(|Plan { settings, source, handler, .. }| Plan {
            settings,
            source,
            handler,
            signal,
        });
        Serve { start, running: self.running }
    }
}

impl<R: Runtime, H: Handler, S: Future<Output = ()>> Plan<R, H, S> {
    async fn run(self) -> Result<(), Error> {
        let Self { settings, source, handler, signal } = self;
        let limit = settings.shutdown;
        let state = Arc::new(State::new(settings, handler));
        let _abandon = AbandonOnDrop(&state);
        match source {
            Source::Listener(acceptor) => {
                let accepted = take_connections(acceptor, &state, signal).await;
                finish::<R, H>(&state, limit).await;
                accepted
            }
            Source::Connection(io) => {
                serve_one::<R, H>(&state, io, signal, limit).await;
                Ok(())
            }
            Source::Cgi(relay, connection) => {
                let relay = Relayed::<R>::start(relay).map_err(cgi::failed)?;
                let connection = adopt::<R>(connection).map_err(cgi::failed)?;
                serve_one::<R, H>(&state, connection, signal, limit).await;
                relay.ended().await
            }
            Source::Failed(error) => Err(error),
        }
    }
}

impl<R, H, S> Future for Serve<R, H, S>
where
    R: Runtime,
    H: Handler,
    S: Future<Output = ()> + Send + 'static,
{
    type Output = Result<(), Error>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let Self { start, running } = self.get_mut();
        if let Some(start) = start.take() {
            *running = Some(Box::pin(start.run()));
        }
        match running {
            Some(running) => running.as_mut().poll(cx),
            None => Poll::Pending,
        }
    }
}

impl<R: Runtime, H, S> fmt::Debug for Serve<R, H, S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut fields = f.debug_struct("Serve");
        if let Some(start) = &self.start {
            fields.field("settings", &start.settings).field("source", &start.source);
        }
        fields.finish_non_exhaustive()
    }
}

/// Takes connections until the signal, and then those that still wait.
async fn take_connections<R: Runtime, H: Handler>(
    acceptor: Acceptor<R>,
    state: &Arc<State<H>>,
    signal: impl Future<Output = ()>,
) -> Result<(), Error> {
    let mut sockets = acceptor.register()?;
    let serving = notify::serving();
    let accepted = accept_until::<R, H>(&mut sockets, state, signal).await;
    drop(serving);
    // Connections that are there already are served (W-13).
    sockets.hide();
    accepted.and(accept_last::<R, H>(&mut sockets, state).await)
}

/// Lets requests finish, within the limit.
async fn finish<R: Runtime, H: Handler>(state: &State<H>, limit: Duration) {
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
}

/// Takes connections until the signal.
async fn accept_until<R: Runtime, H: Handler>(
    sockets: &mut Sockets<R::Listener>,
    state: &Arc<State<H>>,
    signal: impl Future<Output = ()>,
) -> Result<(), Error> {
    let mut signal = pin!(signal);
    let mut pause = Deadline::<R>::new();
    poll_fn(|cx| {
        if signal.as_mut().poll(cx).is_ready() {
            return Poll::Ready(Ok(()));
        }
        let more = match poll_accepts::<R, H>(sockets, state, cx, MAX_ROUNDS)? {
            Poll::Ready(()) => true,
            Poll::Pending => pause.poll(cx, sockets.paused_until(R::now), R::now()).is_ready(),
        };
        if more {
            // Many connections come at once: the open ones get their turn.
            cx.waker().wake_by_ref();
        }
        Poll::Pending
    })
    .await
}

/// Takes the connections that wait already.
async fn accept_last<R: Runtime, H: Handler>(
    sockets: &mut Sockets<R::Listener>,
    state: &Arc<State<H>>,
) -> Result<(), Error> {
    let waits = |listener: &R::Listener| R::listener_fd(listener).is_some_and(socket::is_readable);
    poll_fn(|cx| match poll_accepts::<R, H>(sockets, state, cx, usize::MAX)? {
        // The runtime may not have noticed a connection. The order matters: one that comes after
        // the first check wakes the task.
        Poll::Pending if sockets.accepts(R::now) && sockets.iter().any(waits) => Poll::Pending,
        _ => Poll::Ready(Ok(())),
    })
    .await
}

/// Takes at most this many connections. Pending when no more can be taken now.
fn poll_accepts<R: Runtime, H: Handler>(
    sockets: &mut Sockets<R::Listener>,
    state: &Arc<State<H>>,
    cx: &mut Context<'_>,
    most: usize,
) -> Poll<Result<(), Error>> {
    for _ in 0..most {
        let accept = |listener: &mut R::Listener| R::poll_accept(listener, cx);
        if let Some((io, peer)) =
            ready!(sockets.poll_accept(&state.tally, R::now, R::listener_fd, accept))?
        {
            spawn::<R, H>(state, io, peer)
                .map_err(|error| accept_failed(sockets.local_addr(), error))?;
        }
    }
    Poll::Ready(Ok(()))
}

/// Serves one connection, without a listener, to its end. After the signal its requests may finish
/// within the limit.
async fn serve_one<R: Runtime, H: Handler>(
    state: &Arc<State<H>>,
    io: R::Transport,
    signal: impl Future<Output = ()>,
    limit: Duration,
) {
    let (_registered, shared) = state.connect(io.peer(), R::now);
    let mut serving = pin!(connection::serve::<R, H>(io, Arc::clone(state), shared));
    let mut leaving = pin!(async {
        signal.await;
        finish::<R, H>(state, limit).await;
    });
    poll_fn(|cx| {
        let served = serving.as_mut().poll(cx);
        // `leaving` does not end before the connection, which is registered until then.
        if served.is_pending() && leaving.as_mut().poll(cx).is_ready() {
            return Poll::Ready(());
        }
        served
    })
    .await;
}

/// Serves a connection in its own task.
fn spawn<R: Runtime, H: Handler>(
    state: &Arc<State<H>>,
    io: R::Transport,
    peer: Peer,
) -> io::Result<()> {
    // Dropped with the task, even if there is no runtime to run it.
    let (registered, shared) = state.connect(peer, R::now);
    R::spawn(async move {
        connection::serve::<R, H>(io, Arc::clone(&registered.state), shared).await;
        drop(registered);
    })
}

/// A CGI request's relay, in its own thread.
struct Relayed<R: Runtime> {
    thread: JoinHandle<Result<(), Error>>,
    /// Reaches its end of file when the thread ends.
    end: R::Transport,
}

impl<R: Runtime> Relayed<R> {
    fn start(relay: Relay) -> io::Result<Self> {
        let (end, threads) = UnixStream::pair()?;
        let end = adopt::<R>(end)?;
        let thread = Relay::thread().spawn(move || {
            let _threads = threads;
            relay.run()
        })?;
        Ok(Self { thread, end })
    }

    /// Waits until the answer is written.
    async fn ended(self) -> Result<(), Error> {
        let Self { thread, mut end } = self;
        // The thread sends nothing, so this waits for the end of file.
        let _ = poll_fn(|cx| end.poll_read(cx, &mut [0])).await;
        Relay::ended(thread.join())
    }
}

fn adopt<R: Runtime>(stream: UnixStream) -> io::Result<R::Transport> {
    stream.set_nonblocking(true)?;
    R::adopt(stream)
}

/// Closes the connections of a server whose future is dropped.
struct AbandonOnDrop<'a, H>(&'a State<H>);

impl<H> Drop for AbandonOnDrop<'_, H> {
    fn drop(&mut self) {
        self.0.abandon();
    }
}
