//! The client against applications made of raw bytes.

mod raw_app;

use std::{
    io::{self, Read},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
        mpsc,
    },
};

use fcgi::{
    Address, CancelHandle, Client, Error,
    client::{Body, Chunk, Connector, Request},
};
use fcgi_blocking as fcgi;
use raw_app::*;

/// Calls move between threads.
#[test]
fn what_is_send() {
    fn is_send<T: Send>() {}
    fn is_sync<T: Sync>() {}
    is_send::<Client>();
    is_sync::<Client>();
    is_send::<fcgi::client::Response<'_>>();
    is_send::<Request>();
    is_send::<CancelHandle>();
    is_sync::<CancelHandle>();
}

// Roles and streams.

#[test]
fn stdout_and_stderr_come_apart_and_in_order_fc_6_1_2() {
    let (step, steps) = mpsc::channel::<()>();
    let (mut client, peer) = connect(RawApp::new(), move |peer| {
        let (id, ..) = peer.request();
        let records: [(Type, &[u8]); 3] =
            [(Type::Stdout, b"one"), (Type::Stderr, b"\x1b[31mwarning"), (Type::Stdout, b"two")];
        for (kind, content) in records {
            peer.send(record(kind, id, content));
            steps.recv().unwrap();
        }
        // STDOUT is not closed, the status uses all of its bits.
        peer.send(end(id, 0xDEAD_BEEF, 0));
    });
    let mut response = client.send(Request::responder()).unwrap();
    for expected in [
        Chunk::Stdout("one".into()),
        Chunk::Stderr("\x1b[31mwarning".into()),
        Chunk::Stdout("two".into()),
    ] {
        assert_eq!(response.app_status(), None);
        assert_eq!(response.chunk().unwrap(), Some(expected));
        step.send(()).unwrap();
    }
    assert_eq!(response.chunk().unwrap(), None);
    // And nothing more, however often it is asked.
    assert_eq!(response.chunk().unwrap(), None);
    assert_eq!(response.app_status(), Some(0xDEAD_BEEF));
    drop(response);
    assert!(client.is_reusable());
    drop(peer.join());
}

#[test]
fn a_response_is_a_reader_of_stdout() {
    let (mut client, peer) = connect(RawApp::new(), |peer| {
        for _ in 0..2 {
            let (id, ..) = peer.request();
            peer.send(record(Type::Stdout, id, b"one "));
            peer.send(record(Type::Stderr, id, b"not this\n"));
            peer.send([record(Type::Stdout, id, b"two"), end(id, 7, 0)].concat());
        }
        peer.request();
    });
    let mut text = String::new();
    let mut response = client.send(post(b"")).unwrap();
    response.read_to_string(&mut text).unwrap();
    assert_eq!((text.as_str(), response.app_status()), ("one two", Some(7)));
    drop(response);
    // What a read leaves is the next chunk.
    let mut response = client.send(post(b"")).unwrap();
    let mut byte = [0];
    response.read_exact(&mut byte).unwrap();
    assert_eq!(byte, *b"o");
    match response.chunk().unwrap() {
        Some(Chunk::Stdout(bytes)) => assert!(bytes.starts_with(b"ne "), "{bytes:?}"),
        chunk => panic!("{chunk:?}"),
    }
    while response.chunk().unwrap().is_some() {}
    drop(response);
    // An error comes as an io::Error that has it inside.
    background(move || drop(peer.join()));
    let error = client.send(post(b"")).unwrap_err();
    let error = io::Error::from(error);
    assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof);
    assert!(matches!(
        error.get_ref().and_then(|error| error.downcast_ref::<Error>()),
        Some(Error::Truncated { .. })
    ));
}

#[test]
fn what_a_reader_gave_is_sent_before_it_is_asked_for_more() {
    /// Gives a piece once the application has the one before.
    struct Stepwise(mpsc::Receiver<&'static str>);
    impl Read for Stepwise {
        fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
            match self.0.recv_timeout(PATIENCE) {
                Ok(piece) => piece.as_bytes().read(buf),
                Err(mpsc::RecvTimeoutError::Disconnected) => Ok(0),
                Err(error) => Err(io::Error::other(error)),
            }
        }
    }
    let (give, pieces) = mpsc::channel();
    let (mut client, peer) = connect(RawApp::new(), move |peer| {
        let begin = peer.record();
        peer.stream_of(Type::Params, begin.id);
        for piece in ["one", "two"] {
            give.send(piece).unwrap();
            assert_eq!(peer.record().content, piece.as_bytes());
            peer.send(record(Type::Stdout, begin.id, piece.as_bytes()));
        }
        drop(give);
        assert_eq!(peer.stream_of(Type::Stdin, begin.id), b"");
        peer.send(end(begin.id, 0, 0));
    });
    let request = Request::responder().stdin(Body::from_reader(Stepwise(pieces)));
    assert_eq!(call(&mut client, request).unwrap(), stdout("onetwo"));
    peer.join();
}

#[test]
fn a_response_over_the_callers_limit_is_an_error_and_is_aborted() {
    let (mut client, peer) = connect(RawApp::new(), |peer| {
        let (id, _, body) = peer.request();
        peer.send(answer(id, &body));
        let (id, _, body) = peer.request();
        peer.send(record(Type::Stdout, id, &body));
        assert_eq!(peer.record().kind, Type::AbortRequest);
    });
    let body = pattern(1000, 1);
    assert_eq!(client.send(post(&body)).unwrap().collect(1000).unwrap().stdout, body);
    let error = client.send(post(&body)).unwrap().collect(999).unwrap_err();
    assert!(matches!(error, Error::TooLarge { limit: 999, .. }), "{error}");
    peer.join();
}

// Connections.

#[test]
fn no_port_and_a_path_that_is_too_long_are_connect_errors() {
    // A port where nobody listens, after one that was somebody's.
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let error = Client::connect(format!("tcp:127.0.0.1:{port}")).unwrap_err();
    match &error {
        Error::Connect { source, .. } => {
            assert_eq!(source.kind(), io::ErrorKind::ConnectionRefused);
        }
        _ => panic!("{error}"),
    }
    // A path that is too long for a socket.
    let long = Address::unix(format!("/{}", "x".repeat(200)));
    let error = Client::connect(&long).unwrap_err();
    assert!(matches!(&error, Error::Connect { .. }), "{error}");
}

#[test]
fn each_address_of_a_name_is_tried() {
    // On 127.0.0.1 alone, which a host with IPv6 may name second.
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    Client::connect(format!("tcp:localhost:{port}")).unwrap();
}

// Reuse.

#[test]
fn an_end_before_stdin_was_read_stops_the_upload_and_the_reuse_q_10_fc_6_2_1() {
    /// Never ends, and counts what is asked of it.
    struct Endless(Arc<AtomicUsize>);
    impl Read for Endless {
        fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
            self.0.fetch_add(buf.len(), Ordering::SeqCst);
            buf.fill(b'x');
            Ok(buf.len())
        }
    }
    let (mut client, peer) = connect(RawApp::new(), |peer| {
        peer.record_of(Type::Stdin);
        peer.send(answer(1, b"enough"));
    });
    let asked = Arc::new(AtomicUsize::new(0));
    let body = Body::from_reader(Endless(Arc::clone(&asked)));
    assert_eq!(call(&mut client, Request::responder().stdin(body)).unwrap(), stdout("enough"));
    assert!(asked.load(Ordering::SeqCst) < 100 << 20);
    assert!(!client.is_reusable());
    let error = call(&mut client, post(b"next")).unwrap_err();
    assert!(matches!(error, Error::Closed { .. }), "{error}");
    peer.join();
}

#[test]
fn a_mistake_changes_nothing() {
    let mut limits = fcgi::Limits::client();
    limits.requests = 0;
    let connector = Connector::new().limits(limits);
    let (mut client, _peer) = connect_by(&connector, RawApp::new(), Peer::echo);
    let error = call(&mut client, post(b"one too many")).unwrap_err();
    assert!(matches!(error, Error::Usage(_)), "{error}");
}
