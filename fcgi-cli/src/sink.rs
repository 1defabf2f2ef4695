//! Output to a descriptor that nobody may be reading. It never holds up what it reports on.

use std::{
    collections::VecDeque,
    mem,
    sync::{Condvar, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

/// The cost of a piece in addition to its bytes.
const OVERHEAD: usize = mem::size_of::<Vec<u8>>();

/// How many times its limit [`Sink::flush`] may take while something is written.
const TIMES: usize = 10;

/// Pieces, such as lines, that wait for a thread to write them.
pub(crate) struct Sink {
    limit: usize,
    queue: Mutex<Queue>,
    filled: Condvar,
    emptied: Condvar,
}

struct Queue {
    pieces: VecDeque<Vec<u8>>,
    /// The size of the waiting pieces and of the one being written.
    bytes: usize,
    dropped: u64,
    /// The total number of dropped pieces, and of those that could not be written.
    lost: u64,
}

impl Queue {
    fn lose(&mut self) {
        self.dropped += 1;
        self.lost += 1;
    }
}

impl Sink {
    /// At most `limit` bytes wait. Pieces past that are dropped and counted.
    pub(crate) const fn new(limit: usize) -> Self {
        let queue = Queue { pieces: VecDeque::new(), bytes: 0, dropped: 0, lost: 0 };
        Self { limit, queue: Mutex::new(queue), filled: Condvar::new(), emptied: Condvar::new() }
    }

    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds a piece, or drops it if too much is waiting; true if it was added.
    pub(crate) fn push(&self, piece: Vec<u8>) -> bool {
        let mut queue = self.lock();
        let size = piece.len() + OVERHEAD;
        if queue.bytes + size > self.limit {
            queue.lose();
            return false;
        }
        queue.bytes += size;
        queue.pieces.push_back(piece);
        drop(queue);
        self.filled.notify_one();
        true
    }

    /// Adds a line, like [`push`](Self::push).
    pub(crate) fn line(&self, mut line: String) -> bool {
        line.push('\n');
        self.push(line.into_bytes())
    }

    /// Whether there is room for something small. If not, it counts as dropped.
    pub(crate) fn has_room(&self) -> bool {
        let mut queue = self.lock();
        let has_room = queue.bytes + OVERHEAD < self.limit;
        if !has_room {
            queue.lose();
        }
        has_room
    }

    /// The total number of pieces that were dropped or could not be written.
    pub(crate) fn lost(&self) -> u64 {
        self.lock().lost
    }

    /// The number of pieces dropped since the last call.
    pub(crate) fn take_dropped(&self) -> u64 {
        mem::take(&mut self.lock().dropped)
    }

    /// Writes for ever, on its own thread. `write` returns whether it could write a piece; one that
    /// it could not counts as lost. When everything is written, `tell` gets the number of dropped
    /// pieces, if there are any.
    pub(crate) fn run(&self, mut write: impl FnMut(&[u8]) -> bool, mut tell: impl FnMut(u64)) {
        let mut queue = self.lock();
        loop {
            if let Some(piece) = queue.pieces.pop_front() {
                drop(queue);
                let is_written = write(&piece);
                queue = self.lock();
                // Not told: that could fail in the same way, again and again.
                queue.lost += u64::from(!is_written);
                queue.bytes -= piece.len() + OVERHEAD;
            } else if queue.dropped > 0 {
                let dropped = mem::take(&mut queue.dropped);
                drop(queue);
                tell(dropped);
                queue = self.lock();
            } else {
                self.emptied.notify_all();
                queue = self.filled.wait(queue).unwrap_or_else(PoisonError::into_inner);
            }
        }
    }

    /// Waits until everything is written. Gives up if nothing was written for this long, or not all
    /// of it in [`TIMES`] as long: a slow disk and a busy machine are waited for, and nobody else.
    pub(crate) fn flush(&self, limit: Duration) {
        let is_waiting = |queue: &mut Queue| queue.bytes > 0 || queue.dropped > 0;
        let mut queue = self.lock();
        for _ in 0..TIMES {
            let before = (queue.bytes, queue.dropped);
            let waited = self.emptied.wait_timeout_while(queue, limit, is_waiting);
            let (after, late) = waited.unwrap_or_else(PoisonError::into_inner);
            if !late.timed_out() || (after.bytes, after.dropped) == before {
                return;
            }
            queue = after;
        }
    }
}
