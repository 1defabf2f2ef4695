//! Joins chunks.

use bytes::{Bytes, BytesMut};

/// Joined chunks. A single one is not copied.
#[derive(Debug)]
pub struct Joined {
    first: Bytes,
    all: BytesMut,
    pub(crate) limit: usize,
}

impl Joined {
    /// For at most `limit` bytes.
    #[inline]
    #[must_use]
    pub fn new(limit: usize) -> Self {
        Self { first: Bytes::new(), all: BytesMut::new(), limit }
    }

    /// Adds a chunk. Returns false, and adds nothing, if there would be more bytes than the limit.
    #[must_use]
    pub fn push(&mut self, bytes: Bytes) -> bool {
        let len = self.first.len() + self.all.len();
        if len.saturating_add(bytes.len()) > self.limit {
            return false;
        }
        if len == 0 {
            self.first = bytes;
            return true;
        }
        if self.all.is_empty() {
            self.all.extend_from_slice(&std::mem::take(&mut self.first));
        }
        self.all.extend_from_slice(&bytes);
        true
    }

    /// Takes all bytes.
    #[must_use]
    pub fn take(&mut self) -> Bytes {
        let first = std::mem::take(&mut self.first);
        if self.all.is_empty() { first } else { std::mem::take(&mut self.all).freeze() }
    }
}
