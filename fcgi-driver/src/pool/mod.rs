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
//! use fcgi_tokio as fcgi; // or any other adapter
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let pool = fcgi::Pool::builder("/run/php-fpm.sock").max_connections(4).build()?;
//! let request = fcgi::client::Request::responder()
//!     .param("SCRIPT_FILENAME", "/srv/index.php")
//!     .param("REQUEST_METHOD", "GET");
//! let answer = pool.send(request).await?.collect(1 << 20).await?;
//! println!("{}", String::from_utf8_lossy(&answer.stdout));
//! # Ok(())
//! # }
//! ```
//!
//! # Retries
//! An application may close a kept connection at the moment when it is used again. If that happens
//! before the first byte of the response, the request is sent once more, on a new connection, if
//! its bodies are bytes in memory (Q-10). It is not sent again if a body is a stream, if it was
//! sent on a new connection, if it timed out, or after a protocol error.
//!
//! # Multiplexing
//! With [`Builder::multiplex`] the pool sends the application GET_VALUES, once, on a separate
//! connection. If the answer is FCGI_MPXS_CONNS=1, requests share connections. If the application
//! still refuses a request with CANT_MPX_CONN, it gets one request per connection from then on, and
//! the refused request is sent again.

mod lease;
mod response;
mod tasks;

use std::{fmt, pin::pin, sync::Arc};

use fcgi_engine::pool::{Sending, Settings};
use fcgi_proto::Values;

pub use fcgi_proto::pool::PoolStats;

use crate::{
    Address, Error,
    client::{Connector, Request},
    deadline::within_total,
    runtime::Runtime,
};

use lease::Lease;
pub use response::Response;
use tasks::{Desk, Tasks};

/// Settings for a [`Pool`], each with a default.
#[derive(Debug)]
pub struct Builder<R: Runtime> {
    address: Result<Address, Error>,
    connector: Connector<R>,
    pool: Settings,
}

impl<R: Runtime> Builder<R> {
    fcgi_engine::pool_setters!(Connector<R>);

    /// Creates the pool. It has no connections yet: none is opened before a request needs it (Q-5).
    ///
    /// # Errors
    /// [`Error::Address`] if the text is not an address; [`Error::NotCallable`] if it is descriptor
    /// 0.
    pub fn build(self) -> Result<Pool<R>, Error> {
        let adapter = Tasks { connector: self.connector };
        Ok(Pool(Arc::new(Desk::new(self.address?, adapter, self.pool))))
    }
}

/// Connections to one application. All clones share them. Idle connections are closed when the last
/// clone is dropped.
#[derive(Clone)]
pub struct Pool<R: Runtime>(Arc<Desk<R>>);

impl<R: Runtime> Pool<R> {
    fcgi_engine::pool_methods! {
        [async; .await], 0, Builder<R>, Response<R>;
        send(pool, request) {
            let total = pool.0.adapter().connector.settings().total;
            let mut lease = Lease::acquire(&pool.0)?;
            let started = lease.inner.since();
            let mut sending = Sending::new(request, pool.0.settings());
            let name = || pool.0.name();
            fcgi_engine::pool_send!(
                [.await], lease, sending,
                ready: within_total::<R, _>(total, started, name, pin!(lease.ready())).await,
                begin: lease.begin(&mut sending, started)
            )
        }
        ask(pool) {
            // It counts as a connection while it is open.
            Lease::acquire(&pool.0)?.ask().await
        }
    }
}

impl<R: Runtime> fmt::Debug for Pool<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}
