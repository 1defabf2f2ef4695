//! Runs a conversation with two different cuts, at either end. The events depend only on the bytes,
//! so all that is received and sent must be the same. One of the cuts is at the records, where a
//! model knows what each byte is.

use std::{collections::BTreeMap, fmt::Debug, task::Poll};

use arbitrary::{Result, Unstructured};
use bytes::Bytes;
use fcgi_proto::{Connection, ProtocolError, RequestKey};

use crate::{
    checked::Checked,
    input::{Cuts, MOST_STEPS},
    model::Model,
    wire::{self, Side},
};

/// What to do with each request, by its number. Nothing in it depends on time.
pub struct Plan {
    actions: Vec<u8>,
    /// The most bytes that one read takes.
    pub read_size: usize,
}

impl Plan {
    /// Draws one for a conversation of `len` bytes.
    pub fn new(u: &mut Unstructured<'_>, len: usize) -> Result<Self> {
        let actions =
            (0..u.int_in_range(1..=4u8)?).map(|_| u.arbitrary()).collect::<Result<_>>()?;
        let read_size = (*u.choose(&[usize::MAX, usize::MAX, 1, 100])?).max(len / MOST_STEPS);
        Ok(Self { actions, read_size })
    }

    /// What is done with a request.
    pub fn action(&self, number: usize) -> u8 {
        self.actions[number % self.actions.len()]
    }
}

/// All that is seen, and all that was sent, however it was cut. `E` is what only one end sees.
#[derive(PartialEq, Debug)]
pub struct Log<E> {
    /// In order.
    pub seen: Vec<Seen<E>>,
    /// How the connection failed.
    pub error: Option<ProtocolError>,
    /// Each record: its type, id and content.
    pub sent: Vec<(u8, u16, Vec<u8>)>,
    /// At the end.
    pub closed: bool,
    /// Before the end.
    pub reusable: bool,
    /// A client's, before the end.
    pub can_begin: bool,
}

/// One thing that is seen.
#[derive(PartialEq, Debug)]
pub enum Seen<E> {
    /// A stretch of one of a request's two streams.
    Data(usize, usize, Vec<u8>),
    /// Its end.
    End(usize, usize),
    /// Something else.
    Event(E),
}

/// A request that has not ended.
pub struct Live {
    /// How many there were before.
    pub number: usize,
    /// What is done with it.
    pub action: u8,
    /// Its streams have been read to their ends.
    pub ended: [bool; 2],
    /// It was aborted.
    pub aborted: bool,
    /// Its END_REQUEST came.
    pub finished: bool,
}

impl Live {
    /// One that has just begun.
    pub fn new(number: usize, action: u8) -> Self {
        Self { number, action, ended: [false; 2], aborted: false, finished: false }
    }
}

/// What an [`App`] knows of its connection.
pub struct Known<E> {
    /// The requests.
    pub live: BTreeMap<RequestKey, Live>,
    /// How many there were.
    pub count: usize,
    /// What was seen.
    pub log: Log<E>,
    /// What should be, where the cuts are those of the records.
    pub model: Option<Model>,
}

impl<E> Known<E> {
    /// Nothing yet.
    pub fn new(model: Option<Model>) -> Self {
        let log = Log {
            seen: Vec::new(),
            error: None,
            sent: Vec::new(),
            closed: false,
            reusable: false,
            can_begin: false,
        };
        Self { live: BTreeMap::new(), count: 0, log, model }
    }

    /// Something that only this end sees.
    pub fn see(&mut self, event: E) {
        self.log.seen.push(Seen::Event(event));
    }

    /// The answer to a read of at most `max` bytes: its bytes, if there may be more.
    pub fn read(
        &mut self,
        key: RequestKey,
        stream: usize,
        max: usize,
        read: Poll<Option<Bytes>>,
    ) -> Option<Bytes> {
        let live = self.live.get_mut(&key).expect("live");
        match read {
            Poll::Ready(Some(bytes)) => {
                assert!(!bytes.is_empty() && bytes.len() <= max);
                assert!(!live.ended[stream], "data after the end");
                if let Some(model) = &mut self.model {
                    model.check_read(key.id(), stream, &bytes);
                }
                match self.log.seen.last_mut() {
                    Some(Seen::Data(n, s, all)) if (*n, *s) == (live.number, stream) => {
                        all.extend_from_slice(&bytes);
                    }
                    _ => self.log.seen.push(Seen::Data(live.number, stream, bytes.to_vec())),
                }
                Some(bytes)
            }
            Poll::Ready(None) => {
                if !std::mem::replace(&mut live.ended[stream], true) {
                    self.log.seen.push(Seen::End(live.number, stream));
                }
                None
            }
            Poll::Pending => {
                assert!(!live.ended[stream] && !live.finished, "an ended stream is pending");
                None
            }
        }
    }
}

/// Whoever uses a connection.
pub trait App {
    /// Its end.
    type Conn: Connection;
    /// What only this end sees.
    type Seen;

    /// What it knows.
    fn known(&mut self) -> &mut Known<Self::Seen>;

    /// Acts on an event.
    fn event(&mut self, conn: &mut Checked<Self::Conn>, event: <Self::Conn as Connection>::Event);

    /// The connection has failed.
    fn failed(&mut self, conn: &mut Checked<Self::Conn>);
}

/// Handles all events and sends all there is, until nothing happens.
pub fn pump<A: App>(app: &mut A, conn: &mut Checked<A::Conn>) {
    loop {
        match conn.poll() {
            Ok(Some(event)) => app.event(conn, event),
            Ok(None) => {
                if conn.transmit(usize::MAX).is_empty() {
                    return;
                }
            }
            Err(error) => {
                let known = &mut app.known().log.error;
                assert!(known.is_none_or(|before| before == error));
                *known = Some(error);
                app.failed(conn);
                conn.transmit(usize::MAX);
                return;
            }
        }
    }
}

/// Gives a connection all of a conversation, by its records without `cuts`.
pub fn converse<A: App>(
    app: &mut A,
    conn: &mut Checked<A::Conn>,
    wire: &[u8],
    mut cuts: Option<&mut Cuts>,
) {
    let pieces = wire::pieces(wire);
    let mut pieces = pieces.iter().peekable();
    let mut at = 0;
    loop {
        pump(app, conn);
        if at == wire.len() || conn.is_over() {
            break;
        }
        let end = match &mut cuts {
            Some(cuts) => (at + cuts.size()).min(wire.len()),
            None => pieces.peek().map_or(wire.len(), |piece| piece.end),
        };
        let n = conn.feed(&wire[at..end]);
        assert!(n > 0, "paused for ever");
        at += n;
        if let (Some(model), Some(piece)) = (&mut app.known().model, pieces.peek()) {
            model.take(piece, &wire[at - n..at], at == end);
            if at == end {
                pieces.next();
            }
        }
    }
    let known = app.known();
    if let (Some(model), None, false) = (&known.model, known.log.error, conn.is_over()) {
        for (key, live) in known.live.iter().filter(|(_, live)| !live.aborted) {
            model.check_all_read(key.id(), live.ended);
        }
    }
    known.log.reusable = conn.get().is_reusable();
}

/// Runs a conversation by its records and by `cuts`, with a model of what `sender` sends where it
/// goes by its records.
pub fn run<E: PartialEq + Debug>(
    sender: Side,
    cuts: &mut Cuts,
    mut whole: impl FnMut(Option<&mut Cuts>, Known<E>) -> Log<E>,
) {
    let by_record = whole(None, Known::new(Some(Model::new(sender))));
    let by_cuts = whole(Some(cuts), Known::new(None));
    for (a, b) in by_record.seen.iter().zip(&by_cuts.seen) {
        assert_eq!(a, b, "the cut matters");
    }
    assert_eq!(by_record, by_cuts, "the cut matters");
}
