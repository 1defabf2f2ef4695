//! One request on its way: what is still to be sent of it, what has come, and its time limits.
//!
//! It owns no connection, so that a request that has a connection to itself and one that shares it
//! with others are the same here.

use std::{
    fmt,
    marker::PhantomData,
    sync::Arc,
    task::{Context, Poll, ready},
    time::{Duration, Instant},
};

use bytes::Bytes;
use fcgi_engine::{
    client::Settings,
    observe::{self, Outcome as Logged, RequestLog, Side},
};
use fcgi_proto::{
    BeginRequest, ClientConnection, Input, Output, RequestKey, UsageError, client::Outcome,
};

use super::{Body, Chunk};
use crate::{Error, Phase, deadline::Deadline, runtime::Runtime};

/// The most that one chunk holds, in bytes.
const CHUNK: usize = 64 * 1024;

/// One request, from BEGIN_REQUEST until its response is read to its end or given up.
#[derive(Debug)]
pub(crate) struct Exchange<R: Runtime> {
    pub(crate) key: RequestKey,
    address: Arc<str>,
    limits: TimeLimits,
    /// What is still to be sent, first things first.
    feeds: [Option<Feed>; 2],
    content_length: Option<u64>,
    /// STDIN was not as long as CONTENT_LENGTH said: some applications wait for the rest, or take
    /// it for the next request.
    pub(crate) mismatch: bool,
    pub(crate) outcome: Option<Outcome>,
    /// The end, or an error, was handed out.
    over: bool,
    /// A byte of the response has come.
    pub(crate) answered: bool,
    /// Bytes have come over its connection since it was begun, be they of a record's header.
    pub(crate) touched: bool,
    started: Instant,
    pub(crate) progress: Instant,
    log: Option<RequestLog>,
    runtime: PhantomData<fn() -> R>,
}

/// How long a request may take: all that it needs of the connection's settings, so that thousands
/// at once are small.
#[derive(Clone, Copy, Debug)]
struct TimeLimits {
    first_byte: Option<Duration>,
    next_byte: Option<Duration>,
    total: Option<Duration>,
}

/// A stream on its way out.
struct Feed {
    input: Input,
    body: Body,
    chunk: Bytes,
    done: bool,
    sent: u64,
}

/// Without the bytes, which are many and may be secret.
impl fmt::Debug for Feed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Feed").field("input", &self.input).field("sent", &self.sent).finish()
    }
}

impl<R: Runtime> Exchange<R> {
    /// A request that `connection` has begun under `key`. Its time counts from `started`.
    pub(crate) fn new(
        key: RequestKey,
        begin: &BeginRequest,
        [stdin, data]: [Body; 2],
        address: Arc<str>,
        settings: &Settings,
        started: Instant,
    ) -> Self {
        let feed = |input, body| {
            let chunk = Bytes::new();
            begin.role.has_input(input).then_some(Feed { input, body, chunk, done: false, sent: 0 })
        };
        let length = begin.params.get_str("CONTENT_LENGTH");
        let log = RequestLog::begin(Side::Client, key.id(), begin.role, &begin.params, R::now);
        Self {
            key,
            address,
            limits: TimeLimits {
                first_byte: settings.first_byte,
                next_byte: settings.next_byte,
                total: settings.total,
            },
            feeds: [feed(Input::Stdin, stdin), feed(Input::Data, data)],
            content_length: length.and_then(|length| length.parse().ok()),
            mismatch: false,
            outcome: None,
            over: false,
            answered: false,
            touched: false,
            started,
            progress: R::now(),
            log: Some(log),
            runtime: PhantomData,
        }
    }

    /// Whether the end, or an error, was handed out.
    pub(crate) fn is_over(&self) -> bool {
        self.over
    }

    pub(crate) fn app_status(&self) -> Option<u32> {
        match self.outcome {
            Some(Outcome::Complete { app_status }) if self.over => Some(app_status),
            _ => None,
        }
    }

    pub(crate) fn address(&self) -> Arc<str> {
        Arc::clone(&self.address)
    }

    /// Hands out what was polled, and notes the end.
    pub(crate) fn hand_out(
        &mut self,
        polled: Result<Option<Chunk>, Error>,
    ) -> Result<Option<Chunk>, Error> {
        let ended = match &polled {
            Ok(Some(chunk)) => {
                self.answered = true;
                if let Some(log) = &mut self.log {
                    match chunk {
                        Chunk::Stdout(bytes) => log.received(bytes.len()),
                        Chunk::Stderr(bytes) => {
                            log.received(bytes.len());
                            log.stderr(bytes);
                        }
                    }
                }
                return polled;
            }
            Ok(None) => Logged::Complete { app_status: self.status() },
            Err(Error::Rejected { rejection, .. }) => Logged::Rejected(*rejection),
            Err(Error::Timeout { phase, limit, .. }) => {
                observe::timed_out(Side::Client, *phase, *limit, &self.address);
                Logged::TimedOut(*phase)
            }
            Err(Error::Overrun { .. }) => Logged::Aborted,
            Err(_) => Logged::Failed,
        };
        self.over = true;
        self.log_end(ended);
        polled
    }

    fn status(&self) -> u32 {
        match self.outcome {
            Some(Outcome::Complete { app_status }) => app_status,
            _ => 0,
        }
    }

    /// The request has ended, in the log too.
    pub(crate) fn log_end(&mut self, outcome: Logged) {
        if let Some(log) = self.log.take() {
            log.end(outcome, R::now);
        }
    }

    pub(crate) fn take_chunk(&self, connection: &mut ClientConnection) -> Option<Chunk> {
        let mut request = connection.request(self.key)?;
        if let Poll::Ready(Some(bytes)) = request.read(Output::Stdout, CHUNK) {
            return Some(Chunk::Stdout(bytes));
        }
        let mut request = connection.request(self.key)?;
        match request.read(Output::Stderr, CHUNK) {
            Poll::Ready(Some(bytes)) => Some(Chunk::Stderr(bytes)),
            _ => None,
        }
    }

    /// Whether something of the bodies is still to be sent.
    pub(crate) fn is_feeding(&self) -> bool {
        self.feeds.iter().any(Option::is_some)
    }

    /// Gets the next piece of the body that is being sent. It runs the caller's code: hold no
    /// lock.
    pub(crate) fn fill(&mut self, cx: &mut Context<'_>) -> Result<(), Error> {
        let Some(feed) = self.feeds.iter_mut().find_map(Option::as_mut) else { return Ok(()) };
        while feed.chunk.is_empty() && !feed.done {
            match feed.body.poll_chunk(cx) {
                Poll::Pending => break,
                Poll::Ready(Some(Ok(chunk))) => feed.chunk = chunk,
                Poll::Ready(Some(Err(source))) => {
                    return Err(Error::Body { address: Arc::clone(&self.address), source });
                }
                Poll::Ready(None) => feed.done = true,
            }
        }
        Ok(())
    }

    /// Queues what there is of the bodies and what there is room for.
    pub(crate) fn push(&mut self, connection: &mut ClientConnection) -> Result<Pushed, UsageError> {
        let Some(slot) = self.feeds.iter_mut().find(|feed| feed.is_some()) else {
            return Ok(Pushed::Nothing);
        };
        let (Some(feed), Some(mut request)) = (slot.as_mut(), connection.request(self.key)) else {
            return Ok(Pushed::Nothing);
        };
        if request.is_ended() {
            return Ok(Pushed::Nothing);
        }
        if !feed.chunk.is_empty() {
            let taken = request.write(feed.input, &mut feed.chunk)?;
            feed.sent += taken as u64;
            if let Some(log) = &mut self.log {
                log.sent(taken);
            }
            return Ok(match (taken, feed.chunk.is_empty()) {
                (0, _) => Pushed::Nothing,
                (_, false) => Pushed::Some,
                (_, true) => Pushed::All,
            });
        }
        if !feed.done {
            return Ok(Pushed::Nothing);
        }
        request.finish(feed.input)?;
        if feed.input == Input::Stdin {
            self.mismatch |= self.content_length.is_some_and(|length| length != feed.sent);
        }
        *slot = None;
        Ok(Pushed::All)
    }

    /// What the end of the request is to its caller.
    pub(crate) fn end(&self, outcome: Outcome) -> Result<Option<Chunk>, Error> {
        let address = self.address();
        match outcome {
            Outcome::Complete { .. } => Ok(None),
            Outcome::Rejected(rejection) => Err(Error::Rejected { address, rejection }),
            Outcome::Truncated => Err(Error::Truncated { address }),
            Outcome::Overrun => Err(Error::Overrun { address }),
        }
    }

    /// An application that always has something to say does not outlast the limit.
    pub(crate) fn check_total(&self) -> Result<(), Error> {
        match self.limits.total {
            Some(limit) if self.outcome.is_none() && R::now() - self.started >= limit => {
                Err(Error::Timeout { address: self.address(), phase: Phase::Response, limit })
            }
            _ => Ok(()),
        }
    }

    /// Ready with the error of the first limit that has passed.
    pub(crate) fn poll_limits(
        &self,
        cx: &mut Context<'_>,
        deadline: &mut Deadline<R>,
    ) -> Poll<Error> {
        let (phase, pause) = if self.answered {
            (Phase::NextByte, self.limits.next_byte)
        } else {
            (Phase::FirstByte, self.limits.first_byte)
        };
        let at = |from: Instant, phase, limit: Option<Duration>| {
            limit.and_then(|limit| Some((from.checked_add(limit)?, phase, limit)))
        };
        let pause = at(self.progress, phase, pause);
        let total = at(self.started, Phase::Response, self.limits.total);
        let next = match (pause, total) {
            (Some(a), Some(b)) => Some(if a.0 <= b.0 { a } else { b }),
            (a, b) => a.or(b),
        };
        let Some((until, phase, limit)) = next else { return Poll::Pending };
        ready!(deadline.poll(cx, Some(until), R::now()));
        Poll::Ready(Error::Timeout { address: self.address(), phase, limit })
    }
}

impl<R: Runtime> Drop for Exchange<R> {
    fn drop(&mut self) {
        self.log_end(Logged::Aborted);
    }
}

/// What [`Exchange::push`] queued.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Pushed {
    /// Nothing: there is nothing at hand, or no room.
    Nothing,
    /// As much as there was room for.
    Some,
    /// All that was at hand: there may be more.
    All,
}
