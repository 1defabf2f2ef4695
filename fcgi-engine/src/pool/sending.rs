//! A request on its way through a pool: what each attempt sends, and whether there is another one.

use fcgi_proto::{BeginRequest, Rejection};

use super::Settings;
use crate::{
    Error,
    client::{Bodies, Exchange, Replay, Request},
    observe::{self, PoolEvent},
};

/// How often a request is sent, at most: on a kept connection that turns out dead, on a shared one
/// that turns out not to be shareable, and on a fresh one.
const TRIES: usize = 3;

/// A request that a pool sends.
#[derive(Debug)]
pub struct Sending<B> {
    begin: BeginRequest,
    /// Whether the request and the pool ask to keep the connection, if it is not shared.
    keep_conn: bool,
    bodies: Bodies<B>,
    tries: usize,
}

/// How far an attempt got.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Reached {
    /// It was not begun: nothing was sent.
    Nothing,
    /// It was begun, and no byte has come on its connection since.
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

/// What happens to a request whose attempt failed.
#[derive(Debug)]
pub(super) enum Verdict {
    /// It is sent again, on a fresh connection.
    Retry,
    /// It is sent again, on a connection that it does not share.
    RetryAlone,
    /// Its caller gets the error.
    Fail(Error),
}

impl<B: Replay> Sending<B> {
    /// A request to send.
    #[must_use]
    pub fn new(request: Request<B>, settings: &Settings) -> Self {
        let (begin, bodies) = request.into_bodies();
        Self {
            keep_conn: begin.keep_conn && settings.keep_conn,
            begin,
            bodies: bodies.again(),
            tries: 0,
        }
    }

    /// What the next attempt sends. On a shared connection it always asks to keep it: the
    /// application would otherwise close it under the others (FC-3.5-1).
    pub(super) fn start(&mut self, fresh: bool, shared: bool) -> (&BeginRequest, &mut Bodies<B>) {
        observe::pool(if fresh { PoolEvent::Opened } else { PoolEvent::Reused });
        self.tries += 1;
        self.begin.keep_conn = self.keep_conn || shared;
        (&self.begin, &mut self.bodies)
    }

    /// The bodies of an attempt that was begun, if there are any.
    pub fn bodies(&mut self) -> Option<Box<[B; 2]>> {
        self.bodies.take()
    }

    /// Decides whether a failed request is sent again. It is if its connection had carried requests
    /// before and ended without a byte of an answer, so that it was most likely dead already
    /// . It is also if the connection turned out not to be shareable. An application
    /// that crashes at just that moment may have begun the request.
    pub(super) fn judge(
        &mut self,
        error: Error,
        fresh: bool,
        shared: bool,
        reached: Reached,
    ) -> Verdict {
        let verdict = match (&error, reached) {
            // A shared connection that has just ended, perhaps because of another caller.
            (Error::Closed { .. }, Reached::Nothing) if shared => Verdict::Retry,
            (Error::Truncated { .. } | Error::Io { .. }, Reached::Begun) if !fresh => {
                Verdict::Retry
            }
            (Error::Rejected { rejection: Rejection::CantMpxConn, .. }, _) if shared => {
                Verdict::RetryAlone
            }
            _ => return Verdict::Fail(error),
        };
        if self.tries >= TRIES || !self.bodies.can_be_taken() {
            return Verdict::Fail(error);
        }
        if reached != Reached::Nothing {
            observe::pool(PoolEvent::Retried);
        }
        verdict
    }
}
