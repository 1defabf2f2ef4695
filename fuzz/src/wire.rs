//! A second implementation of FastCGI, slow and plain, that the crate under test is compared with.
//! It does not use that crate's codec.

use std::sync::LazyLock;

use arbitrary::{Result, Unstructured};

/// Numbers of the record types (specification, section 8).
#[allow(missing_docs)]
pub mod kind {
    pub const BEGIN: u8 = 1;
    pub const ABORT: u8 = 2;
    pub const END: u8 = 3;
    pub const PARAMS: u8 = 4;
    pub const STDIN: u8 = 5;
    pub const STDOUT: u8 = 6;
    pub const STDERR: u8 = 7;
    pub const DATA: u8 = 8;
    pub const GET_VALUES: u8 = 9;
    pub const GET_VALUES_RESULT: u8 = 10;
    pub const UNKNOWN_TYPE: u8 = 11;
}
use kind::*;

/// One record, whole.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Record {
    /// Its type's number.
    pub kind: u8,
    /// Its request id.
    pub id: u16,
    /// Its content.
    pub content: Vec<u8>,
    /// Bytes of padding.
    pub padding: u8,
}

/// A record's bytes; the content is at most 65,535 bytes.
pub fn record(kind: u8, id: u16, content: &[u8], padding: u8) -> Vec<u8> {
    let len = content.len() as u16;
    let mut out = vec![1, kind, (id >> 8) as u8, id as u8, (len >> 8) as u8, len as u8, padding, 0];
    out.extend_from_slice(content);
    out.extend(std::iter::repeat_n(0xEE, padding.into()));
    out
}

/// The first record of `bytes` and how many bytes it takes; `None` if it is not whole.
pub fn first(bytes: &[u8]) -> Option<(Record, usize)> {
    let header = bytes.get(..8)?;
    let len = usize::from(header[4]) * 256 + usize::from(header[5]);
    let end = 8 + len + usize::from(header[6]);
    bytes.get(..end)?;
    let id = u16::from(header[2]) * 256 + u16::from(header[3]);
    let content = bytes[8..8 + len].to_vec();
    Some((Record { kind: header[1], id, content, padding: header[6] }, end))
}

/// A piece of a conversation that ends where something is known to be complete.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Piece {
    /// Where it ends.
    pub end: usize,
    /// The record's type.
    pub kind: u8,
    /// The record's id.
    pub id: u16,
    /// Whether it is the header, the content (or what there is of it), the padding.
    pub part: Part,
}

/// See [`Piece`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Part {
    /// The header; whether the content is empty.
    Header {
        /// Whether the record ends with it.
        empty: bool,
    },
    /// The content; whether all of it.
    Content {
        /// Whether it is whole.
        whole: bool,
    },
    /// The padding, or what can't be read.
    Rest,
}

/// Cuts a conversation into headers, contents and paddings.
pub fn pieces(bytes: &[u8]) -> Vec<Piece> {
    let mut out = Vec::new();
    let mut at = 0;
    while at < bytes.len() {
        let Some(header) = bytes.get(at..at + 8) else {
            out.push(Piece { end: bytes.len(), kind: 0, id: 0, part: Part::Rest });
            break;
        };
        let (kind, id) = (header[1], u16::from_be_bytes([header[2], header[3]]));
        let len = usize::from(u16::from_be_bytes([header[4], header[5]]));
        let padding = usize::from(header[6]);
        at += 8;
        out.push(Piece { end: at, kind, id, part: Part::Header { empty: len == 0 } });
        if len > 0 && at < bytes.len() {
            let whole = bytes.len() - at >= len;
            at = (at + len).min(bytes.len());
            out.push(Piece { end: at, kind, id, part: Part::Content { whole } });
        }
        if padding > 0 && at < bytes.len() {
            at = (at + padding).min(bytes.len());
            out.push(Piece { end: at, kind, id, part: Part::Rest });
        }
    }
    out
}

/// All pairs of a PARAMS stream; `None` if it ends inside one.
pub fn pairs(mut bytes: &[u8]) -> Option<Vec<(Vec<u8>, Vec<u8>)>> {
    let mut out = Vec::new();
    while !bytes.is_empty() {
        let name = length(&mut bytes)?;
        let value = length(&mut bytes)?;
        if bytes.len() < name + value {
            return None;
        }
        out.push((bytes[..name].to_vec(), bytes[name..name + value].to_vec()));
        bytes = &bytes[name + value..];
    }
    Some(out)
}

/// Reads a length off the front.
pub fn length(bytes: &mut &[u8]) -> Option<usize> {
    let first = *bytes.first()?;
    let size = if first < 128 { 1 } else { 4 };
    let mut len = 0;
    for byte in bytes.get(..size)? {
        len = len * 256 + usize::from(*byte);
    }
    *bytes = &bytes[size..];
    Some(len & 0x7fff_ffff)
}

/// One pair in the shortest form.
pub fn pair(name: &[u8], value: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    for len in [name.len(), value.len()] {
        if len < 128 {
            out.push(len as u8);
        } else {
            out.extend([(len >> 24) as u8 | 128, (len >> 16) as u8, (len >> 8) as u8, len as u8]);
        }
    }
    out.extend_from_slice(name);
    out.extend_from_slice(value);
    out
}

/// The end whose bytes they are.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Side {
    /// The web server's.
    Client,
    /// The application's.
    Server,
}

/// Draws a conversation: mostly well-formed records, so that deep states are reached, some with a
/// field changed, and raw bytes in between. At most `max` bytes, plus a record.
pub fn conversation(u: &mut Unstructured<'_>, side: Side, max: usize) -> Result<Vec<u8>> {
    let mut out = Vec::new();
    let long = max > RECORD_MOST;
    while !u.is_empty() && out.len() < max {
        let id = match u.int_in_range(0..=15u8)? {
            0 => u.arbitrary()?,
            n => u16::from(n % 4) + 1,
        };
        let padding = match u.arbitrary::<u8>()? {
            n @ 0..=7 => n,
            n @ 250.. => n,
            _ => 0,
        };
        let choice: u8 = u.arbitrary()?;
        let mut bytes = match side {
            Side::Client => from_client(u, choice, id, padding, long)?,
            Side::Server => from_server(u, choice, id, padding, long)?,
        };
        // One field in 16 records is something else.
        if u.int_in_range(0..=15u8)? == 15 && !bytes.is_empty() {
            let at = u.int_in_range(0..=bytes.len().min(16) - 1)?;
            bytes[at] = u.arbitrary()?;
        }
        out.extend(bytes);
    }
    out.truncate(max + RECORD_MOST);
    Ok(out)
}

fn from_client(
    u: &mut Unstructured<'_>,
    choice: u8,
    id: u16,
    padding: u8,
    long: bool,
) -> Result<Vec<u8>> {
    Ok(match choice % 16 {
        0 | 1 => record(BEGIN, id, &begin(u)?, padding),
        // A request up to the end of its PARAMS.
        2..=4 => {
            let mut out = record(BEGIN, id, &begin(u)?, padding);
            let mut params = Vec::new();
            for _ in 0..u.int_in_range(0..=3u8)? {
                params.extend(pair(&content(u, long)?, &content(u, long)?));
            }
            params.truncate(65_535);
            if !params.is_empty() {
                out.extend(record(PARAMS, id, &params, padding));
            }
            out.extend(record(PARAMS, id, &[], 0));
            out
        }
        5 => record(PARAMS, id, &content(u, long)?, padding),
        6 => record(PARAMS, id, &[], padding),
        7 | 8 => record(STDIN, id, &content(u, long)?, padding),
        9 => record(STDIN, id, &[], padding),
        10 => record(DATA, id, &content(u, long)?, padding),
        11 => record(DATA, id, &[], padding),
        12 => record(ABORT, id, &[], padding),
        13 => record(GET_VALUES, 0, &values(u, long)?, padding),
        _ => odd(u, id, padding, long)?,
    })
}

fn from_server(
    u: &mut Unstructured<'_>,
    choice: u8,
    id: u16,
    padding: u8,
    long: bool,
) -> Result<Vec<u8>> {
    Ok(match choice % 16 {
        0..=3 => record(STDOUT, id, &content(u, long)?, padding),
        4 => record(STDOUT, id, &[], padding),
        5 | 6 => record(STDERR, id, &content(u, long)?, padding),
        7 => record(STDERR, id, &[], padding),
        8..=10 => {
            let status = *u.choose(&[0, 0, 0, 1, 2, 3, 4, 255])?;
            record(END, id, &[0, 0, 0, u.arbitrary()?, status, 9, 9, 9], padding)
        }
        11 => record(GET_VALUES_RESULT, 0, &values(u, long)?, padding),
        12 => record(UNKNOWN_TYPE, 0, &[u.arbitrary()?, 0, 0, 0, 0, 0, 0, 0], padding),
        _ => odd(u, id, padding, long)?,
    })
}

fn odd(u: &mut Unstructured<'_>, id: u16, padding: u8, long: bool) -> Result<Vec<u8>> {
    Ok(match u.int_in_range(0..=3u8)? {
        0 => record(u.arbitrary()?, id, &content(u, long)?, padding),
        1 => record(u.arbitrary()?, 0, &content(u, long)?, padding),
        // Many small records.
        2 => {
            let one = record(u.arbitrary()?, id, &content(u, long)?[..], 0);
            one.repeat(if one.len() < 64 { u.int_in_range(1..=100)? } else { 1 })
        }
        _ => content(u, long)?,
    })
}

fn begin(u: &mut Unstructured<'_>) -> Result<[u8; 8]> {
    let role = *u.choose(&[1, 1, 1, 2, 3, 3, 4])?;
    Ok([0, role, u.arbitrary()?, 1, 2, 3, 4, 5])
}

fn values(u: &mut Unstructured<'_>, long: bool) -> Result<Vec<u8>> {
    let names: [&[u8]; 4] = [b"FCGI_MAX_CONNS", b"FCGI_MAX_REQS", b"FCGI_MPXS_CONNS", b"OTHER"];
    let mut out = Vec::new();
    for _ in 0..u.int_in_range(0..=5u8)? {
        out.extend(pair(u.choose(&names)?, u.choose(&[&b""[..], b"0", b"1", b"x", b"\xff"])?));
    }
    if u.ratio(1, 8)? {
        out.extend(content(u, long)?);
        out.truncate(65_535);
    }
    Ok(out)
}

/// A record, its header and padding too.
const RECORD_MOST: usize = 65_535 + 8 + 255;

/// Usually few bytes; now and then some more, or with `long` as many as a record holds.
fn content(u: &mut Unstructured<'_>, long: bool) -> Result<Vec<u8>> {
    static NOISE: LazyLock<Vec<u8>> =
        LazyLock::new(|| (0..65_535 + 256).map(|i| (i * 7 + i / 256) as u8).collect());
    let n: u8 = u.arbitrary()?;
    let len = match n {
        0..=239 => n as usize % 24,
        240..=249 if long => u.int_in_range(100..=5000)?,
        250..=252 if long => u.int_in_range(60_000..=65_535)?,
        240..=252 => u.int_in_range(100..=600)?,
        253 => 127,
        254 => 128,
        255 => return Ok(u.bytes(u.len().min(40))?.to_vec()),
    };
    let from = usize::from(u.arbitrary::<u8>()?);
    Ok(NOISE[from..from + len].to_vec())
}

/// The bytes that were sent so far, as records. Checks that they are as this crate promises.
#[derive(Debug)]
pub struct Sent {
    side: Side,
    partial: Vec<u8>,
    /// Records in order, those of one stream that follow each other put together.
    pub log: Vec<(u8, u16, Vec<u8>)>,
    /// Streams that ended, by id.
    ended: Vec<(u16, u8)>,
}

impl Sent {
    /// Nothing yet.
    pub fn new(side: Side) -> Self {
        Self { side, partial: Vec::new(), log: Vec::new(), ended: Vec::new() }
    }

    /// Takes more bytes.
    pub fn push(&mut self, bytes: &[u8]) {
        self.partial.extend_from_slice(bytes);
        let mut used = 0;
        while let Some((record, n)) = first(&self.partial[used..]) {
            let header = &self.partial[used..used + 8];
            assert_eq!((header[0], header[7]), (1, 0), "version and reserved byte");
            used += n;
            self.record(record);
        }
        if let Some(version) = self.partial.get(used) {
            assert_eq!(*version, 1, "version");
        }
        self.partial.drain(..used);
    }

    /// Whether the bytes end where a record ends.
    pub fn is_whole(&self) -> bool {
        self.partial.is_empty()
    }

    fn record(&mut self, Record { kind, id, content, padding }: Record) {
        // GET_VALUES always has some.
        let query = kind == GET_VALUES;
        assert!((u8::from(query)..8 + u8::from(query)).contains(&padding), "padding {padding}");
        assert!(padding == 0 || !content.is_empty(), "padding on an empty record (Q-2)");
        assert_eq!((content.len() + usize::from(padding)) % 8, 0, "alignment");
        let ours = match self.side {
            Side::Client => [BEGIN, ABORT, PARAMS, STDIN, DATA, GET_VALUES].contains(&kind),
            Side::Server => [END, STDOUT, STDERR, GET_VALUES_RESULT, UNKNOWN_TYPE].contains(&kind),
        };
        assert!(ours, "record type {kind} is not this side's");
        let management = [GET_VALUES, GET_VALUES_RESULT, UNKNOWN_TYPE].contains(&kind);
        assert_eq!(id == 0, management, "type {kind} with id {id}");
        match kind {
            BEGIN | END => {
                assert_eq!(content.len(), 8);
                self.ended.retain(|(other, _)| *other != id);
            }
            UNKNOWN_TYPE => assert_eq!(content.len(), 8),
            GET_VALUES | GET_VALUES_RESULT => assert!(pairs(&content).is_some()),
            ABORT => assert!(content.is_empty()),
            PARAMS => {
                // Whole pairs, unless one does not fit.
                assert!(pairs(&content).is_some() || content.len() > 30_000, "a pair is cut");
            }
            _ => {}
        }
        if [PARAMS, STDIN, DATA, STDOUT, STDERR].contains(&kind) {
            assert!(!self.ended.contains(&(id, kind)), "stream {kind} of {id} after its end");
            if content.is_empty() {
                self.ended.push((id, kind));
            } else if let Some((k, i, all)) = self.log.last_mut()
                && (*k, *i) == (kind, id)
                && !all.is_empty()
            {
                all.extend(content);
                return;
            }
        }
        self.log.push((kind, id, content));
    }
}
