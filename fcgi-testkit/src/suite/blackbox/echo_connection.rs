//! Connections and management records.

use super::{SLEEPS, echo_framing::assert_fatal, echoed};
use crate::suite::{Case, Suite, wire::*};

pub(super) const CASES: &[(&str, Case)] = cases![
    "blackbox::echo":
    fc_3_5_1_keep_conn,
    fc_3_5_2_a_half_close_still_gets_the_response,
    fc_4_1_1_get_values_at_any_time_w_9,
    fc_4_1_1_unknown_names_values_and_empty_queries,
    fc_4_1_2_the_values_are_true,
    fc_4_2_1_unknown_management_records_at_any_time,
    h_2_a_query_that_repeats_a_name,
    w_7_a_web_server_may_leave_before_end_request,
    w_8_a_web_server_that_leaves_cancels_its_requests,
    h_16_silent_connections_stop_no_other,
];

fn fc_3_5_1_keep_conn(suite: &Suite) {
    let echo = suite.echo_program();
    let mut peer = echo.dial();
    for round in 0..20 {
        let body = format!("round {round}");
        peer.send(request(1, KEEP, &[], body.as_bytes()));
        assert_eq!(peer.answer(1), echoed(&[], &body));
    }
    peer.send(request(1, CLOSE, &[], b"last"));
    assert_eq!(peer.answer(1), echoed(&[], "last"));
    peer.expect_close();
    // Each request has its own flag. Requests in progress are finished before the connection
    // closes.
    let mut peer = echo.dial();
    let slow = [("ECHO_SLEEP_MS", "300")];
    peer.send([request(1, KEEP, &slow, b"slow"), request(2, CLOSE, &[], b"fast")].concat());
    assert_eq!(peer.answers([1, 2]), [echoed(&slow, "slow"), echoed(&[], "fast")]);
    peer.expect_close();
}

fn fc_3_5_2_a_half_close_still_gets_the_response(suite: &Suite) {
    let echo = suite.echo_program();
    for keep_conn in [KEEP, CLOSE] {
        let mut peer = echo.dial();
        let pairs = [("ECHO_SLEEP_MS", "100")];
        peer.send(request(1, keep_conn, &pairs, b"body"));
        peer.shutdown_write();
        assert_eq!(peer.answer(1), echoed(&pairs, "body"));
        peer.expect_close();
    }
}

const NAMES: [&str; 3] = ["FCGI_MAX_CONNS", "FCGI_MAX_REQS", "FCGI_MPXS_CONNS"];

/// Queries, and returns the pairs of the answer.
fn query(peer: &mut Peer, names: &[&str]) -> Vec<(String, String)> {
    let pairs: Vec<_> = names.iter().map(|name| (*name, "")).collect();
    peer.send(record(Type::GetValues, 0, &encode(&pairs)));
    values(peer)
}

fn values(peer: &mut Peer) -> Vec<(String, String)> {
    let answer = peer.record();
    assert_eq!((answer.kind, answer.id), (Type::GetValuesResult, 0), "{answer:?}");
    let text = |bytes| String::from_utf8(bytes).unwrap();
    decode(&answer.content).into_iter().map(|(name, value)| (text(name), text(value))).collect()
}

fn asked(pairs: &[(String, String)]) -> Vec<&str> {
    pairs.iter().map(|(name, _)| name.as_str()).collect()
}

fn fc_4_1_1_get_values_at_any_time_w_9(suite: &Suite) {
    let echo = suite.echo_program();
    let mut peer = echo.dial();
    let first = query(&mut peer, &NAMES);
    assert_eq!(asked(&first), NAMES);
    let pairs = [("A", "1")];
    let content = encode(&pairs);
    for part in [
        begin(1, RESPONDER, KEEP),
        record(Type::Params, 1, &content[..3]),
        record(Type::Params, 1, &content[3..]),
    ] {
        peer.send(part);
        assert_eq!(query(&mut peer, &NAMES), first);
        // HAProxy does not pad, and waits.
        peer.send(padded(Type::GetValues, 0, &encode(&[("FCGI_MPXS_CONNS", "")]), 0));
        assert_eq!(asked(&values(&mut peer)), ["FCGI_MPXS_CONNS"]);
    }
    peer.send([close(Type::Params, 1), stream(Type::Stdin, 1, b"body")].concat());
    peer.expect_stdout(1, &echoed(&pairs, "body").stdout);
    // The response has begun, but the request's STDIN has not ended.
    assert_eq!(query(&mut peer, &NAMES), first);
    peer.send(close(Type::Stdin, 1));
    assert_eq!(peer.answer(1), complete(""));
}

fn fc_4_1_1_unknown_names_values_and_empty_queries(suite: &Suite) {
    let echo = suite.echo_program();
    let mut peer = echo.dial();
    for name in NAMES {
        assert_eq!(asked(&query(&mut peer, &[name])), [name]);
    }
    // A subset in another order, mixed with unknown names.
    let some = ["X", "FCGI_MPXS_CONNS", "FCGI_MAX_CONN", "fcgi_max_reqs", "FCGI_MAX_CONNS", ""];
    let mut got = query(&mut peer, &some);
    got.sort();
    assert_eq!(asked(&got), ["FCGI_MAX_CONNS", "FCGI_MPXS_CONNS"]);
    // Values in a query are ignored.
    let expected = query(&mut peer, &NAMES);
    let given: Vec<_> = NAMES.iter().map(|name| (*name, "77")).collect();
    peer.send(record(Type::GetValues, 0, &encode(&given)));
    assert_eq!(values(&mut peer), expected);
    // An empty query, or only unknown names: an empty result.
    assert_eq!(query(&mut peer, &[]), []);
    assert_eq!(query(&mut peer, &["UNKNOWN"]), []);
    // A name of 60,000 bytes, and a pair that is cut off.
    peer.send(record(Type::GetValues, 0, &pair(&[b'N'; 60_000], b"")));
    assert_eq!(values(&mut peer), []);
    peer.send(record(
        Type::GetValues,
        0,
        &[&encode(&[("FCGI_MPXS_CONNS", "")])[..], &[9]].concat(),
    ));
    assert_eq!(asked(&values(&mut peer)), ["FCGI_MPXS_CONNS"]);
    peer.send(request(1, KEEP, &[], b"body"));
    assert_eq!(peer.answer(1), echoed(&[], "body"));
}

fn fc_4_1_2_the_values_are_true(suite: &Suite) {
    let echo = suite.echo_program();
    let mut peer = echo.dial();
    let values = query(&mut peer, &NAMES);
    assert!(values[..2].iter().all(|(_, value)| value.parse::<u32>().is_ok_and(|n| n > 0)));
    peer.send([request(1, KEEP, &SLEEPS, b""), request(2, KEEP, &[], b"second")].concat());
    let second = peer.answer(2);
    match values[2].1.as_str() {
        // It multiplexes.
        "1" => assert_eq!(second, echoed(&[], "second")),
        "0" => assert_eq!(second.protocol_status, 1, "CANT_MPX_CONN"),
        other => panic!("FCGI_MPXS_CONNS={other}"),
    }
}

fn fc_4_2_1_unknown_management_records_at_any_time(suite: &Suite) {
    let echo = suite.echo_program();
    let mut peer = echo.dial();
    let content = encode(&[("A", "1")]);
    let parts = [
        begin(1, RESPONDER, KEEP),
        record(Type::Params, 1, &content[..2]),
        record(Type::Params, 1, &content[2..]),
    ];
    for (kind, part) in [12, 77, 255].into_iter().zip(parts) {
        for content in [&b""[..], b"x", &[0; 4000]] {
            peer.send(record(Type::Other(kind), 0, content));
            let answer = peer.record();
            assert_eq!((answer.kind, answer.id), (Type::UnknownType, 0));
            assert_eq!(answer.content, [kind, 0, 0, 0, 0, 0, 0, 0]);
        }
        peer.send(part);
    }
    peer.send([close(Type::Params, 1), close(Type::Stdin, 1)].concat());
    assert_eq!(peer.answer(1), echoed(&[("A", "1")], ""));
    // 0 is not a type either.
    peer.send(record(Type::Other(0), 0, b""));
    assert_eq!(peer.record().content, [0; 8]);
}

fn h_2_a_query_that_repeats_a_name(suite: &Suite) {
    let echo = suite.echo_program();
    let mut peer = echo.dial();
    for name in NAMES {
        assert_eq!(asked(&query(&mut peer, &vec![name; 3000])), [name]);
    }
    let all = NAMES.repeat(1000);
    let mut got = query(&mut peer, &all);
    got.sort();
    assert_eq!(asked(&got), NAMES, "each once");
    echo.assert_alive();
}

fn w_7_a_web_server_may_leave_before_end_request(suite: &Suite) {
    let echo = suite.echo_program();
    for _ in 0..50 {
        let mut peer = echo.dial();
        peer.send(request(1, CLOSE, &[], b"body"));
        peer.expect_stdout(1, &echoed(&[], "body").stdout);
        drop(peer);
    }
    echo.until_closed();
    echo.assert_alive();
}

fn w_8_a_web_server_that_leaves_cancels_its_requests(suite: &Suite) {
    let mut echo = suite.echo_program();
    let peers: Vec<_> = (0..10)
        .map(|_| {
            let mut peer = echo.dial();
            peer.send([request(1, KEEP, &SLEEPS, b""), request(2, KEEP, &SLEEPS, b"")].concat());
            // The answer shows that the requests run.
            query(&mut peer, &[]);
            peer
        })
        .collect();
    drop(peers);
    // They would sleep for an hour.
    echo.until_closed();
    echo.assert_alive();
    echo.0.signal("-TERM");
    assert_eq!(echo.0.exit_status().code(), Some(0));
}

fn h_16_silent_connections_stop_no_other(suite: &Suite) {
    let echo = suite.echo_program();
    let whole = request(1, KEEP, &[("A", "1")], b"body");
    let silent: Vec<_> = (0..300)
        .map(|n| {
            let mut peer = echo.dial();
            // Nothing, or a part of a header, of a body, or of PARAMS.
            peer.send(&whole[..n % (whole.len() - 8)]);
            peer
        })
        .collect();
    for _ in 0..10 {
        echo.assert_alive();
    }
    drop(silent);
    assert_fatal(&echo, b"garbage.");
}
