//! Records: headers, padding, ids, types, and how streams are cut.

use super::{Echo, SLEEPS, echoed};
use crate::suite::{Case, Suite, signal::pattern, wire::*};

pub(super) const CASES: &[(&str, Case)] = cases![
    "blackbox::echo":
    fc_3_3_1_records_of_every_length_h_3,
    fc_3_3_2_padding_is_ignored,
    fc_3_3_3_reserved_bytes_and_undefined_flags_are_ignored,
    fc_3_3_4_another_version_is_fatal,
    fc_3_3_5_application_records_of_id_0_are_fatal_h_8,
    fc_3_3_6_records_of_inactive_ids_are_ignored,
    fc_3_3_7_every_id_is_legal,
    fc_3_3_8_a_stream_may_be_cut_in_any_way,
    fc_3_3_9_unknown_application_records_are_skipped,
    fc_3_3_10_begin_of_an_active_id_is_fatal,
    fc_3_3_11_records_of_the_wrong_direction_are_fatal_w_11_h_8,
    fc_3_3_12_data_after_the_end_of_a_stream_is_fatal,
    fc_3_3_12_a_second_end_of_a_stream_is_skipped,
    h_13_a_request_may_come_byte_by_byte,
];

/// Sends a request, then bytes that are a fatal error: the connection closes without an answer.
pub(super) fn assert_fatal(echo: &Echo, bytes: impl AsRef<[u8]>) {
    let mut peer = echo.dial();
    peer.send(request(1, KEEP, &SLEEPS, b""));
    peer.send(bytes);
    peer.expect_end();
    drop(peer);
    echo.until_closed();
}

/// Sends the bytes before, in and after a request: its answer is as if they were not there.
fn assert_ignored(peer: &mut Peer, bytes: &[u8]) {
    let pairs = [("A", "1"), ("ECHO_STDERR", "e")];
    let parts = [
        begin(1, RESPONDER, KEEP),
        stream(Type::Params, 1, &encode(&pairs)),
        close(Type::Params, 1),
        stream(Type::Stdin, 1, b"body"),
    ];
    for part in parts {
        peer.send([bytes, &part].concat());
    }
    peer.send([bytes, &close(Type::Stdin, 1), bytes].concat());
    let expected = Answer { stderr: b"e".to_vec(), stderr_closed: true, ..echoed(&pairs, "body") };
    assert_eq!(peer.answer(1), expected);
}

fn fc_3_3_1_records_of_every_length_h_3(suite: &Suite) {
    let echo = suite.echo_program();
    let mut peer = echo.dial();
    let lengths = (1..=17).chain([127, 128, 255, 256, 4095, 4096, 65_528, 65_534, 65_535]);
    for (n, length) in lengths.enumerate() {
        for padding in [0, 1, 7, 8, 254, 255] {
            let body = pattern(length, n as u64);
            let wire = [
                begin(1, RESPONDER, KEEP),
                params(1, &[]),
                padded(Type::Stdin, 1, &body, padding),
                close(Type::Stdin, 1),
            ];
            let sending = peer.send_beside(wire.concat());
            assert!(peer.answer(1) == echoed(&[], &body), "{length} and {padding}");
            assert!(sending.join());
        }
    }
}

fn fc_3_3_2_padding_is_ignored(suite: &Suite) {
    let echo = suite.echo_program();
    let mut peer = echo.dial();
    for padding in [1, 7, 255] {
        let pairs = [("A", "1")];
        let wire = [
            padded(Type::GetValues, 0, &encode(&[("FCGI_MPXS_CONNS", "")]), padding),
            padded(Type::GetValues, 0, b"", padding),
            padded(Type::Other(99), 0, b"xyz", padding),
            padded(Type::BeginRequest, 1, &[0, 1, 1, 0, 0, 0, 0, 0], padding),
            padded(Type::AbortRequest, 7, b"", padding),
            padded(Type::Params, 1, &encode(&pairs), padding),
            // Empty records are padded too.
            padded(Type::Params, 1, b"", padding),
            padded(Type::Stdin, 1, b"body", padding),
            padded(Type::Stdin, 1, b"", padding),
        ];
        peer.send(wire.concat());
        assert_eq!(peer.record().kind, Type::GetValuesResult);
        assert_eq!(peer.record().kind, Type::GetValuesResult);
        assert_eq!(peer.record().content, [99, 0, 0, 0, 0, 0, 0, 0]);
        assert_eq!(peer.answer(1), echoed(&pairs, "body"));
        let filter = [
            padded(Type::BeginRequest, 1, &[0, 3, 1, 0, 0, 0, 0, 0], padding),
            padded(Type::Params, 1, b"", padding),
            padded(Type::Stdin, 1, b"", padding),
            padded(Type::Data, 1, b"data", padding),
            padded(Type::Data, 1, b"", padding),
        ];
        peer.send(filter.concat());
        assert_eq!(peer.answer(1), echoed(&[], "data"));
    }
}

fn fc_3_3_3_reserved_bytes_and_undefined_flags_are_ignored(suite: &Suite) {
    let echo = suite.echo_program();
    for (flags, kept) in [(0xFF, true), (0x01, true), (0xFE, false), (0x80, false)] {
        let mut peer = echo.dial();
        let body = [0, 1, flags, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF];
        // `padded` also sets a reserved byte to a value other than 0.
        let wire = [
            padded(Type::BeginRequest, 1, &body, 0),
            params(1, &[]),
            stream(Type::Stdin, 1, b"body"),
            close(Type::Stdin, 1),
        ];
        peer.send(wire.concat());
        assert_eq!(peer.answer(1), echoed(&[], "body"));
        if kept {
            peer.send(request(1, KEEP, &[], b"again"));
            assert_eq!(peer.answer(1), echoed(&[], "again"));
        } else {
            peer.expect_close();
        }
    }
}

fn fc_3_3_4_another_version_is_fatal(suite: &Suite) {
    let echo = suite.echo_program();
    for version in [0, 2, 128, 255] {
        for kind in [Type::BeginRequest, Type::Stdin, Type::GetValues] {
            let mut bytes = record(kind, 9, &[0; 8]);
            bytes[0] = version;
            assert_fatal(&echo, &bytes);
            let mut peer = echo.dial();
            peer.send(bytes);
            peer.expect_end();
        }
    }
    assert_fatal(&echo, "GET / HTTP/1.1\r\nHost: x\r\n\r\n");
    echo.assert_alive();
}

fn fc_3_3_5_application_records_of_id_0_are_fatal_h_8(suite: &Suite) {
    let echo = suite.echo_program();
    for kind in [Type::BeginRequest, Type::AbortRequest, Type::Params, Type::Stdin, Type::Data] {
        assert_fatal(&echo, record(kind, 0, &[0, 1, 1, 0, 0, 0, 0, 0]));
    }
    echo.assert_alive();
}

fn fc_3_3_6_records_of_inactive_ids_are_ignored(suite: &Suite) {
    let echo = suite.echo_program();
    let mut peer = echo.dial();
    for kind in [Type::AbortRequest, Type::Params, Type::Stdin, Type::Data] {
        assert_ignored(&mut peer, &record(kind, 9, b"whatever"));
        assert_ignored(&mut peer, &record(kind, 9, b""));
        // A request that has ended is no longer active.
        peer.send(record(kind, 1, b"whatever"));
    }
    assert_ignored(&mut peer, b"");
}

fn fc_3_3_7_every_id_is_legal(suite: &Suite) {
    let echo = suite.echo_program();
    let mut peer = echo.dial();
    for id in [1, 2, 127, 128, 255, 256, 257, 32_767, 32_768, 65_534, 65_535] {
        peer.send(request(id, KEEP, &[], b"body"));
        assert_eq!(peer.answer(id), echoed(&[], "body"));
    }
}

fn fc_3_3_8_a_stream_may_be_cut_in_any_way(suite: &Suite) {
    let echo = suite.echo_program();
    let mut peer = echo.dial();
    let body = pattern(3000, 8);
    for size in [1, 2, 3, 7, 8, 9, 255, 256, 1000, 2999, 3000] {
        let mut wire = [begin(1, RESPONDER, KEEP), params(1, &[])].concat();
        wire.extend(body.chunks(size).flat_map(|chunk| record(Type::Stdin, 1, chunk)));
        wire.extend(close(Type::Stdin, 1));
        peer.send(wire);
        assert!(peer.answer(1) == echoed(&[], &body), "records of {size}");
    }
}

fn fc_3_3_9_unknown_application_records_are_skipped(suite: &Suite) {
    let echo = suite.echo_program();
    let mut peer = echo.dial();
    for kind in [12, 13, 100, 255] {
        assert_ignored(&mut peer, &record(Type::Other(kind), 1, b"whatever"));
        assert_ignored(&mut peer, &record(Type::Other(kind), 9, b""));
    }
}

fn fc_3_3_10_begin_of_an_active_id_is_fatal(suite: &Suite) {
    let echo = suite.echo_program();
    assert_fatal(&echo, begin(1, RESPONDER, KEEP));
    assert_fatal(&echo, [begin(2, RESPONDER, KEEP), begin(2, RESPONDER, CLOSE)].concat());
    echo.assert_alive();
}

fn fc_3_3_11_records_of_the_wrong_direction_are_fatal_w_11_h_8(suite: &Suite) {
    let echo = suite.echo_program();
    for (kind, id) in [
        (Type::EndRequest, 1),
        (Type::Stdout, 1),
        (Type::Stderr, 1),
        (Type::GetValuesResult, 0),
        (Type::UnknownType, 0),
    ] {
        assert_fatal(&echo, record(kind, id, &[0; 8]));
        assert_fatal(&echo, record(kind, id, b""));
        // As the first thing on a connection, as Cherokee does.
        let mut peer = echo.dial();
        peer.send(record(kind, id, &encode(&[("FCGI_MPXS_CONNS", "")])));
        peer.expect_end();
    }
    echo.assert_alive();
}

fn fc_3_3_12_data_after_the_end_of_a_stream_is_fatal(suite: &Suite) {
    let echo = suite.echo_program();
    assert_fatal(&echo, record(Type::Stdin, 1, b"x"));
    assert_fatal(&echo, record(Type::Params, 1, &encode(&[("A", "1")])));
    let filter = [
        begin(2, FILTER, KEEP),
        params(2, &SLEEPS),
        close(Type::Stdin, 2),
        close(Type::Data, 2),
        record(Type::Data, 2, b"x"),
    ];
    assert_fatal(&echo, filter.concat());
    echo.assert_alive();
}

fn fc_3_3_12_a_second_end_of_a_stream_is_skipped(suite: &Suite) {
    let echo = suite.echo_program();
    let mut peer = echo.dial();
    let pairs = [("ECHO_SLEEP_MS", "100")];
    peer.send(request(1, KEEP, &pairs, b"body"));
    peer.send([close(Type::Stdin, 1), close(Type::Params, 1), close(Type::Stdin, 1)].concat());
    assert_eq!(peer.answer(1), echoed(&pairs, "body"));
    assert_ignored(&mut peer, b"");
}

fn h_13_a_request_may_come_byte_by_byte(suite: &Suite) {
    let echo = suite.echo_program();
    let mut peer = echo.dial();
    let pairs = [("NAME", "value"), ("ECHO_EXIT", "3")];
    let wire = [
        record(Type::GetValues, 0, &encode(&[("FCGI_MPXS_CONNS", "")])),
        request(1, KEEP, &pairs, b"the body"),
    ];
    for byte in wire.concat() {
        peer.send([byte]);
    }
    assert_eq!(peer.record().kind, Type::GetValuesResult);
    assert_eq!(peer.answer(1), Answer { app_status: 3, ..echoed(&pairs, "the body") });
}
