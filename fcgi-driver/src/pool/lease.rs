//! One caller's turn: in the queue, then with a connection, until that is given back.

use std::{
    future::poll_fn,
    sync::{Arc, Weak},
    task::{Context, Poll},
    time::Instant,
};

use fcgi_engine::pool::{self, Reached, Sending};
use fcgi_proto::{RequestKey, Values, pool::ConnectionId};

use super::tasks::{Desk, Place, Tasks};
use crate::{
    Error,
    client::{Body, Chunk, Exchange, Mux},
    deadline::Deadline,
    runtime::Runtime,
    wakers::wait,
};

/// A place in the queue or a connection. Dropping it gives up either.
#[derive(Debug)]
pub(super) struct Lease<R: Runtime> {
    lease: pool::Lease<Tasks<R>>,
    /// Of a shared connection, which has no timer for each of its requests.
    deadline: Deadline<R>,
}

impl<R: Runtime> Lease<R> {
    /// Joins the queue.
    pub(super) fn acquire(desk: &Arc<Desk<R>>) -> Result<Self, Error> {
        let lease = pool::Lease::acquire(desk)?;
        Ok(Self { lease, deadline: Deadline::new() })
    }

    /// Waits for a connection, and opens it if it is to be opened.
    pub(super) async fn ready(&mut self) -> Result<(), Error> {
        if self.granted(false).await? {
            // In a box: most callers share or reuse one, and need not be as large.
            Box::pin(self.open()).await?;
        }
        Ok(())
    }

    async fn granted(&mut self, only_fresh: bool) -> Result<bool, Error> {
        poll_fn(|cx| self.lease.poll_ready(only_fresh, |who| wait(who, cx))).await
    }

    /// Asks the application for its capacity, on a connection that carries nothing else.
    pub(super) async fn ask(&mut self) -> Result<Values, Error> {
        self.granted(true).await?;
        let desk = self.lease.desk();
        let values = desk.adapter().connector.query_values(desk.address()).await?;
        desk.end_discovery(Some(values));
        Ok(values)
    }

    async fn open(&mut self) -> Result<(), Error> {
        let desk = Arc::clone(self.lease.desk());
        let (connector, address) = (&desk.adapter().connector, desk.address());
        if let Some(asking) = poll_fn(|cx| self.lease.poll_discovery(|who| wait(who, cx))).await {
            asking.answer(connector.query_values(address).await?);
        }
        let requests = desk.requests_per_connection();
        if requests == 1 {
            let client = connector.connect(address).await?;
            self.lease.connected(Place::Own(Box::new(client)));
            return Ok(());
        }
        let (io, name) = connector.dial(address).await?;
        let (mux, task) = Mux::new(io, name, connector.settings(), requests);
        // First, so that the pool knows of the connection when it hears of its end.
        let connection = self.lease.connected(Place::Shared(mux));
        let ended = Ended { desk: Arc::downgrade(&desk), connection };
        R::spawn(async move {
            task.await;
            drop(ended);
        });
        Ok(())
    }

    /// Begins a request on the connection. It takes the bodies only if it can.
    pub(super) fn begin(
        &mut self,
        sending: &mut Sending<Body>,
        started: Instant,
    ) -> Result<Exchange<R>, Error> {
        let (begin, bodies) = self.lease.start(sending);
        let exchange = match self.lease.place() {
            Some(Place::Own(client)) => client.begin(begin, bodies.take(), started),
            Some(Place::Shared(mux)) => mux.begin(begin, || bodies.take(), started),
            None => Err(Error::Closed { address: self.lease.desk().name() }),
        }?;
        self.lease.begun(exchange.key());
        Ok(exchange)
    }

    /// Moves its request on.
    pub(super) fn poll_exchange(
        &mut self,
        cx: &mut Context<'_>,
        exchange: &mut Exchange<R>,
    ) -> Poll<Result<Option<Chunk>, Error>> {
        match self.lease.place() {
            Some(Place::Own(client)) => client.poll_exchange(cx, exchange),
            Some(Place::Shared(mux)) => mux.poll_exchange(cx, exchange, &mut self.deadline),
            None => Poll::Ready(Ok(None)),
        }
    }

    /// Back into the queue, if the request that failed is sent again.
    pub(super) fn again(
        &mut self,
        sending: &mut Sending<Body>,
        error: Error,
        reached: Reached,
    ) -> Result<(), Error> {
        self.lease.judge(sending, error, reached)
    }

    /// The request is over: gives the connection back.
    pub(super) fn finish(mut self) {
        let reusable = match self.lease.place() {
            Some(Place::Own(client)) => client.is_reusable(),
            Some(Place::Shared(mux)) => mux.is_usable(),
            None => false,
        };
        self.lease.finish(reusable);
    }

    /// The request was given up: aborts it, and gives the connection back once that has ended, or
    /// gives up the connection too.
    pub(super) fn abandon(mut self) {
        let Some(key) = self.lease.key() else { return };
        match self.lease.place() {
            Some(Place::Own(client)) => {
                client.abort(key);
                if let Some(reusable) = client.settled() {
                    return self.lease.finish(reusable);
                }
            }
            Some(Place::Shared(mux)) => mux.abort(key),
            None => {}
        }
        R::spawn(self.drain(key));
    }

    async fn drain(mut self, key: RequestKey) {
        let limit = self.lease.desk().adapter().connector.settings().drain;
        let drained = match self.lease.place() {
            Some(Place::Own(client)) => client.settle().await.is_ok(),
            Some(Place::Shared(mux)) => {
                let until = R::now().checked_add(limit);
                let deadline = &mut self.deadline;
                poll_fn(|cx| match mux.poll_ended(cx, key) {
                    Poll::Pending => deadline.poll(cx, until, R::now()).map(|()| false),
                    ended => ended,
                })
                .await
            }
            None => false,
        };
        self.lease.finish(drained);
    }
}

/// Tells the pool of a shared connection's end, also where no runtime runs its task.
struct Ended<R: Runtime> {
    desk: Weak<Desk<R>>,
    connection: Option<ConnectionId>,
}

impl<R: Runtime> Drop for Ended<R> {
    fn drop(&mut self) {
        if let (Some(connection), Some(desk)) = (self.connection, self.desk.upgrade()) {
            desk.handle_closed(connection);
        }
    }
}
