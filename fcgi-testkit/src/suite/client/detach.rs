//! Detached requests.

use std::time::Duration;

use fcgi_engine::{
    Error, Phase,
    client::{Chunk, Settings},
};

use super::{call, post, stdout};
use crate::suite::{
    Case, Suite, TestClient, patient,
    signal::{Gate, background, pattern},
    wire::*,
};

pub(super) const CASES: &[(&str, Case)] = cases![
    "client":
    a_detached_request_goes_on_and_the_next_one_waits,
    a_detached_request_outlives_its_client,
    a_detached_request_has_its_time_limits,
    a_request_behind_a_detached_one_has_its_own_limit,
];

/// More than sockets hold.
const BODY: usize = 8 << 20;

/// Answers in part, and with the rest once all of the body has come.
fn answer_whole(peer: &mut Peer, goes_on: &Gate) {
    let begin = peer.record();
    peer.stream_of(Type::Params, begin.id);
    peer.send(record(Type::Stdout, begin.id, b"first"));
    goes_on.wait();
    // Nothing but its body comes, no ABORT_REQUEST.
    assert!(peer.stream_of(Type::Stdin, begin.id) == pattern(BODY, 1));
    let block = record(Type::Stdout, begin.id, &[b'x'; 32 * 1024]);
    for _ in 0..BODY / (32 * 1024) {
        peer.send(block.clone());
    }
    peer.send(end(begin.id, 0, 0));
}

fn detach(client: &mut dyn TestClient) {
    let mut response = client.send(post(&pattern(BODY, 1))).unwrap();
    assert_eq!(response.chunk().unwrap(), Some(Chunk::Stdout("first".into())));
    response.detach();
}

fn a_detached_request_goes_on_and_the_next_one_waits(suite: &Suite) {
    let (_app, mut client, mut peer) = suite.connected(patient());
    let goes_on = Gate::default();
    let gate = goes_on.clone();
    let application = background(move || {
        answer_whole(&mut peer, &gate);
        let (next, _, body) = peer.request();
        peer.send(answer(next, &body));
        peer
    });
    detach(&mut *client);
    assert!(client.is_reusable());
    let next = background(move || call(&mut *client, post(b"two")));
    goes_on.open();
    assert_eq!(next.join().unwrap(), stdout("two"));
    application.join();
}

fn a_detached_request_outlives_its_client(suite: &Suite) {
    let (_app, mut client, mut peer) = suite.connected(patient());
    let goes_on = Gate::default();
    let gate = goes_on.clone();
    let application = background(move || {
        answer_whole(&mut peer, &gate);
        peer.expect_end();
    });
    detach(&mut *client);
    drop(client);
    goes_on.open();
    application.join();
}

fn a_detached_request_has_its_time_limits(suite: &Suite) {
    let limit = Some(Duration::from_millis(100));
    let (_app, mut client, mut peer) = suite.connected(Settings { next_byte: limit, ..patient() });
    let application = background(move || {
        let (id, ..) = peer.request();
        peer.send(record(Type::Stdout, id, b"first"));
        // It never goes on.
        let aborted = peer.record();
        assert_eq!((aborted.kind, aborted.id), (Type::AbortRequest, id));
        peer.send(end(id, 1, 0));
        let (next, _, body) = peer.request();
        peer.send(answer(next, &body));
        peer
    });
    let mut response = client.send(post(b"one")).unwrap();
    assert_eq!(response.chunk().unwrap(), Some(Chunk::Stdout("first".into())));
    response.detach();
    assert_eq!(call(&mut *client, post(b"two")).unwrap(), stdout("two"));
    application.join();
}

/// The caller gets its timeout, and the application gets no request that nobody waits for.
fn a_request_behind_a_detached_one_has_its_own_limit(suite: &Suite) {
    // Long enough for work that needs no time, on any machine.
    let total = Some(Duration::from_secs(3));
    let drain = Duration::from_secs(600);
    let (_app, mut client, mut peer) = suite.connected(Settings { total, drain, ..patient() });
    let application = background(move || {
        let (id, ..) = peer.request();
        peer.send(record(Type::Stdout, id, b"first"));
        let aborted = peer.record();
        assert_eq!((aborted.kind, aborted.id), (Type::AbortRequest, id));
        // It ends the request for nobody, and gets no other one.
        peer.expect_end();
    });
    let mut response = client.send(post(b"one")).unwrap();
    assert_eq!(response.chunk().unwrap(), Some(Chunk::Stdout("first".into())));
    response.detach();
    let error = call(&mut *client, post(b"two")).unwrap_err();
    assert!(matches!(error, Error::Timeout { phase: Phase::Response, .. }), "{error:?}");
    drop(client);
    application.join();
}
