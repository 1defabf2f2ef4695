//! One caller's turn: in the queue, then with a connection, until that is given back.

use std::{
    future::poll_fn,
    sync::{Arc, Weak},
    task::{Context, Poll},
    time::Instant,
};

use fcgi_proto::{
    BeginRequest, RequestKey, Values,
    pool::{ConnectionId, Release, Ticket},
};

use super::{
    Bodies,
    policy::{Granted, Inner},
};
use crate::{
    Error,
    client::{Chunk, Client, Exchange, Mux},
    deadline::Deadline,
    runtime::Runtime,
};

/// A connection, as one request sees it.
#[derive(Debug)]
pub(super) enum Link<R: Runtime> {
    /// It has the connection to itself.
    Own(Box<Client<R>>),
    /// It shares the connection with others.
    Shared(Mux<R>),
}

/// A place in the queue or a connection. Dropping it gives up either.
#[derive(Debug)]
pub(super) struct Lease<R: Runtime> {
    pool: Arc<Inner<R>>,
    ticket: Ticket,
    link: Option<Link<R>>,
    /// Of a shared connection, which has no timer for each of its requests.
    deadline: Deadline<R>,
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

impl<R: Runtime> Lease<R> {
    /// Joins the queue.
    pub(super) fn acquire(pool: &Arc<Inner<R>>) -> Result<Self, Error> {
        Ok(Self {
            ticket: pool.acquire()?,
            pool: Arc::clone(pool),
            link: None,
            deadline: Deadline::new(),
            stage: Stage::Unused,
        })
    }

    /// Waits for a connection, and opens it if it is to be opened; says whether it was.
    pub(super) async fn ready(&mut self) -> Result<bool, Error> {
        loop {
            match self.granted().await? {
                Granted::Fresh => {
                    // In a box: most callers share or reuse one, and need not be as large.
                    Box::pin(self.open()).await?;
                    return Ok(true);
                }
                Granted::Open(link) => {
                    let fit = match &link {
                        Link::Own(client) => client.is_quiet(),
                        Link::Shared(mux) => mux.is_quiet(),
                    };
                    self.link = Some(link);
                    if fit {
                        return Ok(false);
                    }
                    self.retry();
                }
                Granted::Gone => self.retry(),
            }
        }
    }

    async fn granted(&mut self) -> Result<Granted<R>, Error> {
        poll_fn(|cx| self.pool.poll_granted(cx, self.ticket)).await
    }

    /// Asks the application for its capacity, on the connection that it was granted.
    pub(super) async fn ask(&mut self) -> Result<Values, Error> {
        match self.granted().await? {
            Granted::Fresh => {}
            open => {
                // Never on one that carries requests.
                if let Granted::Open(link) = open {
                    self.link = Some(link);
                }
                self.retry();
                self.granted().await?;
            }
        }
        let values = self.pool.connector.query_values(&self.pool.address).await?;
        self.pool.end_discovery(Some(values));
        Ok(values)
    }

    async fn open(&mut self) -> Result<(), Error> {
        let pool = Arc::clone(&self.pool);
        if poll_fn(|cx| pool.poll_discovery(cx)).await {
            let mut asking = Asking { pool: Arc::clone(&pool), values: None };
            asking.values = Some(pool.connector.query_values(&pool.address).await?);
        }
        let requests = pool.requests_per_connection();
        let link = if requests > 1 {
            let (io, name) = pool.connector.dial(&pool.address).await?;
            let (mux, task) = Mux::new(io, name, pool.connector.settings(), requests);
            let link = Link::Shared(mux);
            // First, so that the pool knows of the connection when it hears of its end.
            let connection = pool.connected(self.ticket, &link);
            let ended = Ended { pool: Arc::downgrade(&pool), connection };
            R::spawn(async move {
                task.await;
                drop(ended);
            });
            link
        } else {
            let link = Link::Own(Box::new(pool.connector.connect(&pool.address).await?));
            pool.connected(self.ticket, &link);
            link
        };
        self.link = Some(link);
        Ok(())
    }

    /// Begins a request on the connection. It takes the bodies only if it can.
    pub(super) fn begin(
        &mut self,
        begin: &mut BeginRequest,
        bodies: &mut Bodies,
        started: Instant,
    ) -> Result<Exchange<R>, Error> {
        // Without it the application would close the connection of the others too (FC-3.5-1).
        begin.keep_conn |= self.is_shared();
        let exchange = match &mut self.link {
            Some(Link::Own(client)) => client.begin(begin, bodies.take(), started),
            Some(Link::Shared(mux)) => mux.begin(begin, || bodies.take(), started),
            None => Err(Error::Closed { address: self.pool.name() }),
        }?;
        self.stage = Stage::Used(exchange.key());
        Ok(exchange)
    }

    /// Moves its request on.
    pub(super) fn poll_exchange(
        &mut self,
        cx: &mut Context<'_>,
        exchange: &mut Exchange<R>,
    ) -> Poll<Result<Option<Chunk>, Error>> {
        match &mut self.link {
            Some(Link::Own(client)) => client.poll_exchange(cx, exchange),
            Some(Link::Shared(mux)) => mux.poll_exchange(cx, exchange, &mut self.deadline),
            None => Poll::Ready(Ok(None)),
        }
    }

    pub(super) fn is_shared(&self) -> bool {
        matches!(self.link, Some(Link::Shared(_)))
    }

    /// The connection was dead: back into the queue, for a fresh one.
    pub(super) fn retry(&mut self) {
        self.forget();
        self.pool.retry(self.ticket, self.link.take());
    }

    /// The connection is not for several: back into the queue, for one of its own.
    pub(super) fn retry_alone(&mut self) {
        self.forget();
        self.link = None;
        self.pool.retry_alone(self.ticket);
    }

    /// The request is over: gives the connection back.
    pub(super) fn finish(mut self) {
        let reusable = match &self.link {
            Some(Link::Own(client)) => client.is_reusable(),
            Some(Link::Shared(mux)) => mux.is_usable(),
            None => false,
        };
        self.release(if reusable { Release::Reusable } else { Release::Closed });
    }

    /// The request was given up: aborts it, and gives the connection back once that has ended, or
    /// gives up the connection too.
    pub(super) fn abandon(mut self) {
        let Stage::Used(key) = self.stage else { return };
        match &mut self.link {
            Some(Link::Own(client)) => {
                client.abort(key);
                if client.is_reusable() {
                    return self.release(Release::Reusable);
                }
                if client.is_closed() {
                    return self.release(Release::Closed);
                }
            }
            Some(Link::Shared(mux)) => mux.abort(key),
            None => {}
        }
        R::spawn(self.drain(key));
    }

    async fn drain(mut self, key: RequestKey) {
        let drained = match &mut self.link {
            Some(Link::Own(client)) => client.settle().await.is_ok(),
            Some(Link::Shared(mux)) => {
                let until = R::now().checked_add(self.pool.connector.settings().drain);
                let deadline = &mut self.deadline;
                poll_fn(|cx| match mux.poll_ended(cx, key) {
                    Poll::Pending => deadline.poll(cx, until, R::now()).map(|()| false),
                    ended => ended,
                })
                .await
            }
            None => false,
        };
        self.release(if drained { Release::Reusable } else { Release::Closed });
    }

    /// A shared connection keeps nothing of the request.
    fn forget(&mut self) {
        if let (Stage::Used(key), Some(Link::Shared(mux))) = (self.stage, &self.link) {
            mux.forget(key);
        }
        self.stage = Stage::Unused;
    }

    fn release(&mut self, how: Release) {
        if self.stage != Stage::Over {
            self.forget();
            self.stage = Stage::Over;
            self.pool.release(self.ticket, self.link.take(), how);
        }
    }
}

impl<R: Runtime> Drop for Lease<R> {
    fn drop(&mut self) {
        match self.stage {
            Stage::Over => {}
            // A kept connection that was taken out and not used goes back.
            Stage::Unused if self.link.is_some() => self.release(Release::Unused),
            Stage::Unused => self.pool.cancel(self.ticket),
            Stage::Used(_) => self.release(Release::Closed),
        }
    }
}

/// Tells the pool of a shared connection's end, also where no runtime runs its task.
struct Ended<R: Runtime> {
    pool: Weak<Inner<R>>,
    connection: Option<ConnectionId>,
}

impl<R: Runtime> Drop for Ended<R> {
    fn drop(&mut self) {
        if let (Some(connection), Some(pool)) = (self.connection, self.pool.upgrade()) {
            pool.handle_closed(connection);
        }
    }
}

/// A question for the application's capacity, which somebody else may ask if this one fails.
struct Asking<R: Runtime> {
    pool: Arc<Inner<R>>,
    values: Option<Values>,
}

impl<R: Runtime> Drop for Asking<R> {
    fn drop(&mut self) {
        self.pool.end_discovery(self.values);
    }
}
