//! Ends another thread's poll(2).

use std::{
    io,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
};

use rustix::{io::Errno, pipe};

/// A pipe whose reading end is among what a thread polls.
#[derive(Debug)]
pub(crate) struct Waker {
    reader: OwnedFd,
    writer: OwnedFd,
}

impl Waker {
    pub(crate) fn new() -> io::Result<Self> {
        let (reader, writer) =
            pipe::pipe_with(pipe::PipeFlags::CLOEXEC | pipe::PipeFlags::NONBLOCK)?;
        Ok(Self { reader, writer })
    }

    /// Makes the poll return, now or when it is next made.
    pub(crate) fn wake(&self) {
        // A full pipe wakes as well.
        let _ = rustix::io::write(&self.writer, &[0]);
    }

    /// Forgets the wake-ups so far.
    pub(crate) fn drain(&self) {
        let mut buffer = [0; 64];
        loop {
            match rustix::io::read(&self.reader, &mut buffer) {
                Ok(n) if n == buffer.len() => {}
                Err(Errno::INTR) => {}
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
