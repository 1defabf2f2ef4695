//! The three roles, app statuses, and what a handler may do.

use fcgi_engine::server::{PANICKED, Settings};
use fcgi_proto::{Rejection, Roles};

use super::{hello, settings};
use crate::suite::{Case, Gate, Script, Step, Suite, signal::pattern, wire::*};

pub(super) const CASES: &[(&str, Case)] = cases![
    "server":
    responder_fc_6_1_1_fc_6_2_1,
    authorizer_fc_6_3_1,
    filter_fc_6_4_1,
    a_body_over_the_handlers_limit_is_an_error,
    a_handler_may_reject_fc_5_5_1,
    unknown_roles_are_refused_and_the_connection_goes_on_fc_5_1_2,
    a_panic_ends_its_request_and_nothing_else,
];

fn responder_fc_6_1_1_fc_6_2_1(suite: &Suite) {
    let steps = [
        // It has none, and that is its end.
        Step::Data,
        Step::Describe,
        Step::Stderr("warning".into()),
        Step::say("|"),
        Step::Stdin,
        Step::Exit(7),
    ];
    let app = suite.app(settings(), Script::new(steps));
    let mut peer = app.dial();
    peer.send(request(1, CLOSE, &[("B", "2"), ("A", "1"), ("B", "")], b"body"));
    let answer = peer.answer(1);
    assert_eq!(answer.stdout, b"Responder close B=2 A=1 B=|body");
    assert_eq!(answer.stderr, b"warning");
    assert!(answer.stdout_closed && answer.stderr_closed, "FC-6.1-1");
    assert_eq!((answer.app_status, answer.protocol_status), (7, 0));
    peer.expect_close();
}

fn authorizer_fc_6_3_1(suite: &Suite) {
    let app = suite.app(
        settings(),
        Script::new([Step::Stdin, Step::say("Status: 200\r\n\r\n"), Step::Describe]),
    );
    let mut peer = app.dial();
    // It reads none, whatever the web server sends of the client's body.
    for stdin in [None, Some(0), Some(1), Some(100_000)] {
        peer.send(begin(1, AUTHORIZER, KEEP));
        peer.send(params(1, &[("REQUEST_METHOD", "GET")]));
        if let Some(len) = stdin {
            peer.send(stream(Type::Stdin, 1, &pattern(len, 1)));
            peer.send(close(Type::Stdin, 1));
        }
        let expected = "Status: 200\r\n\r\nAuthorizer keep REQUEST_METHOD=GET";
        assert_eq!(peer.answer(1), complete(expected));
    }
}

fn filter_fc_6_4_1(suite: &Suite) {
    let app =
        suite.app(settings(), Script::new([Step::Stdin, Step::Describe, Step::Flush, Step::Data]));
    let mut peer = app.dial();
    peer.send([begin(1, FILTER, KEEP), params(1, &[("FCGI_DATA_LENGTH", "8")])].concat());
    peer.send([stream(Type::Stdin, 1, b"form"), close(Type::Stdin, 1)].concat());
    // Output may start once STDIN has ended.
    peer.expect_stdout(1, b"formFilter keep FCGI_DATA_LENGTH=8");
    peer.send([stream(Type::Data, 1, b"the file"), close(Type::Data, 1)].concat());
    assert_eq!(peer.answer(1), complete("the file"));
}

fn a_body_over_the_handlers_limit_is_an_error(suite: &Suite) {
    let app = suite.app(settings(), Script::new([Step::Count(10)]));
    let mut peer = app.dial();
    for (len, status) in [(0, 0), (10, 10), (11, 99), (50_000, 99)] {
        peer.send(request(1, KEEP, &[], &pattern(len, 1)));
        assert_eq!(peer.answer(1).app_status, status);
    }
}

fn a_handler_may_reject_fc_5_5_1(suite: &Suite) {
    let mut settings = settings();
    settings.config.rejection_body = false;
    let app = suite.app(settings, Script::new([Step::Reject(Rejection::Overloaded)]));
    let mut peer = app.dial();
    peer.send(request(1, KEEP, &[], b""));
    assert_eq!(peer.answer(1), Answer { protocol_status: 2, ..Answer::default() });
}

fn unknown_roles_are_refused_and_the_connection_goes_on_fc_5_1_2(suite: &Suite) {
    let mut settings: Settings = settings();
    settings.config.roles = Roles::RESPONDER;
    let app = suite.app(settings, hello());
    let mut peer = app.dial();
    for role in [0, 9, u16::MAX, AUTHORIZER, FILTER] {
        peer.send([begin(1, role, KEEP), params(1, &[("A", "1")])].concat());
        peer.send([stream(Type::Stdin, 1, b"ignored"), close(Type::Stdin, 1)].concat());
        let answer = Answer { protocol_status: 3, ..Answer::default() };
        assert_eq!(peer.answer(1), answer, "role {role}");
    }
    peer.send(request(1, KEEP, &[], b""));
    assert_eq!(peer.answer(1), complete("hello"));
    peer.send(begin(1, 9, CLOSE));
    assert_eq!(peer.answer(1).protocol_status, 3);
    peer.expect_close();
}

fn a_panic_ends_its_request_and_nothing_else(suite: &Suite) {
    let gate = Gate::default();
    let script = Script::new([Step::say("fine")])
        .when("DO", "panic at once", [Step::Panic])
        .when("DO", "panic later", [Step::say("partial"), Step::Yield, Step::Panic])
        .when("DO", "wait", [Step::Pass(gate.clone()), Step::say("fine")]);
    let app = suite.app(settings(), script);
    let panicked = failed(PANICKED);
    assert_eq!(PANICKED, 101);
    let mut peer = app.dial();
    // Alone.
    peer.send(request(1, KEEP, &[("DO", "panic later")], b""));
    peer.expect_cut(1, "partial");
    let mut peer = app.dial();
    peer.send(request(1, KEEP, &[("DO", "panic at once")], b""));
    assert_eq!(peer.answer(1), panicked);
    // Beside another, whichever came first.
    for (waits, panics) in [(1, 2), (2, 1)] {
        let (mut one, mut two) = (vec![("DO", "wait")], vec![("DO", "panic at once")]);
        if waits == 2 {
            std::mem::swap(&mut one, &mut two);
        }
        peer.send([request(1, KEEP, &one, b""), request(2, KEEP, &two, b"")].concat());
        assert_eq!(peer.answer(panics), panicked);
        gate.open();
        assert_eq!(peer.answer(waits), complete("fine"));
    }
    peer.send(request(1, KEEP, &[], b""));
    assert_eq!(peer.answer(1), complete("fine"));
}
