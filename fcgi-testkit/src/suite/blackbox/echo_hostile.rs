//! Floods: whatever a peer sends, memory stays bounded and others are served.

use std::{io::Write, time::Duration};

use super::{Echo, SLEEPS, SOME_MEMORY, echoed};
use crate::suite::{
    Case, Suite,
    signal::{background, pattern},
    wire::*,
};

pub(super) const CASES: &[(&str, Case)] = cases![
    "blackbox::echo":
    h_9_get_values_flood,
    h_9_unknown_types_flood,
    h_9_begin_and_abort_flood,
    h_9_refused_requests_flood,
    h_9_empty_records_flood,
    h_9_one_byte_records,
    h_9_many_unfinished_requests,
    h_12_slow_reader,
    h_12_stdin_that_nobody_reads,
];

/// Sends blocks for as long as they are accepted, reads nothing, and then disconnects. Memory must
/// stay within bounds, and others must be served.
fn flood(echo: &Echo, block: Vec<u8>) {
    echo.assert_alive();
    let before = echo.peak_memory();
    let peer = echo.dial();
    let mut to = peer.writer();
    let flooding = background(move || {
        // 64 MiB, if nothing stops it.
        for _ in 0..(64 << 20) / block.len() {
            if to.write_all(&block).is_err() {
                return;
            }
        }
    });
    // Long enough for the memory to grow; a server that accepts everything needs no longer.
    std::thread::sleep(Duration::from_millis(500));
    echo.assert_alive();
    let grown = echo.peak_memory() - before;
    assert!(grown < SOME_MEMORY, "{grown} KiB");
    // This ends the flood, whether it is stuck or not.
    peer.shutdown();
    flooding.join();
    echo.assert_alive();
}

fn h_9_get_values_flood(suite: &Suite) {
    let names = [("FCGI_MAX_CONNS", ""), ("FCGI_MAX_REQS", ""), ("FCGI_MPXS_CONNS", "")];
    let query = record(Type::GetValues, 0, &encode(&names));
    let echo = suite.echo_program();
    flood(&echo, query.repeat(1000));
    // A peer that reads the replies gets all of them.
    const QUERIES: usize = 20_000;
    let mut peer = echo.dial();
    let sending = peer.send_beside(query.repeat(QUERIES));
    for _ in 0..QUERIES {
        assert_eq!(peer.record().kind, Type::GetValuesResult);
    }
    assert!(sending.join());
}

fn h_9_unknown_types_flood(suite: &Suite) {
    flood(&suite.echo_program(), record(Type::Other(200), 0, b"").repeat(1000));
}

fn h_9_begin_and_abort_flood(suite: &Suite) {
    let echo = suite.echo_program();
    let begun = [begin(1, RESPONDER, KEEP), abort(1)].concat();
    flood(&echo, begun.repeat(1000));
    let whole = [request(1, KEEP, &SLEEPS, b"body"), abort(1)].concat();
    flood(&echo, whole.repeat(1000));
}

fn h_9_refused_requests_flood(suite: &Suite) {
    let echo = suite.echo_program();
    flood(&echo, begin(1, 99, KEEP).repeat(1000));
    let cut = [begin(1, RESPONDER, KEEP), record(Type::Params, 1, &[9]), close(Type::Params, 1)];
    flood(&echo, cut.concat().repeat(1000));
}

fn h_9_empty_records_flood(suite: &Suite) {
    let echo = suite.echo_program();
    for block in [
        close(Type::Stdin, 9),
        abort(9),
        record(Type::Other(100), 9, b""),
        padded(Type::Stdin, 9, b"", 255),
        record(Type::GetValues, 0, b""),
    ] {
        flood(&echo, block.repeat(1000));
    }
}

fn h_9_one_byte_records(suite: &Suite) {
    const BYTES: usize = 200_000;
    let echo = suite.echo_program();
    echo.assert_alive();
    let before = echo.peak_memory();
    let body = pattern(BYTES, 1);
    let mut wire = [begin(1, RESPONDER, KEEP), params(1, &[])].concat();
    wire.extend(body.iter().flat_map(|byte| record(Type::Stdin, 1, &[*byte])));
    wire.extend(close(Type::Stdin, 1));
    let mut peer = echo.dial();
    let sending = peer.send_beside(wire);
    assert!(peer.answer(1) == echoed(&[], &body), "the body came back changed");
    assert!(sending.join());
    let grown = echo.peak_memory() - before;
    assert!(grown < SOME_MEMORY, "{grown} KiB");
}

fn h_9_many_unfinished_requests(suite: &Suite) {
    let echo = suite.echo_program();
    echo.assert_alive();
    let before = echo.peak_memory();
    let value = [b'v'; 10_000];
    let wire: Vec<u8> = (1..=u16::MAX)
        .step_by(20)
        .flat_map(|id| [begin(id, RESPONDER, KEEP), record(Type::Params, id, &pair(b"N", &value))])
        .flatten()
        .collect();
    let peer = echo.dial();
    let sending = peer.send_beside(wire);
    std::thread::sleep(Duration::from_millis(500));
    echo.assert_alive();
    let grown = echo.peak_memory() - before;
    assert!(grown < SOME_MEMORY, "{grown} KiB");
    peer.shutdown();
    sending.join();
}

fn h_12_slow_reader(suite: &Suite) {
    const BYTES: usize = 64 << 20;
    let echo = suite.echo_program();
    echo.assert_alive();
    let before = echo.peak_memory();
    let mut peer = echo.dial();
    peer.send(request(1, CLOSE, &[("ECHO_REPEAT_BYTES", "67108864")], b""));
    std::thread::sleep(Duration::from_millis(500));
    let grown = echo.peak_memory() - before;
    assert!(grown < SOME_MEMORY, "{grown} KiB");
    let (mut read, mut pauses) = (0, 0);
    loop {
        let record = peer.record();
        match record.kind {
            Type::Stdout => read += record.content.len(),
            _ => break assert_eq!(record.end(), (0, 0)),
        }
        if read > (pauses + 1) * (16 << 20) {
            pauses += 1;
            std::thread::sleep(Duration::from_millis(50));
        }
    }
    assert_eq!(read, super::HEAD.len() + BYTES, "no byte is lost");
    peer.expect_close();
    let grown = echo.peak_memory() - before;
    assert!(grown < SOME_MEMORY, "{grown} KiB");
}

fn h_12_stdin_that_nobody_reads(suite: &Suite) {
    let echo = suite.echo_program();
    echo.assert_alive();
    let before = echo.peak_memory();
    let peer = echo.dial();
    let sending = peer.send_beside(request(1, KEEP, &SLEEPS, &pattern(64 << 20, 12)));
    std::thread::sleep(Duration::from_millis(500));
    let grown = echo.peak_memory() - before;
    assert!(grown < SOME_MEMORY, "{grown} KiB");
    echo.assert_alive();
    peer.shutdown();
    assert!(!sending.join(), "it was not taken");
}
