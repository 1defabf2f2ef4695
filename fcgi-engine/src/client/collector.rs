//! Collects a whole response.

use std::sync::Arc;

use bytes::{Bytes, BytesMut};

use super::{Chunk, Collected};
use crate::Error;

/// The response so far.
#[derive(Debug)]
pub struct Collector {
    stdout: Joined,
    stderr: Joined,
    limit: usize,
}

impl Collector {
    /// A collector for at most `limit` bytes of STDOUT and as many of STDERR.
    #[must_use]
    pub fn new(limit: usize) -> Self {
        Self { stdout: Joined::default(), stderr: Joined::default(), limit }
    }

    /// Adds a chunk.
    ///
    /// # Errors
    /// [`Error::TooLarge`], which names the address.
    pub fn push(&mut self, chunk: Chunk, address: &Arc<str>) -> Result<(), Error> {
        let (to, bytes) = match chunk {
            Chunk::Stdout(bytes) => (&mut self.stdout, bytes),
            Chunk::Stderr(bytes) => (&mut self.stderr, bytes),
        };
        if to.len().saturating_add(bytes.len()) > self.limit {
            return Err(Error::TooLarge { address: Arc::clone(address), limit: self.limit });
        }
        to.push(bytes);
        Ok(())
    }

    /// The whole response.
    #[must_use]
    pub fn finish(self, app_status: Option<u32>) -> Collected {
        Collected {
            stdout: self.stdout.bytes(),
            stderr: self.stderr.bytes(),
            app_status: app_status.unwrap_or_default(),
        }
    }
}

/// Joined chunks; a single one is not copied.
#[derive(Debug, Default)]
struct Joined {
    first: Bytes,
    all: BytesMut,
}

impl Joined {
    fn len(&self) -> usize {
        self.first.len() + self.all.len()
    }

    fn push(&mut self, bytes: Bytes) {
        if self.len() == 0 {
            self.first = bytes;
            return;
        }
        if self.all.is_empty() {
            self.all.extend_from_slice(&std::mem::take(&mut self.first));
        }
        self.all.extend_from_slice(&bytes);
    }

    fn bytes(self) -> Bytes {
        if self.all.is_empty() { self.first } else { self.all.freeze() }
    }
}
