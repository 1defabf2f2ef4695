//! Reassembles connections from packets: in order, without retransmitted bytes.

use std::{
    collections::{BTreeMap, HashMap, VecDeque, hash_map::Entry},
    net::SocketAddr,
    rc::Rc,
};

use super::capture::Segment;
use crate::{
    tap::{
        exchange::{Outcome, Time},
        watch::{Clock, End, Outputs, Watch},
    },
    trace::Direction,
};

/// How many bytes may wait for missing ones before them, including the cost of keeping them. Past
/// this, the missing bytes count as lost.
const WAITING: usize = 4 << 20;
/// The cost of each piece in addition to its bytes.
const PIECE: usize = 64;
/// How many ended connections are remembered for a while, so that late or repeated packets are
/// assigned to them.
const ENDED: usize = 1024;

/// All connections of a recording.
pub(super) struct Connections {
    outputs: Rc<Outputs>,
    clock: Clock,
    count: u64,
    open: HashMap<Key, Connection>,
    /// Connections that both ends have closed.
    ended: VecDeque<Key>,
    /// Connections that carry no FastCGI.
    pub(super) foreign: u64,
    /// How often bytes are missing.
    pub(super) gaps: u64,
}

type Key = [SocketAddr; 2];

struct Connection {
    /// The address of the web server, which opened it.
    client: SocketAddr,
    state: State,
    /// By direction.
    streams: [Stream; 2],
    /// By direction: no more comes, except late packets.
    ended: [bool; 2],
}

enum State {
    /// Nothing has been sent.
    Silent,
    Watched(Box<Watch>),
    Foreign,
    /// All of it was seen.
    Done,
}

#[derive(Default)]
struct Stream {
    /// The position of the next byte: its sequence number, without wrapping at 2^32.
    next: Option<u64>,
    waiting: BTreeMap<u64, Vec<u8>>,
    /// Their cost.
    waiting_bytes: usize,
    fin: Option<u64>,
}

impl Connections {
    pub(super) fn new(outputs: Rc<Outputs>) -> Self {
        let (open, ended) = (HashMap::new(), VecDeque::new());
        Self { outputs, clock: Clock::start(), count: 0, open, ended, foreign: 0, gaps: 0 }
    }

    pub(super) fn segment(&mut self, segment: &Segment<'_>, time: Time) {
        let mut key = [segment.from, segment.to];
        key.sort_unstable();
        if segment.syn && !segment.ack {
            // The ports are being reused.
            if let Some(old) = self.open.remove(&key) {
                self.gaps += old.end(time);
            }
        }
        let connection = match self.open.entry(key) {
            Entry::Occupied(entry) => entry.into_mut(),
            Entry::Vacant(entry) => {
                // If its start was not recorded, the first record shows which end is which.
                let from_client = match Direction::of_first(segment.payload) {
                    _ if segment.syn => !segment.ack,
                    Some(direction) => direction == Direction::ToApplication,
                    None if segment.payload.is_empty() => return,
                    None => true,
                };
                let client = if from_client { segment.from } else { segment.to };
                let (state, streams) = (State::Silent, Default::default());
                entry.insert(Connection { client, state, streams, ended: [false; 2] })
            }
        };
        let direction = if segment.from == connection.client {
            Direction::ToApplication
        } else {
            Direction::ToWebServer
        };
        let stream = &mut connection.streams[direction as usize];
        if segment.syn {
            stream.place(segment.sequence.wrapping_add(1));
            return;
        }
        if matches!(connection.state, State::Silent) && !segment.payload.is_empty() {
            connection.state = if Direction::of_first(segment.payload).is_some() {
                self.count += 1;
                let outputs = Rc::clone(&self.outputs);
                State::Watched(Box::new(Watch::new(self.count, self.clock, outputs, None)))
            } else {
                self.foreign += 1;
                State::Foreign
            };
        }
        if let State::Watched(watch) = &mut connection.state {
            stream.take(segment);
            self.gaps += stream.drain(watch, direction, time, WAITING);
            if segment.rst {
                self.gaps += connection.drain(time);
            }
        }
        let was_over = connection.is_over();
        connection.ended[direction as usize] |= segment.fin;
        if segment.rst {
            connection.reset(direction, time);
        }
        connection.close(time);
        if connection.is_over() && !was_over {
            self.ended.push_back(key);
            self.forget(time);
        }
    }

    /// Keeps only a limited number of ended connections.
    fn forget(&mut self, time: Time) {
        while self.ended.len() > ENDED {
            let Some(key) = self.ended.pop_front() else { return };
            // The ports may have been reused.
            if self.open.get(&key).is_some_and(Connection::is_over) {
                if let Some(old) = self.open.remove(&key) {
                    self.gaps += old.end(time);
                }
            }
        }
    }

    /// The number of connections that carry FastCGI.
    pub(super) const fn count(&self) -> u64 {
        self.count
    }

    /// The recording is over.
    pub(super) fn finish(&mut self, time: Time) {
        let mut open: Vec<Connection> =
            self.open.drain().map(|(_, connection)| connection).collect();
        open.sort_unstable_by_key(Connection::number);
        for connection in open {
            self.gaps += connection.end(time);
        }
    }
}

impl Connection {
    fn number(&self) -> u64 {
        match &self.state {
            State::Watched(watch) => watch.connection(),
            _ => 0,
        }
    }

    fn is_over(&self) -> bool {
        self.ended == [true; 2]
    }

    /// Passes on everything that waits; returns how often bytes were missing.
    fn drain(&mut self, time: Time) -> u64 {
        let State::Watched(watch) = &mut self.state else { return 0 };
        let mut gaps = 0;
        for direction in [Direction::ToApplication, Direction::ToWebServer] {
            gaps += self.streams[direction as usize].drain(watch, direction, time, 0);
        }
        gaps
    }

    /// One end has reset the connection.
    fn reset(&mut self, direction: Direction, time: Time) {
        self.ended = [true; 2];
        if let State::Watched(watch) = &mut self.state {
            watch.end_at(direction, End::Reset, time);
            watch.close_at(time);
        }
    }

    /// Once it is over and complete, keeps only its name.
    fn close(&mut self, time: Time) {
        if !self.is_over() {
            return;
        }
        if let State::Watched(watch) = &mut self.state {
            if !watch.has_ended() {
                return;
            }
            watch.close_at(time);
        }
        self.state = State::Done;
        self.streams = Default::default();
    }

    /// Returns how often bytes were missing.
    fn end(mut self, time: Time) -> u64 {
        let gaps = self.drain(time);
        if let State::Watched(watch) = &mut self.state {
            watch.cut(Outcome::Open, time);
        }
        gaps
    }
}

impl Stream {
    /// The position of the byte with this number. The first one asked for is the next one.
    fn place(&mut self, number: u32) -> u64 {
        // Leaves room for positions before this one.
        let next = *self.next.get_or_insert(u64::from(number) + (1 << 32));
        let offset = number.wrapping_sub(next as u32) as i32;
        next.saturating_add_signed(offset.into())
    }

    fn take(&mut self, segment: &Segment<'_>) {
        let is_end = segment.fin && self.next.is_some();
        if segment.payload.is_empty() && !is_end {
            return;
        }
        let at = self.place(segment.sequence);
        let end = at + segment.payload.len() as u64;
        if segment.fin {
            self.fin = Some(end);
        }
        // Bytes that came before are not taken twice.
        let first = at.max(self.next.unwrap_or(at));
        let known = usize::try_from(first - at).unwrap_or(usize::MAX);
        let Some(bytes) = segment.payload.get(known..).filter(|bytes| !bytes.is_empty()) else {
            return;
        };
        let is_longer = |old: &Vec<u8>| bytes.len() > old.len();
        if self.waiting.get(&first).is_none_or(is_longer) {
            self.waiting_bytes += bytes.len() + PIECE;
            let old = self.waiting.insert(first, bytes.to_vec());
            self.waiting_bytes -= old.map_or(0, |old| old.len() + PIECE);
        }
    }

    /// Passes on what is in order. If the waiting bytes cost more than `limit`, the bytes before
    /// them are missing; returns how often.
    fn drain(&mut self, watch: &mut Watch, direction: Direction, time: Time, limit: usize) -> u64 {
        let mut gaps = 0;
        while let (Some(next), Some(first)) = (self.next, self.waiting.first_entry()) {
            let at = *first.key();
            if at > next {
                if self.waiting_bytes <= limit {
                    break;
                }
                watch.gap(direction);
                gaps += 1;
                self.next = Some(at);
                continue;
            }
            let bytes = first.remove();
            self.waiting_bytes -= bytes.len() + PIECE;
            let known = usize::try_from(next - at).unwrap_or(usize::MAX);
            if let Some(bytes) = bytes.get(known..).filter(|bytes| !bytes.is_empty()) {
                self.next = Some(next + bytes.len() as u64);
                watch.bytes_at(direction, bytes, time);
            }
        }
        if self.fin.is_some() && self.fin == self.next {
            watch.end_at(direction, End::Closed, time);
        }
        gaps
    }
}
