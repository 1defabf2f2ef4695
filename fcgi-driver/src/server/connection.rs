//! The task of one connection: reads, writes, and runs the handler of its first request inline.

use std::{
    future::{Future, poll_fn},
    pin::{Pin, pin},
    sync::Arc,
    task::{Context, Poll},
};

use fcgi_engine::server::{Ended, HandlerEnd, Job, Turn};
use fcgi_proto::RequestKey;

use super::{
    Request,
    handler::{self, Handler},
    shared::Shared,
    state::State,
    turns,
};
use crate::{
    deadline::Deadline,
    pump::{Io, MAX_ROUNDS},
    runtime::Runtime,
};

/// Serves one connection to its end.
// No `async fn`: its future would keep each argument twice.
pub(super) fn serve<R: Runtime, H: Handler>(
    io: R::Transport,
    state: Arc<State<H>>,
    shared: Arc<Shared>,
) -> impl Future<Output = ()> + Send {
    let mut task = Task::<R, H> {
        io: Some(io),
        state: Arc::clone(&state),
        shared: Arc::clone(&shared),
        deadline: Deadline::new(),
        ended: None,
        answers: 0,
        waited: None,
    };
    async move {
        while let Some(job) = poll_fn(|cx| task.poll_job(cx)).await {
            let key = job.key;
            let (request, span) = Request::new(Arc::clone(&shared), job);
            let handler = pin!(handler::start(&state.handler, &shared, request, key, &span));
            let mut run = pin!(handler::run(&shared, key, span, handler));
            let mut fresh = true;
            let end =
                poll_fn(|cx| task.poll_inline(cx, run.as_mut(), std::mem::take(&mut fresh))).await;
            task.ended = Some((key, end));
        }
        poll_fn(|cx| task.poll_handlers_gone(cx)).await;
    }
}

struct Task<R: Runtime, H> {
    /// `None` once it is closed.
    io: Option<R::Transport>,
    state: Arc<State<H>>,
    shared: Arc<Shared>,
    deadline: Deadline<R>,
    /// How the inline handler has ended. The next turn ends its request, under the same lock.
    ended: Option<(RequestKey, HandlerEnd)>,
    /// How many handlers have ended inline since the others last had their turn.
    answers: usize,
    /// The round of [`turns`] that it has waited for.
    waited: Option<u32>,
}

/// A request that has ended, logged when this is dropped.
struct Log(Option<Ended>);

impl Drop for Log {
    fn drop(&mut self) {
        if let Some(ended) = self.0.take() {
            ended.log();
        }
    }
}

/// The end of the connection, or its server is dropped and the task with it.
impl<R: Runtime, H> Drop for Task<R, H> {
    fn drop(&mut self) {
        self.shared.desert();
    }
}

impl<R: Runtime, H: Handler> Task<R, H> {
    /// Waits for a request whose handler must be run. Ready with `None` once the connection is
    /// closed.
    fn poll_job(&mut self, cx: &mut Context<'_>) -> Poll<Option<Job>> {
        match self.poll_io(cx) {
            Next::Run(job) => Poll::Ready(Some(job)),
            Next::Closed => Poll::Ready(None),
            Next::Again => {
                cx.waker().wake_by_ref();
                Poll::Pending
            }
            Next::Wait => Poll::Pending,
        }
    }

    /// Runs a handler as part of this task; before anything else if it is `fresh`. It runs on when
    /// it gets what it waits for, but others have their turn now and then.
    fn poll_inline(
        &mut self,
        cx: &mut Context<'_>,
        mut run: Pin<&mut impl Future<Output = HandlerEnd>>,
        fresh: bool,
    ) -> Poll<HandlerEnd> {
        if !fresh {
            self.poll_beside(cx);
        }
        for _ in 0..MAX_ROUNDS {
            if let Poll::Ready(end) = run.as_mut().poll(cx) {
                return Poll::Ready(end);
            }
            if !self.poll_beside(cx) {
                return Poll::Pending;
            }
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    /// Reads and writes while a handler runs inline. A request that begins meanwhile gets its own
    /// task. Returns true if there is more to do after the handler has had its turn.
    fn poll_beside(&mut self, cx: &mut Context<'_>) -> bool {
        loop {
            match self.poll_io(cx) {
                Next::Run(job) => {
                    let key = job.key;
                    if let Err(error) = R::spawn(self.run(job)) {
                        tracing::error!(%error, "a request's handler can't run");
                        self.shared.finish(key, HandlerEnd::Dropped);
                    }
                }
                Next::Closed => {
                    // The handler has been told to stop.
                    let _ = self.poll_handlers_gone(cx);
                    return false;
                }
                Next::Again => return true,
                Next::Wait => return false,
            }
        }
    }

    /// Waits for the handlers of a closed connection. They have been told to stop.
    fn poll_handlers_gone(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let _span = self.shared.span().enter();
        let _before;
        let mut inner = self.shared.lock();
        loop {
            if inner.session.handlers() == 0 {
                return Poll::Ready(());
            }
            let now = R::now();
            inner.session.handle_limits(now);
            if self.deadline.poll(cx, inner.session.deadline(), now).is_pending() {
                _before = inner.leave(cx);
                return Poll::Pending;
            }
        }
    }

    /// Runs a handler in its own task.
    fn run(&self, job: Job) -> impl Future<Output = ()> + Send + use<R, H> {
        let (state, shared) = (Arc::clone(&self.state), Arc::clone(&self.shared));
        async move {
            let key = job.key;
            // It may be over before it starts.
            let over = poll_fn(|cx| Poll::Ready(shared.poll_over(cx, key).is_ready())).await;
            let end = if over {
                HandlerEnd::Dropped
            } else {
                let (request, span) = Request::new(Arc::clone(&shared), job);
                let handler = pin!(handler::start(&state.handler, &shared, request, key, &span));
                handler::run(&shared, key, span, handler).await
            };
            shared.finish(key, end);
        }
    }

    /// Does everything that can be done now.
    #[inline]
    fn poll_io(&mut self, cx: &mut Context<'_>) -> Next {
        let mut next = self.poll_turns(cx);
        if let Next::Run(job) = &mut next {
            self.shared.open(job);
        }
        next
    }

    fn poll_turns(&mut self, cx: &mut Context<'_>) -> Next {
        let _span = self.shared.span().enter();
        let (_before, _io, _timer, _log);
        let mut inner = self.shared.lock();
        if let Some((key, end)) = self.ended.take() {
            _log = Log(inner.session.finish(key, end, R::now));
            self.answers += 1;
            // A web server that sends several requests at once on one connection does so on others too.
            if self.answers == 2 && R::is_alone() {
                self.waited = turns::wait(R::now);
                if self.waited.is_some() {
                    inner.session.let_others_first();
                }
            }
        } else if let Some(round) = self.waited.take() {
            turns::go_on(round, R::now);
        }
        let Some(io) = &mut self.io else { return Next::Closed };
        inner.attend();
        loop {
            match inner.session.turn(&mut Io(io, cx), R::now) {
                Turn::Run(job) => {
                    inner.session.start(job.key);
                    return Next::Run(job);
                }
                Turn::Closed => {
                    _io = self.io.take();
                    return Next::Closed;
                }
                Turn::Again => {
                    self.answers = 0;
                    return Next::Again;
                }
                Turn::Wait => {}
            }
            let Some(at) = inner.session.deadline() else {
                _timer = self.deadline.free();
                break;
            };
            if self.deadline.poll(cx, Some(at), R::now()).is_pending() {
                break;
            }
        }
        self.answers = 0;
        _before = inner.leave(cx);
        Next::Wait
    }
}

/// What the connection's task does next.
enum Next {
    /// Runs the handler of this request.
    Run(Job),
    /// Goes on, after the handler and others have had their turn.
    Again,
    /// Waits: it will be woken.
    Wait,
    /// Ends: the connection is closed.
    Closed,
}
