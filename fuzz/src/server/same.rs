//! An application whose actions depend only on what it receives.

use arbitrary::{Result, Unstructured};
use bytes::Bytes;
use fcgi_proto::{
    Connection, Output, Params, Rejection, RequestKey, Role, ServerConfig, ServerConnection,
    UsageError,
    server::{AbortReason, Event},
};

use super::INPUTS;
use crate::{
    checked::Checked,
    heap::{self, Owner},
    input::{Cuts, DISCONNECT},
    twice::{self, App, Known, Live, Log, pump},
    wire::Side,
};

/// What the application does.
pub(super) struct Plan {
    each: twice::Plan,
    shutdown_at: Option<u8>,
}

impl Plan {
    pub(super) fn new(u: &mut Unstructured<'_>, len: usize) -> Result<Self> {
        Ok(Self { each: twice::Plan::new(u, len)?, shutdown_at: u.arbitrary()? })
    }
}

#[derive(PartialEq, Debug)]
enum Seen {
    Request(usize, u16, Role, Params, bool),
    Aborted(usize, AbortReason),
}

struct Application<'a> {
    plan: &'a Plan,
    known: Known<Seen>,
}

/// Runs a conversation twice.
pub(super) fn run(config: ServerConfig, plan: &Plan, wire: &[u8], flags: u8, cuts: &mut Cuts) {
    twice::run(Side::Client, cuts, |cuts, known| {
        let mut conn = Checked::new(Owner::Server, config.limits, || ServerConnection::new(config));
        conn.requests = config.limits.requests;
        let mut app = Application { plan, known };
        twice::converse(&mut app, &mut conn, wire, cuts);
        app.end(conn, flags)
    });
}

impl Application<'_> {
    /// The peer sends no more, and every request is ended.
    fn end(mut self, mut conn: Checked<ServerConnection>, flags: u8) -> Log<Seen> {
        if flags & DISCONNECT == 0 {
            conn.call(0, |conn| conn.handle_eof());
        } else {
            conn.call(0, |conn| conn.handle_disconnect());
            conn.forget_queue();
        }
        pump(&mut self, &mut conn);
        if self.known.log.error.is_none() {
            self.check_after_eof(&mut conn);
        }
        let keys: Vec<_> = self.known.live.keys().copied().collect();
        for key in keys {
            self.finish(&mut conn, key, 7);
        }
        pump(&mut self, &mut conn);
        assert!(conn.get().is_closed(), "not closed after the end of file and of all requests");
        conn.misuse();
        conn.transmit(0);
        let mut log = self.known.log;
        log.closed = conn.get().is_closed();
        log.sent = std::mem::take(&mut conn.sent.log);
        drop(conn);
        assert_eq!(heap::live(Owner::Server), 0, "a leak");
        log
    }

    /// Reads all there is of a request, echoes it, ends it when its input has ended.
    fn serve(&mut self, conn: &mut Checked<ServerConnection>, key: RequestKey) {
        let max = self.plan.each.read_size;
        for (i, input) in INPUTS.into_iter().enumerate() {
            loop {
                let read = conn.call(0, |conn| conn.request(key).unwrap().read(input, max));
                let Some(bytes) = self.known.read(key, i, max, read) else { break };
                let action = self.known.live[&key].action;
                let output = if action & 16 == 0 { Output::Stdout } else { Output::Stderr };
                if action & 8 != 0 {
                    write_all(conn, key, output, Bytes::copy_from_slice(&bytes));
                }
            }
        }
        let live = &self.known.live[&key];
        if live.ended == [true; 2] && live.action % 8 != 7 {
            self.finish(conn, key, u32::from(live.action));
        }
    }

    fn finish(&mut self, conn: &mut Checked<ServerConnection>, key: RequestKey, status: u32) {
        let fails = self.known.live[&key].action % 8 == 6;
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
        self.known.live.remove(&key);
        assert!(conn.call(0, |conn| conn.request(key).is_none()), "a key outlives its request");
    }

    /// Nobody waits for input that can't come.
    fn check_after_eof(&mut self, conn: &mut Checked<ServerConnection>) {
        assert!(!conn.get().wants_read());
        for key in self.known.live.keys().copied() {
            for input in INPUTS {
                let read = conn.call(0, |conn| conn.request(key).unwrap().read(input, 1));
                assert!(read.is_ready(), "{input:?} is awaited after the end of file");
            }
        }
    }
}

impl App for Application<'_> {
    type Conn = ServerConnection;
    type Seen = Seen;

    fn known(&mut self) -> &mut Known<Seen> {
        &mut self.known
    }

    fn event(&mut self, conn: &mut Checked<ServerConnection>, event: Event) {
        match event {
            Event::Request { key, role, params, keep_conn } => {
                let known = &mut self.known;
                let number = known.count;
                known.count += 1;
                let action = self.plan.each.action(number);
                if let Some(model) = &mut known.model {
                    model.has_role(key.id(), role);
                    model.check_params(key.id(), &params);
                }
                known.see(Seen::Request(number, key.id(), role, params.clone(), keep_conn));
                let before = known.live.insert(key, Live::new(number, action));
                assert!(before.is_none(), "a key used twice");
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
                assert!(self.known.live.contains_key(&key), "Readable of no request");
                self.serve(conn, key);
            }
            Event::Aborted { key, reason } => {
                let live = self.known.live.get_mut(&key).expect("Aborted of a live request");
                assert!(!live.aborted, "aborted twice");
                live.aborted = true;
                let (number, action) = (live.number, live.action);
                self.known.see(Seen::Aborted(number, reason));
                assert!(conn.call(0, |conn| conn.request(key).unwrap().is_aborted()));
                if action & 64 == 0 {
                    self.finish(conn, key, 3);
                }
            }
            Event::Writable { key } => {
                assert!(self.known.live.contains_key(&key), "Writable of no request");
            }
        }
    }

    fn failed(&mut self, conn: &mut Checked<ServerConnection>) {
        for key in std::mem::take(&mut self.known.live).into_keys() {
            assert!(conn.call(0, |conn| conn.request(key).is_none()));
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
