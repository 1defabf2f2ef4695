//! The methods of a response in progress.

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
