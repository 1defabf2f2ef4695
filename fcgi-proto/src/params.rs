//! The parameters of a request: one block of bytes and its index.
//!
//! A request has some 20 to 40 parameters, read once and looked up a few times. [`Params`] keeps
//! them in the order in which they came, duplicates included (FC-3.4-4), in two allocations, and
//! looks names up without allocating.
//!
//! ```
//! use fcgi_proto::Params;
//!
//! let mut params = Params::new();
//! params.push("REQUEST_METHOD", "GET");
//! params.push("SCRIPT_FILENAME", "/srv/index.php");
//! assert_eq!(params.get_str("REQUEST_METHOD"), Some("GET"));
//! assert_eq!(params.get("QUERY_STRING"), None);
//! assert_eq!(params.iter().count(), 2);
//! ```

use alloc::{string::String, vec::Vec};
use core::fmt;

use crate::{
    Limits, UsageError,
    pairs::{self, PairDecoder, PairPiece},
};

/// Parameters in order; names and values are bytes (FC-3.4-4).
#[derive(Clone, Default)]
pub struct Params {
    block: Vec<u8>,
    index: Vec<Entry>,
}

/// Where a pair ends in the block; it starts where the one before it ends.
#[derive(Clone, Copy)]
struct Entry {
    name_end: usize,
    end: usize,
}

impl Params {
    /// No parameters; nothing is allocated.
    #[must_use]
    pub const fn new() -> Self {
        Self { block: Vec::new(), index: Vec::new() }
    }

    /// No parameters, with room for `pairs` of them with `bytes` of names and values in all.
    #[must_use]
    pub fn with_capacity(pairs: usize, bytes: usize) -> Self {
        Self { block: Vec::with_capacity(bytes), index: Vec::with_capacity(pairs) }
    }

    /// Appends a parameter. A name that is there already is kept beside the new one.
    pub fn push(&mut self, name: impl AsRef<[u8]>, value: impl AsRef<[u8]>) {
        self.block.extend_from_slice(name.as_ref());
        let name_end = self.block.len();
        self.block.extend_from_slice(value.as_ref());
        self.index.push(Entry { name_end, end: self.block.len() });
    }

    /// The value of the parameter with exactly this name; of duplicates the last, as php-fpm and
    /// Go have it.
    #[must_use]
    pub fn get(&self, name: impl AsRef<[u8]>) -> Option<&[u8]> {
        let name = name.as_ref();
        self.iter().rev().find(|(n, _)| *n == name).map(|(_, value)| value)
    }

    /// [`get`](Self::get) for a value that is UTF-8; `None` too when it is not.
    #[must_use]
    pub fn get_str(&self, name: impl AsRef<[u8]>) -> Option<&str> {
        self.get(name).and_then(|value| core::str::from_utf8(value).ok())
    }

    /// The pairs in order.
    #[must_use]
    pub fn iter(&self) -> Iter<'_> {
        Iter { params: self, range: 0..self.index.len() }
    }

    /// How many pairs there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.index.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.index.is_empty()
    }

    /// Bytes of all names and values.
    #[must_use]
    pub fn byte_len(&self) -> usize {
        self.block.len()
    }

    /// Bytes that all pairs take in PARAMS.
    #[must_use]
    pub fn encoded_len(&self) -> usize {
        self.iter().map(|(name, value)| pairs::encoded_len(name.len(), value.len())).sum()
    }

    pub(crate) fn check(&self) -> Result<(), UsageError> {
        self.iter().try_for_each(|(name, value)| {
            pairs::check(name.len())?;
            pairs::check(value.len())
        })
    }

    fn pair(&self, at: usize) -> Option<(&[u8], &[u8])> {
        let entry = self.index.get(at)?;
        let start =
            at.checked_sub(1).and_then(|before| self.index.get(before)).map_or(0, |e| e.end);
        let pair = self.block.get(start..entry.end)?;
        pair.split_at_checked(entry.name_end - start)
    }
}

/// Iterates over the pairs of a [`Params`] in order.
#[derive(Clone, Debug)]
pub struct Iter<'a> {
    params: &'a Params,
    range: core::ops::Range<usize>,
}

impl<'a> Iterator for Iter<'a> {
    type Item = (&'a [u8], &'a [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        self.range.next().and_then(|at| self.params.pair(at))
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        self.range.size_hint()
    }
}

impl DoubleEndedIterator for Iter<'_> {
    fn next_back(&mut self) -> Option<Self::Item> {
        self.range.next_back().and_then(|at| self.params.pair(at))
    }
}

impl ExactSizeIterator for Iter<'_> {}

impl<'a> IntoIterator for &'a Params {
    type Item = (&'a [u8], &'a [u8]);
    type IntoIter = Iter<'a>;

    fn into_iter(self) -> Iter<'a> {
        self.iter()
    }
}

impl<N: AsRef<[u8]>, V: AsRef<[u8]>> Extend<(N, V)> for Params {
    fn extend<T: IntoIterator<Item = (N, V)>>(&mut self, iter: T) {
        for (name, value) in iter {
            self.push(name, value);
        }
    }
}

impl<N: AsRef<[u8]>, V: AsRef<[u8]>> FromIterator<(N, V)> for Params {
    fn from_iter<T: IntoIterator<Item = (N, V)>>(iter: T) -> Self {
        let mut params = Self::new();
        params.extend(iter);
        params
    }
}

impl PartialEq for Params {
    fn eq(&self, other: &Self) -> bool {
        self.iter().eq(other.iter())
    }
}

impl Eq for Params {}

/// Bytes that are not UTF-8 show as U+FFFD, control bytes escaped (H-10).
impl fmt::Debug for Params {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map()
            .entries(
                self.iter().map(|(n, v)| (String::from_utf8_lossy(n), String::from_utf8_lossy(v))),
            )
            .finish()
    }
}

/// More PARAMS than the limits allow.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct TooLarge;

/// Puts a PARAMS stream together, whatever its cuts, inside the limits.
#[derive(Debug, Default)]
pub(crate) struct ParamsDecoder {
    params: Params,
    pair: PairDecoder,
    received: usize,
}

impl ParamsDecoder {
    pub(crate) fn push(&mut self, mut input: &[u8], limits: &Limits) -> Result<(), TooLarge> {
        self.received += input.len();
        if self.received > limits.params_bytes {
            return Err(TooLarge);
        }
        self.params.block.reserve(input.len());
        while let (used, Some(piece)) = self.pair.next(input) {
            input = &input[used..];
            match piece {
                PairPiece::Lengths { name, value } => {
                    let seen = self.received - input.len();
                    let declared = (name as usize).saturating_add(value as usize);
                    if declared > limits.params_bytes - seen
                        || self.params.len() >= limits.params_pairs
                    {
                        return Err(TooLarge);
                    }
                    if self.params.index.capacity() == 0 {
                        self.params.index.reserve(FIRST_INDEX.min(limits.params_pairs));
                    }
                    let name_end = self.params.block.len() + name as usize;
                    let end = name_end + value as usize;
                    self.params.index.push(Entry { name_end, end });
                }
                PairPiece::Name(bytes) | PairPiece::Value(bytes) => {
                    self.params.block.extend_from_slice(bytes);
                }
            }
        }
        Ok(())
    }

    /// Whether the bytes so far end where a pair ends (FC-3.4-5).
    pub(crate) fn is_whole(&self) -> bool {
        self.pair.is_at_boundary()
    }

    /// The parameters of a stream that is whole.
    pub(crate) fn finish(self) -> Params {
        self.params
    }

    /// Bytes received so far.
    pub(crate) fn received(&self) -> usize {
        self.received
    }
}

/// Room for the pairs that a web server usually sends.
const FIRST_INDEX: usize = 32;
