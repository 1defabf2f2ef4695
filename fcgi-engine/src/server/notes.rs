//! What a session has to log. A subscriber is code of others, which may use the request that it is
//! told about. So whoever holds the connection's lock only notes it.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use fcgi_proto::{Params, ProtocolError, Role};
use tracing::{Span, span::Entered};

use crate::{
    Phase,
    observe::{self, OpenConnection, Outcome, RequestLog, Side},
    socket::Peer,
};

/// A connection's span, to enter without its lock. Without a subscriber it is empty.
#[derive(Clone, Debug, Default)]
pub struct ConnectionSpan(Option<Arc<Span>>);

impl ConnectionSpan {
    pub(super) fn new(peer: Peer) -> Self {
        let span = observe::connection_span(Side::Server, &peer);
        Self((!span.is_none()).then(|| Arc::new(span)))
    }

    /// Whether nobody wants to know of this connection's requests.
    #[inline]
    pub(super) fn is_silent(&self) -> bool {
        self.0.is_none() && !observe::is_timed()
    }

    /// Enters it until the guard is dropped.
    #[inline]
    #[must_use]
    pub fn enter(&self) -> Option<Entered<'_>> {
        self.0.as_ref().map(|span| span.enter())
    }
}

/// A request's span, to enter while its handler runs. Without a subscriber it is empty.
#[derive(Debug, Default)]
pub struct RequestSpan(Option<Box<Span>>);

impl RequestSpan {
    pub(super) fn new(span: Span) -> Self {
        Self((!span.is_none()).then(|| Box::new(span)))
    }

    /// Enters it until the guard is dropped.
    #[inline]
    #[must_use]
    pub fn enter(&self) -> Option<Entered<'_>> {
        self.0.as_ref().map(|span| span.enter())
    }
}

/// What is to be logged and counted. It happens when this is dropped: an adapter takes it before it
/// releases the lock, and drops it after.
#[derive(Debug, Default)]
pub struct Notes(Vec<(ConnectionSpan, Peer, Note)>);

#[derive(Debug)]
pub(super) enum Note {
    TimedOut(Phase, Duration),
    Broken(ProtocolError),
    Ended(Ended),
    /// Its drop counts.
    Closed(OpenConnection),
}

impl Notes {
    /// Whether there is nothing to log, which is the usual case.
    #[inline]
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    #[cold]
    pub(super) fn push(&mut self, span: &ConnectionSpan, peer: Peer, note: Note) {
        self.0.push((span.clone(), peer, note));
    }
}

impl Drop for Notes {
    #[inline]
    fn drop(&mut self) {
        if !self.is_empty() {
            log(std::mem::take(&mut self.0));
        }
    }
}

#[cold]
fn log(notes: Vec<(ConnectionSpan, Peer, Note)>) {
    for (span, peer, note) in notes {
        let _span = span.enter();
        match note {
            Note::TimedOut(phase, limit) => {
                observe::timed_out(Side::Server, phase, limit, &peer);
            }
            Note::Broken(error) => tracing::warn!(%peer, %error, "connection closed"),
            Note::Ended(ended) => ended.log(),
            Note::Closed(_open) => {}
        }
    }
}

/// A request that has ended. Log it once no lock is held.
#[derive(Debug)]
#[must_use = "log it without a lock"]
pub struct Ended {
    pub(super) log: Option<Box<RequestLog>>,
    pub(super) id: u16,
    pub(super) role: Role,
    pub(super) outcome: Outcome,
    pub(super) sent: u64,
    pub(super) received: u64,
    pub(super) elapsed: Duration,
}

impl Ended {
    /// Logs and counts it.
    pub fn log(self) {
        let Self { log, id, role, outcome, sent, received, elapsed } = self;
        // A request whose handler was not started has no span yet.
        let begin = || RequestLog::wanted(Side::Server, id, role, &Params::new(), Instant::now);
        match log.or_else(begin) {
            Some(log) => log.ended(outcome, sent, received, elapsed),
            None => observe::log_end(&Span::none(), outcome, sent, received, elapsed),
        }
    }
}
