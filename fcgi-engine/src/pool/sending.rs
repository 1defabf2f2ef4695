//! A request on its way through a pool: what each try sends, and whether there is another one.

use fcgi_proto::{BeginRequest, Rejection};

use super::Settings;
use crate::{
    Error,
    client::{Exchange, Request},
    observe::{self, PoolEvent},
};

/// Times that a request is sent at most: on a kept connection that turns out dead, on a shared one
/// that turns out not to be, and on a fresh one.
const TRIES: usize = 3;

/// A body that may be sent more than once.
pub trait Replay: Default {
    /// The same bytes once more, unless they can be read only once.
    fn replay(&self) -> Option<Self>;
}

/// A request that a pool sends.
#[derive(Debug)]
pub struct Sending<B> {
    begin: BeginRequest,
    /// What the request and the pool ask for, on a connection that is not shared.
    keep_conn: bool,
    bodies: Bodies<B>,
    tries: usize,
}

/// STDIN and DATA, and the same once more where that is possible.
#[derive(Debug)]
pub struct Bodies<B> {
    next: Option<[B; 2]>,
    again: Option<[B; 2]>,
}

/// How far a try got.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Reached {
    /// Not even to be begun: nothing of it was sent.
    Nothing,
    /// It was begun, and since then not a byte has come over its connection.
    Begun,
    /// A byte has come.
    Answered,
}

impl Reached {
    /// How far a request that was begun got.
    #[must_use]
    pub fn of(exchange: &Exchange) -> Self {
        if exchange.is_touched() { Self::Answered } else { Self::Begun }
    }
}

/// What becomes of a request whose try failed.
#[derive(Debug)]
pub(super) enum Verdict {
    /// It is sent again, over a fresh connection.
    Retry,
    /// It is sent again, over a connection that it does not share.
    RetryAlone,
    /// Its caller gets the error.
    Fail(Error),
}

impl<B: Replay> Sending<B> {
    /// A request to send.
    #[must_use]
    pub fn new(request: Request<B>, settings: &Settings) -> Self {
        let (begin, bodies) = request.into_parts();
        Self {
            keep_conn: begin.keep_conn && settings.keep_conn,
            begin,
            bodies: Bodies { again: replay(&bodies), next: Some(bodies) },
            tries: 0,
        }
    }

    /// What the next try sends. A shared connection is always to be kept: the application would
    /// close it under the others (FC-3.5-1).
    pub(super) fn start(&mut self, fresh: bool, shared: bool) -> (&BeginRequest, &mut Bodies<B>) {
        observe::pool(if fresh { PoolEvent::Opened } else { PoolEvent::Reused });
        self.tries += 1;
        self.begin.keep_conn = self.keep_conn || shared;
        (&self.begin, &mut self.bodies)
    }

    /// Whether a request whose try failed is sent again: over a connection that had carried requests
    /// before and ended without a byte of an answer, so that most likely it was dead already,
    /// or over one that turned out not to be for several. An application that crashes just
    /// then may have begun the request.
    pub(super) fn judge(
        &mut self,
        error: Error,
        fresh: bool,
        shared: bool,
        reached: Reached,
    ) -> Verdict {
        let verdict = match (&error, reached) {
            // A shared connection that just ended, perhaps by another caller.
            (Error::Closed { .. }, Reached::Nothing) if shared => Verdict::Retry,
            (Error::Truncated { .. } | Error::Io { .. }, Reached::Begun) if !fresh => {
                Verdict::Retry
            }
            (Error::Rejected { rejection: Rejection::CantMpxConn, .. }, _) if shared => {
                Verdict::RetryAlone
            }
            _ => return Verdict::Fail(error),
        };
        if self.tries >= TRIES || !self.bodies.restore() {
            return Verdict::Fail(error);
        }
        if reached != Reached::Nothing {
            observe::pool(PoolEvent::Retried);
        }
        verdict
    }
}

impl<B: Replay> Bodies<B> {
    /// The bodies, once a try.
    pub fn take(&mut self) -> [B; 2] {
        self.next.take().unwrap_or_default()
    }

    /// Makes them ready to be taken again; false if that is not possible.
    fn restore(&mut self) -> bool {
        if self.next.is_none() {
            self.next = self.again.as_ref().and_then(replay);
        }
        self.next.is_some()
    }
}

fn replay<B: Replay>([stdin, data]: &[B; 2]) -> Option<[B; 2]> {
    stdin.replay().zip(data.replay()).map(|(stdin, data)| [stdin, data])
}
