//! Requests and connections past the limits.

use std::net::TcpStream;

use fcgi_engine::{Target, server::Settings};
use fcgi_proto::{Limits, Rejection};

use super::{gated, hello, settings};
use crate::suite::{
    Case, Gate, Suite,
    signal::{pattern, until},
    wire::*,
};

pub(super) const CASES: &[(&str, Case)] = cases![
    "server":
    requests_past_max_requests_get_overloaded_fc_5_5_2,
    a_refusal_without_a_page_where_that_is_wanted_w_2,
    connections_past_max_connections_get_overloaded_fc_5_5_2,
    requests_past_limits_requests_get_overloaded_fc_5_5_2,
    a_second_request_gets_cant_mpx_conn_fc_5_5_2,
    a_request_that_comes_with_another_is_a_second_one_fc_5_5_2,
    a_refusal_of_a_big_upload_is_not_lost,
];

fn limit_requests(requests: usize) -> Settings {
    let mut settings = settings();
    settings.config.limits = Limits::server();
    settings.config.limits.requests = requests;
    settings
}

fn requests_past_max_requests_get_overloaded_fc_5_5_2(suite: &Suite) {
    let gate = Gate::default();
    let app = suite.app(Settings { max_requests: 1, ..settings() }, gated(&gate));
    let (mut one, mut two) = (app.dial(), app.dial());
    one.send(request(1, KEEP, &[], b""));
    one.expect_stdout(1, "started");
    // On another connection, and on the same one.
    two.send(request(1, KEEP, &[], b""));
    assert_eq!(two.answer(1), rejected(Rejection::Overloaded));
    one.send(request(2, KEEP, &[], b""));
    assert_eq!(one.answer(2), rejected(Rejection::Overloaded));
    gate.open();
    assert_eq!(one.answer(1), complete("done"));
    // There is room again.
    gate.open();
    until_served(&mut two, "starteddone");
}

/// A request counts until its handler is gone, which may be a moment after its END_REQUEST.
fn until_served(peer: &mut Peer, expected: &str) {
    until("there is room", || {
        peer.send(request(1, KEEP, &[], b""));
        let answer = peer.answer(1);
        assert!(answer == complete(expected) || answer == rejected(Rejection::Overloaded));
        answer == complete(expected)
    });
}

fn a_refusal_without_a_page_where_that_is_wanted_w_2(suite: &Suite) {
    let mut settings = Settings { max_requests: 0, ..settings() };
    settings.config.rejection_body = false;
    let app = suite.app(settings, hello());
    let mut peer = app.dial();
    peer.send(request(1, KEEP, &[], b""));
    assert_eq!(peer.answer(1), Answer { protocol_status: 2, ..Answer::default() });
}

fn connections_past_max_connections_get_overloaded_fc_5_5_2(suite: &Suite) {
    let settings = Settings { max_connections: 1, first_record: None, ..settings() };
    let app = suite.app(settings, hello());
    let mut one = app.dial();
    one.send(request(1, KEEP, &[], b""));
    assert_eq!(one.answer(1), complete("hello"));
    let mut two = app.dial();
    two.send(request(1, KEEP, &[], b"body"));
    assert_eq!(two.answer(1), rejected(Rejection::Overloaded));
    // The first is as it was.
    one.send(request(1, KEEP, &[], b""));
    assert_eq!(one.answer(1), complete("hello"));
    // Nor is the second refused for ever: a web server that keeps it would never get an answer.
    drop(one);
    until_served(&mut two, "hello");
}

fn requests_past_limits_requests_get_overloaded_fc_5_5_2(suite: &Suite) {
    let gate = Gate::default();
    let app = suite.app(limit_requests(2), gated(&gate));
    let mut peer = app.dial();
    for id in [1, 2] {
        peer.send(request(id, KEEP, &[], b""));
        peer.expect_stdout(id, "started");
    }
    peer.send(request(3, KEEP, &[], b"ignored"));
    assert_eq!(peer.answer(3), rejected(Rejection::Overloaded));
    gate.open();
    gate.open();
}

fn a_second_request_gets_cant_mpx_conn_fc_5_5_2(suite: &Suite) {
    let gate = Gate::default();
    let app = suite.app(limit_requests(1), gated(&gate));
    let mut peer = app.dial();
    peer.send(request(1, KEEP, &[], b""));
    peer.expect_stdout(1, "started");
    peer.send(request(2, KEEP, &[], b"ignored"));
    assert_eq!(peer.answer(2), rejected(Rejection::CantMpxConn));
    gate.open();
    assert_eq!(peer.answer(1), complete("done"));
    gate.open();
    peer.send(request(2, KEEP, &[], b""));
    assert_eq!(peer.answer(2), complete("starteddone"));
}

fn a_request_that_comes_with_another_is_a_second_one_fc_5_5_2(suite: &Suite) {
    let app = suite.app(limit_requests(1), hello());
    let mut peer = app.dial();
    for _ in 0..3 {
        peer.send([request(1, KEEP, &[], b"body"), request(2, KEEP, &[], b"body")].concat());
        // How soon the first one ends makes no difference.
        assert_eq!(peer.answers([1, 2]), [complete("hello"), rejected(Rejection::CantMpxConn)]);
    }
    peer.send(request(2, KEEP, &[], b""));
    assert_eq!(peer.answer(2), complete("hello"));
}

/// The answer is there, whole, though the peer is still busy sending what nobody reads.
pub(super) fn early_answer_arrives(suite: &Suite, settings: Settings, role: u16, expected: Answer) {
    let serving = suite.tcp_app(settings, hello());
    let Target::Tcp(address) = serving.address().target() else { panic!("not TCP") };
    let mut wire = [begin(1, role, CLOSE), params(1, &[])].concat();
    wire.extend(stream(Type::Stdin, 1, &pattern(8 << 20, 3)));
    wire.extend(close(Type::Stdin, 1));
    let mut peer = Peer::tcp(TcpStream::connect(address).unwrap());
    // All of it is sent first. A reset meanwhile would fail this, or lose the answer.
    peer.send(wire);
    assert_eq!(peer.answer(1), expected);
    peer.expect_close();
}

fn a_refusal_of_a_big_upload_is_not_lost(suite: &Suite) {
    let unknown = Answer { protocol_status: 3, ..Answer::default() };
    early_answer_arrives(suite, settings(), 9, unknown);
    let full = Settings { max_requests: 0, ..settings() };
    early_answer_arrives(suite, full, RESPONDER, rejected(Rejection::Overloaded));
    let full = Settings { max_connections: 0, ..settings() };
    early_answer_arrives(suite, full, RESPONDER, rejected(Rejection::Overloaded));
}
