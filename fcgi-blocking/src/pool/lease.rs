//! One caller's turn: in the queue, then with a connection, until that is given back.

use std::{sync::Arc, thread, time::Instant};

use fcgi_engine::pool::{self, Reached, Sending};
use fcgi_proto::{Connection, Values};

use super::{
    patience::Patience,
    threads::{Desk, Place, Threads},
};
use crate::{
    Error,
    client::{
        Body, CancelHandle, Chunk, exchange::Exchange, link::Link, link::wait_failed, mux::Mux,
        query,
    },
};

/// A place in the queue or a connection. Dropping it gives up either.
#[derive(Debug)]
pub(super) struct Lease(pool::Lease<Threads>);

impl Lease {
    /// Joins the queue.
    pub(super) fn acquire(desk: &Arc<Desk>) -> Result<Self, Error> {
        Ok(Self(pool::Lease::acquire(desk)?))
    }

    /// Waits for a connection, and opens it if it is to be opened.
    pub(super) fn ready(&mut self, patience: &Patience<'_>) -> Result<(), Error> {
        if self.granted(false, patience)? { self.open(patience) } else { Ok(()) }
    }

    fn granted(&mut self, only_fresh: bool, patience: &Patience<'_>) -> Result<bool, Error> {
        let name = self.0.desk().name();
        patience.wait(&name, || {
            if self.0.deadline().is_some_and(|end| Instant::now() >= end) {
                // The policy says whether the time is up, or there is a connection just now.
                self.0.handle_time();
            }
            let granted = self.0.poll_ready(only_fresh, |who| *who = Some(thread::current()));
            (granted, self.0.deadline())
        })?
    }

    /// Asks the application for its capacity, on a connection that carries nothing else.
    pub(super) fn ask(&mut self, patience: &Patience<'_>) -> Result<Values, Error> {
        self.granted(true, patience)?;
        let values = query(&mut self.connect(1, patience)?, patience.cancel)?;
        self.0.desk().end_discovery(Some(values));
        Ok(values)
    }

    fn open(&mut self, patience: &Patience<'_>) -> Result<(), Error> {
        let name = self.0.desk().name();
        let asking = patience
            .wait(&name, || (self.0.poll_discovery(|who| *who = Some(thread::current())), None))?;
        if let Some(asking) = asking {
            let values = query(&mut self.connect(1, patience)?, patience.cancel)?;
            // A limit that cut the question short is no answer.
            patience.check(&name)?;
            asking.answer(values);
        }
        let requests = self.0.desk().requests_per_connection();
        let link = self.connect(requests, patience)?;
        self.0.connected(if requests == 1 {
            Place::Own(Box::new(link))
        } else {
            Place::Shared(Mux::new(link).map_err(|error| wait_failed(&name, error))?)
        });
        Ok(())
    }

    /// Opens a connection for as many requests at once.
    fn connect(&self, requests: usize, patience: &Patience<'_>) -> Result<Link, Error> {
        let (desk, name) = (self.0.desk(), self.0.desk().name());
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
                link.settings = connector.settings;
                let values = patience.within(Some(link.settings.values));
                link.settings.values = values.unwrap_or(link.settings.values);
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
        sending: &mut Sending<Body>,
        started: Instant,
        cancel: Option<&CancelHandle>,
    ) -> Result<Exchange, Error> {
        let cancel = cancel.cloned();
        let (begin, bodies) = self.0.start(sending);
        let exchange = match self.0.place() {
            Some(Place::Own(link)) => {
                Exchange::begin(link, begin, bodies.take(), started, cancel).map_err(Error::from)
            }
            Some(Place::Shared(mux)) if mux.is_usable() => {
                mux.begin(begin, bodies.take(), started, cancel)
            }
            _ => Err(Error::Closed { address: self.0.desk().name() }),
        }?;
        self.0.begun(exchange.key);
        Ok(exchange)
    }

    /// Moves its request on.
    pub(super) fn chunk(&mut self, exchange: &mut Exchange) -> Result<Option<Chunk>, Error> {
        match self.0.place() {
            Some(Place::Own(link)) => exchange.chunk(link),
            Some(Place::Shared(mux)) => mux.chunk(exchange),
            None => Ok(None),
        }
    }

    /// How many bytes have come over its connection.
    fn received(&mut self) -> u64 {
        match self.0.place() {
            Some(Place::Own(link)) => link.received,
            Some(Place::Shared(mux)) => mux.received(),
            None => 0,
        }
    }

    /// Back into the queue, if the request that failed is sent again.
    pub(super) fn again(
        &mut self,
        sending: &mut Sending<Body>,
        error: Error,
        exchange: Option<&Exchange>,
    ) -> Result<(), Error> {
        let reached = match exchange {
            None => Reached::Nothing,
            Some(exchange) if exchange.received == self.received() => Reached::Begun,
            Some(_) => Reached::Answered,
        };
        self.0.judge(sending, error, reached)
    }

    /// The request has ended, or is given up now: gives the connection back if it is fit for
    /// another one.
    pub(super) fn finish(mut self, exchange: &mut Exchange) {
        let reusable = match self.0.place() {
            Some(Place::Own(link)) => {
                exchange.abort(link);
                // The end may have come already; it is not waited for.
                if !link.is_reusable() {
                    link.read();
                    while let Ok(Some(_)) = link.connection.poll_event() {}
                }
                link.is_reusable()
            }
            Some(Place::Shared(mux)) => {
                mux.abort(exchange);
                mux.is_reusable()
            }
            None => false,
        };
        self.0.finish(reusable);
    }
}
