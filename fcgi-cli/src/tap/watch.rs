//! Finds records and requests in the bytes of one connection.

use std::{
    cell::Cell,
    collections::HashMap,
    mem,
    rc::Rc,
    time::{Instant, SystemTime, UNIX_EPOCH},
};

use fcgi_tokio::proto::record::{
    BODY_LEN, BeginRequestBody, EndRequestBody, Framer, Piece, RecordHeader, RecordType,
};

use serde_json::{Value, json};

use super::{
    exchange::{Exchange, Outcome, Time},
    mask,
    packets::Packets,
    page::Feed,
    report::Report,
};
use crate::{
    report::milliseconds,
    trace::{self, Direction},
};

/// How many concurrent requests of one connection are distinguished. Further ones are relayed, and
/// nothing more.
const REQUESTS: usize = 4096;
/// How much of a record's content is kept until the record ends.
const CONTENT: usize = 16 * 1024;

/// How a direction of a connection ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum End {
    Closed,
    Reset,
}

/// A clock that does not jump while the command runs.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Clock {
    started: Time,
    since: Instant,
}

impl Clock {
    pub(crate) fn start() -> Self {
        let started = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Self { started, since: Instant::now() }
    }

    pub(crate) fn now(&self) -> Time {
        self.started + self.since.elapsed()
    }
}

/// Takes the packets of a recording; true if there was room.
pub(crate) type Recording = Box<dyn Fn(Time, Vec<u8>) -> bool>;

/// Where the findings go.
pub(crate) struct Outputs {
    pub(crate) report: Report,
    pub(crate) show_secrets: bool,
    pub(crate) record: Option<Recording>,
    pub(crate) page: Option<Feed>,
    pub(crate) complain: Box<dyn Fn(&str)>,
    pub(crate) requests: Cell<u64>,
    /// A buffer for all connections. It holds the copy of new bytes while they are examined.
    pub(crate) copy: Cell<Vec<u8>>,
}

/// One connection.
pub(crate) struct Watch {
    connection: u64,
    clock: Clock,
    outputs: Rc<Outputs>,
    halves: [Half; 2],
    requests: HashMap<u16, Exchange>,
    packets: Option<Packets>,
    /// There were too many concurrent requests, and that was reported.
    overrun: bool,
}

/// One direction.
#[derive(Default)]
struct Half {
    framer: Framer,
    header: Option<RecordHeader>,
    /// The content of the current record, as far as it is kept.
    content: Vec<u8>,
    /// How much padding is still to come.
    padding: usize,
    /// Part of the next header has come.
    begun: bool,
    /// From here on the bytes are not FastCGI.
    foreign: bool,
    ended: bool,
    /// Where records start in the new bytes.
    starts: Vec<usize>,
}

impl Watch {
    pub(crate) fn new(
        connection: u64,
        clock: Clock,
        outputs: Rc<Outputs>,
        packets: Option<Packets>,
    ) -> Self {
        let mut watch = Self {
            connection,
            clock,
            outputs,
            halves: Default::default(),
            requests: HashMap::new(),
            packets,
            overrun: false,
        };
        let now = watch.clock.now();
        watch.record(|packets, take| packets.open(now, take));
        watch
    }

    pub(crate) const fn connection(&self) -> u64 {
        self.connection
    }

    /// Passes packets to the recording, if there is one.
    fn record(&mut self, hand: impl FnOnce(&mut Packets, &mut super::packets::Take<'_>)) {
        if let (Some(packets), Some(record)) = (&mut self.packets, &self.outputs.record) {
            hand(packets, &mut |time, packet| record(time, packet));
        }
    }

    /// Bytes that pass now.
    pub(crate) fn bytes(&mut self, direction: Direction, bytes: &[u8]) {
        self.bytes_at(direction, bytes, self.clock.now());
    }

    /// Bytes that passed at this time.
    pub(crate) fn bytes_at(&mut self, direction: Direction, bytes: &[u8], time: Time) {
        let mut half = mem::take(&mut self.halves[direction as usize]);
        // Secrets are masked in this copy.
        let mut copy = self.outputs.copy.take();
        copy.clear();
        copy.extend_from_slice(bytes);
        half.starts.clear();
        let mut at = 0;
        while !half.foreign {
            let (used, piece) = match half.framer.next(&bytes[at..], usize::MAX) {
                Ok(next) => next,
                Err(error) => {
                    half.foreign = true;
                    let way = match direction {
                        Direction::ToApplication => "web server",
                        Direction::ToWebServer => "application",
                    };
                    (self.outputs.complain)(&format!(
                        "connection {}: what the {way} sends is no FastCGI from here on: {error}; \
                         it is carried all the same",
                        self.connection
                    ));
                    break;
                }
            };
            let padding = half.padding.min(used);
            half.padding -= padding;
            if !self.outputs.show_secrets {
                // Padding may hold what was in its sender's memory (FC-3.3-2).
                copy[at..at + padding].fill(0);
            }
            match piece {
                Some(Piece::Header(header)) => {
                    if !mem::take(&mut half.begun) {
                        half.starts.push(at + padding);
                    }
                    half.header = Some(header);
                    half.content.clear();
                }
                Some(Piece::Content(_)) => {
                    if let Some(header) = half.header {
                        let content = &mut copy[at..at + used];
                        self.content(direction, header, content, time);
                        let room = CONTENT.saturating_sub(half.content.len());
                        half.content.extend_from_slice(&content[..content.len().min(room)]);
                    }
                }
                Some(Piece::End) => {
                    if let Some(header) = half.header.take() {
                        half.padding = header.padding_length.into();
                        self.whole(direction, header, &half.content, time);
                    }
                }
                None => {
                    if used > padding && !half.begun {
                        half.begun = true;
                        half.starts.push(at + padding);
                    }
                    break;
                }
            }
            at += used;
        }
        if half.foreign && !self.outputs.show_secrets {
            mask::overwrite(&mut copy[at..]);
        }
        self.packets_of(direction, &half.starts, &copy, time);
        self.outputs.copy.set(copy);
        if half.header.is_none() {
            half.content = Vec::new();
        }
        self.halves[direction as usize] = half;
    }

    /// Cuts the new bytes into packets where records start.
    fn packets_of(&mut self, direction: Direction, starts: &[usize], copy: &[u8], time: Time) {
        self.record(|packets, take| {
            let mut at = 0;
            let mut is_start = false;
            for end in starts.iter().copied().chain([copy.len()]) {
                if end > at {
                    packets.data(direction, &copy[at..end], is_start, time, take);
                }
                is_start = true;
                at = end;
            }
        });
    }

    /// A piece of a record's content.
    fn content(
        &mut self,
        direction: Direction,
        header: RecordHeader,
        bytes: &mut [u8],
        time: Time,
    ) {
        let exchange = self.requests.get_mut(&header.request_id);
        let kind = header.record_type;
        let is_taken = exchange.is_some_and(|exchange| exchange.take(direction, kind, bytes, time));
        if !is_taken && !is_harmless(&header) && !self.outputs.show_secrets {
            mask::overwrite(bytes);
        }
    }

    /// A record whose content is complete.
    fn whole(&mut self, direction: Direction, header: RecordHeader, content: &[u8], time: Time) {
        let body = <[u8; BODY_LEN]>::try_from(content).ok();
        let kind = (direction, header.record_type);
        if let ((Direction::ToApplication, RecordType::BeginRequest), Some(body)) = (kind, body) {
            self.begin(header.request_id, BeginRequestBody::decode(body), time);
        }
        let outputs = Rc::clone(&self.outputs);
        let mut exchange = self.requests.get_mut(&header.request_id);
        if outputs.report.records || outputs.page.is_some() {
            let details = match (&mut exchange, header.record_type) {
                (Some(exchange), RecordType::Params) if header.content_length > 0 => {
                    let mut lines = exchange.params.news();
                    if lines.is_empty() {
                        lines.push("… a part of a parameter".to_owned());
                    }
                    lines
                }
                _ => {
                    let more = usize::from(header.content_length) - content.len();
                    trace::details(header.record_type, content, more)
                }
            };
            let mut exchange = exchange.as_deref_mut();
            let begun = exchange.as_ref().map(|exchange| exchange.begun);
            let kept = exchange.as_deref_mut().and_then(|exchange| exchange.kept.as_mut());
            if let (Some(begun), Some(kept)) = (begun, kept) {
                kept.record(|| {
                    record_json(time.saturating_sub(begun), direction, &header, &details)
                });
            }
            if outputs.report.records {
                let report = &outputs.report;
                report.record(time, self.connection, exchange, direction, &header, &details);
            }
        }
        let Some(exchange) = exchange else { return };
        match kind {
            (Direction::ToApplication, RecordType::AbortRequest) => exchange.aborted = true,
            (Direction::ToApplication, RecordType::Params) if header.content_length == 0 => {
                if let Some(page) = &outputs.page {
                    page.request(exchange, None, time);
                }
            }
            (Direction::ToWebServer, RecordType::Stderr) if !outputs.report.records => {
                let more = usize::from(header.content_length) - content.len();
                outputs.report.stderr(exchange, content, more);
            }
            (Direction::ToWebServer, RecordType::EndRequest) => {
                if let Some(body) = body {
                    self.finish(
                        header.request_id,
                        Outcome::Ended(EndRequestBody::decode(body)),
                        time,
                    );
                }
            }
            _ => {}
        }
    }

    fn begin(&mut self, request_id: u16, body: BeginRequestBody, time: Time) {
        // The application decides about a second BEGIN_REQUEST for an active id (FC-3.3-10).
        if let Some(exchange) = self.requests.get_mut(&request_id) {
            exchange.lose(Direction::ToApplication);
            return;
        }
        if self.requests.len() == REQUESTS {
            if !mem::replace(&mut self.overrun, true) {
                (self.outputs.complain)(&format!(
                    "connection {}: more than {REQUESTS} requests at once; the others are carried, \
                     and not shown",
                    self.connection
                ));
            }
            return;
        }
        let number = self.outputs.requests.get() + 1;
        self.outputs.requests.set(number);
        let begun = (body.role, body.keep_conn);
        let show = self.outputs.show_secrets;
        let mut exchange = Exchange::new(number, self.connection, request_id, begun, time, show);
        exchange.kept = self.outputs.page.is_some().then(Box::default);
        self.requests.insert(request_id, exchange);
    }

    fn finish(&mut self, request_id: u16, outcome: Outcome, time: Time) {
        if let Some(mut exchange) = self.requests.remove(&request_id) {
            self.outputs.report.request(&mut exchange, outcome, time);
            if let Some(page) = &self.outputs.page {
                page.request(&exchange, Some(outcome), time);
            }
        }
    }

    /// A direction has ended now.
    pub(crate) fn end(&mut self, direction: Direction, end: End) {
        self.end_at(direction, end, self.clock.now());
    }

    /// A direction ended at this time.
    pub(crate) fn end_at(&mut self, direction: Direction, end: End, time: Time) {
        if mem::replace(&mut self.halves[direction as usize].ended, true) {
            return;
        }
        self.record(|packets, take| packets.close(direction, end == End::Reset, time, take));
        match (direction, end) {
            (Direction::ToWebServer, _) => self.cut(Outcome::Cut, time),
            (Direction::ToApplication, End::Reset) => self.cut(Outcome::Left, time),
            // It may only be a half-close (FC-3.5-2).
            (Direction::ToApplication, End::Closed) => {}
        }
    }

    /// Nothing more comes: active requests end with this outcome.
    pub(crate) fn cut(&mut self, outcome: Outcome, time: Time) {
        let mut open: Vec<(u64, u16)> =
            self.requests.iter().map(|(id, exchange)| (exchange.number, *id)).collect();
        open.sort_unstable();
        for (_, request_id) in open {
            self.finish(request_id, outcome, time);
        }
    }

    /// Whether a request is active.
    pub(crate) fn is_busy(&self) -> bool {
        !self.requests.is_empty()
    }

    /// Whether both directions have ended.
    pub(crate) fn has_ended(&self) -> bool {
        self.halves.iter().all(|half| half.ended)
    }

    /// The connection is over, for whatever reason.
    pub(crate) fn close(&mut self) {
        self.close_at(self.clock.now());
    }

    /// The connection was over at this time.
    pub(crate) fn close_at(&mut self, now: Time) {
        if self.halves[Direction::ToApplication as usize].ended && self.is_busy() {
            // In a recording, a reset tells this from a half-close.
            self.record(|packets, take| packets.close(Direction::ToApplication, true, now, take));
            self.halves[Direction::ToWebServer as usize].ended = true;
            self.cut(Outcome::Left, now);
        }
        for direction in [Direction::ToApplication, Direction::ToWebServer] {
            self.end_at(direction, End::Closed, now);
        }
    }

    /// Bytes are missing before the next ones, which hopefully start with a record.
    pub(crate) fn gap(&mut self, direction: Direction) {
        let half = &mut self.halves[direction as usize];
        *half = Half { ended: half.ended, ..Half::default() };
        self.requests.values_mut().for_each(|exchange| exchange.lose(direction));
    }
}

/// Whether a record's content can't hold secrets, whichever request it belongs to.
fn is_harmless(header: &RecordHeader) -> bool {
    match header.record_type {
        RecordType::BeginRequest | RecordType::EndRequest | RecordType::UnknownType => {
            usize::from(header.content_length) == BODY_LEN
        }
        RecordType::GetValues | RecordType::GetValuesResult => header.request_id == 0,
        _ => false,
    }
}

/// A record in the page's form.
fn record_json(
    since: Time,
    direction: Direction,
    header: &RecordHeader,
    details: &[String],
) -> Value {
    json!({
        "ms": milliseconds(since),
        "up": direction == Direction::ToApplication,
        "record": header.record_type.to_string(),
        "length": header.content_length,
        "padding": header.padding_length,
        "content": details,
    })
}
