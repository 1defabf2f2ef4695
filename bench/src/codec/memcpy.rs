//! The yardstick: one copy of the same bytes, and nothing else.

use std::hint::black_box;
use std::time::{Duration, Instant};

use anyhow::Result;

use super::Subject;
use crate::sample::Sample;

/// The row's name.
pub(super) const NAME: &str = "memcpy";

/// Copies the wire bytes into a buffer that it keeps.
#[derive(Default)]
pub(super) struct Memcpy {
    buffer: Vec<u8>,
}

impl Subject for Memcpy {
    fn name(&self) -> &'static str {
        NAME
    }

    fn check_decode(&mut self, _: &Sample) -> Result<()> {
        Ok(())
    }

    fn check_encode(&mut self, _: &Sample) -> Result<bool> {
        Ok(true)
    }

    fn time_decode(&mut self, sample: &Sample, times: u64) -> Result<Duration> {
        self.buffer.resize(sample.wire.len(), 0);
        let start = Instant::now();
        for _ in 0..times {
            self.buffer.copy_from_slice(black_box(&sample.wire));
            black_box(&mut self.buffer[..]);
        }
        Ok(start.elapsed())
    }

    fn time_encode(&mut self, sample: &Sample, times: u64) -> Result<Duration> {
        self.time_decode(sample, times)
    }
}
