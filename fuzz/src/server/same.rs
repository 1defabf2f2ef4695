//! The same conversation, cut two ways: an application that sees the same does the same, and all
//! that it sees and sends is the same. Once the cuts are those of the records, and a model knows
//! what each byte is.

use std::collections::BTreeMap;
use std::task::Poll;

use arbitrary::{Result, Unstructured};
use bytes::Bytes;
use fcgi_proto::{
    Connection, Input, Output, Params, ProtocolError, Rejection, RequestKey, Role, ServerConfig,
    ServerConnection, UsageError,
    server::{AbortReason, Event},
};

use super::INPUTS;
use crate::{
    checked::Checked,
    heap::{self, Owner},
    input::{Cuts, DISCONNECT, MOST_STEPS},
    model::Model,
    wire::{self, Side},
};

/// What the application does with each request, by its number; nothing in it depends on time.
pub(super) struct Plan {
    actions: Vec<u8>,
    read_size: usize,
    shutdown_at: Option<u8>,
}

impl Plan {
    pub(super) fn new(u: &mut Unstructured<'_>, len: usize) -> Result<Self> {
        let actions =
            (0..u.int_in_range(1..=4u8)?).map(|_| u.arbitrary()).collect::<Result<_>>()?;
        let read_size = (*u.choose(&[usize::MAX, usize::MAX, 1, 100])?).max(len / MOST_STEPS);
        Ok(Self { actions, read_size, shutdown_at: u.arbitrary()? })
    }
}

/// All that an application sees, and all that was sent, however it was cut.
#[derive(PartialEq, Debug, Default)]
struct Log {
    seen: Vec<Seen>,
    error: Option<ProtocolError>,
    sent: Vec<(u8, u16, Vec<u8>)>,
    closed: bool,
    reusable: bool,
}

#[derive(PartialEq, Debug)]
enum Seen {
    Request(usize, u16, Role, Params, bool),
    Data(usize, Input, Vec<u8>),
    End(usize, Input),
    Aborted(usize, AbortReason),
}

struct App<'a> {
    plan: &'a Plan,
    live: BTreeMap<RequestKey, Live>,
    count: usize,
    log: Log,
    model: Option<Model>,
}

struct Live {
    number: usize,
    action: u8,
    ended: [bool; 2],
    aborted: bool,
}

/// Runs a conversation twice.
pub(super) fn run(config: ServerConfig, plan: &Plan, wire: &[u8], flags: u8, cuts: &mut Cuts) {
    let by_piece = whole(config, plan, wire, flags, None);
    let by_cuts = whole(config, plan, wire, flags, Some(cuts));
    for (a, b) in by_piece.seen.iter().zip(&by_cuts.seen) {
        assert_eq!(a, b, "the cut matters");
    }
    assert_eq!(by_piece, by_cuts, "the cut matters");
}

fn whole(
    config: ServerConfig,
    plan: &Plan,
    wire: &[u8],
    flags: u8,
    mut cuts: Option<&mut Cuts>,
) -> Log {
    let mut conn = Checked::new(Owner::Server, config.limits, || ServerConnection::new(config));
    conn.requests = config.limits.requests;
    let mut app = App {
        plan,
        live: BTreeMap::new(),
        count: 0,
        log: Log::default(),
        model: cuts.is_none().then(|| Model::new(Side::Client)),
    };
    let pieces = wire::pieces(wire);
    let mut pieces = pieces.iter().peekable();
    let mut at = 0;
    loop {
        app.pump(&mut conn);
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
        if let (Some(model), Some(piece)) = (&mut app.model, pieces.peek()) {
            model.take(piece, &wire[at - n..at], at == end);
            if at == end {
                pieces.next();
            }
        }
    }
    if let (Some(model), None, false) = (&app.model, app.log.error, conn.is_over()) {
        for (key, live) in app.live.iter().filter(|(_, live)| !live.aborted) {
            model.check_all_read(key.id(), live.ended);
        }
    }
    app.log.reusable = conn.get().is_reusable();
    if flags & DISCONNECT == 0 {
        conn.call(0, |conn| conn.handle_eof());
    } else {
        conn.call(0, |conn| conn.handle_disconnect());
        conn.forget_queue();
    }
    app.pump(&mut conn);
    if app.log.error.is_none() {
        app.check_after_eof(&mut conn);
    }
    let keys: Vec<_> = app.live.keys().copied().collect();
    for key in keys {
        app.finish(&mut conn, key, 7);
    }
    app.pump(&mut conn);
    assert!(conn.get().is_closed(), "not closed after the end of file and of all requests");
    conn.misuse();
    conn.transmit(0);
    app.log.closed = conn.get().is_closed();
    app.log.sent = std::mem::take(&mut conn.sent.log);
    drop(conn);
    assert_eq!(heap::live(Owner::Server), 0, "a leak");
    app.log
}

impl App<'_> {
    /// Handles all events and sends all there is, until nothing happens.
    fn pump(&mut self, conn: &mut Checked<ServerConnection>) {
        loop {
            match conn.poll() {
                Ok(Some(event)) => self.event(conn, event),
                Ok(None) => {
                    if conn.transmit(usize::MAX).is_empty() {
                        return;
                    }
                }
                Err(error) => {
                    assert!(self.log.error.is_none_or(|before| before == error));
                    self.log.error = Some(error);
                    let keys: Vec<_> = self.live.keys().copied().collect();
                    for key in keys {
                        assert!(conn.call(0, |conn| conn.request(key).is_none()));
                    }
                    self.live.clear();
                    conn.transmit(usize::MAX);
                    return;
                }
            }
        }
    }

    fn event(&mut self, conn: &mut Checked<ServerConnection>, event: Event) {
        match event {
            Event::Request { key, role, params, keep_conn } => {
                let number = self.count;
                self.count += 1;
                let action = self.plan.actions[number % self.plan.actions.len()];
                if let Some(model) = &self.model {
                    model.check_params(key.id(), &params);
                }
                let seen = Seen::Request(number, key.id(), role, params.clone(), keep_conn);
                self.log.seen.push(seen);
                let live = Live { number, action, ended: [false; 2], aborted: false };
                assert!(self.live.insert(key, live).is_none(), "a key used twice");
                if self.plan.shutdown_at == Some(number as u8) {
                    conn.call(0, |conn| conn.shutdown());
                }
                match action % 8 {
                    0 => self.finish(conn, key, u32::from(action)),
                    1 => self.reject(conn, key),
                    _ => self.serve(conn, key),
                }
            }
            Event::Readable { key, .. } => {
                assert!(self.live.contains_key(&key), "Readable of no request");
                self.serve(conn, key);
            }
            Event::Aborted { key, reason } => {
                let live = self.live.get_mut(&key).expect("Aborted of a live request");
                assert!(!live.aborted, "aborted twice");
                live.aborted = true;
                let (number, action) = (live.number, live.action);
                self.log.seen.push(Seen::Aborted(number, reason));
                assert!(conn.call(0, |conn| conn.request(key).unwrap().is_aborted()));
                if action & 64 == 0 {
                    self.finish(conn, key, 3);
                }
            }
            Event::Writable { key } => {
                assert!(self.live.contains_key(&key), "Writable of no request");
            }
        }
    }

    /// Reads all there is of a request, echoes it, ends it when its input has ended.
    fn serve(&mut self, conn: &mut Checked<ServerConnection>, key: RequestKey) {
        let max = self.plan.read_size;
        for (i, input) in INPUTS.into_iter().enumerate() {
            loop {
                let read = conn.call(0, |conn| conn.request(key).unwrap().read(input, max));
                let live = self.live.get_mut(&key).expect("live");
                match read {
                    Poll::Ready(Some(bytes)) => {
                        assert!(!bytes.is_empty() && bytes.len() <= max);
                        assert!(!live.ended[i], "data after the end");
                        if let Some(model) = &mut self.model {
                            model.check_read(key.id(), i, &bytes);
                        }
                        match self.log.seen.last_mut() {
                            Some(Seen::Data(n, s, all)) if (*n, *s) == (live.number, input) => {
                                all.extend_from_slice(&bytes);
                            }
                            _ => {
                                let data = Seen::Data(live.number, input, bytes.to_vec());
                                self.log.seen.push(data);
                            }
                        }
                        let output =
                            if live.action & 16 == 0 { Output::Stdout } else { Output::Stderr };
                        if live.action & 8 != 0 {
                            write_all(conn, key, output, Bytes::copy_from_slice(&bytes));
                        }
                    }
                    Poll::Ready(None) => {
                        if !live.ended[i] {
                            live.ended[i] = true;
                            self.log.seen.push(Seen::End(live.number, input));
                        }
                        break;
                    }
                    Poll::Pending => {
                        assert!(!live.ended[i], "a stream that ended is pending");
                        break;
                    }
                }
            }
        }
        let live = &self.live[&key];
        if live.ended == [true; 2] && live.action % 8 != 7 {
            self.finish(conn, key, u32::from(live.action));
        }
    }

    fn finish(&mut self, conn: &mut Checked<ServerConnection>, key: RequestKey, status: u32) {
        let fails = self.live[&key].action % 8 == 6;
        conn.call(300, |conn| {
            let request = conn.request(key).unwrap();
            if fails { request.fail(status) } else { request.finish(status) }
        })
        .expect("live");
        self.ended(conn, key);
    }

    fn reject(&mut self, conn: &mut Checked<ServerConnection>, key: RequestKey) {
        conn.call(200, |conn| conn.request(key).unwrap().reject(Rejection::Overloaded))
            .expect("live");
        self.ended(conn, key);
    }

    fn ended(&mut self, conn: &mut Checked<ServerConnection>, key: RequestKey) {
        self.live.remove(&key);
        assert!(conn.call(0, |conn| conn.request(key).is_none()), "a key outlives its request");
    }

    /// Nobody waits for input that can't come.
    fn check_after_eof(&mut self, conn: &mut Checked<ServerConnection>) {
        assert!(!conn.get().wants_read());
        for key in self.live.keys().copied() {
            for input in INPUTS {
                let read = conn.call(0, |conn| conn.request(key).unwrap().read(input, 1));
                assert!(read.is_ready(), "{input:?} is awaited after the end of file");
            }
        }
    }
}

/// Writes, and sends when the queue is full, until all is written.
fn write_all(
    conn: &mut Checked<ServerConnection>,
    key: RequestKey,
    output: Output,
    mut bytes: Bytes,
) {
    while !bytes.is_empty() {
        let len = bytes.len();
        let taken =
            conn.call(17 * len, |conn| conn.request(key).unwrap().write(output, &mut bytes));
        match taken {
            Ok(n) => assert_eq!(n, len - bytes.len()),
            Err(error) => {
                assert_eq!(error, UsageError::Closed);
                return;
            }
        }
        let sent = conn.transmit(usize::MAX);
        assert!(taken != Ok(0) || !sent.is_empty(), "no room in an empty queue");
    }
}
