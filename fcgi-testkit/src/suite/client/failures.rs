//! Failures, and how they are reported.

use std::{io, net::TcpListener, time::Duration};

use fcgi_engine::{Address, Error, client::Chunk};
use fcgi_proto::{ProtocolErrorKind, Rejection};

use super::{fails, post};
use crate::suite::{
    Case, Suite, TestRequest, feed, patient,
    signal::{background, until},
    wire::*,
};

pub(super) const CASES: &[(&str, Case)] = cases![
    "client":
    refusals_are_errors_of_their_own_q_11_q_13,
    truncated_after_the_bytes_that_came_q_14,
    a_reset_without_a_reply_is_truncated_q_8,
    protocol_errors_come_after_the_bytes_before_them,
    no_application_is_a_connect_error_that_names_the_address,
    a_body_that_fails_aborts_the_request,
];

/// One request, and what the application does when it has it: the bytes that were handed out, the
/// error after them, and whether the connection can be used again.
fn answered(suite: &Suite, bytes: impl AsRef<[u8]>) -> (Vec<u8>, Error, bool) {
    let (_app, mut client, mut peer) = suite.connected(patient());
    let bytes = bytes.as_ref().to_vec();
    let application = background(move || {
        peer.request();
        peer.send(bytes);
        peer.shutdown_write();
        peer
    });
    let mut out = Vec::new();
    let error = match client.send(post(b"body")) {
        Err(error) => error,
        Ok(mut response) => {
            let error = loop {
                match response.chunk() {
                    Ok(Some(Chunk::Stdout(bytes) | Chunk::Stderr(bytes))) => out.extend(bytes),
                    Ok(None) => panic!("a success after {out:?}"),
                    Err(error) => break error,
                }
            };
            assert!(matches!(response.chunk(), Ok(None)), "one error, then nothing");
            assert_eq!(response.app_status(), None);
            error
        }
    };
    application.join();
    (out, error, client.is_reusable())
}

fn refusals_are_errors_of_their_own_q_11_q_13(suite: &Suite) {
    for (status, expected) in
        [(1, Rejection::CantMpxConn), (2, Rejection::Overloaded), (3, Rejection::UnknownRole)]
    {
        let (out, error, _) = answered(suite, end(1, 0, status));
        assert!(
            matches!(&error, Error::Rejected { rejection, .. } if *rejection == expected),
            "{error}"
        );
        assert_eq!(out, b"");
        // With a page on STDOUT, which is passed on before it (W-2).
        let page = [record(Type::Stdout, 1, b"page"), end(1, 0, status)].concat();
        let (out, error, _) = answered(suite, page);
        assert!(
            matches!(&error, Error::Rejected { rejection, .. } if *rejection == expected),
            "{error}"
        );
        assert_eq!(out, b"page");
    }
}

fn truncated_after_the_bytes_that_came_q_14(suite: &Suite) {
    let partial = answer(1, b"partial");
    for cut in [0, 5, 8, 12, 16, 24, partial.len() - 16, partial.len() - 1] {
        let (out, error, reusable) = answered(suite, &partial[..cut]);
        assert!(matches!(error, Error::Truncated { .. }), "cut at {cut}: {error}");
        let came = cut.saturating_sub(8).min(7);
        assert_eq!(out, &b"partial"[..came], "cut at {cut}");
        assert!(!reusable);
        assert!(error.to_string().contains("raw.sock"), "names the address: {error}");
    }
}

fn a_reset_without_a_reply_is_truncated_q_8(suite: &Suite) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address: Address = format!("tcp:{}", listener.local_addr().unwrap()).parse().unwrap();
    let mut client = suite.client(&address);
    let (stream, _) = listener.accept().unwrap();
    // Closed with the request unread: a reset.
    let sending = background(move || {
        let error = fails(&mut *client, post(&[b'x'; 4096]));
        (error, client.is_reusable())
    });
    stream.set_read_timeout(Some(Duration::from_secs(1))).unwrap();
    until("the request is there", || stream.peek(&mut [0]).is_ok_and(|n| n > 0));
    drop(stream);
    let (error, reusable) = sending.join();
    assert!(matches!(error, Error::Truncated { .. }), "{error}");
    assert!(!reusable);
}

fn protocol_errors_come_after_the_bytes_before_them(suite: &Suite) {
    for (garbage, expected) in [
        (b"HTTP/1.1 200 OK\r\n\r\n".to_vec(), ProtocolErrorKind::Version(b'H')),
        (end(1, 0, 4), ProtocolErrorKind::ProtocolStatus { request_id: 1, status: 4 }),
        (record(Type::Stdout, 0, b"x"), ProtocolErrorKind::ZeroRequestId(Type::Stdout)),
        (record(Type::Stdin, 1, b"x"), ProtocolErrorKind::WrongDirection(Type::Stdin)),
    ] {
        let wire = [record(Type::Stdout, 1, b"partial!"), garbage].concat();
        let (out, error, reusable) = answered(suite, wire);
        match &error {
            Error::Protocol { source, .. } => assert_eq!(source.kind, expected),
            _ => panic!("{error}"),
        }
        assert_eq!(out, b"partial!");
        assert!(!reusable);
    }
}

fn no_application_is_a_connect_error_that_names_the_address(suite: &Suite) {
    let connect = |address| match suite.adapter.connect(&address, patient()) {
        Ok(_) => panic!("connected to {address}"),
        Err(error) => error,
    };
    let (_folder, _, address) = unix_address();
    let error = connect(address);
    assert!(matches!(&error, Error::Connect { .. }), "{error}");
    assert!(error.to_string().contains("app.sock"), "{error}");
    let error = connect(Address::STDIN);
    assert!(matches!(error, Error::NotCallable { .. }), "{error}");
}

fn a_body_that_fails_aborts_the_request(suite: &Suite) {
    let (_app, mut client, mut peer) = suite.connected(patient());
    let (feeder, stdin) = feed();
    assert!(feeder.send(Ok("half".into())));
    let sending = background(move || {
        let error = fails(&mut *client, TestRequest::responder().stdin(stdin));
        (error, client)
    });
    let begin = peer.record();
    peer.stream_of(Type::Params, begin.id);
    assert_eq!(peer.record().content, b"half");
    assert!(feeder.send(Err(io::Error::other("the disk is gone"))));
    assert_eq!(peer.record().kind, Type::AbortRequest);
    let (error, mut client) = sending.join();
    assert!(matches!(&error, Error::Body { .. }), "{error}");
    assert!(error.report().to_string().contains("the disk is gone"), "{error}");
    // Its STDIN was never whole, so that nothing may follow on this connection.
    peer.send(end(begin.id, 1, 0));
    let error = fails(&mut *client, post(b"next"));
    assert!(matches!(error, Error::Closed { .. }), "{error}");
}
