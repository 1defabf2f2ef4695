//! One request on its way: what is still to be sent of it, what has come, and its time limits.
//!
//! It owns neither its connection nor its bodies. An adapter gets the bodies' pieces outside of any
//! lock, since that runs its caller's code, and waits.

use std::{
    io,
    sync::Arc,
    task::Poll,
    time::{Duration, Instant},
};

use bytes::Bytes;
use fcgi_proto::{
    BeginRequest, ClientConnection, Input, Output, RequestKey, UsageError, client::Outcome,
};

use tracing::Span;

use super::{Chunk, Settings};
use crate::{
    Error, Phase,
    observe::{self, Outcome as Logged, RequestLog, Side},
};

/// How long a request goes on without its caller, where nothing else limits it in all.
const DETACHED: Duration = Duration::from_secs(600);
/// The most that one chunk holds, in bytes.
const CHUNK: usize = 64 * 1024;

/// One request, from BEGIN_REQUEST until its response is read to its end or given up. A
/// [`Session`](super::Session) begins it and moves it on.
///
/// What it does in turn: [`wants_body`](Self::wants_body) and [`handle_body`](Self::handle_body)
/// get the next piece of a body, [`Session::push`](super::Session::push) queues it,
/// [`Session::poll`](super::Session::poll) gives the next chunk,
/// [`Session::limit`](super::Session::limit) says until when to wait, and
/// [`hand_out`](Self::hand_out) notes what its caller gets.
#[derive(Debug)]
pub struct Exchange {
    key: RequestKey,
    address: Arc<str>,
    limits: TimeLimits,
    /// What is still to be sent, first things first.
    feeds: [Option<Feed>; 2],
    content_length: Option<u64>,
    mismatch: bool,
    pub(super) outcome: Option<Outcome>,
    over: bool,
    /// A byte of the response was handed out.
    answered: bool,
    /// The caller waits for the next byte, since then.
    waiting: bool,
    since: Instant,
    started: Instant,
    /// What the connection will have sent before the first byte of this request.
    pub(super) begun_at: u64,
    /// What the connection had received before this request.
    pub(super) received_before: u64,
    pub(super) touched: bool,
    /// All of it is queued, and the session watches for the moment when it is sent.
    pub(super) is_queued: bool,
    /// Why the connection takes no more of it: logged with its end, when no lock is held.
    pub(super) unsent: Option<io::Error>,
    log: Option<RequestLog>,
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
    piece: Bytes,
    ended: bool,
    sent: u64,
}

/// Without the bytes, which are many and may be secret.
impl std::fmt::Debug for Feed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Feed").field("input", &self.input).field("sent", &self.sent).finish()
    }
}

/// When a time limit of a request passes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Limit {
    /// The moment.
    pub at: Instant,
    /// What is waited for.
    pub phase: Phase,
    /// How long it may take.
    pub limit: Duration,
}

impl Exchange {
    pub(super) fn new(
        key: RequestKey,
        begin: &BeginRequest,
        address: Arc<str>,
        settings: &Settings,
        started: Instant,
        now: Instant,
    ) -> Self {
        let feed = |input| {
            let feed = Feed { input, piece: Bytes::new(), ended: false, sent: 0 };
            begin.role.has_input(input).then_some(feed)
        };
        let length = begin.params.get_str("CONTENT_LENGTH");
        Self {
            key,
            address,
            limits: TimeLimits {
                first_byte: settings.first_byte,
                next_byte: settings.next_byte,
                total: settings.total,
            },
            feeds: [feed(Input::Stdin), feed(Input::Data)],
            content_length: length.and_then(|length| length.parse().ok()),
            mismatch: false,
            outcome: None,
            over: false,
            answered: false,
            waiting: false,
            since: now,
            started,
            begun_at: 0,
            received_before: 0,
            touched: false,
            is_queued: false,
            unsent: None,
            log: None,
        }
    }

    /// Logs the request from now on, inside the span of its connection. A subscriber is code of
    /// others: hold no lock.
    pub fn begin_log(
        &mut self,
        begin: &BeginRequest,
        connection: &Span,
        now: impl FnOnce() -> Instant,
    ) {
        let _entered = connection.enter();
        let (id, role) = (self.key.id(), begin.role);
        self.log = Some(RequestLog::begin(Side::Client, id, role, &begin.params, now));
    }

    /// The request's key.
    #[must_use]
    pub fn key(&self) -> RequestKey {
        self.key
    }

    /// Where the application is.
    #[must_use]
    pub fn address(&self) -> &Arc<str> {
        &self.address
    }

    /// Whether the end, or an error, was handed out.
    #[must_use]
    pub fn is_over(&self) -> bool {
        self.over
    }

    /// How the request ended, once it has.
    #[must_use]
    pub fn outcome(&self) -> Option<Outcome> {
        self.outcome
    }

    /// Whether an answer may have begun: some of it was sent, and since it began a byte has come over
    /// its connection, even part of a record's header. As of the last
    /// [`Session::poll`](super::Session::poll).
    #[must_use]
    pub fn is_touched(&self) -> bool {
        self.touched
    }

    /// Whether STDIN was not as long as CONTENT_LENGTH said: some applications wait for the rest,
    /// or take it for the next request.
    #[must_use]
    pub fn is_mismatched(&self) -> bool {
        self.mismatch
    }

    /// The application's status, once the end was handed out.
    #[must_use]
    pub fn app_status(&self) -> Option<u32> {
        match self.outcome {
            Some(Outcome::Complete { app_status }) if self.over => Some(app_status),
            _ => None,
        }
    }

    /// Its caller does not wait for it any more. Where it had no limit for all of it, it has ten
    /// minutes from now on: nobody is there to give it up.
    pub fn detach(&mut self, now: Instant) {
        if self.limits.total.is_none() {
            self.limits.total = Some(now.saturating_duration_since(self.started) + DETACHED);
        }
    }

    // ---- Of the request ------------------------------------------------------------------------

    /// The stream whose next piece can be sent now, when it is at hand. `None` while there is no
    /// room for it, and when nothing more is to be sent.
    #[must_use]
    pub fn wants_body(&self) -> Option<Input> {
        let feed = self.feeds.iter().find_map(Option::as_ref)?;
        (feed.piece.is_empty() && !feed.ended).then_some(feed.input)
    }

    /// Whether something of the bodies is still to be sent.
    #[must_use]
    pub fn is_feeding(&self) -> bool {
        self.feeds.iter().any(Option::is_some)
    }

    /// The next piece of the stream that [`wants_body`](Self::wants_body) names; `None` at its end.
    ///
    /// # Errors
    /// [`Error::Body`] for a body that failed.
    pub fn handle_body(&mut self, piece: io::Result<Option<Bytes>>) -> Result<(), Error> {
        let Some(feed) = self.feeds.iter_mut().find_map(Option::as_mut) else { return Ok(()) };
        match piece {
            Ok(Some(piece)) => feed.piece = piece,
            Ok(None) => feed.ended = true,
            Err(source) => {
                return Err(Error::Body { address: Arc::clone(&self.address), source });
            }
        }
        Ok(())
    }

    /// Queues what there is of the bodies and room for; says whether it was anything.
    pub(super) fn push(&mut self, connection: &mut ClientConnection) -> Result<bool, UsageError> {
        let mut any = false;
        while let Some(slot) = self.feeds.iter_mut().find(|feed| feed.is_some()) {
            let request = connection.request(self.key).filter(|request| !request.is_ended());
            let (Some(feed), Some(mut request)) = (slot.as_mut(), request) else {
                // The application wants no more (FC-6.2-1).
                self.feeds = [None, None];
                break;
            };
            if !feed.piece.is_empty() {
                let taken = request.write(feed.input, &mut feed.piece)?;
                feed.sent += taken as u64;
                any |= taken > 0;
                if let Some(log) = &mut self.log {
                    log.sent(taken);
                }
            } else if feed.ended {
                request.finish(feed.input)?;
                if feed.input == Input::Stdin {
                    self.mismatch |= self.content_length.is_some_and(|length| length != feed.sent);
                }
                any = true;
                *slot = None;
                continue;
            }
            break;
        }
        Ok(any)
    }

    // ---- Of the response -----------------------------------------------------------------------

    pub(super) fn take_chunk(&self, connection: &mut ClientConnection) -> Option<Chunk> {
        let mut request = connection.request(self.key)?;
        if let Poll::Ready(Some(bytes)) = request.read(Output::Stdout, CHUNK) {
            return Some(Chunk::Stdout(bytes));
        }
        // It may have ended with its last byte.
        match connection.request(self.key)?.read(Output::Stderr, CHUNK) {
            Poll::Ready(Some(bytes)) => Some(Chunk::Stderr(bytes)),
            _ => None,
        }
    }

    /// What the end of the request is to its caller.
    pub(super) fn end(&self, outcome: Outcome) -> Result<Option<Chunk>, Error> {
        let address = Arc::clone(&self.address);
        match outcome {
            Outcome::Complete { .. } => Ok(None),
            Outcome::Rejected(rejection) => Err(Error::Rejected { address, rejection }),
            Outcome::Truncated => Err(Error::Truncated { address }),
            Outcome::Overrun => Err(Error::Overrun { address }),
        }
    }

    /// Notes what the caller gets: counts and logs it, and whether it is the last. An error may be
    /// the adapter's own too.
    ///
    /// # Errors
    /// Those that it was given.
    pub fn hand_out(
        &mut self,
        polled: Result<Option<Chunk>, Error>,
        now: impl FnOnce() -> Instant,
    ) -> Result<Option<Chunk>, Error> {
        let ended = match &polled {
            Ok(Some(chunk)) => {
                (self.answered, self.waiting) = (true, false);
                if let Some(log) = &mut self.log {
                    let (Chunk::Stdout(bytes) | Chunk::Stderr(bytes)) = chunk;
                    log.received(bytes.len());
                    if matches!(chunk, Chunk::Stderr(_)) {
                        log.stderr(bytes);
                    }
                }
                return polled;
            }
            Ok(None) => match self.outcome {
                Some(Outcome::Complete { app_status }) => Logged::Complete { app_status },
                _ => Logged::Complete { app_status: 0 },
            },
            Err(Error::Rejected { rejection, .. }) => Logged::Rejected(*rejection),
            Err(Error::Timeout { phase, limit, .. }) => {
                observe::timed_out(Side::Client, *phase, *limit, &self.address);
                Logged::TimedOut(*phase)
            }
            // Given up on this side.
            Err(Error::Body { .. } | Error::Overrun { .. } | Error::Cancelled { .. }) => {
                Logged::Aborted
            }
            Err(_) => Logged::Failed,
        };
        self.over = true;
        self.log_end(ended, now);
        polled
    }

    /// The caller does not want the rest.
    pub fn give_up(&mut self, now: impl FnOnce() -> Instant) {
        self.over = true;
        self.log_end(Logged::Aborted, now);
    }

    fn log_end(&mut self, outcome: Logged, now: impl FnOnce() -> Instant) {
        if let Some(log) = self.log.take() {
            if let Some(error) = self.unsent.take() {
                tracing::debug!(parent: log.span(), %error, "application takes no more");
            }
            log.end(outcome, now);
        }
    }

    // ---- Of its limits -------------------------------------------------------------------------

    /// Bytes that stand before the end of this request were sent: until its first byte of a
    /// response has come, its limit counts from the last of them.
    pub(super) fn handle_sent(&mut self, at: Instant) {
        if !self.answered {
            self.since = self.since.max(at);
        }
    }

    /// An application that always has something to say does not outlast the limit.
    pub(super) fn check_total(&self, now: impl FnOnce() -> Instant) -> Result<(), Error> {
        match self.limits.total {
            Some(limit)
                if self.outcome.is_none()
                    && now().saturating_duration_since(self.started) >= limit =>
            {
                Err(self.timeout(Phase::Response, limit))
            }
            _ => Ok(()),
        }
    }

    /// The next limit to pass, for a caller that waits from `now` on.
    pub(super) fn limit(&mut self, now: Instant) -> Option<Limit> {
        if self.answered && !self.waiting {
            (self.waiting, self.since) = (true, now);
        }
        let (phase, pause) = if self.answered {
            (Phase::NextByte, self.limits.next_byte)
        } else {
            (Phase::FirstByte, self.limits.first_byte)
        };
        // A limit that is too long to add never ends.
        let at = |from: Instant, phase, limit: Option<Duration>| {
            let limit = limit?;
            Some(Limit { at: from.checked_add(limit)?, phase, limit })
        };
        let pause = at(self.since, phase, pause);
        let total = at(self.started, Phase::Response, self.limits.total);
        pause.into_iter().chain(total).min_by_key(|limit| limit.at)
    }

    /// The error of a limit that has passed.
    #[must_use]
    pub fn passed(&self, limit: Limit) -> Error {
        self.timeout(limit.phase, limit.limit)
    }

    fn timeout(&self, phase: Phase, limit: Duration) -> Error {
        Error::Timeout { address: Arc::clone(&self.address), phase, limit }
    }
}
