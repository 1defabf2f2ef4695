//! `client_bytes`: a `ClientConnection` whose peer sends anything.
//!
//! Each input is run three times, as `server_bytes` runs its own.

use std::collections::{BTreeMap, BTreeSet};
use std::task::Poll;

use arbitrary::{Result, Unstructured};
use bytes::Bytes;
use fcgi_proto::{
    BeginRequest, ClientConfig, ClientConnection, Connection, Input, Limits, Output, Params,
    ProtocolError, RequestKey, Role, UsageError, Values, client::Event, client::Outcome,
};

use crate::{
    checked::Checked,
    heap::{self, Owner},
    input::{self, Cuts},
    wire::{self, Part, Piece, Side, kind},
};

const OUTPUTS: [Output; 2] = [Output::Stdout, Output::Stderr];
const ROLES: [Role; 4] = [Role::Responder, Role::Responder, Role::Authorizer, Role::Filter];

/// Runs one input.
pub fn run(data: &[u8]) {
    heap::reset();
    if let Some(input) = input::Input::new(data, Side::Server) {
        // What steers has come to its end: nothing more to try.
        let _ = all(input);
    }
}

fn all(input: input::Input<'_>) -> Result<()> {
    let input::Input { flags, mut steer, wire } = input;
    let mut limits = Limits::client();
    limits.requests = 4;
    let config = ClientConfig { limits: input::limits_for(&mut steer, limits, wire.len())? };
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

/// What is done with each request, by its number; nothing in it depends on time.
struct Plan {
    actions: Vec<u8>,
    read_size: usize,
    query: bool,
    /// Requests begun in all.
    total: usize,
}

impl Plan {
    fn new(u: &mut Unstructured<'_>, len: usize) -> Result<Self> {
        let actions =
            (0..u.int_in_range(1..=4u8)?).map(|_| u.arbitrary()).collect::<Result<_>>()?;
        let read_size = (*u.choose(&[usize::MAX, usize::MAX, 1, 100])?).max(len / 2000);
        Ok(Self { actions, read_size, query: u.arbitrary()?, total: u.int_in_range(0..=20)? })
    }
}

/// All that is seen, and all that was sent, however it was cut.
#[derive(PartialEq, Debug, Default)]
struct Log {
    seen: Vec<Seen>,
    error: Option<ProtocolError>,
    sent: Vec<(u8, u16, Vec<u8>)>,
    closed: bool,
    reusable: bool,
    can_begin: bool,
}

#[derive(PartialEq, Debug)]
enum Seen {
    Begin(usize, Option<u16>),
    Data(usize, Output, Vec<u8>),
    End(usize, Output),
    Finished(usize, Outcome),
    Values(Values),
    Unknown(u8),
}

struct App<'a> {
    plan: &'a Plan,
    /// Bytes of each input stream, at most, so that little room is not filled too often.
    most_input: usize,
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
    finished: bool,
}

fn whole(
    config: ClientConfig,
    plan: &Plan,
    wire: &[u8],
    flags: u8,
    mut cuts: Option<&mut Cuts>,
) -> Log {
    let mut conn = Checked::new(Owner::Client, config.limits, || ClientConnection::new(config));
    let mut app = App {
        plan,
        most_input: config.limits.send_high_water.saturating_mul(20),
        live: BTreeMap::new(),
        count: 0,
        log: Log::default(),
        model: cuts.is_none().then(Model::default),
    };
    if plan.query {
        conn.call(128, ClientConnection::query_values).expect("a new connection");
        let twice = conn.call(0, ClientConnection::query_values);
        assert_eq!(twice, Err(UsageError::QueryPending));
    }
    app.begin(&mut conn);
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
    app.log.can_begin = conn.get().can_begin();
    if flags & 2 == 0 {
        conn.call(0, |conn| conn.handle_eof());
        assert!(!conn.get().wants_read());
    }
    app.pump(&mut conn);
    if flags & 2 == 0 && app.log.error.is_none() {
        assert!(conn.get().is_closed(), "not closed after the end of file");
        assert!(app.live.values().all(|live| live.finished), "not finished at the end of file");
    }
    app.log.closed = conn.get().is_closed();
    conn.misuse();
    app.commands_after_the_end(&mut conn);
    // An error drops what is queued, sent or not.
    if app.log.error.is_none() {
        app.log.sent = std::mem::take(&mut conn.sent.log);
    }
    drop(conn);
    assert_eq!(heap::live(Owner::Client), 0, "a leak");
    app.log
}

impl App<'_> {
    /// Begins as many requests as the plan and the connection have.
    fn begin(&mut self, conn: &mut Checked<ClientConnection>) {
        while self.count < self.plan.total {
            let number = self.count;
            let action = self.plan.actions[number % self.plan.actions.len()];
            let can = conn.get().can_begin();
            conn.requests += 1;
            let request = BeginRequest {
                role: ROLES[usize::from(action & 3)],
                keep_conn: action % 32 != 31,
                params: Params::from_iter([("A", vec![b'a'; usize::from(action)])]),
            };
            let key = conn.call(512, |conn| conn.begin(request));
            assert_eq!(key.is_ok(), can, "can_begin");
            let Ok(key) = key else { return };
            self.count += 1;
            self.log.seen.push(Seen::Begin(number, Some(key.id())));
            if let Some(model) = &mut self.model {
                model.requests.insert(key.id(), Expected::default());
            }
            assert!(self.live.keys().all(|other| other.id() != key.id()), "an id used twice");
            let live = Live { number, action, ended: [false; 2], aborted: false, finished: false };
            self.live.insert(key, live);
            self.send_input(conn, key, action);
        }
    }

    fn send_input(&mut self, conn: &mut Checked<ClientConnection>, key: RequestKey, action: u8) {
        if action & 4 != 0 {
            return; // Its input never ends.
        }
        for input in [Input::Stdin, Input::Data] {
            let has = ROLES[usize::from(action & 3)].has_input(input);
            let len = (usize::from(action) * 40).min(self.most_input);
            let mut bytes = Bytes::from(vec![b'i'; len]);
            while !bytes.is_empty() {
                let len = bytes.len();
                let taken =
                    conn.call(17 * len, |conn| conn.request(key).unwrap().write(input, &mut bytes));
                if !has {
                    assert_eq!(taken, Err(UsageError::StreamNotInRole));
                    break;
                }
                assert_eq!(taken, Ok(len - bytes.len()));
                let sent = conn.transmit(usize::MAX);
                assert!(taken != Ok(0) || !sent.is_empty(), "no room in an empty queue");
            }
            if has {
                conn.call(8, |conn| conn.request(key).unwrap().finish(input)).expect("sending");
                let twice = conn.call(8, |conn| conn.request(key).unwrap().finish(input));
                assert_eq!(twice, Err(UsageError::StreamFinished));
            }
        }
    }

    /// Handles all events and sends all there is, until nothing happens.
    fn pump(&mut self, conn: &mut Checked<ClientConnection>) {
        loop {
            match conn.poll() {
                Ok(Some(event)) => {
                    self.event(conn, event);
                    // What is queued when END_REQUEST comes decides on reuse.
                    conn.transmit(usize::MAX);
                }
                Ok(None) => {
                    if conn.transmit(usize::MAX).is_empty() {
                        return;
                    }
                }
                Err(error) => {
                    assert!(self.log.error.is_none_or(|before| before == error));
                    self.log.error = Some(error);
                    conn.transmit(usize::MAX);
                    return;
                }
            }
        }
    }

    fn event(&mut self, conn: &mut Checked<ClientConnection>, event: Event) {
        match event {
            Event::Readable { key, .. } => {
                let live = self.live.get(&key).expect("Readable of a live request");
                assert!(!live.finished, "Readable after the end");
                if live.action & 24 == 8 && !live.aborted {
                    self.abort(conn, key);
                } else {
                    self.read(conn, key);
                }
            }
            Event::Writable { key } => {
                assert!(self.live.contains_key(&key), "Writable of no request");
            }
            Event::Finished { key, outcome } => {
                let live = self.live.get_mut(&key).expect("Finished of a live request");
                assert!(!live.finished, "finished twice");
                live.finished = true;
                let number = live.number;
                self.log.seen.push(Seen::Finished(number, outcome));
                if conn.call(0, |conn| conn.request(key).is_some()) {
                    assert!(conn.call(0, |conn| conn.request(key).unwrap().is_ended()));
                    let input = conn.call(0, |conn| {
                        conn.request(key).unwrap().write(Input::Stdin, &mut Bytes::new())
                    });
                    assert!(input.is_err(), "input of an ended request");
                    self.read(conn, key);
                }
                let left = conn.call(0, |conn| conn.request(key).is_some());
                assert!(!left, "an ended request that was read is still there");
                self.live.remove(&key);
                self.begin(conn);
            }
            Event::Values(values) => self.log.seen.push(Seen::Values(values)),
            Event::UnknownType(number) => self.log.seen.push(Seen::Unknown(number)),
        }
    }

    fn abort(&mut self, conn: &mut Checked<ClientConnection>, key: RequestKey) {
        for _ in 0..2 {
            conn.call(8, |conn| conn.request(key).unwrap().abort());
        }
        for output in OUTPUTS {
            let read = conn.call(0, |conn| conn.request(key).unwrap().read(output, 9));
            assert_eq!(read, Poll::Ready(None), "output of an aborted request");
        }
        self.live.get_mut(&key).expect("live").aborted = true;
    }

    fn read(&mut self, conn: &mut Checked<ClientConnection>, key: RequestKey) {
        let max = self.plan.read_size;
        for (i, output) in OUTPUTS.into_iter().enumerate() {
            loop {
                let read = conn.call(0, |conn| match conn.request(key) {
                    Some(mut request) => request.read(output, max),
                    None => Poll::Ready(None),
                });
                let live = self.live.get_mut(&key).expect("live");
                match read {
                    Poll::Ready(Some(bytes)) => {
                        assert!(!bytes.is_empty() && bytes.len() <= max);
                        assert!(!live.ended[i], "data after the end");
                        if let Some(model) = &mut self.model {
                            model.check_read(key.id(), i, &bytes);
                        }
                        match self.log.seen.last_mut() {
                            Some(Seen::Data(n, s, all)) if (*n, *s) == (live.number, output) => {
                                all.extend_from_slice(&bytes);
                            }
                            _ => {
                                let data = Seen::Data(live.number, output, bytes.to_vec());
                                self.log.seen.push(data);
                            }
                        }
                    }
                    Poll::Ready(None) => {
                        if !live.ended[i] {
                            live.ended[i] = true;
                            self.log.seen.push(Seen::End(live.number, output));
                        }
                        break;
                    }
                    Poll::Pending => {
                        assert!(!live.ended[i] && !live.finished, "an ended stream is pending");
                        break;
                    }
                }
            }
        }
    }

    /// After an error, or the end, commands queue nothing.
    fn commands_after_the_end(&mut self, conn: &mut Checked<ClientConnection>) {
        conn.transmit(0);
        if !conn.is_over() {
            return;
        }
        let request =
            BeginRequest { role: Role::Responder, keep_conn: true, params: Params::new() };
        assert!(conn.call(0, |conn| conn.begin(request)).is_err());
        assert!(conn.call(0, ClientConnection::query_values).is_err(), "a query after the end");
        for key in self.live.keys().copied() {
            conn.call(0, |conn| {
                if let Some(mut request) = conn.request(key) {
                    let _ = request.write(Input::Stdin, &mut Bytes::from_static(b"late"));
                    let _ = request.finish(Input::Stdin);
                    request.abort();
                }
            });
        }
        conn.transmit(0);
    }
}

/// What each request has been answered so far, by plain reading.
#[derive(Default)]
struct Model {
    requests: BTreeMap<u16, Expected>,
}

#[derive(Default)]
struct Expected {
    streams: [Vec<u8>; 2],
    ended: [bool; 2],
}

impl Model {
    fn take(&mut self, piece: &Piece, bytes: &[u8], whole: bool) {
        let stream = match piece.kind {
            kind::STDOUT => 0,
            kind::STDERR => 1,
            _ => return,
        };
        let Some(request) = self.requests.get_mut(&piece.id) else { return };
        match piece.part {
            Part::Content { .. } => request.streams[stream].extend_from_slice(bytes),
            Part::Header { empty: true } if whole => request.ended[stream] = true,
            _ => {}
        }
    }

    fn check_read(&mut self, id: u16, stream: usize, bytes: &[u8]) {
        let expected = self.requests.get_mut(&id).expect("a request of the model");
        let queue = &mut expected.streams[stream];
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
    parked: BTreeSet<usize>,
    blocked: bool,
    aborted: bool,
    finished: bool,
}

struct Chaos {
    wild: BTreeMap<RequestKey, Wild>,
    keys: Vec<RequestKey>,
}

fn chaos(
    config: ClientConfig,
    wire: &[u8],
    cuts: &mut Cuts,
    u: &mut Unstructured<'_>,
) -> Result<()> {
    let mut conn = Checked::new(Owner::Client, config.limits, || ClientConnection::new(config));
    let mut state = Chaos { wild: BTreeMap::new(), keys: Vec::new() };
    let mut at = 0;
    state.begin(&mut conn, 0);
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
            (3 | 4, _) => {
                for _ in 0..=op >> 4 {
                    state.poll(&mut conn);
                }
            }
            (5, _) => drop(conn.transmit(usize::from(op >> 4) * 13)),
            (6, _) => drop(conn.transmit(usize::MAX)),
            (7, _) => state.begin(&mut conn, op),
            (8 | 9, Some(key)) => {
                let max = *u.choose(&[0, 1, 10, 5000, usize::MAX])?;
                let _ = state.read(&mut conn, key, usize::from(op % 2), max);
            }
            (10 | 11, Some(key)) => {
                let len = *u.choose(&[0, 1, 100, 4096, 4097, 70_000])?;
                let input = if op & 1 == 0 { Input::Stdin } else { Input::Data };
                state.write(&mut conn, key, input, len);
            }
            (12, Some(key)) => {
                let input = if u.arbitrary()? { Input::Stdin } else { Input::Data };
                let done = conn.call(8, |conn| conn.request(key).map(|mut r| r.finish(input)));
                if done == Some(Ok(())) {
                    // Nothing more to write, or another stream, which was not refused yet.
                    state.wild.get_mut(&key).expect("known").blocked = false;
                }
            }
            (13, Some(key)) => state.abort(&mut conn, key),
            (14, _) => match op >> 4 {
                0 => conn.call(0, |conn| conn.handle_eof()),
                1..=4 => drop(conn.call(128, ClientConnection::query_values)),
                _ => {}
            },
            (15, _) => conn.misuse(),
            _ => {}
        }
    }
    loop {
        state.settle(&mut conn);
        let n = conn.feed(&wire[at..(at + 3000).min(wire.len())]);
        at += n;
        if n == 0 {
            break;
        }
    }
    assert!(at == wire.len() || conn.is_over() || !conn.get().wants_read());
    conn.call(0, |conn| conn.handle_eof());
    state.settle(&mut conn);
    conn.misuse();
    conn.transmit(usize::MAX);
    conn.transmit(0);
    if conn.get().error().is_none() {
        assert!(conn.get().is_closed() && conn.get().active_requests() == 0);
        assert!(state.wild.values().all(|wild| wild.finished), "a request without its end");
    }
    Ok(())
}

impl Chaos {
    fn begin(&mut self, conn: &mut Checked<ClientConnection>, op: u8) {
        conn.requests += 1;
        let len = if op >> 4 == 15 { 130_000 } else { usize::from(op) };
        let request = BeginRequest {
            role: ROLES[usize::from(op >> 4) % 4],
            keep_conn: op >> 4 != 14,
            params: Params::from_iter([("", vec![b'v'; len]), ("N", Vec::new())]),
        };
        if let Ok(key) = conn.call(len + 200, |conn| conn.begin(request)) {
            assert!(!self.keys.contains(&key), "a key used twice");
            self.keys.push(key);
            self.wild.insert(key, Wild::default());
        }
    }

    fn poll(&mut self, conn: &mut Checked<ClientConnection>) -> bool {
        let Ok(event) = conn.poll() else { return false };
        match event {
            None => return false,
            Some(Event::Readable { key, output }) => {
                let wild = self.wild.get_mut(&key).expect("Readable of a known request");
                assert!(!wild.finished, "Readable after the end");
                wild.parked.remove(&usize::from(output == Output::Stderr));
            }
            Some(Event::Writable { key }) => {
                let wild = self.wild.get_mut(&key).expect("Writable of a known request");
                assert!(!wild.finished && !wild.aborted, "Writable after the end");
                wild.blocked = false;
            }
            Some(Event::Finished { key, .. }) => {
                let wild = self.wild.get_mut(&key).expect("Finished of a known request");
                assert!(!wild.finished, "finished twice");
                wild.finished = true;
                wild.parked.clear();
            }
            Some(Event::Values(_) | Event::UnknownType(_)) => {}
        }
        true
    }

    /// Says whether bytes came.
    fn read(
        &mut self,
        conn: &mut Checked<ClientConnection>,
        key: RequestKey,
        i: usize,
        max: usize,
    ) -> bool {
        let read = conn.call(0, |conn| conn.request(key).map(|mut r| r.read(OUTPUTS[i], max)));
        let wild = self.wild.get_mut(&key).expect("known");
        match read {
            None => {
                let lost = conn.get().error().is_some() || conn.get().active_requests() == 0;
                assert!(wild.finished || wild.aborted || lost, "a request is gone");
            }
            Some(Poll::Pending) => {
                assert!(!wild.finished && !wild.aborted, "an ended request is pending");
                wild.parked.insert(i);
            }
            Some(Poll::Ready(Some(bytes))) => {
                assert!(bytes.len() <= max && (max == 0 || !bytes.is_empty()));
                assert!(!wild.aborted, "output of an aborted request");
                assert!(!wild.parked.contains(&i), "no Readable after Pending");
                return true;
            }
            Some(Poll::Ready(None)) => {}
        }
        false
    }

    fn write(
        &mut self,
        conn: &mut Checked<ClientConnection>,
        key: RequestKey,
        input: Input,
        len: usize,
    ) {
        let mut bytes = Bytes::from(vec![b'w'; len]);
        let taken =
            conn.call(len, |conn| conn.request(key).map(|mut r| r.write(input, &mut bytes)));
        let wild = self.wild.get_mut(&key).expect("known");
        match taken {
            Some(Ok(taken)) => {
                assert!(!wild.finished && !wild.aborted, "input of an ended request");
                assert_eq!(taken, len - bytes.len());
                wild.blocked |= taken < len;
            }
            _ => assert_eq!(bytes.len(), len, "a write that failed took bytes"),
        }
    }

    fn abort(&mut self, conn: &mut Checked<ClientConnection>, key: RequestKey) {
        if conn.call(8, |conn| conn.request(key).map(|r| r.abort())).is_some() {
            let wild = self.wild.get_mut(&key).expect("known");
            wild.aborted = true;
            wild.parked.clear();
        }
    }

    fn settle(&mut self, conn: &mut Checked<ClientConnection>) {
        loop {
            let mut progress = false;
            while self.poll(conn) {
                progress = true;
            }
            progress |= !conn.transmit(usize::MAX).is_empty();
            if progress {
                continue;
            }
            let over = conn.is_over();
            for key in self.keys.clone() {
                for i in 0..2 {
                    while self.read(conn, key, i, usize::MAX) {}
                }
                let wild = &self.wild[&key];
                let ended = wild.finished || wild.aborted || over;
                // A request that was given up under `FullRequest::Abort` takes no more input.
                let refused = conn.call(0, |conn| {
                    conn.request(key).is_none_or(|mut request| {
                        let none = request.write(Input::Stdin, &mut Bytes::new());
                        none == Err(UsageError::RequestEnded)
                    })
                });
                assert!(!wild.blocked || ended || refused, "no Writable, and nothing is queued");
            }
            if !self.poll(conn) {
                return;
            }
        }
    }
}
