//! Connections that have nothing to do: they hold next to nothing, whatever they have done before.

use std::task::Poll;

use bytes::Bytes;
use fcgi_proto::{
    BeginRequest, ClientConfig, ClientConnection, Connection, Input, Limits, Output, Params,
    RequestKey, Role, ServerConfig, ServerConnection, client, server,
};

use crate::{
    BODY, IDLE, ZEROS,
    meter::{Meter, heap_of},
    one_request,
    support::*,
};

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
