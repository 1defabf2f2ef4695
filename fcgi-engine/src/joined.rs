//! Joins chunks.

use bytes::{Bytes, BytesMut};

/// Joined chunks. A single one is not copied.
#[derive(Debug, Default)]
pub(crate) struct Joined {
    first: Bytes,
    all: BytesMut,
}

impl Joined {
    pub(crate) fn len(&self) -> usize {
        self.first.len() + self.all.len()
    }

    /// Adds a chunk. Returns false, and adds nothing, if there would be more than `limit` bytes in
    /// all.
    pub(crate) fn push(&mut self, bytes: Bytes, limit: usize) -> bool {
        if self.len().saturating_add(bytes.len()) > limit {
            return false;
        }
        if self.len() == 0 {
            self.first = bytes;
            return true;
        }
        if self.all.is_empty() {
            self.all.extend_from_slice(&std::mem::take(&mut self.first));
        }
        self.all.extend_from_slice(&bytes);
        true
    }

    pub(crate) fn bytes(self) -> Bytes {
        if self.all.is_empty() { self.first } else { self.all.freeze() }
    }
}
