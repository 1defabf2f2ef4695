//! Sends files from the page cache to a socket, without a copy through this process.
//!
//! hyper writes the bytes that a body gives it. So for a part of a file the body gives a *marker*
//! instead: a slice of one block that nobody reads, as long as the part. The
//! [`Socket`](super::socket::Socket) recognizes the marker by its address, and sends the file
//! instead. Markers only work with HTTP/1, where hyper writes a body as it is; with HTTP/2 it
//! copies the body into frames.

use std::{
    collections::VecDeque,
    fmt::Debug,
    fs::File,
    io,
    os::{fd::AsFd, unix::fs::FileExt},
    sync::{Arc, LazyLock, Mutex, MutexGuard, PoisonError},
};

use bytes::Bytes;
use tokio::sync::OwnedSemaphorePermit;

use super::log::{self, Title};

/// The largest part for one marker, in bytes, so that other connections get their turn. One large
/// call costs less than several: the kernel sends what the client's window holds, and the rest when
/// the client has read.
pub(super) const MOST: u64 = 1024 * 1024;
/// How much is brought into memory at once, in bytes.
const BLOCK: u64 = 128 * 1024;
/// How far apart the bytes are that must be in memory before a part is sent. The kernel usually
/// reads and drops more than this at once.
const STEP: u64 = 32 * 1024;
/// Made when the first file is sent, so that it takes no room in the program's file.
static MARKER: LazyLock<Bytes> = LazyLock::new(|| vec![0; MOST as usize].into());

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

/// An answer that ends when this is dropped.
pub(super) trait Answer: Debug + Send {
    /// This many of its bytes were not sent after all.
    fn lose(&mut self, bytes: u64);
}

#[derive(Debug)]
struct Part {
    file: Arc<OpenFile>,
    at: u64,
    left: u64,
    /// How much to look at before it is sent; less for a socket that does not take all of it.
    step: u64,
    /// The answers that end with it. The part belongs to the first one.
    answers: Vec<Box<dyn Answer>>,
}

/// The parts of files whose markers a connection was given, in order.
#[derive(Debug, Default)]
pub(super) struct Sending(Mutex<Queue>);

#[derive(Debug, Default)]
struct Queue {
    parts: VecDeque<Part>,
    /// How many bytes of an answer that has not ended were not sent before the connection closed.
    lost: u64,
}

/// What was done for a marker.
#[derive(Debug)]
pub(super) enum Progress {
    /// This many bytes were sent.
    Sent(usize),
    /// The part must be read first, which may take a while.
    Cold(ColdPart),
}

/// A part of a file that is not in memory.
#[derive(Debug)]
pub(super) struct ColdPart {
    file: Arc<OpenFile>,
    at: u64,
    length: usize,
}

impl ColdPart {
    /// Brings it into memory. If that fails, sending it fails too.
    pub(super) fn read(&self) {
        let _ = self.file.file.read_at(&mut vec![0; self.length], self.at);
    }
}

impl Sending {
    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Creates the marker for the next part: `length` bytes, at most [`MOST`].
    pub(super) fn push(&self, file: &Arc<OpenFile>, at: u64, length: u64) -> Bytes {
        let left = length.min(MOST);
        let part = Part { file: Arc::clone(file), at, left, step: left, answers: Vec::new() };
        self.lock().parts.push_back(part);
        MARKER.slice(..left as usize)
    }

    /// Keeps an answer, whose last bytes were handed over, until the parts so far are sent.
    pub(super) fn hold(&self, mut answer: impl Answer + 'static) {
        let mut queue = self.lock();
        if let Some(last) = queue.parts.back_mut() {
            last.answers.push(Box::new(answer));
            return;
        }
        let lost = std::mem::take(&mut queue.lost);
        // An answer does more when it ends than may happen under the lock.
        drop(queue);
        answer.lose(lost);
    }

    /// Gives up what was not sent, since the connection has ended.
    pub(super) fn close(&self) {
        let mut queue = self.lock();
        let parts = std::mem::take(&mut queue.parts);
        let mut ended = Vec::new();
        for part in parts {
            queue.lost += part.left;
            let mut answers = part.answers;
            if let Some(first) = answers.first_mut() {
                first.lose(std::mem::take(&mut queue.lost));
            }
            ended.append(&mut answers);
        }
        drop(queue);
        drop(ended);
    }

    /// Sends the part of the next marker, or its beginning, at most `most` bytes. What `is_read`
    /// was just read; otherwise nothing is sent that would wait for a disk.
    pub(super) fn send(
        &self,
        socket: impl AsFd,
        most: usize,
        is_read: bool,
    ) -> io::Result<Progress> {
        let mut queue = self.lock();
        // Each marker has its part.
        let Some(part) = queue.parts.front_mut() else {
            return Err(io::ErrorKind::InvalidData.into());
        };
        let length = part.left.min(most as u64);
        let block = length.min(BLOCK);
        let length = match is_read {
            true => block,
            false => part.file.cached(part.at, length.min(part.step)),
        };
        if length == 0 {
            let file = Arc::clone(&part.file);
            return Ok(Progress::Cold(ColdPart { file, at: part.at, length: block as usize }));
        }
        let sent = send_file(socket, &part.file.file, part.at, length as usize)?;
        if sent == 0 {
            log::error(&part.file.title, "read the file: it has become shorter");
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        if (sent as u64) < length {
            part.step = (2 * sent as u64).max(BLOCK);
        }
        part.at += sent as u64;
        part.left -= sent as u64;
        let finished = if part.left == 0 { queue.parts.pop_front() } else { None };
        drop(queue);
        drop(finished);
        Ok(Progress::Sent(sent))
    }
}

impl OpenFile {
    /// Whether this byte is in memory.
    pub(super) fn is_cached_at(&self, at: u64) -> bool {
        is_cached(&self.file, at)
    }

    /// How many of these bytes are in memory, as far as a look at each [`STEP`] and the last byte
    /// shows.
    fn cached(&self, at: u64, length: u64) -> u64 {
        let end = at + length;
        let mut warm = at;
        for look in (at..end).step_by(STEP as usize).chain([end - 1]) {
            if !self.is_cached_at(look) {
                return warm - at;
            }
            warm = look;
        }
        length
    }
}

#[cfg(target_os = "linux")]
fn is_cached(file: &File, at: u64) -> bool {
    use rustix::io::{ReadWriteFlags, preadv2};
    let byte = &mut [0];
    let slices = &mut [io::IoSliceMut::new(byte)];
    preadv2(file, slices, at, ReadWriteFlags::NOWAIT) == Ok(1)
}

#[cfg(not(target_os = "linux"))]
fn is_cached(_: &File, _: u64) -> bool {
    false
}

#[cfg(target_os = "linux")]
fn send_file(socket: impl AsFd, file: &File, at: u64, length: usize) -> io::Result<usize> {
    Ok(rustix::fs::sendfile(socket, file, Some(&mut { at }), length)?)
}

#[cfg(not(target_os = "linux"))]
fn send_file(_: impl AsFd, _: &File, _: u64, _: usize) -> io::Result<usize> {
    Err(io::ErrorKind::Unsupported.into())
}
