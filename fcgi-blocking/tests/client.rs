//! The client against applications made of raw bytes.

mod raw_app;

use std::{
    io::{self, Read},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
        mpsc,
    },
    time::{Duration, Instant},
};

use fcgi::{
    Address, CancelHandle, Client, Error, Rejection, Values,
    client::{Body, Chunk, Connector, Request},
    proto::ProtocolErrorKind,
};
use fcgi_blocking as fcgi;
use raw_app::*;

/// How long a silent application is waited for.
const LIMIT: Duration = Duration::from_millis(100);

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
fn what_goes_over_the_wire_fc_6_1_1_fc_6_3_1() {
    let (mut client, peer) = connect(RawApp::new(), |peer| {
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
    });
    let request = Request::filter().param("A", "1").params([("B", "2")]).data("file");
    assert_eq!(call(&mut client, request).unwrap(), stdout("ok"));
    let request = Request::authorizer().keep_conn(false).stdin("nobody asked for it");
    assert_eq!(call(&mut client, request).unwrap(), stdout("ok"));
    let error = call(&mut client, post(b"next")).unwrap_err();
    assert!(matches!(error, Error::Closed { .. }), "{error}");
    drop(client);
    peer.join().expect_close();
}

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
    run(move || drop(peer.join()));
    let error = client.send(post(b"")).unwrap_err();
    let error = io::Error::from(error);
    assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof);
    assert!(matches!(
        error.get_ref().and_then(|error| error.downcast_ref::<Error>()),
        Some(Error::Truncated { .. })
    ));
}

#[test]
fn thirty_megabytes_both_ways_do_not_deadlock_q_15() {
    let (mut client, _peer) = connect(RawApp::new(), Peer::echo);
    let body = pattern(30 << 20, 15);
    let answer = call(&mut client, post(&body)).unwrap();
    assert!(answer.stdout == body, "the body came back changed");
    // Out of a reader, too, and with nothing known of its length.
    let reader = io::Cursor::new(body.clone());
    let request = Request::responder().stdin(Body::from_reader(reader));
    let answer = call(&mut client, request).unwrap();
    assert!(answer.stdout == body, "the body came back changed");
    assert!(client.is_reusable());
}

#[test]
fn what_a_reader_gave_is_sent_before_it_is_asked_for_more() {
    /// Gives a piece once the application has the one before.
    struct Stepwise(mpsc::Receiver<&'static str>);
    impl Read for Stepwise {
        fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
            match self.0.recv_timeout(TOO_LONG) {
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

// What an application does wrong, or says no to.

/// The STDOUT and the error of a request that is answered with these bytes and a close.
fn answered(bytes: impl Into<Vec<u8>>) -> (Vec<u8>, Error, bool) {
    let bytes = bytes.into();
    let (mut client, peer) = connect(RawApp::new(), move |peer| {
        peer.request();
        peer.send(bytes);
        peer.io.shutdown(std::net::Shutdown::Both).unwrap();
    });
    let mut out = Vec::new();
    let error = match client.send(post(b"body")) {
        Err(error) => error,
        Ok(mut response) => {
            let error = loop {
                match response.chunk() {
                    Ok(Some(Chunk::Stdout(bytes))) => out.extend_from_slice(&bytes),
                    Ok(chunk) => panic!("{chunk:?}"),
                    Err(error) => break error,
                }
            };
            assert!(matches!(response.chunk(), Ok(None)), "one error, then nothing");
            assert_eq!(response.app_status(), None);
            error
        }
    };
    peer.join();
    (out, error, client.is_reusable())
}

#[test]
fn refusals_are_errors_of_their_own_q_11_q_13() {
    for (status, expected) in
        [(1, Rejection::CantMpxConn), (2, Rejection::Overloaded), (3, Rejection::UnknownRole)]
    {
        let page = [record(Type::Stdout, 1, b"page"), end(1, 0, status)].concat();
        for (wire, stdout) in [(end(1, 0, status), &b""[..]), (page, b"page")] {
            let (out, error, _) = answered(wire);
            assert!(
                matches!(&error, Error::Rejected { rejection, .. } if *rejection == expected),
                "{error}"
            );
            assert_eq!(out, stdout);
        }
    }
}

#[test]
fn truncated_after_the_bytes_that_came_q_14() {
    let partial = answer(1, b"partial");
    for cut in [0, 5, 8, 12, 16, 24, partial.len() - 16, partial.len() - 1] {
        let (out, error, reusable) = answered(&partial[..cut]);
        assert!(matches!(error, Error::Truncated { .. }), "cut at {cut}: {error}");
        let came = cut.saturating_sub(8).min(7);
        assert_eq!(out, &b"partial"[..came], "cut at {cut}");
        assert!(!reusable);
        assert!(error.to_string().contains("raw.sock"), "names the address: {error}");
    }
}

#[test]
fn protocol_errors_come_after_the_bytes_before_them() {
    for (garbage, expected) in [
        (b"HTTP/1.1 200 OK\r\n\r\n".to_vec(), ProtocolErrorKind::Version(b'H')),
        (end(1, 0, 4), ProtocolErrorKind::ProtocolStatus { request_id: 1, status: 4 }),
        (record(Type::Stdout, 0, b"x"), ProtocolErrorKind::ZeroRequestId(Type::Stdout)),
        (record(Type::Stdin, 1, b"x"), ProtocolErrorKind::WrongDirection(Type::Stdin)),
    ] {
        let (out, error, reusable) =
            answered([record(Type::Stdout, 1, b"partial!"), garbage].concat());
        match &error {
            Error::Protocol { source, .. } => assert_eq!(source.kind, expected),
            _ => panic!("{error}"),
        }
        assert_eq!(out, b"partial!");
        assert!(!reusable);
    }
}

#[test]
fn a_reset_without_a_reply_is_truncated_q_8() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address: Address = format!("tcp:{}", listener.local_addr().unwrap()).parse().unwrap();
    let mut client = Client::connect(&address).unwrap();
    let peer = run(move || {
        let (stream, _) = listener.accept().unwrap();
        // Closed with the request unread: a reset.
        stream.peek(&mut [0]).unwrap();
    });
    let error = call(&mut client, post(&[b'x'; 4096])).unwrap_err();
    assert!(matches!(error, Error::Truncated { .. }), "{error}");
    assert!(!client.is_reusable());
    peer.join();
}

#[test]
fn no_application_is_a_connect_error_that_names_the_address() {
    let folder = tempfile::tempdir().unwrap();
    let error = Client::connect(&Address::Unix(folder.path().join("none.sock"))).unwrap_err();
    assert!(matches!(&error, Error::Connect { .. }), "{error}");
    assert!(error.to_string().contains("none.sock"), "{error}");
    // A port where nobody listens, after one that was somebody's.
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let error = Client::connect(&format!("tcp:127.0.0.1:{port}").parse().unwrap()).unwrap_err();
    match &error {
        Error::Connect { source, .. } => {
            assert_eq!(source.kind(), io::ErrorKind::ConnectionRefused);
        }
        _ => panic!("{error}"),
    }
    let error = Client::connect(&Address::Stdin).unwrap_err();
    assert!(matches!(error, Error::NotCallable { .. }), "{error}");
    // A path that is too long for a socket.
    let long = Address::Unix(format!("/{}", "x".repeat(200)).into());
    let error = Client::connect(&long).unwrap_err();
    assert!(matches!(&error, Error::Connect { .. }), "{error}");
}

#[test]
fn each_address_of_a_name_is_tried() {
    // On 127.0.0.1 alone, which a host with IPv6 may name second.
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    Client::connect(&format!("tcp:localhost:{port}").parse().unwrap()).unwrap();
}

#[test]
fn a_body_that_fails_aborts_the_request() {
    struct Failing(bool);
    impl Read for Failing {
        fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
            if std::mem::replace(&mut self.0, true) {
                return Err(io::Error::other("the disk is gone"));
            }
            buf[..4].copy_from_slice(b"half");
            Ok(4)
        }
    }
    let (mut client, peer) = connect(RawApp::new(), |peer| {
        let begin = peer.record();
        peer.stream_of(Type::Params, begin.id);
        assert_eq!(peer.record().content, b"half");
        assert_eq!(peer.record().kind, Type::AbortRequest);
        peer.send(end(begin.id, 1, 0));
    });
    let request = Request::responder().stdin(Body::from_reader(Failing(false)));
    let error = client.send(request).unwrap_err();
    assert!(matches!(&error, Error::Body { .. }), "{error}");
    assert!(error.to_string().contains("the disk is gone"), "{error}");
    // Its STDIN was never whole, so that nothing may follow on this connection.
    let error = call(&mut client, post(b"next")).unwrap_err();
    assert!(matches!(error, Error::Closed { .. }), "{error}");
    drop(peer.join());
}

// Reuse.

#[test]
fn a_kept_connection_carries_a_hundred_requests_fc_3_5_1() {
    let (mut client, peer) = connect(RawApp::new(), |peer| {
        for _ in 0..100 {
            let (id, _, body) = peer.request();
            assert_eq!(id, 1, "FC-3.3-7");
            peer.send(answer(id, &body));
        }
    });
    for round in 0..100 {
        let body = pattern(round * 31, round as u64);
        assert_eq!(call(&mut client, post(&body)).unwrap(), stdout(body));
        assert!(client.is_reusable());
    }
    // And then it is closed, which the next request finds out.
    drop(peer.join());
    let error = call(&mut client, post(b"next")).unwrap_err();
    assert!(matches!(error, Error::Closed { .. }), "{error}");
    assert!(!client.is_reusable());
}

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
    // The same with a body at hand: it need not be taken.
    let (mut client, peer) = connect(RawApp::new(), |peer| {
        peer.record_of(Type::Stdin);
        peer.send(answer(1, b"enough"));
    });
    assert_eq!(call(&mut client, post(&pattern(10 << 20, 1))).unwrap(), stdout("enough"));
    assert!(!client.is_reusable());
    peer.join();
}

#[test]
fn content_length_that_is_not_so_poisons_the_connection_q_4() {
    for (length, body, reusable) in [
        ("4", "body", true),
        ("3", "body", false),
        ("5", "body", false),
        ("1", "", false),
        ("0", "", true),
    ] {
        let (mut client, _peer) = connect(RawApp::new(), Peer::echo);
        let request = Request::responder().param("CONTENT_LENGTH", length).stdin(body);
        // The answer still counts.
        assert_eq!(call(&mut client, request).unwrap(), stdout(body));
        assert_eq!(client.is_reusable(), reusable, "CONTENT_LENGTH {length} for {body:?}");
    }
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

// GET_VALUES.

fn query(bytes: Option<Vec<u8>>) -> Result<Values, Error> {
    let app = RawApp::new();
    let address = app.address.clone();
    let peer = run(move || {
        let mut peer = app.accept();
        let asked = peer.record();
        assert_eq!((asked.kind, asked.id), (Type::GetValues, 0));
        let names = [("FCGI_MAX_CONNS", ""), ("FCGI_MAX_REQS", ""), ("FCGI_MPXS_CONNS", "")];
        assert_eq!(asked.content, encode(&names));
        if let Some(bytes) = bytes {
            peer.send(&bytes);
            if bytes.is_empty() {
                return None;
            }
        }
        Some(peer)
    });
    let values = Connector::new().values_timeout(LIMIT).query_values(&address);
    drop(peer.join());
    values
}

#[test]
fn query_values_takes_every_kind_of_answer_q_7_q_9() {
    let pairs = [("FCGI_MAX_CONNS", "10"), ("FCGI_MPXS_CONNS", "1"), ("OTHER", "x")];
    let values = query(Some(record(Type::GetValuesResult, 0, &encode(&pairs)))).unwrap();
    let expected = Values { max_conns: Some(10), max_reqs: None, mpxs_conns: Some(true) };
    assert_eq!(values, expected);
    let php = record(Type::GetValuesResult, 0, &encode(&[("FCGI_MPXS_CONNS", "0")]));
    let values = query(Some(php)).unwrap();
    assert_eq!(values, Values { mpxs_conns: Some(false), ..Values::default() });
    let unknown = record(Type::UnknownType, 0, &[9, 0, 0, 0, 0, 0, 0, 0]);
    assert_eq!(query(Some(unknown)).unwrap(), Values::default());
    // It closes.
    assert_eq!(query(Some(Vec::new())).unwrap(), Values::default());
    // It says nothing.
    let start = Instant::now();
    assert_eq!(query(None).unwrap(), Values::default());
    assert!(start.elapsed() >= LIMIT);
    let error = query(Some(b"not FastCGI".to_vec())).unwrap_err();
    assert!(matches!(error, Error::Protocol { .. }), "{error}");
}
