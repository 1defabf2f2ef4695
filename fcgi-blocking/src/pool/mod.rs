//! Many requests over few connections to one application.
//!
//! A connection costs the application something: php-fpm gives it a worker of its own for as long
//! as it is open (Q-5). A [`Pool`] keeps no more of them than it is told, hands them to its callers
//! first come, first served, and uses one again only where that is safe: the request before has
//! ended, its STDIN was read to the end, and nothing is left in the buffers. What it decides is
//! [`fcgi_proto::pool`]'s; this module opens, sends and waits.
//!
//! ```no_run
//! use fcgi_blocking as fcgi;
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let pool = fcgi::Pool::builder("unix:/run/php-fpm.sock".parse()?).max_connections(4).build();
//! std::thread::scope(|scope| {
//!     for page in ["/srv/index.php", "/srv/list.php"] {
//!         let pool = &pool;
//!         scope.spawn(move || -> Result<(), fcgi::Error> {
//!             let request = fcgi::client::Request::responder()
//!                 .param("SCRIPT_FILENAME", page)
//!                 .param("REQUEST_METHOD", "GET");
//!             let answer = pool.send(request)?.collect(1 << 20)?;
//!             println!("{}", String::from_utf8_lossy(&answer.stdout));
//!             Ok(())
//!         });
//!     }
//! });
//! # Ok(())
//! # }
//! ```
//!
//! # Retries
//! An application may close a kept connection just when it is used again. A request that meets
//! this before the first byte of its answer is sent once more, on a fresh connection, if its bodies
//! are bytes at hand (Q-10). One whose body is a reader is not, nor one that was sent on a fresh
//! connection, timed out, or met a protocol error.
//!
//! # Multiplexing
//! With [`Builder::multiplex`] the application is asked with GET_VALUES, once, on a connection of
//! its own. If it says FCGI_MPXS_CONNS=1, requests share connections. One that refuses a request
//! with CANT_MPX_CONN all the same gets one request a connection from then on, and the refused
//! request is sent again.
//!
//! A shared connection has no thread of its own: of the callers that wait for their responses, one
//! reads for all. While nobody waits, nobody reads. A response that is not read holds up those that
//! share its connection once it has [`Limits::unread_request`](fcgi_proto::Limits::unread_request)
//! bytes.
//!
//! # Threads
//! Callers' threads do all the work. Only while there are idle connections, one thread,
//! `fcgi-pool`, sleeps until the first of them is to be closed.

mod lease;
mod policy;
mod response;

use std::{fmt, sync::Arc, time::Instant};

use fcgi_engine::{
    observe::{self, PoolEvent},
    pool::Settings,
};
use fcgi_proto::{Rejection, Values};

pub use fcgi_proto::pool::PoolStats;
pub use response::Response;

use crate::{
    Address, Error,
    client::{Body, CancelHandle, Connector, Request},
};
use lease::{Lease, Patience};
use policy::Inner;

/// Times that a request is sent at most: on a kept connection that turns out dead, on a shared one
/// that turns out not to be, and on a fresh one.
const TRIES: usize = 3;

/// Settings of a [`Pool`], each with a default.
#[derive(Debug)]
pub struct Builder {
    address: Address,
    connector: Connector,
    pool: Settings,
}

impl Builder {
    /// How to connect, and the time limits of each request.
    #[must_use]
    pub fn connector(mut self, connector: Connector) -> Self {
        self.connector = connector;
        self
    }

    fcgi_engine::pool_setters!();

    /// The pool, which has no connection yet: none is opened ahead of a request (Q-5).
    #[must_use]
    pub fn build(self) -> Pool {
        Pool(Arc::new(Inner::new(self.address, self.connector, self.pool)))
    }
}

/// Connections to one application, shared by all clones of this. Idle connections close when the
/// last clone is dropped.
#[derive(Clone)]
pub struct Pool(Arc<Inner>);

impl Pool {
    /// A pool with the default settings.
    #[must_use]
    pub fn new(address: Address) -> Self {
        Self::builder(address).build()
    }

    /// The settings of a pool, to be changed.
    #[must_use]
    pub fn builder(address: Address) -> Builder {
        Builder { address, connector: Connector::new(), pool: Settings::new() }
    }

    /// Sends a request as soon as a connection is to be had, and waits for the first bytes of its
    /// response, or its end. STDIN and DATA go on being sent while the response is read (Q-15).
    ///
    /// [`total_timeout`](Connector::total_timeout) counts from this call on.
    ///
    /// # Errors
    /// [`Error::PoolFull`], [`Error::PoolClosed`]; [`Error::Timeout`] with
    /// [`Phase::Acquire`](crate::Phase::Acquire) when no connection became free in time; those of
    /// [`Connector::connect`]; what [`Response::chunk`] can meet.
    pub fn send(&self, request: Request) -> Result<Response, Error> {
        self.try_send(request, None)
    }

    /// [`send`](Self::send) that another thread can end, from the wait for a connection to the end
    /// of the response.
    ///
    /// # Errors
    /// As for [`send`](Self::send); [`Error::Cancelled`].
    pub fn send_cancellable(
        &self,
        request: Request,
        cancel: &CancelHandle,
    ) -> Result<Response, Error> {
        self.try_send(request, Some(cancel))
    }

    fn try_send(&self, request: Request, cancel: Option<&CancelHandle>) -> Result<Response, Error> {
        let started = Instant::now();
        let patience = Patience::new(started, self.0.connector.settings.total, cancel);
        let (begin, bodies) = request.into_parts();
        let mut bodies = Bodies::new(bodies);
        let mut lease = Lease::acquire(&self.0)?;
        for tries in 1.. {
            let fresh = lease.ready(&patience)?;
            observe::pool(if fresh { PoolEvent::Opened } else { PoolEvent::Reused });
            let exchange = match lease.begin(&begin, &mut bodies, started, cancel) {
                Ok(exchange) => exchange,
                // A shared connection that just ended, be it by another caller: nothing was sent.
                Err(Error::Closed { .. }) if tries < TRIES => {
                    lease.retry();
                    continue;
                }
                Err(error) => return Err(error),
            };
            let mut response = Response::new(lease, exchange);
            let error = match response.first() {
                Ok(()) => return Ok(response),
                Err(error) => error,
            };
            let alone = match error {
                Error::Truncated { .. } | Error::Io { .. } if !fresh && response.is_untouched() => {
                    false
                }
                Error::Rejected { rejection: Rejection::CantMpxConn, .. }
                    if response.is_shared() =>
                {
                    true
                }
                error => return Err(error),
            };
            if tries >= TRIES || !bodies.restore() {
                return Err(error);
            }
            let Some(failed) = response.into_lease() else { return Err(error) };
            lease = failed;
            if alone {
                lease.retry_alone();
            } else {
                lease.retry();
            }
            observe::pool(PoolEvent::Retried);
        }
        Err(Error::Closed { address: self.0.name() })
    }

    /// What the application says of its capacity (FC-4.1-2): what is known, or else an answer to
    /// GET_VALUES, asked on a connection of its own and kept. All `None` for one that does not
    /// answer (Q-7, Q-9).
    ///
    /// # Errors
    /// As for [`Connector::query_values`]; those of [`send`](Self::send) that have to do with the
    /// wait for a connection.
    pub fn values(&self) -> Result<Values, Error> {
        if let Some(values) = self.0.known_values() {
            return Ok(values);
        }
        // It counts among the connections while it is open.
        Lease::acquire(&self.0)?.ask(&Patience::new(Instant::now(), None, None))
    }

    /// How many connections and callers there are now.
    #[must_use]
    pub fn stats(&self) -> PoolStats {
        self.0.stats()
    }

    /// Takes no more requests: those that wait for a connection get [`Error::PoolClosed`], idle
    /// connections close now, the others with the request that they carry.
    pub fn close(&self) {
        self.0.close();
    }

    /// Where the application is.
    #[must_use]
    pub fn address(&self) -> &Address {
        &self.0.address
    }
}

impl fmt::Debug for Pool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pool")
            .field("address", &self.0.address)
            .field("stats", &self.stats())
            .finish_non_exhaustive()
    }
}

/// STDIN and DATA, and the same once more where that can be.
struct Bodies {
    next: Option<[Body; 2]>,
    again: Option<[Body; 2]>,
}

impl Bodies {
    fn new(bodies: [Body; 2]) -> Self {
        Self { again: replay(&bodies), next: Some(bodies) }
    }

    fn take(&mut self) -> [Body; 2] {
        self.next.take().unwrap_or_default()
    }

    /// Makes them ready to be taken again; false if they can't be.
    fn restore(&mut self) -> bool {
        if self.next.is_none() {
            self.next = self.again.as_ref().and_then(replay);
        }
        self.next.is_some()
    }
}

fn replay([stdin, data]: &[Body; 2]) -> Option<[Body; 2]> {
    stdin.replay().zip(data.replay()).map(|(stdin, data)| [stdin, data])
}
