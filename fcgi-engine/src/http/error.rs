//! What an HTTP call can meet, and what a gateway answers then.

use std::{io, sync::Arc};

use fcgi_http::{BodyLengthError, HeadError, request::ParamsError, script::ScriptError};
use fcgi_proto::Rejection;
use http::StatusCode;

use super::BoxError;
use crate::{Error, Phase};

/// An error of an `HttpClient` or of a response's body.
/// [`status`](Self::status) is what a gateway answers with.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum HttpError {
    /// No script serves the request's path.
    #[error("{0}")]
    Script(#[from] ScriptError),
    /// The request can't be told to an application.
    #[error("{0}")]
    Params(#[from] ParamsError),
    /// The request's body failed before it was sent.
    #[error("read the request's body: {0}")]
    RequestBody(#[source] BoxError),
    /// The request's body, of unknown length, is more than is spooled.
    #[error("the request's body has more than {limit} bytes")]
    RequestTooLarge {
        /// The limit, in bytes.
        limit: u64,
    },
    /// The request's body could not be spooled to a temporary file.
    #[error("spool the request's body: {0}")]
    Spool(#[source] io::Error),
    /// The call failed.
    #[error("{0}")]
    Call(#[from] Error),
    /// What the application sent is no response.
    #[error("{address}: {source}")]
    Head {
        /// The application's address.
        address: Arc<str>,
        /// What is wrong with it.
        source: HeadError,
    },
    /// The response's body is not as long as its Content-Length says.
    #[error("{address}: {source}")]
    Body {
        /// The application's address.
        address: Arc<str>,
        /// What is wrong with it.
        source: BodyLengthError,
    },
    /// The application ended with a status other than 0 and without having said how long the body
    /// is: the response may be truncated. Also returned when an Authorizer fails.
    #[error("{address}: the application failed with status {app_status}")]
    AppStatus {
        /// The application's address.
        address: Arc<str>,
        /// The status.
        app_status: u32,
    },
    /// The application redirected the request to itself again and again.
    #[error("{address}: more than {limit} local redirects")]
    Redirects {
        /// The application's address.
        address: Arc<str>,
        /// How many are followed.
        limit: usize,
    },
}

/// For readers of a response's body.
impl From<HttpError> for io::Error {
    fn from(error: HttpError) -> Self {
        let kind = match error {
            HttpError::Call(error) => return error.into(),
            HttpError::Body { source: BodyLengthError::TooShort { .. }, .. }
            | HttpError::AppStatus { .. } => io::ErrorKind::UnexpectedEof,
            HttpError::Body { .. } | HttpError::Head { .. } => io::ErrorKind::InvalidData,
            _ => io::ErrorKind::Other,
        };
        Self::new(kind, error)
    }
}

impl HttpError {
    /// What a gateway answers with, unless it has begun to:
    ///
    /// | status | when |
    /// | --- | --- |
    /// | 400, 404, 405 | the request can't be passed on, or its body fails |
    /// | 413 | its body, of unknown length, is more than is spooled |
    /// | 502 | the application can't be reached, breaks off, or sends no response |
    /// | 503 | it is overloaded, or no connection to it is free |
    /// | 504 | a time limit passed |
    /// | 500 | a mistake here, or no room for a temporary file |
    #[must_use]
    pub fn status(&self) -> StatusCode {
        match self {
            Self::Script(error) => error.status(),
            Self::Params(error) => error.status(),
            Self::RequestBody(_) | Self::Call(Error::Body { .. }) => StatusCode::BAD_REQUEST,
            Self::RequestTooLarge { .. } => StatusCode::PAYLOAD_TOO_LARGE,
            Self::Spool(_) | Self::Call(Error::Usage(_) | Error::NotCallable { .. }) => {
                StatusCode::INTERNAL_SERVER_ERROR
            }
            Self::Call(
                Error::Rejected {
                    rejection: Rejection::Overloaded | Rejection::CantMpxConn, ..
                }
                | Error::PoolFull { .. }
                | Error::PoolClosed { .. }
                | Error::Timeout { phase: Phase::Acquire, .. },
            ) => StatusCode::SERVICE_UNAVAILABLE,
            Self::Call(Error::Timeout { .. }) => StatusCode::GATEWAY_TIMEOUT,
            _ => StatusCode::BAD_GATEWAY,
        }
    }

    /// Whether the application has certainly not begun with the request, so that even one that is
    /// not idempotent may be sent again, here or elsewhere.
    #[must_use]
    pub fn is_unprocessed(&self) -> bool {
        matches!(
            self,
            Self::Call(
                Error::Connect { .. }
                    | Error::Rejected { .. }
                    | Error::PoolFull { .. }
                    | Error::PoolClosed { .. }
                    | Error::Timeout { phase: Phase::Acquire | Phase::Connect, .. }
            )
        )
    }
}
