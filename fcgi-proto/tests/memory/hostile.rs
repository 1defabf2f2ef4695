//! Hostile peers (H-1, H-6, H-9, H-12): the heap stays within the bound, whatever they send.

use bytes::{Buf, Bytes};
use fcgi_proto::{
    ClientConfig, ClientConnection, Connection, FullRequest, Limits, Output, ServerConfig,
    ServerConnection, client, server,
};

use crate::{ZEROS, bound, meter::Meter, one_request, small, support::*};

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
