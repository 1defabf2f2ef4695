//! A pool, without sockets, threads or tasks: its settings, its [`Desk`], a caller's [`Lease`], and
//! whether a request is sent again after a failed attempt ([`Sending`]).
//!
//! [`fcgi_proto::pool`] decides which connection a caller gets, and when. An adapter opens
//! connections, moves their bytes, and waits: it implements [`Pooled`].
//!
//! ```
//! use fcgi_engine::pool::Settings;
//!
//! let settings = Settings::new();
//! assert_eq!((settings.multiplex, settings.keep_conn), (1, false), "unless set otherwise");
//! ```

mod counted;
mod desk;
mod discovery;
mod lease;
mod sending;

pub use desk::{Desk, Place, Pooled};
pub use lease::{Asking, Lease, Open};
pub use sending::{Reached, Sending};

use fcgi_proto::pool::PoolLimits;

/// How many connections a pool has, and how they are used.
#[derive(Clone, Copy, Debug)]
pub struct Settings {
    /// How many connections, for how long, and how many callers may wait.
    pub limits: PoolLimits,
    /// Concurrent requests on one connection, if the application multiplexes. Default 1.
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

/// The methods of a pool that are the same in every adapter. The desk is in the field `$desk`. An
/// adapter brings how it sends a request, and how a lease asks for the application's capacity.
#[doc(hidden)]
#[macro_export]
macro_rules! pool_methods {
    (
        [$($async:ident)?; $($wait:tt)*], $desk:tt, $builder:ty, $response:ty;
        send($pool:ident, $request:ident) { $($send:tt)* }
        ask($asking:ident) { $($ask:tt)* }
    ) => {
        /// A pool with the default settings, for the application at an [`Address`], or what
        /// converts into one, such as `/run/app.sock` or `host:9000`.
        ///
        /// # Errors
        /// [`Error::Address`] if the text is not an address; [`Error::NotCallable`] if it is
        /// descriptor 0.
        pub fn new(address: impl TryInto<Address, Error: Into<Error>>) -> Result<Self, Error> {
            Self::builder(address).build()
        }

        /// Settings for a pool.
        #[must_use]
        pub fn builder(address: impl TryInto<Address, Error: Into<Error>>) -> $builder {
            let address = address.try_into().map_err(Into::into).and_then(Address::callable);
            Builder { address, connector: Connector::new(), pool: Settings::new() }
        }

        /// Sends a request as soon as a connection is free, and waits for the first bytes of its
        /// response, or its end. STDIN and DATA are still sent while the response is read (Q-15).
        ///
        /// [`total_timeout`](Connector::total_timeout) counts from this call.
        ///
        /// # Errors
        /// [`Error::PoolFull`], [`Error::PoolClosed`]; [`Error::Timeout`] with
        /// [`Phase::Acquire`](crate::Phase::Acquire) if no connection became free in time; those of
        /// [`Connector::connect`] and [`Response::chunk`].
        $(#[doc = $crate::dropping!(
            $async "Dropping the future leaves the queue, or aborts the request. None of its bytes \
                    reach a later one (H-11)."
        )])?
        pub $($async)? fn send(&self, $request: Request) -> Result<$response, Error> {
            let $pool = self;
            $($send)*
        }

        /// The application's capacity (FC-4.1-2). If it is not known, the pool asks for it with
        /// GET_VALUES, on a separate connection, and keeps the answer. All fields are `None` if the
        /// application does not answer (Q-7, Q-9).
        ///
        /// # Errors
        /// Those of [`Connector::query_values`], and those errors of [`send`](Self::send) that
        /// concern the wait for a connection.
        $(#[doc = $crate::dropping!($async "Dropping the future closes the connection.")])?
        pub $($async)? fn values(&self) -> Result<Values, Error> {
            if let Some(values) = self.$desk.values() {
                return Ok(values);
            }
            let $asking = self;
            $($ask)*
        }

        /// How many connections and callers there are now.
        #[must_use]
        pub fn stats(&self) -> PoolStats {
            self.$desk.stats()
        }

        /// Accepts no more requests. Callers that wait for a connection get
        /// [`Error::PoolClosed`](fcgi_engine::Error::PoolClosed). Idle connections close now, and
        /// the others after their current request. Requests that have begun run to their end, even
        /// those that were [detached](Response::detach). [`stats`](Self::stats) says how many
        /// connections are still open.
        pub fn close(&self) {
            self.$desk.close();
        }

        /// The address of the application.
        #[must_use]
        pub fn address(&self) -> &Address {
            self.$desk.address()
        }
    };
}

/// The builder methods that set the [`Settings`] in `self.pool`, for an adapter's builder.
#[doc(hidden)]
#[macro_export]
macro_rules! pool_setters {
    ($connector:ty) => {
        $crate::setters! {
            /// How to connect, and the time limits of each request.
            connector(connector: $connector) { self.connector = connector }

            /// Whether to keep a connection after a request and use it for others (FC-3.5-1).
            /// Default false: each request has its own connection, as with nginx, Caddy and
            /// HAProxy.
            ///
            /// Keeping saves a connect and an accept per request, some 50 µs. It is safe for
            /// applications that are done when they end a request, such as this library's servers
            /// and Go's. In general it is not safe for php-fpm. A script that continues after
            /// `fastcgi_finish_request()` delays the next request on its connection, for ever if
            /// the script waits for that request (Q-16). A worker that exits at `pm.max_requests`
            /// loses the request that is just being sent to it (Q-17). And an idle connection
            /// occupies a worker (Q-5).
            ///
            /// A connection that several requests [share](Self::multiplex) is always kept.
            keep_conn(keep_conn: bool) { self.pool.keep_conn = keep_conn }

            /// How many connections there may be, whether opening, in use or idle. More callers
            /// wait. Each connection occupies a worker of php-fpm, so more than its
            /// `pm.max_children` do not help (Q-5). Default 8.
            max_connections(n: usize) { self.pool.limits.connections = n }

            /// The most kept connections that may be idle at once. Default 8.
            max_idle(n: usize) { self.pool.limits.idle = n }

            /// How long a kept connection may be idle before it is closed. Default 1.5 s, less than
            /// the 2 s after which libfcgi closes (Q-10). An idle connection also occupies a worker
            /// of php-fpm (Q-5). With zero no connection is kept; with `None` it is kept until the
            /// application closes it.
            idle_timeout(limit or MAX) { self.pool.limits.idle_timeout }

            /// How many requests a kept connection carries before it is closed. Default no limit.
            max_requests_per_connection(n: impl Into<Option<u64>>) {
                self.pool.limits.requests_per_connection = n.into()
            }

            /// The age up to which a kept connection gets another request. Default 1 s. Without
            /// this, a pool that is always busy would keep its php-fpm workers for ever, while
            /// other clients wait for a free one (Q-5).
            max_age(limit) { self.pool.limits.age }

            /// How many callers may wait for a connection; the next one gets
            /// [`Error::PoolFull`](fcgi_engine::Error::PoolFull). Default 1,024.
            max_waiting(n: usize) { self.pool.limits.waiting = n }

            /// How long a caller waits for a connection. Default 10 s.
            wait_timeout(limit) { self.pool.limits.wait_timeout }

            /// How many requests may share a connection, if the application reports that it
            /// multiplexes (FCGI_MPXS_CONNS=1). Before the first request the pool asks, on a
            /// separate connection (Q-7). Default 1: no sharing, and no query.
            multiplex(requests: usize) { self.pool.multiplex = requests }
        }
    };
}

/// Defines the `Response` of a pool, over the adapter's `Lease` and `Exchange`, with the order of
/// the steps in which a request is sent ([`pool_send`](crate::pool_send)). An adapter brings how it
/// waits for the next chunk, and its documentation.
#[doc(hidden)]
#[macro_export]
macro_rules! pool_response {
    (
        $(#[$meta:meta])*
        [$($async:ident)?; $($wait:tt)*], [$($generics:tt)*],
        $response:ty: $lease_type:ty, $exchange_type:ty;
        next($lease:ident, $exchange:ident) { $($next:tt)* }
        $(#[$errors:meta])*
    ) => {
        $(#[$meta])*
        #[must_use = "dropping a response aborts its request; `detach` lets it go on"]
        pub struct Response<$($generics)*> {
            /// `None` after the end of the response.
            lease: Option<$lease_type>,
            exchange: $exchange_type,
        }

        impl<$($generics)*> $response {
            pub(super) fn new(lease: $lease_type, exchange: $exchange_type) -> Self {
                Self { lease: Some(lease), exchange }
            }

            /// Waits for something to hand out. After an error the connection is kept, to try
            /// again.
            pub(super) $($async)? fn first(&mut self) -> Result<(), $crate::Error> {
                if let Some($lease) = &mut self.lease {
                    let $exchange = &mut self.exchange;
                    let first = { $($next)* }?;
                    self.exchange.core.hold(first);
                }
                self.finish_if_over();
                Ok(())
            }

            /// Queues the request that failed again, if it can be sent again.
            pub(super) fn again(
                mut self,
                sending: &mut $crate::pool::Sending<Body>,
                error: $crate::Error,
            ) -> Result<$lease_type, $crate::Error> {
                let Some(mut lease) = self.lease.take() else { return Err(error) };
                let reached = $crate::pool::Reached::of(&self.exchange.core);
                if let Err(error) = lease.inner.judge(sending, error, reached) {
                    self.lease = Some(lease);
                    return Err(error);
                }
                Ok(lease)
            }

            $crate::response_methods! {
                [$($async)?; $($wait)*],
                chunk(response) {
                    let Some($lease) = &mut response.lease else { return Ok(None) };
                    let $exchange = &mut response.exchange;
                    let chunk = { $($next)* };
                    response.finish_if_over();
                    chunk
                }
                $(#[$errors])*
            }

            /// The address of the application.
            #[cfg(feature = "http")]
            pub(crate) fn address(&self) -> ::std::sync::Arc<str> {
                ::std::sync::Arc::clone(self.exchange.core.address())
            }

            fn exchange(&self) -> Option<&$exchange_type> {
                Some(&self.exchange)
            }

            fn exchange_mut(&mut self) -> Option<&mut $exchange_type> {
                Some(&mut self.exchange)
            }

            /// Gives the connection back, or closes it, if the request has ended or failed.
            fn finish_if_over(&mut self) {
                if self.exchange.core.is_over() {
                    self.finish();
                }
            }

            fn finish(&mut self) {
                if let Some(lease) = self.lease.take() {
                    lease.finish(&mut self.exchange);
                }
            }
        }

        impl<$($generics)*> Drop for $response {
            fn drop(&mut self) {
                self.finish();
            }
        }
    };
}

/// Sends a request: again and again waits until a lease has a connection, as `ready` does, and
/// `begin`s the request there, until there is a response. It does not wait for a connection that was
/// open at once.
#[doc(hidden)]
#[macro_export]
macro_rules! pool_send {
    ([$($wait:tt)*], $lease:ident, $sending:ident, ready: $ready:expr, begin: $begin:expr) => {
        loop {
            if !$lease.inner.is_ready() {
                $ready?;
            }
            match $begin {
                Ok(exchange) => {
                    let mut response = Response::new($lease, exchange);
                    let Err(error) = response.first()$($wait)* else { return Ok(response) };
                    $lease = response.again(&mut $sending, error)?;
                }
                Err(error) => {
                    let nothing = $crate::pool::Reached::Nothing;
                    $lease.inner.judge(&mut $sending, error, nothing)?;
                }
            }
        }
    };
}
