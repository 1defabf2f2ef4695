//! Time limits, short and in real time: which one passed, and that the request is aborted.

use std::{
    io::{self, Write},
    net::TcpListener,
    time::{Duration, Instant},
};

use fcgi_engine::{
    Address, Error, Phase,
    client::{Chunk, Settings},
};
use rustix::net::{AddressFamily, SocketAddrUnix, SocketType, bind, listen, socket};

use super::{fails, lost::both_ways, post};
use crate::suite::{
    Case, Suite, TestClient, TestRequest, feed, patient, signal::background, wire::*,
};

pub(super) const CASES: &[(&str, Case)] = cases![
    "client":
    connect_limit,
    connect_limit_over_tcp,
    first_byte_limit_counts_from_the_last_byte_sent,
    next_byte_limit,
    a_reader_that_takes_its_time_is_no_silent_application,
    total_limit_ends_an_application_that_always_has_something_to_say,
    total_limit_of_a_silent_application,
];

/// The limit that a case waits for.
const LIMIT: Duration = Duration::from_millis(400);
/// The limits that no case reaches.
const NEVER: Option<Duration> = Some(Duration::from_secs(3600));

fn unlimited() -> Settings {
    Settings { connect: NEVER, first_byte: NEVER, next_byte: NEVER, total: NEVER, ..patient() }
}

fn assert_timeout(error: &Error, expected: Phase) {
    match error {
        Error::Timeout { phase, limit, .. } => assert_eq!((*phase, *limit), (expected, LIMIT)),
        _ => panic!("{error}"),
    }
}

/// Connects until the backlog is full, since nobody accepts. Returns the error of the last call, and
/// how long that took.
fn connect_until_full(suite: &Suite, address: &Address) -> (Error, Duration) {
    let settings = Settings { connect: Some(LIMIT), ..unlimited() };
    let mut connected = Vec::new();
    loop {
        let start = Instant::now();
        match suite.adapter.connect(address, settings) {
            Ok(client) => connected.push(client),
            Err(error) => return (error, start.elapsed()),
        }
        assert!(connected.len() < 10, "no backlog is that long");
    }
}

fn connect_limit(suite: &Suite) {
    let (_folder, path, address) = unix_address();
    let listener = socket(AddressFamily::UNIX, SocketType::STREAM, None).unwrap();
    bind(&listener, &SocketAddrUnix::new(&path).unwrap()).unwrap();
    listen(&listener, 0).unwrap();
    let (error, took) = connect_until_full(suite, &address);
    match &error {
        Error::Timeout { phase, .. } => {
            assert_eq!(*phase, Phase::Connect);
            assert!(took >= LIMIT);
        }
        // A unix socket may say at once that the backlog is full.
        Error::Connect { source, .. } => assert_eq!(source.kind(), io::ErrorKind::WouldBlock),
        _ => panic!("{error}"),
    }
}

fn connect_limit_over_tcp(suite: &Suite) {
    // The system drops connections that do not fit the backlog.
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listen(&listener, 0).unwrap();
    let address = format!("tcp:{}", listener.local_addr().unwrap()).parse().unwrap();
    let (error, took) = connect_until_full(suite, &address);
    assert_timeout(&error, Phase::Connect);
    assert!(took >= LIMIT);
}

fn first_byte_limit_counts_from_the_last_byte_sent(suite: &Suite) {
    const LIMIT: Duration = Duration::from_secs(2);
    const PAUSE: Duration = Duration::from_millis(800);
    let settings = Settings { first_byte: Some(LIMIT), ..unlimited() };
    let serve = |_: &RawApp, mut peer: Peer, _: bool| {
        peer.record_of(Type::AbortRequest);
    };
    both_ways(suite, settings, serve, |way| {
        let start = Instant::now();
        let (feeder, stdin) = feed();
        let uploading = background(move || {
            // A slow upload is not a slow application. This notes when each piece was ready, and
            // when it was sent.
            let mut pieces = Vec::new();
            while pieces.len() < 3 {
                std::thread::sleep(PAUSE);
                let ready = Instant::now();
                if !feeder.send(Ok("piece".into())) {
                    break;
                }
                pieces.push((ready, Instant::now()));
            }
            pieces
        });
        let (_, error) = way.fails(TestRequest::responder().stdin(stdin));
        let ended = Instant::now();
        match &error {
            Error::Timeout { phase, limit, .. } => {
                assert_eq!((*phase, *limit), (Phase::FirstByte, LIMIT));
            }
            _ => panic!("{error}"),
        }
        // On a machine under load a piece may come so late that the limit was right.
        let in_time = |last, (ready, gone)| (gone < last + LIMIT).then_some(ready);
        let pieces = uploading.join();
        let last = pieces.iter().try_fold(start, |last, piece| in_time(last, *piece).ok_or(last));
        let (Ok(last) | Err(last)) = last;
        assert!(ended >= last + LIMIT, "{:?} after {pieces:?}", ended - start);
    });
}

fn next_byte_limit(suite: &Suite) {
    let settings = Settings { next_byte: Some(LIMIT), ..unlimited() };
    let (_app, mut client, mut peer) = suite.connected(settings);
    let application = background(move || {
        let (id, ..) = peer.request();
        peer.send(record(Type::Stderr, id, b"still here"));
        assert_eq!(peer.record().kind, Type::AbortRequest);
    });
    let start = Instant::now();
    let mut response = client.send(post(b"")).unwrap();
    assert!(response.chunk().unwrap().is_some());
    let error = response.chunk().unwrap_err();
    assert_timeout(&error, Phase::NextByte);
    assert!(start.elapsed() >= LIMIT);
    assert!(response.chunk().unwrap().is_none());
    drop(response);
    application.join();
}

fn a_reader_that_takes_its_time_is_no_silent_application(suite: &Suite) {
    let settings = Settings { next_byte: Some(LIMIT), ..unlimited() };
    let (_app, mut client, mut peer) = suite.connected(settings);
    let application = background(move || {
        let (id, ..) = peer.request();
        let parts = [record(Type::Stdout, id, b"one"), record(Type::Stdout, id, b"two")];
        peer.send([parts.concat(), end(id, 0, 0)].concat());
        peer
    });
    let mut response = client.send(post(b"")).unwrap();
    let _peer = application.join();
    let mut came = Vec::new();
    // The response has come long before anybody reads it.
    std::thread::sleep(LIMIT * 2);
    while let Some(chunk) = response.chunk().unwrap() {
        let (Chunk::Stdout(bytes) | Chunk::Stderr(bytes)) = chunk;
        came.extend(bytes);
        std::thread::sleep(LIMIT * 2);
    }
    assert_eq!(came, b"onetwo");
}

fn total_limit_ends_an_application_that_always_has_something_to_say(suite: &Suite) {
    let settings = Settings { total: Some(LIMIT), ..unlimited() };
    let (_app, mut client, mut peer) = suite.connected(settings);
    let flood = background(move || {
        // On a machine under load the limit may pass before the request is sent.
        let Some((id, ..)) = peer.try_request() else { return };
        let mut to = peer.writer();
        let block = record(Type::Stdout, id, &[b'x'; 32 * 1024]);
        while to.write_all(&block).is_ok() {}
    });
    let start = Instant::now();
    let error = read_to_the_error(&mut *client);
    assert_timeout(&error, Phase::Response);
    assert!(start.elapsed() >= LIMIT);
    drop(client);
    flood.join();
}

fn read_to_the_error(client: &mut dyn TestClient) -> Error {
    let mut response = match client.send(post(b"")) {
        Ok(response) => response,
        Err(error) => return error,
    };
    loop {
        match response.chunk() {
            Ok(Some(_)) => {}
            Ok(None) => panic!("the end of what has none"),
            Err(error) => return error,
        }
    }
}

fn total_limit_of_a_silent_application(suite: &Suite) {
    let settings = Settings { total: Some(LIMIT), ..unlimited() };
    let (_app, mut client, mut peer) = suite.connected(settings);
    let application = background(move || {
        // On a machine under load the limit may pass before the request is sent.
        if peer.try_request().is_some() {
            assert_eq!(peer.record().kind, Type::AbortRequest);
        }
    });
    let start = Instant::now();
    let error = fails(&mut *client, post(b""));
    assert_timeout(&error, Phase::Response);
    assert!(start.elapsed() >= LIMIT);
    drop(client);
    application.join();
}
