//! The connection of a client or of a pool, with one request at a time.

use std::{
    fmt,
    future::poll_fn,
    sync::Arc,
    task::{Context, Poll, Waker, ready},
    time::Instant,
};

use fcgi_engine::client::{self, Carrier, Session, Settings};

use super::{Chunk, Exchange};
use crate::{
    Error,
    deadline::Deadline,
    pump::{Io, MAX_ROUNDS},
    runtime::{Runtime, Transport},
};

/// Where the connection of a [`Client`](super::Client) is.
pub(super) type Place<R> = client::Place<Box<Connection<R>>, Waker>;

/// The connection of a [`Client`](super::Client) or of a pool.
pub(crate) struct Connection<R: Runtime> {
    pub(super) io: R::Transport,
    /// It holds no wakers: whoever uses it polls the socket.
    pub(super) session: Session<Waker>,
    deadline: Deadline<R>,
}

impl<R: Runtime> fmt::Debug for Connection<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connection").field("io", &self.io).finish_non_exhaustive()
    }
}

impl<R: Runtime> Connection<R> {
    pub(super) fn new(io: R::Transport, address: Arc<str>, settings: Settings) -> Self {
        let session = Session::new(address, settings);
        Self { io, session, deadline: Deadline::new() }
    }

    pub(super) fn into_place(self: Box<Self>) -> Place<R> {
        Place::new(self, |connection| &connection.session)
    }

    /// Drives a request; returns the next chunk, or its end. It has left the connection then.
    pub(super) fn poll_exchange(
        &mut self,
        cx: &mut Context<'_>,
        exchange: &mut Exchange<R>,
    ) -> Poll<Result<Option<Chunk>, Error>> {
        let polled = ready!(self.poll_chunk(cx, exchange));
        if exchange.core.is_over() {
            self.leave(&mut exchange.core);
        }
        Poll::Ready(polled)
    }

    /// Drives a request, which must [leave](Carrier::leave) the connection once it is over.
    pub(crate) fn poll_chunk(
        &mut self,
        cx: &mut Context<'_>,
        exchange: &mut Exchange<R>,
    ) -> Poll<Result<Option<Chunk>, Error>> {
        exchange.poll_chunk(cx, |exchange, cx| self.poll_io(cx, exchange))
    }

    fn poll_io(
        &mut self,
        cx: &mut Context<'_>,
        exchange: &mut Exchange<R>,
    ) -> Poll<Result<Option<Chunk>, Error>> {
        // The time is read once, unless something is done in between.
        let mut now = exchange.core.just_begun();
        for _ in 0..MAX_ROUNDS {
            loop {
                if let ready @ Poll::Ready(_) = self.session.poll(&mut exchange.core, R::now) {
                    return ready;
                }
                if !exchange.fill(cx)? {
                    break;
                }
            }
            if !self.turn(cx, || *now.get_or_insert_with(R::now)) {
                let now = now.unwrap_or_else(R::now);
                let Some(limit) = self.session.limit(&mut exchange.core, now) else {
                    return Poll::Pending;
                };
                ready!(self.deadline.poll(cx, Some(limit.at), now));
                return Poll::Ready(Err(exchange.core.passed(limit)));
            }
            now = None;
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    fn turn(&mut self, cx: &mut Context<'_>, now: impl FnOnce() -> Instant) -> bool {
        self.session.turn(&mut Io(&mut self.io, cx), true, now, Waker::wake)
    }

    /// Waits for the end of an aborted request, and notices if the application closes the
    /// connection meanwhile. The time of the next request counts from `next`.
    pub(crate) async fn settle(&mut self, next: Option<Instant>) -> Result<(), Error> {
        let settling = self.session.settling(R::now(), next);
        let settled = |session: &mut Session<_>, quiet| session.settled(|| quiet);
        let settled = poll_fn(|cx| self.poll_until(cx, settling.until, settled)).await;
        self.session.handle_settled(settled, settling)
    }

    /// Moves bytes until `done` returns something; `None` once `until` has passed. `done` gets to
    /// know whether there is nothing more to read. The limit is checked now and then, since the
    /// application may never stop.
    pub(super) fn poll_until<T>(
        &mut self,
        cx: &mut Context<'_>,
        until: Option<Instant>,
        done: impl FnOnce(&mut Session<Waker>, bool) -> Option<T>,
    ) -> Poll<Option<T>> {
        let more = (0..MAX_ROUNDS).all(|_| self.turn(cx, R::now));
        if more {
            cx.waker().wake_by_ref();
        }
        // The runtime will notice bytes that are still to be read.
        match done(&mut self.session, !more && !self.io.is_readable()) {
            None => self.deadline.poll(cx, until, R::now()).map(|()| None),
            done => Poll::Ready(done),
        }
    }
}

impl<R: Runtime> Carrier for Connection<R> {
    type Who = Waker;

    fn with<T>(&mut self, f: impl FnOnce(&mut Session<Waker>, &dyn Fn() -> bool) -> T) -> T {
        let done = f(&mut self.session, &|| self.io.is_readable());
        if self.session.take_due() {
            let mut cx = Context::from_waker(Waker::noop());
            self.session.write(&mut Io(&mut self.io, &mut cx), R::now);
        }
        done
    }
}
