//! Requests: roles, ends, aborts, and many at once.

use super::{HEAD, SLEEPS, echo_framing::assert_fatal, echoed};
use crate::suite::{Case, Suite, signal::pattern, wire::*};

pub(super) const CASES: &[(&str, Case)] = cases![
    "blackbox::echo":
    fc_5_1_1_begin_request_of_another_length_is_fatal_h_5,
    fc_5_1_2_unknown_roles_are_refused,
    fc_5_4_1_abort_ends_a_request_at_once,
    fc_5_4_1_abort_of_an_inactive_id_is_ignored,
    fc_5_5_1_app_statuses,
    fc_5_5_2_requests_past_the_limit_are_refused,
    fc_6_1_1_empty_streams_are_closed,
    fc_6_2_1_output_begins_before_stdin_ends,
    fc_6_2_1_an_answer_that_did_not_read_stdin,
    fc_6_3_1_authorizer,
    fc_6_4_1_filter,
    w_9_requests_interleave,
    w_10_content_length_absent_or_empty,
    q_15_large_bodies_in_both_directions,
    a_panic_ends_its_request_alone,
    w_12_a_response_that_breaks_half_way_is_cut,
    w_12_beside_another_request_it_ends_with_a_status,
    w_12_the_requests_behind_it_are_answered,
];

fn fc_5_1_1_begin_request_of_another_length_is_fatal_h_5(suite: &Suite) {
    let echo = suite.echo_program();
    let body = [0, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    for length in (0..=16).filter(|length| *length != 8) {
        assert_fatal(&echo, record(Type::BeginRequest, 2, &body[..length]));
        let mut peer = echo.dial();
        peer.send(padded(Type::BeginRequest, 1, &body[..length], 255));
        peer.expect_end();
    }
    assert_fatal(&echo, record(Type::BeginRequest, 2, &[0; 65_535]));
    echo.assert_alive();
}

fn fc_5_1_2_unknown_roles_are_refused(suite: &Suite) {
    let echo = suite.echo_program();
    let mut peer = echo.dial();
    for role in [0, 4, 255, 256, 257, 65_535] {
        let wire = [
            begin(1, role, KEEP),
            params(1, &[("A", "1")]),
            stream(Type::Stdin, 1, &pattern(10_000, 1)),
            close(Type::Stdin, 1),
            stream(Type::Data, 1, b"data"),
            close(Type::Data, 1),
        ];
        peer.send(wire.concat());
        let answer = peer.answer(1);
        assert_eq!((answer.app_status, answer.protocol_status), (0, 3), "role {role}");
        peer.send(request(1, KEEP, &[], b"body"));
        assert_eq!(peer.answer(1), echoed(&[], "body"), "role {role}");
    }
    peer.send(begin(1, 99, CLOSE));
    assert_eq!(peer.answer(1).protocol_status, 3);
    peer.expect_close();
}

fn fc_5_4_1_abort_ends_a_request_at_once(suite: &Suite) {
    let echo = suite.echo_program();
    let mut peer = echo.dial();
    let whole = request(1, KEEP, &SLEEPS, b"body");
    let head = [begin(1, RESPONDER, KEEP), params(1, &SLEEPS)].concat();
    let half = [&head[..], &stream(Type::Stdin, 1, b"half")].concat();
    let begun = begin(1, RESPONDER, KEEP);
    let in_params = [&begun[..], &record(Type::Params, 1, &encode(&SLEEPS))].concat();
    for wire in [whole, head, half, begun, in_params] {
        peer.send([wire, abort(1)].concat());
        let answer = peer.answer(1);
        assert_eq!(answer.protocol_status, 0, "REQUEST_COMPLETE: {answer:?}");
        // The rest of its streams is ignored, and the connection can be used again.
        peer.send([stream(Type::Stdin, 1, b"late"), close(Type::Stdin, 1)].concat());
        peer.send(request(1, KEEP, &[], b"next"));
        assert_eq!(peer.answer(1), echoed(&[], "next"));
    }
    // Together with another request, which is not affected; and twice.
    let slow = [("ECHO_SLEEP_MS", "300")];
    let wire =
        [request(1, KEEP, &slow, b"slow"), request(2, KEEP, &SLEEPS, b""), abort(2), abort(2)];
    peer.send(wire.concat());
    let [other, aborted] = peer.answers([1, 2]);
    assert_eq!(other, echoed(&slow, "slow"));
    assert_eq!(aborted.protocol_status, 0);
    // The last request of a connection that is not kept.
    peer.send([request(1, CLOSE, &SLEEPS, b""), abort(1)].concat());
    assert_eq!(peer.answer(1).protocol_status, 0);
    peer.expect_close();
}

fn fc_5_4_1_abort_of_an_inactive_id_is_ignored(suite: &Suite) {
    let echo = suite.echo_program();
    let mut peer = echo.dial();
    peer.send([abort(1), abort(65_535)].concat());
    peer.send(request(1, KEEP, &[], b"body"));
    assert_eq!(peer.answer(1), echoed(&[], "body"));
    peer.send([abort(1), request(1, KEEP, &[], b"next")].concat());
    assert_eq!(peer.answer(1), echoed(&[], "next"));
}

fn fc_5_5_1_app_statuses(suite: &Suite) {
    let echo = suite.echo_program();
    let mut peer = echo.dial();
    for status in [0, 1, 255, 256, 65_536, 1 << 31, u32::MAX] {
        let text = status.to_string();
        let pairs = [("ECHO_EXIT", text.as_str())];
        peer.send(request(1, KEEP, &pairs, b""));
        assert_eq!(peer.answer(1), Answer { app_status: status, ..echoed(&pairs, "") });
    }
}

fn fc_5_5_2_requests_past_the_limit_are_refused(suite: &Suite) {
    let echo = suite.echo_program();
    let mut peer = echo.dial();
    let wire: Vec<u8> = (1..=20_000).flat_map(|id| request(id, KEEP, &SLEEPS, b"")).collect();
    let sending = peer.send_beside(wire);
    // CANT_MPX_CONN if the server takes one at a time, else OVERLOADED. A page may come before it.
    let end = loop {
        let record = peer.record();
        if record.kind == Type::EndRequest {
            break record;
        }
        assert_eq!(record.kind, Type::Stdout);
    };
    let mpx = if end.id == 2 { 1 } else { 2 };
    assert_eq!(end.end(), (0, mpx), "request {}", end.id);
    echo.assert_alive();
    peer.shutdown();
    sending.join();
}

fn fc_6_1_1_empty_streams_are_closed(suite: &Suite) {
    let echo = suite.echo_program();
    let mut peer = echo.dial();
    // STDOUT is also closed after a panic, after the error page (W-15). STDERR is closed if it had
    // data.
    peer.send(request(1, KEEP, &[("ECHO_PANIC", "1")], b""));
    assert_eq!(peer.answer(1), failed(101));
    let pairs = [("ECHO_STDERR", "text")];
    peer.send(request(1, KEEP, &pairs, b""));
    let expected = Answer { stderr: b"text".to_vec(), stderr_closed: true, ..echoed(&pairs, "") };
    assert_eq!(peer.answer(1), expected);
}

fn fc_6_2_1_output_begins_before_stdin_ends(suite: &Suite) {
    let echo = suite.echo_program();
    let mut peer = echo.dial();
    peer.send([begin(1, RESPONDER, KEEP), params(1, &[("A", "1")])].concat());
    peer.expect_stdout(1, &echoed(&[("A", "1")], "").stdout);
    for piece in ["one", "two"] {
        peer.send(stream(Type::Stdin, 1, piece.as_bytes()));
        peer.expect_stdout(1, piece);
    }
    peer.send(close(Type::Stdin, 1));
    assert_eq!(peer.answer(1), complete(""));
}

fn fc_6_2_1_an_answer_that_did_not_read_stdin(suite: &Suite) {
    let echo = suite.echo_program();
    let mut peer = echo.dial();
    let pairs = [("ECHO_REPEAT_BYTES", "5")];
    let expected = complete([super::HEAD, "xxxxx"].concat());
    for keep_conn in [KEEP, CLOSE] {
        // It ends before STDIN has begun; what still arrives is dropped.
        peer.send([begin(1, RESPONDER, keep_conn), params(1, &pairs)].concat());
        let answer = peer.answer(1);
        assert_eq!(answer.stdout.len(), expected.stdout.len());
        assert_eq!(answer, Answer { stdout: answer.stdout.clone(), ..expected.clone() });
        if keep_conn {
            peer.send(
                [stream(Type::Stdin, 1, &pattern(2 << 20, 6)), close(Type::Stdin, 1)].concat(),
            );
            peer.send(request(1, KEEP, &[], b"next"));
            assert_eq!(peer.answer(1), echoed(&[], "next"));
        }
    }
    peer.expect_close();
}

fn fc_6_3_1_authorizer(suite: &Suite) {
    let echo = suite.echo_program();
    let mut peer = echo.dial();
    for empty_stdin in [false, true] {
        for (pairs, status) in [
            (&[("HTTP_AUTHORIZATION", "Basic eA==")][..], "Status: 200"),
            (&[], "Status: 403"),
            (&[("HTTP_AUTHORIZATION", "")], "Status: 403"),
        ] {
            peer.send([begin(1, AUTHORIZER, KEEP), params(1, pairs)].concat());
            if empty_stdin {
                peer.send(close(Type::Stdin, 1));
            }
            let answer = peer.answer(1);
            let text = String::from_utf8(answer.stdout.clone()).unwrap();
            assert!(text.starts_with(status), "{text:?}");
            let allows = status == "Status: 200";
            assert_eq!(text.contains("Variable-REMOTE_USER: "), allows, "{text:?}");
            assert!(text.ends_with("\r\n\r\n"), "{text:?}");
            assert!(answer.stdout_closed);
            assert_eq!((answer.app_status, answer.protocol_status), (0, 0));
        }
    }
}

fn fc_6_4_1_filter(suite: &Suite) {
    let echo = suite.echo_program();
    let mut peer = echo.dial();
    let pairs = [("FCGI_DATA_LAST_MOD", "1"), ("FCGI_DATA_LENGTH", "4")];
    for (stdin, data) in [("form", "file"), ("", "file"), ("form", ""), ("", "")] {
        let wire = [
            begin(1, FILTER, KEEP),
            params(1, &pairs),
            stream(Type::Stdin, 1, stdin.as_bytes()),
            close(Type::Stdin, 1),
            stream(Type::Data, 1, data.as_bytes()),
            close(Type::Data, 1),
        ];
        peer.send(wire.concat());
        assert_eq!(peer.answer(1), echoed(&pairs, [stdin, data].concat()));
    }
    // Its output begins once STDIN has ended, before DATA has.
    peer.send([begin(1, FILTER, KEEP), params(1, &[])].concat());
    peer.send([stream(Type::Stdin, 1, b"form"), close(Type::Stdin, 1)].concat());
    peer.expect_stdout(1, &echoed(&[], "form").stdout);
    peer.send([stream(Type::Data, 1, b"file"), close(Type::Data, 1)].concat());
    assert_eq!(peer.answer(1), complete("file"));
}

fn w_9_requests_interleave(suite: &Suite) {
    let echo = suite.echo_program();
    let mut peer = echo.dial();
    let ids: Vec<u16> = (0..30).map(|n| n * 2 + 1).collect();
    let text = |id: u16| id.to_string();
    let mut wire = Vec::new();
    ids.iter().for_each(|id| wire.extend(begin(*id, RESPONDER, KEEP)));
    ids.iter().rev().for_each(|id| wire.extend(params(*id, &[("ID", &text(*id))])));
    for round in 0..10 {
        for id in &ids {
            wire.extend(stream(Type::Stdin, *id, &pattern(500, u64::from(*id) * 100 + round)));
        }
    }
    ids.iter().for_each(|id| wire.extend(close(Type::Stdin, *id)));
    let sending = peer.send_beside(wire);
    let mut answers = vec![Answer::default(); 60];
    let mut ended = 0;
    while ended < ids.len() {
        let record = peer.record();
        ended += usize::from(answers[usize::from(record.id)].take(&record));
    }
    for id in ids {
        let body: Vec<u8> =
            (0..10).flat_map(|round| pattern(500, u64::from(id) * 100 + round)).collect();
        assert_eq!(answers[usize::from(id)], echoed(&[("ID", &text(id))], body), "request {id}");
    }
    assert!(sending.join());
}

fn w_10_content_length_absent_or_empty(suite: &Suite) {
    let echo = suite.echo_program();
    let mut peer = echo.dial();
    let body = pattern(100_000, 10);
    for pairs in [&[][..], &[("CONTENT_LENGTH", "")]] {
        let sending = peer.send_beside(request(1, KEEP, pairs, &body));
        assert!(peer.answer(1) == echoed(pairs, &body), "{pairs:?}");
        assert!(sending.join());
    }
}

fn q_15_large_bodies_in_both_directions(suite: &Suite) {
    let echo = suite.echo_program();
    let body = pattern(30 << 20, 15);
    let mut peer = echo.dial();
    let sending = peer.send_beside(request(1, KEEP, &[], &body));
    assert!(peer.answer(1) == echoed(&[], &body), "the body came back changed");
    assert!(sending.join());
}

fn a_panic_ends_its_request_alone(suite: &Suite) {
    let echo = suite.echo_program();
    let mut peer = echo.dial();
    // Its STDIN stays open, so it is in progress for as long as the other one's panic takes.
    let open = [begin(1, RESPONDER, KEEP), params(1, &[]), stream(Type::Stdin, 1, b"open")];
    let panics = [("ECHO_PANIC", "1")];
    peer.send([open.concat(), request(2, KEEP, &panics, b"body")].concat());
    let (mut answer, mut panicked) = (Answer::default(), Answer::default());
    loop {
        let record = peer.record();
        if record.id == 1 {
            assert!(!answer.take(&record), "it ended before its STDIN");
        } else if panicked.take(&record) {
            break;
        }
    }
    assert_ne!(panicked.app_status, 0);
    assert_eq!(panicked.protocol_status, 0);
    peer.send(close(Type::Stdin, 1));
    while !answer.take(&peer.record()) {}
    assert_eq!(answer, echoed(&[], "open"));
    echo.assert_alive();
}

fn w_12_a_response_that_breaks_half_way_is_cut(suite: &Suite) {
    let echo = suite.echo_program();
    for keep_conn in [KEEP, CLOSE] {
        for n in [0, 1, 70_000, 3_000_000] {
            let mut peer = echo.dial();
            let fails = [("ECHO_FAIL_AFTER_BYTES", &*n.to_string())];
            peer.send(request(1, keep_conn, &fails, b"body"));
            // All that was written arrives, but neither the end of STDOUT nor END_REQUEST.
            peer.expect_cut(1, [HEAD.as_bytes(), &vec![b'x'; n]].concat());
        }
    }
    echo.assert_alive();
}

fn w_12_beside_another_request_it_ends_with_a_status(suite: &Suite) {
    let echo = suite.echo_program();
    let mut peer = echo.dial();
    let open = [begin(1, RESPONDER, KEEP), params(1, &[])];
    let fails = [("ECHO_FAIL_AFTER_BYTES", "10")];
    peer.send([open.concat(), request(2, KEEP, &fails, b"")].concat());
    peer.send(stream(Type::Stdin, 1, b"other"));
    let (mut other, mut failed) = (Answer::default(), Answer::default());
    loop {
        let record = peer.record();
        if record.id == 1 {
            assert!(!other.take(&record), "its STDIN is open");
        } else if failed.take(&record) {
            break;
        }
    }
    assert_eq!(failed.stdout, format!("{HEAD}{}", "x".repeat(10)).as_bytes());
    assert_ne!(failed.app_status, 0);
    peer.send(close(Type::Stdin, 1));
    while !other.take(&peer.record()) {}
    assert_eq!(other, echoed(&[], "other"));
}

/// Requests that came together with one that fails are not lost with its connection.
fn w_12_the_requests_behind_it_are_answered(suite: &Suite) {
    let echo = suite.echo_program();
    for n in ["0", "10"] {
        let mut peer = echo.dial();
        let wire = [
            request(1, KEEP, &[("ECHO_FAIL_AFTER_BYTES", n)], b"body"),
            request(2, KEEP, &[], b"second"),
            request(3, CLOSE, &[], b"third"),
        ];
        peer.send(wire.concat());
        let mut answers: [Answer; 3] = Default::default();
        let mut ended = [false; 3];
        while !(ended[1] && ended[2]) {
            let record = peer.record();
            let at = usize::from(record.id) - 1;
            ended[at] |= answers[at].take(&record);
        }
        // Its end came first, or its connection is cut once the others have ended.
        assert!(!ended[0] || answers[0].app_status != 0, "it ended well");
        assert_eq!(answers[1], echoed(&[], "second"), "after {n} bytes");
        assert_eq!(answers[2], echoed(&[], "third"), "after {n} bytes");
    }
    echo.assert_alive();
}
