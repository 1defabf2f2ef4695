//! Handlers that fail, and how the web server notices, since it ignores the app status.

use fcgi_engine::server::{FAILED, PANICKED, Settings};

use fcgi_proto::Rejection;

use super::{settings, stuck};
use crate::suite::{Case, Gate, Script, Step, Suite, signal::pattern, wire::*};

pub(super) const CASES: &[(&str, Case)] = cases![
    "server":
    a_response_that_breaks_half_way_is_cut_w_12,
    beside_others_it_ends_with_a_status_w_12,
    an_abort_of_the_web_servers_is_no_cut_fc_5_4_1,
    a_handler_that_writes_nothing_gets_a_page_w_15,
    no_page_where_that_is_wanted_w_15,
];

/// Each request chooses how its handler fails: at once, or after a part of a response.
fn ways() -> Script {
    let half = || Step::Stdout(pattern(100_000, 1).into());
    Script::new([Step::say("fine")])
        .when("DO", "fail", [Step::Fail])
        .when("DO", "panic", [Step::Panic])
        .when("DO", "exit", [Step::Exit(3)])
        .when("DO", "nothing", [])
        .when("DO", "fail half way", [half(), Step::Fail])
        .when("DO", "panic half way", [half(), Step::Panic])
        .when("DO", "fail after a flush", [half(), Step::Flush, Step::Fail])
        .when("DO", "refuse half way", [half(), Step::Reject(Rejection::Overloaded)])
        .when("DO", "exit half way", [Step::say("whole"), Step::Exit(3)])
        .when("DO", "fail with STDERR", [Step::Stderr("why".into()), Step::Fail])
}

fn a_response_that_breaks_half_way_is_cut_w_12(suite: &Suite) {
    let unix = suite.app(settings(), ways());
    let tcp = suite.tcp_app(settings(), ways());
    for address in [unix.serving.address(), tcp.address()] {
        for way in ["fail half way", "panic half way", "fail after a flush", "refuse half way"] {
            for keep_conn in [KEEP, CLOSE] {
                let mut peer = Peer::dial(address);
                peer.send(request(1, keep_conn, &[("DO", way)], b"body"));
                peer.expect_cut(1, pattern(100_000, 1));
                // This also works if the input has not ended.
                let mut peer = Peer::dial(address);
                peer.send([begin(1, RESPONDER, keep_conn), params(1, &[("DO", way)])].concat());
                peer.expect_cut(1, pattern(100_000, 1));
            }
        }
        // An app status is not a failure.
        let mut peer = Peer::dial(address);
        peer.send(request(1, KEEP, &[("DO", "exit half way")], b""));
        assert_eq!(peer.answer(1), Answer { app_status: 3, ..complete("whole") });
    }
}

fn beside_others_it_ends_with_a_status_w_12(suite: &Suite) {
    let gate = Gate::default();
    let script = ways().when("DO", "wait", [Step::Pass(gate.clone()), Step::say("fine")]);
    let app = suite.app(settings(), script);
    for way in ["fail half way", "panic half way"] {
        let mut peer = app.dial();
        peer.send(request(1, KEEP, &[("DO", "wait")], b""));
        peer.send(request(2, KEEP, &[("DO", way)], b""));
        let answer = peer.answer(2);
        assert!(answer.stdout == pattern(100_000, 1));
        assert_ne!(answer.app_status, 0);
        gate.open();
        assert_eq!(peer.answer(1), complete("fine"));
        peer.send(request(1, KEEP, &[], b""));
        assert_eq!(peer.answer(1), complete("fine"));
    }
}

fn an_abort_of_the_web_servers_is_no_cut_fc_5_4_1(suite: &Suite) {
    let app = suite.app(settings(), stuck().when("SAY", "nothing", [Step::Stuck]));
    let mut peer = app.dial();
    for nothing in [false, true] {
        let pairs: &[_] = if nothing { &[("SAY", "nothing")] } else { &[] };
        peer.send(request(1, KEEP, pairs, b""));
        if !nothing {
            peer.expect_stdout(1, "started");
        }
        peer.send(abort(1));
        let answer = peer.answer(1);
        assert_eq!((answer.stdout, answer.stdout_closed), (Vec::new(), true));
    }
}

fn a_handler_that_writes_nothing_gets_a_page_w_15(suite: &Suite) {
    let app = suite.app(settings(), ways());
    let mut peer = app.dial();
    for (way, app_status) in [("fail", FAILED), ("panic", PANICKED), ("exit", 3), ("nothing", 0)] {
        // An Authorizer that fails denies.
        for role in [RESPONDER, AUTHORIZER, FILTER] {
            peer.send([begin(1, role, KEEP), params(1, &[("DO", way)])].concat());
            if role != AUTHORIZER {
                peer.send(close(Type::Stdin, 1));
            }
            assert_eq!(peer.answer(1), failed(app_status), "{way}");
        }
    }
    peer.send(request(1, KEEP, &[("DO", "fail with STDERR")], b""));
    let answer = Answer { stderr: b"why".to_vec(), stderr_closed: true, ..failed(FAILED) };
    assert_eq!(peer.answer(1), answer);
}

fn no_page_where_that_is_wanted_w_15(suite: &Suite) {
    let mut settings = Settings { ..settings() };
    settings.config.failure_body = false;
    let app = suite.app(settings, ways());
    let mut peer = app.dial();
    for (way, app_status) in [("fail", FAILED), ("panic", PANICKED), ("exit", 3), ("nothing", 0)] {
        peer.send(request(1, KEEP, &[("DO", way)], b""));
        let answer = peer.answer(1);
        assert_eq!((answer.stdout, answer.app_status), (Vec::new(), app_status), "{way}");
    }
}
