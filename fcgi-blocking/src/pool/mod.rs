//! Many requests over few connections to one application.
//!
//! A connection costs the application something: php-fpm gives it a worker of its own for as long
//! as it is open (Q-5). A [`Pool`] never opens more of them than you allow, and hands them to its callers
//! in arrival order. By default each request has a connection of its own; with
//! [`Builder::keep_conn`] a connection is used again where that is safe: the request before has
//! ended, its STDIN was read to the end, and nothing is left in the buffers. What a pool decides is
//! [`fcgi_proto::pool`]'s and [`fcgi_engine::pool`]'s; this module opens, sends and waits.
//!
//! ```no_run
//! use fcgi_blocking as fcgi;
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let pool = fcgi::Pool::builder("/run/php-fpm.sock").max_connections(4).build()?;
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
//! Callers' threads do all the work, with two exceptions. While there are idle connections, one
//! thread, `fcgi-pool`, sleeps until the first of them is to be closed. While there are requests
//! that were given up and have not ended, one thread, `fcgi-drain`, waits for all of them.

mod drain;
mod lease;
mod response;
mod threads;

use std::{fmt, sync::Arc, time::Instant};

use fcgi_engine::pool::{Reached, Sending, Settings};
use fcgi_proto::Values;

pub use fcgi_proto::pool::PoolStats;
pub use response::Response;

use crate::{
    Address, Error,
    client::{CancelHandle, Connector, Patience, Request},
};
use drain::Drains;
use lease::Lease;
use threads::{Desk, Threads};

/// Settings of a [`Pool`], each with a default.
#[derive(Debug)]
pub struct Builder {
    address: Result<Address, Error>,
    connector: Connector,
    pool: Settings,
}

impl Builder {
    fcgi_engine::pool_setters!(Connector);

    /// The pool, which has no connection yet: none is opened ahead of a request (Q-5).
    ///
    /// # Errors
    /// [`Error::Address`] for a text that is no address.
    pub fn build(self) -> Result<Pool, Error> {
        let adapter = Threads { connector: self.connector };
        let desk = Arc::new(Desk::new(self.address?, adapter, self.pool));
        Ok(Pool { desk, drains: Arc::default() })
    }
}

/// Connections to one application, shared by all clones of this. Idle connections close when the
/// last clone is dropped.
#[derive(Clone)]
pub struct Pool {
    desk: Arc<Desk>,
    drains: Arc<Drains>,
}

impl Pool {
    /// Sends a request as soon as a connection is free, and waits for the first bytes of its
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
        let patience = Patience::new(started, self.desk.adapter().connector.settings.total, cancel);
        let mut sending = Sending::new(request, self.desk.settings());
        let mut lease = Lease::acquire(&self.desk, &self.drains)?;
        loop {
            lease.ready(&patience)?;
            match lease.begin(&mut sending, started, cancel) {
                Ok(exchange) => {
                    let mut response = Response::new(lease, exchange);
                    let Err(error) = response.first() else { return Ok(response) };
                    lease = response.again(&mut sending, error)?;
                }
                Err(error) => lease.inner.judge(&mut sending, error, Reached::Nothing)?,
            }
        }
    }

    /// What the application says of its capacity (FC-4.1-2): what is known, or else an answer to
    /// GET_VALUES, asked on a connection of its own and kept. All `None` for one that does not
    /// answer (Q-7, Q-9).
    ///
    /// # Errors
    /// As for [`Connector::query_values`]; those of [`send`](Self::send) that have to do with the
    /// wait for a connection.
    pub fn values(&self) -> Result<Values, Error> {
        if let Some(values) = self.desk.values() {
            return Ok(values);
        }
        // It counts among the connections while it is open.
        Lease::acquire(&self.desk, &self.drains)?.ask(&Patience::new(Instant::now(), None, None))
    }

    fcgi_engine::pool_methods!(desk, Builder);
}

impl fmt::Debug for Pool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.desk.fmt(f)
    }
}
