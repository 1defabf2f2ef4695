//! The methods of a client, and of a response in progress.

/// The methods that the responses of clients and pools have, for a type with `exchange`. An adapter
/// brings how it waits for a chunk, and the documentation of errors that only it has.
#[doc(hidden)]
#[macro_export]
macro_rules! response_methods {
    (
        [$($async:ident)?; $($wait:tt)*],
        chunk($response:ident) { $($chunk:tt)* }
        $(#[$errors:meta])*
    ) => {
        /// Waits for the next bytes. Returns `None` once the application has finished the request;
        /// [`app_status`](Self::app_status) is known then.
        ///
        /// # Errors
        /// [`Error::Rejected`](fcgi_engine::Error::Rejected),
        /// [`Error::Truncated`](fcgi_engine::Error::Truncated),
        /// [`Error::Protocol`](fcgi_engine::Error::Protocol),
        /// [`Error::Io`](fcgi_engine::Error::Io), [`Error::Body`](fcgi_engine::Error::Body),
        /// [`Error::Timeout`](fcgi_engine::Error::Timeout). Calls after an error return `None`.
        $(#[$errors])*
        $(#[doc = $crate::dropping!($async "Dropping the future loses nothing.")])?
        pub $($async)? fn chunk(
            &mut self,
        ) -> Result<Option<$crate::client::Chunk>, $crate::Error> {
            let $response = self;
            $($chunk)*
        }

        /// The application's status, if the response was read to its end.
        #[must_use]
        pub fn app_status(&self) -> Option<u32> {
            self.exchange()?.core.app_status()
        }

        /// Reads the whole response, of at most `limit` bytes of STDOUT and `limit` bytes of
        /// STDERR.
        ///
        /// # Errors
        /// Those of [`chunk`](Self::chunk), and [`Error::TooLarge`](fcgi_engine::Error::TooLarge).
        $(#[doc = $crate::dropping!($async "Dropping the future aborts the request.")])?
        pub $($async)? fn collect(
            mut self,
            limit: usize,
        ) -> Result<$crate::client::Collected, $crate::Error> {
            let mut collected = [$crate::Joined::new(limit), $crate::Joined::new(limit)];
            while let Some(chunk) = self.chunk()$($wait)*? {
                if let Some(exchange) = self.exchange() {
                    exchange.core.collect(&mut collected, chunk)?;
                }
            }
            Ok($crate::client::Collected::new(&mut collected, self.app_status()))
        }
    };
}

/// The methods of a client that are the same in every adapter, for a type with `place` and
/// `address`, whose connection has a `session`. An adapter brings how it sends a request.
#[doc(hidden)]
#[macro_export]
macro_rules! client_methods {
    (
        [$($async:ident)?; $($wait:tt)*], $response:ty,
        send($client:ident, $request:ident) { $($send:tt)* }
    ) => {
        /// Connects with the default settings; use a [`Connector`] for others.
        ///
        /// # Errors
        /// As for [`Connector::connect`].
        $(#[doc = $crate::dropping!(
            $async "Dropping the future closes the connection, if there is one yet."
        )])?
        pub $($async)? fn connect(
            address: impl TryInto<Address, Error: Into<Error>>,
        ) -> Result<Self, Error> {
            Connector::new().connect(address)$($wait)*
        }

        /// Sends a request and waits for the first bytes of its response, or its end. STDIN and
        /// DATA are still sent while the response is read.
        ///
        /// A response that was dropped early is drained first, for at most
        /// [`drain_timeout`](Connector::drain_timeout). A [detached](Response::detach) request is
        /// waited for, as long as the [`total_timeout`](Connector::total_timeout) of this one
        /// allows.
        ///
        /// # Errors
        /// [`Error::Closed`] when the connection can't be used again; errors of
        /// [`Response::chunk`].
        $(#[doc = $crate::dropping!(
            $async "Dropping the future aborts the request. None of its bytes reach a later one."
        )])?
        pub $($async)? fn send(&mut self, $request: Request) -> Result<$response, Error> {
            let $client = self;
            $($send)*
        }

        /// Whether another request can be sent, as far as is known: the application may close a
        /// kept connection at any time.
        #[must_use]
        pub fn is_reusable(&self) -> bool {
            self.place.is_reusable(|connection| connection.session.is_reusable())
        }

        /// The address of the application.
        #[must_use]
        pub fn address(&self) -> &Address {
            &self.address
        }
    };
}
