//! What ends a request before its time: its caller, another thread, a limit.

mod raw_app;

use std::{
    io,
    sync::mpsc,
    thread,
    time::{Duration, Instant},
};

use fcgi::{
    Address, CancelHandle, Client, Error, Phase,
    client::{Body, Chunk, Connector},
};
use fcgi_blocking as fcgi;
use raw_app::*;

// Cancellation.

/// Calls from a thread once `peer` says that it got so far.
fn cancelled_while(
    peer: impl FnOnce(&mut Peer, &mpsc::Sender<()>) + Send + 'static,
    call: impl FnOnce(&mut Client) -> Error + Send + 'static,
    handle: impl FnOnce(&mut Client) -> CancelHandle,
) -> (Client, Peer) {
    let (reached, at) = mpsc::channel();
    let (mut client, peer) = connect(RawApp::new(), move |accepted| peer(accepted, &reached));
    let cancel = handle(&mut client);
    let calling = background(move || {
        let error = call(&mut client);
        (error, client)
    });
    at.recv_timeout(PATIENCE).unwrap();
    cancel.cancel();
    let (error, client) = calling.join();
    assert!(matches!(error, Error::Cancelled { .. }), "{error}");
    assert!(error.to_string().contains("raw.sock"), "{error}");
    (client, peer.join())
}

#[test]
fn cancel_from_another_thread_while_waiting_for_the_first_byte() {
    let (mut client, peer) = cancelled_while(
        |peer, reached| {
            let (id, ..) = peer.request();
            reached.send(()).unwrap();
            assert_eq!(peer.record().kind, Type::AbortRequest);
            peer.send(answer(id, b"late"));
            let (id, _, body) = peer.request();
            peer.send(answer(id, &body));
        },
        |client| {
            let error = client.send(post(b"one")).unwrap_err();
            // Its handle is of that request alone.
            assert_eq!(call(client, post(b"two")).unwrap(), stdout("two"));
            error
        },
        Client::cancel_handle,
    );
    drop(peer);
    let error = call(&mut client, post(b"three")).unwrap_err();
    assert!(matches!(error, Error::Closed { .. }), "{error}");
}

#[test]
fn cancel_from_another_thread_while_reading_the_response() {
    let (give, taken) = mpsc::channel();
    let (reached, at) = mpsc::channel();
    let (mut client, peer) = connect(RawApp::new(), move |peer| {
        let (id, ..) = peer.request();
        peer.send(record(Type::Stdout, id, b"first"));
        assert_eq!(peer.record().kind, Type::AbortRequest);
    });
    let calling = background(move || {
        let mut response = client.send(post(b"one")).unwrap();
        give.send(response.cancel_handle()).unwrap();
        assert!(response.chunk().unwrap().is_some());
        reached.send(()).unwrap();
        let error = response.chunk().unwrap_err();
        assert!(response.chunk().unwrap().is_none(), "one error, then nothing");
        error
    });
    let cancel: CancelHandle = taken.recv_timeout(PATIENCE).unwrap();
    at.recv_timeout(PATIENCE).unwrap();
    assert!(!cancel.is_cancelled());
    cancel.cancel();
    let error = calling.join();
    assert!(matches!(error, Error::Cancelled { .. }), "{error}");
    peer.join();
}

#[test]
fn cancel_from_another_thread_while_sending_and_while_draining() {
    // Nobody reads: the socket is full.
    let (go_on, wait) = mpsc::channel::<()>();
    let (_client, _peer) = cancelled_while(
        move |peer, reached| {
            peer.record_of(Type::Stdin);
            reached.send(()).unwrap();
            wait.recv_timeout(PATIENCE).unwrap();
            // What was under way, then the abort, which waited for the next use.
            while peer.record().kind != Type::AbortRequest {}
        },
        move |client| {
            let error = client.send(post(&pattern(10 << 20, 1))).unwrap_err();
            go_on.send(()).unwrap();
            let again = CancelHandle::new();
            let later = again.clone();
            background(move || {
                thread::sleep(Duration::from_millis(20));
                later.cancel();
            });
            // It waits for an END_REQUEST that never comes.
            let drained = client.send_cancellable(post(b"two"), &again).unwrap_err();
            assert!(matches!(drained, Error::Cancelled { .. }), "{drained}");
            error
        },
        Client::cancel_handle,
    );
}

#[test]
fn cancelled_before_it_is_sent() {
    let (mut client, peer) = connect(RawApp::new(), Peer::echo);
    client.cancel_handle().cancel();
    let error = client.send(post(b"one")).unwrap_err();
    assert!(matches!(error, Error::Cancelled { .. }), "{error}");
    // The handle of a request that has ended does nothing.
    let cancel = client.cancel_handle();
    assert_eq!(call(&mut client, post(b"two")).unwrap(), stdout("two"));
    cancel.cancel();
    assert_eq!(call(&mut client, post(b"three")).unwrap(), stdout("three"));
    drop(client);
    drop(peer.join());
}

#[test]
fn cancel_from_another_thread_while_connecting() {
    let (_folder, address, _listener, _connected) = full_backlog();
    let cancel = CancelHandle::new();
    let handle = cancel.clone();
    let connector = Connector::new().connect_timeout(None);
    let connecting =
        background(move || connector.connect_cancellable(&address, &handle).unwrap_err());
    thread::sleep(Duration::from_millis(20));
    cancel.cancel();
    let error = connecting.join();
    assert!(matches!(error, Error::Cancelled { .. }), "{error}");
}

#[test]
fn a_request_cancelled_anywhere_leaves_nothing_to_the_next_h_11() {
    let app = RawApp::new();
    let address = app.serve(|mut peer| peer.echo());
    let mut client = Client::connect(&address).unwrap();
    let mut random = Random::new(0x1234_5678_9ABC_DEF1);
    let (mut cancelled, mut finished, mut reused) = (0, 0, 0);
    for round in 0..400u64 {
        let size = [10, 1000, 100_000, 700_000][random.below(4) as usize];
        let body = pattern(size, round * 2);
        let (pause, chunks) = (u64::from(random.below(400)), random.below(12));
        let request = if random.below(2) == 0 {
            let reader = io::Cursor::new(body.clone());
            post(&[]).param("CONTENT_LENGTH", size.to_string()).stdin(Body::from_reader(reader))
        } else {
            post(&body)
        };
        let cancel = client.cancel_handle();
        let canceller = (random.below(3) > 0).then(|| {
            background(move || {
                thread::sleep(Duration::from_micros(pause));
                cancel.cancel();
            })
        });
        match client.send(request) {
            Ok(mut response) => {
                for _ in 0..chunks {
                    match response.chunk() {
                        Ok(Some(_)) => {}
                        Ok(None) => {
                            finished += 1;
                            break;
                        }
                        Err(Error::Cancelled { .. }) => break,
                        Err(error) => panic!("round {round}: {error}"),
                    }
                }
                cancelled += usize::from(response.app_status().is_none());
            }
            Err(Error::Cancelled { .. }) => cancelled += 1,
            Err(Error::Closed { .. }) => {}
            Err(error) => panic!("round {round}: {error}"),
        }
        let expected = stdout(pattern(5000, round * 2 + 1));
        match call(&mut client, post(&expected.stdout)) {
            Ok(answer) => {
                reused += 1;
                assert!(answer == expected, "round {round}: another request's bytes");
            }
            Err(Error::Closed { .. }) => {
                client = Client::connect(&address).unwrap();
                let answer = call(&mut client, post(&expected.stdout)).unwrap();
                assert!(answer == expected, "round {round}: another request's bytes");
            }
            Err(error) => panic!("round {round}: {error}"),
        }
        canceller.map(Background::join);
    }
    // The points were where it matters.
    assert!(cancelled > 50 && finished > 20 && reused > 50, "{cancelled} {finished} {reused}");
}

// Time limits.

const LIMIT: Duration = Duration::from_millis(200);
const LATER: Duration = Duration::from_secs(100);

fn assert_timeout(error: &Error, expected: Phase) {
    match error {
        Error::Timeout { phase, limit, .. } => assert_eq!((*phase, *limit), (expected, LIMIT)),
        _ => panic!("{error}"),
    }
}

/// One limit nearer than the others.
fn limited(set: impl FnOnce(Connector, Option<Duration>) -> Connector) -> Connector {
    let connector = Connector::new()
        .first_byte_timeout(Some(LATER))
        .next_byte_timeout(Some(LATER))
        .total_timeout(Some(LATER * 2));
    set(connector, Some(LIMIT))
}

#[test]
fn connect_limit() {
    let (_folder, address, _listener, _connected) = full_backlog();
    let connector = limited(Connector::connect_timeout);
    let start = Instant::now();
    let error = connector.connect(&address).unwrap_err();
    assert_timeout(&error, Phase::Connect);
    assert!(start.elapsed() >= LIMIT);
}

#[test]
fn a_backlog_with_room_again_is_tried_again() {
    let (_folder, address, listener, _connected) = full_backlog();
    let connecting = background(move || Connector::new().connect(&address).unwrap());
    thread::sleep(Duration::from_millis(20));
    let _accepted = rustix::net::accept(&listener).unwrap();
    drop(connecting.join());
}

#[test]
fn connect_limit_over_tcp() {
    // A backlog that is full: the system drops what asks for more.
    let listener = rustix::net::socket(
        rustix::net::AddressFamily::INET,
        rustix::net::SocketType::STREAM,
        None,
    )
    .unwrap();
    let any: std::net::SocketAddr = "127.0.0.1:0".parse().unwrap();
    rustix::net::bind(&listener, &any).unwrap();
    rustix::net::listen(&listener, 0).unwrap();
    let listener = std::net::TcpListener::from(listener);
    let address: Address = format!("tcp:{}", listener.local_addr().unwrap()).parse().unwrap();
    let connector = limited(Connector::connect_timeout);
    let mut connected = Vec::new();
    let (start, error) = loop {
        let start = Instant::now();
        match connector.connect(&address) {
            Ok(client) => connected.push(client),
            Err(error) => break (start, error),
        }
        assert!(connected.len() < 10, "no backlog is that long");
    };
    assert_timeout(&error, Phase::Connect);
    assert!(start.elapsed() >= LIMIT);
    // A handle does not wait for it either.
    let cancel = CancelHandle::new();
    let (handle, address) = (cancel.clone(), address);
    let connector = Connector::new().connect_timeout(None);
    let connecting =
        background(move || connector.connect_cancellable(&address, &handle).unwrap_err());
    thread::sleep(Duration::from_millis(20));
    cancel.cancel();
    let error = connecting.join();
    assert!(matches!(error, Error::Cancelled { .. }), "{error}");
}

#[test]
fn next_byte_limit() {
    let (step, steps) = mpsc::channel::<()>();
    // Long enough for a byte that needs no time, on any machine.
    let limit = LIMIT * 10;
    let connector = limited(|connector, _| connector.next_byte_timeout(Some(limit)));
    let (mut client, peer) = connect_by(&connector, RawApp::new(), move |peer| {
        let (id, ..) = peer.request();
        for _ in 0..3 {
            peer.send(record(Type::Stderr, id, b"still here"));
            steps.recv().unwrap();
        }
        assert_eq!(peer.record().kind, Type::AbortRequest);
    });
    let mut response = client.send(post(b"")).unwrap();
    let mut start = Instant::now();
    for _ in 0..3 {
        start = Instant::now();
        assert!(response.chunk().unwrap().is_some());
        step.send(()).unwrap();
    }
    match response.chunk().unwrap_err() {
        Error::Timeout { phase, limit: of, .. } => {
            assert_eq!((phase, of), (Phase::NextByte, limit))
        }
        error => panic!("{error}"),
    }
    assert!(start.elapsed() >= limit);
    assert!(response.chunk().unwrap().is_none());
    peer.join();
}

#[test]
fn a_reader_that_takes_its_time_is_no_silent_application() {
    let (go_on, wait) = mpsc::channel::<()>();
    let connector = limited(Connector::next_byte_timeout);
    let (mut client, peer) = connect_by(&connector, RawApp::new(), move |peer| {
        let (id, ..) = peer.request();
        peer.send(record(Type::Stdout, id, b"one"));
        wait.recv().unwrap();
        peer.send([record(Type::Stdout, id, b"two"), end(id, 0, 0)].concat());
    });
    let mut response = client.send(post(b"")).unwrap();
    assert_eq!(response.chunk().unwrap(), Some(Chunk::Stdout("one".into())));
    go_on.send(()).unwrap();
    let _peer = peer.join();
    // The second has come long before it is asked for.
    thread::sleep(LIMIT * 2);
    assert_eq!(response.chunk().unwrap(), Some(Chunk::Stdout("two".into())));
    assert_eq!(response.chunk().unwrap(), None);
}
