//! Lines on their way to stdout and stderr, which nobody may be reading: a log never holds up what
//! it tells of.

use std::{
    collections::VecDeque,
    io::{self, Write},
    mem,
    sync::{Condvar, Mutex, MutexGuard, PoisonError},
    thread,
    time::Duration,
};

use super::log::{self, Format};

/// The most that waits to be written, in bytes. What comes on top is dropped, and counted.
const WAITING: usize = 1 << 20;
/// What a line takes beside its text.
const OVERHEAD: usize = mem::size_of::<String>();
/// How long the end of the gateway waits for a log to be written.
const AT_THE_END: Duration = Duration::from_secs(1);

pub(super) static ACCESS: Sink = Sink::new("access", || Box::new(io::stdout()));
pub(super) static ERRORS: Sink = Sink::new("error", || Box::new(io::stderr()));

/// Lines that wait for a thread which writes them.
pub(super) struct Sink {
    name: &'static str,
    open: fn() -> Box<dyn Write>,
    queue: Mutex<Queue>,
    filled: Condvar,
    emptied: Condvar,
}

struct Queue {
    lines: VecDeque<String>,
    /// Of the lines that wait, and of those being written.
    bytes: usize,
    /// Since the log has told of it.
    dropped: u64,
    /// In all.
    lost: u64,
}

impl Queue {
    fn lose(&mut self) {
        self.dropped += 1;
        self.lost += 1;
    }
}

impl Sink {
    const fn new(name: &'static str, open: fn() -> Box<dyn Write>) -> Self {
        let queue = Queue { lines: VecDeque::new(), bytes: 0, dropped: 0, lost: 0 };
        Self {
            name,
            open,
            queue: Mutex::new(queue),
            filled: Condvar::new(),
            emptied: Condvar::new(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds a line, or drops it when too much waits already.
    pub(super) fn line(&self, mut line: String) {
        line.push('\n');
        let mut queue = self.lock();
        let size = line.len() + OVERHEAD;
        if queue.bytes + size > WAITING {
            queue.lose();
            return;
        }
        queue.bytes += size;
        queue.lines.push_back(line);
        drop(queue);
        self.filled.notify_one();
    }

    /// Whether a line would be taken; one that is not is counted as dropped.
    pub(super) fn has_room(&self) -> bool {
        let mut queue = self.lock();
        let has_room = queue.bytes + OVERHEAD < WAITING;
        if !has_room {
            queue.lose();
        }
        has_room
    }

    /// How many lines were dropped.
    pub(super) fn lost(&self) -> u64 {
        self.lock().lost
    }

    fn write(&self) {
        let mut out = (self.open)();
        let mut queue = self.lock();
        loop {
            if let Some(line) = queue.lines.pop_front() {
                drop(queue);
                // Nobody may be reading it any more.
                let _ = out.write_all(line.as_bytes()).and_then(|()| out.flush());
                queue = self.lock();
                queue.bytes -= line.len() + OVERHEAD;
            } else if queue.dropped > 0 {
                let dropped = mem::take(&mut queue.dropped);
                drop(queue);
                complain(&format!(
                    "{dropped} lines of the {} log were dropped: it was not read fast enough",
                    self.name
                ));
                queue = self.lock();
            } else {
                self.emptied.notify_all();
                queue = self.filled.wait(queue).unwrap_or_else(PoisonError::into_inner);
            }
        }
    }

    /// Waits until all is written, but for a bounded time.
    fn flush(&self) {
        let is_waiting = |queue: &mut Queue| queue.bytes > 0 || queue.dropped > 0;
        drop(self.emptied.wait_timeout_while(self.lock(), AT_THE_END, is_waiting));
    }
}

/// Starts the threads that write.
///
/// # Errors
/// The system's, when there can be no more threads.
pub(super) fn start() -> io::Result<()> {
    for sink in [&ACCESS, &ERRORS] {
        thread::Builder::new().name(format!("{} log", sink.name)).spawn(|| sink.write())?;
    }
    Ok(())
}

/// Waits for both logs, but not for one that nobody reads.
pub(super) fn flush() {
    ACCESS.flush();
    ERRORS.flush();
}

/// One line of the error log.
pub(super) fn complain(line: &str) {
    ERRORS.line(shown(line));
}

fn shown(line: &str) -> String {
    match log::format() {
        Format::Combined => format!("fcgi gateway: {line}"),
        Format::Json => log::error_json(None, None, line),
    }
}
