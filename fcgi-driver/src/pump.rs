//! Shows a transport to the engine's pump: an operation that is not ready would block, and wakes
//! the task later.

use std::{
    io::{self, IoSlice},
    task::{Context, Poll},
};

use crate::runtime::Transport;
pub(crate) use fcgi_engine::pump::MAX_ROUNDS;
use fcgi_engine::{pump::Socket, server::Duplex, socket::HangUp};

/// A transport, with the context of the task that waits for it.
pub(crate) struct Io<'a, 'b, T>(pub(crate) &'a mut T, pub(crate) &'a mut Context<'b>);

impl<T: Transport> Socket for Io<'_, '_, T> {
    fn read_ready(&mut self) -> io::Result<()> {
        or_would_block(self.0.poll_read_ready(self.1))
    }

    fn is_readable(&self) -> bool {
        self.0.is_readable()
    }

    fn fills(&self) -> bool {
        self.0.fills()
    }

    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        or_would_block(self.0.poll_read(self.1, buf))
    }

    fn write_vectored(&mut self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        or_would_block(self.0.poll_write(self.1, slices))
    }

    fn write_at_once(&mut self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        self.0.write_at_once(slices)
    }

    fn widen(&mut self) -> bool {
        self.0.widen()
    }
}

impl<T: Transport> Duplex for Io<'_, '_, T> {
    const HEARS_HANG_UP: bool = false;

    fn hang_up(&self) -> HangUp {
        self.0.hang_up()
    }

    fn shutdown_write(&self) {
        self.0.shutdown_write();
    }

    fn refuse_input(&self) -> bool {
        self.0.refuse_input()
    }
}

fn or_would_block<T>(polled: Poll<io::Result<T>>) -> io::Result<T> {
    match polled {
        Poll::Ready(result) => result,
        Poll::Pending => Err(io::ErrorKind::WouldBlock.into()),
    }
}
