//! A connection that several requests share. A task reads and writes, behind one lock, and wakes
//! the request whose bytes have come.

use std::{
    future::{Future, poll_fn},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, Waker, ready},
    time::Instant,
};

use fcgi_engine::client::{Session, Settings};
use fcgi_proto::{BeginRequest, RequestKey};

use super::{Body, Chunk, Exchange};
use crate::{
    Error,
    deadline::Deadline,
    pump::{Io, MAX_ROUNDS},
    runtime::{Runtime, Transport},
    wakers::{wait, wake},
};

/// A request's handle of a shared connection.
#[derive(Debug)]
pub(crate) struct Mux<R: Runtime>(Arc<Mutex<State<R>>>);

#[derive(Debug)]
struct State<R: Runtime> {
    /// `None` once the connection is closed. It is kept here and not in the task, so that whoever
    /// ends the connection can close it before another is opened in its place.
    io: Option<R::Transport>,
    session: Session<Waker>,
    /// Wakes the connection's task, unless it is running and will look anyway.
    task: Option<Waker>,
}

impl<R: Runtime> Mux<R> {
    /// A connection for up to `requests` at once, and the future that moves its bytes. The future
    /// ends with the connection.
    pub(crate) fn new(
        io: R::Transport,
        address: Arc<str>,
        mut settings: Settings,
        requests: usize,
    ) -> (Self, impl Future<Output = ()> + Send + 'static) {
        settings.limits.requests = requests;
        let session = Session::new(address, settings);
        let mux = Self(Arc::new(Mutex::new(State { io: Some(io), session, task: None })));
        let task = Task { mux: mux.clone() };
        (mux, async move { poll_fn(|cx| task.poll(cx)).await })
    }

    /// Begins a request beside the others. It takes the bodies only on success.
    pub(crate) fn begin(
        &self,
        begin: &BeginRequest,
        bodies: impl FnOnce() -> [Body; 2],
        started: Instant,
    ) -> Result<Exchange<R>, Error> {
        let mut state = self.lock();
        let core = state.session.begin(begin, started, R::now())?;
        let span = state.session.span().clone();
        drop(state);
        Ok(Exchange::new(core, begin, &span, bodies()))
    }

    /// Drives a request; returns the next chunk, or its end.
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
        let (limit, now) = loop {
            let mut guard = self.lock();
            let State { session, task, .. } = &mut *guard;
            let paused = !session.wants_read();
            let now = R::now();
            if let ready @ Poll::Ready(_) = session.poll(&mut exchange.core, || now) {
                if paused {
                    wake(task);
                }
                return ready;
            }
            session.wait(exchange.key(), |who| wait(who, cx));
            session.push(&mut exchange.core)?;
            if session.wants_write() {
                wake(task);
            }
            let limit = session.limit(&mut exchange.core, now);
            drop(guard);
            // The body may poll another response of the same connection, so the lock is not held.
            if exchange.core.wants_body().is_none() {
                break (limit, now);
            }
            exchange.fill(cx)?;
            if exchange.core.wants_body().is_some() {
                break (limit, now);
            }
        };
        let Some(limit) = limit else { return Poll::Pending };
        ready!(deadline.poll(cx, Some(limit.at), now));
        Poll::Ready(Err(exchange.core.passed(limit)))
    }

    /// Aborts a request unless it has ended; the others go on.
    pub(crate) fn abort(&self, key: RequestKey) {
        let mut state = self.lock();
        if state.session.abort(key) {
            wake(&mut state.task);
        }
    }

    /// Ready once an aborted request has ended: true if the connection can still be used.
    pub(crate) fn poll_ended(&self, cx: &mut Context<'_>, key: RequestKey) -> Poll<bool> {
        let mut state = self.lock();
        match state.session.ended(key) {
            Some(outlived) => Poll::Ready(outlived),
            None => {
                state.session.wait(key, |who| wait(who, cx));
                Poll::Pending
            }
        }
    }

    /// Forgets a request that has ended or was aborted.
    pub(crate) fn forget(&self, key: RequestKey) {
        let mut state = self.lock();
        state.session.forget(key);
        state.close_unused();
    }

    /// Whether a kept connection can take another request now. If nobody uses it, the check is that
    /// of [`Client::is_quiet`](super::Client::is_quiet).
    pub(crate) fn is_quiet(&self) -> bool {
        let mut state = self.lock();
        if state.session.is_unused() && state.io.as_ref().is_none_or(Transport::is_readable) {
            state.session.close();
        }
        state.session.is_usable()
    }

    /// Whether another request can begin, as far as is known.
    pub(crate) fn is_usable(&self) -> bool {
        self.lock().session.is_usable()
    }

    /// Takes no more requests, and closes once the current ones are over: now if there are none.
    pub(crate) fn close(&self) {
        let mut state = self.lock();
        state.session.close();
        state.close_unused();
    }

    fn lock(&self) -> MutexGuard<'_, State<R>> {
        // Nothing panics while the lock is held.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<R: Runtime> Clone for Mux<R> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

struct Task<R: Runtime> {
    mux: Mux<R>,
}

impl<R: Runtime> Task<R> {
    /// Does everything that can be done now; ready at the end of the connection.
    fn poll(&self, cx: &mut Context<'_>) -> Poll<()> {
        let mut guard = self.mux.lock();
        let State { io, session, task } = &mut *guard;
        *task = None;
        let Some(io) = io else { return Poll::Ready(()) };
        let mut io = Io(io, cx);
        for _ in 0..MAX_ROUNDS {
            session.handle_events(Waker::wake);
            if session.write(&mut io, R::now).any {
                // A body may wait for the room that this made.
                session.handle_events(Waker::wake);
            }
            if session.is_closed() || session.is_closing() && session.is_unused() {
                return Poll::Ready(());
            }
            if !session.read(&mut io) {
                wait(task, cx);
                return Poll::Pending;
            }
        }
        wait(task, cx);
        cx.waker().wake_by_ref();
        Poll::Pending
    }
}

/// The task has ended, or no runtime is left to run it: nothing else will come.
impl<R: Runtime> Drop for Task<R> {
    fn drop(&mut self) {
        let mut state = self.mux.lock();
        state.io = None;
        state.session.handle_lost();
        state.session.handle_events(Waker::wake);
    }
}

impl<R: Runtime> State<R> {
    /// Closes the connection if it takes no more requests and has none.
    fn close_unused(&mut self) {
        if self.session.is_closing() && self.session.is_unused() {
            self.io = None;
            wake(&mut self.task);
        }
    }
}
