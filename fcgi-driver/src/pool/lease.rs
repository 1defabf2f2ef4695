//! One caller's turn: first in the queue, then with a connection, until it gives that back.

use std::{
    future::poll_fn,
    sync::{Arc, Weak},
    task::{Context, Poll},
    time::Instant,
};

use fcgi_engine::pool::{self, Open, Sending};
use fcgi_proto::{RequestKey, Values, pool::ConnectionId};

use super::tasks::{Desk, Place, Tasks};
use crate::{
    Error,
    client::{Body, Chunk, Exchange, Mux},
    deadline::Deadline,
    runtime::{Runtime, spawn_or_warn},
    wakers::wait,
};

/// A place in the queue or a connection. Dropping it gives either of them back.
pub(super) struct Lease<R: Runtime> {
    pub(super) inner: pool::Lease<Tasks<R>>,
    /// For a request on a shared connection, which has no timers for its requests.
    deadline: Deadline<R>,
}

impl<R: Runtime> Lease<R> {
    /// Joins the queue.
    pub(super) fn acquire(desk: &Arc<Desk<R>>) -> Result<Self, Error> {
        let inner = pool::Lease::acquire(desk)?;
        Ok(Self { inner, deadline: Deadline::new() })
    }

    /// Waits for a connection, and opens it if it must be opened.
    pub(super) async fn ready(&mut self) -> Result<(), Error> {
        if self.granted(false).await? {
            // In a box, so that the future stays small: most callers share or reuse a connection.
            Box::pin(self.open()).await?;
        }
        Ok(())
    }

    async fn granted(&mut self, only_fresh: bool) -> Result<bool, Error> {
        poll_fn(|cx| {
            let mut _before = None;
            self.inner.poll_ready(only_fresh, |who| _before = wait(who, cx))
        })
        .await
    }

    /// Asks the application for its capacity, on a connection that carries nothing else.
    pub(super) async fn ask(&mut self) -> Result<Values, Error> {
        self.granted(true).await?;
        let desk = self.inner.desk();
        let values = desk.adapter().connector.query_values(desk.address()).await?;
        desk.end_discovery(Some(values));
        Ok(values)
    }

    async fn open(&mut self) -> Result<(), Error> {
        let desk = Arc::clone(self.inner.desk());
        let (connector, address) = (&desk.adapter().connector, desk.address());
        let requests = loop {
            let open = poll_fn(|cx| {
                let mut _before = None;
                self.inner.poll_open(|who| _before = wait(who, cx))
            });
            match open.await? {
                Open::Ask(asking) => asking.answer(connector.query_values(address).await)?,
                Open::Shared(requests) => break requests,
                Open::Own => {
                    let client = connector.open(address, desk.name()).await?;
                    self.inner.connected(Place::Own(Box::new(client)));
                    return Ok(());
                }
            }
        };
        let name = desk.name();
        let io = connector.dial(address, &name).await?;
        let (mux, task) = Mux::new(io, name, connector.settings(), requests);
        // Do this first, so that the pool knows the connection when it learns of its end.
        let connection = self.inner.connected(Place::Shared(mux));
        let ended = Ended { desk: Arc::downgrade(&desk), connection };
        let spawned = R::spawn(async move {
            task.await;
            drop(ended);
        });
        spawned.map_err(|source| Error::Connect { address: desk.name(), source })
    }

    /// Begins a request on the connection. It takes the bodies only on success.
    pub(super) fn begin(
        &mut self,
        sending: &mut Sending<Body>,
        started: Instant,
    ) -> Result<Exchange<R>, Error> {
        let core = self.inner.begin(sending, started, R::now)?;
        Ok(Exchange::new(core, sending.bodies()))
    }

    /// Drives the request.
    pub(super) fn poll_exchange(
        &mut self,
        cx: &mut Context<'_>,
        exchange: &mut Exchange<R>,
    ) -> Poll<Result<Option<Chunk>, Error>> {
        match self.inner.place() {
            Some(Place::Own(client)) => client.poll_chunk(cx, exchange),
            Some(Place::Shared(mux)) => mux.poll_exchange(cx, exchange, &mut self.deadline),
            None => Poll::Ready(Ok(None)),
        }
    }

    /// Called when the request has ended, or to abort it. Gives the connection back if it can carry
    /// another request; after an abort, once the request has ended.
    pub(super) fn finish(mut self, exchange: &mut Exchange<R>) {
        match self.inner.leave(&mut exchange.core) {
            Some(reusable) => self.inner.finish(reusable),
            None => {
                let address = self.inner.desk().name();
                // If there is no task for it, the connection is closed.
                spawn_or_warn::<R>(&address, self.drain(exchange.core.key()));
            }
        }
    }

    async fn drain(mut self, key: RequestKey) {
        let limit = self.inner.desk().adapter().connector.settings().drain;
        let drained = match self.inner.place() {
            Some(Place::Own(client)) => client.settle(None).await.is_ok(),
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
        self.inner.finish(drained);
    }
}

/// Tells the pool that a shared connection has ended, even if no runtime runs its task.
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
