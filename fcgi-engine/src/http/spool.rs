//! Stores bodies of unknown length until their length is known.

use std::{
    fs::File,
    io::{Seek, Write},
};

use bytes::{Bytes, BytesMut};

use super::HttpError;

/// A body that is being stored in memory, or in a temporary file without a name.
#[derive(Debug)]
pub struct Spool {
    memory: usize,
    limit: u64,
    length: u64,
    held: BytesMut,
    file: Option<File>,
}

/// A stored body.
#[derive(Debug)]
pub enum Spooled {
    /// In memory.
    Bytes(Bytes),
    /// In a file, positioned at its start.
    File(File),
}

impl Spool {
    /// A spool for at most `limit` bytes, of which no more than `memory` are kept in memory.
    #[must_use]
    pub fn new(memory: usize, limit: u64) -> Self {
        Self { memory, limit, length: 0, held: BytesMut::new(), file: None }
    }

    /// Takes more of the body.
    ///
    /// # Errors
    /// [`HttpError::RequestTooLarge`], [`HttpError::Spool`].
    pub fn push(&mut self, chunk: &[u8]) -> Result<(), HttpError> {
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
    ///
    /// # Errors
    /// [`HttpError::Spool`].
    pub fn finish(self) -> Result<(u64, Spooled), HttpError> {
        let kept = match self.file {
            None => Spooled::Bytes(self.held.freeze()),
            Some(mut file) => {
                file.rewind().map_err(HttpError::Spool)?;
                Spooled::File(file)
            }
        };
        Ok((self.length, kept))
    }
}
