//! Writes a head for STDOUT.

use bytes::{BufMut, Bytes, BytesMut};
use http::{StatusCode, header::HeaderName, response::Parts};

use super::ReasonPhrase;
use crate::{
    body::{self, BodyLengthError},
    hop,
    text::excerpt,
};

/// A response's head for STDOUT, in one piece, including the empty line.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct HeadBlock {
    bytes: Bytes,
}

impl HeadBlock {
    /// How many bytes one record can hold.
    pub const RECORD_CONTENT: usize = 65_535;

    /// The head of `response`.
    ///
    /// Status always comes first: without one, Apache takes a Location for 200 (W-2). Hop-by-hop
    /// fields, and those that Connection names, are left out: nginx and Apache would pass on
    /// `Transfer-Encoding: chunked` with a body that is not chunked (W-3). A field named Status is
    /// left out too. Repeated fields stay separate. Nothing is added: a response with a body should
    /// have a Content-Type (RFC 3875, 6.3.1).
    ///
    /// # Errors
    /// The status is informational, Content-Length is not one number, or a field does not fit on a
    /// line.
    pub fn new(response: &Parts) -> Result<Self, HeadWriteError> {
        body::content_length(&response.headers)?;
        let mut writer = BlockWriter::new(response.status)?;
        let nominated = hop::Nominated::of(&response.headers);
        for (name, value) in &response.headers {
            if !is_left_out(name) && !nominated.contains(name) {
                writer.field("", name.as_str().as_bytes(), value.as_bytes())?;
            }
        }
        Ok(writer.finish())
    }

    /// Whether one record can hold the whole head. HAProxy 2.6 crashes when a head is cut over
    /// records (W-1), so write it in one piece. A longer head does not fit one record and is always
    /// split.
    #[must_use]
    pub fn fits_record(&self) -> bool {
        self.bytes.len() <= Self::RECORD_CONTENT
    }

    /// Length in bytes; never 0.
    #[must_use]
    #[expect(clippy::len_without_is_empty, reason = "no head is empty")]
    pub fn len(&self) -> usize {
        self.bytes.len()
    }

    /// The bytes.
    #[must_use]
    pub fn into_bytes(self) -> Bytes {
        self.bytes
    }
}

impl AsRef<[u8]> for HeadBlock {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

impl From<HeadBlock> for Bytes {
    fn from(block: HeadBlock) -> Self {
        block.bytes
    }
}

fn is_left_out(name: &HeaderName) -> bool {
    hop::is_hop_by_hop(name) || name == "status"
}

/// Builds a head line by line.
pub(crate) struct BlockWriter {
    out: BytesMut,
}

impl BlockWriter {
    pub(crate) fn new(status: StatusCode) -> Result<Self, HeadWriteError> {
        if status.is_informational() {
            return Err(HeadWriteError::Informational(status));
        }
        let mut out = BytesMut::with_capacity(256);
        out.put_slice(b"Status: ");
        out.put_slice(status.as_str().as_bytes());
        out.put_slice(b" ");
        // Some readers require a reason after the code.
        out.put_slice(ReasonPhrase::standard(status).as_bytes());
        out.put_slice(b"\r\n");
        Ok(Self { out })
    }

    /// Appends a field whose name is `prefix` and `name`. Both are checked, whatever their types
    /// promise: a line end in them would start another field, or the body.
    pub(crate) fn field(
        &mut self,
        prefix: &str,
        name: &[u8],
        value: &[u8],
    ) -> Result<(), HeadWriteError> {
        let is_name = !name.is_empty() && HeaderName::from_bytes(name).is_ok();
        let is_value = value.iter().all(|byte| *byte == b'\t' || (*byte >= 0x20 && *byte != 0x7f));
        if !is_name || !is_value {
            let line = [prefix.as_bytes(), name, b": ", value].concat();
            return Err(HeadWriteError::Field(excerpt(&line)));
        }
        self.out.reserve(prefix.len() + name.len() + value.len() + 4);
        self.out.put_slice(prefix.as_bytes());
        self.out.put_slice(name);
        self.out.put_slice(b": ");
        self.out.put_slice(value);
        self.out.put_slice(b"\r\n");
        Ok(())
    }

    pub(crate) fn finish(mut self) -> HeadBlock {
        self.out.put_slice(b"\r\n");
        HeadBlock { bytes: self.out.freeze() }
    }
}

/// A head that can't be written. Nothing of it was written.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum HeadWriteError {
    /// A 1xx status, such as 101, can't be that of a response.
    #[error("a response with status {0}, which is informational")]
    Informational(StatusCode),
    /// An Authorizer must deny with a status other than 200 (FC-6.3-2).
    #[error("a denial with status 200, which would allow the request")]
    DenyWithOk,
    /// A name that is not a field name, or a value with CR, LF, NUL or another control byte.
    #[error("the response's field \"{0}\" is not one line of a head")]
    Field(String),
    /// Content-Length is not one number.
    #[error("the response's length is not known")]
    ContentLength(#[from] BodyLengthError),
}
