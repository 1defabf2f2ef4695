//! `call` against applications that break the protocol, lie, flood, or go away.

use std::{
    io::{Read, Write},
    net::TcpListener,
    process::Stdio,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use super::{
    SOME_MEMORY,
    call_rules::{answered, assert_succeeds, run_against},
};
use crate::suite::{
    Case, Suite,
    programs::{assert_fails, proc_status},
    signal::{background, until},
    wire::*,
};

pub(super) const CASES: &[(&str, Case)] = cases![
    "blackbox::call":
    fc_3_3_4_another_version,
    fc_3_3_5_application_records_of_id_0_h_8,
    fc_3_3_11_records_of_the_wrong_direction_h_8,
    fc_3_3_12_data_after_the_end_of_a_stream,
    fc_5_5_1_end_request_of_another_length_h_5,
    fc_5_5_1_unknown_protocol_statuses,
    q_11_q_13_refusals,
    q_8_a_reset_without_a_reply,
    q_14_truncated_anywhere,
    h_9_q_21_endless_records_that_bring_nothing,
    h_9_endless_stderr_ends_at_the_time_limit,
    h_9_endless_stdout_ends_at_the_time_limit,
    h_12_a_slow_reader_of_its_stdout_slows_the_application,
];

/// Exit status 4, after the bytes that came before.
fn assert_protocol_error(suite: &Suite, bytes: &[u8], cause: &str) {
    let wire = [&record(Type::Stdout, 1, b"partial!")[..], bytes].concat();
    let (output, address) = answered(suite, wire);
    assert_fails(&output, 4, &address, cause);
    assert_eq!(output.stdout, b"partial!", "after the bytes that came");
}

fn fc_3_3_4_another_version(suite: &Suite) {
    for version in [0, 2, 255] {
        let mut wire = end(1, 0, 0);
        wire[0] = version;
        assert_protocol_error(suite, &wire, "version");
    }
    assert_protocol_error(suite, b"HTTP/1.1 200 OK\r\n\r\n", "version");
}

fn fc_3_3_5_application_records_of_id_0_h_8(suite: &Suite) {
    for (kind, name) in
        [(Type::Stdout, "STDOUT"), (Type::Stderr, "STDERR"), (Type::EndRequest, "END_REQUEST")]
    {
        assert_protocol_error(suite, &record(kind, 0, &[0; 8]), name);
    }
}

fn fc_3_3_11_records_of_the_wrong_direction_h_8(suite: &Suite) {
    for (kind, id, name) in [
        (Type::BeginRequest, 1, "BEGIN_REQUEST"),
        (Type::AbortRequest, 1, "ABORT_REQUEST"),
        (Type::Params, 1, "PARAMS"),
        (Type::Stdin, 1, "STDIN"),
        (Type::Data, 1, "DATA"),
        (Type::GetValues, 0, "GET_VALUES"),
    ] {
        assert_protocol_error(suite, &record(kind, id, &[0; 8]), name);
    }
}

fn fc_3_3_12_data_after_the_end_of_a_stream(suite: &Suite) {
    let wire = [close(Type::Stdout, 1), record(Type::Stdout, 1, b"more")].concat();
    assert_protocol_error(suite, &wire, "STDOUT");
    let wire = [close(Type::Stderr, 1), record(Type::Stderr, 1, b"more")].concat();
    assert_protocol_error(suite, &wire, "STDERR");
}

fn fc_5_5_1_end_request_of_another_length_h_5(suite: &Suite) {
    for length in (0..=16).filter(|length| *length != 8) {
        let wire = record(Type::EndRequest, 1, &[0; 16][..length]);
        assert_protocol_error(suite, &wire, "END_REQUEST");
    }
    // UNKNOWN_TYPE's content is as long.
    assert_protocol_error(suite, &record(Type::UnknownType, 0, &[9]), "UNKNOWN_TYPE");
}

fn fc_5_5_1_unknown_protocol_statuses(suite: &Suite) {
    for status in [4, 5, 128, 255] {
        assert_protocol_error(suite, &end(1, 0, status), &status.to_string());
    }
}

fn q_11_q_13_refusals(suite: &Suite) {
    for (status, name) in [(1, "CANT_MPX_CONN"), (2, "OVERLOADED"), (3, "UNKNOWN_ROLE")] {
        let (output, address) = answered(suite, end(1, 0, status));
        assert_fails(&output, 3, &address, name);
        assert_eq!(output.stdout, b"");
        // A page may come before it; it is no success all the same (W-2).
        let page = [record(Type::Stdout, 1, b"page"), close(Type::Stdout, 1), end(1, 0, status)];
        let (output, address) = answered(suite, page.concat());
        assert_fails(&output, 3, &address, name);
        assert_eq!(output.stdout, b"page");
    }
}

fn q_8_a_reset_without_a_reply(suite: &Suite) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = format!("tcp:{}", listener.local_addr().unwrap());
    let application = background(move || {
        let (stream, _) = listener.accept().unwrap();
        // Closed with a part of the request unread: a reset.
        until("the request is there", || stream.peek(&mut [0]).is_ok_and(|n| n > 0));
    });
    let output = suite.programs().call(&[&address, "--param", "A=1"]);
    assert_fails(&output, 4, &address, "closed before the request ended");
    application.join();
    // Closed at once, without a byte.
    let (output, address) = run_against(suite, &[], |peer| peer.shutdown());
    assert_fails(&output, 4, &address, "closed before the request ended");
}

fn q_14_truncated_anywhere(suite: &Suite) {
    let whole = answer(1, b"partial");
    for cut in [0, 1, 7, 8, 9, 15, 16, 17, 24, 25, whole.len() - 16, whole.len() - 1] {
        let (output, address) = answered(suite, whole[..cut].to_vec());
        assert_fails(&output, 4, &address, "closed before the request ended");
        assert_eq!(output.stdout, &b"partial"[..cut.saturating_sub(8).min(7)], "cut at {cut}");
    }
    assert_succeeds(&answered(suite, whole).0, "partial");
}

/// An application that sends a block for ever.
fn endless(suite: &Suite, block: Vec<u8>, args: &[&str]) -> (std::process::Output, String) {
    run_against(suite, args, move |peer| {
        // On a busy machine its time may be over before its request is complete.
        peer.try_request();
        let mut to = peer.writer();
        while to.write_all(&block).is_ok() {}
    })
}

fn h_9_q_21_endless_records_that_bring_nothing(suite: &Suite) {
    for block in [
        record(Type::Other(50), 1, b""),
        record(Type::GetValuesResult, 0, b""),
        close(Type::Stdout, 1),
        close(Type::Stdout, 7),
        end(9, 0, 0),
        record(Type::UnknownType, 0, &[99, 0, 0, 0, 0, 0, 0, 0]),
    ] {
        let (output, address) = endless(suite, block.repeat(1000), &[]);
        assert_fails(&output, 4, &address, "records in a row");
    }
    // And large ones.
    let (output, address) = endless(suite, record(Type::Stdout, 7, &[b'x'; 60_000]), &[]);
    assert_fails(&output, 4, &address, "no part of a request or response");
}

fn h_9_endless_stderr_ends_at_the_time_limit(suite: &Suite) {
    let block = record(Type::Stderr, 1, &[b'e'; 8000]);
    let (output, address) = endless(suite, block, &["--timeout", "0.5"]);
    assert_eq!(output.status.code(), Some(6));
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(text.contains(&address), "names the address");
    assert!(text.ends_with("500ms\n"), "says why");
}

fn h_9_endless_stdout_ends_at_the_time_limit(suite: &Suite) {
    let block = record(Type::Stdout, 1, &[b'o'; 32_000]);
    let (output, address) = endless(suite, block, &["--timeout", "0.5"]);
    assert_fails(&output, 6, &address, "500ms");
    assert!(output.stdout.iter().all(|byte| *byte == b'o'));
}

fn h_12_a_slow_reader_of_its_stdout_slows_the_application(suite: &Suite) {
    const BYTES: usize = 64 << 20;
    let app = RawApp::new();
    let address = app.address.to_string();
    let sent = Arc::new(AtomicUsize::new(0));
    let application = background({
        let sent = Arc::clone(&sent);
        move || {
            let mut peer = app.accept();
            peer.request();
            let block = [b'x'; 32 * 1024];
            for _ in 0..BYTES / block.len() {
                peer.send(record(Type::Stdout, 1, &block));
                sent.fetch_add(block.len(), Ordering::SeqCst);
            }
            peer.send(end(1, 0, 0));
        }
    });
    let mut command = suite.programs().command("call");
    let mut child = command.arg(&address).stdout(Stdio::piped()).spawn().unwrap();
    until("it reads", || sent.load(Ordering::SeqCst) > 64 * 1024);
    std::thread::sleep(Duration::from_millis(300));
    let taken = sent.load(Ordering::SeqCst);
    assert!(taken < 4 << 20, "{taken} bytes were taken and went nowhere");
    assert!(proc_status(child.id(), "VmHWM") < SOME_MEMORY);
    let mut out = child.stdout.take().unwrap();
    let read = background(move || {
        let mut all = Vec::new();
        out.read_to_end(&mut all).map(|_| all.len()).unwrap()
    });
    assert_eq!(read.join(), BYTES, "no byte is lost");
    assert!(child.wait().unwrap().success());
    application.join();
}
