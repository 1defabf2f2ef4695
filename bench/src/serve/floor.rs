//! The floor: the least that a FastCGI server on epoll can do.
//!
//! One read gets a request, a walk over its record headers finds its end, and one write answers it.
//! It reads no parameters, allocates nothing per request, and has nothing between the socket and
//! the loop. Whatever a server needs more than this is its own cost.

use std::io;
use std::mem::MaybeUninit;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;

use anyhow::{Context as _, Result};
use rustix::event::epoll::{self, CreateFlags, Event, EventData, EventFlags};
use rustix::io::{Errno, read, write};

use super::bare::Bare;

/// The listener's token; connections have their index.
const LISTENER: u64 = u64::MAX;

/// One connection.
struct Connection {
    stream: UnixStream,
    /// The start of an incomplete request; usually empty.
    partial: Vec<u8>,
}

/// Serves for ever.
pub(super) fn serve(socket: &Path) -> Result<()> {
    let listener = UnixListener::bind(socket).context("cannot listen")?;
    listener.set_nonblocking(true)?;
    let epoll = epoll::create(CreateFlags::CLOEXEC)?;
    epoll::add(&epoll, &listener, EventData::new_u64(LISTENER), EventFlags::IN)?;

    let mut connections: Vec<Option<Connection>> = Vec::new();
    let mut events = [MaybeUninit::<Event>::uninit(); 64];
    let mut buffer = vec![0; 1 << 16];
    let mut answers = (Bare::new(), Vec::new());
    loop {
        let (ready, _) = match epoll::wait(&epoll, &mut events, None) {
            Err(Errno::INTR) => continue,
            ready => ready?,
        };
        for event in ready {
            let token = event.data.u64();
            if token == LISTENER {
                let Ok((stream, _)) = listener.accept() else {
                    continue;
                };
                stream.set_nonblocking(true)?;
                let free = connections.iter().position(Option::is_none);
                let index = free.unwrap_or(connections.len());
                epoll::add(&epoll, &stream, EventData::new_u64(index as u64), EventFlags::IN)?;
                let connection = Some(Connection { stream, partial: Vec::new() });
                match free {
                    Some(index) => connections[index] = connection,
                    None => connections.push(connection),
                }
            } else if let Some(slot) = connections.get_mut(token as usize) {
                if let Some(connection) = slot {
                    if connection.ready(&mut buffer, &mut answers).is_err() {
                        *slot = None; // Closed: epoll forgets it by itself.
                    }
                }
            }
        }
    }
}

impl Connection {
    /// Reads once and answers every request that has ended, in one write. An error closes the
    /// connection, and so does the last answer on a connection that is not kept.
    ///
    /// An answer that the socket does not take at once is an error: the load generator waits for its
    /// answers, so they always fit.
    fn ready(&mut self, buffer: &mut [u8], (bare, out): &mut (Bare, Vec<u8>)) -> io::Result<()> {
        let n = match read(&self.stream, &mut *buffer) {
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(n) => n,
            Err(Errno::AGAIN | Errno::INTR) => return Ok(()),
            Err(error) => return Err(error.into()),
        };
        out.clear();
        let kept = if self.partial.is_empty() {
            let (rest, kept) = bare.answer(&buffer[..n], out);
            self.partial.extend_from_slice(rest);
            kept
        } else {
            self.partial.extend_from_slice(&buffer[..n]);
            let (rest, kept) = bare.answer(&self.partial, out);
            let done = self.partial.len() - rest.len();
            self.partial.drain(..done);
            kept
        };
        if !out.is_empty() && write(&self.stream, out)? != out.len() {
            return Err(io::ErrorKind::WriteZero.into());
        }
        if kept || out.is_empty() { Ok(()) } else { Err(io::ErrorKind::ConnectionAborted.into()) }
    }
}
