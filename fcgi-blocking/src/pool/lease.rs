//! One caller's turn: in the queue, then with a connection, until that is given back.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use fcgi_engine::observe::{self, Side};
use fcgi_proto::{
    BeginRequest, Values,
    pool::{Release, Ticket},
};

use super::{
    Bodies,
    policy::{Granted, Inner},
};
use crate::{
    Error, Phase,
    client::{
        CancelHandle, Chunk, exchange::Exchange, link::Link, link::wait_failed, mux::Mux, query,
    },
};

/// A connection, as one request sees it.
#[derive(Debug)]
pub(super) enum Place {
    /// It has the connection to itself.
    Own(Box<Link>),
    /// It shares the connection with others.
    Shared(Mux),
}

/// What ends a call before its time.
pub(super) struct Patience<'a> {
    pub(super) cancel: Option<&'a CancelHandle>,
    /// Until when the whole request may take, and how long that is.
    total: Option<(Instant, Duration)>,
}

impl<'a> Patience<'a> {
    pub(super) fn new(
        started: Instant,
        total: Option<Duration>,
        cancel: Option<&'a CancelHandle>,
    ) -> Self {
        // A limit that is too long to add never ends.
        let total = total.and_then(|limit| Some((started.checked_add(limit)?, limit)));
        Self { cancel, total }
    }

    /// The earlier of this time and the limit's end.
    pub(super) fn until(&self, until: Option<Instant>) -> Option<Instant> {
        let total = self.total.map(|(end, _)| end);
        until.into_iter().chain(total).min()
    }

    /// A limit that ends no later than the whole request's.
    fn within(&self, limit: Option<Duration>) -> Option<Duration> {
        let left = self.total.map(|(end, _)| end.saturating_duration_since(Instant::now()));
        limit.into_iter().chain(left).min()
    }

    pub(super) fn check(&self, address: &Arc<str>) -> Result<(), Error> {
        if self.cancel.is_some_and(CancelHandle::is_cancelled) {
            return Err(Error::Cancelled { address: Arc::clone(address) });
        }
        match self.total {
            Some((end, limit)) if Instant::now() >= end => {
                let (address, phase) = (Arc::clone(address), Phase::Response);
                observe::timed_out(Side::Client, phase, limit, &address);
                Err(Error::Timeout { address, phase, limit })
            }
            _ => Ok(()),
        }
    }
}

/// A place in the queue or a connection. Dropping it gives up either.
#[derive(Debug)]
pub(super) struct Lease {
    pool: Arc<Inner>,
    ticket: Ticket,
    /// When it joined the queue.
    queued: Duration,
    place: Option<Place>,
    stage: Stage,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Stage {
    /// Nothing was sent: in the queue, or granted.
    Unused,
    /// A request was begun on the connection.
    Used,
    /// The connection was given back.
    Over,
}

impl Lease {
    /// Joins the queue.
    pub(super) fn acquire(pool: &Arc<Inner>) -> Result<Self, Error> {
        let (ticket, queued) = pool.acquire()?;
        Ok(Self { pool: Arc::clone(pool), ticket, queued, place: None, stage: Stage::Unused })
    }

    /// Waits for a connection, and opens it if it is to be opened; says whether it was.
    pub(super) fn ready(&mut self, patience: &Patience<'_>) -> Result<bool, Error> {
        loop {
            match self.pool.granted(self.ticket, self.queued, patience)? {
                Granted::Fresh => {
                    self.open(patience)?;
                    return Ok(true);
                }
                Granted::Open(mut place) => {
                    let fit = match &mut place {
                        Place::Own(link) => link.is_quiet(),
                        Place::Shared(mux) => mux.is_quiet(),
                    };
                    self.place = Some(place);
                    if fit {
                        return Ok(false);
                    }
                    self.retry();
                }
                Granted::Gone => self.retry(),
            }
        }
    }

    /// Asks the application for its capacity, on the connection that it was granted.
    pub(super) fn ask(&mut self, patience: &Patience<'_>) -> Result<Values, Error> {
        match self.pool.granted(self.ticket, self.queued, patience)? {
            Granted::Fresh => {}
            open => {
                // Never on one that carries requests.
                if let Granted::Open(place) = open {
                    self.place = Some(place);
                }
                self.retry();
                self.pool.granted(self.ticket, self.queued, patience)?;
            }
        }
        let values = query(&mut self.connect(patience)?, patience.cancel)?;
        self.pool.end_discovery(Some(values));
        Ok(values)
    }

    fn open(&mut self, patience: &Patience<'_>) -> Result<(), Error> {
        if self.pool.begin_discovery() {
            let mut asking = Asking { pool: &self.pool, values: None };
            let values = query(&mut self.connect(patience)?, patience.cancel)?;
            // A limit that cut the question short is no answer.
            patience.check(&self.pool.name())?;
            asking.values = Some(values);
        }
        let link = self.connect(patience)?;
        let place = if self.pool.shares() {
            Place::Shared(Mux::new(link).map_err(|error| wait_failed(&self.pool.name(), error))?)
        } else {
            Place::Own(Box::new(link))
        };
        self.pool.connected(self.ticket, &place);
        self.place = Some(place);
        Ok(())
    }

    fn connect(&self, patience: &Patience<'_>) -> Result<Link, Error> {
        let (mut connector, name) = (self.pool.connector.clone(), self.pool.name());
        connector.settings.limits.requests = self.pool.requests_per_connection();
        let link = {
            let mut hurried = connector.clone();
            hurried.settings.connect = patience.within(connector.settings.connect);
            hurried.link(&self.pool.address, &name, patience.cancel)
        };
        match link {
            Ok(mut link) => {
                let settings = link.session.settings_mut();
                *settings = connector.settings;
                settings.values = patience.within(Some(settings.values)).unwrap_or(settings.values);
                Ok(link)
            }
            Err(Error::Timeout { address, phase, limit }) => {
                patience.check(&name)?;
                Err(Error::Timeout { address, phase, limit })
            }
            Err(error) => Err(error),
        }
    }

    /// Begins a request on the connection. It takes the bodies only if it can.
    pub(super) fn begin(
        &mut self,
        begin: &BeginRequest,
        bodies: &mut Bodies,
        started: Instant,
        cancel: Option<&CancelHandle>,
    ) -> Result<Exchange, Error> {
        let cancel = cancel.cloned();
        let begun = match &mut self.place {
            Some(Place::Own(link)) => link.begin(begin, bodies.take(), started, cancel),
            Some(Place::Shared(mux)) => {
                if mux.is_usable() {
                    mux.begin(begin, bodies.take(), started, cancel)
                } else {
                    Err(Error::Closed { address: self.pool.name() })
                }
            }
            None => Err(Error::Closed { address: self.pool.name() }),
        };
        if begun.is_ok() {
            self.stage = Stage::Used;
        }
        begun
    }

    /// Moves its request on.
    pub(super) fn chunk(&mut self, exchange: &mut Exchange) -> Result<Option<Chunk>, Error> {
        match &mut self.place {
            Some(Place::Own(link)) => exchange.chunk(link),
            Some(Place::Shared(mux)) => mux.chunk(exchange),
            None => Ok(None),
        }
    }

    pub(super) fn is_shared(&self) -> bool {
        matches!(self.place, Some(Place::Shared(_)))
    }

    /// The connection was dead: back into the queue, for a fresh one.
    pub(super) fn retry(&mut self) {
        self.stage = Stage::Unused;
        // Closed before another one may be opened in its place.
        self.place = None;
        self.queued = self.pool.retry(self.ticket);
    }

    /// The connection is not for several: back into the queue, for one of its own.
    pub(super) fn retry_alone(&mut self) {
        self.stage = Stage::Unused;
        self.place = None;
        self.queued = self.pool.retry_alone(self.ticket);
    }

    /// The request has ended, or is given up now: gives the connection back if it is fit for
    /// another one.
    pub(super) fn finish(mut self, exchange: &mut Exchange) {
        let reusable = match &mut self.place {
            Some(Place::Own(link)) => {
                link.abort(exchange);
                // The end may have come already; it is not waited for.
                if !link.is_reusable() {
                    link.read();
                    link.handle_events();
                }
                link.is_reusable()
            }
            Some(Place::Shared(mux)) => {
                mux.abort(exchange);
                mux.is_reusable()
            }
            None => false,
        };
        self.release(if reusable { Release::Reusable } else { Release::Closed });
    }

    fn release(&mut self, how: Release) {
        if self.stage != Stage::Over {
            self.stage = Stage::Over;
            self.pool.release(self.ticket, self.place.take(), how);
        }
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        match self.stage {
            Stage::Over => {}
            // A kept connection that was taken out and not used goes back.
            Stage::Unused if self.place.is_some() => self.release(Release::Unused),
            Stage::Unused => self.pool.cancel(self.ticket),
            Stage::Used => self.release(Release::Closed),
        }
    }
}

/// A question for the application's capacity, which somebody else may ask if this one fails.
struct Asking<'a> {
    pool: &'a Arc<Inner>,
    values: Option<Values>,
}

impl Drop for Asking<'_> {
    fn drop(&mut self) {
        self.pool.end_discovery(self.values);
    }
}
