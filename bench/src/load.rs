//! The load generator: one thread, one epoll, and as many requests in flight as the shape says.

mod answer;
mod first;

use std::io;
use std::mem::MaybeUninit;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use hdrhistogram::Histogram;
use rustix::event::Timespec;
use rustix::event::epoll::{self, CreateFlags, Event, EventData, EventFlags};
use rustix::fd::OwnedFd;
use rustix::io::{Errno, read, write};

pub(crate) use self::answer::{Answers, Slot};
pub(crate) use self::first::{first_fastcgi, first_http};

/// How long a server may stay silent before it counts as stuck.
pub(crate) const PATIENCE: Duration = Duration::from_secs(3);

/// When to stop sending more requests.
#[derive(Clone, Copy)]
pub(crate) enum Until {
    /// After this time. Requests that are in flight then stay in flight.
    Elapsed(Duration),
    /// After this many requests were sent, and all of them answered.
    Sent(u64),
}

/// How requests share connections.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Shape {
    /// This many kept connections, each with one request in flight.
    Kept(usize),
    /// A connection for each request, this many at once.
    Apart(usize),
    /// This many kept connections, each with this many requests in flight.
    Shared(usize, usize),
}

/// The requests to send, and how to check every answer.
#[derive(Clone)]
pub(crate) struct Talk {
    /// The bytes of the request, for each place on a connection.
    pub(crate) requests: Vec<Vec<u8>>,
    /// How to find the end of an answer, and to check it.
    pub(crate) answers: Answers,
}

/// The connections to one server.
pub(crate) struct Load<'a> {
    epoll: OwnedFd,
    socket: PathBuf,
    connections: Vec<Connection>,
    talk: &'a Talk,
    /// Whether each answer ends its connection, and the next request opens another.
    apart: bool,
    buffer: Vec<u8>,
    ended: Vec<usize>,
    out: Vec<u8>,
    /// How long answers took, in nanoseconds.
    latencies: Histogram<u64>,
}

/// A connection, and what was received on it.
struct Connection {
    stream: UnixStream,
    slots: Vec<Slot>,
    /// The beginning of an answer whose rest has not arrived; usually empty.
    partial: Vec<u8>,
}

impl<'a> Load<'a> {
    /// Opens the connections to `socket`.
    pub(crate) fn connect(socket: &Path, shape: Shape, talk: &'a Talk) -> Result<Load<'a>> {
        let epoll = epoll::create(CreateFlags::CLOEXEC)?;
        let (connections, each, apart) = match shape {
            Shape::Kept(n) => (n, 1, false),
            Shape::Apart(n) => (n, 1, true),
            Shape::Shared(n, each) => (n, each, false),
        };
        ensure!(talk.requests.len() >= each, "there are too few requests");
        let connections = (0..connections)
            .map(|index| Connection::open(&epoll, socket, index, each))
            .collect::<Result<_>>()?;
        Ok(Load {
            epoll,
            socket: socket.to_owned(),
            connections,
            talk,
            apart,
            buffer: vec![0; 1 << 16],
            ended: Vec::new(),
            out: Vec::new(),
            latencies: Histogram::new_with_bounds(1, 60_000_000_000, 3)?,
        })
    }

    /// Keeps every place busy until the time is up. Returns how many answers arrived.
    pub(crate) fn drive(&mut self, until: Until) -> Result<u64> {
        self.latencies.reset();
        let start = Instant::now();
        let (mut sent, mut answered) = (0, 0);
        let (limit, deadline) = match until {
            Until::Elapsed(time) => (u64::MAX, Some(start + time)),
            Until::Sent(count) => (count, None),
        };
        for index in 0..self.connections.len() {
            let idle = self.connections[index].slots.iter().enumerate();
            self.ended = idle.filter(|(_, slot)| !slot.waiting).map(|(i, _)| i).collect();
            sent += self.send(index, limit - sent)?;
        }
        while deadline.map_or(answered < limit, |deadline| Instant::now() < deadline) {
            let (came, out) = self.turn(limit - sent)?;
            answered += came;
            sent += out;
        }
        Ok(answered)
    }

    /// 99 of 100 answers of the last [`drive`](Self::drive) arrived within this time, in
    /// microseconds.
    pub(crate) fn p99(&self) -> Option<f64> {
        (!self.latencies.is_empty()).then(|| self.latencies.value_at_quantile(0.99) as f64 / 1e3)
    }

    /// Waits for the missing answers.
    pub(crate) fn drain(mut self) -> Result<()> {
        while self.waiting() > 0 {
            self.turn(0)?;
        }
        Ok(())
    }

    /// Waits once and reads what has arrived. Sends at most `more` requests in the places of those
    /// that were answered. Returns both numbers.
    fn turn(&mut self, more: u64) -> Result<(u64, u64)> {
        let mut events = [MaybeUninit::<Event>::uninit(); 64];
        let patience = Timespec::try_from(PATIENCE)?;
        let (ready, _) = match epoll::wait(&self.epoll, &mut events, Some(&patience)) {
            Err(Errno::INTR) => return Ok((0, 0)),
            ready => ready?,
        };
        if ready.is_empty() {
            let waiting = self.waiting();
            bail!("does not finish: {waiting} requests have no answer after {PATIENCE:?}");
        }
        let (mut came, mut sent) = (0, 0);
        for event in ready {
            let index = event.data.u64() as usize;
            self.ended.clear();
            let connection = &mut self.connections[index];
            connection.receive(&mut self.buffer, &self.talk.answers, &mut self.ended)?;
            if self.ended.is_empty() {
                continue;
            }
            came += self.ended.len() as u64;
            let now = Instant::now();
            for &slot in &self.ended {
                let took = now.duration_since(connection.slots[slot].since);
                self.latencies.saturating_record(took.as_nanos() as u64);
            }
            if self.apart {
                // Do this before opening the new one, which may get the same descriptor.
                epoll::delete(&self.epoll, &connection.stream)?;
                *connection = Connection::open(&self.epoll, &self.socket, index, 1)?;
            }
            sent += self.send(index, more - sent)?;
        }
        Ok((came, sent))
    }

    /// Sends a request in each of the ended places, at most `most`, in one write.
    fn send(&mut self, index: usize, most: u64) -> Result<u64> {
        let n = self.ended.len().min(usize::try_from(most).unwrap_or(usize::MAX));
        if n == 0 {
            return Ok(0);
        }
        let connection = &mut self.connections[index];
        let now = Instant::now();
        self.out.clear();
        for &slot in &self.ended[..n] {
            connection.slots[slot] = Slot { waiting: true, seen: 0, since: now };
            if n > 1 {
                self.out.extend_from_slice(&self.talk.requests[slot]);
            }
        }
        let bytes = if n > 1 { &self.out } else { &self.talk.requests[self.ended[0]] };
        let taken = write(&connection.stream, bytes).context("cannot send")?;
        ensure!(taken == bytes.len(), "the socket took {taken} of {} bytes", bytes.len());
        Ok(n as u64)
    }

    /// How many requests wait for an answer.
    fn waiting(&self) -> usize {
        let slots = self.connections.iter().flat_map(|connection| &connection.slots);
        slots.filter(|slot| slot.waiting).count()
    }
}

impl Connection {
    fn open(epoll: &OwnedFd, socket: &Path, index: usize, each: usize) -> Result<Connection> {
        let stream = connect(socket).context("cannot connect")?;
        stream.set_nonblocking(true)?;
        epoll::add(epoll, &stream, EventData::new_u64(index as u64), EventFlags::IN)?;
        Ok(Connection { stream, slots: vec![Slot::idle(); each], partial: Vec::new() })
    }

    /// Reads once, and adds the places whose answers are complete and right to `ended`.
    fn receive(
        &mut self,
        buffer: &mut [u8],
        answers: &Answers,
        ended: &mut Vec<usize>,
    ) -> Result<()> {
        let n = match read(&self.stream, &mut *buffer) {
            Ok(0) => bail!("the server closed a connection"),
            Ok(n) => n,
            Err(Errno::AGAIN | Errno::INTR) => return Ok(()),
            Err(error) => return Err(error).context("cannot receive"),
        };
        if self.partial.is_empty() {
            let left = answers.walk(&buffer[..n], &mut self.slots, ended)?;
            self.partial.extend_from_slice(left);
        } else {
            self.partial.extend_from_slice(&buffer[..n]);
            let left = answers.walk(&self.partial, &mut self.slots, ended)?;
            let done = self.partial.len() - left.len();
            self.partial.drain(..done);
        }
        Ok(())
    }
}

/// Connects. If the server's queue is full, it waits.
fn connect(socket: &Path) -> io::Result<UnixStream> {
    let start = Instant::now();
    loop {
        match UnixStream::connect(socket) {
            Err(error)
                if error.kind() == io::ErrorKind::WouldBlock && start.elapsed() < PATIENCE => {}
            connected => return connected,
        }
    }
}
