//! What a socket is ready for.

use std::io::{self, IoSlice};

use fcgi_engine::{
    pump::Socket,
    server::Duplex,
    socket::{self, HangUp},
};

use crate::stream::Stream;

/// A socket and what it is ready for. Any other call would only return `WouldBlock`.
pub(super) struct Ready<'a> {
    stream: &'a Stream,
    readable: bool,
    writable: bool,
    /// A read may be the last one of this turn, although there may be more.
    once: bool,
    more: Option<bool>,
}

impl<'a> Ready<'a> {
    pub(super) fn new(stream: &'a Stream, readable: bool, writable: bool, once: bool) -> Self {
        Self { stream, readable, writable, once, more: None }
    }

    /// Whether the last read filled its buffer, so that there may be more. `None` if nothing was
    /// read.
    pub(super) fn more(&self) -> Option<bool> {
        self.more
    }
}

impl Socket for Ready<'_> {
    fn read_ready(&mut self) -> io::Result<()> {
        if self.readable { Ok(()) } else { Err(io::ErrorKind::WouldBlock.into()) }
    }

    fn is_dry(&self) -> bool {
        !self.readable
    }

    fn fills(&self) -> bool {
        true
    }

    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        self.read_ready()?;
        let read = self.stream.read(buf);
        // After a short read, the next one would find nothing. The end of file stays readable.
        let more = matches!(read, Ok(n) if n == buf.len());
        self.more = Some(more);
        self.readable = matches!(read, Ok(0)) || more && !self.once;
        read
    }

    fn write_vectored(&mut self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        if !self.writable {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        (&mut &*self.stream).write_vectored(slices)
    }

    fn widen(&mut self) -> bool {
        let widened = (&mut &*self.stream).widen();
        self.writable |= widened;
        widened
    }
}

impl Duplex for Ready<'_> {
    const HEARS_HANG_UP: bool = true;

    fn hang_up(&self) -> HangUp {
        socket::hang_up(self.stream)
    }

    fn shutdown_write(&self) {
        socket::shutdown_write(self.stream);
    }

    fn refuse_input(&self) -> bool {
        socket::refuse_input(self.stream)
    }
}
