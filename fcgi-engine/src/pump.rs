//! Moves bytes between a socket and a connection's state machine.
//!
//! ```
//! use std::io::{self, IoSlice};
//!
//! use fcgi_engine::pump::{self, Read, Socket, Wrote};
//! use fcgi_proto::{ClientConfig, ClientConnection};
//!
//! /// A peer that says nothing and takes everything.
//! struct Silent(Vec<u8>);
//!
//! impl Socket for Silent {
//!     fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
//!         Err(io::ErrorKind::WouldBlock.into())
//!     }
//!
//!     fn write_vectored(&mut self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
//!         slices.iter().for_each(|slice| self.0.extend_from_slice(slice));
//!         Ok(slices.iter().map(|slice| slice.len()).sum())
//!     }
//! }
//!
//! let mut socket = Silent(Vec::new());
//! let mut connection = ClientConnection::new(ClientConfig::default());
//! connection.query_values()?;
//! let wrote = pump::write(&mut socket, &mut connection);
//! assert!(matches!(wrote, Wrote::Done { bytes, blocked: false } if bytes == socket.0.len()));
//! assert!(matches!(pump::read(&mut socket, &mut connection), Read::Nothing));
//! # Ok::<(), fcgi_proto::UsageError>(())
//! ```

use std::{
    cell::Cell,
    io::{self, IoSlice},
};

use bytes::{Buf, BytesMut};
use fcgi_proto::Connection;

/// Reads, and writes, of one turn, after which others get theirs.
pub const MAX_ROUNDS: usize = 32;
/// Slices of one vectored write.
const MAX_SLICES: usize = 32;
/// Bytes that one [`skip`] drops at most. They are cleared each time, and mostly there is nothing.
const MAX_SKIPPED: usize = 8 * 1024;
/// Bytes of a buffer that connections are lent: the window of one that reads little.
const LENT: usize = 4096;

thread_local! {
    /// A buffer to read into. A connection has it while it parses what it has read, so that
    /// thousands of connections need one, and none clears it for each read.
    static SPARE: Cell<Option<BytesMut>> = const { Cell::new(None) };
}

/// Lends the connection a buffer, unless it has one or wants a larger one; says whether it did.
/// Code that may take what was in it for its own bytes gets it cleared: another connection's
/// requests were in it.
fn lend(socket: &impl Socket, connection: &mut impl Connection) -> bool {
    if connection.wants_buffer() != Some(LENT) {
        return false;
    }
    // A thread that ends has none.
    let spare = SPARE.try_with(Cell::take).ok().flatten();
    let buffer = match spare {
        Some(mut spare) => {
            if !socket.fills() {
                spare.fill(0);
            }
            spare
        }
        None => fresh(),
    };
    connection.lend(buffer).is_ok()
}

#[cold]
fn fresh() -> BytesMut {
    BytesMut::zeroed(LENT)
}

/// Takes back the buffer that [`read()`] has lent the connection, if nothing in it is needed any
/// more: once the events are drained.
#[inline]
pub fn reclaim(connection: &mut impl Connection) {
    if let Some(buffer) = connection.reclaim() {
        let _ = SPARE.try_with(|spare| spare.set(Some(buffer)));
    }
}

/// A socket that does not block. What can't be done now is [`io::ErrorKind::WouldBlock`]; an async
/// adapter has then seen to it that its task is woken.
pub trait Socket {
    /// Whether a read may find something. It is asked before there is a buffer, so that an idle
    /// connection needs none.
    ///
    /// # Errors
    /// [`io::ErrorKind::WouldBlock`] when there is nothing to read; the socket's own.
    fn read_ready(&mut self) -> io::Result<()> {
        Ok(())
    }

    /// Whether there is something to read that [`read`](Self::read) does not give yet, since a
    /// runtime has still to hear of it.
    fn is_readable(&self) -> bool {
        false
    }

    /// Whether [`read`](Self::read) has the system fill the buffer, with as many bytes as it says.
    /// Any other code gets a buffer without another connection's bytes, which it could take for what
    /// it has read.
    fn fills(&self) -> bool {
        false
    }

    /// Reads what is there; 0 is the end of file.
    ///
    /// # Errors
    /// [`io::ErrorKind::WouldBlock`] when there is nothing to read; the socket's own.
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize>;

    /// Writes some of the slices, in one call.
    ///
    /// # Errors
    /// [`io::ErrorKind::WouldBlock`] when the socket is full; the socket's own.
    fn write_vectored(&mut self, slices: &[IoSlice<'_>]) -> io::Result<usize>;
}

/// What [`write()`] did.
#[derive(Debug)]
pub enum Wrote {
    /// What the socket took.
    Done {
        /// How many bytes; 0 when there was nothing to write, or no room at all.
        bytes: usize,
        /// The socket is full, and more is queued.
        blocked: bool,
    },
    /// The peer takes no more.
    Gone(Broken),
}

/// A peer that takes no more.
#[derive(Debug)]
pub struct Broken {
    /// How many bytes it took before.
    pub bytes: usize,
    /// What the socket said.
    pub error: io::Error,
}

/// Writes what is queued until the socket is full.
pub fn write(socket: &mut impl Socket, connection: &mut impl Connection) -> Wrote {
    let mut bytes = 0;
    while let Some(mut queued) = connection.poll_transmit() {
        let first = queued.chunk();
        let written = if first.len() == queued.remaining() {
            socket.write_vectored(&[IoSlice::new(first)])
        } else {
            let mut slices = [IoSlice::new(&[]); MAX_SLICES];
            let n = queued.chunks_vectored(&mut slices);
            socket.write_vectored(&slices[..n])
        };
        match written {
            Ok(0) => {
                return Wrote::Gone(Broken { bytes, error: io::ErrorKind::WriteZero.into() });
            }
            Ok(n) => {
                queued.advance(n);
                bytes += n;
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                return Wrote::Done { bytes, blocked: true };
            }
            Err(error) => return Wrote::Gone(Broken { bytes, error }),
        }
    }
    Wrote::Done { bytes, blocked: false }
}

/// Drops what is queued for a peer that takes no more.
pub fn discard(connection: &mut impl Connection) -> Wrote {
    let mut bytes = 0;
    while let Some(mut queued) = connection.poll_transmit() {
        let n = queued.remaining();
        queued.advance(n);
        bytes += n;
    }
    Wrote::Done { bytes, blocked: false }
}

/// What [`read()`] or [`skip()`] did.
#[derive(Debug)]
pub enum Read {
    /// Nothing has come, or the connection is paused.
    Nothing,
    /// What came was taken in, or dropped.
    Some {
        /// How many bytes.
        bytes: usize,
        /// The window was filled: there may be more. A short read saves the one that would find
        /// nothing.
        more: bool,
    },
    /// The peer sends no more.
    Eof,
    /// The connection broke.
    Gone(io::Error),
}

/// Reads from one connection. A read that will find something is not asked for first whether it
/// will: with a buffer that is lent, asking saves nothing.
#[derive(Debug, Default)]
pub struct Reader {
    /// The last read found less than there was room for: the next one finds nothing.
    emptied: bool,
}

impl Reader {
    /// Reads once into the connection's window. Call [`reclaim`] when the events are drained.
    pub fn read(&mut self, socket: &mut impl Socket, connection: &mut impl Connection) -> Read {
        if std::mem::take(&mut self.emptied)
            || !connection.wants_read()
            || !lend(socket, connection)
        {
            return read(socket, connection);
        }
        let read = until_done(|| read_into(socket, connection));
        self.emptied = matches!(read, Read::Some { more: false, .. });
        take_in(connection, read)
    }
}

/// Reads once into the connection's window, if there is something to read. Call [`reclaim`] when the
/// events are drained.
pub fn read(socket: &mut impl Socket, connection: &mut impl Connection) -> Read {
    if !connection.wants_read() {
        return Read::Nothing;
    }
    let read = read_once(socket, |socket| {
        lend(socket, connection);
        read_into(socket, connection)
    });
    take_in(connection, read)
}

#[inline]
fn read_into(
    socket: &mut impl Socket,
    connection: &mut impl Connection,
) -> io::Result<(usize, usize)> {
    let window = connection.recv_buffer();
    let room = window.len();
    Ok((socket.read(window)?, room))
}

fn take_in(connection: &mut impl Connection, read: Read) -> Read {
    match read {
        Read::Some { bytes, .. } => match connection.handle_recv(bytes) {
            Ok(()) => read,
            Err(overrun) => Read::Gone(io::Error::other(overrun)),
        },
        nothing => {
            reclaim(connection);
            nothing
        }
    }
}

/// Reads once what is of no use to anybody, and drops it.
pub fn skip(socket: &mut impl Socket) -> Read {
    read_once(socket, |socket| {
        let mut scratch = [0; MAX_SKIPPED];
        Ok((socket.read(&mut scratch)?, MAX_SKIPPED))
    })
}

/// Reads once; `read` gives how many bytes came and how many there was room for. It is asked only
/// if there may be any, since it needs a buffer.
fn read_once<S: Socket>(
    socket: &mut S,
    mut read: impl FnMut(&mut S) -> io::Result<(usize, usize)>,
) -> Read {
    until_done(|| {
        socket.read_ready()?;
        read(socket)
    })
}

/// Reads until that is not interrupted.
#[inline]
fn until_done(mut read: impl FnMut() -> io::Result<(usize, usize)>) -> Read {
    loop {
        return match read() {
            Ok((0, _)) => Read::Eof,
            Ok((bytes, room)) => Read::Some { bytes, more: bytes == room },
            Err(error) => match error.kind() {
                io::ErrorKind::Interrupted => continue,
                io::ErrorKind::WouldBlock => Read::Nothing,
                _ => Read::Gone(error),
            },
        };
    }
}
