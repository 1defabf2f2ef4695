//! What a handler can do with its request, in adapters of both kinds.

use bytes::Bytes;

use crate::{Error, joined::Joined};

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

/// The bytes of a stream so far, for `read_to_end`.
#[derive(Debug)]
pub struct Whole {
    joined: Joined,
    limit: usize,
}

impl Whole {
    /// For a stream of at most `limit` bytes.
    #[must_use]
    pub fn new(limit: usize) -> Self {
        Self { joined: Joined::default(), limit }
    }

    /// Adds a chunk.
    ///
    /// # Errors
    /// [`Error::InputTooLarge`].
    pub fn push(&mut self, chunk: Bytes) -> Result<(), Error> {
        match self.joined.push(chunk, self.limit) {
            true => Ok(()),
            false => Err(Error::InputTooLarge { limit: self.limit }),
        }
    }

    /// All bytes.
    #[must_use]
    pub fn finish(self) -> Bytes {
        self.joined.bytes()
    }
}

/// Defines the methods of a `Request` that don't wait, for a type with the fields `key`, `role`,
/// `keep_conn`, `params`, `kept`, and its connection, and the methods `input` and `output`.
#[doc(hidden)]
#[macro_export]
macro_rules! request_methods {
    ($connection:ident: $type:ty) => {
        /// Creates a job's request, and its span.
        pub(super) fn new(
            $connection: ::std::sync::Arc<$type>,
            job: $crate::server::Job,
        ) -> (Self, ::tracing::Span) {
            let $crate::server::Job { key, role, keep_conn, params, span, .. } = job;
            (Self { $connection, key, role, keep_conn, params, kept: false }, span)
        }

        /// Makes the request give its parameters back when it is dropped. Returns where they are
        /// then.
        pub(super) fn keep(&mut self) -> (::std::sync::Arc<$type>, ::fcgi_proto::RequestKey) {
            self.kept = true;
            (::std::sync::Arc::clone(&self.$connection), self.key)
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
            self.$connection.reject(self.key, rejection);
        }
    };
}
