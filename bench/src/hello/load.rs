//! The load generator: one thread, one epoll, a request in flight on every connection.

use std::io::{Read as _, Write as _};
use std::mem::MaybeUninit;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use rustix::event::Timespec;
use rustix::event::epoll::{self, CreateFlags, Event, EventData, EventFlags};
use rustix::fd::OwnedFd;
use rustix::io::{Errno, read, write};

use crate::wire::{self, Record};

/// How long a server may stay silent before it counts as stuck.
const PATIENCE: Duration = Duration::from_secs(3);

/// When to stop sending further requests.
#[derive(Clone, Copy)]
pub(super) enum Until {
    /// When this time has passed; what is still in flight then stays in flight.
    Elapsed(Duration),
    /// When this many have been sent, and all of them answered.
    Sent(u64),
}

/// Some kept connections to one server.
pub(super) struct Load<'a> {
    epoll: OwnedFd,
    connections: Vec<Connection>,
    /// The whole request as it is sent each time.
    request: &'a [u8],
    /// The STDOUT stream that every answer must have.
    expected: &'a [u8],
    buffer: Vec<u8>,
}

/// One connection, and the answer on it so far.
struct Connection {
    stream: UnixStream,
    waiting: bool,
    /// An incomplete record; usually empty.
    partial: Vec<u8>,
    /// How much of the expected STDOUT has come.
    seen: usize,
}

impl<'a> Load<'a> {
    /// Opens `connections` to `socket`.
    pub(super) fn connect(
        socket: &Path,
        connections: usize,
        request: &'a [u8],
        expected: &'a [u8],
    ) -> Result<Load<'a>> {
        let epoll = epoll::create(CreateFlags::CLOEXEC)?;
        let open = |index: usize| {
            let stream = UnixStream::connect(socket).context("cannot connect")?;
            stream.set_nonblocking(true)?;
            epoll::add(&epoll, &stream, EventData::new_u64(index as u64), EventFlags::IN)?;
            Ok(Connection { stream, waiting: false, partial: Vec::new(), seen: 0 })
        };
        let connections = (0..connections).map(open).collect::<Result<_>>()?;
        Ok(Load { epoll, connections, request, expected, buffer: vec![0; 1 << 16] })
    }

    /// Keeps every connection busy until the time is up; returns how many answers came.
    pub(super) fn drive(&mut self, until: Until) -> Result<u64> {
        let start = Instant::now();
        let mut sent = 0;
        let mut answered = 0;
        let (limit, deadline) = match until {
            Until::Elapsed(time) => (u64::MAX, Some(start + time)),
            Until::Sent(count) => (count, None),
        };
        for connection in self.connections.iter_mut().filter(|connection| !connection.waiting) {
            if sent < limit {
                connection.send(self.request)?;
                sent += 1;
            }
        }
        let mut events = [MaybeUninit::<Event>::uninit(); 64];
        let patience = Timespec::try_from(PATIENCE)?;
        while deadline.map_or(answered < limit, |deadline| Instant::now() < deadline) {
            let (ready, _) = match epoll::wait(&self.epoll, &mut events, Some(&patience)) {
                Err(Errno::INTR) => continue,
                ready => ready?,
            };
            if ready.is_empty() {
                bail!(
                    "does not finish: {} requests have no answer after {PATIENCE:?}",
                    self.waiting()
                );
            }
            for event in ready {
                let connection = &mut self.connections[event.data.u64() as usize];
                if connection.receive(&mut self.buffer, self.expected)? {
                    answered += 1;
                    if sent < limit {
                        connection.send(self.request)?;
                        sent += 1;
                    }
                }
            }
        }
        Ok(answered)
    }

    /// Waits for the answers that are still out.
    pub(super) fn drain(mut self) -> Result<()> {
        for connection in self.connections.iter_mut().filter(|connection| connection.waiting) {
            connection.stream.set_nonblocking(false)?;
            connection.stream.set_read_timeout(Some(PATIENCE))?;
            while !connection.receive(&mut self.buffer, self.expected)? {
                // Each turn blocks for more bytes, or fails if none come in time.
            }
        }
        Ok(())
    }

    /// How many connections wait for an answer.
    fn waiting(&self) -> usize {
        self.connections.iter().filter(|connection| connection.waiting).count()
    }
}

impl Connection {
    /// Sends a request in one write; the socket is empty, so it takes all of it.
    fn send(&mut self, request: &[u8]) -> Result<()> {
        let n = write(&self.stream, request).context("cannot send")?;
        ensure!(n == request.len(), "the socket took {n} of {} bytes", request.len());
        self.waiting = true;
        self.seen = 0;
        Ok(())
    }

    /// Reads once; true if the answer is complete and correct.
    fn receive(&mut self, buffer: &mut [u8], expected: &[u8]) -> Result<bool> {
        let n = match read(&self.stream, &mut *buffer) {
            Ok(0) => bail!("the server closed a connection"),
            Ok(n) => n,
            Err(Errno::AGAIN) if self.blocks() => {
                bail!("does not finish: no answer after {PATIENCE:?}")
            }
            Err(Errno::AGAIN | Errno::INTR) => return Ok(false),
            Err(error) => return Err(error).context("cannot receive"),
        };
        ensure!(self.waiting, "{n} bytes came that nobody asked for");
        if self.partial.is_empty() {
            let (ended, left) = walk(&buffer[..n], &mut self.seen, expected)?;
            self.partial.extend_from_slice(left);
            self.waiting = !ended;
        } else {
            self.partial.extend_from_slice(&buffer[..n]);
            let (ended, left) = walk(&self.partial, &mut self.seen, expected)?;
            let done = self.partial.len() - left.len();
            self.partial.drain(..done);
            self.waiting = !ended;
        }
        Ok(!self.waiting)
    }

    /// Whether the socket has been set back to blocking, so that AGAIN is its time limit.
    fn blocks(&self) -> bool {
        let flags = rustix::fs::fcntl_getfl(&self.stream);
        flags.is_ok_and(|flags| !flags.contains(rustix::fs::OFlags::NONBLOCK))
    }
}

/// Walks over the complete records of an answer; returns whether it ended, and what is left over.
fn walk<'b>(mut bytes: &'b [u8], seen: &mut usize, expected: &[u8]) -> Result<(bool, &'b [u8])> {
    while let Some(record) = Record::split(bytes) {
        bytes = record.rest;
        ensure!(record.id == wire::ID, "a record for request {}", record.id);
        match record.kind {
            wire::STDOUT => {
                let left = &expected[*seen..];
                ensure!(left.starts_with(record.content), "STDOUT differs from the first answer");
                *seen += record.content.len();
            }
            wire::STDERR => ensure!(record.content.is_empty(), "something on STDERR"),
            wire::END_REQUEST => {
                ensure!(
                    record.content.starts_with(&[0; 5]),
                    "END_REQUEST says {:?}",
                    record.content
                );
                ensure!(
                    *seen == expected.len(),
                    "STDOUT ended after {seen} of {} bytes",
                    expected.len()
                );
                ensure!(bytes.is_empty(), "{} bytes after END_REQUEST", bytes.len());
                return Ok((true, bytes));
            }
            kind => bail!("a record of type {kind}"),
        }
    }
    Ok((false, bytes))
}

/// Sends one request, checks that the answer is the greeting, and returns its STDOUT stream.
pub(super) fn first_answer(socket: &Path, request: &[u8]) -> Result<Vec<u8>> {
    let mut stream = UnixStream::connect(socket).context("cannot connect")?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.write_all(request)?;
    let mut bytes = Vec::new();
    let mut stdout = Vec::new();
    let mut buffer = [0; 4096];
    loop {
        let mut rest = &bytes[..];
        while let Some(record) = Record::split(rest) {
            rest = record.rest;
            match record.kind {
                wire::STDOUT => stdout.extend_from_slice(record.content),
                wire::END_REQUEST => {
                    check_greeting(&stdout)?;
                    return Ok(stdout);
                }
                _ => {}
            }
        }
        bytes = rest.to_vec();
        match stream.read(&mut buffer).context("no answer to the first request")? {
            0 => bail!("the server closed the connection before it answered"),
            n => bytes.extend_from_slice(&buffer[..n]),
        }
    }
}

/// Every server says the same, but some add a Status line, and line ends differ.
fn check_greeting(stdout: &[u8]) -> Result<()> {
    let text = String::from_utf8_lossy(stdout).replace("\r\n", "\n");
    let (head, body) = text.split_once("\n\n").context("the answer has no head")?;
    let typed =
        head.lines().any(|line| line.to_ascii_lowercase().starts_with("content-type: text/plain"));
    ensure!(typed && body == "Hello, world\n", "the answer is {text:?}");
    Ok(())
}
