//! Many requests over few connections to one application.
//!
//! A connection costs the application resources: php-fpm reserves a worker for it as long as it is
//! open (Q-5). A [`Pool`] never opens more connections than you allow, and gives them to its
//! callers in the order in which they asked. By default each request gets a new connection. With
//! [`Builder::keep_conn`] a connection is used again when that is safe: the previous request has
//! ended, its STDIN was read to the end, and no bytes are left in the buffers. The decisions are
//! made by [`fcgi_proto::pool`] and [`fcgi_engine::pool`]; this module opens, sends and waits.
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
//! An application may close a kept connection at the moment when it is used again. If that happens
//! before the first byte of the response, the request is sent once more, on a new connection, if
//! its bodies are bytes in memory (Q-10). It is not sent again if a body is a reader, if it was
//! sent on a new connection, if it timed out, or after a protocol error.
//!
//! # Multiplexing
//! With [`Builder::multiplex`] the pool sends the application GET_VALUES, once, on a separate
//! connection. If the answer is FCGI_MPXS_CONNS=1, requests share connections. If the application
//! still refuses a request with CANT_MPX_CONN, it gets one request per connection from then on, and
//! the refused request is sent again.
//!
//! A shared connection has no thread. Of the callers that wait for their responses, one reads for
//! all. While nobody waits, nobody reads. If a response is not read, it blocks the others on its
//! connection once it has [`Limits::unread_request`](fcgi_proto::Limits::unread_request) bytes.
//!
//! # Threads
//! The callers' threads do all the work, with two exceptions. While there are idle connections, or
//! callers that wait for a connection, one thread, `fcgi-pool`, sleeps until the first of them must
//! be closed, or has waited too long. While there are aborted requests that have not ended, one
//! thread, `fcgi-drain`, waits for all of them.

mod drain;
mod lease;
mod response;
mod threads;

use std::{fmt, sync::Arc, time::Instant};

use fcgi_engine::pool::{Sending, Settings};
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

/// Settings for a [`Pool`], each with a default.
#[derive(Debug)]
pub struct Builder {
    address: Result<Address, Error>,
    connector: Connector,
    pool: Settings,
}

impl Builder {
    fcgi_engine::pool_setters!(Connector);

    /// Creates the pool. It has no connections yet: none is opened before a request needs it (Q-5).
    ///
    /// # Errors
    /// [`Error::Address`] if the text is not an address; [`Error::NotCallable`] if it is descriptor
    /// 0.
    pub fn build(self) -> Result<Pool, Error> {
        let adapter = Threads { connector: self.connector };
        let desk = Arc::new(Desk::new(self.address?, adapter, self.pool));
        Ok(Pool { desk, drains: Arc::default() })
    }
}

/// Connections to one application. All clones share them. Idle connections are closed when the last
/// clone is dropped.
#[derive(Clone)]
pub struct Pool {
    desk: Arc<Desk>,
    drains: Arc<Drains>,
}

impl Pool {
    /// Like [`send`](Self::send), but another thread can cancel it, from the wait for a connection
    /// to the end of the response.
    ///
    /// # Errors
    /// Those of [`send`](Self::send), and [`Error::Cancelled`].
    pub fn send_cancellable(
        &self,
        request: Request,
        cancel: &CancelHandle,
    ) -> Result<Response, Error> {
        self.try_send(request, Some(cancel))
    }

    fn try_send(&self, request: Request, cancel: Option<&CancelHandle>) -> Result<Response, Error> {
        let mut lease = Lease::acquire(&self.desk, &self.drains)?;
        if cancel.is_some() {
            CancelHandle::check(cancel, &self.desk.name())?;
        }
        let started = lease.inner.since();
        let patience = Patience::new(started, self.desk.adapter().connector.settings.total, cancel);
        let mut sending = Sending::new(request, self.desk.settings());
        fcgi_engine::pool_send!(
            [], lease, sending,
            ready: lease.ready(&patience),
            begin: lease.begin(&mut sending, started, cancel)
        )
    }

    fcgi_engine::pool_methods! {
        [;], desk, Builder, Response;
        send(pool, request) { pool.try_send(request, None) }
        ask(pool) {
            // It counts as a connection while it is open.
            let mut lease = Lease::acquire(&pool.desk, &pool.drains)?;
            lease.ask(&Patience::new(Instant::now(), None, None))
        }
    }
}

impl fmt::Debug for Pool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.desk.fmt(f)
    }
}
