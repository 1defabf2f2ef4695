//! One caller's turn: in the queue, then with a connection, until that is given back.

use std::{
    fmt,
    sync::Arc,
    task::{Poll, ready},
    time::Instant,
};

use fcgi_proto::{
    BeginRequest, RequestKey, Values,
    pool::{ConnectionId, Release, Ticket},
};

use super::{Bodies, Desk, Place, Pooled, Reached, Replay, Sending, desk::Turn, sending::Verdict};
use crate::Error;

/// A place in the queue, or a connection. Dropping it gives up either.
pub struct Lease<K: Pooled> {
    desk: Arc<Desk<K>>,
    ticket: Ticket,
    queued: Instant,
    place: Option<Place<K>>,
    /// The connection was to be opened by this caller.
    fresh: bool,
    stage: Stage,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Stage {
    /// Nothing was sent: in the queue, or granted.
    Unused,
    /// This request was begun on the connection.
    Used(RequestKey),
    /// The connection was given back.
    Over,
}

impl<K: Pooled> Lease<K> {
    /// Joins the queue.
    ///
    /// # Errors
    /// [`Error::PoolFull`], [`Error::PoolClosed`].
    pub fn acquire(desk: &Arc<Desk<K>>) -> Result<Self, Error> {
        let (ticket, queued) = desk.acquire()?;
        let desk = Arc::clone(desk);
        Ok(Self { desk, ticket, queued, place: None, fresh: false, stage: Stage::Unused })
    }

    /// The pool.
    pub fn desk(&self) -> &Arc<Desk<K>> {
        &self.desk
    }

    /// When the wait for a connection ends.
    pub fn deadline(&self) -> Option<Instant> {
        // A limit that is too long to add never ends.
        self.queued.checked_add(self.desk.settings().limits.wait_timeout?)
    }

    /// The [deadline](Self::deadline) may have passed.
    pub fn handle_time(&self) {
        self.desk.handle_time();
    }

    /// Ready once the caller has a connection: with true if it is to open it, and always so where
    /// `only_fresh` is set. `wait` notes whom to wake.
    ///
    /// # Errors
    /// [`Error::PoolClosed`], [`Error::Timeout`].
    pub fn poll_ready(
        &mut self,
        only_fresh: bool,
        mut wait: impl FnMut(&mut Option<K::Who>),
    ) -> Poll<Result<bool, Error>> {
        loop {
            match ready!(self.desk.poll_turn(self.ticket, &mut wait))? {
                Turn::Fresh => {
                    self.fresh = true;
                    return Poll::Ready(Ok(true));
                }
                Turn::Open(mut place) => {
                    let fit = !only_fresh && self.desk.adapter().is_quiet(&mut place);
                    (self.place, self.fresh) = (Some(place), false);
                    if fit {
                        return Poll::Ready(Ok(false));
                    }
                    self.retry();
                }
                Turn::Gone => self.retry(),
            }
        }
    }

    /// Ready once the caller may open its connection: with the duty to ask for the application's
    /// capacity first, where that matters, is not known, and nobody else asks.
    ///
    /// # Errors
    /// What the caller met who asked.
    pub fn poll_discovery(
        &mut self,
        wait: impl FnOnce(&mut Option<K::Who>),
    ) -> Poll<Result<Option<Asking<K>>, Error>> {
        let asks = self.desk.poll_discovery(self.ticket, wait);
        let asking = || Asking { desk: Arc::clone(&self.desk), values: None, failed: false };
        asks.map(|asks| asks.map(|asks| asks.then(asking)))
    }

    /// The caller has opened its connection.
    pub fn connected(&mut self, place: Place<K>) -> Option<ConnectionId> {
        self.desk.connected(self.ticket, self.place.insert(place))
    }

    /// The connection, once there is one.
    pub fn place(&mut self) -> Option<&mut Place<K>> {
        self.place.as_mut()
    }

    /// What the request's next try sends on the connection.
    pub fn start<'a, B: Replay>(
        &mut self,
        sending: &'a mut Sending<B>,
    ) -> (&'a BeginRequest, &'a mut Bodies<B>) {
        sending.start(self.fresh, self.is_shared())
    }

    fn is_shared(&self) -> bool {
        matches!(self.place, Some(Place::Shared(_)))
    }

    /// A request was begun on the connection.
    pub fn begun(&mut self, key: RequestKey) {
        self.stage = Stage::Used(key);
    }

    /// The request that was begun on the connection.
    pub fn key(&self) -> Option<RequestKey> {
        match self.stage {
            Stage::Used(key) => Some(key),
            _ => None,
        }
    }

    /// A try failed. If the request is sent again, the caller is back in the queue, before all
    /// who have had no connection yet.
    ///
    /// # Errors
    /// `error`, if the request is not sent again; the connection is then still to be given back.
    pub fn judge<B: Replay>(
        &mut self,
        sending: &mut Sending<B>,
        error: Error,
        reached: Reached,
    ) -> Result<(), Error> {
        match sending.judge(error, self.fresh, self.is_shared(), reached) {
            Verdict::Retry => self.retry(),
            Verdict::RetryAlone => {
                self.forget();
                self.place = None;
                self.queued = self.desk.retry_alone(self.ticket);
            }
            Verdict::Fail(error) => return Err(error),
        }
        Ok(())
    }

    fn retry(&mut self) {
        self.forget();
        self.queued = self.desk.retry(self.ticket, self.place.take());
    }

    /// Gives the connection back, with its request over.
    pub fn finish(mut self, reusable: bool) {
        self.end(if reusable { Release::Reusable } else { Release::Closed });
    }

    /// A shared connection keeps nothing of the request.
    fn forget(&mut self) {
        if let (Stage::Used(key), Some(Place::Shared(shared))) = (self.stage, &self.place) {
            self.desk.adapter().forget(shared, key);
        }
        self.stage = Stage::Unused;
    }

    fn end(&mut self, how: Release) {
        self.forget();
        self.stage = Stage::Over;
        self.desk.release(self.ticket, self.place.take(), how);
    }
}

impl<K: Pooled> Drop for Lease<K> {
    fn drop(&mut self) {
        match (self.stage, &self.place) {
            (Stage::Over, _) => {}
            (Stage::Used(_), _) => self.end(Release::Closed),
            (Stage::Unused, None) => self.desk.cancel(self.ticket),
            // One that would have been closed after its request is not kept without one either.
            (Stage::Unused, Some(Place::Own(_))) if !self.desk.settings().keep_conn => {
                self.end(Release::Closed);
            }
            (Stage::Unused, Some(_)) => self.end(Release::Unused),
        }
    }
}

impl<K: Pooled> fmt::Debug for Lease<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Lease")
            .field("ticket", &self.ticket)
            .field("place", &self.place)
            .field("stage", &self.stage)
            .finish_non_exhaustive()
    }
}

/// The caller's duty to ask for the application's capacity. Dropping it without an answer hands
/// the question to another caller.
pub struct Asking<K: Pooled> {
    desk: Arc<Desk<K>>,
    values: Option<Values>,
    failed: bool,
}

impl<K: Pooled> Asking<K> {
    /// The application could not be asked: all who wait for the answer get this error, so that they
    /// do not ask in vain, one after the other.
    pub fn fail(mut self, error: &Error) {
        self.failed = true;
        self.desk.fail_discovery(error);
    }

    /// What the application said.
    pub fn answer(mut self, values: Values) {
        self.values = Some(values);
    }
}

impl<K: Pooled> Drop for Asking<K> {
    fn drop(&mut self) {
        if !self.failed {
            self.desk.end_discovery(self.values);
        }
    }
}

impl<K: Pooled> fmt::Debug for Asking<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Asking").finish_non_exhaustive()
    }
}
