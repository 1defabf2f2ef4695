//! Interrupts another thread's poll(2), and limits its time.

use std::{
    io::{self, Read, Write},
    os::{
        fd::{AsFd, BorrowedFd},
        unix::net::UnixStream,
    },
    time::{Duration, Instant},
};

use rustix::event::Timespec;

/// Some systems' poll takes no longer times.
const LONGEST_POLL: Duration = Duration::from_secs(3600);

/// How long one poll(2) may wait, of a wait until then. The caller looks at the clock after it.
pub(crate) fn poll_timeout(until: Option<Instant>) -> Option<Timespec> {
    let left = until?.saturating_duration_since(Instant::now()).min(LONGEST_POLL);
    Timespec::try_from(left).ok()
}

/// A pair of sockets. A thread polls the reading end.
#[derive(Debug)]
pub(crate) struct Waker {
    reader: UnixStream,
    writer: UnixStream,
}

impl Waker {
    pub(crate) fn new() -> io::Result<Self> {
        let (reader, writer) = UnixStream::pair()?;
        reader.set_nonblocking(true)?;
        writer.set_nonblocking(true)?;
        Ok(Self { reader, writer })
    }

    /// Makes the poll return, now or when it next starts.
    pub(crate) fn wake(&self) {
        // A full socket wakes the thread as well.
        let _ = (&self.writer).write(&[0]);
    }

    /// Forgets the wake-ups so far.
    pub(crate) fn drain(&self) {
        let mut buffer = [0; 64];
        loop {
            match (&self.reader).read(&mut buffer) {
                Ok(n) if n == buffer.len() => {}
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                _ => return,
            }
        }
    }
}

impl AsFd for Waker {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.reader.as_fd()
    }
}
