//! Moves bytes between a socket and a connection's state machine.
//!
//! ```
//! use std::io::{self, IoSlice};
//!
//! use fcgi_engine::pump::{self, Read, Socket, Writer, Wrote};
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
//! let wrote = Writer::default().write(&mut socket, &mut connection);
//! assert!(matches!(wrote, Wrote::Done { bytes, blocked: false } if bytes == socket.0.len()));
//! assert!(matches!(pump::read(&mut socket, &mut connection), Read::Nothing));
//! # Ok::<(), fcgi_proto::UsageError>(())
//! ```

use std::{
    cell::Cell,
    collections::VecDeque,
    io::{self, IoSlice},
};

use bytes::{Buf, Bytes, BytesMut};
use fcgi_proto::{Connection, recv_buffer};

/// Reads and writes in one turn. After that, other connections get theirs.
pub const MAX_ROUNDS: usize = 32;
/// Slices of one vectored write.
const MAX_SLICES: usize = 32;
/// Sizes of the buffers that are lent to connections: the windows of one that reads little, of one
/// that reads many small requests at once, and of one that reads a body.
const LENT: [usize; 3] = [4096, 16_384, 65_536];
/// The largest of them.
const LARGEST: usize = LENT.len() - 1;
/// How many of the sizes are lent to a socket for which they are cleared each time.
const CLEARED: usize = 2;
/// How many of the largest a thread keeps at most while slices of them are kept. The default send
/// queue, 256 KiB, holds slices of at most so many: smaller ones are copied.
const RETIRED: usize = 16;

thread_local! {
    /// A buffer of each size to read into. A connection has it only while it parses what it has
    /// read, and while slices of it are read. So thousands of connections need one buffer, and it
    /// is not cleared for each read.
    static SPARE: [Cell<Option<BytesMut>>; 3] =
        const { [Cell::new(None), Cell::new(None), Cell::new(None)] };
    /// Buffers of the largest size, in the order in which their slices will mostly be dropped. A
    /// body that waits to be sent on would else need new memory with each read.
    static KEPT: Cell<VecDeque<Bytes>> = const { Cell::new(VecDeque::new()) };
}

/// Lends the connection a buffer, unless it has one or wants a larger one. Returns true if it did.
#[inline]
fn lend(socket: &impl Socket, connection: &mut impl Connection) -> bool {
    let sizes = if socket.fills() { &LENT[..] } else { &LENT[..CLEARED] };
    // The slices of the last one may have been read by now.
    reclaim(connection);
    if let Some(kept) = connection.retire() {
        keep(kept);
    }
    let size = connection.wants_buffer();
    let size = size.and_then(|size| sizes.iter().position(|lent| *lent == size));
    size.is_some_and(|size| connection.lend(spare(socket, size)).is_ok())
}

/// The thread's buffer of a size. It may hold bytes of another connection's requests, so it is
/// cleared for a socket whose code could mistake them for its own.
#[inline]
fn spare(socket: &impl Socket, size: usize) -> BytesMut {
    // A thread that is ending has no buffer.
    let spare = SPARE.try_with(|spares| spares[size].take()).ok().flatten();
    match spare.or_else(|| if size == LARGEST { unkept() } else { None }) {
        Some(mut spare) => {
            if !socket.fills() {
                spare.fill(0);
            }
            spare
        }
        None => recv_buffer(LENT[size]),
    }
}

/// Keeps a buffer until its slices are dropped.
fn keep(kept: Bytes) {
    if kept.len() != LENT[LARGEST] {
        return;
    }
    let _ = KEPT.try_with(|cell| {
        let mut all = cell.take();
        if all.len() == RETIRED {
            all.pop_front();
        }
        all.push_back(kept);
        cell.set(all);
    });
}

/// The first buffer that was kept, if its slices are dropped.
fn unkept() -> Option<BytesMut> {
    let take = |cell: &Cell<VecDeque<Bytes>>| {
        let mut all = cell.take();
        let first = all.pop_front().map(Bytes::try_into_mut);
        let first = first.and_then(|first| first.map_err(|kept| all.push_front(kept)).ok());
        cell.set(all);
        first
    };
    KEPT.try_with(take).ok().flatten()
}

#[inline]
fn put_back(spare: BytesMut) {
    let Some(size) = LENT.iter().position(|lent| *lent == spare.len()) else { return };
    let _ = SPARE.try_with(|spares| spares[size].set(Some(spare)));
}

/// Takes back the buffer that [`read()`] has lent the connection, if nothing in it is needed any
/// more. Call it once the events are drained.
#[inline]
pub fn reclaim(connection: &mut impl Connection) {
    if let Some(buffer) = connection.reclaim() {
        put_back(buffer);
    }
}

/// A nonblocking socket. [`io::ErrorKind::WouldBlock`] means that a call can't go on now; an async
/// adapter has then arranged for its task to be woken.
pub trait Socket {
    /// Whether a read may find something. This is asked before a buffer is lent, so that an idle
    /// connection needs none.
    ///
    /// # Errors
    /// [`io::ErrorKind::WouldBlock`] when there is nothing to read; errors of the socket.
    fn read_ready(&mut self) -> io::Result<()> {
        Ok(())
    }

    /// Whether there is something to read that [`read`](Self::read) does not return yet, because
    /// the runtime has not noticed it.
    fn is_readable(&self) -> bool {
        false
    }

    /// Whether it is known, without asking the system, that a read would find nothing.
    fn is_dry(&self) -> bool {
        false
    }

    /// Whether it is the system that fills the buffer of [`read`](Self::read), with as many bytes
    /// as it reports. Any other code gets a buffer without another connection's bytes, since it
    /// could report those as read.
    fn fills(&self) -> bool {
        false
    }

    /// Reads what has come; 0 is the end of file.
    ///
    /// # Errors
    /// [`io::ErrorKind::WouldBlock`] when there is nothing to read; errors of the socket.
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize>;

    /// Writes some of the slices in one call.
    ///
    /// # Errors
    /// [`io::ErrorKind::WouldBlock`] when the socket is full; errors of the socket.
    fn write_vectored(&mut self, slices: &[IoSlice<'_>]) -> io::Result<usize>;

    /// Like [`write_vectored`](Self::write_vectored), which has just failed because the runtime takes
    /// the socket for full. By default that is the truth.
    ///
    /// # Errors
    /// As for `write_vectored`.
    fn write_at_once(&mut self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        let _ = slices;
        Err(io::ErrorKind::WouldBlock.into())
    }

    /// Lets a full socket hold more, if it can; true if it now does.
    fn widen(&mut self) -> bool {
        false
    }
}

/// What [`Writer::write`] did.
#[derive(Debug)]
pub enum Wrote {
    /// The socket took some bytes, or none.
    Done {
        /// How many bytes; 0 when there was nothing to write, or no room at all.
        bytes: usize,
        /// Whether the socket is full and more is queued.
        blocked: bool,
    },
    /// The peer takes no more.
    Gone(Broken),
}

/// A peer that takes no more.
#[derive(Debug)]
pub struct Broken {
    /// How many bytes it took before that.
    pub bytes: usize,
    /// The socket's error.
    pub error: io::Error,
}

/// Writes to one connection. Its socket gets more room when it is full for the first time, so that
/// only connections with large bodies take more of the system's memory.
#[derive(Debug, Default)]
pub struct Writer {
    widened: bool,
    /// There may be room that was not reported.
    retry: bool,
}

impl Writer {
    /// Something was read, so the peer is at work and may have read too: the next write is tried
    /// even if the runtime takes the socket for full.
    #[inline]
    pub fn handle_read(&mut self) {
        self.retry = true;
    }

    /// Writes queued bytes until the socket is full.
    #[inline]
    pub fn write(&mut self, socket: &mut impl Socket, connection: &mut impl Connection) -> Wrote {
        let mut bytes = 0;
        while let Some(mut queued) = connection.poll_transmit() {
            let first = queued.chunk();
            let written = if first.len() == queued.remaining() {
                self.write_slices(socket, &[IoSlice::new(first)])
            } else {
                let mut slices = [IoSlice::new(&[]); MAX_SLICES];
                let n = queued.chunks_vectored(&mut slices);
                self.write_slices(socket, &slices[..n])
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
                    if std::mem::replace(&mut self.widened, true) || !socket.widen() {
                        return Wrote::Done { bytes, blocked: true };
                    }
                    self.retry = true;
                }
                Err(error) => return Wrote::Gone(Broken { bytes, error }),
            }
        }
        Wrote::Done { bytes, blocked: false }
    }

    fn write_slices(
        &mut self,
        socket: &mut impl Socket,
        slices: &[IoSlice<'_>],
    ) -> io::Result<usize> {
        match socket.write_vectored(slices) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                if std::mem::take(&mut self.retry) {
                    socket.write_at_once(slices)
                } else {
                    Err(error)
                }
            }
            written => written,
        }
    }
}

/// Drops the queue of a peer that takes no more.
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
    /// Bytes came, and were taken in or dropped.
    Some {
        /// How many bytes.
        bytes: usize,
        /// Whether the window was filled, so that there may be more. After a short read, the read
        /// that would find nothing is saved.
        more: bool,
    },
    /// The peer sends no more.
    Eof,
    /// The connection broke.
    Gone(io::Error),
}

/// Reads from one connection. It does not ask first whether there is something to read when a read
/// will find something: with a lent buffer, asking saves nothing.
#[derive(Debug, Default)]
pub struct Reader {
    /// The last read found less than there was room for, so the next one will find nothing.
    emptied: bool,
}

impl Reader {
    /// Reads once into the connection's window. Call [`reclaim`] when the events are drained.
    #[inline]
    pub fn read(&mut self, socket: &mut impl Socket, connection: &mut impl Connection) -> Read {
        if socket.is_dry() {
            self.emptied = false;
            reclaim(connection);
            return Read::Nothing;
        }
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

#[inline]
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

/// Reads once and drops the bytes, which nobody needs.
pub fn skip(socket: &mut impl Socket) -> Read {
    read_once(socket, |socket| {
        let mut scratch = spare(socket, 0);
        let read = socket.read(&mut scratch);
        let room = scratch.len();
        put_back(scratch);
        Ok((read?, room))
    })
}

/// Reads once. `read` returns how many bytes came and how many there was room for. It is called
/// only if there may be some, because it needs a buffer.
fn read_once<S: Socket>(
    socket: &mut S,
    mut read: impl FnMut(&mut S) -> io::Result<(usize, usize)>,
) -> Read {
    until_done(|| {
        socket.read_ready()?;
        read(socket)
    })
}

/// Repeats a read that was interrupted.
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
