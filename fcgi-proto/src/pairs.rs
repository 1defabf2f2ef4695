//! Name-value pairs, the encoding of PARAMS and of GET_VALUES (specification, section 3.4).
//!
//! A pair is two lengths, each of one or four bytes, then the name, then the value. [`encode`]
//! writes the shortest form. [`PairDecoder`] reads every form, cut anywhere, and stores only the
//! lengths: memory follows the bytes that came, never a length that was declared (H-1).
//!
//! ```
//! use fcgi_proto::pairs::{PairDecoder, PairPiece, encode};
//!
//! let mut wire = Vec::new();
//! encode(b"METHOD", b"GET", &mut wire)?;
//! let mut decoder = PairDecoder::new();
//! let (used, piece) = decoder.next(&wire);
//! assert_eq!((used, piece), (2, Some(PairPiece::Lengths { name: 6, value: 3 })));
//! let (used, piece) = decoder.next(&wire[2..]);
//! assert_eq!((used, piece), (6, Some(PairPiece::Name(b"METHOD"))));
//! # Ok::<(), fcgi_proto::UsageError>(())
//! ```

use alloc::vec::Vec;

use crate::UsageError;

/// The longest name or value: 31 bits (FC-3.4-1).
pub const MAX_LEN: usize = 0x7fff_ffff;

/// Bytes that a pair takes when encoded in the shortest form. Saturates.
#[must_use]
pub const fn encoded_len(name: usize, value: usize) -> usize {
    lengths_len(name, value).saturating_add(name).saturating_add(value)
}

/// Bytes that the two lengths take in the shortest form.
pub(crate) const fn lengths_len(name: usize, value: usize) -> usize {
    length_len(name) + length_len(value)
}

const fn length_len(len: usize) -> usize {
    if len < 0x80 { 1 } else { 4 }
}

/// Appends a pair in the shortest form (FC-3.4-2).
///
/// # Errors
/// [`UsageError::PairTooLong`]; nothing is appended then.
#[inline]
pub fn encode(name: &[u8], value: &[u8], out: &mut Vec<u8>) -> Result<(), UsageError> {
    if let (n @ 0..0x80, v @ 0..0x80) = (name.len(), value.len()) {
        out.extend_from_slice(&[n as u8, v as u8]);
        out.extend_from_slice(name);
        out.extend_from_slice(value);
        return Ok(());
    }
    encode_long(name, value, out)
}

fn encode_long(name: &[u8], value: &[u8], out: &mut Vec<u8>) -> Result<(), UsageError> {
    check(name.len())?;
    check(value.len())?;
    let (lengths, n) = encode_lengths(name.len() as u32, value.len() as u32);
    out.reserve(n + name.len() + value.len());
    out.extend_from_slice(&lengths[..n]);
    out.extend_from_slice(name);
    out.extend_from_slice(value);
    Ok(())
}

pub(crate) fn check(len: usize) -> Result<(), UsageError> {
    if len > MAX_LEN { Err(UsageError::PairTooLong(len)) } else { Ok(()) }
}

/// The two lengths in the shortest form, and how many of the 8 bytes they take.
pub(crate) fn encode_lengths(name: u32, value: u32) -> ([u8; 8], usize) {
    let mut out = [0; 8];
    let mut n = 0;
    for len in [name, value] {
        if len < 0x80 {
            out[n] = len as u8;
            n += 1;
        } else {
            out[n..n + 4].copy_from_slice(&(len | 0x8000_0000).to_be_bytes());
            n += 4;
        }
    }
    (out, n)
}

/// What [`PairDecoder::next`] found. Each pair gives its lengths, then the pieces of the name, then
/// the pieces of the value. An empty name or value has no piece.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum PairPiece<'a> {
    /// A pair starts. These are its declared lengths; none of its bytes have been seen yet.
    Lengths {
        /// Bytes of the name.
        name: u32,
        /// Bytes of the value.
        value: u32,
    },
    /// Bytes of the name.
    Name(&'a [u8]),
    /// Bytes of the value.
    Value(&'a [u8]),
}

/// Decodes pairs from bytes that may be cut anywhere, even within a length (FC-3.4-3).
#[derive(Clone, Copy, Debug, Default)]
pub struct PairDecoder {
    lengths: [u8; 8],
    have: u8,
    name_left: u32,
    value_left: u32,
}

impl PairDecoder {
    /// A decoder at the start of a pair.
    #[must_use]
    pub const fn new() -> Self {
        Self { lengths: [0; 8], have: 0, name_left: 0, value_left: 0 }
    }

    /// Reads from `input` and returns how many bytes it used and what they were. `None` means that
    /// it used all of them.
    #[inline]
    pub fn next<'a>(&mut self, input: &'a [u8]) -> (usize, Option<PairPiece<'a>>) {
        if self.name_left > 0 {
            let piece = take(input, &mut self.name_left);
            return (piece.len(), (!piece.is_empty()).then_some(PairPiece::Name(piece)));
        }
        if self.value_left > 0 {
            let piece = take(input, &mut self.value_left);
            return (piece.len(), (!piece.is_empty()).then_some(PairPiece::Value(piece)));
        }
        if let ([name @ 0..0x80, value @ 0..0x80, ..], 0) = (input, self.have) {
            return (2, Some(self.begin(u32::from(*name), u32::from(*value))));
        }
        for (i, &byte) in input.iter().enumerate() {
            self.lengths[self.have as usize] = byte;
            self.have += 1;
            if let Some((name, value)) = self.whole_lengths() {
                self.have = 0;
                return (i + 1, Some(self.begin(name, value)));
            }
        }
        (input.len(), None)
    }

    /// Whether the bytes so far end where a pair ends (FC-3.4-5).
    #[must_use]
    pub const fn is_at_boundary(&self) -> bool {
        self.have == 0 && self.name_left == 0 && self.value_left == 0
    }

    fn begin<'a>(&mut self, name: u32, value: u32) -> PairPiece<'a> {
        self.name_left = name;
        self.value_left = value;
        PairPiece::Lengths { name, value }
    }

    fn whole_lengths(&self) -> Option<(u32, u32)> {
        let (name, value, _) = read_lengths(&self.lengths[..self.have as usize])?;
        Some((name, value))
    }
}

fn take<'a>(input: &'a [u8], left: &mut u32) -> &'a [u8] {
    let n = input.len().min(*left as usize);
    *left -= n as u32;
    &input[..n]
}

/// How many pairs a record holds, if each is whole and has its lengths in the shortest form.
#[inline]
pub(crate) fn count_whole(content: &[u8]) -> Option<usize> {
    // An index of 32 bits can't overflow here, so it takes one check of a bound per pair.
    let (mut at, mut count) = (0_u32, 0);
    loop {
        // The fast path: lengths of one byte each, as nearly all have.
        while let (Some(&value), Some(&name)) =
            (content.get(at as usize + 1), content.get(at as usize))
        {
            if (name | value) >= 0x80 {
                break;
            }
            at += 2 + u32::from(name) + u32::from(value);
            count += 1;
        }
        // A pair that is cut off ends behind the record.
        let rest = content.get(at as usize..)?;
        if rest.is_empty() {
            return Some(count);
        }
        let (name, value, head) = read_lengths(rest)?;
        let pair = encoded_len(name as usize, value as usize);
        if head != lengths_len(name as usize, value as usize) || pair > rest.len() {
            return None;
        }
        at += pair as u32;
        count += 1;
    }
}

/// The two lengths at the start of a pair, and how many bytes they take; `None` if there are too
/// few bytes.
#[inline]
pub(crate) fn read_lengths(bytes: &[u8]) -> Option<(u32, u32, usize)> {
    if let [name @ 0..0x80, value @ 0..0x80, ..] = bytes {
        return Some((u32::from(*name), u32::from(*value), 2));
    }
    let (name, rest) = read_length(bytes)?;
    let (value, rest) = read_length(rest)?;
    Some((name, value, bytes.len() - rest.len()))
}

fn read_length(bytes: &[u8]) -> Option<(u32, &[u8])> {
    match bytes {
        [short @ 0..0x80, rest @ ..] => Some((u32::from(*short), rest)),
        [a, b, c, d, rest @ ..] => {
            Some((u32::from_be_bytes([*a, *b, *c, *d]) & MAX_LEN as u32, rest))
        }
        _ => None,
    }
}
