//! How much heap a connection holds: next to nothing when idle, and never more than `Limits` say,
//! whatever the peer sends (H-1, H-6, H-9, H-12).
//!
//! The allocator counts per thread, so that the tests of this binary don't see each other.

mod support;

use std::{
    alloc::{GlobalAlloc, Layout, System},
    cell::Cell,
    task::Poll,
};

use bytes::{Buf, Bytes};
use fcgi_proto::{
    BeginRequest, ClientConfig, ClientConnection, Connection, FullRequest, Input, Limits, Output,
    Params, RequestKey, Role, ServerConfig, ServerConnection, client, server,
};
use support::*;

struct Counting;

thread_local! {
    static LIVE: Cell<isize> = const { Cell::new(0) };
    static PEAK: Cell<isize> = const { Cell::new(0) };
}

fn count(delta: isize) {
    // Const-initialised and without a destructor: usable at any time in a thread's life.
    let live = LIVE.with(|live| {
        live.set(live.get() + delta);
        live.get()
    });
    PEAK.with(|peak| peak.set(peak.get().max(live)));
}

// SAFETY: every call goes to `System` as it came; counting neither allocates nor unwinds.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(layout.size() as isize);
        // SAFETY: the caller's contract is `System`'s.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        count(layout.size() as isize);
        // SAFETY: the caller's contract is `System`'s.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn dealloc(&self, ptr: *mut u8, layout: Layout) {
        count(-(layout.size() as isize));
        // SAFETY: the caller's contract is `System`'s, which made `ptr`.
        unsafe { System.dealloc(ptr, layout) }
    }

    unsafe fn realloc(&self, ptr: *mut u8, layout: Layout, new_size: usize) -> *mut u8 {
        // The old block and the new one may be there at the same time.
        count(new_size as isize);
        count(-(layout.size() as isize));
        // SAFETY: the caller's contract is `System`'s, which made `ptr`.
        unsafe { System.realloc(ptr, layout, new_size) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Heap of this thread since `start`.
struct Meter {
    base: isize,
}

impl Meter {
    fn start() -> Self {
        let base = LIVE.with(Cell::get);
        PEAK.with(|peak| peak.set(base));
        Self { base }
    }

    fn live(&self) -> usize {
        usize::try_from(LIVE.with(Cell::get) - self.base).unwrap_or(0)
    }

    fn peak(&self) -> usize {
        usize::try_from(PEAK.with(Cell::get) - self.base).unwrap_or(0)
    }
}

/// The most heap that one connection of these limits may ever take, with `requests` of them known
/// to the connection.
///
/// - **Receive buffers**: 2 × `recv_buffer`, the current one and the one that it replaces.
/// - **Unread streams**: 4 × `unread_connection`, since a slice is shared only when it is at least
///   a quarter of its buffer, and a copied tail at most doubles (3 × while it is moved).
/// - **PARAMS**: 3 × `params_bytes_connection`: the block at most doubles, and is there twice
///   while it moves.
/// - **Send queue**: what is queued (`send_high_water`, `reply_bytes`, and the answer that passed
///   them), × 2 for a sent part not yet cut off, × 2 for growth, + 1 × while it moves; what the
///   application gave as `Bytes` is its own.
/// - **Requests**: 1 KiB of bookkeeping each, its place in the index and its keys included, and
///   12 KiB for the index's upper level, which moves as it grows.
/// - 4 KiB for everything else.
fn bound(limits: &Limits, requests: usize) -> usize {
    let queued = limits.send_high_water + limits.reply_bytes + 4096;
    2 * limits.recv_buffer
        + 4 * limits.unread_connection
        + 3 * limits.params_bytes_connection
        + 6 * queued
        + 1024 * requests
        + 12 * 1024
        + 4096
}

const IDLE: usize = 1024;
const BODY: usize = 5 * 1024 * 1024;
static ZEROS: [u8; BODY] = [0; BODY];

/// Limits that a test reaches soon.
fn small(limits: Limits) -> Limits {
    let mut limits = limits;
    limits.recv_buffer = 8 * 1024;
    limits.params_bytes = 8 * 1024;
    limits.params_bytes_connection = 16 * 1024;
    limits.params_pairs = 64;
    limits.unread_request = 16 * 1024;
    limits.unread_connection = 32 * 1024;
    limits.send_high_water = 16 * 1024;
    limits.reply_bytes = 2 * 1024;
    limits
}

/// What an application does in these tests.
#[derive(Clone, Copy, PartialEq)]
enum App {
    /// Nothing at all: it does not even read.
    Idle,
    /// Reads all, answers with STDOUT, and finishes.
    Answers,
}

/// Runs `app` on what the server reports; says whether the peer broke the protocol.
fn serve(server: &mut ServerConnection, app: App) -> bool {
    loop {
        let key = match server.poll_event() {
            Err(_) => return true,
            Ok(None) => return false,
            Ok(Some(server::Event::Request { key, .. } | server::Event::Aborted { key, .. })) => {
                key
            }
            Ok(Some(_)) => continue,
        };
        if app == App::Answers {
            let Some(mut request) = server.request(key) else { continue };
            let mut body = Bytes::from_static(&ZEROS[..100]);
            request.write(Output::Stdout, &mut body).unwrap();
            request.finish(0).unwrap();
        }
    }
}

/// Feeds `chunk` again and again, up to `total` bytes, to a server whose peer never reads more
/// than `reads` bytes at a time, and asserts the bound at every moment. Says how many bytes it took.
fn attack_server(limits: Limits, app: App, chunk: &[u8], total: usize, reads: usize) -> usize {
    attack_server_with(limits, app, total, reads, |at, out| {
        *out = &chunk[at % chunk.len()..];
    })
}

fn attack_server_with<'a>(
    limits: Limits,
    app: App,
    total: usize,
    reads: usize,
    mut next: impl FnMut(usize, &mut &'a [u8]),
) -> usize {
    let meter = Meter::start();
    let mut server = ServerConnection::new(ServerConfig { limits, ..ServerConfig::default() });
    let most = bound(&limits, limits.requests);
    let mut at = 0;
    while at < total {
        let mut bytes: &[u8] = &[];
        next(at, &mut bytes);
        let n = feed(&mut server, bytes, usize::MAX);
        at += n;
        let failed = serve(&mut server, app);
        let mut read = 0;
        if let Some(mut transmit) = server.poll_transmit() {
            read = reads.min(transmit.remaining());
            transmit.advance(read);
        }
        assert!(meter.peak() <= most, "{} bytes of heap after {at}, bound {most}", meter.peak());
        if failed || (n == 0 && read == 0) || server.is_closed() {
            break;
        }
    }
    drop(server);
    assert_eq!(meter.live(), 0, "leaked");
    at
}

/// Each attack with the default limits and with small ones, the peer never reading and reading a
/// little.
fn attack(app: App, chunk: &[u8], total: usize) {
    for limits in [Limits::server(), small(Limits::server())] {
        for full_request in [FullRequest::Pause, FullRequest::Abort] {
            for reads in [0, 1000] {
                let mut limits = limits;
                limits.full_request = full_request;
                attack_server(limits, app, chunk, total, reads);
            }
        }
    }
}

#[test]
fn declared_lengths_allocate_nothing() {
    // H-1: names and values of 2^31 - 1 bytes, in 8 bytes.
    let huge = [0xff; 8];
    for record_type in [PARAMS, GET_VALUES] {
        let id = u16::from(record_type == PARAMS);
        let mut wire = if id == 1 { begin(1, 1, 1) } else { Vec::new() };
        wire.extend(record(record_type, id, &huge, 0));
        let meter = Meter::start();
        let mut server = ServerConnection::new(ServerConfig::default());
        feed(&mut server, &wire, usize::MAX);
        serve(&mut server, App::Idle);
        // The first window and the answer.
        assert!(meter.peak() < 4096 + 2048, "{}", meter.peak());
    }
    // A record that declares 65,535 bytes and sends one.
    for (record_type, id) in [(STDIN, 1), (DATA, 1), (PARAMS, 1), (GET_VALUES, 0), (99, 0)] {
        let mut wire = begin(1, 3, 1);
        if record_type != PARAMS {
            wire.extend(record(PARAMS, 1, &[], 0));
        }
        wire.extend(&record(record_type, id, &ZEROS[..65_535], 255)[..9]);
        let meter = Meter::start();
        let mut server = ServerConnection::new(ServerConfig::default());
        feed(&mut server, &wire, usize::MAX);
        serve(&mut server, App::Idle);
        assert!(meter.peak() < 4096 + 2048, "{}", meter.peak());
    }
}

#[test]
fn declared_lengths_allocate_nothing_at_the_client() {
    let mut client = ClientConnection::new(ClientConfig::default());
    client.query_values().unwrap();
    discard_transmit(&mut client);
    let mut wire = record(GET_VALUES_RESULT, 0, &[0xff; 8], 0);
    wire.extend(&record(STDOUT, 1, &ZEROS[..65_535], 255)[..9]);
    let meter = Meter::start();
    feed(&mut client, &wire, usize::MAX);
    while let Some(event) = client.poll_event().unwrap() {
        assert_eq!(event, client::Event::Values(Default::default()));
    }
    assert!(meter.peak() < 4096 + 1024, "{}", meter.peak());
}

#[test]
fn empty_pairs() {
    // H-6: 512 KiB of pairs without name and value, in one request.
    let pairs = record(PARAMS, 1, &ZEROS[..65_534], 0);
    attack_server_with(Limits::server(), App::Answers, 512 * 1024, 0, |at, out| {
        static BEGIN_1: [u8; 16] = [1, 1, 0, 1, 0, 8, 0, 0, 0, 1, 1, 0, 0, 0, 0, 0];
        *out = match at {
            0..16 => &BEGIN_1[at..],
            _ => &pairs[(at - 16) % pairs.len()..],
        };
    });
    // And in one request after the other.
    let mut wire = begin(1, 1, 1);
    wire.extend(&pairs);
    wire.extend(record(ABORT, 1, &[], 0));
    attack(App::Answers, &wire, 2 << 20);
}

#[test]
fn reply_floods() {
    // H-9: the peer asks and never reads, so that the connection pauses.
    let mut query = Vec::new();
    for name in ["FCGI_MAX_CONNS", "FCGI_MAX_REQS", "FCGI_MPXS_CONNS"] {
        fcgi_proto::pairs::encode(name.as_bytes(), b"", &mut query).unwrap();
    }
    let query = record(GET_VALUES, 0, &query, 0);
    let unknown = record(99, 0, &[], 0);
    for chunk in [&query, &unknown] {
        attack(App::Idle, chunk, 256 << 10);
        let taken = attack_server(Limits::server(), App::Idle, chunk, 64 << 20, 0);
        assert!(taken < 256 * 1024, "took {taken} bytes without a pause");
    }
}

#[test]
fn request_floods() {
    let abort = [begin(1, 1, 1), record(ABORT, 1, &[], 0)].concat();
    attack(App::Answers, &abort, 1 << 20);

    let params = {
        let mut pairs = Vec::new();
        fcgi_proto::pairs::encode(b"NAME", &[b'v'; 100], &mut pairs).unwrap();
        [record(PARAMS, 1, &pairs, 0), record(PARAMS, 1, &[], 0)].concat()
    };
    // The application writes and finishes, and nobody reads what it wrote.
    let whole = [begin(1, 1, 1), params.clone(), record(ABORT, 1, &[], 0)].concat();
    attack(App::Answers, &whole, 1 << 20);
    let taken = attack_server(Limits::server(), App::Answers, &whole, 64 << 20, 0);
    assert!(taken < 4 << 20, "took {taken} bytes without a pause");

    // Roles that there are not, each with its refusal.
    attack(App::Answers, &begin(1, 9, 1), 1 << 20);
    // PARAMS that end inside a pair, each with its page.
    let bad = [begin(1, 1, 1), record(PARAMS, 1, &[5], 0), record(PARAMS, 1, &[], 0)].concat();
    attack(App::Answers, &bad, 1 << 20);
    // STDIN before PARAMS has ended.
    let early = [begin(1, 1, 1), record(STDIN, 1, &ZEROS[..60_000], 0)].concat();
    attack(App::Answers, &early, 4 << 20);
}

#[test]
fn every_id() {
    // All 65,535 ids begin; one that is refused is no more than a refusal.
    let begins: Vec<u8> = (1..=u16::MAX).flat_map(|id| begin(id, 1, 1)).collect();
    let params: Vec<u8> = (1..=u16::MAX)
        .flat_map(|id| [begin(id, 1, 1), record(PARAMS, id, &[], 0)].concat())
        .collect();
    let stdin: Vec<u8> = (1..=u16::MAX)
        .flat_map(|id| {
            let stdin = record(STDIN, id, &[7; 300], 0);
            [begin(id, 1, 1), record(PARAMS, id, &[], 0), stdin].concat()
        })
        .take(4 << 20)
        .collect();
    for chunk in [&begins, &params, &stdin] {
        for reads in [0, 100_000] {
            let mut limits = Limits::server();
            attack_server(limits, App::Idle, chunk, chunk.len(), reads);
            limits.requests = 65_535;
            attack_server(limits, App::Idle, chunk, chunk.len(), reads);
        }
    }
}

#[test]
fn endless_params() {
    // One name that never ends, and pairs that never end, on one id and on many.
    let long = record(PARAMS, 1, &[&[0xff, 0xff, 0xff, 0xff, 0][..], &ZEROS[..60_000]].concat(), 0);
    let mut pairs = Vec::new();
    for _ in 0..50 {
        fcgi_proto::pairs::encode(&[b'n'; 100], &[b'v'; 900], &mut pairs).unwrap();
    }
    let pairs = record(PARAMS, 1, &pairs, 0);
    attack(App::Idle, &[begin(1, 1, 1), long].concat(), 4 << 20);
    let mut wire: Vec<u8> = (1..=100).flat_map(|id| begin(id, 1, 1)).collect();
    for round in 0..10u8 {
        for id in 1..=100u16 {
            let mut record = if round % 2 == 0 { pairs.clone() } else { pairs[..8].to_vec() };
            record[2..4].copy_from_slice(&id.to_be_bytes());
            if round % 2 == 1 {
                record[4..6].copy_from_slice(&[0, 1]);
                record.push(0);
            }
            wire.extend(record);
        }
    }
    for limits in [Limits::server(), small(Limits::server())] {
        for reads in [0, 1000] {
            attack_server(limits, App::Idle, &wire, wire.len(), reads);
        }
    }
}

#[test]
fn unread_stdin() {
    // The application does not read: the connection pauses, or the request is given up.
    for content in [1, 255, 256, 1000, 1024, 4096, 16_384, 65_535] {
        let stdin = record(STDIN, 1, &ZEROS[..content], 0);
        let start = [begin(1, 1, 1), record(PARAMS, 1, &[], 0)].concat();
        for limits in [Limits::server(), small(Limits::server())] {
            for full_request in [FullRequest::Pause, FullRequest::Abort] {
                let mut limits = limits;
                limits.full_request = full_request;
                limits.unread_request = limits.unread_connection;
                let total = 3 << 20;
                attack_server_with(limits, App::Idle, total, 0, |at, out| {
                    *out = match at.checked_sub(start.len()) {
                        None => &start[at..],
                        Some(at) => &stdin[at % stdin.len()..],
                    };
                });
            }
        }
    }
}

#[test]
fn unread_stdin_in_the_worst_slices() {
    // A slice just large enough to be shared keeps all of its buffer, again and again, over many
    // requests.
    let mut limits = Limits::server();
    limits.requests = 100;
    let mut wire: Vec<u8> = Vec::new();
    for id in 1..=100 {
        wire.extend(begin(id, 1, 1));
        wire.extend(record(PARAMS, id, &[], 0));
    }
    for round in 0..100u16 {
        // An unknown management record would be answered: pad with a skipped one.
        wire.extend(record(STDIN, 1 + round, &ZEROS[..16_384], 0));
        wire.extend(record(STDIN, 60_000, &ZEROS[..65_536 - 16_384 - 16], 0));
        wire.extend(record(STDIN, 1 + round, &[1], 0));
    }
    attack_server(limits, App::Idle, &wire, wire.len(), 0);
}

fn one_request(limits: Limits, requests: usize) -> (ClientConnection, Vec<RequestKey>) {
    let mut client = ClientConnection::new(ClientConfig { limits });
    let keys = (0..requests)
        .map(|_| {
            let params = Params::from_iter([("REQUEST_METHOD", "GET")]);
            let begin = BeginRequest { role: Role::Responder, keep_conn: true, params };
            client.begin(begin).unwrap()
        })
        .collect();
    discard_transmit(&mut client);
    (client, keys)
}

#[test]
fn hostile_applications() {
    let values = record(GET_VALUES_RESULT, 0, &ZEROS[..65_535], 0);
    let unknown = record(11, 0, &[9, 0, 0, 0, 0, 0, 0, 0], 0);
    let mut floods = vec![values, unknown, end(7, 0, 0), record(99, 1, &ZEROS[..60_000], 0)];
    for content in [1, 256, 1024, 16_384, 65_535] {
        for stream in [STDOUT, STDERR] {
            floods.push(record(stream, 1, &ZEROS[..content], 0));
        }
    }
    // H-12: on 50 requests at once, none of them read.
    let many = |content: usize| -> Vec<u8> {
        (1..=50).flat_map(|id| record(STDOUT, id, &ZEROS[..content], 0)).collect()
    };
    floods.extend([many(1), many(300), many(16_384), many(65_535)]);
    let ends: Vec<u8> =
        (1..=50).flat_map(|id| [record(STDOUT, id, &[1], 0), end(id, 0, 0)].concat()).collect();
    floods.push(ends);
    for flood in &floods {
        for limits in [Limits::client(), small(Limits::client())] {
            for full_request in [FullRequest::Pause, FullRequest::Abort] {
                let mut limits = limits;
                limits.full_request = full_request;
                limits.requests = 50;
                let meter = Meter::start();
                let (mut client, _keys) = one_request(limits, 50);
                let most = bound(&limits, 50);
                let mut at = 0;
                while at < 1 << 20 {
                    let n = feed(&mut client, &flood[at % flood.len()..], usize::MAX);
                    at += n;
                    let failed = loop {
                        match client.poll_event() {
                            Ok(Some(_)) => {}
                            Ok(None) => break false,
                            Err(_) => break true,
                        }
                    };
                    assert!(meter.peak() <= most, "{} of {most}", meter.peak());
                    if n == 0 || failed {
                        break;
                    }
                }
            }
        }
    }
}

/// Both ends, each with its own meter, talking through a buffer that holds nothing between calls.
struct Pair {
    client: ClientConnection,
    server: ServerConnection,
    wire: Vec<u8>,
    /// Requests whose end the client has seen.
    finished: usize,
}

impl Pair {
    fn new(requests: usize) -> Self {
        let mut client = ClientConfig::default();
        client.limits.requests = requests;
        let client = ClientConnection::new(client);
        let server = ServerConnection::new(ServerConfig::default());
        Self { client, server, wire: Vec::new(), finished: 0 }
    }

    /// Moves up to a window each way.
    fn exchange(&mut self) -> usize {
        fn carry(
            from: &mut impl Connection,
            to: &mut impl Connection,
            wire: &mut Vec<u8>,
        ) -> usize {
            if wire.is_empty() {
                transmit(from, 1 << 16, wire);
            }
            if !to.wants_read() {
                return 0;
            }
            let n = feed(to, wire, usize::MAX);
            wire.drain(..n);
            n
        }
        let mut there = std::mem::take(&mut self.wire);
        let mut back = Vec::new();
        let n = carry(&mut self.client, &mut self.server, &mut there);
        self.wire = there;
        let m = carry(&mut self.server, &mut self.client, &mut back);
        // What the client did not take would be lost.
        let mut at = 0;
        while at < back.len() {
            self.client_events();
            at += feed(&mut self.client, &back[at..], usize::MAX);
        }
        n + m
    }

    /// Reads all that the client can.
    fn client_events(&mut self) {
        while let Some(event) = self.client.poll_event().unwrap() {
            match event {
                client::Event::Readable { key, output } => {
                    if let Some(mut request) = self.client.request(key) {
                        while let Poll::Ready(Some(_)) = request.read(output, usize::MAX) {
                            let Some(next) = self.client.request(key) else { break };
                            request = next;
                        }
                    }
                }
                client::Event::Finished { .. } => self.finished += 1,
                _ => {}
            }
        }
    }

    /// Runs `requests` at once with bodies of `body` bytes each way; the application answers when
    /// it has read all of the body.
    fn run(&mut self, requests: usize, body: usize, role: Role) {
        let mut to_send: Vec<(RequestKey, Bytes, bool)> = Vec::new();
        for _ in 0..requests {
            let params = Params::from_iter([("REQUEST_METHOD", "POST"), ("X", "y")]);
            let key = self.client.begin(BeginRequest { role, keep_conn: true, params }).unwrap();
            to_send.push((key, Bytes::from_static(&ZEROS[..body]), false));
        }
        let mut to_answer: Vec<(RequestKey, Bytes, bool)> = Vec::new();
        self.finished = 0;
        while self.finished < requests {
            for (key, bytes, done) in &mut to_send {
                if let (false, Some(mut request)) = (*done, self.client.request(*key)) {
                    request.write(Input::Stdin, bytes).unwrap();
                    if bytes.is_empty() {
                        request.finish(Input::Stdin).unwrap();
                        *done = true;
                    }
                }
            }
            self.exchange();
            while let Some(event) = self.server.poll_event().unwrap() {
                match event {
                    server::Event::Request { key, .. } => {
                        to_answer.push((key, Bytes::from_static(&ZEROS[..body]), false));
                    }
                    server::Event::Readable { key, input } => {
                        let mut request = self.server.request(key).unwrap();
                        while let Poll::Ready(Some(_)) = request.read(input, usize::MAX) {}
                    }
                    _ => {}
                }
            }
            for (key, bytes, done) in &mut to_answer {
                let Some(mut request) = self.server.request(*key) else { continue };
                while let Poll::Ready(Some(_)) = request.read(Input::Stdin, usize::MAX) {}
                if *done || !request.is_input_complete() {
                    continue;
                }
                request.write(Output::Stdout, bytes).unwrap();
                if bytes.is_empty() {
                    request.write(Output::Stderr, &mut Bytes::from_static(b"log")).unwrap();
                    request.finish(0).unwrap();
                    *done = true;
                }
            }
            self.exchange();
            self.client_events();
        }
        while self.exchange() > 0 {}
        self.client_events();
        assert_eq!(self.finished, requests);
        assert!(self.server.poll_event().unwrap().is_none());
    }
}

/// What dropping it gives back.
fn heap_of<T>(value: T) -> usize {
    let before = LIVE.with(Cell::get);
    drop(value);
    usize::try_from(before - LIVE.with(Cell::get)).unwrap()
}

#[test]
fn idle_connections_hold_next_to_nothing() {
    type Run = fn(&mut Pair);
    let runs: [(usize, Run); 6] = [
        (1, |_| {}),
        (1, |pair| pair.run(1, 0, Role::Responder)),
        (1, |pair| pair.run(1, BODY, Role::Responder)),
        (1, |pair| (0..20).for_each(|i| pair.run(1, i * 5000, Role::Responder))),
        (50, |pair| pair.run(50, 100_000, Role::Responder)),
        (50, |pair| (0..5).for_each(|i| pair.run(10 * (i + 1), 10_000 * i, Role::Responder))),
    ];
    for (i, (requests, run)) in runs.into_iter().enumerate() {
        let mut pair = Pair::new(requests);
        run(&mut pair);
        let Pair { client, server, .. } = pair;
        assert!(client.is_reusable() && server.is_reusable(), "run {i}");
        let (client, server) = (heap_of(client), heap_of(server));
        assert!(client <= IDLE && server <= IDLE, "run {i}: client {client}, server {server}");
    }
}

#[test]
fn idle_after_aborts_and_blocked_writers() {
    let mut limits = Limits::client();
    limits.requests = 50;
    limits.tombstones = 16;
    let (mut client, keys) = one_request(limits, 50);
    // Every request waits for room; then the application ends them all unread.
    for key in &keys {
        let mut body = Bytes::from_static(&ZEROS);
        client.request(*key).unwrap().write(Input::Stdin, &mut body).unwrap();
    }
    for key in &keys[..16] {
        client.request(*key).unwrap().abort();
    }
    discard_transmit(&mut client);
    for key in &keys {
        feed(&mut client, &end(key.id(), 0, 0), usize::MAX);
        while client.poll_event().unwrap().is_some() {}
    }
    assert!(client.is_reusable());
    let held = heap_of(client);
    assert!(held <= IDLE, "{held}");

    // The same at the application.
    let mut server = ServerConnection::new(ServerConfig::default());
    for id in 1..=50 {
        let wire =
            [begin(id, 1, 1), record(PARAMS, id, &[], 0), record(STDIN, id, &[], 0)].concat();
        feed(&mut server, &wire, usize::MAX);
        while let Some(event) = server.poll_event().unwrap() {
            if let server::Event::Request { key, .. } = event {
                let mut body = Bytes::from_static(&ZEROS);
                server.request(key).unwrap().write(Output::Stdout, &mut body).unwrap();
            }
        }
    }
    discard_transmit(&mut server);
    while let Some(event) = server.poll_event().unwrap() {
        if let server::Event::Writable { key } = event {
            server.request(key).unwrap().finish(0).unwrap();
        }
    }
    discard_transmit(&mut server);
    while server.poll_event().unwrap().is_some() {}
    assert!(server.is_reusable());
    let held = heap_of(server);
    assert!(held <= IDLE, "{held}");
}

#[test]
fn ids_far_apart_cost_no_more_than_requests_do() {
    // The worst for an index of ids: no two in one page, then one more request for ever.
    let mut limits = Limits::server();
    limits.requests = 1000;
    let meter = Meter::start();
    let mut server = ServerConnection::new(ServerConfig { limits, ..ServerConfig::default() });
    for id in (1..=u16::MAX).step_by(66).take(limits.requests) {
        feed(&mut server, &begin(id, 1, 1), usize::MAX);
        while server.poll_event().unwrap().is_some() {}
    }
    assert_eq!(server.active_requests(), limits.requests - 7);
    let most = 512 * limits.requests + 12 * 1024 + limits.recv_buffer;
    assert!(meter.peak() <= most, "{} bytes of heap, bound {most}", meter.peak());
    for id in (1..=u16::MAX).step_by(66).take(limits.requests) {
        feed(&mut server, &record(ABORT, id, &[], 0), usize::MAX);
        while server.poll_event().unwrap().is_some() {}
        discard_transmit(&mut server);
    }
    assert_eq!(server.active_requests(), 0);
    assert!(meter.live() <= IDLE, "{}", meter.live());
}

#[test]
fn an_abort_gives_unread_input_back() {
    let mut wire = [begin(1, 1, 1), record(PARAMS, 1, &[], 0)].concat();
    for _ in 0..4 {
        wire.extend(record(STDIN, 1, &ZEROS[..50_000], 0));
    }
    wire.extend(record(ABORT, 1, &[], 0));
    let mut server = ServerConnection::new(ServerConfig::default());
    let (mut at, mut key, mut held) = (0, None, 0);
    let meter = Meter::start();
    while at < wire.len() {
        at += feed(&mut server, &wire[at..], usize::MAX);
        held = held.max(meter.live());
        while let Some(event) = server.poll_event().unwrap() {
            if let server::Event::Aborted { key: aborted, .. } = event {
                key = Some(aborted);
            }
        }
    }
    // The application has not answered yet.
    assert!(server.request(key.unwrap()).unwrap().is_aborted());
    assert!(held > 100_000, "{held}");
    assert!(meter.live() <= Limits::server().recv_buffer + IDLE, "{}", meter.live());
}
