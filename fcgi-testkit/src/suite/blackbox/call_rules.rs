//! `call` against applications that send raw bytes: what it sends, and what it accepts.

use std::process::Output;

use crate::suite::{
    Case, Suite,
    programs::assert_fails,
    signal::{Gate, background, pattern},
    wire::*,
};

pub(super) const CASES: &[(&str, Case)] = cases![
    "blackbox::call":
    fc_5_1_1_begin_request_of_each_role_fc_3_3_7,
    fc_6_1_1_every_stream_is_sent_and_closed,
    fc_3_4_2_shortest_lengths,
    q_1_pairs_are_not_cut_across_records,
    q_4_content_length_is_that_of_stdin,
    fc_3_5_1_keep_conn,
    fc_3_3_2_padding_and_reserved_bytes_are_ignored,
    fc_3_3_9_unknown_records_are_skipped,
    fc_5_5_1_app_statuses,
    a_failure_has_a_line_of_its_own_after_stderr,
    fc_6_1_2_streams_that_are_not_closed_or_not_there_q_3,
    fc_6_2_1_an_end_before_stdin_is_read,
    q_12_stray_records_are_passed_over,
    q_15_an_answer_that_comes_first,
    h_3_large_records_with_large_padding,
    h_13_an_answer_may_come_byte_by_byte,
];

/// Runs `call` against an application on one connection.
pub(super) fn run_against(
    suite: &Suite,
    args: &[&str],
    application: impl FnOnce(&mut Peer) + Send + 'static,
) -> (Output, String) {
    let app = RawApp::new();
    let address = app.address.to_string();
    let application = background(move || {
        let mut peer = app.accept();
        application(&mut peer);
        // Its end of the connection is closed only now.
        peer.shutdown_write();
        peer.rest()
    });
    let output = suite.programs().call(&[&[address.as_str()][..], args].concat());
    application.join();
    (output, address)
}

/// The result of `call` if the application reads its request and answers with these bytes.
pub(super) fn answered(suite: &Suite, bytes: Vec<u8>) -> (Output, String) {
    run_against(suite, &["--stdin", "-"], move |peer| {
        peer.request();
        peer.send(bytes);
    })
}

pub(super) fn assert_succeeds(output: &Output, stdout: impl AsRef<[u8]>) {
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{:?}: {stderr}", output.status);
    assert!(output.stdout == stdout.as_ref(), "{:?}", String::from_utf8_lossy(&output.stdout));
}

fn fc_5_1_1_begin_request_of_each_role_fc_3_3_7(suite: &Suite) {
    for (args, number) in [
        (&["--keep-conn"][..], 1),
        (&["--role", "responder", "--keep-conn"], 1),
        (&["--role", "authorizer", "--keep-conn"], 2),
        (&["--role", "filter", "--keep-conn"], 3),
    ] {
        let (output, _) = run_against(suite, args, move |peer| {
            let begin = peer.record();
            assert_eq!((begin.kind, begin.id), (Type::BeginRequest, 1));
            assert_eq!(begin.content, [0, number, 1, 0, 0, 0, 0, 0]);
            peer.send(answer(1, b"ok"));
        });
        assert_succeeds(&output, "ok");
    }
}

fn fc_6_1_1_every_stream_is_sent_and_closed(suite: &Suite) {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("data");
    std::fs::write(&file, "the file").unwrap();
    let data = ["--role", "filter", "--data", file.to_str().unwrap()];
    for (args, role, content) in [
        (&["--role", "responder"][..], RESPONDER, ""),
        (&["--role", "filter"], FILTER, ""),
        (&data, FILTER, "the file"),
        (&["--role", "authorizer"], AUTHORIZER, ""),
    ] {
        let (output, _) = run_against(suite, args, move |peer| {
            peer.record();
            assert_eq!(peer.stream_of(Type::Params, 1), b"");
            if role != AUTHORIZER {
                assert_eq!(peer.stream_of(Type::Stdin, 1), b"");
            }
            if role == FILTER {
                assert_eq!(peer.stream_of(Type::Data, 1), content.as_bytes());
            }
            peer.send(answer(1, b"ok"));
            // FC-6.3-1: an Authorizer gets nothing more either.
            peer.shutdown_write();
            assert_eq!(peer.rest(), b"");
        });
        assert_succeeds(&output, "ok");
    }
}

fn fc_3_4_2_shortest_lengths(suite: &Suite) {
    let (short, long) = ("v".repeat(127), "v".repeat(128));
    let pairs = [("A", ""), ("SHORT", short.as_str()), ("LONG", long.as_str()), ("A", "=")];
    let args: Vec<_> = pairs.iter().map(|(name, value)| format!("{name}={value}")).collect();
    let args: Vec<_> = args.iter().flat_map(|pair| ["--param", pair]).collect();
    let expected = encode(&pairs);
    let (output, _) = run_against(suite, &args, move |peer| {
        peer.record();
        assert_eq!(peer.stream_of(Type::Params, 1), expected);
        peer.send(answer(1, b"ok"));
    });
    assert_succeeds(&output, "ok");
}

fn q_1_pairs_are_not_cut_across_records(suite: &Suite) {
    let args: Vec<_> = (0..40).map(|n| format!("NAME_{n}={}", "v".repeat(n * 250))).collect();
    let args: Vec<_> = args.iter().flat_map(|pair| ["--param", pair]).collect();
    let (output, _) = run_against(suite, &args, |peer| {
        peer.record();
        let mut names = 0;
        loop {
            let record = peer.record();
            assert_eq!(record.kind, Type::Params);
            if record.content.is_empty() {
                break;
            }
            // All pairs are whole, or this panics.
            names += decode(&record.content).len();
        }
        assert_eq!(names, 40);
        peer.send(answer(1, b"ok"));
    });
    assert_succeeds(&output, "ok");
}

fn q_4_content_length_is_that_of_stdin(suite: &Suite) {
    for length in [0, 1, 70_000] {
        let body = pattern(length, 4);
        let app = RawApp::new();
        let address = app.address.to_string();
        let application = background(move || {
            let mut peer = app.accept();
            let (id, params, stdin) = peer.request();
            peer.send(answer(id, b"ok"));
            (params, stdin)
        });
        let output = suite.programs().call_with(&body, &[&address, "--stdin", "-"]);
        assert_succeeds(&output, "ok");
        let (params, stdin) = application.join();
        assert_eq!(params, encode(&[("CONTENT_LENGTH", &length.to_string())]));
        assert!(stdin == body);
    }
}

fn fc_3_5_1_keep_conn(suite: &Suite) {
    let (output, _) = run_against(suite, &[], |peer| {
        assert_eq!(peer.record().content, [0, 1, 0, 0, 0, 0, 0, 0]);
        peer.send(answer(1, b"ok"));
    });
    assert_succeeds(&output, "ok");
    // It does not wait for an application that keeps the connection.
    let (output, _) = run_against(suite, &["--keep-conn"], |peer| {
        assert_eq!(peer.record().content, [0, 1, 1, 0, 0, 0, 0, 0]);
        peer.send(answer(1, b"ok"));
        peer.record_of(Type::Stdin);
        peer.expect_close();
    });
    assert_succeeds(&output, "ok");
}

fn fc_3_3_2_padding_and_reserved_bytes_are_ignored(suite: &Suite) {
    for padding in [0, 1, 255] {
        let wire = [
            padded(Type::Stdout, 1, b"one", padding),
            padded(Type::Stderr, 1, b"two", padding),
            padded(Type::Stderr, 1, b"", padding),
            padded(Type::Stdout, 1, b"", padding),
            // END_REQUEST's reserved bytes contain old data.
            padded(Type::EndRequest, 1, &[0, 0, 0, 0, 0, 0xDE, 0xAD, 0xFF], padding),
        ];
        let (output, _) = answered(suite, wire.concat());
        assert_succeeds(&output, "one");
        assert_eq!(output.stderr, b"two");
    }
}

fn fc_3_3_9_unknown_records_are_skipped(suite: &Suite) {
    let unknown = |kind, id| record(Type::Other(kind), id, b"whatever");
    let wire = [unknown(12, 1), unknown(255, 1), unknown(99, 7), answer(1, b"ok")];
    assert_succeeds(&answered(suite, wire.concat()).0, "ok");
}

fn fc_5_5_1_app_statuses(suite: &Suite) {
    for status in [1, 256, 1 << 31, u32::MAX] {
        let wire = [record(Type::Stdout, 1, b"partial"), end(1, status, 0)].concat();
        let (output, address) = answered(suite, wire);
        assert_fails(&output, 1, &address, &status.to_string());
        assert_eq!(output.stdout, b"partial");
    }
    // A refusal's app status means nothing.
    let (output, address) = answered(suite, end(1, 7, 2));
    assert_fails(&output, 3, &address, "OVERLOADED");
}

fn a_failure_has_a_line_of_its_own_after_stderr(suite: &Suite) {
    for said in ["no end", "two lines\nno end", "an end\n"] {
        let wire = [record(Type::Stderr, 1, said.as_bytes()), end(1, 3, 0)].concat();
        let (mut output, address) = answered(suite, wire);
        let line = output.stderr.split_off(said.trim_end().len() + 1);
        assert_eq!(String::from_utf8_lossy(&output.stderr).trim_end(), said.trim_end());
        output.stderr = line;
        assert_fails(&output, 1, &address, "status 3");
        assert!(output.stderr.starts_with(b"call: "), "{said:?}");
    }
}

fn fc_6_1_2_streams_that_are_not_closed_or_not_there_q_3(suite: &Suite) {
    let (out, err) = (record(Type::Stdout, 1, b"out"), record(Type::Stderr, 1, b"err"));
    let (out_end, err_end) = (close(Type::Stdout, 1), close(Type::Stderr, 1));
    for (wire, stdout, stderr) in [
        (vec![], "", ""),
        (vec![&out], "out", ""),
        (vec![&err], "", "err"),
        (vec![&out, &err, &out, &err], "outout", "errerr"),
        (vec![&out, &out_end, &err, &err_end], "out", "err"),
        (vec![&err, &err_end, &out, &out_end, &out_end, &err_end], "out", "err"),
        (vec![&out_end], "", ""),
    ] {
        let wire: Vec<u8> = wire.into_iter().flatten().copied().chain(end(1, 0, 0)).collect();
        let (output, _) = answered(suite, wire);
        assert_succeeds(&output, stdout);
        assert_eq!(String::from_utf8_lossy(&output.stderr), stderr);
    }
}

fn fc_6_2_1_an_end_before_stdin_is_read(suite: &Suite) {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("body");
    let body = pattern(30 << 20, 2);
    std::fs::write(&file, &body).unwrap();
    // The application reads nothing after its answer until `call` has ended. So `call` sends what
    // the socket holds, in whatever order the two are scheduled.
    let (app, ended) = (RawApp::new(), Gate::default());
    let address = app.address.to_string();
    let application = background({
        let ended = ended.clone();
        move || {
            let mut peer = app.accept();
            peer.stream_of_params();
            peer.send(answer(1, b"enough"));
            ended.wait();
            peer.rest().len()
        }
    });
    let output = suite.programs().call(&[&address, "--stdin", file.to_str().unwrap()]);
    assert_succeeds(&output, "enough");
    ended.open();
    assert!(application.join() < body.len() / 2, "all of it was sent nevertheless");
}

fn q_12_stray_records_are_passed_over(suite: &Suite) {
    let strays = [
        end(2, 9, 0),
        end(65_535, 0, 1),
        record(Type::Stdout, 9, b"another's"),
        record(Type::Stderr, 9, b"another's"),
        record(Type::GetValuesResult, 0, b""),
        record(Type::GetValuesResult, 0, &encode(&[("FCGI_MPXS_CONNS", "1")])),
        record(Type::UnknownType, 0, &[9, 0, 0, 0, 0, 0, 0, 0]),
    ];
    let wire = [strays.concat(), record(Type::Stdout, 1, b"o"), strays.concat(), answer(1, b"k")];
    let (output, _) = answered(suite, [wire.concat(), end(1, 5, 0)].concat());
    assert_succeeds(&output, "ok");
    assert_eq!(output.stderr, b"");
}

fn q_15_an_answer_that_comes_first(suite: &Suite) {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("body");
    let body = pattern(20 << 20, 15);
    std::fs::write(&file, &body).unwrap();
    let big = pattern(20 << 20, 16);
    let wire = stream(Type::Stdout, 1, &big);
    // The application reads nothing before it has written all of it.
    let (output, _) = run_against(suite, &["--stdin", file.to_str().unwrap()], move |peer| {
        peer.send(wire);
        let (_, _, stdin) = peer.request();
        assert!(stdin == body, "the body came changed");
        peer.send(end(1, 0, 0));
    });
    assert_succeeds(&output, big);
}

fn h_3_large_records_with_large_padding(suite: &Suite) {
    let body = pattern(65_535, 3);
    let mut wire = Vec::new();
    for padding in [1, 254, 255, 0] {
        wire.extend(padded(Type::Stdout, 1, &body, padding));
    }
    wire.extend(end(1, 0, 0));
    assert_succeeds(&answered(suite, wire).0, body.repeat(4));
}

fn h_13_an_answer_may_come_byte_by_byte(suite: &Suite) {
    let (output, _) = run_against(suite, &[], |peer| {
        peer.request();
        let wire = [record(Type::Stderr, 1, b"warning"), answer(1, b"the answer")];
        for byte in wire.concat() {
            peer.send([byte]);
            std::thread::sleep(std::time::Duration::from_micros(200));
        }
    });
    assert_succeeds(&output, "the answer");
    assert_eq!(output.stderr, b"warning");
}
