//! One request in progress: what is still to be sent, what has come, and its time limits.
//!
//! It owns neither its connection nor its bodies. The adapter waits, and gets the bodies' pieces
//! outside of any lock, since that runs the caller's code.

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
    Error, Joined, Phase,
    observe::{self, Outcome as Logged, RequestLog, Side},
};

/// How long a detached request may take, if it has no limit for the whole of it.
const DETACHED: Duration = Duration::from_secs(600);
/// The largest chunk, in bytes.
const CHUNK: usize = 64 * 1024;

/// One request, from BEGIN_REQUEST until its response is read to its end or given up. A
/// [`Session`](super::Session) begins it and drives it.
///
/// In a loop: [`Session::poll`](super::Session::poll) returns the next chunk,
/// [`wants_body`](Self::wants_body) and [`handle_body`](Self::handle_body) get the next piece of a
/// body, [`Session::turn`](super::Session::turn) moves bytes,
/// [`Session::limit`](super::Session::limit) says until when to wait, and
/// [`hand_out`](Self::hand_out) records what the caller gets.
#[derive(Debug)]
pub struct Exchange {
    key: RequestKey,
    address: Arc<str>,
    limits: TimeLimits,
    /// What is still to be sent, in order.
    feeds: [Option<Feed>; 2],
    content_length: Option<u64>,
    mismatch: bool,
    /// Handed out before anything else.
    held: Option<Chunk>,
    pub(super) outcome: Option<Outcome>,
    /// How it ended, if the connection has no more chunks of it.
    pub(super) last: Option<Outcome>,
    over: bool,
    /// A byte of the response was handed out.
    answered: bool,
    /// Since when the caller has waited for the next byte.
    waiting: bool,
    /// Nothing was done since it began, at `since`.
    just_begun: bool,
    since: Instant,
    started: Instant,
    /// How many bytes the connection will have sent before the first byte of this request.
    pub(super) begun_at: u64,
    /// How many bytes the connection had received before this request.
    pub(super) received_before: u64,
    pub(super) touched: bool,
    /// The session's count of news when the request last found nothing.
    pub(super) seen: u64,
    /// All of it is queued, and the session watches for it to be sent.
    pub(super) is_queued: bool,
    /// Why the connection takes no more of it: logged with its end, when no lock is held.
    pub(super) unsent: Option<io::Error>,
    log: Option<RequestLog>,
}

/// The time limits of a request. A copy of just these settings keeps a request small, since there
/// may be thousands.
#[derive(Clone, Copy, Debug)]
struct TimeLimits {
    first_byte: Option<Duration>,
    next_byte: Option<Duration>,
    total: Option<Duration>,
}

/// A stream that is being sent.
struct Feed {
    input: Input,
    piece: Bytes,
    ended: bool,
    sent: u64,
}

/// Leaves out the bytes, which are many and may be secret.
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

impl Limit {
    /// That of a time that counts `from` there. A limit too large to add is none.
    #[must_use]
    pub fn of(from: Instant, phase: Phase, limit: Option<Duration>) -> Option<Self> {
        let limit = limit?;
        Some(Self { at: from.checked_add(limit)?, phase, limit })
    }

    /// The error once it has passed; also logs and counts it.
    #[must_use]
    pub fn error(self, address: &Arc<str>) -> Error {
        observe::client_timeout(Arc::clone(address), self.phase, self.limit)
    }
}

impl Exchange {
    pub(super) fn new(
        key: RequestKey,
        begin: &BeginRequest,
        has_body: bool,
        address: Arc<str>,
        settings: &Settings,
        [started, now]: [Instant; 2],
    ) -> Self {
        let feed = |input| {
            let feed = Feed { input, piece: Bytes::new(), ended: false, sent: 0 };
            (has_body && begin.role.has_input(input)).then_some(feed)
        };
        let length = begin.params.get_str("CONTENT_LENGTH");
        let content_length = length.and_then(|length| length.parse().ok());
        let has_stdin = begin.role.has_input(Input::Stdin);
        Self {
            key,
            address,
            limits: TimeLimits {
                first_byte: settings.first_byte,
                next_byte: settings.next_byte,
                total: settings.total,
            },
            feeds: [feed(Input::Stdin), feed(Input::Data)],
            content_length,
            mismatch: !has_body && has_stdin && content_length.is_some_and(|length| length != 0),
            held: None,
            outcome: None,
            last: None,
            over: false,
            answered: false,
            waiting: false,
            just_begun: !has_body,
            since: now,
            started,
            begun_at: 0,
            received_before: 0,
            touched: false,
            seen: 0,
            is_queued: false,
            unsent: None,
            log: None,
        }
    }

    /// Logs the request from now on, inside the span of its connection. Hold no lock: a subscriber
    /// is somebody else's code.
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

    /// The address of the application.
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

    /// Whether an answer may have begun: part of the request was sent, and any byte has arrived on
    /// its connection since it began, even part of a record header. As of the last
    /// [`Session::poll`](super::Session::poll).
    #[must_use]
    pub fn is_touched(&self) -> bool {
        self.touched
    }

    /// Whether the length of STDIN differed from CONTENT_LENGTH. Some applications then wait for
    /// the rest, or take it from the next request.
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

    /// The time when it began, once: for an adapter that now sends it, so that the clock need not be
    /// read again. `None` if it has a body, which may take its time.
    pub fn just_begun(&mut self) -> Option<Instant> {
        std::mem::take(&mut self.just_begun).then_some(self.since)
    }

    /// Its caller does not wait for it any more. If it has no limit for the whole of it, it gets
    /// one of ten minutes from now, because nobody is left to cancel it.
    pub fn detach(&mut self, now: Instant) {
        if self.limits.total.is_none() {
            self.limits.total = Some(now.saturating_duration_since(self.started) + DETACHED);
        }
    }

    // ---- The request ---------------------------------------------------------------------------

    /// The stream whose next piece can be sent as soon as it is available. `None` while there is no
    /// room for it, and when nothing is left to send.
    #[must_use]
    pub fn wants_body(&self) -> Option<Input> {
        let feed = self.feeds.iter().find_map(Option::as_ref)?;
        (feed.piece.is_empty() && !feed.ended).then_some(feed.input)
    }

    /// Whether part of the bodies is still to be sent.
    #[must_use]
    pub fn is_feeding(&self) -> bool {
        self.feeds.iter().any(Option::is_some)
    }

    /// Whether a piece waits for room.
    pub(super) fn is_starved(&self) -> bool {
        self.feeds.iter().flatten().any(|feed| !feed.piece.is_empty())
    }

    /// Takes the next piece of the stream that [`wants_body`](Self::wants_body) names; `None` at
    /// its end.
    ///
    /// # Errors
    /// [`Error::Body`] if the body failed.
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

    /// Queues what is available of the bodies, as far as there is room; true if it queued anything.
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

    // ---- The response --------------------------------------------------------------------------

    pub(super) fn take_chunk(&self, connection: &mut ClientConnection) -> Option<Chunk> {
        let mut request = connection.request(self.key)?;
        if let Poll::Ready(Some(bytes)) = request.read(Output::Stdout, CHUNK) {
            return Some(Chunk::Stdout(bytes));
        }
        match request.read(Output::Stderr, CHUNK) {
            Poll::Ready(Some(bytes)) => Some(Chunk::Stderr(bytes)),
            _ => None,
        }
    }

    /// What the end of the request means for its caller.
    pub(super) fn end(&self, outcome: Outcome) -> Result<Option<Chunk>, Error> {
        let address = Arc::clone(&self.address);
        match outcome {
            Outcome::Complete { .. } => Ok(None),
            Outcome::Rejected(rejection) => Err(Error::Rejected { address, rejection }),
            Outcome::Truncated => Err(Error::Truncated { address }),
            Outcome::Overrun => Err(Error::Overrun { address }),
        }
    }

    /// What there is without a look at the connection: a chunk that was [held](Self::hold), or the
    /// end once it was handed out.
    pub fn at_hand(&mut self) -> Option<Option<Chunk>> {
        match self.held.take() {
            None => self.over.then_some(None),
            held => Some(held),
        }
    }

    /// The end, without a look at the connection: if it had come with the last chunk. Like what
    /// [`Session::poll`](super::Session::poll) returns, it must be [handed out](Self::hand_out).
    pub fn come_end(&mut self) -> Option<Result<Option<Chunk>, Error>> {
        let outcome = self.last?;
        self.outcome = Some(outcome);
        Some(self.end(outcome))
    }

    /// Holds a chunk that was handed out, to hand it out next.
    pub fn hold(&mut self, chunk: Option<Chunk>) {
        self.held = chunk;
    }

    /// What a reader of STDOUT gets of a chunk: at most `max` bytes, none at the end. The rest is
    /// handed out next. `None` for a chunk that a reader skips: STDERR is in the log.
    pub fn cut(&mut self, chunk: Option<Chunk>, max: usize) -> Option<Bytes> {
        let mut bytes = match chunk {
            Some(Chunk::Stdout(bytes)) if !bytes.is_empty() => bytes,
            Some(_) => return None,
            None => return Some(Bytes::new()),
        };
        let taken = bytes.split_to(bytes.len().min(max));
        self.held = (!bytes.is_empty()).then_some(Chunk::Stdout(bytes));
        Some(taken)
    }

    /// Adds a chunk to a response that is collected as a whole: STDOUT and STDERR.
    ///
    /// # Errors
    /// [`Error::TooLarge`].
    #[doc(hidden)]
    pub fn collect(&self, [stdout, stderr]: &mut [Joined; 2], chunk: Chunk) -> Result<(), Error> {
        let (joined, bytes) = match chunk {
            Chunk::Stdout(bytes) => (stdout, bytes),
            Chunk::Stderr(bytes) => (stderr, bytes),
        };
        let fits = joined.push(bytes);
        let error = || Error::TooLarge { address: Arc::clone(&self.address), limit: joined.limit };
        fits.then_some(()).ok_or_else(error)
    }

    /// Records what the caller gets: counts and logs it, and notes whether it is the last. An error
    /// may also be the adapter's own.
    ///
    /// # Errors
    /// The error that it was given.
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
            // Aborted on this side.
            Err(Error::Body { .. } | Error::Overrun { .. } | Error::Cancelled { .. }) => {
                Logged::Aborted
            }
            Err(_) => Logged::Failed,
        };
        self.over = true;
        self.log_end(ended, now);
        polled
    }

    /// The request has ended, and its caller has left. A caller that has read as many bytes as it
    /// was told of may not have asked for the end.
    pub(super) fn handle_outcome(&mut self, outcome: Outcome, connection: &mut ClientConnection) {
        if !self.over && self.held.is_none() && self.take_chunk(connection).is_none() {
            self.outcome = Some(outcome);
        }
    }

    /// The caller wants no more. The request was aborted, unless its caller has all of the response.
    pub fn give_up(&mut self, now: impl FnOnce() -> Instant) {
        self.over = true;
        let ended = match self.outcome {
            Some(Outcome::Complete { app_status }) => Logged::Complete { app_status },
            _ => Logged::Aborted,
        };
        self.log_end(ended, now);
    }

    fn log_end(&mut self, outcome: Logged, now: impl FnOnce() -> Instant) {
        if let Some(log) = self.log.take() {
            if let Some(error) = self.unsent.take() {
                tracing::debug!(parent: log.span(), %error, "application takes no more");
            }
            log.end(outcome, now);
        }
    }

    // ---- Its limits ----------------------------------------------------------------------------

    /// Bytes up to the end of this request were sent. The limit for the next byte of the response
    /// counts from the last time this is called: an application may answer when it has read them.
    pub(super) fn handle_sent(&mut self, at: Instant) {
        self.since = self.since.max(at);
    }

    /// Checks the total limit, so that an application that never stops sending does not outlast it.
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
        let pause = Limit::of(self.since, phase, pause);
        let total = Limit::of(self.started, Phase::Response, self.limits.total);
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
