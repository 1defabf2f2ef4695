//! One caller's turn: first in the queue, then with a connection, until it gives that back.

use std::{sync::Arc, thread, time::Instant};

use fcgi_engine::pool::{self, Sending};
use fcgi_proto::Values;

use super::{
    drain::{Drain, Drains},
    threads::{Desk, Place, Threads},
};
use crate::{
    Error,
    client::{
        Body, CancelHandle, Chunk, Patience, exchange::Exchange, link::Link, link::wait_failed,
        mux::Mux, query,
    },
};

/// A place in the queue or a connection. Dropping it gives either of them back.
#[derive(Debug)]
pub(super) struct Lease {
    pub(super) inner: pool::Lease<Threads>,
    drains: Arc<Drains>,
}

impl Lease {
    /// Joins the queue.
    pub(super) fn acquire(desk: &Arc<Desk>, drains: &Arc<Drains>) -> Result<Self, Error> {
        Ok(Self { inner: pool::Lease::acquire(desk)?, drains: Arc::clone(drains) })
    }

    /// Waits for a connection, and opens it if it must be opened.
    pub(super) fn ready(&mut self, patience: &Patience<'_>) -> Result<(), Error> {
        if self.granted(false, patience)? { self.open(patience) } else { Ok(()) }
    }

    fn granted(&mut self, only_fresh: bool, patience: &Patience<'_>) -> Result<bool, Error> {
        let name = self.inner.desk().name();
        patience.wait(&name, || {
            if self.inner.deadline().is_some_and(|end| Instant::now() >= end) {
                // The policy decides whether the time is up, or a connection has just become free.
                self.inner.handle_time();
            }
            let granted = self.inner.poll_ready(only_fresh, |who| *who = Some(thread::current()));
            (granted, self.inner.deadline())
        })?
    }

    /// Asks the application for its capacity, on a connection that carries nothing else.
    pub(super) fn ask(&mut self, patience: &Patience<'_>) -> Result<Values, Error> {
        self.granted(true, patience)?;
        let values = query(&mut self.connect(1, patience)?, patience.cancel)?;
        self.inner.desk().end_discovery(Some(values));
        Ok(values)
    }

    fn open(&mut self, patience: &Patience<'_>) -> Result<(), Error> {
        let name = self.inner.desk().name();
        let asking = patience.wait(&name, || {
            (self.inner.poll_discovery(|who| *who = Some(thread::current())), None)
        })??;
        if let Some(asking) = asking {
            let asked = self.connect(1, patience);
            let asked = asked.and_then(|mut link| query(&mut link, patience.cancel));
            // If this caller's limit or handle ended the query, that is not an answer.
            patience.check(&name)?;
            match asked {
                Ok(values) => asking.answer(values),
                Err(error) => {
                    asking.fail(&error);
                    return Err(error);
                }
            }
        }
        let requests = self.inner.desk().requests_per_connection();
        let link = self.connect(requests, patience)?;
        self.inner.connected(if requests == 1 {
            Place::Own(Box::new(link))
        } else {
            Place::Shared(Mux::new(link).map_err(|error| wait_failed(&name, error))?)
        });
        Ok(())
    }

    /// Opens a connection for this many requests at once.
    fn connect(&self, requests: usize, patience: &Patience<'_>) -> Result<Link, Error> {
        let (desk, name) = (self.inner.desk(), self.inner.desk().name());
        let mut connector = desk.adapter().connector.clone();
        if requests > 1 {
            connector.settings.limits.requests = requests;
        }
        let link = {
            let mut hurried = connector.clone();
            hurried.settings.connect = patience.within(connector.settings.connect);
            hurried.link(desk.address(), &name, patience.cancel)
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

    /// Begins a request on the connection. It takes the bodies only on success.
    pub(super) fn begin(
        &mut self,
        sending: &mut Sending<Body>,
        started: Instant,
        cancel: Option<&CancelHandle>,
    ) -> Result<Exchange, Error> {
        let cancel = cancel.cloned();
        let (begin, bodies) = self.inner.start(sending);
        let exchange = match self.inner.place() {
            Some(Place::Own(link)) => {
                Exchange::begin(link, begin, || bodies.take(), started, cancel)
            }
            Some(Place::Shared(mux)) => mux.begin(begin, || bodies.take(), started, cancel),
            None => Err(Error::Closed { address: self.inner.desk().name() }),
        }?;
        self.inner.begun(exchange.core.key());
        Ok(exchange)
    }

    /// Drives the request.
    pub(super) fn chunk(&mut self, exchange: &mut Exchange) -> Result<Option<Chunk>, Error> {
        match self.inner.place() {
            Some(Place::Own(link)) => exchange.chunk(link),
            Some(Place::Shared(mux)) => mux.chunk(exchange),
            None => Ok(None),
        }
    }

    /// Called when the request has ended, or to abort it. Gives the connection back if it can carry
    /// another request; after an abort, once the request has ended.
    pub(super) fn finish(mut self, exchange: &mut Exchange) {
        let (reusable, drained) = match self.inner.place() {
            Some(Place::Own(link)) => {
                exchange.abort(link);
                link.session.forget(exchange.core.key());
                (link.is_reusable(), link.session.settled().is_none())
            }
            Some(Place::Shared(mux)) => {
                let drained = mux.abort(exchange);
                (mux.is_usable(), drained)
            }
            None => (false, false),
        };
        if exchange.core.outcome().is_some() || !drained {
            return self.inner.finish(reusable);
        }
        if let Some(drain) = Drain::new(self.inner) {
            self.drains.push(drain);
        }
    }
}
