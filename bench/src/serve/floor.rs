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

use crate::wire::{self, Record, put_record};

/// The listener's token; connections have their index.
const LISTENER: u64 = u64::MAX;

/// One connection.
struct Connection {
    stream: UnixStream,
    /// The start of an incomplete request; usually empty.
    partial: Vec<u8>,
}

/// The answer to a request, with room for its id in three headers.
struct Answer {
    bytes: Vec<u8>,
    /// Where the ids are.
    ids: Vec<usize>,
}

impl Answer {
    /// STDOUT, its end, END_REQUEST.
    fn new() -> Answer {
        let mut bytes = Vec::new();
        let mut ids = Vec::new();
        let records: [(u8, &[u8]); 3] =
            [(wire::STDOUT, super::STDOUT), (wire::STDOUT, &[]), (wire::END_REQUEST, &[0; 8])];
        for (kind, content) in records {
            ids.push(bytes.len() + 2);
            put_record(&mut bytes, kind, 0, content);
        }
        Answer { bytes, ids }
    }

    /// The answer to request `id`.
    fn to(&mut self, id: u16) -> &[u8] {
        for at in &self.ids {
            self.bytes[*at..at + 2].copy_from_slice(&id.to_be_bytes());
        }
        &self.bytes
    }
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
    let mut answer = Answer::new();
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
                    if connection.ready(&mut buffer, &mut answer).is_err() {
                        *slot = None; // Dropping it closes it, and epoll forgets it.
                    }
                }
            }
        }
    }
}

impl Connection {
    /// Reads once and answers every request that has now ended. An error closes the connection.
    fn ready(&mut self, buffer: &mut [u8], answer: &mut Answer) -> io::Result<()> {
        let n = match read(&self.stream, &mut *buffer) {
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(n) => n,
            Err(Errno::AGAIN | Errno::INTR) => return Ok(()),
            Err(error) => return Err(error.into()),
        };
        if self.partial.is_empty() {
            let rest = answer_all(&self.stream, &buffer[..n], answer)?;
            self.partial.extend_from_slice(rest);
        } else {
            self.partial.extend_from_slice(&buffer[..n]);
            let rest = answer_all(&self.stream, &self.partial, answer)?.len();
            self.partial.drain(..self.partial.len() - rest);
        }
        Ok(())
    }
}

/// Answers every complete request in `input` with one write each; returns what is left over.
///
/// If the socket does not take an answer at once, that is an error: the load generator has at most
/// one request on a connection, so its answers always fit.
fn answer_all<'a>(
    stream: &UnixStream,
    mut input: &'a [u8],
    answer: &mut Answer,
) -> io::Result<&'a [u8]> {
    let mut at = input;
    while let Some(record) = Record::split(at) {
        at = record.rest;
        if record.kind == wire::STDIN && record.content.is_empty() {
            let bytes = answer.to(record.id);
            if write(stream, bytes)? != bytes.len() {
                return Err(io::ErrorKind::WriteZero.into());
            }
            input = at;
        }
    }
    Ok(input)
}
