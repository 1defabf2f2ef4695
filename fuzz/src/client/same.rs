//! A web server whose actions depend only on what it receives.

use std::task::Poll;

use arbitrary::{Result, Unstructured};
use bytes::Bytes;
use fcgi_proto::{
    BeginRequest, ClientConfig, ClientConnection, Connection, Input, Params, RequestKey, Role,
    UsageError, Values,
    client::{Event, Outcome},
};

use super::{OUTPUTS, ROLES};
use crate::{
    checked::Checked,
    heap::{self, Owner},
    input::{Cuts, DISCONNECT, filler},
    twice::{self, App, Known, Live, Log, pump},
    wire::Side,
};

/// What the web server does.
pub(super) struct Plan {
    each: twice::Plan,
    query: bool,
    /// Requests begun in all.
    total: usize,
}

impl Plan {
    pub(super) fn new(u: &mut Unstructured<'_>, len: usize) -> Result<Self> {
        let each = twice::Plan::new(u, len)?;
        Ok(Self { each, query: u.arbitrary()?, total: u.int_in_range(0..=20)? })
    }
}

#[derive(PartialEq, Debug)]
enum Seen {
    Begin(usize, Option<u16>),
    Finished(usize, Outcome),
    Values(Values),
    Unknown(u8),
}

struct WebServer<'a> {
    plan: &'a Plan,
    /// Bytes of each input stream, at most, so that little room is not filled too often.
    most_input: usize,
    known: Known<Seen>,
}

/// Runs a conversation twice.
pub(super) fn run(config: ClientConfig, plan: &Plan, wire: &[u8], flags: u8, cuts: &mut Cuts) {
    twice::run(Side::Server, cuts, |cuts, known| {
        let mut conn = Checked::new(Owner::Client, config.limits, || ClientConnection::new(config));
        let most_input = config.limits.send_high_water.saturating_mul(20);
        let mut app = WebServer { plan, most_input, known };
        if plan.query {
            conn.call(128, ClientConnection::query_values).expect("a new connection");
            let twice = conn.call(0, ClientConnection::query_values);
            assert_eq!(twice, Err(UsageError::QueryPending));
        }
        app.begin(&mut conn);
        twice::converse(&mut app, &mut conn, wire, cuts);
        app.end(conn, flags)
    });
}

impl WebServer<'_> {
    /// The peer sends no more.
    fn end(mut self, mut conn: Checked<ClientConnection>, flags: u8) -> Log<Seen> {
        self.known.log.can_begin = conn.get().can_begin();
        if flags & DISCONNECT == 0 {
            conn.call(0, |conn| conn.handle_eof());
            assert!(!conn.get().wants_read());
        }
        pump(&mut self, &mut conn);
        if flags & DISCONNECT == 0 && self.known.log.error.is_none() {
            assert!(conn.get().is_closed(), "not closed after the end of file");
            let finished = self.known.live.values().all(|live| live.finished);
            assert!(finished, "not finished at the end of file");
        }
        self.known.log.closed = conn.get().is_closed();
        conn.misuse();
        self.commands_after_the_end(&mut conn);
        let mut log = self.known.log;
        // An error drops what is queued, sent or not.
        if log.error.is_none() {
            log.sent = std::mem::take(&mut conn.sent.log);
        }
        drop(conn);
        assert_eq!(heap::live(Owner::Client), 0, "a leak");
        log
    }

    /// Begins as many requests as the plan and the connection have.
    fn begin(&mut self, conn: &mut Checked<ClientConnection>) {
        while self.known.count < self.plan.total {
            let number = self.known.count;
            let action = self.plan.each.action(number);
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
            let known = &mut self.known;
            known.count += 1;
            known.see(Seen::Begin(number, Some(key.id())));
            if let Some(model) = &mut known.model {
                model.begin(key.id());
            }
            assert!(known.live.keys().all(|other| other.id() != key.id()), "an id used twice");
            known.live.insert(key, Live::new(number, action));
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

    fn abort(&mut self, conn: &mut Checked<ClientConnection>, key: RequestKey) {
        for _ in 0..2 {
            conn.call(8, |conn| conn.request(key).unwrap().abort());
        }
        for output in OUTPUTS {
            let read = conn.call(0, |conn| conn.request(key).unwrap().read(output, 9));
            assert_eq!(read, Poll::Ready(None), "output of an aborted request");
        }
        self.known.live.get_mut(&key).expect("live").aborted = true;
    }

    fn read(&mut self, conn: &mut Checked<ClientConnection>, key: RequestKey) {
        let max = self.plan.each.read_size;
        for (i, output) in OUTPUTS.into_iter().enumerate() {
            loop {
                let read = conn.call(0, |conn| match conn.request(key) {
                    Some(mut request) => request.read(output, max),
                    None => Poll::Ready(None),
                });
                if self.known.read(key, i, max, read).is_none() {
                    break;
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
        for key in self.known.live.keys().copied() {
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

impl App for WebServer<'_> {
    type Conn = ClientConnection;
    type Seen = Seen;

    fn known(&mut self) -> &mut Known<Seen> {
        &mut self.known
    }

    fn event(&mut self, conn: &mut Checked<ClientConnection>, event: Event) {
        match event {
            Event::Readable { key, .. } => {
                let live = self.known.live.get(&key).expect("Readable of a live request");
                assert!(!live.finished, "Readable after the end");
                if live.action & 24 == 8 && !live.aborted {
                    self.abort(conn, key);
                } else {
                    self.read(conn, key);
                }
            }
            Event::Writable { key } => {
                assert!(self.known.live.contains_key(&key), "Writable of no request");
            }
            Event::Finished { key, outcome } => {
                let live = self.known.live.get_mut(&key).expect("Finished of a live request");
                assert!(!live.finished, "finished twice");
                live.finished = true;
                let number = live.number;
                self.known.see(Seen::Finished(number, outcome));
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
                self.known.live.remove(&key);
                self.begin(conn);
            }
            Event::Values(values) => self.known.see(Seen::Values(values)),
            Event::UnknownType(number) => self.known.see(Seen::Unknown(number)),
        }
        // What is queued when END_REQUEST comes decides on reuse.
        conn.transmit(usize::MAX);
    }

    fn failed(&mut self, _: &mut Checked<ClientConnection>) {}
}
