//! Bodies held against their declared length.

use std::{io, sync::Arc};

use bytes::Bytes;
use fcgi_http::{BodyLength, BodyLengthError};

use super::HttpError;
use crate::Error;

/// Holds the body of a response against its head while it comes (CGI-6.3.5-1).
#[derive(Debug)]
pub struct BodyCheck {
    address: Arc<str>,
    length: BodyLength,
    too_long: Option<BodyLengthError>,
}

impl BodyCheck {
    /// A body of this length, from the application at this address.
    #[must_use]
    pub const fn new(address: Arc<str>, length: BodyLength) -> Self {
        Self { address, length, too_long: None }
    }

    /// More of the body: what of it is to be handed out, or nothing. What follows after the last
    /// byte is the error of [`take_error`](Self::take_error), to be handed out next.
    pub fn accept(&mut self, mut bytes: Bytes) -> Option<Bytes> {
        if let Err(error) = self.length.cut(&mut bytes) {
            self.too_long = Some(error);
        }
        (!bytes.is_empty()).then_some(bytes)
    }

    /// That there was more than belongs to the body, once.
    pub fn take_error(&mut self) -> Option<HttpError> {
        let source = self.too_long.take()?;
        Some(HttpError::Body { address: Arc::clone(&self.address), source })
    }

    /// Whether there is an error for [`take_error`](Self::take_error).
    #[must_use]
    pub const fn has_error(&self) -> bool {
        self.too_long.is_some()
    }

    /// The request has ended with this status.
    ///
    /// # Errors
    /// The body is too short; or only its end says how long it is, and the status is not 0: it may
    /// have been cut.
    pub fn end(&self, app_status: u32) -> Result<(), HttpError> {
        let address = Arc::clone(&self.address);
        let endless = self.length.declared().is_none() && !self.length.is_dropped();
        match self.length.finish() {
            Err(source) => Err(HttpError::Body { address, source }),
            Ok(()) if app_status != 0 && endless => {
                Err(HttpError::AppStatus { address, app_status })
            }
            Ok(()) => Ok(()),
        }
    }

    /// Bytes that are still to be handed out, where that is known.
    #[must_use]
    pub const fn remaining(&self) -> Option<u64> {
        if self.length.is_dropped() { Some(0) } else { self.length.remaining() }
    }
}

/// The error of a handler that reads a request's body of another length than was declared
/// (FC-6.2-2).
#[must_use]
pub fn input_length(error: &BodyLengthError) -> Error {
    let (declared, seen) = match error {
        BodyLengthError::TooLong { declared, seen }
        | BodyLengthError::TooShort { declared, seen } => (*declared, *seen),
        // Of fields, which are not read then.
        _ => (0, 0),
    };
    Error::InputLength { declared, seen }
}

/// The error of a caller's body that is sent with another length than it declared.
#[must_use]
pub fn length_error(error: BodyLengthError) -> io::Error {
    let kind = match error {
        BodyLengthError::TooShort { .. } => io::ErrorKind::UnexpectedEof,
        _ => io::ErrorKind::InvalidData,
    };
    io::Error::new(kind, error)
}
