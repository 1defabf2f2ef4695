//! The few facts of the FastCGI wire format that the benchmark itself needs.
//!
//! It is separate from every implementation under test, so that it can judge them all.

use anyhow::{Context, Result, bail, ensure};

/// Record type FCGI_BEGIN_REQUEST.
pub(crate) const BEGIN_REQUEST: u8 = 1;
/// Record type FCGI_END_REQUEST.
pub(crate) const END_REQUEST: u8 = 3;
/// Record type FCGI_PARAMS.
pub(crate) const PARAMS: u8 = 4;
/// Record type FCGI_STDIN.
pub(crate) const STDIN: u8 = 5;
/// Record type FCGI_STDOUT.
pub(crate) const STDOUT: u8 = 6;
/// Record type FCGI_STDERR.
pub(crate) const STDERR: u8 = 7;

/// The length of a record header.
pub(crate) const HEADER: usize = 8;
/// The longest content that is a multiple of eight, so that it needs no padding.
pub(crate) const FULL_RECORD: usize = 65_528;
/// The body of a BEGIN_REQUEST for a responder whose connection is kept.
pub(crate) const BEGIN_BODY: [u8; 8] = begin_body(true);
/// The request id that every benchmark uses, as web servers without multiplexing do.
pub(crate) const ID: u16 = 1;

/// The body of a BEGIN_REQUEST for a responder.
pub(crate) const fn begin_body(keep: bool) -> [u8; 8] {
    [0, 1, keep as u8, 0, 0, 0, 0, 0]
}

/// One record at the front of some bytes.
pub(crate) struct Record<'a> {
    /// The record type.
    pub(crate) kind: u8,
    /// The request id.
    pub(crate) id: u16,
    /// The content, without padding.
    pub(crate) content: &'a [u8],
    /// What follows the record and its padding.
    pub(crate) rest: &'a [u8],
}

impl<'a> Record<'a> {
    /// Cuts the first record off `bytes`, or returns `None` while it is incomplete.
    #[inline]
    pub(crate) fn split(bytes: &'a [u8]) -> Option<Record<'a>> {
        let header = bytes.first_chunk::<HEADER>()?;
        let length = usize::from(u16::from_be_bytes([header[4], header[5]]));
        let end = HEADER + length + usize::from(header[6]);
        Some(Record {
            kind: header[1],
            id: u16::from_be_bytes([header[2], header[3]]),
            content: bytes.get(HEADER..HEADER + length)?,
            rest: bytes.get(end..)?,
        })
    }
}

/// Appends one record, padded to a multiple of eight bytes.
pub(crate) fn put_record(out: &mut Vec<u8>, kind: u8, id: u16, content: &[u8]) {
    let length = u16::try_from(content.len()).expect("a record's content fits 16 bits");
    let padding = length.wrapping_neg() % 8;
    out.extend_from_slice(&[1, kind]);
    out.extend_from_slice(&id.to_be_bytes());
    out.extend_from_slice(&length.to_be_bytes());
    out.extend_from_slice(&[padding as u8, 0]);
    out.extend_from_slice(content);
    out.resize(out.len() + usize::from(padding), 0);
}

/// Appends one name-value pair.
pub(crate) fn put_pair(out: &mut Vec<u8>, name: &[u8], value: &[u8]) {
    for length in [name.len(), value.len()] {
        match u8::try_from(length) {
            Ok(short @ 0..=127) => out.push(short),
            _ => out.extend_from_slice(&(length as u32 | 1 << 31).to_be_bytes()),
        }
    }
    out.extend_from_slice(name);
    out.extend_from_slice(value);
}

/// What a whole stream of records carried.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Carried {
    /// The name-value pairs of PARAMS, in order.
    pub(crate) params: Vec<(Vec<u8>, Vec<u8>)>,
    /// The bytes of the stream looked at.
    pub(crate) body: Vec<u8>,
}

/// Reads back what an encoder wrote: its pairs, and the bytes of stream `kind`.
pub(crate) fn read_back(mut bytes: &[u8], kind: u8) -> Result<Carried> {
    let mut pairs = Vec::new();
    let mut carried = Carried::default();
    let mut ended = false;
    while !bytes.is_empty() {
        let record = Record::split(bytes).context("the last record is incomplete")?;
        match record.kind {
            PARAMS => pairs.extend_from_slice(record.content),
            k if k == kind => {
                ensure!(!ended, "a record after the end of its stream");
                ended = record.content.is_empty();
                carried.body.extend_from_slice(record.content);
            }
            _ => {}
        }
        bytes = record.rest;
    }
    if !ended {
        bail!("the stream has no end");
    }
    let mut rest = &pairs[..];
    while !rest.is_empty() {
        let name = take_length(&mut rest)?;
        let value = take_length(&mut rest)?;
        ensure!(name + value <= rest.len(), "a pair is cut short");
        let (pair, after) = rest.split_at(name + value);
        carried.params.push((pair[..name].to_vec(), pair[name..].to_vec()));
        rest = after;
    }
    Ok(carried)
}

/// Takes a one- or four-byte length off the front of `bytes`.
fn take_length(bytes: &mut &[u8]) -> Result<usize> {
    let first = *bytes.first().context("a length is missing")?;
    if first < 128 {
        *bytes = &bytes[1..];
        return Ok(usize::from(first));
    }
    let long = *bytes.first_chunk::<4>().context("a length is cut short")?;
    *bytes = &bytes[4..];
    Ok((u32::from_be_bytes(long) & (u32::MAX >> 1)) as usize)
}
