//! What a connection's task and its handlers share, behind one lock: the session and what waits for
//! it.

use std::{
    sync::{Arc, Mutex, PoisonError},
    task::{Context, Poll, Waker},
    time::Instant,
};

use bytes::Bytes;
use fcgi_engine::{
    server::{Awaited, ConnectionSpan, HandlerEnd, Job, Notes, Session, Tally, Waiters, Write},
    socket::Peer,
};
use fcgi_proto::{Input, Output, Params, Rejection, RequestKey, server::AbortReason};

use crate::{
    Error,
    wakers::{self, Locked, Wakeful, Wakes, wait},
};

/// A connection, as its task and the handlers of its requests see it. A connection with one request
/// has only one task, so nobody ever waits for the lock.
#[derive(Debug)]
pub(super) struct Shared {
    inner: Mutex<Inner>,
    span: ConnectionSpan,
    now: fn() -> Instant,
}

#[derive(Debug)]
pub(super) struct Inner {
    pub(super) session: Session<Wakers>,
    /// Wakes the connection's task.
    task: Option<Waker>,
    /// The task is running, or was woken, and will check everything before it waits.
    attends: bool,
    woken: Wakes,
}

impl Wakeful for Inner {
    /// Handlers, the connection's task, and what is to be logged.
    type Later = (Wakes, Wakes, Notes);

    #[inline]
    fn later(&mut self) -> Option<Self::Later> {
        let nobody = self.session.woken().is_empty() && self.woken.is_empty();
        if nobody && self.session.notes().is_empty() {
            return None;
        }
        let handlers = std::mem::take(self.session.woken());
        let notes = std::mem::take(self.session.notes());
        Some((handlers, std::mem::take(&mut self.woken), notes))
    }
}

/// The wakers of one request.
#[derive(Debug, Default)]
pub(super) struct Wakers {
    stdin: Option<Waker>,
    stdout: Option<Waker>,
    handler: Option<Waker>,
    /// `None` until one of them waits, so that a connection takes less memory.
    others: Option<Box<Others>>,
}

/// What few handlers wait for.
#[derive(Debug, Default)]
pub(super) struct Others {
    data: Option<Waker>,
    stderr: Option<Waker>,
    flush: Option<Waker>,
    cancelled: Option<Waker>,
}

impl Wakers {
    fn input(&mut self, input: Input) -> &mut Option<Waker> {
        match input {
            Input::Stdin => &mut self.stdin,
            Input::Data => &mut self.others().data,
        }
    }

    fn output(&mut self, output: Output) -> &mut Option<Waker> {
        match output {
            Output::Stdout => &mut self.stdout,
            Output::Stderr => &mut self.others().stderr,
        }
    }

    fn others(&mut self) -> &mut Others {
        self.others.get_or_insert_default()
    }
}

impl Waiters for Wakers {
    const AT_ONCE: bool = true;

    type Woken = Wakes;

    fn wake(&mut self, what: Awaited, woken: &mut Wakes) -> bool {
        let slot = match what {
            Awaited::Input(Input::Stdin) => Some(&mut self.stdin),
            Awaited::Input(Input::Data) => self.others.as_mut().map(|others| &mut others.data),
            Awaited::Output => {
                let stderr = self.others.as_mut().map(|others| &mut others.stderr);
                return woken.take(&mut self.stdout) | stderr.is_some_and(|slot| woken.take(slot));
            }
            Awaited::Flush => self.others.as_mut().map(|others| &mut others.flush),
        };
        slot.is_some_and(|slot| woken.take(slot))
    }

    fn wake_all(&mut self, woken: &mut Wakes) {
        let Self { stdin, stdout, handler, others } = self;
        for waker in [stdin, stdout, handler] {
            woken.take(waker);
        }
        if let Some(others) = others {
            let Others { data, stderr, flush, cancelled } = &mut **others;
            for waker in [data, stderr, flush, cancelled] {
                woken.take(waker);
            }
        }
    }
}

impl Shared {
    pub(super) fn new(tally: &Arc<Tally>, peer: Peer, now: fn() -> Instant) -> Self {
        let session = Session::new(tally, peer, now());
        let span = session.span();
        let inner = Inner { session, task: None, attends: false, woken: Wakes::default() };
        Self { inner: Mutex::new(inner), span, now }
    }

    #[inline]
    pub(super) fn lock(&self) -> Locked<'_, Inner> {
        wakers::lock(&self.inner)
    }

    /// Polls something for a handler, which waits in the slot that `slot` returns.
    #[inline]
    fn poll<T>(
        &self,
        cx: &Context<'_>,
        key: RequestKey,
        slot: impl FnOnce(&mut Wakers) -> &mut Option<Waker>,
        f: impl FnOnce(&mut Session<Wakers>) -> Poll<T>,
    ) -> Poll<T> {
        let mut _before = None;
        let inner = &mut *self.lock();
        let polled = f(&mut inner.session);
        if polled.is_pending() {
            if let Some(wakers) = inner.session.waiters(key) {
                _before = wait(slot(wakers), cx);
            }
        }
        inner.notify();
        polled
    }

    pub(super) fn poll_read(
        &self,
        cx: &mut Context<'_>,
        key: RequestKey,
        input: Input,
        max: usize,
    ) -> Poll<Result<Option<Bytes>, Error>> {
        let now = || Some((self.now)());
        let read = |session: &mut Session<Wakers>| session.read(key, input, max, now);
        self.poll(cx, key, |wakers| wakers.input(input), read)
    }

    /// Like [`poll_read`](Self::poll_read), without waiting.
    #[cfg(feature = "http")]
    pub(super) fn try_read(
        &self,
        key: RequestKey,
        input: Input,
        max: usize,
    ) -> Poll<Result<Option<Bytes>, Error>> {
        let inner = &mut *self.lock();
        let read = inner.session.read(key, input, max, || None);
        inner.notify();
        read
    }

    /// Queues some of `bytes`, or all of them in one record; `Pending` if there was no room.
    #[inline]
    pub(super) fn poll_write(
        &self,
        cx: &mut Context<'_>,
        key: RequestKey,
        output: Output,
        bytes: &mut Bytes,
        how: Write,
    ) -> Poll<Result<usize, Error>> {
        self.poll(
            cx,
            key,
            |wakers| wakers.output(output),
            |session| session.write(key, output, bytes, how),
        )
    }

    /// Ready once everything queued on the connection was handed to the socket.
    pub(super) fn poll_flush(
        &self,
        cx: &mut Context<'_>,
        key: RequestKey,
    ) -> Poll<Result<(), Error>> {
        self.poll(cx, key, |wakers| &mut wakers.others().flush, |session| session.flush(key))
    }

    /// Ready once the request was aborted or has ended.
    pub(super) fn poll_cancelled(
        &self,
        cx: &mut Context<'_>,
        key: RequestKey,
    ) -> Poll<AbortReason> {
        self.poll(
            cx,
            key,
            |wakers| &mut wakers.others().cancelled,
            |session| session.cancelled(key),
        )
    }

    /// Ready once the handler must be dropped.
    pub(super) fn poll_over(&self, cx: &mut Context<'_>, key: RequestKey) -> Poll<()> {
        self.poll(
            cx,
            key,
            |wakers| &mut wakers.handler,
            |session| match session.is_over(key) {
                true => Poll::Ready(()),
                false => Poll::Pending,
            },
        )
    }

    pub(super) fn reject(&self, key: RequestKey, rejection: Rejection) {
        self.lock().session.reject(key, rejection);
    }

    #[inline]
    pub(super) fn keep_params(&self, key: RequestKey, params: Params) {
        // This wakes nobody.
        let mut inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        let _before = inner.session.keep_params(key, params);
        drop(inner);
    }

    pub(super) fn take_params(&self, key: RequestKey) -> Params {
        self.lock().session.take_params(key)
    }

    pub(super) fn finish(&self, key: RequestKey, end: HandlerEnd) {
        let mut inner = self.lock();
        let ended = inner.session.finish(key, end, self.now);
        inner.notify();
        drop(inner);
        if let Some(ended) = ended {
            ended.log();
        }
    }

    /// The connection's span.
    #[inline]
    pub(super) fn span(&self) -> &ConnectionSpan {
        &self.span
    }

    /// Opens the span of a request that has begun.
    #[inline]
    pub(super) fn open(&self, job: &mut Job) {
        if let Some(log) = job.open(&self.span) {
            let _ended = self.lock().session.attach(job.key, log);
        }
    }

    pub(super) fn shutdown(&self) {
        let mut inner = self.lock();
        inner.session.shutdown((self.now)());
        inner.notify();
    }

    pub(super) fn cancel(&self) {
        let mut inner = self.lock();
        inner.session.cancel((self.now)());
        inner.notify();
    }

    pub(super) fn abandon(&self) {
        let mut inner = self.lock();
        inner.session.abandon((self.now)());
        inner.notify();
    }

    /// The connection's task is dropped: whoever still answers a request in a task of its own must
    /// not outlive it.
    pub(super) fn desert(&self) {
        let mut inner = self.lock();
        if inner.session.handlers() > 0 {
            inner.session.desert((self.now)());
        }
    }
}

impl Inner {
    /// From now on the connection's task must be woken when it has something to do. Returns the
    /// waker before, to be dropped without the lock.
    #[must_use]
    pub(super) fn leave(&mut self, cx: &mut Context<'_>) -> Option<Waker> {
        self.attends = false;
        wait(&mut self.task, cx)
    }

    /// The connection's task is running, and will check everything before it waits.
    #[inline]
    pub(super) fn attend(&mut self) {
        self.attends = true;
    }

    #[inline]
    fn notify(&mut self) {
        if self.session.take_attention() && !std::mem::replace(&mut self.attends, true) {
            self.woken.extend(self.task.clone());
        }
    }
}
