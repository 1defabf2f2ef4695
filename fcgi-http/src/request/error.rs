//! Errors of a request's parameters.

use http::StatusCode;

/// The parameters do not describe an HTTP request.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RequestError {
    /// A required parameter is missing.
    #[error("the request has no parameter {0}")]
    Missing(&'static str),
    /// A parameter has an impossible value.
    #[error("the request's {name} is \"{value}\"")]
    Invalid {
        /// The parameter.
        name: &'static str,
        /// The start of its value, escaped.
        value: String,
    },
    /// An HTTP_* parameter whose name is not that of a header field.
    #[error("the request's parameter \"{0}\" does not name a header field")]
    FieldName(String),
    /// An HTTP_* parameter with a value that a header field can't have: it holds NUL, a line end or
    /// another control byte.
    #[error("the request's {name} is \"{value}\", which a header field can't hold")]
    FieldValue {
        /// The parameter, escaped.
        name: String,
        /// The start of its value, escaped.
        value: String,
    },
    /// More header fields than the `http` crate can hold.
    #[error("the request has too many header fields")]
    TooManyFields,
}

impl RequestError {
    /// The status to answer with: 400.
    #[must_use]
    pub fn status(&self) -> StatusCode {
        StatusCode::BAD_REQUEST
    }
}
