//! A pool, without sockets, threads or tasks: its settings, its [`Desk`], a caller's [`Lease`], and
//! what becomes of a request whose try failed ([`Sending`]).
//!
//! Which connection a caller gets, and when, is decided in [`fcgi_proto::pool`]. An adapter opens
//! connections, moves their bytes, and waits: it implements [`Pooled`].
//!
//! ```
//! use fcgi_engine::pool::Settings;
//!
//! let settings = Settings::new();
//! assert_eq!((settings.multiplex, settings.keep_conn), (1, false), "unless set otherwise");
//! ```

mod desk;
mod discovery;
mod lease;
mod sending;

pub use desk::{Desk, Place, Pooled};
pub use lease::{Asking, Lease};
pub use sending::{Bodies, Reached, Replay, Sending};

use fcgi_proto::pool::PoolLimits;

/// How many connections a pool has and how they are used.
#[derive(Clone, Copy, Debug)]
pub struct Settings {
    /// How many, for how long, and who may wait.
    pub limits: PoolLimits,
    /// Requests at once on one connection, if the application multiplexes. Default 1.
    pub multiplex: usize,
    /// Whether a connection that is not shared is kept for other requests. Default false.
    pub keep_conn: bool,
}

impl Settings {
    /// The defaults.
    #[must_use]
    pub const fn new() -> Self {
        Self { limits: PoolLimits::new(), multiplex: 1, keep_conn: false }
    }
}

impl Default for Settings {
    fn default() -> Self {
        Self::new()
    }
}

/// A pool's methods that are the same in every adapter. The desk is in the field of that name.
#[doc(hidden)]
#[macro_export]
macro_rules! pool_methods {
    ($desk:tt) => {
        /// How many connections and callers there are now.
        #[must_use]
        pub fn stats(&self) -> PoolStats {
            self.$desk.stats()
        }

        /// Takes no more requests: those that wait for a connection get
        /// [`Error::PoolClosed`](fcgi_engine::Error::PoolClosed), idle connections close now, the
        /// others with the request that they carry. Requests that are under way go on to their end,
        /// those that were [detached](Response::detach) too: [`stats`](Self::stats) says how many
        /// connections are still open.
        pub fn close(&self) {
            self.$desk.close();
        }

        /// Where the application is.
        #[must_use]
        pub fn address(&self) -> &Address {
            self.$desk.address()
        }
    };
}

/// The methods that set the [`Settings`] in `self.pool`, for an adapter's builder.
#[doc(hidden)]
#[macro_export]
macro_rules! pool_setters {
    () => {
        /// Whether a connection is kept after a request and used for others (FC-3.5-1). Default
        /// false: each request has a connection of its own, as with nginx, Caddy and HAProxy.
        ///
        /// Keeping saves a connect and an accept a request, some 50 µs. It is safe for
        /// applications that are done when they end a request, such as this library's servers and
        /// Go's. It is not for php-fpm in general: a script that goes on after
        /// `fastcgi_finish_request()` holds up the next request on its connection, and for ever
        /// one that it waits for itself (Q-16); a worker that leaves at `pm.max_requests` loses
        /// the request that is just sent to it (Q-17); and an idle connection takes up a worker
        /// (Q-5).
        ///
        /// A connection that several requests [share](Self::multiplex) is kept in any case.
        #[must_use]
        pub fn keep_conn(mut self, keep_conn: bool) -> Self {
            self.pool.keep_conn = keep_conn;
            self
        }

        /// Connections at once, being opened, in use or idle. More callers wait. Each takes a
        /// worker of php-fpm, so that more than its `pm.max_children` are of no use (Q-5).
        /// Default 8.
        #[must_use]
        pub fn max_connections(mut self, n: usize) -> Self {
            self.pool.limits.connections = n;
            self
        }

        /// Kept connections that may be idle at once. Default 8.
        #[must_use]
        pub fn max_idle(mut self, n: usize) -> Self {
            self.pool.limits.idle = n;
            self
        }

        /// How long a kept connection may be idle before it is closed. Default 1.5 s, less than the
        /// 2 s after which libfcgi closes (Q-10); an idle connection pins a worker of php-fpm
        /// (Q-5). Zero keeps none, `None` keeps it until the application closes.
        #[must_use]
        pub fn idle_timeout(mut self, limit: impl Into<Option<::std::time::Duration>>) -> Self {
            self.pool.limits.idle_timeout = limit.into().unwrap_or(::std::time::Duration::MAX);
            self
        }

        /// Requests that one kept connection carries before it is closed. Default no limit.
        #[must_use]
        pub fn max_requests_per_connection(mut self, n: impl Into<Option<u64>>) -> Self {
            self.pool.limits.requests_per_connection = n.into();
            self
        }

        /// How old a kept connection may be to get another request. Default 1 s: a pool that is
        /// always busy would keep its php-fpm workers to itself for ever, and whoever else connects
        /// waits for one to become free (Q-5).
        #[must_use]
        pub fn max_age(mut self, limit: impl Into<Option<::std::time::Duration>>) -> Self {
            self.pool.limits.age = limit.into();
            self
        }

        /// Callers that may wait for a connection; the next one gets
        /// [`Error::PoolFull`](fcgi_engine::Error::PoolFull). Default 1,024.
        #[must_use]
        pub fn max_waiting(mut self, n: usize) -> Self {
            self.pool.limits.waiting = n;
            self
        }

        /// How long a caller waits for a connection. Default 10 s.
        #[must_use]
        pub fn wait_timeout(mut self, limit: impl Into<Option<::std::time::Duration>>) -> Self {
            self.pool.limits.wait_timeout = limit.into();
            self
        }

        /// Lets as many requests share a connection if the application says that it multiplexes
        /// (FCGI_MPXS_CONNS=1), which it is asked on a connection of its own before the first
        /// request (Q-7). Default 1: no sharing, and no question.
        #[must_use]
        pub fn multiplex(mut self, requests: usize) -> Self {
            self.pool.multiplex = requests;
            self
        }
    };
}
