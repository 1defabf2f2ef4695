//! Spans, events and counters: the same in every adapter.
//!
//! Each connection and each request has a `tracing` span at debug level. Each request ends with one
//! event that says how. With the `metrics` feature the same facts are counted through the `metrics`
//! facade. Without a subscriber and without the feature nothing is computed. The page below lists
//! names and fields.
//!
//! ```
//! use std::time::Instant;
//! use fcgi_engine::observe::{Outcome, RequestLog, Side};
//! use fcgi_proto::{Params, Role};
//!
//! let params = Params::from_iter([("SCRIPT_NAME", "/index.php")]);
//! let mut log = RequestLog::begin(Side::Client, 1, Role::Responder, &params, Instant::now);
//! log.received(512);
//! log.end(Outcome::Complete { app_status: 0 }, Instant::now);
//! ```
#![cfg_attr(all(doc, not(doctest)), doc = "", doc = include_str!("../docs/observability.md"))]

use std::{
    fmt,
    sync::Arc,
    time::{Duration, Instant},
};

use fcgi_proto::{Params, Rejection, Role};
use tracing::{Span, level_filters::LevelFilter};

use crate::{Error, Phase, text::escape};

/// The end of the wire that reports.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Side {
    /// The web server's.
    Client,
    /// The application's.
    Server,
}

impl Side {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Client => "client",
            Self::Server => "server",
        }
    }
}

/// How a request ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Outcome {
    /// END_REQUEST with REQUEST_COMPLETE.
    Complete {
        /// The application's status.
        app_status: u32,
    },
    /// END_REQUEST with another protocol status.
    Rejected(Rejection),
    /// Aborted: by the web server (on the server's side) or by the caller (on the client's).
    Aborted,
    /// A time limit passed.
    TimedOut(Phase),
    /// The connection broke or the peer broke the protocol.
    Failed,
}

#[cfg(feature = "metrics")]
impl Outcome {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Complete { .. } => "complete",
            Self::Rejected(_) => "rejected",
            Self::Aborted => "aborted",
            Self::TimedOut(_) => "timed_out",
            Self::Failed => "failed",
        }
    }
}

/// The span of a connection.
#[must_use]
pub fn connection_span(side: Side, peer: &dyn fmt::Display) -> Span {
    match side {
        Side::Client => tracing::debug_span!("fcgi_client_connection", address = %peer),
        Side::Server => tracing::debug_span!("fcgi_server_connection", %peer),
    }
}

/// An open connection. It counts as open until this is dropped.
#[derive(Debug)]
pub struct OpenConnection {
    #[cfg(feature = "metrics")]
    side: Side,
}

impl OpenConnection {
    /// A connection was opened or accepted.
    #[must_use]
    #[cfg_attr(not(feature = "metrics"), allow(unused_variables))]
    pub fn new(side: Side) -> Self {
        #[cfg(feature = "metrics")]
        {
            metrics::counter!("fcgi_connections_total", "side" => side.as_str()).increment(1);
            metrics::gauge!("fcgi_connections", "side" => side.as_str()).increment(1.0);
        }
        Self {
            #[cfg(feature = "metrics")]
            side,
        }
    }
}

impl Drop for OpenConnection {
    fn drop(&mut self) {
        #[cfg(feature = "metrics")]
        metrics::gauge!("fcgi_connections", "side" => self.side.as_str()).decrement(1.0);
    }
}

/// A time limit passed: logged with its phase, the limit and the peer, and counted.
pub fn timed_out(side: Side, phase: Phase, limit: Duration, peer: &dyn fmt::Display) {
    // Both are normal: a web server that has no more requests, and an
    // application that does not know GET_VALUES (Q-7).
    if matches!(phase, Phase::NextRequest | Phase::Values) {
        tracing::debug!(%peer, ?phase, ?limit, "{}: no {phase} within {limit:?}", side.as_str());
    } else {
        tracing::warn!(%peer, ?phase, ?limit, "{}: no {phase} within {limit:?}", side.as_str());
    }
    #[cfg(feature = "metrics")]
    metrics::counter!("fcgi_timeouts_total", "side" => side.as_str(), "phase" => name(phase))
        .increment(1);
}

/// The error of a client's time limit; also logs and counts it.
#[must_use]
pub fn client_timeout(address: Arc<str>, phase: Phase, limit: Duration) -> Error {
    timed_out(Side::Client, phase, limit, &address);
    Error::Timeout { address, phase, limit }
}

/// The same error, logged and counted if a client's time limit passed.
#[must_use]
pub fn logged(error: Error) -> Error {
    if let Error::Timeout { address, phase, limit } = &error {
        timed_out(Side::Client, *phase, *limit, address);
    }
    error
}

#[cfg(feature = "metrics")]
const fn name(phase: Phase) -> &'static str {
    match phase {
        Phase::Acquire => "acquire",
        Phase::Connect => "connect",
        Phase::FirstByte => "first_byte",
        Phase::NextByte => "next_byte",
        Phase::Response => "response",
        Phase::Values => "values",
        Phase::FirstRecord => "first_record",
        Phase::Params => "params",
        Phase::Stdin => "stdin",
        Phase::NextRequest => "next_request",
        Phase::Write => "write",
        Phase::Handler => "handler",
    }
}

/// What a pool did for a request.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum PoolEvent {
    /// Opened a connection for it.
    Opened,
    /// Gave it a kept or shared connection.
    Reused,
    /// Sent it again, because a kept connection had failed.
    Retried,
    /// Refused it: too many were waiting.
    Full,
}

/// Counts what a pool did.
pub fn pool(event: PoolEvent) {
    let name = match event {
        PoolEvent::Opened => "opened",
        PoolEvent::Reused => "reused",
        PoolEvent::Retried => "retried",
        PoolEvent::Full => "full",
    };
    #[cfg(feature = "metrics")]
    metrics::counter!("fcgi_pool_requests_total", "event" => name).increment(1);
    tracing::trace!(event = name, "pool");
}

/// Whether the time that a request takes may be wanted. This asks no subscriber, which is code of
/// others.
#[inline]
pub(crate) fn is_timed() -> bool {
    cfg!(feature = "metrics") || LevelFilter::current() >= LevelFilter::DEBUG
}

/// A request's span.
#[inline]
fn request_span(side: Side, request_id: u16, role: Role, params: &Params) -> Span {
    let span = tracing::debug_span!(
        "fcgi_request",
        side = side.as_str(),
        request_id,
        %role,
        method = tracing::field::Empty,
        script = tracing::field::Empty,
    );
    if !span.is_disabled() {
        let record = |field, value: Option<&[u8]>| {
            if let Some(value) = value {
                span.record(field, escape(value, b""));
            }
        };
        record("method", params.get("REQUEST_METHOD"));
        record("script", params.get("SCRIPT_FILENAME").or_else(|| params.get("SCRIPT_NAME")));
    }
    span
}

/// The event of a request that has ended.
#[inline]
pub(crate) fn log_end(span: &Span, outcome: Outcome, sent: u64, received: u64, elapsed: Duration) {
    match outcome {
        Outcome::Complete { app_status } => {
            tracing::debug!(parent: span, app_status, sent, received, ?elapsed, "request ended");
        }
        Outcome::Rejected(rejection) => {
            tracing::debug!(parent: span, %rejection, sent, received, ?elapsed, "request refused");
        }
        other => {
            tracing::debug!(parent: span, outcome = ?other, sent, received, ?elapsed, "request ended");
        }
    }
}

/// One request, from its beginning to its end.
#[derive(Debug)]
pub struct RequestLog {
    span: Span,
    #[cfg(feature = "metrics")]
    side: Side,
    #[cfg(feature = "metrics")]
    role: Role,
    started: Option<Instant>,
    sent: u64,
    received: u64,
    stderr: Vec<u8>,
}

/// The longest line of STDERR that is logged as one event, in bytes.
const STDERR_LINE: usize = 4096;

impl RequestLog {
    /// A request begins. `now` is called only if the time is needed.
    pub fn begin(
        side: Side,
        request_id: u16,
        role: Role,
        params: &Params,
        now: impl FnOnce() -> Instant,
    ) -> Self {
        Self::in_span(request_span(side, request_id, role, params), side, role, now)
    }

    /// Like [`begin`](Self::begin); `None` if nobody wants to know of the request.
    pub(crate) fn wanted(
        side: Side,
        request_id: u16,
        role: Role,
        params: &Params,
        now: impl FnOnce() -> Instant,
    ) -> Option<Box<Self>> {
        let span = request_span(side, request_id, role, params);
        let wanted = cfg!(feature = "metrics") || !span.is_none();
        wanted.then(|| Box::new(Self::in_span(span, side, role, now)))
    }

    #[cfg_attr(not(feature = "metrics"), allow(unused_variables))]
    fn in_span(span: Span, side: Side, role: Role, now: impl FnOnce() -> Instant) -> Self {
        let timed = cfg!(feature = "metrics") || !span.is_disabled();
        #[cfg(feature = "metrics")]
        metrics::gauge!("fcgi_requests", "side" => side.as_str()).increment(1.0);
        Self {
            span,
            #[cfg(feature = "metrics")]
            side,
            #[cfg(feature = "metrics")]
            role,
            started: timed.then(now),
            sent: 0,
            received: 0,
            stderr: Vec::new(),
        }
    }

    /// The request's span.
    #[must_use]
    pub fn span(&self) -> &Span {
        &self.span
    }

    /// Counts bytes of its streams that were sent, without PARAMS.
    pub fn sent(&mut self, bytes: usize) {
        self.sent += bytes as u64;
    }

    /// Counts bytes of its streams that were received, without PARAMS.
    pub fn received(&mut self, bytes: usize) {
        self.received += bytes as u64;
    }

    /// Logs text of STDERR: each complete line is an event at warn level, escaped (H-10).
    pub fn stderr(&mut self, bytes: &[u8]) {
        if !tracing::enabled!(tracing::Level::WARN) {
            return;
        }
        for piece in bytes.split_inclusive(|byte| *byte == b'\n') {
            let room = STDERR_LINE - self.stderr.len();
            self.stderr.extend_from_slice(&piece[..piece.len().min(room)]);
            if piece.ends_with(b"\n") || self.stderr.len() == STDERR_LINE {
                self.log_stderr();
            }
        }
    }

    fn log_stderr(&mut self) {
        let text = std::mem::take(&mut self.stderr);
        let text = text.strip_suffix(b"\n").unwrap_or(&text);
        if !text.is_empty() {
            tracing::warn!(parent: &self.span, stderr = escape(text, b""), "STDERR");
        }
    }

    /// The request has ended.
    pub fn end(mut self, outcome: Outcome, now: impl FnOnce() -> Instant) {
        if !self.stderr.is_empty() {
            self.log_stderr();
        }
        let elapsed = self.started.map(|started| now().saturating_duration_since(started));
        self.ended(outcome, self.sent, self.received, elapsed.unwrap_or_default());
    }

    /// Like [`end`](Self::end), for a request that somebody else has counted and timed.
    pub(crate) fn ended(&self, outcome: Outcome, sent: u64, received: u64, elapsed: Duration) {
        log_end(&self.span, outcome, sent, received, elapsed);
        #[cfg(feature = "metrics")]
        {
            let (side, role) = (self.side.as_str(), role_name(self.role));
            let outcome = outcome.as_str();
            metrics::counter!("fcgi_requests_total", "side" => side, "role" => role, "outcome" => outcome)
                .increment(1);
            metrics::histogram!("fcgi_request_seconds", "side" => side).record(elapsed);
            metrics::counter!("fcgi_sent_bytes_total", "side" => side).increment(sent);
            metrics::counter!("fcgi_received_bytes_total", "side" => side).increment(received);
        }
    }
}

impl Drop for RequestLog {
    fn drop(&mut self) {
        #[cfg(feature = "metrics")]
        metrics::gauge!("fcgi_requests", "side" => self.side.as_str()).decrement(1.0);
    }
}

#[cfg(feature = "metrics")]
const fn role_name(role: Role) -> &'static str {
    match role {
        Role::Responder => "responder",
        Role::Authorizer => "authorizer",
        Role::Filter => "filter",
    }
}
