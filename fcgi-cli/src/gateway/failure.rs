//! Answers of the gateway's own, each with its reason.

use std::{error, io, iter};

use fcgi_engine::{
    Error,
    text::{chain, escape},
};
use fcgi_tokio::http::{HttpError, ParamsError};
use http::{
    HeaderValue, Response, StatusCode,
    header::{ALLOW, CONTENT_TYPE, X_CONTENT_TYPE_OPTIONS},
};
use rustix::io::Errno;

use super::{
    body::{Body, full},
    site::NotFound,
};

/// Why a request gets no answer of the application's.
#[derive(Debug)]
pub(super) struct Failure {
    pub(super) status: StatusCode,
    pub(super) reason: String,
}

impl Failure {
    pub(super) fn new(status: StatusCode, reason: impl ToString) -> Self {
        Self { status, reason: reason.to_string() }
    }

    /// The status and the reason, as text.
    pub(super) fn to_text(&self) -> String {
        format!("{}\n{}\n", self.status, escape(self.reason.as_bytes(), b""))
    }

    /// A page of plain text.
    pub(super) fn into_response(self) -> Response<Body> {
        let mut response = Response::new(full(self.to_text()));
        *response.status_mut() = self.status;
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
        headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
        if self.status == StatusCode::METHOD_NOT_ALLOWED {
            headers.insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
        }
        response
    }
}

impl From<HttpError> for Failure {
    fn from(error: HttpError) -> Self {
        let cause: Option<&(dyn error::Error + 'static)> = match &error {
            HttpError::RequestBody(source) => Some(&**source),
            HttpError::Call(Error::Body { source, .. }) => Some(source),
            _ => None,
        };
        let is_late = cause.is_some_and(is_timeout);
        let status = match error.status() {
            _ if is_late => StatusCode::REQUEST_TIMEOUT,
            _ if is_of_shortage(&error) => StatusCode::SERVICE_UNAVAILABLE,
            status => status,
        };
        Self::new(status, error.report())
    }
}

/// Whether it is, or wraps, an IO error of this kind: of a client too slow with its body.
fn is_timeout(error: &(dyn error::Error + 'static)) -> bool {
    let Some(error) = error.downcast_ref::<io::Error>() else { return false };
    let inner = error.get_ref().map(|inner| inner as &(dyn error::Error + 'static));
    error.kind() == io::ErrorKind::TimedOut || inner.is_some_and(is_timeout)
}

impl From<ParamsError> for Failure {
    fn from(error: ParamsError) -> Self {
        Self::new(error.status(), chain(&error))
    }
}

impl From<NotFound> for Failure {
    fn from(error: NotFound) -> Self {
        match error {
            NotFound::Script(error) => Self::new(error.status(), error),
            NotFound::Failed(error) => {
                let status = if is_shortage(&error) {
                    StatusCode::SERVICE_UNAVAILABLE
                } else {
                    StatusCode::INTERNAL_SERVER_ERROR
                };
                Self::new(status, format!("look for the file: {error}"))
            }
            NotFound::Wait => Self::new(StatusCode::SERVICE_UNAVAILABLE, "the disk is slow"),
        }
    }
}

/// Whether the gateway has no descriptors or memory left: it may have later.
fn is_shortage(error: &io::Error) -> bool {
    let number = error.raw_os_error().map(Errno::from_raw_os_error);
    matches!(number, Some(Errno::MFILE | Errno::NFILE | Errno::NOMEM))
}

/// Whether an error comes of that.
fn is_of_shortage(error: &(dyn error::Error + 'static)) -> bool {
    iter::successors(Some(error), |error| error.source())
        .any(|error| error.downcast_ref().is_some_and(is_shortage))
}
