//! Stores bodies of unknown length until their length is known.

use std::{
    fs::File,
    io::{Seek, Write},
};

use bytes::BytesMut;

use super::{Gathered, HttpError};

/// A body that is being stored in memory, or in a temporary file without a name.
#[derive(Debug)]
pub(super) struct Spool {
    memory: usize,
    limit: u64,
    length: u64,
    held: BytesMut,
    file: Option<File>,
}

impl Spool {
    /// A spool for at most `limit` bytes, of which no more than `memory` are kept in memory.
    pub(super) fn new(memory: usize, limit: u64) -> Self {
        Self { memory, limit, length: 0, held: BytesMut::new(), file: None }
    }

    /// Takes more of the body.
    pub(super) fn push(&mut self, chunk: &[u8]) -> Result<(), HttpError> {
        self.length = self.length.saturating_add(chunk.len() as u64);
        if self.length > self.limit {
            return Err(HttpError::RequestTooLarge { limit: self.limit });
        }
        if let Some(file) = &mut self.file {
            return file.write_all(chunk).map_err(HttpError::Spool);
        }
        if self.length <= self.memory as u64 {
            self.held.extend_from_slice(chunk);
            return Ok(());
        }
        let mut file = tempfile::tempfile().map_err(HttpError::Spool)?;
        file.write_all(&self.held).map_err(HttpError::Spool)?;
        file.write_all(chunk).map_err(HttpError::Spool)?;
        self.held = BytesMut::new();
        self.file = Some(file);
        Ok(())
    }

    /// The whole body, and its length in bytes.
    pub(super) fn finish(self) -> Result<(u64, Gathered), HttpError> {
        let kept = match self.file {
            None => Gathered::Bytes(self.held.freeze()),
            Some(mut file) => {
                file.rewind().map_err(HttpError::Spool)?;
                Gathered::File(file, self.length)
            }
        };
        Ok((self.length, kept))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_too_long_for_memory_goes_to_a_file() {
        let mut spool = Spool::new(4, 1000);
        spool.push(b"in memory or ").unwrap();
        spool.push(b"in a file").unwrap();
        let (length, kept) = spool.finish().unwrap();
        assert_eq!(length, 22);
        assert!(matches!(kept, Gathered::File(_, 22)), "it is more than 4 bytes");
    }
}
