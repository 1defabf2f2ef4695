//! When a kept connection can carry another request.

use fcgi_engine::Error;

use super::{call, fails, post, server_settings, stdout};
use crate::suite::{
    Case, Suite, TestRequest, patient,
    signal::{background, pattern},
    wire::*,
};

pub(super) const CASES: &[(&str, Case)] = cases![
    "client":
    a_kept_connection_carries_a_hundred_requests_fc_3_5_1,
    without_keep_conn_there_is_one_request_fc_3_5_1,
    a_connection_closed_while_idle_is_noticed,
    what_nobody_asked_for_is_no_part_of_the_next_response_h_11,
    an_end_before_stdin_was_read_stops_the_upload_and_the_reuse_q_10_fc_6_2_1,
    content_length_that_is_not_so_poisons_the_connection_q_4,
];

fn a_kept_connection_carries_a_hundred_requests_fc_3_5_1(suite: &Suite) {
    let (_app, mut client, mut peer) = suite.connected(patient());
    let application = background(move || {
        for _ in 0..100 {
            let (id, _, body) = peer.request();
            assert_eq!(id, 1, "FC-3.3-7");
            peer.send(answer(id, &body));
        }
        peer
    });
    for round in 0..100 {
        let body = pattern(round * 31, round as u64);
        assert_eq!(call(&mut *client, post(&body)).unwrap(), stdout(body));
        assert!(client.is_reusable());
    }
    application.join();
}

fn without_keep_conn_there_is_one_request_fc_3_5_1(suite: &Suite) {
    let app = suite.echo(server_settings());
    let mut client = suite.client(app.address());
    let answer = call(&mut *client, post(b"body").keep_conn(false)).unwrap();
    assert_eq!(answer, stdout("body"));
    assert!(!client.is_reusable());
    let error = fails(&mut *client, post(b"next"));
    assert!(matches!(error, Error::Closed { .. }), "{error}");
}

fn a_connection_closed_while_idle_is_noticed(suite: &Suite) {
    let (_app, mut client, mut peer) = suite.connected(patient());
    let application = background(move || {
        let (id, _, body) = peer.request();
        peer.send(answer(id, &body));
    });
    assert_eq!(call(&mut *client, post(b"body")).unwrap(), stdout("body"));
    application.join();
    let error = fails(&mut *client, post(b"next"));
    assert!(matches!(error, Error::Closed { .. }), "{error}");
    assert!(!client.is_reusable());
}

fn what_nobody_asked_for_is_no_part_of_the_next_response_h_11(suite: &Suite) {
    let (_app, mut client, mut peer) = suite.connected(patient());
    let application = background(move || {
        let (id, _, body) = peer.request();
        peer.send(answer(id, &body));
        peer
    });
    assert_eq!(call(&mut *client, post(b"body")).unwrap(), stdout("body"));
    let mut peer = application.join();
    peer.send(answer(1, b"of another request"));
    let application = background(move || {
        while let Some(record) = peer.try_record().ok().flatten() {
            if record.kind == Type::Stdin && record.content.is_empty() {
                peer.send(answer(record.id, b"of this one"));
            }
        }
    });
    // It is passed over, or ends the connection.
    match call(&mut *client, post(b"next")) {
        Ok(answer) => assert_eq!(answer, stdout("of this one")),
        Err(error) => assert!(matches!(error, Error::Closed { .. }), "{error}"),
    }
    drop(client);
    application.join();
}

fn an_end_before_stdin_was_read_stops_the_upload_and_the_reuse_q_10_fc_6_2_1(suite: &Suite) {
    // Most of the body is on its way: it need not be taken.
    let (_app, mut client, mut peer) = suite.connected(patient());
    let application = background(move || {
        peer.record_of(Type::Stdin);
        peer.send(answer(1, b"enough"));
        peer
    });
    let answer_ = call(&mut *client, post(&pattern(10 << 20, 1))).unwrap();
    assert_eq!(answer_, stdout("enough"));
    assert!(!client.is_reusable());
    application.join();
}

fn content_length_that_is_not_so_poisons_the_connection_q_4(suite: &Suite) {
    for (length, body, reusable) in [
        ("4", "body", true),
        ("3", "body", false),
        ("5", "body", false),
        ("1", "", false),
        ("0", "", true),
    ] {
        let (_app, mut client, mut peer) = suite.connected(patient());
        let application = background(move || {
            let (id, _, body) = peer.request();
            peer.send(answer(id, &body));
            peer
        });
        let request = TestRequest::responder().param("CONTENT_LENGTH", length).stdin(body);
        // The answer still counts.
        assert_eq!(call(&mut *client, request).unwrap(), stdout(body));
        let _peer = application.join();
        assert_eq!(client.is_reusable(), reusable, "CONTENT_LENGTH {length} for {body:?}");
    }
}
