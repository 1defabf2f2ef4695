//! One caller's turn: first in the queue, then with a connection, until it gives that back.

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

use super::{Desk, Place, Pooled, Reached, Sending, desk::Turn, sending::Verdict};
use crate::{
    Error, Phase,
    client::{Bodies, Carrier, Exchange, Replay},
};

/// A place in the queue, or a connection. Dropping it gives either up.
pub struct Lease<K: Pooled> {
    desk: Arc<Desk<K>>,
    ticket: Ticket,
    queued: Instant,
    place: Option<Place<K>>,
    /// There was an open connection at once. It was not asked yet whether it can carry a request.
    at_hand: bool,
    /// No time has passed since it joined the queue.
    at_once: bool,
    /// This caller had to open the connection.
    fresh: bool,
    stage: Stage,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Stage {
    /// Nothing was sent, whether in the queue or with a connection.
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
        let (ticket, queued, turn) = desk.acquire()?;
        let (desk, stage) = (Arc::clone(desk), Stage::Unused);
        let mut lease = Self {
            desk,
            ticket,
            queued,
            place: None,
            at_hand: false,
            at_once: false,
            fresh: false,
            stage,
        };
        match turn {
            Some(Turn::Open(place)) => {
                lease.place = Some(place);
                (lease.at_hand, lease.at_once) = (true, true);
            }
            Some(Turn::Gone) => lease.retry(),
            Some(Turn::Fresh) | None => {}
        }
        Ok(lease)
    }

    /// The pool.
    pub fn desk(&self) -> &Arc<Desk<K>> {
        &self.desk
    }

    /// When it joined the queue.
    pub fn since(&self) -> Instant {
        self.queued
    }

    /// Whether the caller has a connection that was open when it joined the queue, and that can
    /// carry a request. Otherwise it [waits](Self::poll_ready).
    pub fn is_ready(&mut self) -> bool {
        std::mem::take(&mut self.at_hand) && self.is_quiet()
    }

    /// Ready once the caller has a connection: with true if it must open it, which is always so if
    /// `only_fresh` is set. `wait` records whom to wake.
    /// # Errors
    /// [`Error::PoolClosed`], [`Error::Timeout`].
    pub fn poll_ready(
        &mut self,
        only_fresh: bool,
        mut wait: impl FnMut(&mut Option<K::Who>),
    ) -> Poll<Result<bool, Error>> {
        loop {
            if !std::mem::take(&mut self.at_hand) {
                match ready!(self.desk.poll_turn(self.ticket, &mut wait))? {
                    Turn::Fresh => {
                        self.fresh = true;
                        return Poll::Ready(Ok(true));
                    }
                    Turn::Open(place) => self.place = Some(place),
                    Turn::Gone => {}
                }
            }
            self.fresh = false;
            if only_fresh {
                self.retry();
            } else if self.is_quiet() {
                return Poll::Ready(Ok(false));
            }
        }
    }

    /// Whether the connection can carry a request. If not, the caller is back in the queue.
    fn is_quiet(&mut self) -> bool {
        let quiet = match &mut self.place {
            Some(Place::Own(own)) => own.is_quiet(),
            Some(Place::Shared(shared)) => shared.is_quiet(),
            None => false,
        };
        if !quiet {
            self.retry();
        }
        quiet
    }

    /// Ready once the caller may open its connection, or must first ask for the application's
    /// capacity, since that matters, is unknown, and nobody else asks.
    ///
    /// # Errors
    /// The error of the caller who asked.
    pub fn poll_open(
        &mut self,
        wait: impl FnOnce(&mut Option<K::Who>),
    ) -> Poll<Result<Open<K>, Error>> {
        if ready!(self.desk.poll_discovery(self.ticket, wait))? {
            return Poll::Ready(Ok(Open::Ask(Asking { desk: Some(Arc::clone(&self.desk)) })));
        }
        Poll::Ready(Ok(match self.desk.requests_per_connection() {
            1 => Open::Own,
            requests => Open::Shared(requests),
        }))
    }

    /// The caller has opened its connection.
    pub fn connected(&mut self, place: Place<K>) -> Option<ConnectionId> {
        self.desk.connected(self.ticket, self.place.insert(place))
    }

    /// The connection, once there is one.
    pub fn place(&mut self) -> Option<&mut Place<K>> {
        self.place.as_mut()
    }

    /// What the request's next attempt sends on the connection.
    pub fn start<'a, B: Replay>(
        &mut self,
        sending: &'a mut Sending<B>,
    ) -> (&'a BeginRequest, &'a mut Bodies<B>) {
        sending.start(self.fresh, self.is_shared())
    }

    /// Begins the request's next attempt on the connection; its time counts from `started`. Then
    /// take its [bodies](Sending::bodies).
    ///
    /// # Errors
    /// As for [`Carrier::begin`].
    pub fn begin<B: Replay>(
        &mut self,
        sending: &mut Sending<B>,
        started: Instant,
        clock: impl Fn() -> Instant,
    ) -> Result<Box<Exchange>, Error> {
        let now = if std::mem::take(&mut self.at_once) { self.queued } else { clock() };
        let times = [started, now];
        let (begin, bodies) = self.start(sending);
        let exchange = match &mut self.place {
            Some(Place::Own(own)) => own.begin(begin, bodies, times, clock),
            Some(Place::Shared(shared)) => shared.begin(begin, bodies, times, clock),
            None => Err(Error::Closed { address: self.desk.name() }),
        }?;
        self.begun(exchange.key());
        Ok(exchange)
    }

    /// The request has ended, or is aborted. Whether the connection can carry another, for
    /// [`finish`](Self::finish); `None` if the end of the request must be waited for.
    pub fn leave(&mut self, exchange: &mut Exchange) -> Option<bool> {
        match &mut self.place {
            Some(Place::Own(own)) => own.leave(exchange),
            Some(Place::Shared(shared)) => shared.leave(exchange),
            None => Some(false),
        }
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

    /// An attempt failed. If the request is sent again, the caller is back in the queue, before all
    /// callers that have had no connection yet.
    ///
    /// # Errors
    /// `error`, if the request is not sent again. The connection must still be given back then.
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
        self.at_once = false;
        self.forget();
        self.queued = self.desk.retry(self.ticket, self.place.take());
    }

    /// Gives the connection back after its request has ended.
    pub fn finish(mut self, reusable: bool) {
        self.end(if reusable { Release::Reusable } else { Release::Closed });
    }

    /// Makes a shared connection forget the request.
    fn forget(&mut self) {
        if let (Stage::Used(key), Some(Place::Shared(shared))) = (self.stage, &mut self.place) {
            shared.forget(key);
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
            // A connection that its request would have closed is not kept unused either.
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

/// What a caller does next that must open its connection.
#[derive(Debug)]
pub enum Open<K: Pooled> {
    /// Ask for the application's capacity, report it, and look again.
    Ask(Asking<K>),
    /// Open a connection for this request alone.
    Own,
    /// Open a connection that this many requests may share.
    Shared(usize),
}

/// The caller's duty to ask for the application's capacity. Dropping it without an answer passes
/// the duty to another caller.
pub struct Asking<K: Pooled> {
    /// `None` once it is done.
    desk: Option<Arc<Desk<K>>>,
}

impl<K: Pooled> Asking<K> {
    /// The application's answer. If it could not be asked, all who wait for the answer get the
    /// error, so that they do not fail one after the other. If the caller's own limit or handle
    /// ended the query, another caller asks.
    ///
    /// # Errors
    /// Why it could not be asked.
    pub fn answer(mut self, asked: Result<Values, Error>) -> Result<(), Error> {
        use Error::{Cancelled, Timeout};
        let own = matches!(asked, Err(Timeout { phase: Phase::Response, .. } | Cancelled { .. }));
        if let Some(desk) = self.desk.take_if(|_| !own) {
            match &asked {
                Ok(values) => desk.end_discovery(Some(*values)),
                Err(error) => desk.fail_discovery(error),
            }
        }
        asked.map(drop)
    }
}

impl<K: Pooled> Drop for Asking<K> {
    fn drop(&mut self) {
        if let Some(desk) = &self.desk {
            desk.end_discovery(None);
        }
    }
}

impl<K: Pooled> fmt::Debug for Asking<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Asking").finish_non_exhaustive()
    }
}
