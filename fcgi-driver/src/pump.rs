//! Moves bytes between a socket and a connection's state machine.

use std::{
    io::{self, IoSlice},
    task::{Context, Poll},
};

use bytes::Buf;
use fcgi_proto::Connection;

use crate::runtime::Transport;

/// Reads and writes of one turn, after which other tasks get theirs.
pub(crate) const MAX_ROUNDS: usize = 32;
/// Slices of one vectored write.
const MAX_SLICES: usize = 32;

/// What [`write()`] did.
#[derive(Debug)]
pub(crate) enum Wrote {
    /// There was nothing to write.
    Nothing,
    /// Some bytes; all of them unless the socket is full now.
    Some { blocked: bool },
    /// No byte: the socket is full.
    Blocked,
    /// The peer takes no more.
    Gone(io::Error),
}

/// Writes what is queued until the socket is full.
pub(crate) fn write<T: Transport>(
    io: &mut T,
    connection: &mut impl Connection,
    cx: &mut Context<'_>,
) -> Wrote {
    let mut progress = false;
    while let Some(mut queued) = connection.poll_transmit() {
        let mut slices = [IoSlice::new(&[]); MAX_SLICES];
        let n = queued.chunks_vectored(&mut slices);
        match io.poll_write(cx, &slices[..n]) {
            Poll::Ready(Ok(0)) => return Wrote::Gone(io::ErrorKind::WriteZero.into()),
            Poll::Ready(Ok(n)) => {
                queued.advance(n);
                progress = true;
            }
            Poll::Ready(Err(error)) if error.kind() == io::ErrorKind::Interrupted => {}
            Poll::Ready(Err(error)) => return Wrote::Gone(error),
            Poll::Pending if progress => return Wrote::Some { blocked: true },
            Poll::Pending => return Wrote::Blocked,
        }
    }
    if progress { Wrote::Some { blocked: false } } else { Wrote::Nothing }
}

/// Drops what is queued for a peer that takes no more.
pub(crate) fn discard(connection: &mut impl Connection) -> Wrote {
    let mut progress = false;
    while let Some(mut queued) = connection.poll_transmit() {
        queued.advance(queued.remaining());
        progress = true;
    }
    if progress { Wrote::Some { blocked: false } } else { Wrote::Nothing }
}

/// What [`read()`] did.
#[derive(Debug)]
pub(crate) enum Read {
    /// Nothing has come, or the connection is paused.
    Nothing,
    Some,
    Eof,
    /// The connection broke.
    Gone(io::Error),
}

/// Reads once into the connection's own window.
pub(crate) fn read<T: Transport>(
    io: &mut T,
    connection: &mut impl Connection,
    cx: &mut Context<'_>,
) -> Read {
    if !connection.wants_read() {
        return Read::Nothing;
    }
    loop {
        match io.poll_read_ready(cx) {
            Poll::Pending => return Read::Nothing,
            Poll::Ready(Err(error)) => return Read::Gone(error),
            Poll::Ready(Ok(())) => {}
        }
        return match io.poll_read(cx, connection.recv_buffer()) {
            Poll::Pending => Read::Nothing,
            Poll::Ready(Ok(0)) => Read::Eof,
            Poll::Ready(Ok(n)) => match connection.handle_recv(n) {
                Ok(()) => Read::Some,
                Err(overrun) => Read::Gone(io::Error::other(overrun)),
            },
            Poll::Ready(Err(error)) if error.kind() == io::ErrorKind::Interrupted => continue,
            Poll::Ready(Err(error)) => Read::Gone(error),
        };
    }
}
