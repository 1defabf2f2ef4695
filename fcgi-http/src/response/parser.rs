//! Reads a head from STDOUT as it comes.

use bytes::{Buf, Bytes};
use http::StatusCode;

use super::{Head, fields::Fields};

/// Limits on a head.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct HeadLimits {
    /// Its bytes, including the empty line at its end. Default: 65,536.
    pub bytes: usize,
    /// Its header fields. Default: 256.
    pub fields: usize,
}

impl Default for HeadLimits {
    fn default() -> Self {
        Self { bytes: 65_536, fields: 256 }
    }
}

/// Reads the head of one response. The result depends only on the bytes, not on how they are cut.
///
/// - Lines end with LF or CRLF (CGI-6.3-1). An empty line ends the head, which must have at least
///   one field (RFC 3875, 6.3).
/// - Status is `NNN reason`. Without it the status is 200, or 302 if there is a Location.
/// - These are refused, as CGI-6.3.4-1 requires: a line without a colon; a CR, NUL or other control
///   byte in a name or value; a space in or after a name; a continuation line, which RFC 3875, 6.3,
///   does not have; a head past its limits; and more than one Status, Location, Content-Type or
///   Content-Length.
/// - A first line such as `HTTP/1.1 200 OK` is refused too. Non-parsed heads (RFC 3875, 5) are for
///   programs that hold the client's connection, which a FastCGI application never does.
/// - Other contents of fields are not checked: X-Accel-Redirect, X-Sendfile and so on are left to
///   the caller.
///
/// Memory: one incomplete line, and the fields so far.
#[derive(Debug)]
pub struct HeadParser {
    limits: HeadLimits,
    fields: Fields,
    /// A line whose end has not come yet.
    line: Vec<u8>,
    used: usize,
    over: Option<HeadError>,
}

impl HeadParser {
    /// A parser for one response.
    #[must_use]
    pub fn new(limits: HeadLimits) -> Self {
        Self::with_fields(limits, Fields::new(limits.fields))
    }

    pub(crate) fn with_variables(limits: HeadLimits) -> Self {
        Self::with_fields(limits, Fields::with_variables(limits.fields))
    }

    fn with_fields(limits: HeadLimits, fields: Fields) -> Self {
        Self { limits, fields, line: Vec::new(), used: 0, over: None }
    }

    /// Takes the next bytes of STDOUT. `Some` means that the head is complete, and that `input` now
    /// holds the start of the body, not copied. `None` means that all of `input` was used and more
    /// is needed.
    ///
    /// # Errors
    /// The response is bad: a gateway answers 502 and passes nothing of it on. Every later call
    /// returns the same error; after a complete head it is [`HeadError::Finished`].
    pub fn push(&mut self, input: &mut Bytes) -> Result<Option<Head>, HeadError> {
        Ok(self.push_fields(input)?.map(|fields| fields.head))
    }

    pub(crate) fn push_fields(&mut self, input: &mut Bytes) -> Result<Option<Parsed>, HeadError> {
        if let Some(error) = &self.over {
            return Err(error.clone());
        }
        let result = self.advance(input);
        match &result {
            Ok(None) => {}
            Ok(Some(_)) => self.over = Some(HeadError::Finished),
            Err(error) => self.over = Some(error.clone()),
        }
        if self.over.is_some() {
            self.line = Vec::new();
        }
        result
    }

    /// STDOUT has ended. Returns `Ok` if the head was complete.
    ///
    /// # Errors
    /// [`Truncated`](HeadError::Truncated) if it ended inside the head or before it;
    /// otherwise the earlier error.
    pub fn finish(&self) -> Result<(), HeadError> {
        match &self.over {
            Some(HeadError::Finished) => Ok(()),
            Some(error) => Err(error.clone()),
            None => Err(HeadError::Truncated { bytes: self.used }),
        }
    }

    fn advance(&mut self, input: &mut Bytes) -> Result<Option<Parsed>, HeadError> {
        while !input.is_empty() {
            // The limit is checked before anything is buffered.
            let room = self.limits.bytes - self.used;
            let window = input.get(..room).unwrap_or(input);
            let Some(end) = window.iter().position(|byte| *byte == b'\n') else {
                if input.len() > room {
                    return Err(HeadError::TooLarge { limit: self.limits.bytes });
                }
                self.used += input.len();
                self.line.extend_from_slice(input);
                input.clear();
                return Ok(None);
            };
            self.used += end + 1;
            let last = if self.line.is_empty() {
                self.fields.line(&input[..end])?
            } else {
                self.line.extend_from_slice(&input[..end]);
                let last = self.fields.line(&self.line)?;
                self.line.clear();
                last
            };
            input.advance(end + 1);
            if last {
                return self.fields.take_head().map(Some);
            }
        }
        Ok(None)
    }
}

/// A head, and the variables of an Authorizer's response.
#[derive(Debug)]
pub(crate) struct Parsed {
    pub(crate) head: Head,
    pub(crate) variables: fcgi_proto::Params,
}

/// A bad response.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum HeadError {
    /// No empty line within the limit.
    #[error("the response's head has more than {limit} bytes")]
    TooLarge {
        /// [`HeadLimits::bytes`].
        limit: usize,
    },
    /// More fields than the limit.
    #[error("the response's head has more than {limit} fields")]
    TooManyFields {
        /// [`HeadLimits::fields`].
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
