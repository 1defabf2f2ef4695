//! What a hostile peer tries, and what a careless caller does (H): nothing leaks, nothing hangs,
//! and a limit that was reached once is free again afterwards. Each test names its line.
#![allow(missing_docs)]
mod common;

use bytes::Bytes;
use common::*;
use fcgi_proto::{
    BeginRequest, ClientConfig, ClientConnection, Connection, Input, Limits, Output, Params,
    ProtocolErrorKind as Kind, Role, UsageError,
    client::Outcome,
    server::{AbortReason, Event},
};

const NOTHING: &[u8] = b"";

#[test]
fn h_9_requests_that_failed_in_params_free_their_share_of_the_limit() {
    let mut limits = Limits::server();
    (limits.params_bytes, limits.params_bytes_connection) = (100, 1000);
    let mut server = server_with(limits);
    let too_much = pair(b"N", &[b'v'; 200]);
    for content in [&too_much[..], &too_much[..150], b"\x7F\x7F"].repeat(10) {
        feed(&mut server, [begin(1, 1, KEEP), rec(PARAMS, 1, content)].concat());
        let page = &records(&sent(&mut server))[0].content;
        assert!(page.starts_with(b"Status: 400 "), "{:?}", String::from_utf8_lossy(page));
    }
    for _ in 0..30 {
        let wire =
            [begin(1, 1, KEEP), rec(PARAMS, 1, &pair(b"N", &[b'v'; 90])), rec(ABORT, 1, b"")];
        feed(&mut server, wire.concat());
        sent(&mut server);
    }
    requested(&feed(&mut server, post(1, KEEP, NOTHING)));
}

#[test]
fn h_9_endless_stderr_pauses_like_stdout() {
    let mut limits = Limits::client();
    limits.unread_request = 1000;
    let mut client = ClientConnection::new(ClientConfig { limits });
    let key = get(&mut client);
    let wire = rec(STDERR, 1, &[b'e'; 50_000]);
    let first = offer(&mut client, &wire);
    assert!(first.taken < wire.len() && !client.wants_read());
    assert_eq!(read_out(&mut client, key, Output::Stderr).0.len(), 1000);
}

#[test]
fn h_9_h_12_unread_bytes_of_all_requests_pause_the_connection() {
    let mut limits = Limits::server();
    limits.unread_connection = 1000;
    let mut server = server_with(limits);
    let wire: Vec<u8> = (1..=3).flat_map(|id| head(id, 1, KEEP)).collect();
    let keys: Vec<_> = feed(&mut server, wire)
        .into_iter()
        .filter_map(|event| match event {
            Event::Request { key, .. } => Some(key),
            _ => None,
        })
        .collect();
    let bodies: Vec<u8> = (1..=3).flat_map(|id| rec(STDIN, id, &[b'x'; 600])).collect();
    feed(&mut server, &bodies);
    assert!(!server.wants_read() && server.recv_buffer().is_empty());
    let mut read = [0; 3];
    for _ in 0..3 {
        for (key, n) in keys.iter().zip(&mut read) {
            *n += read_in(&mut server, *key, Input::Stdin).0.len();
            feed(&mut server, NOTHING);
        }
    }
    assert_eq!(read, [600; 3]);
    assert!(server.wants_read());
}

#[test]
fn h_12_an_ended_request_frees_its_unread_bytes() {
    let mut limits = Limits::server();
    limits.unread_connection = 1000;
    let mut server = server_with(limits);
    for _ in 0..5 {
        let (key, _) = requested(&feed(&mut server, head(1, 1, KEEP)));
        let fed = offer(&mut server, &rec(STDIN, 1, &[b'x'; 3000]));
        assert!(fed.error.is_none() && !server.wants_read());
        reply(&mut server, key, NOTHING, 0);
        feed(&mut server, NOTHING);
        sent(&mut server);
        assert!(server.wants_read());
    }
}

#[test]
fn h_9_limits_of_zero_hang_nothing() {
    let mut limits = Limits::server();
    limits.recv_buffer = 0;
    limits.reply_bytes = 0;
    limits.send_high_water = 0;
    (limits.unread_request, limits.unread_connection) = (0, 0);
    let mut server = server_with(limits);
    let wire = [rec(99, 0, NOTHING), post(1, KEEP, b"in")].concat();
    let (mut at, mut body, mut out, mut key) = (0, Vec::new(), Vec::new(), None);
    for _ in 0..wire.len() {
        let fed = offer(&mut server, &wire[at..]);
        at += fed.taken;
        for event in fed.events {
            if let Event::Request { key: new, .. } = event {
                key = Some(new);
            }
        }
        body.extend(key.map(|key| read_in(&mut server, key, Input::Stdin).0).unwrap_or_default());
        out.extend(sent(&mut server));
    }
    assert_eq!((at, &body[..], records(&out).len()), (wire.len(), &b"in"[..], 1));
    let mut request = server.request(key.unwrap()).unwrap();
    assert_eq!(request.write(Output::Stdout, &mut Bytes::from_static(b"out")), Ok(1));
}

#[test]
fn h_5_h_13_a_record_at_fault_is_found_at_every_cut() {
    for wire in [rec(BEGIN, 1, &[0; 7]), begin(0, 1, 0), rec(STDOUT, 1, b"x"), vec![2; 8]] {
        let whole = feed_bad(&mut server(), &wire);
        for cut in 1..wire.len() {
            let mut server = server();
            let early = offer(&mut server, &wire[..cut]).error.map(|error| error.kind);
            let kind = early.unwrap_or_else(|| feed_bad(&mut server, &wire[cut..]));
            assert_eq!(kind, whole);
        }
    }
}

#[test]
fn h_8_no_record_of_id_0_reaches_a_request() {
    let mut client = client();
    let key = get(&mut client);
    assert!(matches!(feed_bad(&mut client, rec(STDOUT, 0, b"x")), Kind::ZeroRequestId(_)));
    assert_eq!(client.active_requests(), 0);
    assert_eq!(read_out(&mut client, key, Output::Stdout), (vec![], true));
}

#[test]
fn h_10_parameters_show_no_control_bytes() {
    let params = Params::from_iter([("N", &b"\x1B[31m\n\0\xFF"[..])]);
    let text = format!("{params:?}");
    assert!(text.chars().all(|c| !c.is_control()), "{text:?}");
    assert!(text.contains("[31m"));
}

#[test]
fn h_11_an_abort_leaves_nothing_for_the_next_request() {
    let mut server = server();
    let (old, _) = requested(&feed(&mut server, head(1, 1, KEEP)));
    feed(&mut server, rec(STDIN, 1, b"secret"));
    let reason = AbortReason::Requested;
    assert_eq!(feed(&mut server, rec(ABORT, 1, NOTHING)), [Event::Aborted { key: old, reason }]);
    server.request(old).unwrap().finish(0).unwrap();
    sent(&mut server);
    let (new, _) = requested(&feed(&mut server, post(1, KEEP, b"own")));
    assert_eq!(read_in(&mut server, new, Input::Stdin), (b"own".to_vec(), true));
    assert_eq!(read_in(&mut server, old, Input::Stdin), (vec![], true));
}

#[test]
fn h_4_a_name_or_value_of_2_31_bytes_is_refused_before_anything_is_sent() {
    // Zeroed pages that are never touched: no 2 GiB of memory.
    let huge = vec![0; 1 << 31];
    let mut params = Params::from_iter([("N", "V")]);
    params.push("HUGE", &huge);
    assert_eq!(params.len(), 1);
    let mut client = client();
    let request = BeginRequest { role: Role::Responder, keep_conn: false, params };
    assert_eq!(client.begin(&request), Err(UsageError::PairTooLong(1 << 31)));
    // Nor by way of parameters that are shared.
    let shared = request.params.shared();
    let mut params = Params::new();
    params.append(&shared);
    for params in [shared, params] {
        let request = BeginRequest { role: Role::Responder, keep_conn: false, params };
        assert_eq!(client.begin_without_body(request), Err(UsageError::PairTooLong(1 << 31)));
    }
    assert!(client.poll_transmit().is_none() && client.is_reusable(), "nothing has changed");
}

#[test]
fn fc_3_3_7_every_id_may_be_in_use_at_once_and_none_is_lost() {
    let mut client = mux_client(usize::MAX);
    for id in 1..=u16::MAX {
        assert_eq!(get(&mut client).id(), id);
    }
    let begin = BeginRequest { role: Role::Responder, keep_conn: true, params: Params::new() };
    assert_eq!(client.begin(begin.clone()), Err(UsageError::NoFreeId));
    let wire: Vec<u8> = (1..=u16::MAX).flat_map(|id| end(id, 0, 0)).collect();
    assert_eq!(finished(&feed(&mut client, wire)).len(), 65_535);
    assert!(client.is_reusable());
    assert_eq!(get(&mut client).id(), 1);
}

#[test]
fn fc_3_3_7_q_12_a_tombstone_keeps_no_other_id_from_use() {
    let mut client = mux_client(100);
    let keys: Vec<_> = (0..100).map(|_| get(&mut client)).collect();
    for at in [49, 99] {
        client.request(keys[at]).unwrap().abort();
    }
    sent(&mut client);
    let wire: Vec<u8> = (1..=100).flat_map(|id| end(id, 0, 0)).collect();
    assert_eq!(finished(&feed(&mut client, wire)).len(), 100);
    let ids: Vec<_> = (0..60).map(|_| get(&mut client).id()).collect();
    assert_eq!(ids, (1..=61).filter(|id| *id != 50).collect::<Vec<_>>());
    assert_eq!(feed(&mut client, [end(50, 0, 0), end(100, 0, 0)].concat()), []);
    let ids: Vec<_> = (0..40).map(|_| get(&mut client).id()).collect();
    assert_eq!(ids, [50].into_iter().chain(62..=100).collect::<Vec<_>>());
}

#[test]
fn h_12_input_is_taken_up_to_the_high_water_mark() {
    let mut limits = Limits::client();
    limits.send_high_water = 10_000;
    let mut client = ClientConnection::new(ClientConfig { limits });
    let key = start(&mut client, Role::Responder);
    sent(&mut client);
    let mut body = Bytes::from(vec![b'x'; 25_000]);
    let mut request = client.request(key).unwrap();
    assert_eq!(request.write(Input::Stdin, &mut body), Ok(10_000));
    assert_eq!(request.write(Input::Stdin, &mut body), Ok(0));
    assert_eq!(feed(&mut client, NOTHING), []);
    sent(&mut client);
    let writable = fcgi_proto::client::Event::Writable { key };
    assert_eq!(feed(&mut client, NOTHING), [writable], "once");
    assert_eq!(client.request(key).unwrap().write(Input::Stdin, &mut body), Ok(10_000));
}

#[test]
fn h_11_a_request_that_was_given_up_is_not_offered_room() {
    for answered in [false, true] {
        let mut limits = Limits::client();
        limits.send_high_water = 10_000;
        let mut client = ClientConnection::new(ClientConfig { limits });
        let key = start(&mut client, Role::Responder);
        let mut body = Bytes::from(vec![b'x'; 25_000]);
        client.request(key).unwrap().write(Input::Stdin, &mut body).unwrap();
        if answered {
            feed(&mut client, rec(STDOUT, 1, b"early"));
            let done = [(key, Outcome::Complete { app_status: 0 })];
            assert_eq!(finished(&feed(&mut client, end(1, 0, 0))), done);
        } else {
            client.request(key).unwrap().abort();
        }
        sent(&mut client);
        assert_eq!(feed(&mut client, NOTHING), []);
    }
}

#[test]
fn fc_5_4_1_an_abort_after_the_last_input_leaves_none_pending() {
    let mut server = server();
    let (key, _) = requested(&feed(&mut server, post(1, 1, b"whole")));
    feed(&mut server, rec(ABORT, 1, NOTHING));
    server.request(key).unwrap().finish(0).unwrap();
    assert!(!server.is_input_pending(), "all of it has come");
    let mut server = common::server();
    feed(&mut server, [begin(1, 2, 0), rec(ABORT, 1, NOTHING)].concat());
    assert!(server.is_input_pending(), "its PARAMS may still come");
}

/// Whether the peer is done after it has sent these bytes, each slice for one read, and got its answer.
fn is_done(reads: &[&[u8]], window: usize) -> bool {
    let mut limits = Limits::server();
    limits.recv_buffer = window;
    let mut server = common::server_with(limits);
    let mut key = None;
    for bytes in reads {
        server.recv_buffer()[..bytes.len()].copy_from_slice(bytes);
        server.handle_recv(bytes.len()).unwrap();
        key = key.or(server.poll_whole(Params::default).map(|whole| whole.key));
        while let Some(event) = server.poll_event().unwrap() {
            if let Event::Request { key: begun, .. } = event {
                key = key.or(Some(begun));
            }
        }
    }
    common::reply(&mut server, key.unwrap(), b"done", 0);
    sent(&mut server);
    assert!(server.is_input_pending() || reads[0][10] == KEEP);
    server.is_peer_done()
}

#[test]
fn w_16_a_peer_whose_request_came_alone_in_one_read_is_done() {
    let request = |id, flags, body: &[u8]| {
        let params = [rec(PARAMS, id, &pair(b"REQUEST_METHOD", b"GET")), rec(PARAMS, id, NOTHING)];
        let body = if body.is_empty() { Vec::new() } else { rec(STDIN, id, body) };
        [begin(id, 1, flags), params.concat(), body, rec(STDIN, id, NOTHING)].concat()
    };
    let whole = request(1, 0, NOTHING);
    let (start, end) = whole.split_at(whole.len() - 8);
    assert!(is_done(&[&whole], 4096));
    assert!(!is_done(&[&request(1, KEEP, NOTHING)], 4096), "its connection is kept");
    assert!(!is_done(&[start, end], 4096), "it came in two reads");
    assert!(!is_done(&[&whole], whole.len()), "the read filled its buffer");
    let others =
        [rec(DATA, 1, NOTHING), rec(ABORT, 7, NOTHING), request(2, KEEP, NOTHING), vec![1]];
    for behind in others {
        assert!(!is_done(&[&[&whole[..], &behind].concat()], 4096), "something came with it");
        assert!(!is_done(&[&whole, &behind], 4096), "something came behind it");
    }
    let body = request(1, 0, b"body");
    assert!(is_done(&[&body], 4096), "with its body");
    assert!(!is_done(&[&body[..body.len() - 12], &body[body.len() - 12..]], 4096));
    assert!(!is_done(&[&head(1, 2, 0)], 4096), "an Authorizer's STDIN may end, too");
}

#[test]
fn q_21_records_that_are_no_part_of_a_response_have_a_budget() {
    let unknown = rec(11, 0, &[99, 0, 0, 0, 0, 0, 0, 0]);
    let values = rec(10, 0, &pair(b"FCGI_MAX_CONNS", b"1"));
    let stray = [
        unknown,
        values,
        rec(99, 0, &[b'x'; 100]),
        rec(STDOUT, 7, &[b'x'; 100]),
        end(7, 0, 0),
        rec(STDERR, 1, NOTHING),
    ];
    for record in stray {
        let mut limits = Limits::client();
        (limits.idle_records, limits.stray_bytes) = (u32::MAX, 10_000);
        let mut client = ClientConnection::new(ClientConfig { limits });
        get(&mut client);
        feed(&mut client, rec(STDERR, 1, NOTHING));
        let most = 10_000 / record.len();
        feed(&mut client, record.repeat(most));
        assert_eq!(feed_bad(&mut client, record.repeat(2)), Kind::StrayBytes(10_000));

        // The first is no stray one for the STDERR, which it ends.
        let mut limits = Limits::client();
        limits.idle_records = 100;
        let mut client = ClientConnection::new(ClientConfig { limits });
        get(&mut client);
        feed(&mut client, [rec(STDERR, 1, NOTHING), record.repeat(100)].concat());
        assert_eq!(feed_bad(&mut client, record), Kind::RecordFlood(100));
    }
}

#[test]
fn q_21_what_a_response_brings_makes_up_for_stray_records() {
    let mut limits = Limits::client();
    limits.stray_bytes = 10_000;
    let mut client = ClientConnection::new(ClientConfig { limits });
    for _ in 0..5 {
        let key = get(&mut client);
        for _ in 0..100 {
            feed(&mut client, rec(99, 0, &[b'x'; 500]));
            feed(&mut client, rec(STDOUT, 1, &[b'y'; 600]));
            read_out(&mut client, key, Output::Stdout);
        }
        // Nearly all of the budget; the end of the request renews it.
        feed(&mut client, rec(99, 0, &[b'x'; 9_000]));
        feed(&mut client, end(1, 0, 0));
        sent(&mut client);
    }
    let key = get(&mut client);
    feed(&mut client, rec(STDOUT, 1, b"before"));
    let flood = rec(99, 0, &[b'x'; 5_000]).repeat(3);
    assert_eq!(feed_bad(&mut client, flood), Kind::StrayBytes(10_000));
    assert_eq!(read_out(&mut client, key, Output::Stdout).0, b"before");
}
