//! What a call or a handler can meet, with the address and the cause in each message.

use std::{convert::Infallible, io, sync::Arc, time::Duration};

use fcgi_proto::{ProtocolError, Rejection, UsageError, server::AbortReason};

use crate::AddressError;

/// An error of a client or a pool, or of a request's streams in a handler.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The connection could not be made.
    #[error("connect to {address}: {source}")]
    Connect {
        /// The application's address.
        address: Arc<str>,
        /// The cause.
        source: io::Error,
    },
    /// The connection broke.
    #[error("{doing} {address}: {source}")]
    Io {
        /// The application's address.
        address: Arc<str>,
        /// `read from` or `write to`.
        doing: &'static str,
        /// The cause.
        source: io::Error,
    },
    /// The application broke the protocol.
    #[error("{address}: {source}")]
    Protocol {
        /// The application's address.
        address: Arc<str>,
        /// What it did.
        source: ProtocolError,
    },
    /// The connection ended before END_REQUEST.
    #[error("{address}: connection closed before the request ended")]
    Truncated {
        /// The application's address.
        address: Arc<str>,
    },
    /// The application did not take the request.
    #[error("{address}: request refused with {rejection}")]
    Rejected {
        /// The application's address.
        address: Arc<str>,
        /// How it put it.
        rejection: Rejection,
    },
    /// The response was not read fast enough, under
    /// [`FullRequest::Abort`](fcgi_proto::FullRequest::Abort); the request was aborted.
    #[error("{address}: request aborted, its response was not read")]
    Overrun {
        /// The application's address.
        address: Arc<str>,
    },
    /// A time limit passed.
    #[error("{address}: no {phase} within {limit:?}")]
    Timeout {
        /// The application's address.
        address: Arc<str>,
        /// What was waited for.
        phase: Phase,
        /// The limit.
        limit: Duration,
    },
    /// The connection can't carry another request: it was not kept, or an earlier request left it
    /// unfit.
    #[error("{address}: the connection can't be used again")]
    Closed {
        /// The application's address.
        address: Arc<str>,
    },
    /// A request body failed; the request was aborted.
    #[error("{address}: read the request's body: {source}")]
    Body {
        /// The application's address.
        address: Arc<str>,
        /// The cause.
        source: io::Error,
    },
    /// A response was larger than the caller takes.
    #[error("{address}: response of more than {limit} bytes")]
    TooLarge {
        /// The application's address.
        address: Arc<str>,
        /// The caller's limit, in bytes.
        limit: usize,
    },
    /// The address can't be called, as descriptor 0 can't.
    #[error("{address}: only unix:PATH and tcp:HOST:PORT can be called")]
    NotCallable {
        /// The address.
        address: Arc<str>,
    },
    /// As many callers wait for a connection of the pool as may.
    #[error("{address}: {waiting} requests wait for a connection already")]
    PoolFull {
        /// The application's address.
        address: Arc<str>,
        /// How many wait.
        waiting: usize,
    },
    /// The pool was closed.
    #[error("{address}: the pool was closed")]
    PoolClosed {
        /// The application's address.
        address: Arc<str>,
    },
    /// The request was given up by its [`CancelHandle`], in the blocking adapter.
    ///
    /// [`CancelHandle`]: https://docs.rs/fcgi-blocking
    #[error("{address}: the request was cancelled")]
    Cancelled {
        /// The application's address.
        address: Arc<str>,
    },
    /// In a handler: the web server gave the request up.
    #[error("the web server aborted the request ({0:?})")]
    Aborted(AbortReason),
    /// In a handler: the request's input is longer than the caller takes.
    #[error("the request's input has more than {limit} bytes")]
    InputTooLarge {
        /// The caller's limit, in bytes.
        limit: usize,
    },
    /// In a handler: the request's input is not as long as CONTENT_LENGTH, or FCGI_DATA_LENGTH,
    /// says (FC-6.2-2). When it is shorter, the HTTP client has most likely gone away.
    #[error("the request's input has {seen} bytes where {declared} were declared")]
    InputLength {
        /// Bytes that were declared.
        declared: u64,
        /// Bytes that came, the first ones too many included.
        seen: u64,
    },
    /// A text that is no address.
    #[error(transparent)]
    Address(#[from] AddressError),
    /// A server can't listen.
    #[error("listen at {address}: {advice}")]
    Listen {
        /// Where.
        address: Arc<str>,
        /// What is wrong, and what to do.
        advice: String,
        /// The cause.
        source: io::Error,
    },
    /// A mistake of the caller's; nothing was changed.
    #[error("{0}")]
    Usage(#[from] UsageError),
}

/// An address that is one already.
impl From<Infallible> for Error {
    fn from(never: Infallible) -> Self {
        match never {}
    }
}

/// What a time limit is for: a client's phases, then a server's.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[non_exhaustive]
pub enum Phase {
    /// Waiting for a connection of a pool.
    Acquire,
    /// The connection.
    Connect,
    /// The first byte of the response.
    FirstByte,
    /// The next byte of the response.
    NextByte,
    /// The end of the response.
    Response,
    /// The answer to GET_VALUES.
    Values,
    /// The first record of a connection.
    FirstRecord,
    /// The end of PARAMS.
    Params,
    /// More of a request's input, for which a handler waits.
    Stdin,
    /// The next request of a kept connection.
    NextRequest,
    /// A write that goes on.
    Write,
    /// The end of a handler.
    Handler,
}

impl std::fmt::Display for Phase {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Acquire => "free connection of the pool",
            Self::Connect => "connection",
            Self::FirstByte => "first byte of the response",
            Self::NextByte => "next byte of the response",
            Self::Response => "end of the response",
            Self::Values => "answer to GET_VALUES",
            Self::FirstRecord => "first record",
            Self::Params => "end of PARAMS",
            Self::Stdin => "more of the request's input",
            Self::NextRequest => "next request on a kept connection",
            Self::Write => "progress of a write",
            Self::Handler => "end of the handler",
        })
    }
}

impl From<Error> for io::Error {
    fn from(error: Error) -> Self {
        let kind = match &error {
            Error::Connect { source, .. }
            | Error::Io { source, .. }
            | Error::Body { source, .. }
            | Error::Listen { source, .. } => source.kind(),
            Error::Protocol { .. } => io::ErrorKind::InvalidData,
            Error::InputLength { declared, seen } if seen > declared => io::ErrorKind::InvalidData,
            Error::InputLength { .. } => io::ErrorKind::UnexpectedEof,
            Error::Truncated { .. } => io::ErrorKind::UnexpectedEof,
            Error::Rejected { .. } => io::ErrorKind::ConnectionRefused,
            Error::Timeout { .. } => io::ErrorKind::TimedOut,
            Error::Closed { .. } | Error::PoolClosed { .. } => io::ErrorKind::NotConnected,
            Error::PoolFull { .. } => io::ErrorKind::ResourceBusy,
            Error::Aborted(_) => io::ErrorKind::ConnectionAborted,
            // Not Interrupted, at which readers and writers try again.
            Error::Cancelled { .. } => io::ErrorKind::ConnectionAborted,
            Error::TooLarge { .. } | Error::Overrun { .. } | Error::InputTooLarge { .. } => {
                io::ErrorKind::OutOfMemory
            }
            Error::NotCallable { .. } | Error::Address(_) | Error::Usage(_) => {
                io::ErrorKind::InvalidInput
            }
        };
        Self::new(kind, error)
    }
}
