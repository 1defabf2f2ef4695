//! The end of a server.

use std::time::{Duration, Instant};

use fcgi_engine::server::{CANCELLED, Settings};
use fcgi_proto::Rejection;

use super::{NEVER, SOON, echo, gated, settings, stuck};
use crate::suite::{
    Case, Gate, Step, Suite,
    signal::{PATIENCE, until},
    wire::*,
};

pub(super) const CASES: &[(&str, Case)] = cases![
    "server":
    shutdown_closes_idle_connections_and_finishes_requests_fc_7_1,
    shutdown_takes_a_request_that_is_on_its_way_w_13,
    shutdown_cancels_what_takes_too_long,
];

fn shutdown_closes_idle_connections_and_finishes_requests_fc_7_1(suite: &Suite) {
    let gate = Gate::default();
    let mut app = suite.app(settings(), gated(&gate));
    let (mut silent, mut idle, mut busy) = (app.dial(), app.dial(), app.dial());
    gate.open();
    idle.send(request(1, KEEP, &[], b""));
    assert_eq!(idle.answer(1), complete("starteddone"));
    for id in [1, 2] {
        busy.send(request(id, KEEP, &[], b""));
        busy.expect_stdout(id, "started");
    }
    app.serving.stop();
    silent.expect_close();
    idle.expect_close();
    until("it takes no more connections", || !app.path.exists());
    assert!(app.serving.ended(SOON).is_none(), "requests are under way");
    // A request that comes now, beside others, is too late.
    busy.send(request(3, KEEP, &[], b""));
    assert_eq!(busy.answer(3), rejected(Rejection::Overloaded));
    gate.open();
    gate.open();
    assert_eq!(busy.answers([1, 2]), [complete("done"), complete("done")]);
    busy.expect_close();
    app.stopped();
}

fn shutdown_takes_a_request_that_is_on_its_way_w_13(suite: &Suite) {
    // The longest time stands for no limit.
    for shutdown_grace in [NEVER, Duration::MAX] {
        takes_what_is_on_its_way(suite, Settings { shutdown_grace, ..settings() });
    }
}

fn takes_what_is_on_its_way(suite: &Suite, settings: Settings) {
    let mut app = suite.app(settings, echo());
    let (mut new, mut kept, mut busy) = (app.dial(), app.dial(), app.dial());
    kept.send(request(1, KEEP, &[], b"one"));
    assert_eq!(kept.answer(1), complete("one"));
    busy.send([begin(1, RESPONDER, KEEP), params(1, &[])].concat());
    app.serving.stop();
    until("it takes no more connections", || !app.path.exists());
    // Not closed, and their requests are answered; then they are.
    for peer in [&mut new, &mut kept] {
        peer.send(request(1, KEEP, &[], b"late"));
        assert_eq!(peer.answer(1), complete("late"));
        peer.expect_close();
    }
    busy.send([request(2, KEEP, &[], b"beside"), stream(Type::Stdin, 1, b"end")].concat());
    busy.send(close(Type::Stdin, 1));
    let [one, two] = busy.answers([1, 2]);
    assert_eq!((one, two), (complete("end"), complete("beside")));
    busy.expect_close();
    app.stopped();
}

fn shutdown_cancels_what_takes_too_long(suite: &Suite) {
    let script = stuck().when("SAY", "nothing", [Step::Stuck]);
    let mut app = suite.app(Settings { shutdown: SOON, ..settings() }, script);
    let (mut begun, mut silent, mut both) = (app.dial(), app.dial(), app.dial());
    begun.send(request(1, KEEP, &[], b""));
    begun.expect_stdout(1, "started");
    let nothing = [("SAY", "nothing")];
    // The server has seen the request when it answers the query after it.
    silent.send([request(1, KEEP, &nothing, b""), record(Type::GetValues, 0, &[])].concat());
    assert_eq!(silent.record().kind, Type::GetValuesResult);
    both.send([request(2, KEEP, &nothing, b""), request(1, KEEP, &[], b"")].concat());
    both.expect_stdout(1, "started");
    let start = Instant::now();
    app.serving.stop();
    // One that has begun to answer is cut, one that has not says why (W-12, W-15).
    begun.expect_cut(1, "");
    assert_eq!(silent.answer(1), failed(CANCELLED));
    silent.expect_close();
    assert_eq!(both.answer(2), failed(CANCELLED));
    both.expect_cut(1, "");
    drop((begun, silent, both));
    app.stopped();
    assert!(start.elapsed() >= SOON, "not before its time");
    assert!(start.elapsed() < PATIENCE);
    app.probe.wait_ended(4);
}
