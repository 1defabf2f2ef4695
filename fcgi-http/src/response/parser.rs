//! Reads a head from STDOUT as it comes.

use bytes::{Buf, Bytes};

use super::{
    Head, HeadError,
    fields::{Fields, Parsed},
};

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
