//! A connection as the handlers of its requests use it: what they read, write and wait for,
//! behind one lock.

use std::{
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    task::Poll,
    time::Instant,
};

use bytes::Bytes;
use fcgi_engine::{
    Phase,
    observe::{self, OpenConnection, Outcome, Side},
    socket::Peer,
};
use fcgi_proto::{
    Connection, Input, Output, Rejection, RequestKey, UsageError, server::AbortReason,
};
use tracing::Span;

use super::{Engine, active::Stop, connection::Inner};
use crate::{Error, stream::Stream};

/// Bytes queued at which a handler's write goes to the socket.
const SEND_AT: usize = 64 * 1024;

/// A connection, as the leader and the handlers of its requests see it.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) engine: Arc<Engine>,
    pub(super) peer: Peer,
    pub(super) span: Span,
    /// Where the leader keeps it.
    pub(super) slot: AtomicUsize,
    inner: Mutex<Inner>,
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

impl Shared {
    pub(super) fn new(engine: &Arc<Engine>, stream: Arc<Stream>, peer: Peer) -> Self {
        let span = observe::connection_span(Side::Server, &peer);
        let open = OpenConnection::new(Side::Server);
        let inner = Inner::new(engine, stream, open);
        let (engine, slot) = (Arc::clone(engine), AtomicUsize::new(usize::MAX));
        Self { engine, peer, span, slot, inner: Mutex::new(inner) }
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, Inner> {
        // Nothing panics while it is held; a handler's panic is caught outside.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The next bytes of a stream; `None` at its end.
    pub(super) fn read(
        self: &Arc<Self>,
        key: RequestKey,
        input: Input,
        max: usize,
    ) -> Result<Option<Bytes>, Error> {
        let mut inner = self.lock();
        let mut advanced = false;
        loop {
            match self.poll_read(&mut inner, key, input, max) {
                Poll::Ready(chunk) => return chunk,
                // What was written goes out before its writer waits.
                Poll::Pending if !advanced => self.act(&mut inner, true),
                Poll::Pending => inner = self.wait(inner, key, None),
            }
            advanced = !advanced;
        }
    }

    /// As [`read`](Self::read), without waiting.
    pub(super) fn poll_read(
        self: &Arc<Self>,
        inner: &mut Inner,
        key: RequestKey,
        input: Input,
        max: usize,
    ) -> Poll<Result<Option<Bytes>, Error>> {
        self.check(inner, key)?;
        let paused = !inner.connection.wants_read();
        let Some(mut request) = inner.connection.request(key) else {
            return Poll::Ready(Err(Error::Aborted(AbortReason::Disconnected)));
        };
        let read = request.read(input, max);
        if let Poll::Ready(Some(chunk)) = &read {
            inner.log(key, |log| log.received(chunk.len()));
            if paused {
                self.act(inner, false);
            }
        }
        read.map(Ok)
    }

    /// Queues some of `bytes`, or all in one record, and sends what is queued if it is much. Waits
    /// while it is too much.
    pub(super) fn write(
        self: &Arc<Self>,
        key: RequestKey,
        output: Output,
        bytes: &mut Bytes,
        how: Write,
    ) -> Result<usize, Error> {
        let mut inner = self.lock();
        let mut advanced = false;
        loop {
            self.check(&inner, key)?;
            let Some(mut request) = inner.connection.request(key) else {
                return Err(Error::Aborted(AbortReason::Disconnected));
            };
            let taken = match how {
                Write::Stream => request.write(output, bytes)?,
                #[cfg(feature = "http")]
                Write::Record => request.write_record(output, bytes)?,
            };
            inner.log(key, |log| log.sent(taken));
            if taken > 0 || bytes.is_empty() {
                if inner.connection.queued() >= SEND_AT {
                    self.act(&mut inner, true);
                }
                return Ok(taken);
            }
            if advanced {
                inner = self.wait(inner, key, None);
            } else {
                self.act(&mut inner, true);
            }
            advanced = !advanced;
        }
    }

    /// Waits until everything queued on the connection was handed to the socket.
    pub(super) fn flush(self: &Arc<Self>, key: RequestKey) -> Result<(), Error> {
        let mut inner = self.lock();
        loop {
            self.check(&inner, key)?;
            self.act(&mut inner, true);
            if inner.connection.queued() == 0 {
                return self.check(&inner, key);
            }
            inner.flushing = true;
            inner = self.wait(inner, key, None);
        }
    }

    /// Waits until the request was aborted or has ended; `None` when it is `until` before that.
    pub(super) fn cancelled(
        self: &Arc<Self>,
        key: RequestKey,
        until: Option<Instant>,
    ) -> Option<AbortReason> {
        let mut inner = self.lock();
        self.act(&mut inner, true);
        loop {
            match inner.requests.get(key).map(|active| active.stop) {
                Some(None) if until.is_some_and(|until| Instant::now() >= until) => return None,
                Some(None) => inner = self.wait(inner, key, until),
                Some(Some(Stop::Aborted(reason))) => return Some(reason),
                None | Some(Some(Stop::TimedOut)) => return Some(AbortReason::Disconnected),
            }
        }
    }

    pub(super) fn is_cancelled(&self, key: RequestKey) -> bool {
        self.lock().requests.get(key).is_none_or(|active| active.stop.is_some())
    }

    pub(super) fn reject(&self, key: RequestKey, rejection: Rejection) {
        if let Some(active) = self.lock().requests.get_mut(key) {
            active.rejection = Some(rejection);
        }
    }

    /// A thread begins to run the handler; false when the request has ended already.
    pub(super) fn start(&self, key: RequestKey) -> bool {
        let mut inner = self.lock();
        let Some(active) = inner.requests.get_mut(key) else { return false };
        active.started = true;
        if active.ended {
            inner.requests.remove(key);
            return false;
        }
        true
    }

    /// Ends a request with its handler's status, or as the handler rejected it, and sends it all.
    pub(super) fn finish(self: &Arc<Self>, key: RequestKey, app_status: u32) {
        let mut inner = self.lock();
        let Some(active) = inner.requests.remove(key) else { return };
        // Handles may have been given to other threads.
        active.wake();
        if active.ended {
            return;
        }
        if let Some(request) = inner.connection.request(key) {
            // The request is active: `request` found it.
            let _ = match active.rejection {
                Some(rejection) => request.reject(rejection),
                None => request.finish(app_status),
            };
        }
        if let Some(log) = active.log {
            let outcome = match (active.stop, active.rejection) {
                (Some(Stop::TimedOut), _) => Outcome::TimedOut(Phase::Handler),
                (Some(Stop::Aborted(_)), _) if inner.failed => Outcome::Failed,
                (Some(Stop::Aborted(_)), _) => Outcome::Aborted,
                (None, Some(rejection)) => Outcome::Rejected(rejection),
                (None, None) => Outcome::Complete { app_status },
            };
            log.end(outcome, Instant::now);
        }
        // Before the answer is out, so that whoever has it finds the place free.
        drop(active.counted);
        self.act(&mut inner, true);
    }

    /// Waits until something has happened to the request, or it is `until`.
    fn wait<'a>(
        &self,
        mut inner: MutexGuard<'a, Inner>,
        key: RequestKey,
        until: Option<Instant>,
    ) -> MutexGuard<'a, Inner> {
        let Some(condvar) = inner.requests.get_mut(key).map(|active| active.condvar()) else {
            return inner;
        };
        self.engine.pool.begin_wait();
        let inner = match until {
            None => condvar.wait(inner).unwrap_or_else(PoisonError::into_inner),
            Some(until) => {
                let limit = until.saturating_duration_since(Instant::now());
                condvar.wait_timeout(inner, limit).unwrap_or_else(PoisonError::into_inner).0
            }
        };
        self.engine.pool.end_wait();
        inner
    }

    fn check(&self, inner: &Inner, key: RequestKey) -> Result<(), Error> {
        match inner.requests.get(key).map(|active| active.stop) {
            Some(None) => Ok(()),
            Some(Some(Stop::Aborted(reason))) => Err(Error::Aborted(reason)),
            Some(Some(Stop::TimedOut)) => Err(Error::Timeout {
                address: self.peer.to_string().into(),
                phase: Phase::Handler,
                limit: self.engine.settings.handler.unwrap_or_default(),
            }),
            None => Err(Error::Usage(UsageError::RequestEnded)),
        }
    }

    /// What follows from something that a handler's thread has done: events, writing if it is
    /// time to, news for the leader and for the pool.
    fn act(self: &Arc<Self>, inner: &mut Inner, send: bool) {
        self.advance(inner, send);
        if !inner.begun.is_empty() {
            self.engine.pool.submit(inner.begun.drain(..));
        }
        if inner.is_shut() {
            return;
        }
        let (wanted, told) = (self.watch(inner), inner.told);
        let urgent = inner.is_over() || !told.events.contains(wanted.events);
        let sooner = wanted.until.is_some_and(|until| told.until.is_none_or(|told| until < told));
        if urgent || sooner {
            let listed = std::mem::replace(&mut inner.dirty, true);
            self.engine.wakeups.touch(self, listed, urgent, wanted.until);
        }
    }

    /// Its place among the leader's connections.
    pub(super) fn index(&self) -> usize {
        self.slot.load(Ordering::Relaxed)
    }
}
