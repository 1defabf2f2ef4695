//! A client and a server, connected in memory, with up to 50 requests at once: whatever the order
//! of calls and the cuts on the wire, every byte arrives in order at the request that it belongs
//! to (H-11), and both ends come to rest.

mod support;

use std::{collections::HashMap, task::Poll};

use bytes::Bytes;
use fcgi_proto::{
    BeginRequest, ClientConfig, ClientConnection, Connection, Input, Limits, Output, Params,
    RequestKey, Role, ServerConfig, ServerConnection,
    client::{self, Outcome},
    server,
};
use proptest::prelude::*;
use support::*;

/// Small, quick and reproducible (xorshift64*).
struct Rng(u64);

impl Rng {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 16
    }

    fn below(&mut self, n: usize) -> usize {
        (self.next() % n.max(1) as u64) as usize
    }

    fn one_in(&mut self, n: usize) -> bool {
        self.below(n) == 0
    }

    /// Mostly small, at times large.
    fn size(&mut self) -> usize {
        match self.below(8) {
            0 => 1,
            1..=4 => self.below(300),
            5 | 6 => self.below(6000),
            _ => self.below(70_000),
        }
    }
}

/// The byte at `at` of a stream of request `n`: no other stream of any request looks the same.
fn byte(n: usize, stream: usize, at: usize) -> u8 {
    let x = (n as u64 * 4 + stream as u64 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15)
        ^ (at as u64).wrapping_mul(0xd6e8_feb8_6659_fd93);
    (x.wrapping_mul(0xff51_afd7_ed55_8ccd) >> 56) as u8
}

const STDIN_: usize = 0;
const DATA_: usize = 1;
const STDOUT_: usize = 2;
const STDERR_: usize = 3;

fn check(n: usize, stream: usize, at: &mut usize, bytes: &[u8]) {
    for b in bytes {
        assert_eq!(*b, byte(n, stream, *at), "request {n}, stream {stream}, byte {at}");
        *at += 1;
    }
}

/// Writes as much of a stream as `write` takes of the next `most` bytes.
fn write(
    (n, stream): (usize, usize),
    at: &mut usize,
    end: usize,
    most: usize,
    write: impl FnOnce(&mut Bytes) -> usize,
) {
    let len = (end - *at).min(most);
    let mut bytes: Bytes = (*at..*at + len).map(|at| byte(n, stream, at)).collect();
    let taken = write(&mut bytes);
    assert_eq!(taken + bytes.len(), len);
    *at += taken;
}

/// One request, as both ends mean it to be and as it went.
struct Plan {
    role: Role,
    keep_conn: bool,
    /// Bytes of STDIN, DATA, STDOUT and STDERR.
    len: [usize; 4],
    /// The client gives up once it has written or read that much.
    abort_at: Option<usize>,
    /// The application finishes without having read more than that.
    early: Option<usize>,
    /// Bytes written and read of each stream, and ends read.
    written: [usize; 4],
    read: [usize; 4],
    ended: [bool; 4],
    /// Input streams closed by the client.
    closed: [bool; 2],
    client: Option<RequestKey>,
    outcome: Option<Outcome>,
    aborted: bool,
    told_aborted: bool,
    server: Option<RequestKey>,
    answered: bool,
}

impl Plan {
    fn new(rng: &mut Rng) -> Self {
        let role = [Role::Responder, Role::Responder, Role::Authorizer, Role::Filter][rng.below(4)];
        let mut len = [rng.size(), rng.size(), rng.size(), 0];
        if rng.one_in(3) {
            len[STDERR_] = rng.size() / 4;
        }
        for (i, input) in [Input::Stdin, Input::Data].into_iter().enumerate() {
            if !role.has_input(input) || rng.one_in(5) {
                len[i] = 0;
            }
        }
        Self {
            role,
            keep_conn: true,
            len,
            abort_at: rng.one_in(6).then(|| rng.size()),
            early: rng.one_in(6).then(|| rng.size()),
            written: [0; 4],
            read: [0; 4],
            ended: [false; 4],
            closed: [false; 2],
            client: None,
            outcome: None,
            aborted: false,
            told_aborted: false,
            server: None,
            answered: false,
        }
    }
}

struct World {
    rng: Rng,
    client: ClientConnection,
    server: ServerConnection,
    to_server: Vec<u8>,
    to_client: Vec<u8>,
    plans: Vec<Plan>,
    begun: usize,
    by_client: HashMap<RequestKey, usize>,
    by_server: HashMap<RequestKey, usize>,
}

const INPUTS: [Input; 2] = [Input::Stdin, Input::Data];
const OUTPUTS: [Output; 2] = [Output::Stdout, Output::Stderr];

impl World {
    fn new(seed: u64, requests: usize, at_once: usize, closing: bool, tight: bool) -> Self {
        let mut rng = Rng(seed | 1);
        let limits = |mut limits: Limits| {
            limits.requests = at_once;
            limits.tombstones = requests;
            if tight {
                limits.recv_buffer = 512;
                limits.unread_request = 700;
                limits.unread_connection = 1500;
                limits.send_high_water = 2000;
                limits.reply_bytes = 64;
            }
            limits
        };
        let client = ClientConfig { limits: limits(Limits::client()) };
        let server = ServerConfig { limits: limits(Limits::server()), ..ServerConfig::default() };
        let mut plans: Vec<Plan> = (0..requests).map(|_| Plan::new(&mut rng)).collect();
        if closing {
            plans[requests - 1].keep_conn = false;
        }
        Self {
            rng,
            client: ClientConnection::new(client),
            server: ServerConnection::new(server),
            to_server: Vec::new(),
            to_client: Vec::new(),
            plans,
            begun: 0,
            by_client: HashMap::new(),
            by_server: HashMap::new(),
        }
    }

    fn begin(&mut self) {
        if self.begun == self.plans.len() || !self.client.can_begin() {
            return;
        }
        let n = self.begun;
        let plan = &mut self.plans[n];
        let mut params = Params::from_iter([("N", n.to_string())]);
        for i in 0..self.rng.below(20) {
            params.push(format!("NAME_{i}_{n}"), vec![byte(n, 0, i); self.rng.below(200)]);
        }
        let begin = BeginRequest { role: plan.role, keep_conn: plan.keep_conn, params };
        let key = self.client.begin(begin).unwrap();
        plan.client = Some(key);
        assert_eq!(self.by_client.insert(key, n), None, "keys are used once");
        self.begun += 1;
    }

    /// Something that the client's side may do with request `n`.
    fn client_step(&mut self, n: usize) {
        let plan = &mut self.plans[n];
        let Some(key) = plan.client else { return };
        let Some(mut request) = self.client.request(key) else {
            assert!(plan.outcome.is_some());
            return;
        };
        let most = self.rng.size();
        match self.rng.below(2) {
            0 if plan.outcome.is_none() && !plan.aborted => {
                let Some(i) = (0..2).find(|i| plan.role.has_input(INPUTS[*i]) && !plan.closed[*i])
                else {
                    return;
                };
                write((n, i), &mut plan.written[i], plan.len[i], most, |bytes| {
                    request.write(INPUTS[i], bytes).unwrap()
                });
                if plan.written[i] == plan.len[i] {
                    request.finish(INPUTS[i]).unwrap();
                    plan.closed[i] = true;
                }
            }
            _ => {
                let i = self.rng.below(2);
                match request.read(OUTPUTS[i], most) {
                    Poll::Ready(Some(bytes)) => {
                        assert!(!plan.aborted, "nothing comes after an abort");
                        assert!(bytes.len() <= most);
                        check(n, 2 + i, &mut plan.read[2 + i], &bytes);
                    }
                    Poll::Ready(None) => plan.ended[2 + i] = true,
                    Poll::Pending => assert!(plan.outcome.is_none()),
                }
            }
        }
        let done = plan.written[STDIN_] + plan.read[STDOUT_];
        if plan.abort_at.is_some_and(|at| done >= at) && !plan.aborted && plan.outcome.is_none() {
            self.client.request(key).unwrap().abort();
            plan.aborted = true;
        }
    }

    /// Something that the application may do with request `n`.
    fn server_step(&mut self, n: usize) {
        let plan = &mut self.plans[n];
        let Some(key) = plan.server else { return };
        let Some(mut request) = self.server.request(key) else {
            assert!(plan.answered);
            return;
        };
        let most = self.rng.size();
        let stdin = plan.read[STDIN_];
        if plan.told_aborted || plan.early.is_some_and(|at| stdin >= at) {
            // It writes nothing more.
            plan.len[STDOUT_] = plan.written[STDOUT_];
            plan.len[STDERR_] = plan.written[STDERR_];
            request.finish(n as u32).unwrap();
            plan.answered = true;
            return;
        }
        if self.rng.one_in(2) {
            let i = self.rng.below(2);
            match request.read(INPUTS[i], most) {
                Poll::Ready(Some(bytes)) => {
                    assert!(bytes.len() <= most);
                    check(n, i, &mut plan.read[i], &bytes);
                }
                Poll::Ready(None) if request.is_aborted() => {}
                Poll::Ready(None) => plan.ended[i] = true,
                Poll::Pending => assert!(!request.is_input_complete()),
            }
            return;
        }
        let i = 2 + self.rng.below(2);
        write((n, i), &mut plan.written[i], plan.len[i], most, |bytes| {
            request.write(OUTPUTS[i - 2], bytes).unwrap()
        });
        let all_read = plan.ended[STDIN_] && plan.ended[DATA_];
        let all_written = plan.written[2..] == plan.len[2..];
        if all_read && all_written && !request.is_aborted() {
            assert!(request.is_input_complete());
            request.finish(n as u32).unwrap();
            plan.answered = true;
        }
    }

    fn client_events(&mut self, most: usize) {
        for _ in 0..most {
            match self.client.poll_event().unwrap() {
                None => break,
                Some(client::Event::Finished { key, outcome }) => {
                    let plan = &mut self.plans[self.by_client[&key]];
                    assert_eq!(plan.outcome.replace(outcome), None, "finished twice");
                }
                Some(client::Event::Readable { key, .. } | client::Event::Writable { key }) => {
                    assert!(self.by_client.contains_key(&key));
                }
                Some(event) => panic!("{event:?}"),
            }
        }
    }

    fn server_events(&mut self, most: usize) {
        for _ in 0..most {
            match self.server.poll_event().unwrap() {
                None => break,
                Some(server::Event::Request { key, role, params, keep_conn }) => {
                    let n: usize = params.get_str("N").unwrap().parse().unwrap();
                    let plan = &mut self.plans[n];
                    assert_eq!((role, keep_conn), (plan.role, plan.keep_conn));
                    assert_eq!(plan.client.map(RequestKey::id), Some(key.id()));
                    for (i, (name, value)) in params.iter().skip(1).enumerate() {
                        assert_eq!(name, format!("NAME_{i}_{n}").as_bytes());
                        assert!(value.iter().all(|b| *b == byte(n, 0, i)));
                    }
                    assert_eq!(plan.server.replace(key), None, "began twice");
                    assert_eq!(self.by_server.insert(key, n), None, "keys are used once");
                }
                Some(server::Event::Aborted { key, reason }) => {
                    let plan = &mut self.plans[self.by_server[&key]];
                    assert_eq!(reason, server::AbortReason::Requested);
                    assert!(plan.aborted && !plan.told_aborted);
                    plan.told_aborted = true;
                }
                Some(event) => {
                    let (server::Event::Readable { key, .. } | server::Event::Writable { key }) =
                        event
                    else {
                        panic!("{event:?}")
                    };
                    assert!(self.by_server.contains_key(&key));
                }
            }
        }
    }

    fn step(&mut self) {
        let n = self.rng.below(self.begun);
        let size = self.rng.size();
        match self.rng.below(12) {
            0 => self.begin(),
            1..=3 if self.begun > 0 => self.client_step(n),
            4..=6 if self.begun > 0 => self.server_step(n),
            7 => drop(transmit(&mut self.client, size, &mut self.to_server)),
            8 => drop(transmit(&mut self.server, size, &mut self.to_client)),
            9 => deliver(&mut self.to_server, &mut self.server, size),
            10 => deliver(&mut self.to_client, &mut self.client, size),
            _ => {
                let most = self.rng.below(6);
                self.client_events(most);
                self.server_events(most);
            }
        }
    }

    /// Lets everything run, in order, until nothing more happens.
    fn settle(&mut self) {
        for _ in 0..20_000 {
            self.begin();
            for n in 0..self.begun {
                for _ in 0..4 {
                    self.client_step(n);
                    self.server_step(n);
                }
            }
            self.client_events(usize::MAX);
            self.server_events(usize::MAX);
            transmit(&mut self.client, usize::MAX, &mut self.to_server);
            transmit(&mut self.server, usize::MAX, &mut self.to_client);
            deliver(&mut self.to_server, &mut self.server, usize::MAX);
            deliver(&mut self.to_client, &mut self.client, usize::MAX);
            let quiet = self.to_server.is_empty() && self.to_client.is_empty();
            if quiet && self.begun == self.plans.len() && self.is_done() {
                break;
            }
        }
        self.client_events(usize::MAX);
        self.server_events(usize::MAX);
    }

    fn is_done(&self) -> bool {
        let active = self.client.active_requests() + self.server.active_requests();
        active == 0
            && self.plans.iter().all(|plan| {
                plan.outcome.is_some()
                    && (plan.aborted
                        || (plan.ended[2] && plan.ended[3])
                        || plan.read[2..] == plan.len[2..])
            })
    }

    fn verify(&mut self, closing: bool) {
        assert_eq!(self.begun, self.plans.len());
        assert_eq!((self.client.active_requests(), self.server.active_requests()), (0, 0));
        for (n, plan) in self.plans.iter().enumerate() {
            let Plan { len, read, written, aborted, .. } = plan;
            if *aborted {
                // One that the application never saw ends with a status of the connection's own.
                assert!(matches!(plan.outcome, Some(Outcome::Complete { .. })), "request {n}");
            } else {
                let outcome = Outcome::Complete { app_status: n as u32 };
                assert_eq!(plan.outcome, Some(outcome), "request {n}");
                assert_eq!(read[2..], len[2..], "output of request {n}");
                if plan.early.is_none() {
                    assert_eq!(read[..2], len[..2], "input of request {n}");
                }
            }
            assert!((0..4).all(|i| read[i] <= written[i]));
            // Nothing is left under its keys.
            assert!(self.client.request(plan.client.unwrap()).is_none(), "request {n}");
            assert!(plan.server.is_none_or(|key| self.server.request(key).is_none()));
        }
        assert!(self.to_server.is_empty() && self.to_client.is_empty());
        assert!(self.client.poll_transmit().is_none() && self.server.poll_transmit().is_none());
        if closing {
            assert!(self.client.is_closed() && self.server.is_closed());
        } else {
            assert!(self.server.is_reusable() && !self.server.is_closed());
            assert!(self.client.is_reusable() || self.client.is_closed());
        }
    }
}

/// Moves up to `most` bytes off the wire into a connection's window.
fn deliver(wire: &mut Vec<u8>, connection: &mut impl Connection, most: usize) {
    if connection.wants_read() {
        let n = feed(connection, wire, most);
        wire.drain(..n);
    } else if connection.is_closed() {
        // The socket is closed: what is under way is lost.
        wire.clear();
    }
}

fn run(seed: u64, requests: usize, at_once: usize, closing: bool, tight: bool) {
    let mut world = World::new(seed, requests, at_once, closing, tight);
    for _ in 0..requests * 60 {
        world.step();
    }
    world.settle();
    world.verify(closing);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 60, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_interleaving(seed: u64, requests in 1usize..=50, tight: bool) {
        run(seed, requests, 50, false, tight);
    }

    /// Ids are used again while others are active.
    #[test]
    fn a_few_at_a_time(seed: u64, requests in 1usize..=50, at_once in 2usize..8, tight: bool) {
        run(seed, requests, at_once, false, tight);
    }

    /// The last request does not keep the connection.
    #[test]
    fn until_it_closes(seed: u64, requests in 1usize..=20, tight: bool) {
        run(seed, requests, 50, true, tight);
    }
}
