//! What a connection's task and its handlers share: the state machine and who waits for it,
//! behind one lock.

use std::{
    collections::HashMap,
    sync::{Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, Waker},
    time::Instant,
};

use bytes::Bytes;
use fcgi_engine::observe::{Outcome, RequestLog};
use fcgi_proto::{
    Connection, Input, Output, Rejection, RequestKey, ServerConfig, ServerConnection,
    server::AbortReason,
};
use tracing::Span;

use crate::{
    Error,
    wakers::{wait, wake},
};

/// A connection, as its task and the handlers of its requests see it. A connection with one
/// request has one task, so that nobody ever waits for the lock.
#[derive(Debug)]
pub(super) struct Shared {
    inner: Mutex<Inner>,
}

#[derive(Debug)]
pub(super) struct Inner {
    pub(super) connection: ServerConnection,
    first: Option<(RequestKey, Waiters)>,
    rest: HashMap<RequestKey, Waiters>,
    /// Wakes the connection's task, unless it is running and will look anyway.
    task: Option<Waker>,
    /// Those who wait for a flush.
    flushing: Vec<RequestKey>,
    failed: bool,
}

/// How bytes are queued.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Write {
    /// As many as there is room for.
    Stream,
    /// All, in one record if one holds them.
    #[cfg(feature = "http")]
    Record,
}

/// Who waits for what of one request, and what the log says of it.
#[derive(Debug)]
pub(super) struct Waiters {
    log: RequestLog,
    aborted: Option<AbortReason>,
    rejection: Option<Rejection>,
    stdin: Option<Waker>,
    data: Option<Waker>,
    stdout: Option<Waker>,
    stderr: Option<Waker>,
    flush: Option<Waker>,
    cancelled: Option<Waker>,
    handler: Option<Waker>,
}

impl Waiters {
    fn new(log: RequestLog) -> Self {
        Self {
            log,
            aborted: None,
            rejection: None,
            stdin: None,
            data: None,
            stdout: None,
            stderr: None,
            flush: None,
            cancelled: None,
            handler: None,
        }
    }

    fn input(&mut self, input: Input) -> &mut Option<Waker> {
        match input {
            Input::Stdin => &mut self.stdin,
            Input::Data => &mut self.data,
        }
    }

    fn output(&mut self, output: Output) -> &mut Option<Waker> {
        match output {
            Output::Stdout => &mut self.stdout,
            Output::Stderr => &mut self.stderr,
        }
    }
}

impl Shared {
    pub(super) fn new(config: ServerConfig) -> Self {
        Self {
            inner: Mutex::new(Inner {
                connection: ServerConnection::new(config),
                first: None,
                rest: HashMap::new(),
                task: None,
                flushing: Vec::new(),
                failed: false,
            }),
        }
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, Inner> {
        // Nothing panics while it is held; a handler's panic is caught outside.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn poll_read(
        &self,
        cx: &mut Context<'_>,
        key: RequestKey,
        input: Input,
        max: usize,
    ) -> Poll<Result<Option<Bytes>, Error>> {
        let inner = &mut *self.lock();
        inner.check(key)?;
        let paused = !inner.connection.wants_read();
        let Some(mut request) = inner.connection.request(key) else {
            return Poll::Ready(Err(Error::Aborted(AbortReason::Disconnected)));
        };
        match request.read(input, max) {
            Poll::Ready(chunk) => {
                if let Some(bytes) = &chunk {
                    if paused {
                        inner.wake_task();
                    }
                    if let Some(waiters) = inner.waiters(key) {
                        waiters.log.received(bytes.len());
                    }
                }
                Poll::Ready(Ok(chunk))
            }
            Poll::Pending => {
                if let Some(waiters) = inner.waiters(key) {
                    wait(waiters.input(input), cx);
                }
                Poll::Pending
            }
        }
    }

    /// Queues some of `bytes`, or all of them in one record; `Pending` when nothing could be.
    pub(super) fn poll_write(
        &self,
        cx: &mut Context<'_>,
        key: RequestKey,
        output: Output,
        bytes: &mut Bytes,
        how: Write,
    ) -> Poll<Result<usize, Error>> {
        let inner = &mut *self.lock();
        inner.check(key)?;
        let Some(mut request) = inner.connection.request(key) else {
            return Poll::Ready(Err(Error::Aborted(AbortReason::Disconnected)));
        };
        let taken = match how {
            Write::Stream => request.write(output, bytes)?,
            #[cfg(feature = "http")]
            Write::Record => request.write_record(output, bytes)?,
        };
        let Some(waiters) = inner.waiters(key) else { return Poll::Ready(Ok(taken)) };
        if taken > 0 || bytes.is_empty() {
            waiters.log.sent(taken);
            inner.wake_task();
            return Poll::Ready(Ok(taken));
        }
        wait(waiters.output(output), cx);
        Poll::Pending
    }

    /// Ready once everything queued on the connection was handed to the socket.
    pub(super) fn poll_flush(
        &self,
        cx: &mut Context<'_>,
        key: RequestKey,
    ) -> Poll<Result<(), Error>> {
        let inner = &mut *self.lock();
        inner.check(key)?;
        if inner.connection.poll_transmit().is_none() {
            return Poll::Ready(Ok(()));
        }
        if let Some(waiters) = inner.waiters(key) {
            let joins = waiters.flush.is_none();
            wait(&mut waiters.flush, cx);
            if joins {
                inner.flushing.push(key);
            }
        }
        inner.wake_task();
        Poll::Pending
    }

    /// Ready once the request was aborted or has ended.
    pub(super) fn poll_cancelled(
        &self,
        cx: &mut Context<'_>,
        key: RequestKey,
    ) -> Poll<AbortReason> {
        let inner = &mut *self.lock();
        match inner.waiters(key) {
            None => Poll::Ready(AbortReason::Disconnected),
            Some(Waiters { aborted: Some(reason), .. }) => Poll::Ready(*reason),
            Some(waiters) => {
                wait(&mut waiters.cancelled, cx);
                Poll::Pending
            }
        }
    }

    pub(super) fn reject(&self, key: RequestKey, rejection: Rejection) {
        if let Some(waiters) = self.lock().waiters(key) {
            waiters.rejection = Some(rejection);
        }
    }
}

impl Inner {
    pub(super) fn add(&mut self, key: RequestKey, log: RequestLog) {
        if self.first.is_none() {
            self.first = Some((key, Waiters::new(log)));
        } else {
            self.rest.insert(key, Waiters::new(log));
        }
    }

    /// The request's span; a disabled one once it has ended.
    pub(super) fn span(&mut self, key: RequestKey) -> Span {
        self.waiters(key).map_or_else(Span::none, |waiters| waiters.log.span().clone())
    }

    fn waiters(&mut self, key: RequestKey) -> Option<&mut Waiters> {
        match &mut self.first {
            Some((first, waiters)) if *first == key => Some(waiters),
            _ => self.rest.get_mut(&key),
        }
    }

    /// Whether the request was aborted; remembers who to wake when it is.
    pub(super) fn poll_aborted(
        &mut self,
        cx: &mut Context<'_>,
        key: RequestKey,
    ) -> Option<AbortReason> {
        let waiters = self.waiters(key)?;
        if waiters.aborted.is_none() {
            wait(&mut waiters.handler, cx);
        }
        waiters.aborted
    }

    /// Ends a request with its handler's status, or as the handler rejected it. `stopped` is
    /// what the log says of it otherwise.
    pub(super) fn finish(
        &mut self,
        key: RequestKey,
        app_status: u32,
        stopped: Option<Outcome>,
        now: fn() -> Instant,
    ) {
        let mut rejection = None;
        if let Some(waiters) = self.remove(key) {
            rejection = waiters.rejection;
            let outcome = stopped.or(rejection.map(Outcome::Rejected));
            waiters.log.end(outcome.unwrap_or(Outcome::Complete { app_status }), now);
        }
        if let Some(request) = self.connection.request(key) {
            // The request is active: `request` found it.
            let _ = match rejection {
                Some(rejection) => request.reject(rejection),
                None => request.finish(app_status),
            };
        }
        self.wake_task();
    }

    fn remove(&mut self, key: RequestKey) -> Option<Waiters> {
        if self.first.as_ref().is_some_and(|(first, _)| *first == key) {
            return self.first.take().map(|(_, waiters)| waiters);
        }
        let removed = self.rest.remove(&key);
        if self.rest.is_empty() {
            self.rest = HashMap::new();
        }
        removed
    }

    fn check(&mut self, key: RequestKey) -> Result<(), Error> {
        match self.waiters(key) {
            Some(Waiters { aborted: None, .. }) => Ok(()),
            Some(Waiters { aborted: Some(reason), .. }) => Err(Error::Aborted(*reason)),
            None => Err(Error::Usage(fcgi_proto::UsageError::RequestEnded)),
        }
    }

    pub(super) fn on_readable(&mut self, key: RequestKey, input: Input) {
        if let Some(waiters) = self.waiters(key) {
            wake(waiters.input(input));
        }
    }

    pub(super) fn on_writable(&mut self, key: RequestKey) {
        if let Some(waiters) = self.waiters(key) {
            wake(&mut waiters.stdout);
            wake(&mut waiters.stderr);
        }
    }

    pub(super) fn on_aborted(&mut self, key: RequestKey, reason: AbortReason) {
        if let Some(waiters) = self.waiters(key) {
            waiters.abort(reason);
        }
    }

    /// True the first time.
    pub(super) fn fail(&mut self) -> bool {
        !std::mem::replace(&mut self.failed, true)
    }

    /// The connection failed: every handler is told.
    pub(super) fn abort_all(&mut self, reason: AbortReason) {
        if let Some((_, waiters)) = &mut self.first {
            waiters.abort(reason);
        }
        self.rest.values_mut().for_each(|waiters| waiters.abort(reason));
    }

    /// Everything queued was sent.
    pub(super) fn on_flushed(&mut self) {
        for key in std::mem::take(&mut self.flushing) {
            if let Some(waiters) = self.waiters(key) {
                wake(&mut waiters.flush);
            }
        }
    }

    /// From now on the connection's task must be woken when there is something to do for it.
    pub(super) fn leave(&mut self, cx: &mut Context<'_>) {
        wait(&mut self.task, cx);
    }

    /// The connection's task runs, and will look at everything before it leaves.
    pub(super) fn attend(&mut self) {
        self.task = None;
    }

    pub(super) fn wake_task(&mut self) {
        wake(&mut self.task);
    }

    pub(super) fn handlers(&self) -> usize {
        usize::from(self.first.is_some()) + self.rest.len()
    }
}

impl Waiters {
    fn abort(&mut self, reason: AbortReason) {
        self.aborted.get_or_insert(reason);
        for waker in [
            &mut self.stdin,
            &mut self.data,
            &mut self.stdout,
            &mut self.stderr,
            &mut self.flush,
            &mut self.cancelled,
            &mut self.handler,
        ] {
            wake(waker);
        }
    }
}
