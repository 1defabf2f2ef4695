//! One request in progress, with its bodies.

use std::{
    fmt,
    marker::PhantomData,
    task::{Context, Poll},
};

use fcgi_engine::client;

use super::{Body, Chunk};
use crate::{Error, pump::MAX_ROUNDS, runtime::Runtime};

/// One request, from BEGIN_REQUEST until its response was read to its end or the request was
/// aborted.
pub(crate) struct Exchange<R: Runtime> {
    /// In a box, since a response is moved often.
    pub(crate) core: Box<client::Exchange>,
    /// Until they were sent.
    bodies: Option<Box<[Body; 2]>>,
    /// How many chunks of STDERR were handed out in a row, without waiting for any.
    errors: usize,
    runtime: PhantomData<fn() -> R>,
}

impl<R: Runtime> Exchange<R> {
    /// A request that was begun, and its bodies, if there are any.
    pub(crate) fn new(core: Box<client::Exchange>, bodies: Option<Box<[Body; 2]>>) -> Self {
        Self { core, bodies, errors: 0, runtime: PhantomData }
    }

    /// Gets the next piece of the body that is being sent; true if there is one. It runs the
    /// caller's code, so hold no lock.
    pub(super) fn fill(&mut self, cx: &mut Context<'_>) -> Result<bool, Error> {
        if !self.core.is_feeding() {
            self.bodies = None;
            return Ok(false);
        }
        let (Some(input), Some(bodies)) = (self.core.wants_body(), &mut self.bodies) else {
            return Ok(false);
        };
        let Poll::Ready(piece) = bodies[input as usize].poll_chunk(cx) else { return Ok(false) };
        self.core.handle_body(piece.transpose())?;
        Ok(true)
    }

    /// Polls for a chunk with `poll`, hands it out, and records the end.
    ///
    /// Most callers skip STDERR and poll again at once. So after many chunks of it in a row others
    /// get their turn: not every runtime's sockets see to that.
    pub(super) fn poll_chunk(
        &mut self,
        cx: &mut Context<'_>,
        poll: impl FnOnce(&mut Self, &mut Context<'_>) -> Poll<Result<Option<Chunk>, Error>>,
    ) -> Poll<Result<Option<Chunk>, Error>> {
        if let Some(chunk) = self.core.at_hand() {
            return Poll::Ready(Ok(chunk));
        }
        if self.errors >= MAX_ROUNDS {
            self.errors = 0;
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        let polled = match self.core.come_end() {
            Some(end) => Poll::Ready(end),
            None => poll(self, cx),
        };
        match &polled {
            Poll::Ready(Ok(Some(Chunk::Stderr(_)))) => self.errors += 1,
            _ => self.errors = 0,
        }
        polled.map(|polled| self.core.hand_out(polled, R::now))
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
