//! A connection that several requests share. A task reads and writes, behind one lock, and wakes
//! the request whose bytes have come.

use std::{
    future::{Future, poll_fn},
    sync::{Arc, Mutex},
    task::{Context, Poll, Waker, ready},
};

use fcgi_engine::client::{Carrier, Session, Settings};
use fcgi_proto::RequestKey;

use super::{Chunk, Exchange};
use crate::{
    Error,
    deadline::Deadline,
    pump::{Io, MAX_ROUNDS},
    runtime::{Runtime, Transport},
    wakers::{self, Locked, Wakeful, Wakes, wait},
};

/// A request's handle of a shared connection.
#[derive(Clone, Debug)]
pub(crate) struct Mux<R: Runtime>(Arc<Mutex<State<R>>>);

#[derive(Debug)]
struct State<R: Runtime> {
    /// `None` once the connection is closed. It is kept here and not in the task, so that whoever
    /// ends the connection can close it before another is opened in its place.
    io: Option<R::Transport>,
    session: Session<Waker>,
    /// Wakes the connection's task, unless it is running and will look anyway.
    task: Option<Waker>,
    /// A socket to drop before anybody is told that it is closed.
    closed: Option<R::Transport>,
    woken: Wakes,
}

impl<R: Runtime> Wakeful for State<R> {
    type Later = (Option<R::Transport>, Wakes);

    #[inline]
    fn later(&mut self) -> Option<Self::Later> {
        let some = self.closed.is_some() || !self.woken.is_empty();
        some.then(|| (self.closed.take(), std::mem::take(&mut self.woken)))
    }
}

impl<R: Runtime> Mux<R> {
    /// A connection for up to `requests` at once, and the future that moves its bytes. The future
    /// ends with the connection.
    pub(crate) fn new(
        io: R::Transport,
        address: Arc<str>,
        settings: Settings,
        requests: usize,
    ) -> (Self, impl Future<Output = ()> + Send + 'static) {
        let session = Session::shared(address, settings, requests);
        let (io, woken) = (Some(io), Wakes::default());
        let state = State { io, session, task: None, closed: None, woken };
        let mux = Self(Arc::new(Mutex::new(state)));
        let task = Task { mux: mux.clone() };
        (mux, async move { poll_fn(|cx| task.poll(cx)).await })
    }

    /// Drives a request; returns the next chunk, or its end.
    pub(crate) fn poll_exchange(
        &self,
        cx: &mut Context<'_>,
        exchange: &mut Exchange<R>,
        deadline: &mut Deadline<R>,
    ) -> Poll<Result<Option<Chunk>, Error>> {
        exchange.poll_chunk(cx, |exchange, cx| self.poll_io(cx, exchange, deadline))
    }

    fn poll_io(
        &self,
        cx: &mut Context<'_>,
        exchange: &mut Exchange<R>,
        deadline: &mut Deadline<R>,
    ) -> Poll<Result<Option<Chunk>, Error>> {
        let (limit, now) = loop {
            // Dropped after the lock is released.
            let mut _before = None;
            let mut guard = self.lock();
            let State { session, task, woken, .. } = &mut *guard;
            let paused = !session.wants_read();
            let now = R::now();
            if let ready @ Poll::Ready(_) = session.poll(&mut exchange.core, || now) {
                if paused {
                    woken.take(task);
                }
                return ready;
            }
            session.wait(exchange.core.key(), |who| _before = wait(who, cx));
            if session.wants_write() {
                woken.take(task);
            }
            let limit = session.limit(&mut exchange.core, now);
            drop(guard);
            // The body may poll another response of the same connection, so the lock is not held.
            if !exchange.fill(cx)? {
                break (limit, now);
            }
        };
        let Some(limit) = limit else { return Poll::Pending };
        ready!(deadline.poll(cx, Some(limit.at), now));
        Poll::Ready(Err(exchange.core.passed(limit)))
    }

    /// Ready once an aborted request has ended: true if the connection can still be used.
    pub(crate) fn poll_ended(&self, cx: &mut Context<'_>, key: RequestKey) -> Poll<bool> {
        let mut _before = None;
        let mut state = self.lock();
        match state.session.drained(key, || true) {
            Some(outlived) => Poll::Ready(outlived),
            None => {
                state.session.wait(key, |who| _before = wait(who, cx));
                Poll::Pending
            }
        }
    }

    fn lock(&self) -> Locked<'_, State<R>> {
        wakers::lock(&self.0)
    }
}

impl<R: Runtime> Carrier for Mux<R> {
    type Who = Waker;

    fn with<T>(&mut self, f: impl FnOnce(&mut Session<Waker>, &dyn Fn() -> bool) -> T) -> T {
        let mut state = self.lock();
        let State { io, session, task, woken, .. } = &mut *state;
        let done = f(session, &|| io.as_ref().is_none_or(Transport::is_readable));
        if session.take_due() && session.wants_write() {
            woken.take(task);
        }
        state.close_unused();
        done
    }
}

struct Task<R: Runtime> {
    mux: Mux<R>,
}

impl<R: Runtime> Task<R> {
    /// Does everything that can be done now; ready at the end of the connection.
    fn poll(&self, cx: &mut Context<'_>) -> Poll<()> {
        let _before;
        let mut guard = self.mux.lock();
        let State { io, session, task, woken, .. } = &mut *guard;
        _before = task.take();
        let Some(io) = io else { return Poll::Ready(()) };
        let mut io = Io(io, cx);
        let turn = |_| session.turn(&mut io, true, R::now, |who| woken.extend([who]));
        let again = (0..MAX_ROUNDS).all(turn);
        if session.is_closed() || session.is_closing() && session.is_unused() {
            return Poll::Ready(());
        }
        *task = Some(cx.waker().clone());
        if again {
            woken.extend([cx.waker().clone()]);
        }
        Poll::Pending
    }
}

/// The task has ended, or no runtime is left to run it. Either way nothing else will arrive.
impl<R: Runtime> Drop for Task<R> {
    fn drop(&mut self) {
        let State { io, session, closed, woken, .. } = &mut *self.mux.lock();
        *closed = io.take();
        session.handle_lost();
        session.handle_events(|who| woken.extend([who]));
    }
}

impl<R: Runtime> State<R> {
    /// Closes the connection if it takes no more requests and has none.
    fn close_unused(&mut self) {
        if self.session.is_closing() && self.session.is_unused() {
            self.closed = self.closed.take().or(self.io.take());
            self.woken.take(&mut self.task);
        }
    }
}
