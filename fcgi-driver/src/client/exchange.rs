//! One request in progress, with its bodies.

use std::{
    fmt,
    marker::PhantomData,
    sync::Arc,
    task::{Context, Poll},
};

use fcgi_engine::{client, pool::Reached};
use fcgi_proto::{BeginRequest, RequestKey, client::Outcome};
use tracing::Span;

use super::{Body, Chunk};
use crate::{Error, runtime::Runtime};

/// One request, from BEGIN_REQUEST until its response was read to its end or the request was
/// aborted.
pub(crate) struct Exchange<R: Runtime> {
    pub(super) core: client::Exchange,
    bodies: [Body; 2],
    runtime: PhantomData<fn() -> R>,
}

impl<R: Runtime> Exchange<R> {
    pub(super) fn new(
        mut core: client::Exchange,
        begin: &BeginRequest,
        connection: &Span,
        bodies: [Body; 2],
    ) -> Self {
        core.begin_log(begin, connection, R::now);
        Self { core, bodies, runtime: PhantomData }
    }

    /// Called when the caller no longer waits for the request.
    pub(crate) fn detach(&mut self) {
        self.core.detach(R::now());
    }

    pub(crate) fn key(&self) -> RequestKey {
        self.core.key()
    }

    /// Whether the end, or an error, was handed out.
    pub(crate) fn is_over(&self) -> bool {
        self.core.is_over()
    }

    /// How far the request got.
    pub(crate) fn reached(&self) -> Reached {
        Reached::of(&self.core)
    }

    pub(crate) fn outcome(&self) -> Option<Outcome> {
        self.core.outcome()
    }

    pub(crate) fn app_status(&self) -> Option<u32> {
        self.core.app_status()
    }

    pub(crate) fn address(&self) -> Arc<str> {
        Arc::clone(self.core.address())
    }

    /// Gets the next piece of the body that is being sent. It runs the caller's code, so hold no
    /// lock.
    pub(super) fn fill(&mut self, cx: &mut Context<'_>) -> Result<(), Error> {
        if !self.core.is_feeding() {
            self.bodies = Default::default();
        }
        while let Some(input) = self.core.wants_body() {
            let Poll::Ready(piece) = self.bodies[input as usize].poll_chunk(cx) else { break };
            self.core.handle_body(piece.transpose())?;
        }
        Ok(())
    }

    /// Hands out a polled chunk, and records the end.
    pub(super) fn hand_out(
        &mut self,
        polled: Result<Option<Chunk>, Error>,
    ) -> Result<Option<Chunk>, Error> {
        self.core.hand_out(polled, R::now)
    }
}

impl<R: Runtime> fmt::Debug for Exchange<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.core.fmt(f)
    }
}

impl<R: Runtime> Drop for Exchange<R> {
    fn drop(&mut self) {
        self.core.give_up(R::now);
    }
}
