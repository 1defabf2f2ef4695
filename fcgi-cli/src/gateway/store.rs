//! Stores bodies until the other side takes them: in memory, and then in temporary files without a
//! name. There are limits for each body and for all together.

use std::{
    collections::VecDeque,
    fs::File,
    future::Future,
    io,
    os::unix::fs::FileExt,
    pin::Pin,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    task::{Context, Poll, Waker, ready},
};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use tokio::{
    sync::Notify,
    task::{AbortHandle, JoinHandle, spawn_blocking},
};

use super::body::BoxError;

/// How much of one body may be in memory, in bytes.
const MEMORY: u64 = 128 * 1024;
/// How much of all bodies may be in memory, in bytes.
const ALL_MEMORY: u64 = 64 * 1024 * 1024;
/// How much of a file is read at once, in bytes.
const BLOCK: u64 = 64 * 1024;

/// The space for all bodies together.
#[derive(Debug)]
pub(super) struct Stores {
    memory: Budget,
    disk: Budget,
    files: Budget,
}

#[derive(Debug)]
struct Budget(AtomicU64);

impl Budget {
    fn take(&self, amount: u64) -> bool {
        let left = |left: u64| left.checked_sub(amount);
        self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, left).is_ok()
    }

    fn give(&self, amount: u64) {
        self.0.fetch_add(amount, Ordering::Relaxed);
    }
}

impl Stores {
    /// Space for this many bytes on disk, in this many files.
    pub(super) fn new(disk: u64, files: usize) -> Arc<Self> {
        let budget = |amount| Budget(AtomicU64::new(amount));
        Arc::new(Self {
            memory: budget(ALL_MEMORY),
            disk: budget(disk),
            files: budget(files as u64),
        })
    }

    /// A place for one body, of which at most `limit` bytes may wait on disk.
    pub(super) fn open(self: &Arc<Self>, limit: u64) -> (Writer, Reader) {
        let shared = Arc::new(Shared {
            stores: Arc::clone(self),
            limit,
            state: Mutex::default(),
            taken: Notify::new(),
        });
        let reader =
            Reader { shared: Arc::clone(&shared), reading: None, exact: None, filled_by: None };
        (Writer(shared), reader)
    }
}

struct Shared {
    stores: Arc<Stores>,
    limit: u64,
    state: Mutex<State>,
    /// The reader has taken something.
    taken: Notify,
}

/// The oldest bytes are in memory, the newer ones in the file.
#[derive(Default)]
struct State {
    pieces: VecDeque<Piece>,
    /// Bytes in the pieces.
    held: u64,
    file: Option<Arc<File>>,
    /// Where the unread part of the file starts.
    from: u64,
    to: u64,
    /// How far the file has grown.
    disk: u64,
    writing: bool,
    end: Option<Result<(), BoxError>>,
    reader: Option<Waker>,
}

struct Piece {
    bytes: Bytes,
    /// How much it takes of the budget.
    counted: u64,
}

/// Where a piece goes.
enum Place {
    Memory,
    /// To a file, at an offset; without a file, to a new one.
    File(Option<Arc<File>>, u64),
    Nowhere,
}

/// Why a piece was not stored.
#[derive(Debug)]
pub(super) enum NotKept {
    Full,
    Failed(io::Error),
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Stores a piece in memory, or returns where it must go.
    fn place(&self, bytes: &Bytes) -> Place {
        let length = bytes.len() as u64;
        let stores = &self.stores;
        let mut state = self.lock();
        if state.from == state.to {
            let has_room = state.held + length <= MEMORY && stores.memory.take(length);
            // One piece at a time always gets through, whatever the limits.
            if has_room || state.pieces.is_empty() {
                let counted = if has_room { length } else { 0 };
                state.pieces.push_back(Piece { bytes: bytes.clone(), counted });
                state.held += length;
                state.wake();
                return Place::Memory;
            }
        }
        let end = state.to + length;
        let more = end.saturating_sub(state.disk);
        if end > self.limit || !stores.disk.take(more) {
            return Place::Nowhere;
        }
        if state.file.is_none() && !stores.files.take(1) {
            stores.disk.give(more);
            return Place::Nowhere;
        }
        state.disk += more;
        state.writing = true;
        Place::File(state.file.clone(), state.to)
    }

    /// Records that a piece was written to the file, or was not.
    fn written(&self, result: io::Result<(Arc<File>, u64)>) -> Result<(), NotKept> {
        let mut state = self.lock();
        state.writing = false;
        match result {
            Ok((file, length)) => {
                state.file = Some(file);
                state.to += length;
                state.wake();
                Ok(())
            }
            Err(error) => {
                if state.file.is_none() {
                    self.stores.files.give(1);
                }
                Err(NotKept::Failed(error))
            }
        }
    }

    /// Records that this much of the file was read.
    fn read(&self, length: u64) {
        let mut state = self.lock();
        state.from += length;
        if state.from == state.to && !state.writing {
            self.empty(&mut state);
        }
        drop(state);
        self.taken.notify_one();
    }

    /// Releases the file.
    fn empty(&self, state: &mut State) {
        (state.from, state.to) = (0, 0);
        self.stores.disk.give(std::mem::take(&mut state.disk));
        if state.file.take().is_some() {
            self.stores.files.give(1);
        }
    }
}

impl State {
    fn wake(&mut self) {
        if let Some(reader) = self.reader.take() {
            reader.wake();
        }
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        let mut state = std::mem::take(&mut *self.lock());
        let counted = state.pieces.iter().map(|piece| piece.counted).sum();
        self.stores.memory.give(counted);
        self.empty(&mut state);
    }
}

/// The end where a body comes in.
pub(super) struct Writer(Arc<Shared>);

impl Writer {
    /// Stores a piece, if there is room.
    pub(super) async fn push(&self, bytes: Bytes) -> Result<(), NotKept> {
        match self.0.place(&bytes) {
            Place::Memory => Ok(()),
            Place::Nowhere => Err(NotKept::Full),
            Place::File(file, at) => {
                let writing = spawn_blocking(move || write(file, at, &bytes));
                self.0.written(writing.await.map_err(io::Error::other).and_then(|file| file))
            }
        }
    }

    /// Waits until something was taken since the last wait.
    pub(super) async fn room(&self) {
        self.0.taken.notified().await;
    }

    /// Reports that the body is complete, or what went wrong.
    pub(super) fn end(self, end: Result<(), BoxError>) {
        self.0.lock().end = Some(end);
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        let mut state = self.0.lock();
        state.end.get_or_insert_with(|| Err("the body was given up".into()));
        state.wake();
    }
}

fn write(file: Option<Arc<File>>, at: u64, bytes: &[u8]) -> io::Result<(Arc<File>, u64)> {
    let file = match file {
        Some(file) => file,
        None => Arc::new(tempfile::tempfile()?),
    };
    file.write_all_at(bytes, at)?;
    Ok((file, bytes.len() as u64))
}

fn read(file: &File, at: u64, length: u64) -> io::Result<Bytes> {
    let mut block = vec![0; length as usize];
    file.read_exact_at(&mut block, at)?;
    Ok(block.into())
}

/// The end where a body goes out.
pub(super) struct Reader {
    shared: Arc<Shared>,
    reading: Option<JoinHandle<io::Result<Bytes>>>,
    /// How many bytes are still to go out, if that is known.
    exact: Option<u64>,
    /// The task that writes.
    filled_by: Option<AbortHandle>,
}

impl Reader {
    /// Sets the length, if it is known.
    pub(super) fn of_length(mut self, exact: Option<u64>) -> Self {
        self.exact = exact;
        self
    }

    /// Sets the task that writes. It ends with this reader.
    pub(super) fn filled_by(mut self, task: AbortHandle) -> Self {
        self.filled_by = Some(task);
        self
    }

    fn poll_piece(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, BoxError>>> {
        let shared = &*self.shared;
        let mut state = shared.lock();
        if let Some(Piece { bytes, counted }) = state.pieces.pop_front() {
            state.held -= bytes.len() as u64;
            drop(state);
            shared.stores.memory.give(counted);
            shared.taken.notify_one();
            return Poll::Ready(Some(Ok(bytes)));
        }
        if let (None, Some(file)) = (&self.reading, &state.file) {
            if state.from < state.to {
                let (file, at) = (Arc::clone(file), state.from);
                let length = BLOCK.min(state.to - at);
                self.reading = Some(spawn_blocking(move || read(&file, at, length)));
            }
        }
        if let Some(reading) = &mut self.reading {
            drop(state);
            let block = ready!(Pin::new(reading).poll(cx));
            self.reading = None;
            let block = block.map_err(io::Error::other).and_then(|block| block);
            if let Ok(block) = &block {
                shared.read(block.len() as u64);
            }
            return Poll::Ready(Some(block.map_err(Into::into)));
        }
        match &mut state.end {
            Some(Ok(())) => Poll::Ready(None),
            Some(end) => Poll::Ready(Some(Err(std::mem::replace(end, Ok(()))
                .err()
                .unwrap_or_else(|| "the body has failed".into())))),
            None => {
                state.reader = Some(cx.waker().clone());
                Poll::Pending
            }
        }
    }
}

impl Body for Reader {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let this = self.get_mut();
        let piece = ready!(this.poll_piece(cx));
        if let (Some(Ok(bytes)), Some(exact)) = (&piece, &mut this.exact) {
            *exact = exact.saturating_sub(bytes.len() as u64);
        }
        Poll::Ready(piece.map(|piece| piece.map(Frame::data)))
    }

    fn is_end_stream(&self) -> bool {
        let state = self.shared.lock();
        let is_empty = state.pieces.is_empty() && state.from == state.to && !state.writing;
        is_empty && matches!(state.end, Some(Ok(())))
    }

    fn size_hint(&self) -> SizeHint {
        self.exact.map_or_else(SizeHint::default, SizeHint::with_exact)
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        if let Some(task) = &self.filled_by {
            task.abort();
        }
    }
}
