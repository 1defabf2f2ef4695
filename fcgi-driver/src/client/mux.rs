//! A connection that several requests share: a task reads and writes, behind one lock, and wakes
//! the request whose bytes have come.

use std::{
    collections::HashMap,
    future::{Future, poll_fn},
    io,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, Waker},
    time::Instant,
};

use fcgi_engine::{
    client::{Settings, is_close},
    observe::{self, OpenConnection, Side},
};
use fcgi_proto::{
    BeginRequest, ClientConfig, ClientConnection, Connection, ProtocolError, RequestKey,
    client::{Event, Outcome},
};
use tracing::Span;

use super::{Body, Chunk, Exchange, Pushed};
use crate::{
    Error,
    deadline::Deadline,
    pump::{self, Read, Wrote},
    runtime::{Runtime, Transport},
    wakers::{wait, wake},
};

/// A shared connection, as its requests see it.
#[derive(Debug)]
pub(crate) struct Mux<R: Runtime>(Arc<Shared<R>>);

#[derive(Debug)]
struct Shared<R: Runtime> {
    address: Arc<str>,
    settings: Settings,
    span: Span,
    state: Mutex<State<R>>,
}

#[derive(Debug)]
struct State<R: Runtime> {
    /// `None` once the connection is closed. It is here, and not with the task, so that whoever
    /// ends the connection has closed it before another is opened in its place.
    io: Option<R::Transport>,
    connection: ClientConnection,
    requests: HashMap<RequestKey, Slot>,
    /// Wakes the connection's task, unless it is running and will look anyway.
    task: Option<Waker>,
    failed: Option<Failure>,
    /// Takes no more requests, and closes with the last one.
    closing: bool,
    /// Times that bytes have come.
    reads: u64,
}

/// One request, as the connection's task sees it.
#[derive(Debug, Default)]
struct Slot {
    waker: Option<Waker>,
    outcome: Option<Outcome>,
    /// Of the connection, before it.
    reads: u64,
}

/// What ended the connection under its requests, other than its orderly end.
#[derive(Clone, Copy, Debug)]
enum Failure {
    Protocol(ProtocolError),
    Read(io::ErrorKind),
}

impl<R: Runtime> Mux<R> {
    /// A connection for up to `requests` at once, and the future that moves its bytes, which ends
    /// with it.
    pub(crate) fn new(
        io: R::Transport,
        address: Arc<str>,
        settings: Settings,
        requests: usize,
    ) -> (Self, impl Future<Output = ()> + Send + 'static) {
        let mut limits = settings.limits;
        limits.requests = requests;
        let mux = Self(Arc::new(Shared {
            span: observe::connection_span(Side::Client, &address),
            address,
            settings,
            state: Mutex::new(State {
                io: Some(io),
                connection: ClientConnection::new(ClientConfig { limits }),
                requests: HashMap::new(),
                task: None,
                failed: None,
                closing: false,
                reads: 0,
            }),
        }));
        let mut task =
            Task { mux: mux.clone(), write_gone: false, _open: OpenConnection::new(Side::Client) };
        (mux, async move {
            poll_fn(|cx| task.poll(cx)).await;
        })
    }

    /// Begins a request beside the others. It takes the bodies only if it can.
    pub(crate) fn begin(
        &self,
        begin: &BeginRequest,
        bodies: impl FnOnce() -> [Body; 2],
        started: Instant,
    ) -> Result<Exchange<R>, Error> {
        let mut guard = self.lock();
        let state = &mut *guard;
        let address = Arc::clone(&self.0.address);
        if !state.is_usable() {
            return Err(Error::Closed { address });
        }
        let key = state.connection.begin(begin)?;
        state.requests.insert(key, Slot { reads: state.reads, ..Slot::default() });
        drop(guard);
        let _span = self.0.span.enter();
        Ok(Exchange::new(key, begin, bodies(), address, &self.0.settings, started))
    }

    /// Moves a request on; the next chunk, or its end.
    pub(crate) fn poll_exchange(
        &self,
        cx: &mut Context<'_>,
        exchange: &mut Exchange<R>,
        deadline: &mut Deadline<R>,
    ) -> Poll<Result<Option<Chunk>, Error>> {
        if exchange.is_over() {
            return Poll::Ready(Ok(None));
        }
        self.poll_io(cx, exchange, deadline).map(|polled| exchange.hand_out(polled))
    }

    fn poll_io(
        &self,
        cx: &mut Context<'_>,
        exchange: &mut Exchange<R>,
        deadline: &mut Deadline<R>,
    ) -> Poll<Result<Option<Chunk>, Error>> {
        exchange.check_total()?;
        loop {
            // It may poll another response of the same connection: no lock yet.
            exchange.fill(cx)?;
            let mut guard = self.lock();
            let state = &mut *guard;
            let paused = !state.connection.wants_read();
            if let Some(chunk) = exchange.take_chunk(&mut state.connection) {
                if paused {
                    state.wake_task();
                }
                exchange.progress = R::now();
                return Poll::Ready(Ok(Some(chunk)));
            }
            let slot = state.requests.entry(exchange.key).or_default();
            exchange.outcome = exchange.outcome.or(slot.outcome);
            exchange.touched = slot.reads != state.reads;
            if let Some(outcome) = exchange.outcome {
                return Poll::Ready(exchange.end(outcome));
            }
            if let Some(failure) = state.failed {
                return Poll::Ready(Err(self.error(failure)));
            }
            wait(&mut slot.waker, cx);
            let pushed = exchange.push(&mut state.connection)?;
            if state.connection.poll_transmit().is_some() {
                state.wake_task();
            }
            if pushed != Pushed::Nothing && !exchange.answered {
                exchange.progress = R::now();
            }
            if pushed != Pushed::All {
                break;
            }
        }
        exchange.poll_limits(cx, deadline).map(Err)
    }

    /// Gives a request up, unless it has ended; the others go on.
    pub(crate) fn abort(&self, key: RequestKey) {
        let mut state = self.lock();
        if let Some(request) = state.connection.request(key) {
            request.abort();
            state.wake_task();
        }
    }

    /// Ready once an aborted request has ended: true if the connection outlived it.
    pub(crate) fn poll_ended(&self, cx: &mut Context<'_>, key: RequestKey) -> Poll<bool> {
        let mut state = self.lock();
        if state.failed.is_some() || state.connection.is_closed() {
            return Poll::Ready(false);
        }
        match state.requests.get_mut(&key) {
            Some(Slot { outcome: None, waker, .. }) => {
                wait(waker, cx);
                Poll::Pending
            }
            _ => Poll::Ready(true),
        }
    }

    /// Forgets a request that has ended or was aborted.
    pub(crate) fn forget(&self, key: RequestKey) {
        let mut state = self.lock();
        state.requests.remove(&key);
        state.close_unused();
    }

    /// Whether another request can begin now, on a connection that was kept: the same as
    /// [`Client::is_quiet`](super::Client::is_quiet) if nobody uses it.
    pub(crate) fn is_quiet(&self) -> bool {
        let mut state = self.lock();
        if state.requests.is_empty() {
            state.closing |= state.io.as_ref().is_none_or(Transport::is_readable);
        }
        state.is_usable()
    }

    /// Whether another request can begin, as far as is known.
    pub(crate) fn is_usable(&self) -> bool {
        self.lock().is_usable()
    }

    /// Takes no more requests, and closes once those that it has are over: now if it has none.
    pub(crate) fn close(&self) {
        let mut state = self.lock();
        state.closing = true;
        state.close_unused();
    }

    fn error(&self, failure: Failure) -> Error {
        let address = Arc::clone(&self.0.address);
        match failure {
            Failure::Protocol(source) => Error::Protocol { address, source },
            Failure::Read(kind) => Error::Io { address, doing: "read from", source: kind.into() },
        }
    }

    fn lock(&self) -> MutexGuard<'_, State<R>> {
        // Nothing panics while it is held.
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<R: Runtime> Clone for Mux<R> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

struct Task<R: Runtime> {
    mux: Mux<R>,
    write_gone: bool,
    _open: OpenConnection,
}

impl<R: Runtime> Task<R> {
    /// Everything that can be done now; ready at the end of the connection.
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let mut guard = self.mux.lock();
        let state = &mut *guard;
        state.task = None;
        for _ in 0..pump::MAX_ROUNDS {
            if !state.drain_events() {
                return Poll::Ready(());
            }
            let Some(io) = &mut state.io else { return Poll::Ready(()) };
            if !self.write_gone {
                match pump::write(io, &mut state.connection, cx) {
                    // A body may have waited for the room that this made.
                    Wrote::Done { bytes: 1.., .. } => {
                        if !state.drain_events() {
                            return Poll::Ready(());
                        }
                    }
                    Wrote::Gone(error) => {
                        let span = &self.mux.0.span;
                        tracing::debug!(parent: span, %error, "application takes no more");
                        self.write_gone = true;
                    }
                    Wrote::Done { .. } => {}
                }
            }
            if state.connection.is_closed() {
                state.closing = true;
                return Poll::Ready(());
            }
            let Some(io) = &mut state.io else { return Poll::Ready(()) };
            match pump::read(io, &mut state.connection, cx) {
                Read::Some { .. } => state.reads += 1,
                Read::Nothing => {
                    wait(&mut state.task, cx);
                    return Poll::Pending;
                }
                Read::Eof => state.connection.handle_eof(),
                Read::Gone(error) if is_close(&error) => state.connection.handle_eof(),
                Read::Gone(error) => {
                    state.fail(Failure::Read(error.kind()));
                    return Poll::Ready(());
                }
            }
        }
        wait(&mut state.task, cx);
        cx.waker().wake_by_ref();
        Poll::Pending
    }
}

/// The task has ended, or there is no runtime for it any more: nothing else will come.
impl<R: Runtime> Drop for Task<R> {
    fn drop(&mut self) {
        let mut state = self.mux.lock();
        state.io = None;
        if state.failed.is_none() {
            state.fail(Failure::Read(io::ErrorKind::NotConnected));
        }
    }
}

impl<R: Runtime> State<R> {
    fn is_usable(&self) -> bool {
        !self.closing && self.failed.is_none() && self.connection.can_begin()
    }

    /// Hands every event to its request; false when the application broke the protocol.
    fn drain_events(&mut self) -> bool {
        loop {
            match self.connection.poll_event() {
                Ok(None) => return true,
                Ok(Some(Event::Readable { key, .. } | Event::Writable { key })) => {
                    if let Some(slot) = self.requests.get_mut(&key) {
                        wake(&mut slot.waker);
                    }
                }
                Ok(Some(Event::Finished { key, outcome })) => {
                    if let Some(slot) = self.requests.get_mut(&key) {
                        slot.outcome = Some(outcome);
                        wake(&mut slot.waker);
                    }
                }
                Ok(Some(_)) => {}
                Err(error) => {
                    self.fail(Failure::Protocol(error));
                    return false;
                }
            }
        }
    }

    fn fail(&mut self, failure: Failure) {
        self.failed = Some(failure);
        for slot in self.requests.values_mut() {
            wake(&mut slot.waker);
        }
    }

    /// Closes a connection that takes no more requests and has none.
    fn close_unused(&mut self) {
        if self.closing && self.requests.is_empty() {
            self.io = None;
            self.wake_task();
        }
    }

    fn wake_task(&mut self) {
        wake(&mut self.task);
    }
}
