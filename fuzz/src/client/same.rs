//! The same conversation, cut two ways: a web server that sees the same does the same, and all that
//! it sees and sends is the same. Once the cuts are those of the records, and a model knows what
//! each byte is.

use std::collections::BTreeMap;
use std::task::Poll;

use arbitrary::{Result, Unstructured};
use bytes::Bytes;
use fcgi_proto::{
    BeginRequest, ClientConfig, ClientConnection, Connection, Input, Output, Params, ProtocolError,
    RequestKey, Role, UsageError, Values,
    client::{Event, Outcome},
};

use super::{OUTPUTS, ROLES};
use crate::{
    checked::Checked,
    heap::{self, Owner},
    input::{Cuts, DISCONNECT, MOST_STEPS, filler},
    model::Model,
    wire::{self, Side},
};

/// What is done with each request, by its number; nothing in it depends on time.
pub(super) struct Plan {
    actions: Vec<u8>,
    read_size: usize,
    query: bool,
    /// Requests begun in all.
    total: usize,
}

impl Plan {
    pub(super) fn new(u: &mut Unstructured<'_>, len: usize) -> Result<Self> {
        let actions =
            (0..u.int_in_range(1..=4u8)?).map(|_| u.arbitrary()).collect::<Result<_>>()?;
        let read_size = (*u.choose(&[usize::MAX, usize::MAX, 1, 100])?).max(len / MOST_STEPS);
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

/// Runs a conversation twice.
pub(super) fn run(config: ClientConfig, plan: &Plan, wire: &[u8], flags: u8, cuts: &mut Cuts) {
    let by_piece = whole(config, plan, wire, flags, None);
    let by_cuts = whole(config, plan, wire, flags, Some(cuts));
    for (a, b) in by_piece.seen.iter().zip(&by_cuts.seen) {
        assert_eq!(a, b, "the cut matters");
    }
    assert_eq!(by_piece, by_cuts, "the cut matters");
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
        model: cuts.is_none().then(|| Model::new(Side::Server)),
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
            model.check_all_read(key.id(), live.ended);
        }
    }
    app.log.reusable = conn.get().is_reusable();
    app.log.can_begin = conn.get().can_begin();
    if flags & DISCONNECT == 0 {
        conn.call(0, |conn| conn.handle_eof());
        assert!(!conn.get().wants_read());
    }
    app.pump(&mut conn);
    if flags & DISCONNECT == 0 && app.log.error.is_none() {
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
                model.begin(key.id());
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
            let mut bytes = filler(len);
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
