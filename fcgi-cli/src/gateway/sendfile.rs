//! Sends files from the page cache to a socket, without a copy through this process.
//!
//! hyper writes the bytes that a body gives it. So for a part of a file the body gives a *marker*
//! instead: a slice of one block that nobody reads, as long as the part. The
//! [`Socket`](super::socket::Socket) recognizes the marker by its address, and sends the file
//! instead. Markers only work with HTTP/1, where hyper writes a body as it is; with HTTP/2 it
//! copies the body into frames.

use std::{
    collections::VecDeque,
    fs::File,
    io,
    os::fd::AsFd,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use bytes::Bytes;
use tokio::sync::OwnedSemaphorePermit;

use super::log::{self, Title};

/// The largest part for one marker, in bytes, so that other connections get their turn.
pub(super) const MOST: u64 = 1 << 20;
/// This is never read or written, so it takes no memory.
static MARKER: [u8; MOST as usize] = [0; MOST as usize];

/// Whether a slice is a marker.
pub(super) fn is_marker(slice: &[u8]) -> bool {
    !slice.is_empty() && MARKER.as_ptr_range().contains(&slice.as_ptr())
}

/// A file that is being sent. It counts as open until it is dropped.
#[derive(Debug)]
pub(super) struct OpenFile {
    pub(super) file: File,
    pub(super) title: Title,
    pub(super) _permit: OwnedSemaphorePermit,
}

#[derive(Debug)]
struct Part {
    file: Arc<OpenFile>,
    at: u64,
    left: u64,
}

/// The parts of files whose markers a connection was given, in order.
#[derive(Debug, Default)]
pub(super) struct Sending(Mutex<VecDeque<Part>>);

impl Sending {
    fn lock(&self) -> MutexGuard<'_, VecDeque<Part>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Creates the marker for the next part: `length` bytes, at most [`MOST`].
    pub(super) fn push(&self, file: &Arc<OpenFile>, at: u64, length: u64) -> Bytes {
        let left = length.min(MOST);
        self.lock().push_back(Part { file: Arc::clone(file), at, left });
        Bytes::from_static(&MARKER[..left as usize])
    }

    /// Sends the part of the next marker, or its beginning, at most `most` bytes.
    pub(super) fn send(&self, socket: impl AsFd, most: usize) -> io::Result<usize> {
        let mut parts = self.lock();
        // Each marker has its part.
        let Some(part) = parts.front_mut() else { return Err(io::ErrorKind::InvalidData.into()) };
        let length = usize::try_from(part.left).unwrap_or(usize::MAX).min(most);
        let sent = send_file(socket, &part.file.file, part.at, length)?;
        if sent == 0 {
            log::error(&part.file.title, "read the file: it has become shorter");
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        part.at += sent as u64;
        part.left -= sent as u64;
        if part.left == 0 {
            parts.pop_front();
        }
        Ok(sent)
    }
}

#[cfg(target_os = "linux")]
fn send_file(socket: impl AsFd, file: &File, at: u64, length: usize) -> io::Result<usize> {
    Ok(rustix::fs::sendfile(socket, file, Some(&mut { at }), length)?)
}

#[cfg(not(target_os = "linux"))]
fn send_file(_: impl AsFd, _: &File, _: u64, _: usize) -> io::Result<usize> {
    Err(io::ErrorKind::Unsupported.into())
}
