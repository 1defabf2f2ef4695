//! The end of a server.

use std::time::Instant;

use fcgi_engine::server::Settings;
use fcgi_proto::Rejection;

use super::{SOON, gated, settings, stuck};
use crate::suite::{
    Case, Gate, Suite,
    signal::{PATIENCE, until},
    wire::*,
};

pub(super) const CASES: &[(&str, Case)] = cases![
    "server":
    shutdown_closes_idle_connections_and_finishes_requests_fc_7_1,
    shutdown_cancels_what_takes_too_long,
];

fn shutdown_closes_idle_connections_and_finishes_requests_fc_7_1(suite: &Suite) {
    let gate = Gate::default();
    let mut app = suite.app(settings(), gated(&gate));
    let (mut silent, mut idle, mut busy) = (app.dial(), app.dial(), app.dial());
    gate.open();
    idle.send(request(1, KEEP, &[], b""));
    assert_eq!(idle.answer(1), complete("starteddone"));
    busy.send(request(1, KEEP, &[], b""));
    busy.expect_stdout(1, "started");
    app.serving.stop();
    silent.expect_close();
    idle.expect_close();
    until("it takes no more connections", || !app.path.exists());
    // A request that comes now is too late.
    busy.send(request(2, KEEP, &[], b""));
    assert_eq!(busy.answer(2), rejected(Rejection::Overloaded));
    assert!(app.serving.ended(SOON).is_none(), "a request is under way");
    gate.open();
    assert_eq!(busy.answer(1), complete("done"));
    busy.expect_close();
    app.stopped();
}

fn shutdown_cancels_what_takes_too_long(suite: &Suite) {
    let mut app = suite.app(Settings { shutdown: SOON, ..settings() }, stuck());
    let mut peer = app.dial();
    peer.send(request(1, KEEP, &[], b""));
    peer.expect_stdout(1, "started");
    let start = Instant::now();
    app.serving.stop();
    peer.expect_end_of_answer();
    app.stopped();
    assert!(start.elapsed() >= SOON, "not before its time");
    assert!(start.elapsed() < PATIENCE);
    app.probe.wait_ended(1);
}
