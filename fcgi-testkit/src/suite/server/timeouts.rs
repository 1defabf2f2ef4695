//! Time limits, short and in real time: which limit passes, and that the connection closes. How
//! exact they are is tested with a simulated clock, in `fcgi-tokio`.

use std::{
    io::Write,
    sync::{Arc, atomic::AtomicUsize},
    time::Instant,
};

use bytes::Bytes;
use fcgi_engine::server::{CANCELLED, Settings};

use super::{AMPLE, NEVER, SOON, hello, settings, stuck_steps};
use crate::suite::{Case, Script, Step, Suite, signal::background, wire::*};

pub(super) const CASES: &[(&str, Case)] = cases![
    "server":
    first_record_limit_h_16,
    params_limit_h_16,
    replies_of_the_servers_own_prolong_no_limit_h_16,
    a_started_record_limit_on_a_kept_connection_h_16,
    stdin_limit,
    idle_limit,
    write_limit_is_for_a_peer_that_reads_nothing,
    silent_connections_stop_no_other_h_16,
    handler_limit,
];

pub(super) const ASYNC_CASES: &[(&str, Case)] =
    cases!["server": abort_grace_ends, a_server_that_is_dropped_drops_its_handlers];

/// No limit but the one that a case sets.
fn unlimited() -> Settings {
    let never = Some(NEVER);
    Settings { first_record: never, params: never, idle: never, write_stall: never, ..settings() }
}

fn first_record_limit_h_16(suite: &Suite) {
    let app = suite.app(Settings { first_record: Some(SOON), ..unlimited() }, hello());
    for begun in [b"".as_slice(), &begin(1, RESPONDER, KEEP)[..7]] {
        let start = Instant::now();
        let mut peer = app.dial();
        peer.send(begun);
        peer.expect_close();
        assert!(start.elapsed() >= SOON);
    }
}

fn params_limit_h_16(suite: &Suite) {
    let app = suite.app(Settings { params: Some(SOON), ..unlimited() }, hello());
    let mut peer = app.dial();
    // Slow, not silent: a byte now and then does not prolong it.
    let start = Instant::now();
    peer.send(begin(1, RESPONDER, KEEP));
    let mut to = peer.writer();
    let dripping = background(move || {
        for byte in record(Type::Params, 1, &[0; 60_000]) {
            if to.write_all(&[byte]).is_err() {
                return true;
            }
            std::thread::sleep(SOON / 50);
        }
        false
    });
    assert_eq!(peer.rest(), b"");
    assert!(start.elapsed() >= SOON);
    drop(peer);
    assert!(dripping.join(), "the connection was closed under it");
}

fn replies_of_the_servers_own_prolong_no_limit_h_16(suite: &Suite) {
    let settings = Settings { first_record: Some(SOON), params: Some(SOON), ..unlimited() };
    let app = suite.app(settings, hello());
    for begun in [Vec::new(), begin(1, RESPONDER, KEEP)] {
        let start = Instant::now();
        let mut peer = app.dial();
        peer.send(begun);
        let mut to = peer.writer();
        let asking = background(move || {
            // The server is gone at some time.
            while to.write_all(&record(Type::GetValues, 0, &[])).is_ok() {
                std::thread::sleep(SOON / 20);
            }
        });
        while let Ok(Some(record)) = peer.try_record() {
            assert_eq!(record.kind, Type::GetValuesResult);
        }
        assert!(start.elapsed() >= SOON);
        drop(peer);
        asking.join();
    }
}

fn a_started_record_limit_on_a_kept_connection_h_16(suite: &Suite) {
    let app = suite.app(Settings { params: Some(SOON), ..unlimited() }, hello());
    for begun in [1, 7, 12] {
        let mut peer = app.dial();
        peer.send(request(1, KEEP, &[], b""));
        assert_eq!(peer.answer(1), complete("hello"));
        let start = Instant::now();
        peer.send(&begin(1, RESPONDER, KEEP)[..begun]);
        peer.expect_close();
        assert!(start.elapsed() >= SOON);
    }
}

fn stdin_limit(suite: &Suite) {
    let limit = AMPLE;
    let settings = Settings { stdin: Some(limit), ..unlimited() };
    let app = suite.app(settings, Script::new([Step::Stdin]).when("READS", "data", [Step::Data]));
    let mut peer = app.dial();
    // The limit starts again with each byte.
    let start = Instant::now();
    peer.send([begin(1, RESPONDER, KEEP), params(1, &[])].concat());
    let mut last = start;
    for byte in [b"a", b"b", b"c", b"d"] {
        std::thread::sleep(limit / 4);
        last = Instant::now();
        peer.send(stream(Type::Stdin, 1, byte));
        peer.expect_stdout(1, byte);
    }
    assert!(start.elapsed() >= limit);
    peer.expect_cut(1, "");
    assert!(last.elapsed() >= limit, "not before its time");
    // Nothing written: the connection goes on, and what still comes is dropped.
    let mut peer = app.dial();
    peer.send([begin(1, FILTER, KEEP), params(1, &[("READS", "data")])].concat());
    assert_eq!(peer.answer(1), failed(CANCELLED));
    peer.send([close(Type::Stdin, 1), request(2, KEEP, &[], b"next")].concat());
    assert_eq!(peer.answer(2), complete("next"));
    app.probe.wait_ended(3);
}

fn idle_limit(suite: &Suite) {
    let app = suite.app(Settings { idle: Some(SOON), ..unlimited() }, hello());
    let mut peer = app.dial();
    let start = Instant::now();
    peer.send(request(1, KEEP, &[], b""));
    assert_eq!(peer.answer(1), complete("hello"));
    peer.expect_close();
    assert!(start.elapsed() >= SOON);
}

fn write_limit_is_for_a_peer_that_reads_nothing(suite: &Suite) {
    let flood = Step::Flood(Bytes::from(vec![b'x'; 64 * 1024]), 256, Arc::<AtomicUsize>::default());
    let app = suite.app(Settings { write_stall: Some(SOON), ..unlimited() }, Script::new([flood]));
    let mut peer = app.dial();
    let start = Instant::now();
    peer.send(request(1, CLOSE, &[], b""));
    app.probe.wait_ended(1);
    assert!(start.elapsed() >= SOON);
    let came = peer.rest().len();
    assert!(came < 256 * 64 * 1024, "it was given up, not finished: {came}");
}

fn silent_connections_stop_no_other_h_16(suite: &Suite) {
    let app = suite.app(unlimited(), hello());
    let mut silent: Vec<_> = (0..200).map(|_| app.dial()).collect();
    for (n, peer) in silent.iter_mut().enumerate() {
        peer.send(&request(1, KEEP, &[], b"")[..n % 24]);
    }
    let mut peer = app.dial();
    for _ in 0..10 {
        peer.send(request(1, KEEP, &[], b""));
        assert_eq!(peer.answer(1), complete("hello"));
    }
}

fn handler_limit(suite: &Suite) {
    let script = Script::new([Step::Exit(3)]).when("STUCK", "yes", stuck_steps()).when(
        "STUCK",
        "silent",
        [Step::Stuck],
    );
    let limit = AMPLE;
    let app = suite.app(Settings { handler: Some(limit), ..unlimited() }, script);
    let mut peer = app.dial();
    let start = Instant::now();
    peer.send(request(1, KEEP, &[("STUCK", "yes")], b""));
    peer.expect_cut(1, "started");
    assert!(start.elapsed() >= limit);
    app.probe.wait_ended(1);
    let mut peer = app.dial();
    let start = Instant::now();
    peer.send(request(1, KEEP, &[("STUCK", "silent")], b""));
    assert_eq!(peer.answer(1), failed(CANCELLED));
    assert!(start.elapsed() >= limit);
    // The connection goes on.
    peer.send(request(1, KEEP, &[], b""));
    assert_eq!(peer.answer(1).app_status, 3);
}

fn abort_grace_ends(suite: &Suite) {
    let settings = Settings { abort_grace: SOON, ..unlimited() };
    let app = suite.app(settings, Script::new(stuck_steps()));
    let mut peer = app.dial();
    peer.send(request(1, KEEP, &[], b""));
    peer.expect_stdout(1, "started");
    let start = Instant::now();
    peer.send(abort(1));
    assert_eq!(peer.answer(1).app_status, CANCELLED);
    assert!(start.elapsed() >= SOON);
    app.probe.wait_ended(1);
}

fn a_server_that_is_dropped_drops_its_handlers(suite: &Suite) {
    let mut app = suite.app(settings(), Script::new(stuck_steps()));
    let mut peer = app.dial();
    peer.send(request(1, KEEP, &[], b""));
    peer.expect_stdout(1, "started");
    app.serving.abandon();
    app.probe.wait_ended(1);
    peer.expect_end_of_answer();
}
