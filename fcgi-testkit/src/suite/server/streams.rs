//! Bytes as they come, backpressure, and many requests on one connection.

use std::{
    io::Write,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use fcgi_engine::server::{EndOfFile, Settings};
use fcgi_proto::Input;

use super::{echo, hello, settings};
use crate::suite::{
    Case, Gate, Script, Step, Suite,
    signal::{background, pattern, until},
    wire::*,
};

pub(super) const CASES: &[(&str, Case)] = cases![
    "server":
    response_begins_before_stdin_ends_and_bytes_pass_through_fc_6_2_1,
    what_was_flushed_is_with_the_peer_while_the_handler_goes_on,
    a_handler_writes_no_faster_than_its_peer_reads_h_12,
    stdin_that_is_not_read_pushes_back,
    requests_interleave_on_one_connection_and_a_slow_one_stalls_none,
    no_byte_is_lost_whichever_handle_reads,
    keep_conn_clear_closes_fc_3_5_1,
    keep_conn_set_keeps_fc_3_5_1,
    an_answer_before_the_end_of_a_big_upload_is_not_lost_fc_6_2_1,
    half_close_after_the_last_byte_still_gets_the_response_fc_3_5_2_w_8,
];

fn response_begins_before_stdin_ends_and_bytes_pass_through_fc_6_2_1(suite: &Suite) {
    let app = suite.app(settings(), Script::new([Step::say("start"), Step::Stdin]));
    let mut peer = app.dial();
    peer.send([begin(1, RESPONDER, KEEP), params(1, &[])].concat());
    peer.expect_stdout(1, "start");
    for chunk in ["one", "two", "three"] {
        peer.send(stream(Type::Stdin, 1, chunk.as_bytes()));
        peer.expect_stdout(1, chunk);
    }
    // The first half of a record is there before the second has been sent.
    let last = record(Type::Stdin, 1, b"abcdefgh");
    peer.send(&last[..12]);
    peer.expect_stdout(1, "abcd");
    peer.send(&last[12..]);
    peer.expect_stdout(1, "efgh");
    peer.send(close(Type::Stdin, 1));
    assert_eq!(peer.answer(1), complete(""));
}

fn what_was_flushed_is_with_the_peer_while_the_handler_goes_on(suite: &Suite) {
    let gate = Gate::default();
    let steps = [Step::say("early"), Step::Flush, Step::Pass(gate.clone()), Step::say("late")];
    let app = suite.app(settings(), Script::new(steps));
    let mut peer = app.dial();
    peer.send(request(1, KEEP, &[], b""));
    peer.expect_stdout(1, "early");
    gate.open();
    assert_eq!(peer.answer(1), complete("late"));
}

/// What the sockets' buffers, one chunk and the queue may hold together.
const IN_FLIGHT: usize = 2 << 20;

fn a_handler_writes_no_faster_than_its_peer_reads_h_12(suite: &Suite) {
    const CHUNK: usize = 64 * 1024;
    const TOTAL: usize = 64 << 20;
    let written = Arc::new(AtomicUsize::new(0));
    let chunk = Bytes::from(vec![b'x'; CHUNK]);
    let flood = Step::Flood(chunk, TOTAL / CHUNK, Arc::clone(&written));
    let app = suite.app(settings(), Script::new([flood]));
    let mut peer = app.dial();
    peer.send(request(1, CLOSE, &[], b""));
    // A reader that comes late: the time only gives a handler that does not wait room to show it.
    until("it writes", || written.load(Ordering::SeqCst) >= 2 * CHUNK);
    std::thread::sleep(Duration::from_millis(300));
    let (mut read, mut most) = (0, 0);
    loop {
        most = most.max(written.load(Ordering::SeqCst).saturating_sub(read));
        let record = peer.record();
        match record.kind {
            Type::Stdout => read += record.content.len(),
            _ => break assert_eq!(record.end(), (0, 0)),
        }
    }
    assert_eq!(read, TOTAL);
    assert!(most <= IN_FLIGHT, "{most} bytes were written ahead of the reader");
    peer.expect_close();
}

fn stdin_that_is_not_read_pushes_back(suite: &Suite) {
    let gate = Gate::default();
    let app = suite.app(settings(), Script::new([Step::Pass(gate.clone()), Step::Stdin]));
    let body = pattern(20 << 20, 7);
    let mut peer = app.dial();
    let sent = Arc::new(AtomicUsize::new(0));
    let wire = request(1, CLOSE, &[], &body);
    let sender = background({
        let (sent, mut to) = (Arc::clone(&sent), peer.writer());
        move || {
            for piece in wire.chunks(16 * 1024) {
                to.write_all(piece).unwrap();
                sent.fetch_add(piece.len(), Ordering::SeqCst);
            }
        }
    });
    until("it sends", || sent.load(Ordering::SeqCst) >= 128 * 1024);
    std::thread::sleep(Duration::from_millis(300));
    let ahead = sent.load(Ordering::SeqCst);
    assert!(ahead <= IN_FLIGHT, "{ahead} bytes were taken from the peer and not read");
    gate.open();
    let mut answer = Peer::replay(peer.rest());
    assert!(answer.answer(1) == complete(body), "the body came back changed");
    sender.join();
}

fn requests_interleave_on_one_connection_and_a_slow_one_stalls_none(suite: &Suite) {
    const SLOW: u16 = 7;
    const IDS: std::ops::RangeInclusive<u16> = 1..=20;
    let gate = Gate::default();
    let head = [Step::Param("ID"), Step::say(":")];
    let slow = [&head[..], &[Step::Pass(gate.clone()), Step::Stdin]].concat();
    let script = Script::new([&head[..], &[Step::Stdin]].concat()).when("ID", "7", slow);
    let app = suite.app(settings(), script);
    let mut peer = app.dial();
    let mut wire = Vec::new();
    for id in IDS {
        wire.extend(begin(id, RESPONDER, KEEP));
    }
    for id in IDS.rev() {
        wire.extend(params(id, &[("ID", &id.to_string())]));
    }
    for round in 0..50u64 {
        for id in IDS {
            wire.extend(stream(Type::Stdin, id, &pattern(100, round * 100 + u64::from(id))));
        }
    }
    for id in IDS {
        wire.extend(close(Type::Stdin, id));
    }
    let expected = |id: u16| {
        let mut body = format!("{id}:").into_bytes();
        (0..50).for_each(|round| body.extend(pattern(100, round * 100 + u64::from(id))));
        complete(body)
    };
    let sender = peer.send_beside(wire);
    let mut answers = vec![Answer::default(); 21];
    let mut done = Vec::new();
    while done.len() < 19 {
        let record = peer.record();
        if answers[usize::from(record.id)].take(&record) {
            assert_ne!(record.id, SLOW);
            done.push(record.id);
        }
    }
    gate.open();
    loop {
        let record = peer.record();
        assert_eq!(record.id, SLOW);
        if answers[usize::from(SLOW)].take(&record) {
            break;
        }
    }
    for id in IDS {
        assert_eq!(answers[usize::from(id)], expected(id), "request {id}");
    }
    assert!(sender.join());
}

fn no_byte_is_lost_whichever_handle_reads(suite: &Suite) {
    let stdin = |sizes| [Step::Handles(Input::Stdin, sizes)];
    let script = Script::new(stdin(&[4]))
        .when("HOW", "mixed", stdin(&[3, 0, 1]))
        .when("HOW", "roomy", stdin(&[100, 7]))
        .when("HOW", "data", [Step::Handles(Input::Data, &[1, 3, 0])]);
    let app = suite.app(settings(), script);
    let mut peer = app.dial();
    // Large chunks are slices of the receive buffer, small ones are put together.
    for body in [b"abcdefgh".to_vec(), pattern(300_000, 3)] {
        for how in ["", "mixed", "roomy"] {
            let sending = peer.send_beside(request(1, KEEP, &[("HOW", how)], &body));
            assert!(peer.answer(1) == complete(body.clone()), "{how}: the body came back changed");
            assert!(sending.join());
        }
    }
    peer.send([begin(1, FILTER, KEEP), params(1, &[("HOW", "data")])].concat());
    peer.send([close(Type::Stdin, 1), stream(Type::Data, 1, b"abcdefgh")].concat());
    peer.send(close(Type::Data, 1));
    assert_eq!(peer.answer(1), complete("abcdefgh"));
}

fn keep_conn_clear_closes_fc_3_5_1(suite: &Suite) {
    let app = suite.app(settings(), hello());
    let mut peer = app.dial();
    peer.send(request(1, CLOSE, &[], b""));
    assert_eq!(peer.answer(1), complete("hello"));
    peer.expect_close();
}

fn keep_conn_set_keeps_fc_3_5_1(suite: &Suite) {
    let app = suite.app(settings(), echo());
    let mut peer = app.dial();
    for round in 0..100u16 {
        // Any id will do, again and again.
        let id = [1, 2, u16::MAX][usize::from(round % 3)];
        let body = pattern(usize::from(round) * 37 + 1, u64::from(round));
        peer.send(request(id, KEEP, &[], &body));
        assert_eq!(peer.answer(id), complete(body));
    }
}

fn an_answer_before_the_end_of_a_big_upload_is_not_lost_fc_6_2_1(suite: &Suite) {
    super::overload::early_answer_arrives(suite, settings(), RESPONDER, complete("hello"));
}

fn half_close_after_the_last_byte_still_gets_the_response_fc_3_5_2_w_8(suite: &Suite) {
    let gate = Gate::default();
    let steps = || [Step::say("started"), Step::Pass(gate.clone()), Step::Stdin];
    // A unix socket knows that its peer still reads; TCP has to be told (W-17).
    let unix = suite.app(settings(), Script::new(steps()));
    let half = Settings { end_of_file: EndOfFile::HalfClosed, ..settings() };
    let tcp = suite.tcp_app(half, Script::new(steps()));
    for address in [unix.serving.address(), tcp.address()] {
        for keep_conn in [KEEP, CLOSE] {
            let mut peer = Peer::dial(address);
            peer.send(request(1, keep_conn, &[], b"body"));
            peer.shutdown_write();
            peer.expect_stdout(1, "started");
            gate.open();
            assert_eq!(peer.answer(1), complete("body"));
            peer.expect_close();
        }
    }
}
