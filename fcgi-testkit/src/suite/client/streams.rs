//! Roles, and streams in both directions.

use std::time::Duration;

use bytes::Bytes;
use fcgi_engine::{
    Error,
    client::{Chunk, Collected},
};

use super::{call, fails, post, server_settings, stdout};
use crate::suite::{
    Case, Suite, TestRequest, feed, patient,
    signal::{background, pattern},
    wire::*,
};

pub(super) const CASES: &[(&str, Case)] = cases![
    "client":
    all_roles_against_our_server,
    what_goes_over_the_wire_fc_6_1_1_fc_6_3_1,
    stdout_and_stderr_come_apart_and_in_order_fc_6_1_2,
    app_status_and_empty_answers,
    thirty_megabytes_both_ways_do_not_deadlock_q_15,
    a_response_over_the_callers_limit_is_an_error_and_is_aborted,
];

pub(super) const ASYNC_CASES: &[(&str, Case)] = cases![
    "client":
    the_response_begins_while_the_body_is_not_there_yet,
    an_end_while_the_body_is_not_there_yet_lets_it_go_q_10_fc_6_2_1,
];

fn all_roles_against_our_server(suite: &Suite) {
    let app = suite.echo(server_settings());
    let mut client = suite.client(app.address());
    let answer = call(&mut *client, post(b"body").param("PREFIX", "head ")).unwrap();
    assert_eq!(answer, stdout("head body"));
    let request = TestRequest::authorizer().param("PREFIX", "Status: 200\r\n\r\n");
    assert_eq!(call(&mut *client, request).unwrap(), stdout("Status: 200\r\n\r\n"));
    let request = TestRequest::filter().param("CONTENT_LENGTH", "4").stdin("form").data("file");
    assert_eq!(call(&mut *client, request).unwrap(), stdout("formfile"));
    assert!(client.is_reusable());
}

fn what_goes_over_the_wire_fc_6_1_1_fc_6_3_1(suite: &Suite) {
    let (_app, mut client, mut peer) = suite.connected(patient());
    let application = background(move || {
        let begin = peer.record();
        assert_eq!((begin.kind, begin.id), (Type::BeginRequest, 1));
        assert_eq!(begin.content, [0, 3, 1, 0, 0, 0, 0, 0]);
        assert_eq!(peer.stream_of(Type::Params, 1), encode(&[("A", "1"), ("B", "2")]));
        assert_eq!(peer.stream_of(Type::Stdin, 1), b"", "closed though it is empty");
        assert_eq!(peer.stream_of(Type::Data, 1), b"file");
        peer.send(answer(1, b"ok"));
        // An Authorizer gets PARAMS alone, whatever it was given.
        assert_eq!(peer.record().content, [0, 2, 0, 0, 0, 0, 0, 0]);
        assert_eq!(peer.stream_of(Type::Params, 1), b"");
        peer.send(answer(1, b"ok"));
        peer.expect_close();
    });
    let request = TestRequest::filter().param("A", "1").params([("B", "2")]).data("file");
    assert_eq!(call(&mut *client, request).unwrap(), stdout("ok"));
    let request = TestRequest::authorizer().keep_conn(false).stdin("nobody asked for it");
    assert_eq!(call(&mut *client, request).unwrap(), stdout("ok"));
    drop(client);
    application.join();
}

fn stdout_and_stderr_come_apart_and_in_order_fc_6_1_2(suite: &Suite) {
    let (_app, mut client, mut peer) = suite.connected(patient());
    let application = background(move || {
        let (id, ..) = peer.request();
        let steps: [(Type, &[u8]); 3] =
            [(Type::Stdout, b"one"), (Type::Stderr, b"\x1b[31mwarning"), (Type::Stdout, b"two")];
        for (kind, content) in steps {
            peer.send(record(kind, id, content));
            // The response is read while it comes: this lets each record be a chunk of its own.
            std::thread::sleep(Duration::from_millis(20));
        }
        // STDOUT is not closed, the status uses all of its bits.
        peer.send(end(id, 0xDEAD_BEEF, 0));
        peer
    });
    let mut response = client.send(TestRequest::responder()).unwrap();
    assert_eq!(response.app_status(), None);
    let mut chunks = Vec::new();
    while let Some(chunk) = response.chunk().unwrap() {
        chunks.push(chunk);
    }
    // And nothing more, however often it is asked.
    assert!(response.chunk().unwrap().is_none());
    assert_eq!(response.app_status(), Some(0xDEAD_BEEF));
    let of = |kind: fn(&Chunk) -> Option<&Bytes>| {
        chunks.iter().filter_map(kind).flatten().copied().collect::<Vec<u8>>()
    };
    let out = of(|chunk| if let Chunk::Stdout(bytes) = chunk { Some(bytes) } else { None });
    let err = of(|chunk| if let Chunk::Stderr(bytes) = chunk { Some(bytes) } else { None });
    assert_eq!((out.as_slice(), err.as_slice()), (&b"onetwo"[..], &b"\x1b[31mwarning"[..]));
    application.join();
}

fn app_status_and_empty_answers(suite: &Suite) {
    let mut settings = server_settings();
    settings.config.failure_body = false;
    let app = suite.echo(settings);
    let mut client = suite.client(app.address());
    let answer = call(&mut *client, post(b"").param("EXIT", "4294967295")).unwrap();
    assert_eq!((answer.stdout.len(), answer.stderr.len(), answer.app_status), (0, 0, u32::MAX));
    assert_eq!(call(&mut *client, post(b"")).unwrap(), Collected::default());
}

fn thirty_megabytes_both_ways_do_not_deadlock_q_15(suite: &Suite) {
    let app = suite.echo(server_settings());
    let mut client = suite.client(app.address());
    let body = pattern(30 << 20, 15);
    let answer = call(&mut *client, post(&body)).unwrap();
    assert!(answer.stdout == body, "the body came back changed");
    // The same in chunks that come one by one, without a known length.
    let (feeder, stdin) = feed();
    let chunks = body.clone();
    let feeding = background(move || {
        for chunk in chunks.chunks(100_000) {
            assert!(feeder.send(Ok(Bytes::copy_from_slice(chunk))));
        }
    });
    let answer = call(&mut *client, TestRequest::responder().stdin(stdin)).unwrap();
    assert!(answer.stdout == body, "the body came back changed");
    assert!(client.is_reusable());
    feeding.join();
}

fn the_response_begins_while_the_body_is_not_there_yet(suite: &Suite) {
    let app = suite.echo(server_settings());
    let mut client = suite.client(app.address());
    let (feeder, stdin) = feed();
    let request = TestRequest::responder().param("PREFIX", "early").stdin(stdin);
    let mut response = client.send(request).unwrap();
    assert_eq!(response.chunk().unwrap(), Some(Chunk::Stdout("early".into())));
    for piece in ["one", "two"] {
        assert!(feeder.send(Ok(piece.into())));
        assert_eq!(response.chunk().unwrap(), Some(Chunk::Stdout(piece.into())));
    }
    drop(feeder);
    assert_eq!(response.chunk().unwrap(), None);
    assert_eq!(response.app_status(), Some(0));
}

fn a_response_over_the_callers_limit_is_an_error_and_is_aborted(suite: &Suite) {
    let app = suite.echo(server_settings());
    let mut client = suite.client(app.address());
    let body = pattern(1000, 1);
    let answer = client.send(post(&body)).unwrap().collect(1000).unwrap();
    assert_eq!(answer.stdout, body);
    let error = client.send(post(&body)).unwrap().collect(999).unwrap_err();
    assert!(matches!(error, Error::TooLarge { limit: 999, .. }), "{error}");
    assert_eq!(call(&mut *client, post(b"next")).unwrap(), stdout("next"));
}

fn an_end_while_the_body_is_not_there_yet_lets_it_go_q_10_fc_6_2_1(suite: &Suite) {
    let (_app, mut client, mut peer) = suite.connected(patient());
    let (feeder, stdin) = feed();
    let application = background(move || {
        let begin = peer.record();
        peer.stream_of(Type::Params, begin.id);
        peer.send(answer(begin.id, b"enough"));
        peer
    });
    let answer_ = call(&mut *client, TestRequest::responder().stdin(stdin)).unwrap();
    assert_eq!(answer_, stdout("enough"));
    assert!(feeder.is_let_go(), "the body is let go");
    assert!(!client.is_reusable());
    let error = fails(&mut *client, post(b"next"));
    assert!(matches!(error, Error::Closed { .. }), "{error}");
    drop(client);
    application.join().expect_close();
}
