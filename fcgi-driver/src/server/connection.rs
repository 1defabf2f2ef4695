//! The task of one connection: reads, writes, and runs the handler of its first request inline.

use std::{
    collections::VecDeque,
    future::{Future, poll_fn},
    pin::{Pin, pin},
    sync::Arc,
    task::{Context, Poll, ready},
    time::{Duration, Instant},
};

use fcgi_engine::{
    Phase,
    observe::{self, OpenConnection, RequestLog, Side},
    server::{LINGER, Settings},
    socket::Peer,
};
use fcgi_proto::{
    Connection, Rejection,
    server::{AbortReason, Event},
};
use tracing::Span;

use super::{
    Request,
    handler::{self, Handler},
    shared::{Inner, Shared},
    state::{Counted, State},
};
use crate::{
    deadline::Deadline,
    pump::{self, Read, Wrote},
    runtime::{Runtime, Transport},
};

/// How often a peer that has closed its sending side is looked at: that it closes the other side
/// too shows in no read (W-8).
const LOOK_AFTER_HALF_CLOSE: Duration = Duration::from_secs(1);

/// Serves one connection to its end.
pub(super) async fn serve<R: Runtime, H: Handler>(
    io: R::Transport,
    peer: Peer,
    state: Arc<State<H>>,
    shared: Arc<Shared>,
) {
    let _open = OpenConnection::new(Side::Server);
    let mut task = Task::<R, H> {
        io,
        peer,
        span: observe::connection_span(Side::Server, &peer),
        place: state.place(),
        state,
        shared,
        begun: VecDeque::new(),
        deadline: Deadline::new(),
        waiting: Phase::FirstRecord,
        wait_until: None,
        heard: false,
        gone: false,
        half_closed: None,
        look: Deadline::new(),
    };
    task.wait_until =
        task.state.settings.limit(task.waiting).and_then(|limit| R::now().checked_add(limit));
    while let Some(request) = poll_fn(|cx| task.poll_request(cx)).await {
        let mut run = pin!(task.run(request));
        let mut fresh = true;
        poll_fn(|cx| task.poll_inline(cx, run.as_mut(), std::mem::take(&mut fresh))).await;
    }
    poll_fn(|cx| task.poll_handlers_gone(cx)).await;
    task.linger().await;
}

struct Task<R: Runtime, H> {
    io: R::Transport,
    peer: Peer,
    span: Span,
    state: Arc<State<H>>,
    shared: Arc<Shared>,
    /// Its place among the connections that are served.
    place: Option<Counted>,
    /// Requests whose handlers do not run yet.
    begun: VecDeque<Begun>,
    deadline: Deadline<R>,
    waiting: Phase,
    wait_until: Option<Instant>,
    /// A record has begun on this connection.
    heard: bool,
    /// The peer takes no more, and the handlers run on all the same (W-8).
    gone: bool,
    /// The peer has closed its sending side; when it is looked at next.
    half_closed: Option<Instant>,
    look: Deadline<R>,
}

/// A request whose handler does not run yet, and its place in the count of all.
type Begun = (Request, Counted);

/// What a turn came to.
enum Turn {
    Request(Begun),
    Closed,
}

impl<R: Runtime, H: Handler> Task<R, H> {
    /// The next request, whose handler the caller runs; `None` at the end of the connection.
    fn poll_request(&mut self, cx: &mut Context<'_>) -> Poll<Option<Begun>> {
        Poll::Ready(match ready!(self.poll_io(cx)) {
            Turn::Request(request) => Some(request),
            Turn::Closed => None,
        })
    }

    /// Runs a handler as part of this task; before anything else when it is `fresh`.
    fn poll_inline(
        &mut self,
        cx: &mut Context<'_>,
        run: Pin<&mut impl Future<Output = ()>>,
        fresh: bool,
    ) -> Poll<()> {
        if !fresh {
            self.poll_beside(cx);
        }
        if run.poll(cx).is_ready() {
            return Poll::Ready(());
        }
        self.poll_beside(cx);
        Poll::Pending
    }

    /// Reads and writes while a handler runs inline. A request that begins meanwhile gets a task
    /// of its own.
    fn poll_beside(&mut self, cx: &mut Context<'_>) {
        while let Poll::Ready(Turn::Request(request)) = self.poll_io(cx) {
            R::spawn(self.run(request));
        }
    }

    /// Waits for the handlers that are in tasks of their own; a failed connection has told them
    /// to stop.
    fn poll_handlers_gone(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let mut inner = self.shared.lock();
        if inner.handlers() == 0 {
            return Poll::Ready(());
        }
        inner.leave(cx);
        Poll::Pending
    }

    fn run(&self, (request, counted): Begun) -> impl Future<Output = ()> + Send + use<R, H> {
        let state = Arc::clone(&self.state);
        let shared = Arc::clone(&self.shared);
        let (key, peer) = (request.key, self.peer);
        async move {
            let _counted = counted;
            // A handler may panic before it gives its future.
            let handler = async { state.handler.call(request).await };
            handler::run::<R>(shared, key, peer, &state.settings, handler).await;
        }
    }

    /// Everything that can be done now: events, then what is to be sent, then what has come.
    fn poll_io(&mut self, cx: &mut Context<'_>) -> Poll<Turn> {
        let _span = self.span.enter();
        let mut guard = self.shared.lock();
        let inner = &mut *guard;
        inner.attend();
        let mut write_blocked;
        let mut rounds = 0;
        loop {
            drain_events::<R, H>(
                inner,
                &self.shared,
                &self.state,
                &mut self.place,
                &mut self.begun,
            );
            if let Some(request) = self.begun.pop_front() {
                self.heard = true;
                (self.waiting, self.wait_until) = (Phase::Handler, None);
                return Poll::Ready(Turn::Request(request));
            }
            // Replies that are sent let the parser go on with what has come already (H-9).
            let paused = !inner.connection.wants_read();
            let wrote = if self.gone {
                pump::discard(&mut inner.connection)
            } else {
                pump::write(&mut self.io, &mut inner.connection, cx)
            };
            match wrote {
                Wrote::Done { bytes: 0, blocked } => write_blocked = blocked,
                Wrote::Done { blocked, .. } => {
                    write_blocked = blocked;
                    // A write that goes on has its time anew.
                    (self.waiting, self.wait_until) = (Phase::Handler, None);
                    if !blocked {
                        inner.on_flushed();
                    }
                    if inner.handlers() > 0 {
                        drain_events::<R, H>(
                            inner,
                            &self.shared,
                            &self.state,
                            &mut self.place,
                            &mut self.begun,
                        );
                    }
                    if paused && !blocked {
                        continue;
                    }
                }
                Wrote::Gone(_) => {
                    // The peer may leave before the last record (W-7).
                    self.gone = lose_peer(inner, &self.state.settings);
                    continue;
                }
            }
            if inner.connection.is_closed() {
                return Poll::Ready(Turn::Closed);
            }
            match pump::read(&mut self.io, &mut inner.connection, cx) {
                Read::Nothing => break,
                Read::Some { .. } => {}
                Read::Eof if self.io.is_hung_up() => {
                    self.gone = lose_peer(inner, &self.state.settings)
                }
                Read::Eof => {
                    inner.connection.handle_eof();
                    self.half_closed = R::now().checked_add(LOOK_AFTER_HALF_CLOSE);
                }
                Read::Gone(_) => self.gone = lose_peer(inner, &self.state.settings),
            }
            rounds += 1;
            if rounds == pump::MAX_ROUNDS {
                cx.waker().wake_by_ref();
                break;
            }
        }
        while self.look.poll(cx, self.half_closed, R::now()).is_ready() {
            self.half_closed = R::now().checked_add(LOOK_AFTER_HALF_CLOSE);
            if self.io.is_hung_up() {
                self.half_closed = None;
                self.gone = lose_peer(inner, &self.state.settings);
                drain_events::<R, H>(
                    inner,
                    &self.shared,
                    &self.state,
                    &mut self.place,
                    &mut self.begun,
                );
                cx.waker().wake_by_ref();
            }
        }
        let waiting = waiting_for(inner, write_blocked, self.heard);
        let now = R::now();
        if waiting != self.waiting {
            self.waiting = waiting;
            let limit = match waiting {
                // A handler has a timer of its own.
                Phase::Handler => None,
                phase => self.state.settings.limit(phase),
            };
            self.wait_until = limit.and_then(|limit| now.checked_add(limit));
        }
        if self.deadline.poll(cx, self.wait_until, now).is_ready() {
            let limit = self.state.settings.limit(waiting).unwrap_or_default();
            observe::timed_out(Side::Server, waiting, limit, &self.peer);
            inner.connection.handle_disconnect();
            drain_events::<R, H>(
                inner,
                &self.shared,
                &self.state,
                &mut self.place,
                &mut self.begun,
            );
            return Poll::Ready(Turn::Closed);
        }
        inner.leave(cx);
        Poll::Pending
    }

    /// Reads on for a while when the peer may still be sending, so that a close does not become a
    /// reset that takes the response with it.
    async fn linger(&mut self) {
        if self.gone || !self.shared.lock().connection.is_input_pending() {
            return;
        }
        self.io.shutdown_write();
        let until = R::now() + LINGER;
        let mut scratch = vec![0; 16 * 1024];
        poll_fn(|cx| {
            for _ in 0..pump::MAX_ROUNDS {
                if self.deadline.poll(cx, Some(until), R::now()).is_ready() {
                    return Poll::Ready(());
                }
                match ready!(self.io.poll_read(cx, &mut scratch)) {
                    Ok(0) | Err(_) => return Poll::Ready(()),
                    Ok(_) => {}
                }
            }
            cx.waker().wake_by_ref();
            Poll::Pending
        })
        .await;
    }
}

/// The peer is gone in both directions; says whether handlers run on all the same.
fn lose_peer(inner: &mut Inner, settings: &Settings) -> bool {
    if settings.cancel_on_disconnect {
        inner.connection.handle_disconnect();
    } else {
        inner.connection.handle_eof();
    }
    !settings.cancel_on_disconnect
}

fn waiting_for(inner: &Inner, write_blocked: bool, heard: bool) -> Phase {
    if write_blocked {
        Phase::Write
    } else if inner.handlers() > 0 {
        Phase::Handler
    } else if inner.connection.active_requests() > 0 {
        Phase::Params
    } else if heard {
        Phase::NextRequest
    } else {
        Phase::FirstRecord
    }
}

/// Hands every event to those who wait for it, and puts new requests in `begun`.
fn drain_events<R: Runtime, H>(
    inner: &mut Inner,
    shared: &Arc<Shared>,
    state: &State<H>,
    place: &mut Option<Counted>,
    begun: &mut VecDeque<Begun>,
) {
    loop {
        match inner.connection.poll_event() {
            Ok(Some(Event::Request { key, role, params, keep_conn })) => {
                if place.is_none() {
                    *place = state.place();
                }
                let Some(counted) = place.as_ref().and_then(|_| state.request_begins()) else {
                    if let Some(request) = inner.connection.request(key) {
                        // It was reported a moment ago, so it is active.
                        let _ = request.reject(Rejection::Overloaded);
                    }
                    continue;
                };
                let log = RequestLog::begin(Side::Server, key.id(), role, &params, R::now);
                inner.add(key, log);
                let shared = Arc::clone(shared);
                begun.push_back((Request { shared, key, role, keep_conn, params }, counted));
            }
            Ok(Some(Event::Readable { key, input })) => inner.on_readable(key, input),
            Ok(Some(Event::Writable { key })) => inner.on_writable(key),
            Ok(Some(Event::Aborted { key, reason })) => inner.on_aborted(key, reason),
            Ok(None) => return,
            Err(error) => {
                if inner.fail() {
                    tracing::warn!(%error, "connection closed");
                }
                inner.abort_all(AbortReason::Disconnected);
                return;
            }
        }
    }
}
