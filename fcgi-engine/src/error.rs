//! The errors of calls and handlers. Each message names the address.

use std::{convert::Infallible, fmt, io, sync::Arc, time::Duration};

use fcgi_proto::{ProtocolError, Rejection, UsageError, server::AbortReason};

use crate::{AddressError, text::chain};

/// An error of a client or a pool, or of a request's streams in a handler.
///
/// Its text says what was being done and to which address. The cause is its
/// [source](std::error::Error::source), and the text does not repeat it; [`report`](Self::report)
/// gives both on one line.
///
/// ```
/// use std::{io, time::Duration};
/// use fcgi_engine::{Error, Phase};
///
/// let address = || "unix:/run/app.sock".into();
/// let error = Error::Connect { address: address(), source: io::ErrorKind::NotFound.into() };
/// assert_eq!(error.to_string(), "connect to unix:/run/app.sock");
/// assert_eq!(error.report().to_string(), "connect to unix:/run/app.sock: entity not found");
/// assert!(error.is_connect() && error.is_unprocessed());
///
/// let limit = Duration::from_secs(60);
/// let error = Error::Timeout { address: address(), phase: Phase::FirstByte, limit };
/// assert!(error.is_timeout() && !error.is_unprocessed());
/// assert_eq!(error.address(), Some("unix:/run/app.sock"));
/// ```
#[derive(thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The connection could not be made.
    #[error("connect to {address}")]
    Connect {
        /// The application's address.
        address: Arc<str>,
        /// The cause.
        source: io::Error,
    },
    /// The connection broke.
    #[error("{doing} {address}")]
    Io {
        /// The application's address.
        address: Arc<str>,
        /// `read from` or `write to`.
        doing: &'static str,
        /// The cause.
        source: io::Error,
    },
    /// The application broke the protocol.
    #[error("read from {address}")]
    Protocol {
        /// The application's address.
        address: Arc<str>,
        /// What it did wrong.
        source: ProtocolError,
    },
    /// The connection ended before END_REQUEST (Q-14).
    #[error("{address}: connection closed before the request ended")]
    Truncated {
        /// The application's address.
        address: Arc<str>,
    },
    /// The application refused the request (Q-11, Q-13).
    #[error("{address}: request refused with {rejection}")]
    Rejected {
        /// The application's address.
        address: Arc<str>,
        /// The protocol status that it gave.
        rejection: Rejection,
    },
    /// The response was not read fast enough under
    /// [`FullRequest::Abort`](fcgi_proto::FullRequest::Abort), so the request was aborted.
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
    /// Reading a request body failed, so the request was aborted.
    #[error("{address}: read the request's body")]
    Body {
        /// The application's address.
        address: Arc<str>,
        /// The cause.
        source: io::Error,
    },
    /// A response was larger than the caller's limit.
    #[error("{address}: response of more than {limit} bytes")]
    TooLarge {
        /// The application's address.
        address: Arc<str>,
        /// The caller's limit, in bytes.
        limit: usize,
    },
    /// The address can't be called, such as descriptor 0.
    #[error(
        "{address}: only unix:PATH, /PATH, ./PATH, tcp:HOST:PORT, fcgi://HOST:PORT, HOST:PORT, \
         [IPV6]:PORT and :PORT can be called"
    )]
    NotCallable {
        /// The address.
        address: Arc<str>,
    },
    /// The pool's queue is full.
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
    /// The [`CancelHandle`] of the request was used, in the blocking adapter.
    ///
    /// [`CancelHandle`]: https://docs.rs/fcgi-blocking
    #[error("{address}: the request was cancelled")]
    Cancelled {
        /// The application's address.
        address: Arc<str>,
    },
    /// In a handler: the web server aborted the request.
    #[error("the web server aborted the request ({0:?})")]
    Aborted(AbortReason),
    /// In a handler: the request's input is longer than the caller's limit.
    #[error("the request's input has more than {limit} bytes")]
    InputTooLarge {
        /// The caller's limit, in bytes.
        limit: usize,
    },
    /// In a handler: the length of the request's input differs from CONTENT_LENGTH or
    /// FCGI_DATA_LENGTH (FC-6.2-2). If it is shorter, the HTTP client has most likely gone away.
    #[error("the request's input has {seen} bytes where {declared} were declared")]
    InputLength {
        /// Bytes that were declared.
        declared: u64,
        /// Bytes that came, including the first ones in excess.
        seen: u64,
    },
    /// A text that is not an address.
    #[error(transparent)]
    Address(#[from] AddressError),
    /// A server can't listen.
    #[error("listen at {address}: {advice}")]
    Listen {
        /// The address.
        address: Arc<str>,
        /// What is wrong, and what to do about it.
        advice: String,
        /// The cause.
        source: io::Error,
    },
    /// A mistake of the caller; the call changed nothing.
    #[error(transparent)]
    Usage(#[from] UsageError),
}

/// The error and its causes, on one line: a `main` that returns it prints this.
impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&chain(self), f)
    }
}

/// For what is an address already, so that parsing can't fail.
impl From<Infallible> for Error {
    fn from(never: Infallible) -> Self {
        match never {}
    }
}

/// What a time limit was waiting for: a client's phases, then a server's.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[non_exhaustive]
pub enum Phase {
    /// Waiting for a connection of a pool.
    Acquire,
    /// The connection to be made.
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
    /// More of a request's input, while a handler waits for it.
    Stdin,
    /// The next request of a kept connection.
    NextRequest,
    /// Progress of a write.
    Write,
    /// The end of a handler.
    Handler,
}

impl fmt::Display for Phase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
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

impl Error {
    /// Whether a time limit passed: one of ours, or the system's for connecting.
    #[must_use]
    pub fn is_timeout(&self) -> bool {
        self.io_kind() == io::ErrorKind::TimedOut
    }

    /// Whether no connection could be made: it was refused, nobody listens there, the name is
    /// unknown, or it took too long.
    #[must_use]
    pub fn is_connect(&self) -> bool {
        matches!(self, Self::Connect { .. } | Self::Timeout { phase: Phase::Connect, .. })
    }

    /// Whether the application has certainly not started on the request. Then even a request that
    /// is not idempotent may be sent again, here or elsewhere.
    #[must_use]
    pub fn is_unprocessed(&self) -> bool {
        match self {
            Self::Connect { .. }
            | Self::Rejected { .. }
            | Self::Closed { .. }
            | Self::NotCallable { .. }
            | Self::Address(_)
            | Self::PoolFull { .. }
            | Self::PoolClosed { .. } => true,
            Self::Timeout { phase, .. } => matches!(phase, Phase::Acquire | Phase::Connect),
            Self::Io { .. }
            | Self::Protocol { .. }
            | Self::Truncated { .. }
            | Self::Overrun { .. }
            | Self::Body { .. }
            | Self::TooLarge { .. }
            | Self::Cancelled { .. }
            | Self::Aborted(_)
            | Self::InputTooLarge { .. }
            | Self::InputLength { .. }
            | Self::Listen { .. }
            | Self::Usage(_) => false,
        }
    }

    /// Whether the application refused the request: it is overloaded, takes one request per
    /// connection, or does not know the role.
    #[must_use]
    pub fn is_rejected(&self) -> bool {
        matches!(self, Self::Rejected { .. })
    }

    /// The address of the application, or of the web server in a handler. `None` if the error has
    /// to do with no connection.
    #[must_use]
    pub fn address(&self) -> Option<&str> {
        match self {
            Self::Connect { address, .. }
            | Self::Io { address, .. }
            | Self::Protocol { address, .. }
            | Self::Truncated { address }
            | Self::Rejected { address, .. }
            | Self::Overrun { address }
            | Self::Timeout { address, .. }
            | Self::Closed { address }
            | Self::Body { address, .. }
            | Self::TooLarge { address, .. }
            | Self::NotCallable { address }
            | Self::PoolFull { address, .. }
            | Self::PoolClosed { address }
            | Self::Cancelled { address }
            | Self::Listen { address, .. } => Some(address),
            Self::Aborted(_)
            | Self::InputTooLarge { .. }
            | Self::InputLength { .. }
            | Self::Address(_)
            | Self::Usage(_) => None,
        }
    }

    /// A copy of the error, for another caller who waited for the same thing.
    pub(crate) fn again(&self) -> Self {
        let io = |source: &io::Error| match source.raw_os_error() {
            Some(number) => io::Error::from_raw_os_error(number),
            None => io::Error::new(source.kind(), source.to_string()),
        };
        match self {
            Self::Connect { address, source } => {
                Self::Connect { address: Arc::clone(address), source: io(source) }
            }
            Self::Io { address, doing, source } => {
                Self::Io { address: Arc::clone(address), doing, source: io(source) }
            }
            Self::Protocol { address, source } => {
                Self::Protocol { address: Arc::clone(address), source: *source }
            }
            Self::Timeout { address, phase, limit } => {
                Self::Timeout { address: Arc::clone(address), phase: *phase, limit: *limit }
            }
            Self::NotCallable { address } => Self::NotCallable { address: Arc::clone(address) },
            other => Self::Closed { address: other.address().unwrap_or("the application").into() },
        }
    }

    /// The error and its causes, on one line.
    pub fn report(&self) -> impl fmt::Display {
        chain(self)
    }

    /// The matching kind of the standard library.
    pub(crate) fn io_kind(&self) -> io::ErrorKind {
        match self {
            Self::Connect { source, .. }
            | Self::Io { source, .. }
            | Self::Body { source, .. }
            | Self::Listen { source, .. } => source.kind(),
            Self::Protocol { .. } => io::ErrorKind::InvalidData,
            Self::InputLength { declared, seen } if seen > declared => io::ErrorKind::InvalidData,
            Self::InputLength { .. } | Self::Truncated { .. } => io::ErrorKind::UnexpectedEof,
            Self::Rejected { rejection: Rejection::UnknownRole, .. } => io::ErrorKind::Unsupported,
            Self::Rejected { .. } | Self::PoolFull { .. } => io::ErrorKind::ResourceBusy,
            Self::Timeout { .. } => io::ErrorKind::TimedOut,
            Self::Closed { .. } | Self::PoolClosed { .. } => io::ErrorKind::NotConnected,
            // Not `Interrupted`: readers and writers would try again.
            Self::Aborted(_) | Self::Cancelled { .. } | Self::Overrun { .. } => {
                io::ErrorKind::ConnectionAborted
            }
            Self::TooLarge { .. } | Self::InputTooLarge { .. } => io::ErrorKind::FileTooLarge,
            Self::NotCallable { .. } | Self::Address(_) | Self::Usage(_) => {
                io::ErrorKind::InvalidInput
            }
        }
    }
}

impl From<Error> for io::Error {
    fn from(error: Error) -> Self {
        Self::new(error.io_kind(), error)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::text::tests::assert_no_repetition;

    /// One of each. A new variant does not compile until it is added here.
    fn all() -> Vec<Error> {
        let address = || Arc::from("unix:/run/app.sock");
        let source = || io::Error::new(io::ErrorKind::TimedOut, "a cause");
        let kind = fcgi_proto::ProtocolErrorKind::Version(71);
        let all = vec![
            Error::Connect { address: address(), source: source() },
            Error::Io { address: address(), doing: "write to", source: source() },
            Error::Protocol { address: address(), source: ProtocolError { kind, offset: 0 } },
            Error::Truncated { address: address() },
            Error::Rejected { address: address(), rejection: Rejection::Overloaded },
            Error::Overrun { address: address() },
            Error::Timeout { address: address(), phase: Phase::Values, limit: Duration::ZERO },
            Error::Closed { address: address() },
            Error::Body { address: address(), source: source() },
            Error::TooLarge { address: address(), limit: 7 },
            Error::NotCallable { address: address() },
            Error::PoolFull { address: address(), waiting: 7 },
            Error::PoolClosed { address: address() },
            Error::Cancelled { address: address() },
            Error::Aborted(AbortReason::Requested),
            Error::InputTooLarge { limit: 7 },
            Error::InputLength { declared: 7, seen: 8 },
            Error::Address("9000".parse::<crate::Address>().unwrap_err()),
            Error::Listen { address: address(), advice: "do this".to_owned(), source: source() },
            Error::Usage(UsageError::NoFreeId),
        ];
        for error in &all {
            match error {
                Error::Connect { .. }
                | Error::Io { .. }
                | Error::Protocol { .. }
                | Error::Truncated { .. }
                | Error::Rejected { .. }
                | Error::Overrun { .. }
                | Error::Timeout { .. }
                | Error::Closed { .. }
                | Error::Body { .. }
                | Error::TooLarge { .. }
                | Error::NotCallable { .. }
                | Error::PoolFull { .. }
                | Error::PoolClosed { .. }
                | Error::Cancelled { .. }
                | Error::Aborted(_)
                | Error::InputTooLarge { .. }
                | Error::InputLength { .. }
                | Error::Address(_)
                | Error::Listen { .. }
                | Error::Usage(_) => {}
            }
        }
        all
    }

    #[test]
    fn no_text_repeats_its_source() {
        for error in all() {
            assert_no_repetition(&error);
            let wrapped = io::Error::from(error);
            assert_no_repetition(&wrapped);
        }
    }

    /// What `main` prints, and `unwrap`.
    #[test]
    fn debug_says_what_the_report_says() {
        for error in all() {
            assert_eq!(format!("{error:?}"), error.report().to_string());
        }
        let error = "9000".parse::<crate::Address>().unwrap_err();
        assert!(format!("{error:?}").contains("HOST:PORT"), "{error:?}");
    }

    #[test]
    fn an_address_that_is_known_is_named_and_can_be_asked_for() {
        for error in all() {
            assert_eq!(
                error.address().is_some(),
                error.to_string().contains("app.sock"),
                "{error}"
            );
        }
    }

    #[test]
    fn kinds_say_what_happened() {
        for error in all() {
            assert_ne!(error.io_kind(), io::ErrorKind::OutOfMemory, "{error}");
            assert_ne!(error.io_kind(), io::ErrorKind::Interrupted, "{error}");
            let (timeout, text) = (error.is_timeout(), error.to_string());
            assert_eq!(timeout, io::Error::from(error).kind() == io::ErrorKind::TimedOut, "{text}");
        }
    }
}
