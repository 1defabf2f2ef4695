//! `pair_ops`: an in-memory client and server, and random calls on both.
//!
//! Every byte of a stream follows from its request, its stream and its position, so that a byte
//! that is lost, doubled, out of order or in a wrong request is noticed at once.

use std::collections::BTreeMap;
use std::sync::LazyLock;
use std::task::Poll;

use arbitrary::{Result, Unstructured};
use bytes::Bytes;
use fcgi_proto::{
    BeginRequest, ClientConfig, ClientConnection, Connection, FullRequest, Input, Limits, Output,
    Params, Rejection, RequestKey, Role, ServerConfig, ServerConnection, client, client::Outcome,
    server,
};

use crate::{
    checked::Checked,
    heap::{self, Owner},
    input,
};

const INPUTS: [Input; 2] = [Input::Stdin, Input::Data];
const OUTPUTS: [Output; 2] = [Output::Stdout, Output::Stderr];
const ROLES: [Role; 4] = [Role::Responder, Role::Responder, Role::Authorizer, Role::Filter];
/// Requests in all; bytes of one stream that are written before the end begins.
const MOST_REQUESTS: usize = 24;
const MOST_BYTES: usize = 140_000;

/// Runs one input: all of it draws limits and calls.
pub fn run(data: &[u8]) {
    heap::reset();
    let _ = all(&mut Unstructured::new(data));
}

fn all(u: &mut Unstructured<'_>) -> Result<()> {
    let mut client_limits = Limits::client();
    client_limits.requests = *u.choose(&[1, 2, 4, 12])?;
    // How streams are cut into records is ours to draw: no flood of small ones.
    let limits = |u: &mut Unstructured<'_>, limits| {
        input::limits(u, limits).map(|mut limits| {
            (limits.idle_records, limits.tiny_records) = (u32::MAX, u32::MAX);
            limits.stray_bytes = usize::MAX;
            limits
        })
    };
    let client = limits(u, client_limits)?;
    let server = ServerConfig {
        limits: limits(u, Limits::server())?,
        rejection_body: u.arbitrary()?,
        ..ServerConfig::default()
    };
    Pair::new(client, server).go(u)
}

/// One request, as both ends know it.
#[derive(Default, Debug)]
struct Both {
    client: Option<RequestKey>,
    server: Option<RequestKey>,
    role: usize,
    /// Bytes that the sender's connection took, bytes that the receiver read: STDIN, DATA,
    /// STDOUT, STDERR.
    written: [usize; 4],
    read: [usize; 4],
    /// Bytes that the client's end read, of a page that refuses the request too.
    received: usize,
    finished_input: [bool; 2],
    aborted_by_client: bool,
    aborted_at_server: bool,
    /// The server's application has answered.
    answer: Option<Outcome>,
    outcome: Option<Outcome>,
}

struct Pair {
    client: Checked<ClientConnection>,
    server: Checked<ServerConnection>,
    client_limits: Limits,
    server_limits: Limits,
    /// Bytes of one stream, so that little room is not filled too often.
    most_bytes: usize,
    to_server: Vec<u8>,
    to_client: Vec<u8>,
    requests: Vec<Both>,
    by_client: BTreeMap<RequestKey, usize>,
    by_server: BTreeMap<RequestKey, usize>,
    all_keep: bool,
    queries: usize,
    values: usize,
    shut: bool,
}

/// The bytes at a position of a request's stream: a part of one long noise.
fn expected(request: usize, stream: usize, from: usize, len: usize) -> &'static [u8] {
    static NOISE: LazyLock<Vec<u8>> = LazyLock::new(|| {
        let mut state = 0x9e37_79b9_7f4a_7c15_u64;
        let next = |_| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state as u8
        };
        (0..2 * MOST_BYTES).map(next).collect()
    });
    let at = from + (request * 4 + stream) * 1009;
    &NOISE[at..at + len]
}

fn bytes(request: usize, stream: usize, from: usize, len: usize) -> Bytes {
    Bytes::from_static(expected(request, stream, from, len))
}

impl Pair {
    fn new(client: Limits, config: ServerConfig) -> Self {
        let mut server =
            Checked::new(Owner::Server, config.limits, || ServerConnection::new(config));
        server.requests = config.limits.requests.min(MOST_REQUESTS);
        Self {
            client: Checked::new(Owner::Client, client, || {
                ClientConnection::new(ClientConfig { limits: client })
            }),
            server,
            client_limits: client,
            server_limits: config.limits,
            most_bytes: [client, config.limits]
                .map(|l| l.recv_buffer.min(l.unread_request).min(l.unread_connection))
                .into_iter()
                .fold(MOST_BYTES, |most, room| most.min(room.saturating_mul(60))),
            to_server: Vec::new(),
            to_client: Vec::new(),
            requests: Vec::new(),
            by_client: BTreeMap::new(),
            by_server: BTreeMap::new(),
            all_keep: true,
            queries: 0,
            values: 0,
            shut: false,
        }
    }

    fn go(mut self, u: &mut Unstructured<'_>) -> Result<()> {
        while !u.is_empty() {
            let op: u8 = u.arbitrary()?;
            let at = usize::from(op >> 4);
            let which = (!self.requests.is_empty()).then(|| {
                let n = self.requests.len();
                n - 1 - at % n
            });
            let side = at % 2;
            match (op % 16, which) {
                (0 | 1, _) => self.begin(at, u.arbitrary()?),
                (2, _) => self.send(true, size(u)?),
                (3, _) => self.send(false, size(u)?),
                (4, _) => drop(self.deliver(true, size(u)?)),
                (5, _) => drop(self.deliver(false, size(u)?)),
                (6, _) => drop(self.poll_client()),
                (7, _) => drop(self.poll_server()),
                (8, Some(i)) => self.write_input(i, side, size(u)?),
                (9, Some(i)) => self.write_output(i, side, size(u)?),
                (10, Some(i)) => self.read_input(i, side, size(u)?),
                (11, Some(i)) => self.read_output(i, side, size(u)?),
                (12, Some(i)) => self.finish_input(i, side),
                (13, Some(i)) => self.answer(i, u.arbitrary()?),
                (14, Some(i)) => match u.int_in_range(0..=7u8)? {
                    0 | 1 => self.abort(i),
                    2 => self.query(),
                    3 if at == 9 => {
                        self.shut = true;
                        self.server.call(0, |conn| conn.shutdown());
                    }
                    4 => self.client.misuse(),
                    5 => self.server.misuse(),
                    _ => {}
                },
                (15, _) => {
                    self.pump();
                }
                _ => {}
            }
        }
        self.end();
        Ok(())
    }

    fn begin(&mut self, role: usize, flags: u8) {
        if self.requests.len() >= MOST_REQUESTS {
            return;
        }
        let number = self.requests.len();
        let keep_conn = flags != 7;
        let mut params = Params::new();
        params.push("NUMBER", number.to_string());
        // Not more than any server takes.
        if self.server_limits.params_pairs > 1 && self.server_limits.params_bytes > 500 {
            params.push("LONG", vec![b'l'; usize::from(flags)]);
        }
        self.client.requests += 1;
        let request = BeginRequest { role: ROLES[role % 4], keep_conn, params };
        let can = self.client.get().can_begin();
        let key = self.client.call(512, |conn| conn.begin(request));
        assert_eq!(key.is_ok(), can);
        let Ok(key) = key else { return };
        self.all_keep &= keep_conn;
        assert!(self.by_client.insert(key, number).is_none(), "a key used twice");
        self.requests.push(Both { client: Some(key), role: role % 4, ..Both::default() });
    }

    fn query(&mut self) {
        if self.client.call(128, ClientConnection::query_values).is_ok() {
            self.queries += 1;
        }
    }

    fn write_input(&mut self, i: usize, stream: usize, len: usize) {
        let request = &mut self.requests[i];
        let Some(key) = request.client else { return };
        let len = len.min(self.most_bytes.saturating_sub(request.written[stream]));
        let mut bytes = bytes(i, stream, request.written[stream], len);
        let taken = self.client.call(len, |conn| {
            conn.request(key).map_or(Ok(0), |mut r| r.write(INPUTS[stream], &mut bytes))
        });
        match taken {
            Ok(taken) => request.written[stream] += taken,
            Err(_) => assert_eq!(bytes.len(), len),
        }
    }

    fn finish_input(&mut self, i: usize, stream: usize) {
        let request = &mut self.requests[i];
        let Some(key) = request.client else { return };
        let done = self.client.call(8, |conn| {
            conn.request(key).is_some_and(|mut r| r.finish(INPUTS[stream]).is_ok())
        });
        request.finished_input[stream] |= done;
    }

    fn abort(&mut self, i: usize) {
        let request = &mut self.requests[i];
        let Some(key) = request.client else { return };
        if self.client.call(8, |conn| conn.request(key).map(|r| r.abort())).is_some() {
            request.aborted_by_client = true;
        }
    }

    fn read_output(&mut self, i: usize, stream: usize, max: usize) {
        let request = &mut self.requests[i];
        let Some(key) = request.client else { return };
        let read = self.client.call(0, |conn| {
            conn.request(key).map_or(Poll::Ready(None), |mut r| r.read(OUTPUTS[stream], max))
        });
        if let Poll::Ready(Some(bytes)) = read {
            assert!(!request.aborted_by_client, "output of an aborted request");
            request.received += bytes.len();
            // A refused request has the page of its refusal.
            let refused = matches!(request.answer, Some(Outcome::Rejected(_)));
            if request.server.is_some() && !refused {
                request.check(i, 2 + stream, &bytes);
            }
        }
    }

    fn write_output(&mut self, i: usize, stream: usize, len: usize) {
        let request = &mut self.requests[i];
        let Some(key) = request.server else { return };
        if request.answer.is_some() {
            return;
        }
        let len = len.min(self.most_bytes.saturating_sub(request.written[2 + stream]));
        let mut bytes = bytes(i, 2 + stream, request.written[2 + stream], len);
        let taken = self
            .server
            .call(len, |conn| conn.request(key).expect("live").write(OUTPUTS[stream], &mut bytes));
        request.written[2 + stream] += taken.expect("the connection stands");
    }

    fn read_input(&mut self, i: usize, stream: usize, max: usize) {
        let request = &mut self.requests[i];
        let Some(key) = request.server else { return };
        if request.answer.is_some() {
            return;
        }
        let read =
            self.server.call(0, |conn| conn.request(key).expect("live").read(INPUTS[stream], max));
        match read {
            Poll::Ready(Some(bytes)) => {
                assert!(!request.aborted_at_server, "input of an aborted request");
                request.check(i, stream, &bytes);
            }
            Poll::Ready(None) => {
                let aborted =
                    self.server.call(0, |conn| conn.request(key).expect("live").is_aborted());
                if !aborted && ROLES[request.role].has_input(INPUTS[stream]) {
                    assert!(request.finished_input[stream], "an end that was not sent");
                    assert_eq!(request.read[stream], request.written[stream], "bytes are missing");
                }
            }
            Poll::Pending => {}
        }
    }

    fn answer(&mut self, i: usize, status: u32) {
        let request = &mut self.requests[i];
        let Some(key) = request.server else { return };
        if request.answer.is_some() {
            assert!(self.server.call(0, |conn| conn.request(key).is_none()), "a stale key");
            return;
        }
        let no_output = request.written[2] == 0;
        let answer = self.server.call(300, |conn| {
            let request = conn.request(key).expect("live");
            if status % 5 == 4 && no_output {
                request
                    .reject(Rejection::Overloaded)
                    .map(|()| Outcome::Rejected(Rejection::Overloaded))
            } else {
                request.finish(status).map(|()| Outcome::Complete { app_status: status })
            }
        });
        request.answer = Some(answer.expect("live"));
    }

    fn send(&mut self, from_client: bool, max: usize) {
        if from_client {
            self.to_server.extend(self.client.transmit(max));
        } else {
            self.to_client.extend(self.server.transmit(max));
        }
    }

    fn deliver(&mut self, to_server: bool, max: usize) -> usize {
        let pipe = if to_server { &mut self.to_server } else { &mut self.to_client };
        let n = max.min(pipe.len());
        if n == 0 {
            return 0;
        }
        let n = if to_server { self.server.feed(&pipe[..n]) } else { self.client.feed(&pipe[..n]) };
        pipe.drain(..n);
        n
    }

    fn poll_client(&mut self) -> bool {
        let event = self.client.poll().expect("our own server keeps the protocol");
        match event {
            None => return false,
            Some(client::Event::Finished { key, outcome }) => {
                let i = self.by_client[&key];
                let request = &mut self.requests[i];
                assert!(request.outcome.replace(outcome).is_none(), "finished twice");
                if let Some(answer) = request.answer {
                    let overrun = outcome == Outcome::Overrun
                        && self.client_limits.full_request == FullRequest::Abort;
                    assert!(outcome == answer || overrun, "{outcome:?} instead of {answer:?}");
                }
                if outcome == Outcome::Overrun {
                    request.aborted_by_client = true;
                }
            }
            Some(client::Event::Readable { key, output }) => {
                let request = &self.requests[self.by_client[&key]];
                assert!(request.outcome.is_none(), "{output:?} readable after the end");
            }
            Some(client::Event::Writable { key }) => assert!(self.by_client.contains_key(&key)),
            Some(client::Event::Values(values)) => {
                self.values += 1;
                let mpxs = self.server_limits.requests > 1;
                assert_eq!(values.mpxs_conns, Some(mpxs));
            }
            Some(client::Event::UnknownType(kind)) => panic!("unknown type {kind}"),
        }
        true
    }

    fn poll_server(&mut self) -> bool {
        let event = self.server.poll().expect("our own client keeps the protocol");
        match event {
            None => return false,
            Some(server::Event::Request { key, role, params, .. }) => {
                let number = params.get_str("NUMBER").and_then(|number| number.parse().ok());
                let i: usize = number.expect("the request's number");
                assert!(self.by_server.insert(key, i).is_none(), "a key used twice");
                let request = &mut self.requests[i];
                assert!(request.server.replace(key).is_none(), "a request came twice");
                assert_eq!(role, ROLES[request.role]);
                assert_eq!(request.client.map(RequestKey::id), Some(key.id()));
            }
            Some(server::Event::Readable { key, .. } | server::Event::Writable { key }) => {
                assert!(self.requests[self.by_server[&key]].answer.is_none(), "a stale event");
            }
            Some(server::Event::Aborted { key, reason }) => {
                let request = &mut self.requests[self.by_server[&key]];
                assert!(request.answer.is_none() && !request.aborted_at_server);
                request.aborted_at_server = true;
                let asked = reason == server::AbortReason::Requested;
                let overrun = reason == server::AbortReason::Overrun
                    && self.server_limits.full_request == FullRequest::Abort;
                assert!(asked || overrun, "{reason:?}");
            }
        }
        true
    }

    /// Moves everything that moves by itself; true if anything did.
    fn pump(&mut self) -> bool {
        let mut moved = false;
        loop {
            let mut progress = false;
            while self.poll_client() {
                progress = true;
            }
            while self.poll_server() {
                progress = true;
            }
            let before = self.to_server.len() + self.to_client.len();
            self.send(true, usize::MAX);
            self.send(false, usize::MAX);
            progress |= self.to_server.len() + self.to_client.len() > before;
            progress |= self.deliver(true, usize::MAX) > 0;
            progress |= self.deliver(false, usize::MAX) > 0;
            if !progress {
                return moved;
            }
            moved = true;
        }
    }

    /// Every request ends, every byte arrives, and both ends become idle or close.
    fn end(&mut self) {
        for i in 0..self.requests.len() {
            for stream in 0..2 {
                self.finish_input(i, stream);
            }
        }
        loop {
            let mut progress = self.pump();
            for i in 0..self.requests.len() {
                for stream in 0..2 {
                    let before = (self.requests[i].read, self.requests[i].received);
                    self.read_input(i, stream, usize::MAX);
                    self.read_output(i, stream, usize::MAX);
                    progress |= before != (self.requests[i].read, self.requests[i].received);
                }
            }
            if progress {
                continue;
            }
            let waiting: Vec<usize> = (0..self.requests.len())
                .filter(|i| {
                    self.requests[*i].server.is_some() && self.requests[*i].answer.is_none()
                })
                .collect();
            if waiting.is_empty() {
                break;
            }
            for i in waiting {
                self.check_input(i);
                self.answer(i, 0);
            }
        }
        self.pump();
        let closed = self.server.get().is_closed();
        for (i, request) in self.requests.iter().enumerate() {
            let unheard = closed && request.server.is_none();
            assert!(request.outcome.is_some() || unheard, "request {i} has not ended: {request:?}");
            // The output of a refused request can't be distinguished from the error page.
            let refused = matches!(request.answer, Some(Outcome::Rejected(_)));
            let whole = request.outcome.is_some() && !request.aborted_by_client && !refused;
            if whole && request.server.is_some() {
                for stream in 2..4 {
                    let all = request.written[stream];
                    assert_eq!(request.read[stream], all, "output of {i} is missing: {request:?}");
                }
            }
        }
        if !closed {
            assert!(self.all_keep && !self.shut, "not closed");
            assert_eq!(self.values, self.queries, "GET_VALUES without an answer");
            assert!(self.server.get().is_reusable(), "the server is not at rest");
            assert_eq!(self.client.get().active_requests(), 0);
            assert!(self.to_server.is_empty(), "sent and not read");
            // A client that has closed, since a request ended while its input was under way
            // leaves padding unread.
            let unread = &self.to_client;
            let padding = unread.len() < 8 && unread.iter().all(|byte| *byte == 0);
            assert!(unread.is_empty() || padding && self.client.get().is_closed(), "{unread:?}");
            for live in [heap::live(Owner::Client), heap::live(Owner::Server)] {
                assert!(live <= 1024, "{live} bytes at rest");
            }
        }
        self.server.call(0, |conn| conn.handle_disconnect());
        self.server.forget_queue();
        self.client.call(0, |conn| conn.handle_eof());
        while self.poll_client() {}
        assert!(self.server.get().is_closed() && self.client.get().is_closed());
        assert!(self.requests.iter().all(|request| request.outcome.is_some()));
    }

    /// Checked before an answer at the end: all input has arrived, unless the request was aborted.
    fn check_input(&self, i: usize) {
        let request = &self.requests[i];
        let given_up = request.aborted_by_client || request.aborted_at_server;
        if given_up || self.server.get().is_closed() || request.outcome.is_some() {
            return;
        }
        for (stream, input) in INPUTS.into_iter().enumerate() {
            if ROLES[request.role].has_input(input) {
                let all = request.written[stream];
                assert_eq!(request.read[stream], all, "input of {i} is missing");
            }
        }
    }
}

impl Both {
    fn check(&mut self, i: usize, stream: usize, bytes: &[u8]) {
        let from = self.read[stream];
        assert!(bytes == expected(i, stream, from, bytes.len()), "stream {stream} from {from}");
        self.read[stream] += bytes.len();
        assert!(self.read[stream] <= self.written[stream], "more was read than written");
    }
}

fn size(u: &mut Unstructured<'_>) -> Result<usize> {
    Ok(match u.arbitrary::<u8>()? {
        n @ 0..=127 => usize::from(n),
        n @ 128..=223 => usize::from(n) * 40,
        n @ 224..=250 => usize::from(n) * 80,
        n => usize::from(n) * 280,
    })
}
