//! `server_bytes`: a `ServerConnection` whose peer sends anything.
//!
//! Each input is run three times: piece by piece beside a model that knows what each byte is, cut
//! at random with the same result expected, and with random calls of an application in between.

use std::collections::{BTreeMap, BTreeSet};
use std::task::Poll;

use arbitrary::{Result, Unstructured};
use bytes::Bytes;
use fcgi_proto::{
    Connection, Input, Limits, Output, Params, ProtocolError, Rejection, RequestKey, Role, Roles,
    ServerConfig, ServerConnection, UsageError, Values, server::AbortReason, server::Event,
};

use crate::{
    checked::Checked,
    heap::{self, Owner},
    input::{self, Cuts},
    wire::{self, Part, Piece, Side, kind},
};

const INPUTS: [Input; 2] = [Input::Stdin, Input::Data];

/// Runs one input.
pub fn run(data: &[u8]) {
    heap::reset();
    if let Some(input) = input::Input::new(data, Side::Client) {
        // What steers has come to its end: nothing more to try.
        let _ = all(input);
    }
}

fn all(input: input::Input<'_>) -> Result<()> {
    let input::Input { flags, mut steer, wire } = input;
    let limits = input::limits_for(&mut steer, Limits::server(), wire.len())?;
    let config = ServerConfig {
        limits,
        roles: *steer.choose(&[
            Roles::ALL,
            Roles::ALL,
            Roles::RESPONDER,
            Roles::of(Role::Authorizer).and(Role::Filter),
        ])?,
        values: Values { max_conns: steer.arbitrary()?, ..Values::default() },
        rejection_body: steer.arbitrary()?,
    };
    let plan = Plan::new(&mut steer, wire.len())?;
    let mut cuts = Cuts::new(&mut steer)?.suit(wire.len());

    let by_piece = whole(config, &plan, &wire, flags, None);
    let by_cuts = whole(config, &plan, &wire, flags, Some(&mut cuts));
    for (a, b) in by_piece.seen.iter().zip(&by_cuts.seen) {
        assert_eq!(a, b, "the cut matters");
    }
    assert_eq!(by_piece, by_cuts, "the cut matters");
    heap::reset();
    chaos(config, &wire, &mut cuts, &mut steer)
}

/// What the application does with each request, by its number; nothing in it depends on time.
struct Plan {
    actions: Vec<u8>,
    read_size: usize,
    shutdown_at: Option<u8>,
}

impl Plan {
    fn new(u: &mut Unstructured<'_>, len: usize) -> Result<Self> {
        let actions =
            (0..u.int_in_range(1..=4u8)?).map(|_| u.arbitrary()).collect::<Result<_>>()?;
        let read_size = (*u.choose(&[usize::MAX, usize::MAX, 1, 100])?).max(len / 2000);
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
        model: cuts.is_none().then(Model::default),
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
            model.check_all_read(key.id(), live);
        }
    }
    app.log.reusable = conn.get().is_reusable();
    if flags & 2 == 0 {
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
                            model.check_read(key.id(), input, &bytes);
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
        conn.call(64, |conn| conn.request(key).unwrap().finish(status)).expect("live");
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

/// What each request of the conversation has been sent so far, by plain reading.
#[derive(Default)]
struct Model {
    requests: BTreeMap<u16, Expected>,
}

#[derive(Default)]
struct Expected {
    params: Vec<u8>,
    params_ended: bool,
    streams: [Vec<u8>; 2],
    ended: [bool; 2],
}

impl Model {
    fn take(&mut self, piece: &Piece, bytes: &[u8], whole: bool) {
        let stream = match piece.kind {
            kind::STDIN => 0,
            kind::DATA => 1,
            _ => 2,
        };
        match piece.part {
            Part::Content { whole: true } if piece.kind == kind::BEGIN && whole => {
                self.requests.insert(piece.id, Expected::default());
            }
            Part::Content { .. } => {
                let Some(request) = self.requests.get_mut(&piece.id) else { return };
                if piece.kind == kind::PARAMS {
                    request.params.extend_from_slice(bytes);
                } else if let Some(queue) = request.streams.get_mut(stream) {
                    queue.extend_from_slice(bytes);
                }
            }
            Part::Header { empty: true } if whole => {
                let Some(request) = self.requests.get_mut(&piece.id) else { return };
                if piece.kind == kind::PARAMS {
                    request.params_ended = true;
                } else if let Some(ended) = request.ended.get_mut(stream) {
                    *ended = true;
                }
            }
            _ => {}
        }
    }

    fn check_params(&self, id: u16, params: &Params) {
        let expected = &self.requests[&id];
        assert!(expected.params_ended);
        let pairs = wire::pairs(&expected.params).expect("whole pairs");
        assert!(
            params.iter().eq(pairs.iter().map(|(name, value)| (&name[..], &value[..]))),
            "parameters"
        );
    }

    fn check_read(&mut self, id: u16, input: Input, bytes: &[u8]) {
        let expected = self.requests.get_mut(&id).expect("a request of the model");
        let queue = &mut expected.streams[usize::from(input == Input::Data)];
        assert!(queue.starts_with(bytes), "other bytes than came, or more");
        queue.drain(..bytes.len());
    }

    fn check_all_read(&self, id: u16, live: &Live) {
        let expected = &self.requests[&id];
        assert!(expected.streams.iter().all(Vec::is_empty), "bytes are missing");
        for (ended, end) in live.ended.iter().zip(expected.ended) {
            assert!(*ended || !end, "the end of a stream is missing");
        }
    }
}

/// A request in [`chaos`].
#[derive(Default)]
struct Wild {
    /// Streams whose reader was told to wait.
    parked: BTreeSet<usize>,
    /// A write took less than it was given.
    blocked: bool,
}

struct Chaos {
    live: BTreeMap<RequestKey, Wild>,
    /// Every key there was, ended requests' too.
    keys: Vec<RequestKey>,
}

fn chaos(
    config: ServerConfig,
    wire: &[u8],
    cuts: &mut Cuts,
    u: &mut Unstructured<'_>,
) -> Result<()> {
    let mut conn = Checked::new(Owner::Server, config.limits, || ServerConnection::new(config));
    conn.requests = config.limits.requests;
    let mut state = Chaos { live: BTreeMap::new(), keys: Vec::new() };
    let mut at = 0;
    let mut gone = false;
    while !u.is_empty() {
        let op: u8 = u.arbitrary()?;
        let key = (!state.keys.is_empty()).then(|| {
            let at = usize::from(op >> 4) % state.keys.len();
            state.keys[state.keys.len() - 1 - at]
        });
        match (op % 16, key) {
            (0..=2, _) => {
                let end = (at + cuts.size()).min(wire.len());
                at += conn.feed(&wire[at..end]);
            }
            (3..=5, _) => {
                for _ in 0..=op >> 4 {
                    state.poll(&mut conn);
                }
            }
            (6, _) => drop(conn.transmit(usize::from(op >> 4) * 13)),
            (7, _) => drop(conn.transmit(usize::MAX)),
            (8 | 9, Some(key)) => {
                let max = *u.choose(&[0, 1, 10, 5000, usize::MAX])?;
                state.read(&mut conn, key, usize::from(op % 2), max);
            }
            (10 | 11, Some(key)) => {
                let len = *u.choose(&[0, 1, 100, 4096, 4097, 70_000])?;
                let output = if op & 1 == 0 { Output::Stdout } else { Output::Stderr };
                state.write(&mut conn, key, output, len);
            }
            (12, Some(key)) => state.end(&mut conn, key, false),
            (13, Some(key)) => state.end(&mut conn, key, true),
            (14, _) => match op >> 4 {
                0 => conn.call(0, |conn| conn.shutdown()),
                1 => conn.call(0, |conn| conn.handle_eof()),
                2 => {
                    conn.call(0, |conn| conn.handle_disconnect());
                    conn.forget_queue();
                    gone = true;
                }
                _ => {}
            },
            (15, _) => conn.misuse(),
            _ => {}
        }
    }
    // In the end all is read, ended and sent.
    loop {
        state.settle(&mut conn);
        let n = conn.feed(&wire[at..(at + 3000).min(wire.len())]);
        at += n;
        if n == 0 {
            break;
        }
    }
    if !gone {
        conn.call(0, |conn| conn.handle_disconnect());
        conn.forget_queue();
    }
    state.settle(&mut conn);
    assert!(
        conn.get().is_closed() && conn.get().active_requests() == 0 || conn.get().error().is_some()
    );
    conn.misuse();
    conn.transmit(usize::MAX);
    conn.transmit(0);
    Ok(())
}

impl Chaos {
    fn poll(&mut self, conn: &mut Checked<ServerConnection>) -> bool {
        let Ok(event) = conn.poll() else { return false };
        match event {
            None => return false,
            Some(Event::Request { key, .. }) => {
                assert!(!self.keys.contains(&key), "a key used twice");
                self.keys.push(key);
                self.live.insert(key, Wild::default());
            }
            Some(Event::Readable { key, input }) => {
                let wild = self.live.get_mut(&key).expect("Readable of a live request");
                wild.parked.remove(&usize::from(input == Input::Data));
            }
            Some(Event::Writable { key }) => {
                // Of an ended request it would be noise.
                let wild = self.live.get_mut(&key).expect("Writable of a live request");
                wild.blocked = false;
            }
            Some(Event::Aborted { key, .. }) => {
                let wild = self.live.get_mut(&key).expect("Aborted of a live request");
                wild.parked.clear();
            }
        }
        true
    }

    /// Whether there should be such a request, checked against whether there is.
    fn check(&mut self, conn: &mut Checked<ServerConnection>, key: RequestKey) -> bool {
        let live = self.live.contains_key(&key) && conn.get().error().is_none();
        assert_eq!(conn.call(0, |conn| conn.request(key).is_some()), live, "a stale key");
        live
    }

    fn read(
        &mut self,
        conn: &mut Checked<ServerConnection>,
        key: RequestKey,
        i: usize,
        max: usize,
    ) {
        if !self.check(conn, key) {
            return;
        }
        let wild = self.live.get_mut(&key).expect("live");
        match conn.call(0, |conn| conn.request(key).unwrap().read(INPUTS[i], max)) {
            Poll::Pending => drop(wild.parked.insert(i)),
            Poll::Ready(Some(bytes)) => {
                assert!(bytes.len() <= max && (max == 0 || !bytes.is_empty()));
                assert!(!wild.parked.contains(&i), "no Readable after Pending");
            }
            Poll::Ready(None) => {}
        }
    }

    fn write(
        &mut self,
        conn: &mut Checked<ServerConnection>,
        key: RequestKey,
        output: Output,
        len: usize,
    ) {
        if !self.check(conn, key) {
            return;
        }
        let mut bytes = Bytes::from(vec![b'w'; len]);
        let taken = conn.call(len, |conn| conn.request(key).unwrap().write(output, &mut bytes));
        if let Ok(taken) = taken {
            assert_eq!(taken, len - bytes.len());
            self.live.get_mut(&key).expect("live").blocked |= taken < len;
        }
    }

    fn end(&mut self, conn: &mut Checked<ServerConnection>, key: RequestKey, reject: bool) {
        if self.check(conn, key) {
            conn.call(200, |conn| {
                let request = conn.request(key).unwrap();
                if reject { request.reject(Rejection::UnknownRole) } else { request.finish(0) }
            })
            .expect("live");
            self.live.remove(&key);
            self.check(conn, key);
        }
    }

    fn settle(&mut self, conn: &mut Checked<ServerConnection>) {
        loop {
            let mut progress = false;
            while self.poll(conn) {
                progress = true;
            }
            progress |= !conn.transmit(usize::MAX).is_empty();
            if progress {
                continue;
            }
            for wild in self.live.values() {
                let lost = conn.get().error().is_some();
                assert!(!wild.blocked || lost, "no Writable, and nothing is queued");
            }
            let keys: Vec<_> = self.live.keys().copied().collect();
            for key in &keys {
                for i in 0..2 {
                    self.read(conn, *key, i, usize::MAX);
                }
                self.end(conn, *key, false);
            }
            if keys.is_empty() || conn.get().error().is_some() {
                return;
            }
        }
    }
}
