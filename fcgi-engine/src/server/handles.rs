//! What a handler can do with its request, in adapters of both kinds.

use bytes::Bytes;

/// The most bytes that one read of a stream takes.
pub const CHUNK: usize = 64 * 1024;

/// A copy of bytes that a handler writes, piece by piece: a full queue then does not cost a large
/// copy.
pub fn pieces(bytes: &[u8]) -> impl Iterator<Item = Bytes> {
    bytes.chunks(CHUNK).map(Bytes::copy_from_slice)
}

/// The first of the [pieces].
#[must_use]
pub fn piece(bytes: &[u8]) -> Bytes {
    pieces(bytes).next().unwrap_or_default()
}

/// Defines an adapter's `Request`, the struct of its `InputStream`, and the methods of that and of its
/// `OutputStream` which both kinds of adapter have. The adapter brings the struct `OutputStream`, with
/// the same three fields, `Request::output`, how it waits for a chunk of an input and for a flush, and
/// `OutputStream::put(&mut self, bytes, how)`, which queues all of `bytes`. The documentation is that
/// of the `InputStream`.
#[doc(hidden)]
#[macro_export]
macro_rules! request_handles {
    (
        [$($async:ident)?; $($wait:tt)*], connection: $connection:ty,
        chunk($input:ident) { $($chunk:tt)* }
        flush($flushed:ident) { $($flush:tt)* }
        $(#[$input_meta:meta])*
    ) => {
        /// A request to answer. Its streams are separate handles, so that one can be read while
        /// another is written, by others too. Once the handler has returned they do nothing.
        #[derive(Debug)]
        pub struct Request {
            connection: ::std::sync::Arc<$connection>,
            key: ::fcgi_proto::RequestKey,
            role: ::fcgi_proto::Role,
            keep_conn: bool,
            params: ::fcgi_proto::Params,
            /// Whether the parameters are given back when the request is dropped.
            kept: bool,
        }

        /// This lets the log name the request of a handler that failed.
        impl Drop for Request {
            fn drop(&mut self) {
                if self.kept {
                    self.connection.keep_params(self.key, ::std::mem::take(&mut self.params));
                }
            }
        }

        impl Request {
            /// Creates a job's request, and its span.
            #[inline]
            pub(super) fn new(
                connection: ::std::sync::Arc<$connection>,
                job: $crate::server::Job,
            ) -> (Self, $crate::server::RequestSpan) {
                let $crate::server::Job { key, role, keep_conn, params, span, .. } = job;
                (Self { connection, key, role, keep_conn, params, kept: false }, span)
            }

            /// Makes the request give its parameters back when it is dropped. Returns where they
            /// are then.
            pub(super) fn keep(
                &mut self,
            ) -> (::std::sync::Arc<$connection>, ::fcgi_proto::RequestKey) {
                self.kept = true;
                (::std::sync::Arc::clone(&self.connection), self.key)
            }

            /// The role that the web server asks for.
            #[must_use]
            pub fn role(&self) -> ::fcgi_proto::Role {
                self.role
            }

            /// The parameters, in the order in which they came.
            #[must_use]
            pub fn params(&self) -> &::fcgi_proto::Params {
                &self.params
            }

            /// The value of one parameter.
            #[must_use]
            pub fn param(&self, name: &str) -> Option<&[u8]> {
                self.params.get(name)
            }

            /// The value of one parameter, if it is UTF-8.
            #[must_use]
            pub fn param_str(&self, name: &str) -> Option<&str> {
                self.params.get_str(name)
            }

            /// Takes the parameters out of the request.
            #[cfg(feature = "http")]
            pub(crate) fn take_params(&mut self) -> ::fcgi_proto::Params {
                ::std::mem::take(&mut self.params)
            }

            /// Whether the connection stays open after this request (FCGI_KEEP_CONN).
            #[must_use]
            pub fn keep_conn(&self) -> bool {
                self.keep_conn
            }

            /// The body of the HTTP request. Empty for an Authorizer.
            #[must_use]
            pub fn stdin(&self) -> InputStream {
                self.input(::fcgi_proto::Input::Stdin)
            }

            /// A Filter's file. Empty for other roles.
            #[must_use]
            pub fn data(&self) -> InputStream {
                self.input(::fcgi_proto::Input::Data)
            }

            pub(crate) fn input(&self, input: ::fcgi_proto::Input) -> InputStream {
                let connection = ::std::sync::Arc::clone(&self.connection);
                InputStream { connection, key: self.key, input }
            }

            /// The response.
            #[must_use]
            pub fn stdout(&self) -> OutputStream {
                self.output(::fcgi_proto::Output::Stdout)
            }

            /// Text for the web server's error log.
            #[must_use]
            pub fn stderr(&self) -> OutputStream {
                self.output(::fcgi_proto::Output::Stderr)
            }

            /// Makes the request end with a protocol status instead of REQUEST_COMPLETE, once the
            /// handler returns (FC-5.5-1).
            pub fn reject(&self, rejection: ::fcgi_proto::Rejection) {
                self.connection.reject(self.key, rejection);
            }
        }

        $(#[$input_meta])*
        #[derive(Debug)]
        pub struct InputStream {
            connection: ::std::sync::Arc<$connection>,
            key: ::fcgi_proto::RequestKey,
            input: ::fcgi_proto::Input,
        }

        impl InputStream {
            /// Waits for the next bytes. Returns `None` at the end. Large chunks are slices of the
            /// receive buffer, not copies. Written bytes are sent before it waits.
            ///
            /// # Errors
            /// [`Error::Aborted`] when the web server has aborted the request or is gone,
            /// [`Error::Timeout`] after [`handler_timeout`](super::Server::handler_timeout), or
            /// after [`stdin_timeout`](super::Server::stdin_timeout) without more bytes of the
            /// stream.
            $(#[doc = $crate::dropping!($async "Dropping the future loses nothing.")])?
            pub $($async)? fn chunk(&mut self) -> Result<Option<::bytes::Bytes>, Error> {
                let $input = self;
                $($chunk)*
            }

            /// Like [`chunk`](Self::chunk), without waiting.
            #[cfg(feature = "http")]
            pub(crate) fn try_chunk(
                &mut self,
            ) -> ::std::task::Poll<Result<Option<::bytes::Bytes>, Error>> {
                self.connection.try_read(self.key, self.input, $crate::server::CHUNK)
            }

            /// Reads everything up to the end.
            ///
            /// # Errors
            /// [`Error::InputTooLarge`] for more than `limit` bytes; those of
            /// [`chunk`](Self::chunk).
            $(#[doc = $crate::dropping!(
                $async "Dropping the future loses the bytes that it had read."
            )])?
            pub $($async)? fn read_to_end(
                &mut self,
                limit: usize,
            ) -> Result<::bytes::Bytes, Error> {
                let mut joined = $crate::Joined::new(limit);
                while let Some(chunk) = self.chunk()$($wait)*? {
                    if !joined.push(chunk) {
                        return Err(Error::InputTooLarge { limit });
                    }
                }
                Ok(joined.take())
            }
        }

        impl OutputStream {
            /// Writes all of the bytes, by copying them; waits while more than the send limit is
            /// queued. Use [`write_chunk`](Self::write_chunk) to avoid the copy.
            ///
            /// # Errors
            /// [`Error::Aborted`] when the web server has aborted the request or is gone,
            /// [`Error::Timeout`] after [`handler_timeout`](super::Server::handler_timeout).
            $(#[doc = $crate::dropping!(
                $async "Dropping the future may leave some of the bytes written."
            )])?
            pub $($async)? fn write_all(&mut self, bytes: impl AsRef<[u8]>) -> Result<(), Error> {
                for piece in $crate::server::pieces(bytes.as_ref()) {
                    self.put(piece, $crate::server::Write::Stream)$($wait)*?;
                }
                Ok(())
            }

            /// Writes all of the bytes; waits while more than the send limit is queued. More than 4
            /// KiB are sent without a copy.
            ///
            /// # Errors
            /// As for [`write_all`](Self::write_all).
            $(#[doc = $crate::dropping!(
                $async "Dropping the future may leave some of the bytes written."
            )])?
            pub $($async)? fn write_chunk(
                &mut self,
                bytes: impl Into<::bytes::Bytes>,
            ) -> Result<(), Error> {
                self.put(bytes.into(), $crate::server::Write::Stream)$($wait)*
            }

            /// Writes all of the bytes in one record, if they fit (W-1). Later ones may share the
            /// record.
            #[cfg(feature = "http")]
            pub(crate) $($async)? fn write_record(
                &mut self,
                bytes: ::bytes::Bytes,
            ) -> Result<(), Error> {
                self.put(bytes, $crate::server::Write::Record)$($wait)*
            }

            /// Waits until everything written so far was handed to the socket.
            ///
            /// # Errors
            /// As for [`write_all`](Self::write_all).
            $(#[doc = $crate::dropping!($async "Dropping the future loses nothing.")])?
            pub $($async)? fn flush(&mut self) -> Result<(), Error> {
                let $flushed = self;
                $($flush)*
            }
        }
    };
}
