//! The errors of an HTTP call, and how a gateway answers them.

use std::{fmt, io, sync::Arc};

use fcgi_http::{
    BodyLengthError, HeadError,
    request::ParamsError,
    script::{ConfigError, ScriptError},
};
use fcgi_proto::Rejection;
use http::{StatusCode, uri::InvalidUri};

use super::BoxError;
use crate::{Error, Phase, text::chain};

/// An error of an `HttpClient`, of a response's body, or of a page of php-fpm's.
/// [`status`](Self::status) is the status that a gateway answers with.
///
/// Its text does not repeat its [source](std::error::Error::source); [`report`](Self::report) gives
/// both on one line.
#[derive(thiserror::Error)]
#[non_exhaustive]
pub enum HttpError {
    /// The client's settings are contradictory.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The text is not a URL.
    #[error("{uri:?} is not a URL")]
    Uri {
        /// The text.
        uri: String,
        /// What is wrong with it.
        source: InvalidUri,
    },
    /// No script serves the request's path.
    #[error(transparent)]
    Script(#[from] ScriptError),
    /// The request can't be expressed as parameters.
    #[error(transparent)]
    Params(#[from] ParamsError),
    /// Reading the request's body failed before it was sent.
    #[error("read the request's body")]
    RequestBody(#[source] BoxError),
    /// The request's body has no known length and exceeds the spool's limit.
    #[error("the request's body has more than {limit} bytes")]
    RequestTooLarge {
        /// The limit, in bytes.
        limit: u64,
    },
    /// The request's body could not be spooled to a temporary file.
    #[error("keep the request's body in a temporary file")]
    Spool(#[source] io::Error),
    /// The call failed.
    #[error(transparent)]
    Call(#[from] Error),
    /// The application's answer is not a response.
    #[error("{address}: read the response's head")]
    Head {
        /// The application's address.
        address: Arc<str>,
        /// What is wrong with it.
        source: HeadError,
    },
    /// The response's body differs in length from its Content-Length.
    #[error("{address}: read the response's body")]
    Body {
        /// The application's address.
        address: Arc<str>,
        /// What is wrong with it.
        source: BodyLengthError,
    },
    /// The application ended with a status other than 0 and had declared no length for the body:
    /// the response may be truncated. Also returned when an Authorizer fails.
    #[error("{address}: the application failed with status {app_status}")]
    AppStatus {
        /// The application's address.
        address: Arc<str>,
        /// The status.
        app_status: u32,
    },
    /// The call failed after a script had run and redirected it. The application has not started on
    /// the last part of the request, but on the request it has.
    #[error(transparent)]
    AfterRedirect(Box<HttpError>),
    /// The application redirected the request to itself too often.
    #[error("{address}: more than {limit} local redirects")]
    Redirects {
        /// The application's address.
        address: Arc<str>,
        /// The number of redirects that are followed.
        limit: usize,
    },
    /// A page of php-fpm's has another status than 200. Most likely neither such a page nor such a
    /// script exists.
    #[cfg(feature = "php-fpm")]
    #[error("{address}: {path} has status {status}")]
    PageStatus {
        /// The application's address.
        address: Arc<str>,
        /// The page's path.
        path: String,
        /// The status.
        status: StatusCode,
    },
    /// A page is not php-fpm's status page: it is not JSON, or lacks a field.
    #[cfg(feature = "php-fpm")]
    #[error("{address}: {path} is not a php-fpm status page")]
    NoStatusPage {
        /// The application's address.
        address: Arc<str>,
        /// The page's path.
        path: String,
        /// What is wrong with it.
        source: serde_json::Error,
    },
}

/// The error and its causes, on one line: a `main` that returns it prints this.
impl fmt::Debug for HttpError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&chain(self), f)
    }
}

/// For code that reads a response's body.
impl From<HttpError> for io::Error {
    fn from(error: HttpError) -> Self {
        match error {
            HttpError::Call(error) => error.into(),
            HttpError::AfterRedirect(error) => (*error).into(),
            error => Self::new(error.io_kind(), error),
        }
    }
}

impl HttpError {
    /// The status that a gateway answers with, unless its answer has begun:
    ///
    /// | status | when |
    /// | --- | --- |
    /// | 400, 404, 405 | the request can't be passed on, or its body fails |
    /// | 413 | its body has no known length and exceeds the spool's limit |
    /// | 502 | the application can't be reached, closes early, or sends no valid response |
    /// | 503 | it is overloaded, or no connection to it is free |
    /// | 504 | a time limit passed |
    /// | 500 | a mistake on this side, or no room for a temporary file |
    #[must_use]
    pub fn status(&self) -> StatusCode {
        match self {
            Self::AfterRedirect(error) => error.status(),
            Self::Script(error) => error.status(),
            Self::Params(error) => error.status(),
            Self::RequestBody(_) | Self::Uri { .. } | Self::Call(Error::Body { .. }) => {
                StatusCode::BAD_REQUEST
            }
            Self::RequestTooLarge { .. } => StatusCode::PAYLOAD_TOO_LARGE,
            Self::Spool(_)
            | Self::Config(_)
            | Self::Call(Error::Usage(_) | Error::NotCallable { .. } | Error::Address(_)) => {
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

    /// Whether a time limit passed.
    #[must_use]
    pub fn is_timeout(&self) -> bool {
        self.io_kind() == io::ErrorKind::TimedOut
    }

    /// Whether the application could not be reached; see [`Error::is_connect`].
    #[must_use]
    pub fn is_connect(&self) -> bool {
        self.call().is_some_and(Error::is_connect)
    }

    /// Whether the application has certainly not started on the request. Then even a request that
    /// is not idempotent may be sent again, here or elsewhere. See [`Error::is_unprocessed`]. False
    /// once a local redirect was followed.
    #[must_use]
    pub fn is_unprocessed(&self) -> bool {
        matches!(self, Self::Call(error) if error.is_unprocessed())
    }

    /// Whether the application refused the request; see [`Error::is_rejected`].
    #[must_use]
    pub fn is_rejected(&self) -> bool {
        self.call().is_some_and(Error::is_rejected)
    }

    /// What a call met, also after a redirect.
    fn call(&self) -> Option<&Error> {
        match self {
            Self::Call(error) => Some(error),
            Self::AfterRedirect(error) => error.call(),
            _ => None,
        }
    }

    /// The application's address; `None` if the request did not get that far.
    #[must_use]
    pub fn address(&self) -> Option<&str> {
        match self {
            Self::Call(error) => error.address(),
            Self::AfterRedirect(error) => error.address(),
            Self::Head { address, .. }
            | Self::Body { address, .. }
            | Self::AppStatus { address, .. }
            | Self::Redirects { address, .. } => Some(address),
            #[cfg(feature = "php-fpm")]
            Self::PageStatus { address, .. } | Self::NoStatusPage { address, .. } => Some(address),
            Self::Config(_)
            | Self::Uri { .. }
            | Self::Script(_)
            | Self::Params(_)
            | Self::RequestBody(_)
            | Self::RequestTooLarge { .. }
            | Self::Spool(_) => None,
        }
    }

    /// The error and its causes, on one line.
    pub fn report(&self) -> impl fmt::Display {
        chain(self)
    }

    fn io_kind(&self) -> io::ErrorKind {
        match self {
            Self::Call(error) => error.io_kind(),
            Self::AfterRedirect(error) => error.io_kind(),
            Self::RequestBody(source) => {
                source.downcast_ref::<io::Error>().map_or(io::ErrorKind::Other, io::Error::kind)
            }
            Self::Spool(source) => source.kind(),
            Self::Script(_) => io::ErrorKind::NotFound,
            Self::Config(_) | Self::Uri { .. } | Self::Params(_) => io::ErrorKind::InvalidInput,
            Self::RequestTooLarge { .. } => io::ErrorKind::FileTooLarge,
            Self::Body { source: BodyLengthError::TooShort { .. }, .. }
            | Self::AppStatus { .. } => io::ErrorKind::UnexpectedEof,
            Self::Body { .. } | Self::Head { .. } | Self::Redirects { .. } => {
                io::ErrorKind::InvalidData
            }
            #[cfg(feature = "php-fpm")]
            Self::PageStatus { status, .. } if *status == StatusCode::NOT_FOUND => {
                io::ErrorKind::NotFound
            }
            #[cfg(feature = "php-fpm")]
            Self::PageStatus { .. } => io::ErrorKind::Other,
            #[cfg(feature = "php-fpm")]
            Self::NoStatusPage { .. } => io::ErrorKind::InvalidData,
        }
    }
}

#[cfg(test)]
mod tests {
    use fcgi_http::request::ParamsError;

    use super::*;
    use crate::text::tests::assert_no_repetition;

    /// One of each. A new variant does not compile until it is added here.
    fn all() -> Vec<HttpError> {
        let address = || Arc::from("unix:/run/app.sock");
        let cause = || io::Error::other("a cause");
        let length = || BodyLengthError::Invalid("7, 8".into());
        let all = vec![
            HttpError::Config(ConfigError::Root("".into())),
            HttpError::Uri { uri: "/ /".into(), source: "/ /".parse::<http::Uri>().unwrap_err() },
            HttpError::Script(ScriptError::NotFound),
            HttpError::Params(ParamsError::ContentLength(length())),
            HttpError::RequestBody(cause().into()),
            HttpError::RequestTooLarge { limit: 7 },
            HttpError::Spool(cause()),
            HttpError::Call(Error::Connect { address: address(), source: cause() }),
            HttpError::Head { address: address(), source: HeadError::Empty },
            HttpError::Body { address: address(), source: length() },
            HttpError::AppStatus { address: address(), app_status: 7 },
            HttpError::AfterRedirect(Box::new(
                Error::Connect { address: address(), source: cause() }.into(),
            )),
            HttpError::Redirects { address: address(), limit: 7 },
        ];
        for error in &all {
            match error {
                HttpError::Config(_)
                | HttpError::Uri { .. }
                | HttpError::Script(_)
                | HttpError::Params(_)
                | HttpError::RequestBody(_)
                | HttpError::RequestTooLarge { .. }
                | HttpError::Spool(_)
                | HttpError::Call(_)
                | HttpError::Head { .. }
                | HttpError::Body { .. }
                | HttpError::AppStatus { .. }
                | HttpError::AfterRedirect(_)
                | HttpError::Redirects { .. } => {}
                // Tested with its pages.
                #[cfg(feature = "php-fpm")]
                HttpError::PageStatus { .. } | HttpError::NoStatusPage { .. } => {}
            }
        }
        all
    }

    #[test]
    fn no_text_repeats_its_source() {
        for error in all() {
            assert_no_repetition(&error);
            assert_eq!(
                error.address().is_some(),
                error.to_string().contains("app.sock"),
                "{error}"
            );
            let report = error.report().to_string();
            let wrapped = io::Error::from(error);
            assert_no_repetition(&wrapped);
            assert_eq!(chain(&wrapped).to_string(), report);
        }
    }
}
