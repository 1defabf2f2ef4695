//! Errors of a response's head.

use http::StatusCode;

/// A bad response.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum HeadError {
    /// No empty line within the limit.
    #[error("the response's head has more than {limit} bytes")]
    TooLarge {
        /// [`HeadLimits::bytes`](super::HeadLimits::bytes).
        limit: usize,
    },
    /// More fields than the limit.
    #[error("the response's head has more than {limit} fields")]
    TooManyFields {
        /// [`HeadLimits::fields`](super::HeadLimits::fields).
        limit: usize,
    },
    /// STDOUT ended before the head did.
    #[error("the response ended inside its head, after {bytes} bytes")]
    Truncated {
        /// Bytes that came.
        bytes: usize,
    },
    /// An empty line without a field before it.
    #[error("the response's head has no field")]
    Empty,
    /// A line without a colon.
    #[error("the line \"{0}\" of the response's head has no colon")]
    NoColon(String),
    /// A line such as `HTTP/1.1 200 OK`.
    #[error("the response starts with HTTP's status line \"{0}\" instead of CGI's fields")]
    StatusLine(String),
    /// A line that starts with a space or a tab.
    #[error("the line \"{0}\" of the response's head continues another, which CGI does not allow")]
    Continuation(String),
    /// The text before the colon is not a field name.
    #[error("the line \"{0}\" of the response's head has no field name")]
    FieldName(String),
    /// A CR, NUL or another control byte in a value.
    #[error("the line \"{0}\" of the response's head holds a control byte")]
    FieldValue(String),
    /// Status is not a three-digit number of 200 or more, with a reason.
    #[error("the response's Status is \"{0}\" instead of NNN reason")]
    Status(String),
    /// A field came again that may come only once.
    #[error("the response has more than one {0} field")]
    Repeated(&'static str),
    /// Content-Length is not a decimal number below 2^64.
    #[error("the response's Content-Length is \"{0}\" instead of a number")]
    ContentLength(String),
    /// A Location without other fields that starts with a slash but is not a path.
    #[error("the response's Location \"{0}\" is not a path")]
    Location(String),
    /// The head was complete before; what comes now is the body.
    #[error("the response's head was complete before")]
    Finished,
}

impl HeadError {
    /// The status that a gateway answers with: 502.
    #[must_use]
    pub fn status(&self) -> StatusCode {
        StatusCode::BAD_GATEWAY
    }
}
