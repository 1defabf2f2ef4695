//! Cancellation: ABORT_REQUEST, peers that leave, and connections that fail.

use fcgi_engine::{
    Error,
    server::{CANCELLED, Settings},
};
use fcgi_proto::server::AbortReason;

use super::{NEVER, settings, stuck, stuck_steps};
use crate::suite::{Case, Event, Gate, Script, Step, Suite, wire::*};

pub(super) const CASES: &[(&str, Case)] = cases![
    "server":
    abort_drops_the_handler_fc_5_4_1,
    abort_reaches_a_handler_beside_others_and_only_that,
    abort_with_grace_lets_the_handler_answer_fc_5_4_1,
    a_lost_peer_drops_every_handler_w_8,
    a_lost_peer_is_told_to_a_handler_with_grace_w_8,
    half_close_inside_the_body_cancels,
    protocol_errors_close_the_connection_and_cancel_its_requests,
];

fn cancelled() -> Answer {
    Answer { app_status: CANCELLED, ..complete("") }
}

fn with_grace() -> Settings {
    Settings { abort_grace: NEVER, ..settings() }
}

fn abort_drops_the_handler_fc_5_4_1(suite: &Suite) {
    for input in [close(Type::Stdin, 1), stream(Type::Stdin, 1, b"half a bo"), Vec::new()] {
        let app = suite.app(settings(), stuck());
        let mut peer = app.dial();
        peer.send([begin(1, RESPONDER, KEEP), params(1, &[]), input].concat());
        peer.expect_stdout(1, "started");
        assert_eq!(app.probe.ended(), 0);
        peer.send(abort(1));
        assert_eq!(peer.answer(1), cancelled(), "END_REQUEST with REQUEST_COMPLETE");
        app.probe.wait_ended(1);
    }
}

fn abort_reaches_a_handler_beside_others_and_only_that(suite: &Suite) {
    let gate = Gate::default();
    let script = Script::new([Step::Pass(gate.clone()), Step::say("fine")]).when(
        "STUCK",
        "yes",
        stuck_steps(),
    );
    let app = suite.app(settings(), script);
    let mut peer = app.dial();
    let stuck = [("STUCK", "yes")];
    peer.send([request(1, KEEP, &[], b""), request(2, KEEP, &stuck, b"")].concat());
    peer.expect_stdout(2, "started");
    // First, ids that are not active (FC-3.3-6).
    peer.send([abort(9), abort(2)].concat());
    assert_eq!(peer.answer(2), cancelled());
    app.probe.wait_ended(1);
    gate.open();
    assert_eq!(peer.answer(1), complete("fine"));
    // Again, with the other request first.
    peer.send([request(2, KEEP, &stuck, b""), request(1, KEEP, &[], b"")].concat());
    peer.expect_stdout(2, "started");
    peer.send(abort(2));
    assert_eq!(peer.answer(2), cancelled());
    gate.open();
    assert_eq!(peer.answer(1), complete("fine"));
}

fn abort_with_grace_lets_the_handler_answer_fc_5_4_1(suite: &Suite) {
    let steps = [Step::say("started"), Step::Cancelled, Step::TryStreams, Step::Exit(42)];
    let app = suite.app(with_grace(), Script::new(steps));
    let mut peer = app.dial();
    peer.send([begin(1, RESPONDER, KEEP), params(1, &[])].concat());
    peer.expect_stdout(1, "started");
    peer.send(abort(1));
    assert_eq!(peer.answer(1), Answer { app_status: 42, ..complete("") });
    app.probe.wait_ended(1);
    // Both streams report it too.
    let aborted = Event::Failed(Error::Aborted(AbortReason::Requested).to_string());
    let expected =
        [Event::Cancelled(AbortReason::Requested), aborted.clone(), aborted, Event::Ended];
    assert_eq!(app.probe.events(), expected);
}

fn a_lost_peer_drops_every_handler_w_8(suite: &Suite) {
    let app = suite.app(settings(), stuck());
    let mut peer = app.dial();
    peer.send([request(1, KEEP, &[], b""), request(2, KEEP, &[], b"")].concat());
    let mut started = [peer.record(), peer.record()].map(|record| (record.id, record.content));
    started.sort();
    assert_eq!(started, [(1, b"started".to_vec()), (2, b"started".to_vec())]);
    drop(peer);
    app.probe.wait_ended(2);
}

fn a_lost_peer_is_told_to_a_handler_with_grace_w_8(suite: &Suite) {
    let steps = [Step::say("started"), Step::Cancelled];
    let mut app = suite.app(with_grace(), Script::new(steps));
    let mut peer = app.dial();
    peer.send(request(1, KEEP, &[], b""));
    peer.expect_stdout(1, "started");
    drop(peer);
    app.probe.wait(&Event::Cancelled(AbortReason::Disconnected));
    // It does not delay the shutdown.
    app.serving.stop();
    app.stopped();
}

fn half_close_inside_the_body_cancels(suite: &Suite) {
    let app = suite.app(settings(), stuck());
    let mut peer = app.dial();
    peer.send([begin(1, RESPONDER, KEEP), params(1, &[]), stream(Type::Stdin, 1, b"ha")].concat());
    peer.expect_stdout(1, "started");
    peer.shutdown_write();
    app.probe.wait_ended(1);
}

fn protocol_errors_close_the_connection_and_cancel_its_requests(suite: &Suite) {
    for garbage in [
        b"GET / HTTP/1.1\r\n\r\n".to_vec(),       // FC-3.3-4
        record(Type::Stdin, 0, b"x"),             // FC-3.3-5, H-8
        record(Type::BeginRequest, 2, b"short"),  // FC-5.1-1, H-5
        begin(1, RESPONDER, KEEP),                // FC-3.3-10
        record(Type::GetValuesResult, 0, b""),    // FC-3.3-11, W-11
        stream(Type::Stdin, 1, b"after its end"), // FC-3.3-12
    ] {
        let app = suite.app(settings(), stuck());
        let mut peer = app.dial();
        peer.send(request(1, KEEP, &[], b""));
        peer.expect_stdout(1, "started");
        peer.send(garbage);
        peer.expect_end();
        app.probe.wait_ended(1);
    }
}
