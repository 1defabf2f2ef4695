//! Connections from their packets: in order, without what was sent twice.

use std::{
    collections::{HashMap, hash_map::Entry},
    net::SocketAddr,
    rc::Rc,
};

use super::{capture::Segment, way};
use crate::{
    tap::{
        exchange::{Outcome, Time},
        watch::{Clock, End, Outputs, Watch},
    },
    trace::Direction,
};

/// Bytes that may wait for what comes before them; then that counts as missing.
const WAITING: usize = 1 << 20;

/// All connections of a recording.
pub(super) struct Connections {
    outputs: Rc<Outputs>,
    clock: Clock,
    count: u64,
    open: HashMap<[SocketAddr; 2], Connection>,
    /// Connections that hold no FastCGI.
    pub(super) foreign: u64,
    /// Times where bytes are missing.
    pub(super) gaps: u64,
}

struct Connection {
    /// Who opened it: the web server.
    client: SocketAddr,
    state: State,
    /// By direction.
    streams: [Stream; 2],
}

enum State {
    /// Nothing has been sent.
    Silent,
    Watched(Box<Watch>),
    Foreign,
}

#[derive(Default)]
struct Stream {
    /// The number of the next byte.
    next: Option<u32>,
    waiting: HashMap<u32, Vec<u8>>,
    waiting_bytes: usize,
    fin: Option<u32>,
}

impl Connections {
    pub(super) fn new(outputs: Rc<Outputs>) -> Self {
        let open = HashMap::new();
        Self { outputs, clock: Clock::start(), count: 0, open, foreign: 0, gaps: 0 }
    }

    pub(super) fn segment(&mut self, segment: &Segment<'_>, time: Time) {
        let mut key = [segment.from, segment.to];
        key.sort_unstable();
        if segment.syn && !segment.ack {
            // The ports are used again.
            if let Some(old) = self.open.remove(&key) {
                self.gaps += old.end(time);
            }
        }
        let connection = match self.open.entry(key) {
            Entry::Occupied(entry) => entry.into_mut(),
            Entry::Vacant(entry) => {
                // Where its beginning was not recorded, the first record says who is who.
                let from_client = match way(segment.payload) {
                    _ if segment.syn => !segment.ack,
                    Some(direction) => direction == Direction::ToApplication,
                    None if segment.payload.is_empty() => return,
                    None => true,
                };
                let client = if from_client { segment.from } else { segment.to };
                let (state, streams) = (State::Silent, Default::default());
                entry.insert(Connection { client, state, streams })
            }
        };
        let direction = if segment.from == connection.client {
            Direction::ToApplication
        } else {
            Direction::ToWebServer
        };
        let stream = &mut connection.streams[direction as usize];
        if segment.syn {
            stream.next = Some(segment.sequence.wrapping_add(1));
            return;
        }
        if matches!(connection.state, State::Silent) && !segment.payload.is_empty() {
            connection.state = if way(segment.payload).is_some() {
                self.count += 1;
                let outputs = Rc::clone(&self.outputs);
                State::Watched(Box::new(Watch::new(self.count, self.clock, outputs, None)))
            } else {
                self.foreign += 1;
                State::Foreign
            };
        }
        let State::Watched(watch) = &mut connection.state else { return };
        stream.take(segment);
        self.gaps += stream.drain(watch, direction, time, WAITING);
        if segment.rst {
            watch.end_at(direction, End::Reset, time);
        }
    }

    /// Connections that hold FastCGI.
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

    /// Says how often bytes were missing.
    fn end(mut self, time: Time) -> u64 {
        let State::Watched(watch) = &mut self.state else { return 0 };
        let mut gaps = 0;
        for direction in [Direction::ToApplication, Direction::ToWebServer] {
            gaps += self.streams[direction as usize].drain(watch, direction, time, 0);
        }
        watch.cut(Outcome::Open, time);
        gaps
    }
}

impl Stream {
    fn take(&mut self, segment: &Segment<'_>) {
        if segment.fin {
            self.fin = Some(segment.sequence.wrapping_add(segment.payload.len() as u32));
        }
        if segment.payload.is_empty() {
            return;
        }
        let next = *self.next.get_or_insert(segment.sequence);
        let offset = segment.sequence.wrapping_sub(next) as i32;
        // What came before is not taken twice.
        let known = usize::try_from(-i64::from(offset)).unwrap_or(0);
        let Some(bytes) = segment.payload.get(known..).filter(|bytes| !bytes.is_empty()) else {
            return;
        };
        let at = segment.sequence.wrapping_add(known as u32);
        if let Entry::Vacant(entry) = self.waiting.entry(at) {
            self.waiting_bytes += bytes.len();
            entry.insert(bytes.to_vec());
        }
    }

    /// Hands on what is in order. When more than `limit` bytes wait, those before them are missing;
    /// says how often.
    fn drain(&mut self, watch: &mut Watch, direction: Direction, time: Time, limit: usize) -> u64 {
        let mut gaps = 0;
        while let Some(next) = self.next {
            let offset = |at: &u32| at.wrapping_sub(next) as i32;
            let Some(at) = self.waiting.keys().min_by_key(|at| offset(at)).copied() else { break };
            if offset(&at) > 0 {
                if self.waiting_bytes <= limit {
                    break;
                }
                watch.gap(direction);
                gaps += 1;
                self.next = Some(at);
                continue;
            }
            let Some(bytes) = self.waiting.remove(&at) else { break };
            self.waiting_bytes -= bytes.len();
            let known = usize::try_from(-i64::from(offset(&at))).unwrap_or(0);
            if let Some(bytes) = bytes.get(known..) {
                self.next = Some(next.wrapping_add(bytes.len() as u32));
                watch.bytes_at(direction, bytes, time);
            }
        }
        if self.fin.is_some() && self.fin == self.next {
            watch.end_at(direction, End::Closed, time);
        }
        gaps
    }
}
