//! The methods of an HTTP client, for adapters of both kinds. A method that waits is written for
//! both: an adapter passes `[async; .await]`, or `[;]` if its methods block.

/// The methods of an `HttpClient(Arc<Inner>)` that create its `HttpClientBuilder` or return where
/// it calls. Both have the fields `pool`, `settings` and `authorizer`.
#[doc(hidden)]
#[macro_export]
macro_rules! http_client_methods {
    ($pool:ty, $builder:ty) => {
        /// A client over this pool, with the default settings.
        pub fn new(pool: $pool, scripts: impl Scripts) -> Self {
            let settings = CallSettings::new(scripts);
            Self(Arc::new(Inner { pool, settings, authorizer: None }))
        }

        /// Settings for a client of the application at an [`Address`], or what converts into one,
        /// such as `/run/app.sock` or `host:9000`. The client has its own pool, with the default
        /// settings.
        pub fn builder(address: impl TryInto<Address, Error: Into<Error>>) -> $builder {
            Self::builder_of(Pool::new(address))
        }

        /// Settings for a client that uses this pool.
        pub fn with_pool(pool: $pool) -> $builder {
            Self::builder_of(Ok(pool))
        }

        fn builder_of(pool: Result<$pool, Error>) -> $builder {
            let (scripts, settings) = (ScriptsBuilder::default(), CallSettings::default());
            HttpClientBuilder { pool, scripts, settings, authorizer: None }
        }

        /// The pool that sends the requests.
        #[must_use]
        pub fn pool(&self) -> &$pool {
            &self.0.pool
        }

        /// The address of the application.
        #[must_use]
        pub fn address(&self) -> &Address {
            self.0.pool.address()
        }
    };
}

/// The calls of an `HttpClient`: for a type with the methods `call` and `check`. `body` is what a
/// request's body must implement, and the documentation is an example of `authorize`.
#[doc(hidden)]
#[macro_export]
macro_rules! http_client_calls {
    (
        [$($async:ident)?; $($wait:tt)*], response: $response:ty, authorized: $authorized:ty,
        body: [$($body:tt)*];
        $(#[$example:meta])*
    ) => {
        /// Sends a GET request for a path, such as `/articles?page=2`, or a whole URL, and waits
        /// for the head of the response.
        ///
        /// # Errors
        /// [`HttpError::Uri`] if the text is not a URL; otherwise those of [`send`](Self::send).
        $(#[doc = $crate::dropping!(
            $async "Dropping the future leaves the pool's queue, or aborts the request."
        )])?
        pub $($async)? fn get(
            &self,
            url: impl AsRef<str>,
        ) -> Result<::http::Response<$response>, HttpError> {
            self.send($crate::http::get(url.as_ref(), Body::empty())?)$($wait)*
        }

        /// Sends a request to a Responder, and waits for the head of its response.
        ///
        /// # Errors
        /// See [`HttpError`].
        $(#[doc = $crate::dropping!(
            $async "Dropping the future leaves the pool's queue, or aborts the request."
        )])?
        pub $($async)? fn send<B>(
            &self,
            request: ::http::Request<B>,
        ) -> Result<::http::Response<$response>, HttpError>
        where
            B: $($body)* + Send + 'static,
        {
            let (parts, body) = request.into_parts();
            let call = $crate::http::Call::responder(parts);
            self.call(call, Some(body), client::Body::empty())$($wait)*?.into_response()
        }

        /// Sends a request to a Filter, and waits for the head of its response. A local redirect is
        /// not followed, but returned with status 302.
        ///
        /// # Errors
        /// See [`HttpError`].
        $(#[doc = $crate::dropping!(
            $async "Dropping the future leaves the pool's queue, or aborts the request."
        )])?
        pub $($async)? fn filter<B>(
            &self,
            request: ::http::Request<B>,
            file: FilterFile,
        ) -> Result<::http::Response<$response>, HttpError>
        where
            B: $($body)* + Send + 'static,
        {
            let (parts, body) = request.into_parts();
            let call = $crate::http::Call::filter(parts, file.info);
            self.call(call, Some(body), file.data)$($wait)*?.into_response()
        }

        /// Asks the Authorizer that this client calls. It gets only the head of the request.
        ///
        $(#[$example])*
        ///
        /// # Errors
        /// See [`HttpError`]. An error does not allow the request: neither a bad answer does, nor
        /// an Authorizer that broke off or ended with a status other than 0.
        $(#[doc = $crate::dropping!($async "Dropping the future aborts the call.")])?
        pub $($async)? fn authorize<B>(
            &self,
            request: ::http::Request<B>,
        ) -> Result<$authorized, HttpError> {
            let (head, body) = request.into_parts();
            let answer = self.check(head.clone())$($wait)*;
            let request = ::http::Request::from_parts(head, body);
            Ok($crate::http::Authorized::new(request, answer?))
        }
    };
}

/// The steps of a [`Call`](crate::http::Call) in their order, for the client's `Inner`, the
/// request's body if there is one, and a Filter's file.
#[doc(hidden)]
#[macro_export]
macro_rules! http_call {
    ([$($wait:tt)*], $client:expr, $call:ident, $body:ident, $data:ident) => {{
        let settings = &$client.settings;
        loop {
            if let Some((authorizer, head)) = $call.start(settings, $client.authorizer.as_ref())? {
                let answer = authorizer.check(head)$($wait)*;
                if let Some(denied) = $call.handle_authorizer(answer)? {
                    return Ok(denied);
                }
            }
            let stdin = match $body.take() {
                Some(body) => {
                    let headers = &$call.parts().headers;
                    let prepared = prepare(headers, body, settings.unknown_length)$($wait)*;
                    Some(prepared?)
                }
                None => None,
            };
            let request = $call.request(settings, stdin, &mut $data)?;
            let mut response = $call.handle_sent($client.pool.send(request)$($wait)*)?;
            loop {
                let chunk = response.chunk()$($wait)*;
                let status = response.app_status();
                match $call.handle_chunk(settings, chunk, status, response.address())? {
                    None => {}
                    Some($crate::http::Received::Again) => break,
                    Some($crate::http::Received::Answered(answered)) => {
                        return Ok(answered.map(|body| ResponseBody::new(response, body)));
                    }
                }
            }
        }
    }};
}

/// Defines a Filter's file, over an adapter's `client::Body`.
#[doc(hidden)]
#[macro_export]
macro_rules! filter_file {
    () => {
        /// A file for a Filter: DATA, FCGI_DATA_LENGTH and FCGI_DATA_LAST_MOD.
        #[derive(Debug)]
        pub struct FilterFile {
            pub(super) data: client::Body,
            pub(super) info: $crate::http::FileInfo,
        }

        impl FilterFile {
            /// A file in memory.
            pub fn from_bytes(
                bytes: impl Into<::bytes::Bytes>,
                last_modified: ::std::time::SystemTime,
            ) -> Self {
                let bytes = bytes.into();
                let info = $crate::http::FileInfo::new(bytes.len() as u64, last_modified);
                Self { data: bytes.into(), info }
            }
        }
    };
}
