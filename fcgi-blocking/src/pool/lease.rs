//! One caller's turn: first in the queue, then with a connection, until it gives that back.

use std::{sync::Arc, thread, time::Instant};

use fcgi_engine::{
    client::Settings,
    observe,
    pool::{self, Open, Sending},
};
use fcgi_proto::Values;

use super::{
    drain::{Drain, Drains},
    threads::{Desk, Place, Threads},
};
use crate::{
    Error,
    client::{
        Body, CancelHandle, Chunk, Patience, dial,
        exchange::Exchange,
        link::{Link, Session, wait_failed},
        mux::Mux,
        query,
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
        let wait = |who: &mut Option<_>| *who = Some(thread::current());
        patience.wait(&name, || self.inner.poll_ready(only_fresh, wait))?
    }

    /// Asks the application for its capacity, on a connection that carries nothing else.
    pub(super) fn ask(&mut self, patience: &Patience<'_>) -> Result<Values, Error> {
        self.granted(true, patience)?;
        let values = self.query(patience)?;
        self.inner.desk().end_discovery(Some(values));
        Ok(values)
    }

    fn open(&mut self, patience: &Patience<'_>) -> Result<(), Error> {
        let name = self.inner.desk().name();
        let place = loop {
            let wait = |who: &mut Option<_>| *who = Some(thread::current());
            match patience.wait(&name, || self.inner.poll_open(wait))?? {
                Open::Ask(asking) => asking.answer(self.query(patience))?,
                Open::Own => {
                    break Place::Own(Box::new(self.connect(Session::new, patience)?));
                }
                Open::Shared(requests) => {
                    let shared = |name, settings| Session::shared(name, settings, requests);
                    let mux = Mux::new(self.connect(shared, patience)?);
                    break Place::Shared(mux.map_err(|error| wait_failed(&name, error))?);
                }
            }
        };
        self.inner.connected(place);
        Ok(())
    }

    fn query(&self, patience: &Patience<'_>) -> Result<Values, Error> {
        query(&mut self.connect(Session::new, patience)?, patience)
    }

    /// Opens a connection.
    fn connect(
        &self,
        session: impl FnOnce(Arc<str>, Settings) -> Session,
        patience: &Patience<'_>,
    ) -> Result<Link, Error> {
        let (desk, name) = (self.inner.desk(), self.inner.desk().name());
        let mut settings = desk.adapter().connector.settings;
        let limit = patience.within(settings.connect);
        let (stream, waker) =
            dial(desk.address(), &name, limit, patience.cancel).map_err(|error| {
                patience.check(&name).err().unwrap_or_else(|| observe::logged(error))
            })?;
        settings.values = patience.within(Some(settings.values)).unwrap_or(settings.values);
        Ok(Link::new(stream, session(name, settings), waker))
    }

    /// Begins a request on the connection. It takes the bodies only on success.
    pub(super) fn begin(
        &mut self,
        sending: &mut Sending<Body>,
        started: Instant,
        cancel: Option<&CancelHandle>,
    ) -> Result<Exchange, Error> {
        let core = self.inner.begin(sending, started, Instant::now)?;
        Ok(Exchange::new(core, sending.bodies(), cancel.cloned()))
    }

    /// Drives the request.
    pub(super) fn chunk(&mut self, exchange: &mut Exchange) -> Result<Option<Chunk>, Error> {
        match self.inner.place() {
            Some(Place::Own(link)) => exchange.next_chunk(link),
            Some(Place::Shared(mux)) => mux.chunk(exchange),
            None => Ok(None),
        }
    }

    /// Called when the request has ended, or to abort it. Gives the connection back if it can carry
    /// another request; after an abort, once the request has ended.
    pub(super) fn finish(mut self, exchange: &mut Exchange) {
        match self.inner.leave(&mut exchange.core) {
            Some(reusable) => self.inner.finish(reusable),
            None => Drain::new(self.inner).into_iter().for_each(|drain| self.drains.push(drain)),
        }
    }
}
