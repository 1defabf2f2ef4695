//! Bodies that are checked against their declared length.
//!
//! FastCGI delimits a body by its stream, HTTP by Content-Length. If the two disagree, bytes of one
//! message end up in another (W-4), or a peer waits for bytes that never come (Q-4). Code that
//! passes a body on, in either direction, counts it with a [`BodyLength`].
//!
//! ```
//! use fcgi_http::body::BodyLength;
//!
//! let mut length = BodyLength::exactly(5);
//! assert_eq!(length.accept(3), Ok(3));
//! assert!(length.finish().is_err(), "two bytes are missing");
//! assert!(length.accept(3).is_err(), "one byte too many");
//! assert_eq!(length.accept(2), Ok(2));
//! assert_eq!(length.finish(), Ok(()));
//! ```

use bytes::Bytes;
use http::{HeaderMap, Method, StatusCode, header::CONTENT_LENGTH, response};

use crate::text::excerpt;

/// Counts the bytes of one body and compares them with what its head declares (CGI-6.3.5-1,
/// FC-6.2-2).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct BodyLength {
    rule: Rule,
    seen: u64,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Rule {
    Unknown,
    Exactly(u64),
    Dropped,
}

impl BodyLength {
    /// A body of `declared` bytes, or one that ends where its stream ends (W-10).
    #[must_use]
    pub const fn new(declared: Option<u64>) -> Self {
        match declared {
            Some(length) => Self::exactly(length),
            None => Self { rule: Rule::Unknown, seen: 0 },
        }
    }

    /// A body of exactly `length` bytes.
    #[must_use]
    pub const fn exactly(length: u64) -> Self {
        Self { rule: Rule::Exactly(length), seen: 0 }
    }

    /// A body that is not passed on, whatever comes: that of a response to HEAD, or of an
    /// Authorizer's answer that allows a request (FC-6.3-2).
    #[must_use]
    pub const fn dropped() -> Self {
        Self { rule: Rule::Dropped, seen: 0 }
    }

    /// The body that follows a response's head. After HEAD and with 1xx, 204 and 304 it is dropped:
    /// these have no body whatever their Content-Length says (RFC 9112, 6.3). Otherwise
    /// Content-Length decides.
    ///
    /// # Errors
    /// A Content-Length that is not a number, or that came twice.
    pub fn of_response(
        response: &response::Parts,
        request_method: &Method,
    ) -> Result<Self, BodyLengthError> {
        let declared = content_length(&response.headers)?;
        let none = request_method == Method::HEAD
            || response.status.is_informational()
            || matches!(response.status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED);
        Ok(if none { Self::dropped() } else { Self::new(declared) })
    }

    /// Like [`of_response`](Self::of_response), for a response that an application is about to
    /// send; `known` is the length of its body, if known. Adds a Content-Length if there is none
    /// and the length is known, and removes it from a 204, which has none (RFC 9110, 8.6).
    ///
    /// # Errors
    /// As for [`of_response`](Self::of_response).
    pub fn to_send(
        response: &mut response::Parts,
        request_method: &Method,
        known: Option<u64>,
    ) -> Result<Self, BodyLengthError> {
        if response.status == StatusCode::NO_CONTENT {
            response.headers.remove(CONTENT_LENGTH);
        }
        let length = Self::of_response(response, request_method)?;
        match known {
            Some(known) if length.rule == Rule::Unknown => {
                response.headers.insert(CONTENT_LENGTH, known.into());
                Ok(Self::exactly(known))
            }
            _ => Ok(length),
        }
    }

    /// Counts `n` more bytes of the body. Returns how many of them to pass on: all, or none if the
    /// body is dropped.
    ///
    /// # Errors
    /// [`TooLong`](BodyLengthError::TooLong) if they exceed the declared length. They are not
    /// counted then; the first [`remaining`](Self::remaining) of them still belong to the body.
    pub fn accept(&mut self, n: usize) -> Result<usize, BodyLengthError> {
        let seen = self.seen.saturating_add(n as u64);
        if let Rule::Exactly(declared) = self.rule {
            if seen > declared {
                return Err(BodyLengthError::TooLong { declared, seen });
            }
        }
        self.seen = seen;
        Ok(if self.rule == Rule::Dropped { 0 } else { n })
    }

    /// Counts the next bytes of a body that is passed on whole; `None` is its end.
    ///
    /// # Errors
    /// As for [`accept`](Self::accept) and [`finish`](Self::finish).
    pub fn count(&mut self, next: Option<usize>) -> Result<(), BodyLengthError> {
        match next {
            Some(n) => self.accept(n).map(drop),
            None => self.finish(),
        }
    }

    /// Counts more of the body, and leaves in `chunk` what should be passed on.
    ///
    /// ```
    /// use bytes::Bytes;
    /// use fcgi_http::BodyLength;
    ///
    /// let mut length = BodyLength::exactly(4);
    /// let mut chunk = Bytes::from_static(b"body and more");
    /// assert!(length.cut(&mut chunk).is_err());
    /// assert_eq!(chunk, "body");
    /// assert_eq!(length.remaining(), Some(0));
    /// ```
    ///
    /// # Errors
    /// [`TooLong`](BodyLengthError::TooLong) if there was more than belongs to the body.
    pub fn cut(&mut self, chunk: &mut Bytes) -> Result<(), BodyLengthError> {
        match self.accept(chunk.len()) {
            Ok(passed) => {
                chunk.truncate(passed);
                Ok(())
            }
            Err(error) => {
                let left = self.remaining().unwrap_or_default();
                // `left` is less than the chunk's length.
                chunk.truncate(usize::try_from(left).unwrap_or_default());
                self.seen += chunk.len() as u64;
                Err(error)
            }
        }
    }

    /// The body has ended.
    ///
    /// # Errors
    /// [`TooShort`](BodyLengthError::TooShort) if bytes are missing: of a request because the HTTP
    /// client went away, of a response because the application did.
    pub fn finish(&self) -> Result<(), BodyLengthError> {
        match self.rule {
            Rule::Exactly(declared) if self.seen < declared => {
                Err(BodyLengthError::TooShort { declared, seen: self.seen })
            }
            _ => Ok(()),
        }
    }

    /// The declared length in bytes, if the body is passed on and has one.
    #[must_use]
    pub const fn declared(&self) -> Option<u64> {
        match self.rule {
            Rule::Exactly(length) => Some(length),
            Rule::Unknown | Rule::Dropped => None,
        }
    }

    /// Bytes that have come so far.
    #[must_use]
    pub const fn seen(&self) -> u64 {
        self.seen
    }

    /// Bytes still missing, if a length is declared.
    #[must_use]
    pub const fn remaining(&self) -> Option<u64> {
        match self.rule {
            Rule::Exactly(length) => Some(length - self.seen),
            Rule::Unknown | Rule::Dropped => None,
        }
    }

    /// Whether nothing of the body is passed on.
    #[must_use]
    pub const fn is_dropped(&self) -> bool {
        matches!(self.rule, Rule::Dropped)
    }
}

/// A body that differs from what its head declares.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BodyLengthError {
    /// More bytes than declared (FC-6.2-2, W-4).
    #[error("body of {seen} bytes or more where Content-Length says {declared}")]
    TooLong {
        /// What Content-Length says.
        declared: u64,
        /// Bytes that came, including those in excess.
        seen: u64,
    },
    /// The body ended early (FC-6.2-2).
    #[error("body ended after {seen} bytes where Content-Length says {declared}")]
    TooShort {
        /// What Content-Length says.
        declared: u64,
        /// Bytes that came.
        seen: u64,
    },
    /// Content-Length is not one decimal number below 2^64.
    #[error("Content-Length is \"{0}\" instead of one number")]
    Invalid(String),
}

/// The Content-Length field of `headers`; more than one is refused, even if they are equal.
pub(crate) fn content_length(headers: &HeaderMap) -> Result<Option<u64>, BodyLengthError> {
    let mut values = headers.get_all(CONTENT_LENGTH).iter();
    let Some(value) = values.next() else { return Ok(None) };
    match (parse_length(value.as_bytes()), values.next()) {
        (Some(length), None) => Ok(Some(length)),
        (_, None) => Err(BodyLengthError::Invalid(excerpt(value.as_bytes()))),
        (_, Some(second)) => {
            let (first, second) = (excerpt(value.as_bytes()), excerpt(second.as_bytes()));
            Err(BodyLengthError::Invalid(format!("{first}, {second}")))
        }
    }
}

/// Allows digits only: no sign, no space, no list.
pub(crate) fn parse_length(value: &[u8]) -> Option<u64> {
    if value.is_empty() || !value.iter().all(u8::is_ascii_digit) {
        return None;
    }
    std::str::from_utf8(value).ok()?.parse().ok()
}
