//! The body that the script is sent.

use std::{
    io,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use bytes::Bytes;
use futures_core::Stream;
use tokio::io::AsyncReadExt;
use tokio_util::io::{InspectReader, ReaderStream};

use crate::causes::Cause;

/// How much of a body was taken for sending, and when the last piece was.
#[derive(Clone, Default)]
pub(super) struct Sent(Arc<Mutex<(u64, Option<Instant>)>>);

impl Sent {
    /// An application that still takes a body is not silent because its workers are busy.
    const PAUSE: Duration = Duration::from_secs(1);

    fn lock(&self) -> MutexGuard<'_, (u64, Option<Instant>)> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn add(&self, length: usize) {
        let mut sent = self.lock();
        *sent = (sent.0.saturating_add(length as u64), Some(Instant::now()));
    }

    /// Whether a body of this length is still on its way.
    pub(super) fn moves(&self, body: u64) -> bool {
        let (sent, last) = *self.lock();
        sent < body && last.is_some_and(|last| last.elapsed() < Self::PAUSE)
    }

    pub(super) fn cause(&self, body: u64) -> Cause {
        let sent = self.lock().0;
        Cause::new(
            "slow-body",
            format!("the application was still taking the body: {sent} of {body} bytes were sent"),
            "raise --timeout, or send less with --body",
        )
    }
}

/// A body of this many bytes, in pieces, which are counted.
pub(super) fn zeros(length: u64, sent: Sent) -> impl Stream<Item = io::Result<Bytes>> + Send {
    let zeros = tokio::io::repeat(b'0').take(length);
    ReaderStream::new(InspectReader::new(zeros, move |piece: &[u8]| sent.add(piece.len())))
}
