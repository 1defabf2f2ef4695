//! The connection of a client or of a pool, with one request at a time.

use std::{
    fmt,
    future::poll_fn,
    sync::Arc,
    task::{Context, Poll, Waker, ready},
    time::Instant,
};

use fcgi_engine::{
    client::{self, Bodies, Session, Settings, Wrote},
    observe,
};
use fcgi_proto::{BeginRequest, Values};

use super::{Body, Chunk, Exchange};
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

    pub(crate) fn is_reusable(&self) -> bool {
        self.session.is_reusable()
    }

    /// Queues the start of a request, on an idle connection. It takes the bodies only on success.
    pub(crate) fn begin(
        &mut self,
        begin: &BeginRequest,
        bodies: &mut Bodies<Body>,
        started: Instant,
        now: Instant,
    ) -> Result<Exchange<R>, Error> {
        let begun = self.session.begin(begin, !bodies.are_empty(), started, now);
        let core = begun.map_err(observe::logged)?;
        Ok(Exchange::new(core, begin, self.session.span(), bodies.take()))
    }

    /// Drives a request; returns the next chunk, or its end.
    pub(crate) fn poll_exchange(
        &mut self,
        cx: &mut Context<'_>,
        exchange: &mut Exchange<R>,
    ) -> Poll<Result<Option<Chunk>, Error>> {
        let polled = ready!(exchange.poll_chunk(cx, |exchange, cx| self.poll_io(cx, exchange)));
        if exchange.core.is_over() {
            self.abort(exchange);
        }
        Poll::Ready(polled)
    }

    fn poll_io(
        &mut self,
        cx: &mut Context<'_>,
        exchange: &mut Exchange<R>,
    ) -> Poll<Result<Option<Chunk>, Error>> {
        // The time is read once, unless something is done in between.
        let mut now = None;
        for _ in 0..MAX_ROUNDS {
            self.session.handle_events(Waker::wake);
            if let ready @ Poll::Ready(_) = self.session.poll(&mut exchange.core, R::now) {
                return ready;
            }
            loop {
                exchange.fill(cx)?;
                if !exchange.core.is_feeding() || !self.session.push(&mut exchange.core)? {
                    break;
                }
            }
            let wrote = self.session.write(&mut Io(&mut self.io, cx), || *now.insert(R::now()));
            // There may be room for more of the body.
            if wrote.any && exchange.core.is_feeding() {
                continue;
            }
            if !self.session.read(&mut Io(&mut self.io, cx)) {
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

    /// Aborts a request unless it has ended, and sends what can be sent of the abort at once.
    pub(crate) fn abort(&mut self, exchange: &mut Exchange<R>) {
        if self.session.leave(&mut exchange.core) {
            self.write(&mut Context::from_waker(Waker::noop()));
        }
        self.session.forget(exchange.core.key());
    }

    /// Waits for the end of an aborted request, and notices if the application closes the
    /// connection meanwhile. The time of the next request counts from `next`.
    pub(crate) async fn settle(&mut self, next: Option<Instant>) -> Result<(), Error> {
        let settling = self.session.settling(R::now(), next);
        let settled = poll_fn(|cx| self.poll_settled(cx, settling.until)).await;
        self.session.handle_settled(settled, settling)
    }

    /// Aborts a request unless it has ended. Returns what [`Session::after`] says.
    pub(crate) fn leave(&mut self, exchange: &mut Exchange<R>) -> Option<bool> {
        self.abort(exchange);
        self.session.after(&exchange.core)
    }

    /// Whether another request can begin now.
    pub(crate) fn is_quiet(&mut self) -> bool {
        self.session.is_quiet(|| self.io.is_readable())
    }

    /// Reads and sends what it can, for one turn; true if there may be more. The caller checks its
    /// time limit between turns, since the application may never stop.
    fn move_on(&mut self, cx: &mut Context<'_>) -> bool {
        for _ in 0..MAX_ROUNDS {
            self.session.handle_events(Waker::wake);
            self.write(cx);
            if !self.session.read(&mut Io(&mut self.io, cx)) {
                return false;
            }
        }
        self.session.handle_events(Waker::wake);
        cx.waker().wake_by_ref();
        true
    }

    fn poll_settled(&mut self, cx: &mut Context<'_>, until: Option<Instant>) -> Poll<Option<bool>> {
        let more = self.move_on(cx);
        // The runtime will notice bytes that are still to be read.
        match self.session.settled(|| !more && !self.io.is_readable()) {
            None => self.deadline.poll(cx, until, R::now()).map(|()| None),
            settled => Poll::Ready(settled),
        }
    }

    pub(super) fn poll_values(
        &mut self,
        cx: &mut Context<'_>,
        until: Option<Instant>,
    ) -> Poll<Result<Values, Error>> {
        self.move_on(cx);
        if let ready @ Poll::Ready(_) = self.session.poll_values() {
            return ready;
        }
        self.deadline.poll(cx, until, R::now()).map(|()| Ok(self.session.values_passed()))
    }

    fn write(&mut self, cx: &mut Context<'_>) -> Wrote {
        self.session.write(&mut Io(&mut self.io, cx), R::now)
    }
}
