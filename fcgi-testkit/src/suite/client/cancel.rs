//! Aborted requests: none of their bytes reach the next.

use std::{io::Write, time::Duration};

use bytes::Bytes;
use fcgi_engine::{
    Error, Phase,
    client::{Chunk, Settings},
};

use super::{call, fails, post, server_settings, stdout};
use crate::suite::{
    CancelPoint, Case, Progress, Suite, feed, patient,
    signal::{Random, background, pattern},
    wire::*,
};

pub(super) const CASES: &[(&str, Case)] = cases![
    "client":
    a_dropped_response_is_aborted_and_drained_h_11,
    an_application_that_ignores_an_abort_is_given_up_q_6,
    an_application_that_never_stops_after_an_abort_is_given_up_q_6,
    the_total_limit_ends_the_wait_for_an_abort_q_6,
    a_connection_closed_after_an_abort_is_not_late_q_6,
    a_request_cancelled_anywhere_leaves_nothing_to_the_next_h_11,
];

fn a_dropped_response_is_aborted_and_drained_h_11(suite: &Suite) {
    let (_app, mut client, mut peer) = suite.connected(patient());
    let application = background(move || {
        let (id, ..) = peer.request();
        peer.send(record(Type::Stdout, id, b"first"));
        let aborted = peer.record();
        assert_eq!((aborted.kind, aborted.id), (Type::AbortRequest, id));
        // What was under way, then the end.
        peer.send(answer(id, b"late"));
        let (next, _, body) = peer.request();
        assert_ne!(next, id, "a stray second END_REQUEST may still come (Q-12)");
        peer.send(answer(next, &body));
        peer
    });
    let mut response = client.send(post(b"one")).unwrap();
    assert_eq!(response.chunk().unwrap(), Some(Chunk::Stdout("first".into())));
    drop(response);
    assert!(!client.is_reusable(), "not before its END_REQUEST");
    assert_eq!(call(&mut *client, post(b"two")).unwrap(), stdout("two"));
    application.join();
}

fn an_application_that_ignores_an_abort_is_given_up_q_6(suite: &Suite) {
    let limit = Duration::from_millis(200);
    let settings = Settings { drain: limit, ..patient() };
    let (_app, mut client, mut peer) = suite.connected(settings);
    let application = background(move || {
        let (id, ..) = peer.request();
        peer.send(record(Type::Stdout, id, b"first"));
        peer
    });
    let response = client.send(post(b"one")).unwrap();
    // The limit counts from the abort.
    let start = std::time::Instant::now();
    drop(response);
    let error = fails(&mut *client, post(b"two"));
    assert!(matches!(error, Error::Closed { .. }), "{error}");
    assert!(start.elapsed() >= limit);
    application.join();
}

fn an_application_that_never_stops_after_an_abort_is_given_up_q_6(suite: &Suite) {
    let limit = Duration::from_millis(200);
    let settings = Settings { drain: limit, ..patient() };
    let (_app, mut client, mut peer) = suite.connected(settings);
    let flood = background(move || {
        let (id, ..) = peer.request();
        let mut to = peer.writer();
        let block = record(Type::Stdout, id, &[b'x'; 32 * 1024]);
        while to.write_all(&block).is_ok() {}
    });
    let response = client.send(post(b"one")).unwrap();
    // The limit counts from the abort.
    let start = std::time::Instant::now();
    drop(response);
    let error = fails(&mut *client, post(b"two"));
    assert!(matches!(error, Error::Closed { .. }), "{error}");
    assert!(start.elapsed() >= limit);
    drop(client);
    flood.join();
}

fn the_total_limit_ends_the_wait_for_an_abort_q_6(suite: &Suite) {
    // Time enough for the first request on a machine under load.
    let total = Duration::from_secs(5);
    let drain = Duration::from_secs(600);
    let (_app, mut client, mut peer) =
        suite.connected(Settings { total: Some(total), drain, ..patient() });
    let application = background(move || {
        let (id, ..) = peer.request();
        peer.send(record(Type::Stdout, id, b"first"));
        peer
    });
    drop(client.send(post(b"one")).unwrap());
    let error = fails(&mut *client, post(b"two"));
    let late =
        matches!(error, Error::Timeout { phase: Phase::Response, limit, .. } if limit == total);
    assert!(late, "{error}");
    application.join();
}

fn a_connection_closed_after_an_abort_is_not_late_q_6(suite: &Suite) {
    let total = Some(Duration::from_secs(600));
    let drain = Duration::from_secs(1200);
    let (_app, mut client, mut peer) = suite.connected(Settings { total, drain, ..patient() });
    let application = background(move || {
        let (id, ..) = peer.request();
        peer.send(record(Type::Stdout, id, b"first"));
        assert_eq!(peer.record().kind, Type::AbortRequest);
    });
    drop(client.send(post(b"one")).unwrap());
    let error = fails(&mut *client, post(b"two"));
    assert!(matches!(error, Error::Closed { .. }), "{error}");
    application.join();
}

fn a_request_cancelled_anywhere_leaves_nothing_to_the_next_h_11(suite: &Suite) {
    let app = suite.echo(server_settings());
    let mut client = suite.client(app.address());
    let mut random = Random::new(0x1234_5678_9ABC_DEF1);
    let (mut cancelled, mut finished, mut reused) = (0, 0, 0);
    for round in 0..500u64 {
        let size = [10, 1000, 100_000, 700_000][random.below(4) as usize];
        let body = pattern(size, round * 2);
        let mut request = post(&body).param("PREFIX", "first");
        let mut feeding = None;
        if random.below(2) == 0 {
            let (feeder, stdin) = feed();
            feeding = Some(background(move || {
                for chunk in body.chunks(1 + body.len() / 5) {
                    if !feeder.send(Ok(Bytes::copy_from_slice(chunk))) {
                        return;
                    }
                }
            }));
            request = request.stdin(stdin);
        }
        let point = CancelPoint {
            sending: random.below(12),
            chunks: random.below(12),
            reading: random.below(6),
        };
        match client.send_and_cancel(request, point) {
            Ok(Progress::Cancelled) => cancelled += 1,
            Ok(Progress::Finished) => finished += 1,
            Err(Error::Closed { .. }) => {}
            Err(error) => panic!("round {round}: {error}"),
        }
        let expected = stdout(pattern(5000, round * 2 + 1));
        match call(&mut *client, post(&expected.stdout)) {
            Ok(answer) => {
                reused += 1;
                assert!(answer == expected, "round {round}: another request's bytes");
            }
            Err(Error::Closed { .. }) => {
                client = suite.client(app.address());
                let answer = call(&mut *client, post(&expected.stdout)).unwrap();
                assert!(answer == expected, "round {round}: another request's bytes");
            }
            Err(error) => panic!("round {round}: {error}"),
        }
        if let Some(feeding) = feeding {
            feeding.join();
        }
    }
    // The points were where it matters.
    assert!(cancelled > 0 && finished > 0 && reused > 0, "{cancelled} {finished} {reused}");
}
