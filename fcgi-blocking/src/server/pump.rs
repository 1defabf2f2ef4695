//! Moves bytes between a socket that does not block and a connection's state machine.

use std::io::{self, IoSlice};

use bytes::Buf;
use fcgi_proto::Connection;

use crate::stream::Stream;

/// Reads of one turn, after which other connections get theirs.
pub(super) const MAX_ROUNDS: usize = 32;
/// Slices of one vectored write.
const MAX_SLICES: usize = 32;

/// What [`write()`] did.
#[derive(Debug)]
pub(super) enum Wrote {
    /// There was nothing to write.
    Nothing,
    /// All that was queued.
    All,
    /// The socket is full.
    Blocked {
        /// Some bytes went out before.
        progress: bool,
    },
    /// The peer takes no more.
    Gone,
}

/// Writes what is queued until the socket is full.
pub(super) fn write(stream: &Stream, connection: &mut impl Connection) -> Wrote {
    let mut progress = false;
    while let Some(mut queued) = connection.poll_transmit() {
        let mut slices = [IoSlice::new(&[]); MAX_SLICES];
        let n = queued.chunks_vectored(&mut slices);
        match stream.write_vectored(&slices[..n]) {
            Ok(0) => return Wrote::Gone,
            Ok(n) => {
                queued.advance(n);
                progress = true;
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                return Wrote::Blocked { progress };
            }
            Err(_) => return Wrote::Gone,
        }
    }
    if progress { Wrote::All } else { Wrote::Nothing }
}

/// Drops what is queued for a peer that takes no more.
pub(super) fn discard(connection: &mut impl Connection) -> Wrote {
    let mut progress = false;
    while let Some(mut queued) = connection.poll_transmit() {
        queued.advance(queued.remaining());
        progress = true;
    }
    if progress { Wrote::All } else { Wrote::Nothing }
}

/// What [`read()`] did.
#[derive(Debug)]
pub(super) enum Read {
    /// Nothing has come, or the connection is paused.
    Nothing,
    /// Some bytes.
    Some {
        /// The window was filled: there may be more. A short read saves the one that would find
        /// nothing.
        more: bool,
    },
    Eof,
    /// The connection broke.
    Gone,
}

/// Reads once into the connection's own window.
pub(super) fn read(stream: &Stream, connection: &mut impl Connection) -> Read {
    if !connection.wants_read() {
        return Read::Nothing;
    }
    loop {
        let window = connection.recv_buffer();
        let room = window.len();
        return match stream.read(window) {
            Ok(0) => Read::Eof,
            Ok(n) => match connection.handle_recv(n) {
                Ok(()) => Read::Some { more: n == room },
                Err(_) => Read::Gone,
            },
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Read::Nothing,
            Err(_) => Read::Gone,
        };
    }
}
