//! The record codec: what FastCGI puts on the wire, one header at a time.
//!
//! Everything on a FastCGI connection is a record: 8 bytes of header, up to 65,535 bytes of
//! content, up to 255 bytes of padding (specification, section 3.3). This module knows the framing
//! and the two fixed bodies, but not what the records mean. Headers are read only by [`Framer`];
//! both connections use it, and so can a tracer or a proxy.
//!
//! ```
//! use fcgi_proto::record::{Framer, Piece, RecordHeader, RecordType};
//!
//! let header = RecordHeader::new(RecordType::Stdin, 1, 5);
//! let mut wire = header.encode().to_vec();
//! wire.extend_from_slice(b"hello");
//! wire.extend_from_slice(&[0; 3]); // padding to 8
//!
//! let mut framer = Framer::new();
//! let (used, piece) = framer.next(&wire, usize::MAX)?;
//! assert_eq!((used, piece), (8, Some(Piece::Header(header))));
//! let (used, piece) = framer.next(&wire[8..], usize::MAX)?;
//! assert_eq!((used, piece), (5, Some(Piece::Content(5))));
//! # Ok::<(), fcgi_proto::ProtocolErrorKind>(())
//! ```

use crate::{ProtocolErrorKind, Role};

/// The only protocol version: `FCGI_VERSION_1`.
pub const VERSION: u8 = 1;
/// Bytes of a record header (`FCGI_HEADER_LEN`).
pub const HEADER_LEN: usize = 8;
/// The longest content of a record, in bytes.
pub const MAX_CONTENT: usize = 65_535;
/// The longest content that this crate sends: the largest multiple of 8, so that full records
/// need no padding (FC-3.3-2).
pub const MAX_ALIGNED_CONTENT: usize = MAX_CONTENT & !7;
/// Bytes of the bodies of BEGIN_REQUEST, END_REQUEST and UNKNOWN_TYPE.
pub const BODY_LEN: usize = 8;

/// The type of a record (specification, section 8).
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum RecordType {
    /// `FCGI_BEGIN_REQUEST` (1): the web server starts a request.
    BeginRequest,
    /// `FCGI_ABORT_REQUEST` (2): the web server gives a request up.
    AbortRequest,
    /// `FCGI_END_REQUEST` (3): the application ends a request.
    EndRequest,
    /// `FCGI_PARAMS` (4): name-value pairs of a request.
    Params,
    /// `FCGI_STDIN` (5): the body of a request.
    Stdin,
    /// `FCGI_STDOUT` (6): the response.
    Stdout,
    /// `FCGI_STDERR` (7): error text.
    Stderr,
    /// `FCGI_DATA` (8): a Filter's file.
    Data,
    /// `FCGI_GET_VALUES` (9): asks the application for its capacity.
    GetValues,
    /// `FCGI_GET_VALUES_RESULT` (10): the answer.
    GetValuesResult,
    /// `FCGI_UNKNOWN_TYPE` (11): answers a management record of unknown type.
    UnknownType,
    /// A type that the specification does not define.
    Other(u8),
}

impl RecordType {
    /// The type with this number.
    #[must_use]
    pub const fn from_u8(value: u8) -> Self {
        match value {
            1 => Self::BeginRequest,
            2 => Self::AbortRequest,
            3 => Self::EndRequest,
            4 => Self::Params,
            5 => Self::Stdin,
            6 => Self::Stdout,
            7 => Self::Stderr,
            8 => Self::Data,
            9 => Self::GetValues,
            10 => Self::GetValuesResult,
            11 => Self::UnknownType,
            other => Self::Other(other),
        }
    }

    /// The number on the wire.
    #[must_use]
    pub const fn as_u8(self) -> u8 {
        match self {
            Self::BeginRequest => 1,
            Self::AbortRequest => 2,
            Self::EndRequest => 3,
            Self::Params => 4,
            Self::Stdin => 5,
            Self::Stdout => 6,
            Self::Stderr => 7,
            Self::Data => 8,
            Self::GetValues => 9,
            Self::GetValuesResult => 10,
            Self::UnknownType => 11,
            Self::Other(value) => value,
        }
    }

    /// The specification's name, without its `FCGI_`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::BeginRequest => "BEGIN_REQUEST",
            Self::AbortRequest => "ABORT_REQUEST",
            Self::EndRequest => "END_REQUEST",
            Self::Params => "PARAMS",
            Self::Stdin => "STDIN",
            Self::Stdout => "STDOUT",
            Self::Stderr => "STDERR",
            Self::Data => "DATA",
            Self::GetValues => "GET_VALUES",
            Self::GetValuesResult => "GET_VALUES_RESULT",
            Self::UnknownType => "UNKNOWN_TYPE",
            Self::Other(_) => "unknown",
        }
    }
}

impl core::fmt::Display for RecordType {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            Self::Other(value) => write!(f, "type {value}"),
            known => f.write_str(known.name()),
        }
    }
}

/// The 8 bytes that start a record (FC-3.3-1). A content length over 65,535 can't be expressed.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct RecordHeader {
    /// What the record is.
    pub record_type: RecordType,
    /// The request that it belongs to; 0 for a management record.
    pub request_id: u16,
    /// Bytes of content that follow the header.
    pub content_length: u16,
    /// Bytes of padding that follow the content.
    pub padding_length: u8,
}

impl RecordHeader {
    /// A header with padding that brings the record to a multiple of 8 bytes. An empty record gets
    /// no padding (FC-3.3-2, Q-2).
    #[must_use]
    pub const fn new(record_type: RecordType, request_id: u16, content_length: u16) -> Self {
        Self {
            record_type,
            request_id,
            content_length,
            padding_length: padding_for(content_length as usize) as u8,
        }
    }

    /// The header's bytes; the reserved one is 0 (FC-3.3-3).
    #[must_use]
    pub const fn encode(&self) -> [u8; HEADER_LEN] {
        let id = self.request_id.to_be_bytes();
        let len = self.content_length.to_be_bytes();
        [VERSION, self.record_type.as_u8(), id[0], id[1], len[0], len[1], self.padding_length, 0]
    }

    /// Reads a header; the reserved byte is ignored (FC-3.3-3).
    ///
    /// # Errors
    /// [`ProtocolErrorKind::Version`] for any version but 1 (FC-3.3-4).
    pub const fn decode(bytes: [u8; HEADER_LEN]) -> Result<Self, ProtocolErrorKind> {
        if bytes[0] != VERSION {
            return Err(ProtocolErrorKind::Version(bytes[0]));
        }
        Ok(Self {
            record_type: RecordType::from_u8(bytes[1]),
            request_id: u16::from_be_bytes([bytes[2], bytes[3]]),
            content_length: u16::from_be_bytes([bytes[4], bytes[5]]),
            padding_length: bytes[6],
        })
    }
}

/// The padding that brings `content` to a multiple of 8.
pub(crate) const fn padding_for(content: usize) -> usize {
    content.wrapping_neg() & 7
}

/// The content of BEGIN_REQUEST (FC-5.1-1).
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct BeginRequestBody {
    /// The role's number; [`Role::from_u16`] names it.
    pub role: u16,
    /// `FCGI_KEEP_CONN`: whether the application should leave the connection open (FC-3.5-1).
    pub keep_conn: bool,
}

impl BeginRequestBody {
    const KEEP_CONN: u8 = 1;

    /// A body for this role.
    #[must_use]
    pub const fn new(role: Role, keep_conn: bool) -> Self {
        Self { role: role.as_u16(), keep_conn }
    }

    /// The body's bytes.
    #[must_use]
    pub const fn encode(&self) -> [u8; BODY_LEN] {
        let role = self.role.to_be_bytes();
        let flags = if self.keep_conn { Self::KEEP_CONN } else { 0 };
        [role[0], role[1], flags, 0, 0, 0, 0, 0]
    }

    /// Reads a body; undefined flags and reserved bytes are ignored (FC-3.3-3).
    #[must_use]
    pub const fn decode(bytes: [u8; BODY_LEN]) -> Self {
        Self {
            role: u16::from_be_bytes([bytes[0], bytes[1]]),
            keep_conn: bytes[2] & Self::KEEP_CONN != 0,
        }
    }
}

/// The content of END_REQUEST (FC-5.5-1).
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct EndRequestBody {
    /// What a CGI program would have given to `exit`.
    pub app_status: u32,
    /// The protocol status's number: 0 `REQUEST_COMPLETE`, 1 `CANT_MPX_CONN`, 2 `OVERLOADED`,
    /// 3 `UNKNOWN_ROLE`.
    pub protocol_status: u8,
}

impl EndRequestBody {
    /// The body's bytes.
    #[must_use]
    pub const fn encode(&self) -> [u8; BODY_LEN] {
        let status = self.app_status.to_be_bytes();
        [status[0], status[1], status[2], status[3], self.protocol_status, 0, 0, 0]
    }

    /// Reads a body; reserved bytes are ignored (FC-3.3-3, Q-3).
    #[must_use]
    pub const fn decode(bytes: [u8; BODY_LEN]) -> Self {
        Self {
            app_status: u32::from_be_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]),
            protocol_status: bytes[4],
        }
    }
}

/// A body of 8 bytes, as it arrives.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct FixedBody {
    bytes: [u8; BODY_LEN],
    have: usize,
}

impl FixedBody {
    pub(crate) fn push(&mut self, content: &[u8]) {
        if let Some(room) = self.bytes.get_mut(self.have..self.have + content.len()) {
            room.copy_from_slice(content);
            self.have += content.len();
        }
    }

    pub(crate) fn bytes(self) -> [u8; BODY_LEN] {
        self.bytes
    }
}

/// What [`Framer::next`] found.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Piece {
    /// A record starts.
    Header(RecordHeader),
    /// The bytes just used are this many bytes of the record's content.
    Content(usize),
    /// The content is complete; padding may still follow.
    End,
}

/// Finds the records in a stream of bytes, cut anywhere. It stores none of their content.
#[derive(Clone, Debug, Default)]
pub struct Framer {
    /// A header that has partly come.
    bytes: [u8; HEADER_LEN],
    have: u8,
    /// A header has come and the end of its content was not reported yet.
    in_record: bool,
    /// The rest of the content, and of the padding after it.
    left: u16,
    padding: u8,
}

impl Framer {
    /// A framer at the start of a record.
    #[must_use]
    pub const fn new() -> Self {
        Self { bytes: [0; HEADER_LEN], have: 0, in_record: false, left: 0, padding: 0 }
    }

    /// Reads from `input` and returns how many bytes it used and what they were. `None` means that
    /// it used all of them, or that content comes next and `max_content` is 0. Content comes in
    /// pieces of at most `max_content` bytes.
    ///
    /// # Errors
    /// [`ProtocolErrorKind::Version`]; the framer does not advance.
    #[inline]
    pub fn next(
        &mut self,
        input: &[u8],
        max_content: usize,
    ) -> Result<(usize, Option<Piece>), ProtocolErrorKind> {
        if !self.in_record {
            let padding = self.skip_padding(input);
            let (used, header) = self.header(&input[padding..])?;
            return Ok((padding + used, header.map(Piece::Header)));
        }
        if self.left == 0 {
            self.in_record = false;
            return Ok((0, Some(Piece::End)));
        }
        let take = usize::from(self.left).min(input.len()).min(max_content);
        self.left -= take as u16;
        Ok((take, (take > 0).then_some(Piece::Content(take))))
    }

    /// Whether a record's header has come but its end was not reported yet.
    #[inline]
    pub(crate) const fn is_in_record(&self) -> bool {
        self.in_record
    }

    /// The next header, once all of it has come, and how many bytes that used.
    #[inline]
    pub(crate) fn header(
        &mut self,
        input: &[u8],
    ) -> Result<(usize, Option<RecordHeader>), ProtocolErrorKind> {
        let (used, header) = match input.first_chunk::<HEADER_LEN>() {
            Some(whole) if self.have == 0 => (HEADER_LEN, RecordHeader::decode(*whole)?),
            _ => {
                let have = usize::from(self.have);
                let take = (HEADER_LEN - have).min(input.len());
                self.bytes[have..have + take].copy_from_slice(&input[..take]);
                if have + take < HEADER_LEN {
                    self.have += take as u8;
                    return Ok((take, None));
                }
                let header = RecordHeader::decode(self.bytes)?;
                self.have = 0;
                (take, header)
            }
        };
        self.in_record = true;
        (self.left, self.padding) = (header.content_length, header.padding_length);
        Ok((used, Some(header)))
    }

    /// Takes at most `max` of the `have` bytes of the current record's content. Returns how many it
    /// took, and whether the content ends there.
    #[inline]
    pub(crate) fn content(&mut self, have: usize, max: usize) -> (usize, bool) {
        let take = usize::from(self.left).min(have).min(max);
        self.left -= take as u16;
        self.in_record = self.left > 0;
        (take, self.left == 0)
    }

    /// How many bytes of the current record, its padding included, are still to come.
    #[inline]
    pub(crate) fn rest(&self) -> usize {
        usize::from(self.left) + usize::from(self.padding)
    }

    /// Skips the padding at the front of `input` and returns how many bytes that were.
    #[inline]
    pub(crate) fn skip_padding(&mut self, input: &[u8]) -> usize {
        if self.in_record {
            return 0;
        }
        let take = usize::from(self.padding).min(input.len());
        self.padding -= take as u8;
        take
    }

    /// Whether the bytes so far end where a record ends.
    #[inline]
    #[must_use]
    pub const fn is_at_boundary(&self) -> bool {
        !self.in_record && self.have == 0 && self.padding == 0
    }
}
