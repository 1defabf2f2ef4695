//! The parameters of a request, in one block of bytes.
//!
//! A request has some 20 to 40 parameters, read once and looked up a few times. [`Params`] keeps
//! them in one allocation, in the order in which they came, duplicates included (FC-3.4-4). It
//! looks up a name by walking through them.
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
//!
//! Requests that are alike need not be encoded again and again: clones of [shared](Params::shared)
//! parameters share one block.

use alloc::{boxed::Box, string::String, sync::Arc, vec::Vec};
use core::fmt;

use crate::{
    Limits, UsageError,
    pairs::{self, read_lengths},
};

/// Bytes reserved for the first parameter: enough for what a web server sends with a request of few
/// headers, so that the block does not grow pair by pair.
const FIRST_BLOCK: usize = 512;
/// The usual size of a pair: the average of a web server's parameters.
const USUAL_PAIR: usize = 36;
/// The most bytes to reserve before the parameters are seen.
const MOST_ROOM: usize = 8 * 1024;
/// A client looks for it in each request (Q-4).
const CONTENT_LENGTH: &[u8] = b"CONTENT_LENGTH";

/// Parameters in order; names and values are bytes (FC-3.4-4).
///
/// They are stored as on the wire, so that receiving or sending them is one copy.
// A request is moved often, so this is small.
#[derive(Clone)]
pub struct Params {
    block: Block,
    len: usize,
    content_length: Place,
    /// The length of a name or value that can't be encoded: such a pair is not in the block.
    too_long: Option<Box<usize>>,
}

/// Where in the block a pair is.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Place(usize);

impl Place {
    const NOWHERE: Self = Self(usize::MAX);
    /// The pairs came from the peer, and nobody has looked.
    const UNKNOWN: Self = Self(usize::MAX - 1);
}

/// Whole pairs, encoded.
#[derive(Clone)]
enum Block {
    Own(Vec<u8>),
    /// Clones have it too.
    Shared(Arc<[u8]>),
}

impl Block {
    #[inline]
    fn bytes(&self) -> &[u8] {
        match self {
            Self::Own(own) => own,
            Self::Shared(shared) => shared,
        }
    }

    /// The block, to add to it: a copy with some room if clones have it too.
    #[inline]
    fn writable(&mut self) -> &mut Vec<u8> {
        if let Self::Shared(shared) = self {
            let mut own = Vec::with_capacity(shared.len() + FIRST_BLOCK);
            own.extend_from_slice(shared);
            *self = Self::Own(own);
        }
        match self {
            Self::Own(own) => own,
            Self::Shared(_) => unreachable!("it was copied"),
        }
    }
}

impl Default for Params {
    fn default() -> Self {
        Self::new()
    }
}

impl Params {
    /// Empty parameters, without an allocation.
    #[must_use]
    pub const fn new() -> Self {
        Self::of(Vec::new())
    }

    /// The same, each length in its shortest form.
    #[cold]
    fn shortened(&self) -> Self {
        self.iter().collect()
    }

    /// Empty parameters, with room for `bytes` encoded bytes.
    #[must_use]
    pub fn with_capacity(bytes: usize) -> Self {
        Self::of(Vec::with_capacity(bytes))
    }

    /// An empty block.
    const fn of(own: Vec<u8>) -> Self {
        Self { block: Block::Own(own), len: 0, content_length: Place::NOWHERE, too_long: None }
    }

    /// `len` whole pairs that were received.
    fn received(own: Vec<u8>, len: usize) -> Self {
        let block = Block::Own(own);
        Self { block, len, content_length: Place::UNKNOWN, too_long: None }
    }

    /// The same parameters, in a block that all clones share, for requests that are alike: a clone
    /// costs no allocation and no look at the pairs. Adding to a clone copies the block once and
    /// leaves the other clones as they are.
    ///
    /// ```
    /// use fcgi_proto::Params;
    ///
    /// let shared = Params::from_iter([("HTTPS", "on"), ("SERVER_NAME", "example.org")]).shared();
    /// let mut params = shared.clone();
    /// params.push("REQUEST_URI", "/articles");
    /// assert_eq!((shared.len(), params.len()), (2, 3));
    /// ```
    #[must_use]
    pub fn shared(mut self) -> Self {
        if let Block::Own(own) = &mut self.block {
            self.block = Block::Shared(core::mem::take(own).into());
        }
        self
    }

    /// Copies `len` whole pairs that were received, into the memory of other parameters.
    #[inline]
    pub(crate) fn copied(pairs: &[u8], len: usize, memory: Self) -> Self {
        let mut own = match memory.block {
            Block::Own(own) => own,
            Block::Shared(_) => Vec::new(),
        };
        own.clear();
        own.extend_from_slice(pairs);
        Self::received(own, len)
    }

    /// Removes all parameters, and keeps the memory unless clones share it.
    #[inline]
    pub fn clear(&mut self) {
        match &mut self.block {
            Block::Own(own) => own.clear(),
            Block::Shared(_) => self.block = Block::Own(Vec::new()),
        }
        (self.len, self.content_length, self.too_long) = (0, Place::NOWHERE, None);
    }

    /// How many encoded bytes they have memory for that no clone shares.
    #[must_use]
    #[inline]
    pub fn capacity(&self) -> usize {
        match &self.block {
            Block::Own(own) => own.capacity(),
            Block::Shared(_) => 0,
        }
    }

    /// Appends a parameter. An earlier one of the same name stays. A name or value of 2^31 bytes or
    /// more can't be sent; `begin` will return an error for it.
    pub fn push(&mut self, name: impl AsRef<[u8]>, value: impl AsRef<[u8]>) {
        let block = self.block.writable();
        if block.capacity() == 0 {
            block.reserve(FIRST_BLOCK);
        }
        let (name, start) = (name.as_ref(), block.len());
        match pairs::encode(name, value.as_ref(), block) {
            Ok(()) => {
                self.len += 1;
                if name == CONTENT_LENGTH {
                    self.content_length = Place(start);
                }
            }
            Err(UsageError::PairTooLong(len)) => self.too_long = Some(Box::new(len)),
            Err(_) => {}
        }
    }

    /// Appends all parameters of another block, in one copy; without any if these are empty and the
    /// others [shared](Self::shared).
    ///
    /// ```
    /// use fcgi_proto::Params;
    ///
    /// let shared: Params = [("HTTPS", "on"), ("REMOTE_ADDR", "192.0.2.7")].into_iter().collect();
    /// let mut params = Params::new();
    /// params.push("REQUEST_METHOD", "GET");
    /// params.append(&shared);
    /// assert_eq!((params.len(), params.get_str("HTTPS")), (3, Some("on")));
    /// ```
    pub fn append(&mut self, other: &Self) {
        match other.content_length {
            Place::NOWHERE => {}
            Place::UNKNOWN => self.content_length = Place::UNKNOWN,
            Place(at) => self.content_length = Place(self.encoded_len() + at),
        }
        if self.len == 0 && matches!(other.block, Block::Shared(_)) {
            self.block = other.block.clone();
        } else {
            self.block.writable().extend_from_slice(other.block.bytes());
        }
        self.len += other.len;
        if other.too_long.is_some() {
            self.too_long.clone_from(&other.too_long);
        }
    }

    /// The value of the parameter with exactly this name. Of duplicates the last counts, as in
    /// php-fpm and Go.
    #[must_use]
    pub fn get(&self, name: impl AsRef<[u8]>) -> Option<&[u8]> {
        let name = name.as_ref();
        let (mut rest, mut found) = (self.block.bytes(), None);
        match self.content_length {
            Place::UNKNOWN => {}
            Place::NOWHERE if name == CONTENT_LENGTH => return None,
            Place(at) if name == CONTENT_LENGTH => {
                return Iter { block: rest.get(at..)?, len: 1 }.next().map(|(_, value)| value);
            }
            _ => {}
        }
        loop {
            // The fast path: lengths of one byte each, as nearly all have. Most pairs are skipped by
            // their lengths alone.
            while let [n, v, behind @ ..] = rest {
                let (name_len, len) = (usize::from(*n), usize::from(*n) + usize::from(*v));
                if (n | v) >= 0x80 || len > behind.len() {
                    break;
                }
                if name_len == name.len() && behind[..name_len] == *name {
                    found = Some(&behind[name_len..len]);
                }
                rest = &behind[len..];
            }
            let Some((n, v, head)) = read_lengths(rest) else { break };
            let (start, end) = (head, head + n as usize);
            let Some(value) = rest.get(end..end + v as usize) else { break };
            if &rest[start..end] == name {
                found = Some(value);
            }
            rest = &rest[end + v as usize..];
        }
        found
    }

    /// [`get`](Self::get) for a UTF-8 value; `None` also if it is not UTF-8.
    #[must_use]
    pub fn get_str(&self, name: impl AsRef<[u8]>) -> Option<&str> {
        self.get(name).and_then(|value| core::str::from_utf8(value).ok())
    }

    /// The pairs in order.
    #[must_use]
    pub fn iter(&self) -> Iter<'_> {
        Iter { block: self.block.bytes(), len: self.len }
    }

    /// How many pairs there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there are no pairs.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Bytes that all pairs take in PARAMS.
    #[must_use]
    pub fn encoded_len(&self) -> usize {
        self.block.bytes().len()
    }

    /// The content of PARAMS.
    #[inline]
    pub(crate) fn encoded(&self) -> &[u8] {
        self.block.bytes()
    }

    pub(crate) fn check(&self) -> Result<(), UsageError> {
        self.too_long.as_ref().map_or(Ok(()), |len| Err(UsageError::PairTooLong(**len)))
    }
}

/// Iterates over the pairs of a [`Params`] in order.
#[derive(Clone, Debug)]
pub struct Iter<'a> {
    block: &'a [u8],
    len: usize,
}

impl<'a> Iterator for Iter<'a> {
    type Item = (&'a [u8], &'a [u8]);

    #[inline]
    fn next(&mut self) -> Option<Self::Item> {
        let (name, value, head) = read_lengths(self.block)?;
        let (name, rest) = self.block.get(head..)?.split_at_checked(name as usize)?;
        let (value, rest) = rest.split_at_checked(value as usize)?;
        self.block = rest;
        self.len -= 1;
        Some((name, value))
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.len, Some(self.len))
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
        let iter = iter.into_iter();
        // An iterator's size hint is only trusted up to a block that costs nothing.
        let room = iter.size_hint().0.saturating_mul(USUAL_PAIR);
        self.block.writable().reserve(room.min(MOST_ROOM));
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

/// Shows bytes that are not UTF-8 as U+FFFD, and escapes control bytes (H-10).
impl fmt::Debug for Params {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map()
            .entries(
                self.iter().map(|(n, v)| (String::from_utf8_lossy(n), String::from_utf8_lossy(v))),
            )
            .finish()
    }
}

/// The PARAMS exceed the limits.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct TooLarge;

/// Joins a PARAMS stream, however it is cut, within the limits.
#[derive(Debug, Default)]
pub(crate) struct ParamsDecoder {
    block: Vec<u8>,
    /// Pairs so far.
    len: usize,
    /// Where the next pair starts: past the end of the block while a pair is incomplete.
    next: usize,
    /// A length is not in its shortest form.
    long_form: bool,
}

impl ParamsDecoder {
    pub(crate) fn push(&mut self, input: &[u8], limits: &Limits) -> Result<(), TooLarge> {
        let Self { block, len, .. } = self;
        if block.len() + input.len() > limits.params_bytes {
            return Err(TooLarge);
        }
        if block.capacity() == 0 {
            *block = input.to_vec();
        } else {
            block.extend_from_slice(input);
        }
        let (block, mut pairs) = (&block[..], *len);
        let Some(mut rest) = block.get(self.next..) else { return Ok(()) };
        loop {
            // The fast path: whole pairs with lengths of one byte each, as nearly all are.
            while let [name, value, behind @ ..] = rest {
                let content = usize::from(*name) + usize::from(*value);
                if (name | value) >= 0x80 || content > behind.len() {
                    break;
                }
                rest = &behind[content..];
                pairs += 1;
            }
            self.next = block.len() - rest.len();
            let Some((name, value, head)) = read_lengths(rest) else { break };
            self.long_form |= head != pairs::lengths_len(name as usize, value as usize);
            let pair = head.saturating_add(name as usize).saturating_add(value as usize);
            if pair > limits.params_bytes - self.next {
                return Err(TooLarge);
            }
            self.next += pair;
            pairs += 1;
            match rest.get(pair..) {
                Some(behind) => rest = behind,
                None => break,
            }
        }
        *len = pairs;
        if pairs > limits.params_pairs { Err(TooLarge) } else { Ok(()) }
    }

    /// Whether the bytes so far end where a pair ends (FC-3.4-5).
    pub(crate) fn is_whole(&self) -> bool {
        self.next == self.block.len()
    }

    /// The parameters of a complete stream, in the shortest form (FC-3.4-2).
    #[inline]
    pub(crate) fn finish(&mut self) -> Params {
        self.next = 0;
        let block = core::mem::take(&mut self.block);
        let params = Params::received(block, core::mem::take(&mut self.len));
        if core::mem::take(&mut self.long_form) { params.shortened() } else { params }
    }

    /// Bytes received so far.
    pub(crate) fn received(&self) -> usize {
        self.block.len()
    }
}
