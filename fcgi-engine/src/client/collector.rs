//! Collects a whole response.

use std::sync::Arc;

use super::{Chunk, Collected};
use crate::{Error, joined::Joined};

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
        match to.push(bytes, self.limit) {
            true => Ok(()),
            false => Err(Error::TooLarge { address: Arc::clone(address), limit: self.limit }),
        }
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
