//! The client against applications made of raw bytes, and against our own server.

mod common;

use std::{
    io,
    pin::Pin,
    task::{Context, Poll, Waker},
    time::Duration,
};

use bytes::Bytes;
use common::*;
use fcgi::{
    Address, Client, Error, Phase, Rejection, Server, Values,
    client::{Body, Chunk, Collected, Connector, Request},
    proto::ProtocolErrorKind,
};
use fcgi_tokio as fcgi;
use futures_core::Stream;
use tokio::{io::AsyncWriteExt, sync::mpsc, time::Instant};

async fn echo(request: fcgi::Request) -> Result<u32, Error> {
    let (mut stdin, mut stdout) = (request.stdin(), request.stdout());
    if let Some(prefix) = request.param("PREFIX") {
        stdout.write_all(prefix.to_vec()).await?;
    }
    while let Some(chunk) = stdin.chunk().await? {
        stdout.write_all(chunk).await?;
    }
    let mut data = request.data();
    while let Some(chunk) = data.chunk().await? {
        stdout.write_all(chunk).await?;
    }
    Ok(request.param_str("EXIT").and_then(|status| status.parse().ok()).unwrap_or(0))
}

fn post(body: &[u8]) -> Request {
    let length = body.len().to_string();
    Request::responder().param("CONTENT_LENGTH", length).stdin(Bytes::copy_from_slice(body))
}

async fn call(client: &mut Client, request: Request) -> Result<Collected, Error> {
    within(client.send(request)).await?.collect(64 << 20).await
}

fn stdout(bytes: impl Into<Bytes>) -> Collected {
    Collected { stdout: bytes.into(), ..Collected::default() }
}

/// A body whose chunks the test sends while the request is under way.
struct Channel(mpsc::Receiver<io::Result<Bytes>>);

impl Stream for Channel {
    type Item = io::Result<Bytes>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.0.poll_recv(cx)
    }
}

fn channel() -> (mpsc::Sender<io::Result<Bytes>>, Body) {
    let (sender, receiver) = mpsc::channel(4);
    (sender, Body::from_stream(Channel(receiver)))
}

// Roles and streams.

#[tokio::test]
async fn all_roles_against_our_server() {
    let app = serve(Server::new(), echo);
    let mut client = app.client().await;
    let answer = call(&mut client, post(b"body").param("PREFIX", "head ")).await.unwrap();
    assert_eq!(answer, stdout("head body"));
    let request = Request::authorizer().param("PREFIX", "Status: 200\r\n\r\n");
    assert_eq!(call(&mut client, request).await.unwrap(), stdout("Status: 200\r\n\r\n"));
    let request = Request::filter().param("CONTENT_LENGTH", "4").stdin("form").data("file");
    assert_eq!(call(&mut client, request).await.unwrap(), stdout("formfile"));
    assert!(client.is_reusable());
}

#[tokio::test]
async fn what_goes_over_the_wire_fc_6_1_1_fc_6_3_1() {
    let app = RawApp::new();
    let mut client = Client::connect(&app.address).await.unwrap();
    let mut peer = app.accept().await;
    let request = Request::filter().param("A", "1").params([("B", "2")]).data("file");
    let respond = async {
        let begin = peer.record().await;
        assert_eq!((begin.kind, begin.id), (Type::BeginRequest, 1));
        assert_eq!(begin.content, [0, 3, 1, 0, 0, 0, 0, 0]);
        assert_eq!(peer.stream_of(Type::Params, 1).await, encode(&[("A", "1"), ("B", "2")]));
        assert_eq!(peer.stream_of(Type::Stdin, 1).await, b"", "closed though it is empty");
        assert_eq!(peer.stream_of(Type::Data, 1).await, b"file");
        peer.send(answer(1, b"ok")).await;
    };
    let (answer_, ()) = tokio::join!(call(&mut client, request), respond);
    assert_eq!(answer_.unwrap(), stdout("ok"));
    // An Authorizer gets PARAMS alone, whatever it was given.
    let request = Request::authorizer().keep_conn(false).stdin("nobody asked for it");
    let respond = async {
        assert_eq!(peer.record().await.content, [0, 2, 0, 0, 0, 0, 0, 0]);
        assert_eq!(peer.stream_of(Type::Params, 1).await, b"");
        peer.send(answer(1, b"ok")).await;
    };
    let (answer_, ()) = tokio::join!(call(&mut client, request), respond);
    assert_eq!(answer_.unwrap(), stdout("ok"));
    drop(client);
    peer.expect_close().await;
}

#[tokio::test]
async fn stdout_and_stderr_come_apart_and_in_order_fc_6_1_2() {
    let app = RawApp::new();
    let mut client = Client::connect(&app.address).await.unwrap();
    let mut peer = app.accept().await;
    let mut response = tokio::spawn(async move {
        let mut response = client.send(Request::responder()).await?;
        assert_eq!(response.app_status(), None);
        let mut chunks = Vec::new();
        while let Some(chunk) = response.chunk().await? {
            chunks.push(chunk);
        }
        // And nothing more, however often it is asked.
        assert!(response.chunk().await?.is_none());
        Ok::<_, Error>((chunks, response.app_status()))
    });
    let (id, ..) = peer.request().await;
    let steps: [(Type, &[u8]); 3] =
        [(Type::Stdout, b"one"), (Type::Stderr, b"\x1b[31mwarning"), (Type::Stdout, b"two")];
    for (kind, content) in steps {
        peer.send(record(kind, id, content)).await;
        // The response is read while it comes: this lets each record be a chunk of its own.
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    // STDOUT is not closed, the status uses all of its bits.
    peer.send(end(id, 0xDEAD_BEEF, 0)).await;
    let (chunks, status) = within(&mut response).await.unwrap().unwrap();
    assert_eq!(status, Some(0xDEAD_BEEF));
    let of = |kind: fn(&Chunk) -> Option<&Bytes>| {
        chunks.iter().filter_map(kind).flatten().copied().collect::<Vec<u8>>()
    };
    let out = of(|chunk| if let Chunk::Stdout(bytes) = chunk { Some(bytes) } else { None });
    let err = of(|chunk| if let Chunk::Stderr(bytes) = chunk { Some(bytes) } else { None });
    assert_eq!((out.as_slice(), err.as_slice()), (&b"onetwo"[..], &b"\x1b[31mwarning"[..]));
}

#[tokio::test]
async fn app_status_and_empty_answers() {
    let app = serve(Server::new(), echo);
    let mut client = app.client().await;
    let answer = call(&mut client, post(b"").param("EXIT", "4294967295")).await.unwrap();
    assert_eq!(answer, Collected { app_status: u32::MAX, ..Collected::default() });
    assert_eq!(call(&mut client, post(b"")).await.unwrap(), Collected::default());
}

#[tokio::test]
async fn thirty_megabytes_both_ways_do_not_deadlock_q_15() {
    let app = serve(Server::new(), echo);
    let mut client = app.client().await;
    let body = pattern(30 << 20, 15);
    let answer = call(&mut client, post(&body)).await.unwrap();
    assert!(answer.stdout == body, "the body came back changed");
    // In chunks that come one by one, too, and with nothing known of its length.
    let (sender, stdin) = channel();
    let chunks = body.clone();
    tokio::spawn(async move {
        for chunk in chunks.chunks(100_000) {
            sender.send(Ok(Bytes::copy_from_slice(chunk))).await.unwrap();
        }
    });
    let answer = call(&mut client, Request::responder().stdin(stdin)).await.unwrap();
    assert!(answer.stdout == body, "the body came back changed");
    assert!(client.is_reusable());
}

#[tokio::test]
async fn the_response_begins_while_the_body_is_not_there_yet() {
    let app = serve(Server::new(), echo);
    let mut client = app.client().await;
    let (sender, stdin) = channel();
    let request = Request::responder().param("PREFIX", "early").stdin(stdin);
    let mut response = within(client.send(request)).await.unwrap();
    assert_eq!(response.chunk().await.unwrap(), Some(Chunk::Stdout("early".into())));
    for piece in ["one", "two"] {
        sender.send(Ok(piece.into())).await.unwrap();
        let chunk = within(response.chunk()).await.unwrap();
        assert_eq!(chunk, Some(Chunk::Stdout(piece.into())));
    }
    drop(sender);
    assert_eq!(within(response.chunk()).await.unwrap(), None);
    assert_eq!(response.app_status(), Some(0));
}

#[tokio::test]
async fn a_response_over_the_callers_limit_is_an_error_and_is_aborted() {
    let app = serve(Server::new(), echo);
    let mut client = app.client().await;
    let body = pattern(1000, 1);
    let answer = within(client.send(post(&body))).await.unwrap().collect(1000).await.unwrap();
    assert_eq!(answer.stdout, body);
    let error = within(client.send(post(&body))).await.unwrap().collect(999).await.unwrap_err();
    assert!(matches!(error, Error::TooLarge { limit: 999, .. }), "{error}");
    assert_eq!(call(&mut client, post(b"next")).await.unwrap(), stdout("next"));
}

// What goes wrong.

/// One request, and what the application does when it has it.
async fn answered(bytes: impl AsRef<[u8]>) -> (Vec<u8>, Error, bool) {
    let app = RawApp::new();
    let mut client = Client::connect(&app.address).await.unwrap();
    let mut peer = app.accept().await;
    let bytes = bytes.as_ref().to_vec();
    tokio::spawn(async move {
        peer.request().await;
        peer.send(bytes).await;
        peer.io.shutdown().await.unwrap();
    });
    let (mut out, mut error) = (Vec::new(), None);
    match within(client.send(post(b"body"))).await {
        Err(first) => error = Some(first),
        Ok(mut response) => {
            while error.is_none() {
                match within(response.chunk()).await {
                    Ok(Some(Chunk::Stdout(bytes) | Chunk::Stderr(bytes))) => out.extend(bytes),
                    Ok(None) => panic!("a success after {out:?}"),
                    Err(later) => error = Some(later),
                }
            }
            assert!(matches!(response.chunk().await, Ok(None)), "one error, then nothing");
            assert_eq!(response.app_status(), None);
        }
    }
    let reusable = client.is_reusable();
    (out, error.unwrap(), reusable)
}

#[tokio::test]
async fn refusals_are_errors_of_their_own_q_11_q_13() {
    for (status, expected) in
        [(1, Rejection::CantMpxConn), (2, Rejection::Overloaded), (3, Rejection::UnknownRole)]
    {
        let (out, error, _) = answered(end(1, 0, status)).await;
        assert!(
            matches!(&error, Error::Rejected { rejection, .. } if *rejection == expected),
            "{error}"
        );
        assert_eq!(out, b"");
        // With a page on STDOUT, which is passed on before it (W-2).
        let page = [record(Type::Stdout, 1, b"page"), end(1, 0, status)].concat();
        let (out, error, _) = answered(page).await;
        assert!(matches!(error, Error::Rejected { .. }), "{error}");
        assert_eq!(out, b"page");
    }
}

#[tokio::test]
async fn truncated_after_the_bytes_that_came_q_14() {
    let partial = answer(1, b"partial");
    for cut in [0, 5, 8, 12, 16, 24, partial.len() - 16, partial.len() - 1] {
        let (out, error, reusable) = answered(&partial[..cut]).await;
        assert!(matches!(error, Error::Truncated { .. }), "cut at {cut}: {error}");
        let came = cut.saturating_sub(8).min(7);
        assert_eq!(out, &b"partial"[..came], "cut at {cut}");
        assert!(!reusable);
        assert!(error.to_string().contains("raw.sock"), "names the address: {error}");
    }
}

#[tokio::test]
async fn a_reset_without_a_reply_is_truncated_q_8() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address: Address = format!("tcp:{}", listener.local_addr().unwrap()).parse().unwrap();
    let mut client = Client::connect(&address).await.unwrap();
    let (stream, _) = within(listener.accept()).await.unwrap();
    // Closed with the request unread: a reset.
    let sending = tokio::spawn(async move {
        let error = within(client.send(post(&[b'x'; 4096]))).await.unwrap_err();
        (error, client)
    });
    within(stream.readable()).await.unwrap();
    drop(stream);
    let (error, client) = within(sending).await.unwrap();
    assert!(matches!(error, Error::Truncated { .. }), "{error}");
    assert!(!client.is_reusable());
}

#[tokio::test]
async fn protocol_errors_come_after_the_bytes_before_them() {
    for (garbage, expected) in [
        (b"HTTP/1.1 200 OK\r\n\r\n".to_vec(), ProtocolErrorKind::Version(b'H')),
        (end(1, 0, 4), ProtocolErrorKind::ProtocolStatus { request_id: 1, status: 4 }),
        (record(Type::Stdout, 0, b"x"), ProtocolErrorKind::ZeroRequestId(Type::Stdout)),
        (record(Type::Stdin, 1, b"x"), ProtocolErrorKind::WrongDirection(Type::Stdin)),
    ] {
        let wire = [record(Type::Stdout, 1, b"partial!"), garbage].concat();
        let (out, error, reusable) = answered(wire).await;
        match &error {
            Error::Protocol { source, .. } => assert_eq!(source.kind, expected),
            _ => panic!("{error}"),
        }
        assert_eq!(out, b"partial!");
        assert!(!reusable);
    }
}

#[tokio::test]
async fn no_application_is_a_connect_error_that_names_the_address() {
    let folder = tempfile::tempdir().unwrap();
    let address = Address::Unix(folder.path().join("none.sock"));
    let error = Client::connect(&address).await.unwrap_err();
    assert!(matches!(&error, Error::Connect { .. }), "{error}");
    assert!(error.to_string().contains("none.sock"), "{error}");
    let error = Client::connect(&Address::Stdin).await.unwrap_err();
    assert!(matches!(error, Error::NotCallable { .. }), "{error}");
}

#[tokio::test]
async fn a_body_that_fails_aborts_the_request() {
    let app = RawApp::new();
    let mut client = Client::connect(&app.address).await.unwrap();
    let mut peer = app.accept().await;
    let (sender, stdin) = channel();
    sender.send(Ok("half".into())).await.unwrap();
    let sending = tokio::spawn(async move {
        let error = within(client.send(Request::responder().stdin(stdin))).await.unwrap_err();
        (error, client)
    });
    let begin = peer.record().await;
    peer.stream_of(Type::Params, begin.id).await;
    assert_eq!(peer.record().await.content, b"half");
    sender.send(Err(io::Error::other("the disk is gone"))).await.unwrap();
    assert_eq!(peer.record().await.kind, Type::AbortRequest);
    let (error, mut client) = within(sending).await.unwrap();
    assert!(matches!(&error, Error::Body { .. }), "{error}");
    assert!(error.to_string().contains("the disk is gone"), "{error}");
    // Its STDIN was never whole, so that nothing may follow on this connection.
    peer.send(end(begin.id, 1, 0)).await;
    let error = call(&mut client, post(b"next")).await.unwrap_err();
    assert!(matches!(error, Error::Closed { .. }), "{error}");
}

// Reuse.

#[tokio::test]
async fn a_kept_connection_carries_a_hundred_requests_fc_3_5_1() {
    let app = RawApp::new();
    let mut client = Client::connect(&app.address).await.unwrap();
    let mut peer = app.accept().await;
    let raw = tokio::spawn(async move {
        for _ in 0..100 {
            let (id, _, body) = peer.request().await;
            assert_eq!(id, 1, "FC-3.3-7");
            peer.send(answer(id, &body)).await;
        }
        peer
    });
    for round in 0..100 {
        let body = pattern(round * 31, round as u64);
        assert_eq!(call(&mut client, post(&body)).await.unwrap(), stdout(body));
        assert!(client.is_reusable());
    }
    within(raw).await.unwrap();
}

#[tokio::test]
async fn without_keep_conn_there_is_one_request_fc_3_5_1() {
    let app = serve(Server::new(), echo);
    let mut client = app.client().await;
    let answer = call(&mut client, post(b"body").keep_conn(false)).await.unwrap();
    assert_eq!(answer, stdout("body"));
    assert!(!client.is_reusable());
    let error = call(&mut client, post(b"next")).await.unwrap_err();
    assert!(matches!(error, Error::Closed { .. }), "{error}");
}

#[tokio::test]
async fn a_connection_closed_while_idle_is_noticed() {
    let app = RawApp::new();
    let mut client = Client::connect(&app.address).await.unwrap();
    let mut peer = app.accept().await;
    let raw = tokio::spawn(async move {
        let (id, _, body) = peer.request().await;
        peer.send(answer(id, &body)).await;
    });
    assert_eq!(call(&mut client, post(b"body")).await.unwrap(), stdout("body"));
    within(raw).await.unwrap();
    let error = call(&mut client, post(b"next")).await.unwrap_err();
    assert!(matches!(error, Error::Closed { .. }), "{error}");
    assert!(!client.is_reusable());
}

#[tokio::test]
async fn an_end_before_stdin_was_read_stops_the_upload_and_the_reuse_q_10_fc_6_2_1() {
    let app = RawApp::new();
    let mut client = Client::connect(&app.address).await.unwrap();
    let mut peer = app.accept().await;
    let (sender, stdin) = channel();
    let raw = tokio::spawn(async move {
        let begin = peer.record().await;
        peer.stream_of(Type::Params, begin.id).await;
        peer.send(answer(begin.id, b"enough")).await;
        peer
    });
    let answer_ = call(&mut client, Request::responder().stdin(stdin)).await.unwrap();
    assert_eq!(answer_, stdout("enough"));
    assert!(sender.is_closed(), "the body is let go");
    assert!(!client.is_reusable());
    let error = call(&mut client, post(b"next")).await.unwrap_err();
    assert!(matches!(error, Error::Closed { .. }), "{error}");
    drop(client);
    let mut peer = within(raw).await.unwrap();
    peer.expect_close().await;
    // The same with most of the body on its way: it need not be taken.
    let mut client = Client::connect(&app.address).await.unwrap();
    let mut peer = app.accept().await;
    let raw = tokio::spawn(async move {
        peer.record_of(Type::Stdin).await;
        peer.send(answer(1, b"enough")).await;
        peer
    });
    let answer_ = call(&mut client, post(&pattern(10 << 20, 1))).await.unwrap();
    assert_eq!(answer_, stdout("enough"));
    assert!(!client.is_reusable());
    drop(within(raw).await.unwrap());
}

#[tokio::test]
async fn content_length_that_is_not_so_poisons_the_connection_q_4() {
    for (length, body, reusable) in [
        ("4", "body", true),
        ("3", "body", false),
        ("5", "body", false),
        ("1", "", false),
        ("0", "", true),
    ] {
        let app = RawApp::new();
        let mut client = Client::connect(&app.address).await.unwrap();
        let mut peer = app.accept().await;
        tokio::spawn(async move {
            let (id, _, body) = peer.request().await;
            peer.send(answer(id, &body)).await;
            std::future::pending::<()>().await;
        });
        let request = Request::responder().param("CONTENT_LENGTH", length).stdin(body);
        // The answer still counts.
        assert_eq!(call(&mut client, request).await.unwrap(), stdout(body));
        assert_eq!(client.is_reusable(), reusable, "CONTENT_LENGTH {length} for {body:?}");
    }
}

// Cancellation.

#[tokio::test]
async fn a_dropped_response_is_aborted_and_drained_h_11() {
    let app = RawApp::new();
    let mut client = Client::connect(&app.address).await.unwrap();
    let mut peer = app.accept().await;
    let raw = tokio::spawn(async move {
        let (id, ..) = peer.request().await;
        peer.send(record(Type::Stdout, id, b"first")).await;
        let aborted = peer.record().await;
        assert_eq!((aborted.kind, aborted.id), (Type::AbortRequest, id));
        // What was under way, then the end.
        peer.send(answer(id, b"late")).await;
        let (next, _, body) = peer.request().await;
        assert_ne!(next, id, "a stray second END_REQUEST may still come (Q-12)");
        peer.send(answer(next, &body)).await;
    });
    let mut response = within(client.send(post(b"one"))).await.unwrap();
    assert_eq!(response.chunk().await.unwrap(), Some(Chunk::Stdout("first".into())));
    drop(response);
    assert!(!client.is_reusable(), "not before its END_REQUEST");
    assert_eq!(call(&mut client, post(b"two")).await.unwrap(), stdout("two"));
    within(raw).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn an_application_that_ignores_an_abort_is_given_up_q_6() {
    tick();
    let app = RawApp::new();
    let limit = Duration::from_secs(3);
    let connector = Connector::new().drain_timeout(limit);
    let mut client = connector.connect(&app.address).await.unwrap();
    let mut peer = app.accept().await;
    tokio::spawn(async move {
        let (id, ..) = peer.request().await;
        peer.send(record(Type::Stdout, id, b"first")).await;
        std::future::pending::<()>().await;
    });
    drop(within(client.send(post(b"one"))).await.unwrap());
    let start = Instant::now();
    let error = call(&mut client, post(b"two")).await.unwrap_err();
    assert!(matches!(error, Error::Closed { .. }), "{error}");
    assert_took(start, limit);
}

/// A small generator: the test must be the same each time.
struct Random(u64);

impl Random {
    fn below(&mut self, n: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % n
    }
}

/// Polls up to `polls` times, letting everything else run in between, then drops the future.
async fn poll_some<F: Future>(future: F, polls: u64) -> Option<F::Output> {
    let mut future = std::pin::pin!(future);
    for _ in 0..polls {
        if let Poll::Ready(output) = future.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
            return Some(output);
        }
        tokio::task::yield_now().await;
    }
    None
}

#[tokio::test]
async fn a_request_cancelled_anywhere_leaves_nothing_to_the_next_h_11() {
    let app = serve(Server::new(), echo);
    let mut client = app.client().await;
    let mut random = Random(0x1234_5678_9ABC_DEF1);
    let (mut cancelled, mut finished, mut reused) = (0, 0, 0);
    for round in 0..1000u64 {
        let size = [10, 1000, 100_000, 700_000][random.below(4) as usize];
        let body = pattern(size, round * 2);
        let (sends, chunks) = (random.below(12), random.below(12));
        let (in_pieces, polls) = (random.below(2) == 0, random.below(6));
        let request = if in_pieces {
            let (sender, stdin) = channel();
            let body = body.clone();
            tokio::spawn(async move {
                for chunk in body.chunks(1 + body.len() / 5) {
                    if sender.send(Ok(Bytes::copy_from_slice(chunk))).await.is_err() {
                        return;
                    }
                }
            });
            post(&[]).param("CONTENT_LENGTH", size.to_string()).stdin(stdin)
        } else {
            post(&body)
        };
        match poll_some(client.send(request.param("PREFIX", "first")), sends).await {
            Some(Ok(mut response)) => {
                for _ in 0..chunks {
                    match poll_some(response.chunk(), polls).await {
                        Some(Ok(None)) => {
                            finished += 1;
                            break;
                        }
                        Some(Err(error)) => panic!("round {round}: {error}"),
                        Some(Ok(Some(_))) | None => {}
                    }
                }
                cancelled += usize::from(response.app_status().is_none());
            }
            None => cancelled += 1,
            Some(Err(Error::Closed { .. })) => {}
            Some(Err(error)) => panic!("round {round}: {error}"),
        }
        let expected = stdout(pattern(5000, round * 2 + 1));
        match call(&mut client, post(&expected.stdout)).await {
            Ok(answer) => {
                reused += 1;
                assert!(answer == expected, "round {round}: another request's bytes");
            }
            Err(Error::Closed { .. }) => {
                client = app.client().await;
                let answer = call(&mut client, post(&expected.stdout)).await.unwrap();
                assert!(answer == expected, "round {round}: another request's bytes");
            }
            Err(error) => panic!("round {round}: {error}"),
        }
    }
    // The points were where it matters.
    assert!(cancelled > 300 && finished > 50 && reused > 100, "{cancelled} {finished} {reused}");
}

// GET_VALUES.

async fn query(app: &RawApp, bytes: Option<Vec<u8>>) -> Result<Values, Error> {
    let connector = Connector::new().values_timeout(Duration::from_secs(3));
    let respond = async {
        let mut peer = app.accept().await;
        let asked = peer.record().await;
        assert_eq!((asked.kind, asked.id), (Type::GetValues, 0));
        let names = [("FCGI_MAX_CONNS", ""), ("FCGI_MAX_REQS", ""), ("FCGI_MPXS_CONNS", "")];
        assert_eq!(asked.content, encode(&names));
        if let Some(bytes) = bytes {
            peer.send(&bytes).await;
            if bytes.is_empty() {
                return None;
            }
        }
        Some(peer)
    };
    let (values, _peer) = tokio::join!(connector.query_values(&app.address), respond);
    values
}

#[tokio::test(start_paused = true)]
async fn query_values_takes_every_kind_of_answer_q_7_q_9() {
    tick();
    let app = RawApp::new();
    let start = Instant::now();
    let pairs = [("FCGI_MAX_CONNS", "10"), ("FCGI_MPXS_CONNS", "1"), ("OTHER", "x")];
    let values =
        query(&app, Some(record(Type::GetValuesResult, 0, &encode(&pairs)))).await.unwrap();
    let expected = Values { max_conns: Some(10), max_reqs: None, mpxs_conns: Some(true) };
    assert_eq!(values, expected);
    let php = record(Type::GetValuesResult, 0, &encode(&[("FCGI_MPXS_CONNS", "0")]));
    let values = query(&app, Some(php)).await.unwrap();
    assert_eq!(values, Values { mpxs_conns: Some(false), ..Values::default() });
    let unknown = record(Type::UnknownType, 0, &[9, 0, 0, 0, 0, 0, 0, 0]);
    assert_eq!(query(&app, Some(unknown)).await.unwrap(), Values::default());
    // It closes.
    assert_eq!(query(&app, Some(Vec::new())).await.unwrap(), Values::default());
    assert!(start.elapsed() < Duration::from_secs(1), "nothing of that is waited for");
    // It says nothing.
    let start = Instant::now();
    assert_eq!(query(&app, None).await.unwrap(), Values::default());
    assert_took(start, Duration::from_secs(3));
    let error = query(&app, Some(b"not FastCGI".to_vec())).await.unwrap_err();
    assert!(matches!(error, Error::Protocol { .. }), "{error}");
}

#[tokio::test]
async fn query_values_of_our_server_fc_4_1_2() {
    let app = serve(Server::new().max_connections(7).max_requests(8), echo);
    let values = within(Connector::new().query_values(&app.address)).await.unwrap();
    let expected = Values { max_conns: Some(7), max_reqs: Some(8), mpxs_conns: Some(true) };
    assert_eq!(values, expected);
}

// Time limits, by a clock that tests own.

const LIMIT: Duration = Duration::from_secs(5);
const LATER: Duration = Duration::from_secs(20);

fn assert_took(start: Instant, limit: Duration) {
    let took = start.elapsed();
    assert!(took >= limit && took < limit + Duration::from_secs(1), "{took:?} for {limit:?}");
}

fn assert_timeout(error: &Error, expected: Phase) {
    match error {
        Error::Timeout { phase, limit, .. } => assert_eq!((*phase, *limit), (expected, LIMIT)),
        _ => panic!("{error}"),
    }
}

/// One limit nearer than the others, and an application that gets the request's end.
async fn limited(
    set: impl FnOnce(Connector, Option<Duration>) -> Connector,
) -> (RawApp, Client, Peer) {
    tick();
    let app = RawApp::new();
    let connector = Connector::new()
        .first_byte_timeout(Some(LATER))
        .next_byte_timeout(Some(LATER))
        .total_timeout(Some(LATER * 2));
    let client = set(connector, Some(LIMIT)).connect(&app.address).await.unwrap();
    let peer = app.accept().await;
    (app, client, peer)
}

#[tokio::test(start_paused = true)]
async fn connect_limit() {
    tick();
    // A backlog that is full: nobody accepts.
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("full.sock");
    let socket = tokio::net::UnixSocket::new_stream().unwrap();
    socket.bind(&path).unwrap();
    let _listener = socket.listen(0).unwrap();
    let address = Address::Unix(path);
    let connector = Connector::new().connect_timeout(Some(LIMIT));
    let mut connected = Vec::new();
    let error = loop {
        let start = Instant::now();
        match connector.connect(&address).await {
            Ok(client) => connected.push(client),
            // A unix socket says at once that the backlog is full; one that waits has a limit.
            Err(error @ Error::Timeout { .. }) => {
                assert_took(start, LIMIT);
                break error;
            }
            Err(error) => break error,
        }
        assert!(connected.len() < 10, "no backlog is that long");
    };
    match &error {
        Error::Timeout { phase, .. } => assert_eq!(*phase, Phase::Connect),
        Error::Connect { source, .. } => assert_eq!(source.kind(), io::ErrorKind::WouldBlock),
        _ => panic!("{error}"),
    }
}

#[tokio::test(start_paused = true)]
async fn connect_limit_over_tcp() {
    tick();
    // A backlog that is full: the system drops what asks for more.
    let socket = tokio::net::TcpSocket::new_v4().unwrap();
    socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let listener = socket.listen(0).unwrap();
    let address: Address = format!("tcp:{}", listener.local_addr().unwrap()).parse().unwrap();
    let connector = Connector::new().connect_timeout(Some(LIMIT));
    let mut connected = Vec::new();
    let error = loop {
        let start = Instant::now();
        match connector.connect(&address).await {
            Ok(client) => connected.push(client),
            Err(error) => {
                assert_took(start, LIMIT);
                break error;
            }
        }
        assert!(connected.len() < 10, "no backlog is that long");
    };
    assert_timeout(&error, Phase::Connect);
}

#[tokio::test(start_paused = true)]
async fn first_byte_limit_counts_from_the_last_byte_sent() {
    let (_app, mut client, mut peer) = limited(Connector::first_byte_timeout).await;
    let (sender, stdin) = channel();
    tokio::spawn(async move {
        // A slow upload is no slow application.
        for _ in 0..4 {
            tokio::time::sleep(LIMIT - Duration::from_secs(2)).await;
            sender.send(Ok("piece".into())).await.unwrap();
        }
    });
    let raw = tokio::spawn(async move {
        peer.request().await;
        (Instant::now(), peer)
    });
    let start = Instant::now();
    let error = client.send(Request::responder().stdin(stdin)).await.unwrap_err();
    assert_timeout(&error, Phase::FirstByte);
    assert_took(start, (LIMIT - Duration::from_secs(2)) * 4 + LIMIT);
    let (sent, mut peer) = within(raw).await.unwrap();
    assert_took(sent, LIMIT);
    assert_eq!(peer.record().await.kind, Type::AbortRequest);
}

#[tokio::test(start_paused = true)]
async fn next_byte_limit() {
    let (_app, mut client, mut peer) = limited(Connector::next_byte_timeout).await;
    tokio::spawn(async move {
        let (id, ..) = peer.request().await;
        for _ in 0..4 {
            tokio::time::sleep(LIMIT - Duration::from_secs(1)).await;
            peer.send(record(Type::Stderr, id, b"still here")).await;
        }
        std::future::pending::<()>().await;
    });
    let mut response = client.send(post(b"")).await.unwrap();
    for _ in 0..4 {
        assert!(response.chunk().await.unwrap().is_some());
    }
    let start = Instant::now();
    let error = response.chunk().await.unwrap_err();
    assert_timeout(&error, Phase::NextByte);
    assert_took(start, LIMIT);
    assert!(response.chunk().await.unwrap().is_none());
}

#[tokio::test(start_paused = true)]
async fn a_reader_that_takes_its_time_is_no_silent_application() {
    let (_app, mut client, mut peer) = limited(Connector::next_byte_timeout).await;
    tokio::spawn(async move {
        let (id, ..) = peer.request().await;
        peer.send(record(Type::Stdout, id, b"one")).await;
        tokio::time::sleep(LIMIT * 2).await;
        peer.send([record(Type::Stdout, id, b"two"), end(id, 0, 0)].concat()).await;
        std::future::pending::<()>().await;
    });
    let mut response = client.send(post(b"")).await.unwrap();
    assert_eq!(response.chunk().await.unwrap(), Some(Chunk::Stdout("one".into())));
    // The second has come long before it is asked for.
    tokio::time::sleep(LIMIT * 3).await;
    assert_eq!(response.chunk().await.unwrap(), Some(Chunk::Stdout("two".into())));
    assert_eq!(response.chunk().await.unwrap(), None);
}

#[tokio::test(start_paused = true)]
async fn total_limit_ends_an_application_that_always_has_something_to_say() {
    let (_app, mut client, mut peer) = limited(Connector::total_timeout).await;
    let flood = tokio::spawn(async move {
        let (id, ..) = peer.request().await;
        let block = record(Type::Stdout, id, &[b'x'; 32 * 1024]);
        while peer.io.write_all(&block).await.is_ok() {}
    });
    let start = Instant::now();
    let mut response = client.send(post(b"")).await.unwrap();
    let error = loop {
        // There is always a byte to read: no waiting is involved.
        match response.chunk().await {
            Ok(Some(_)) => tokio::time::advance(Duration::from_millis(100)).await,
            Ok(None) => panic!("the end of what has none"),
            Err(error) => break error,
        }
        assert!(start.elapsed() < LIMIT * 3, "the limit passed long ago");
    };
    assert_timeout(&error, Phase::Response);
    assert_took(start, LIMIT);
    drop(response);
    drop(client);
    within(flood).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn total_limit_of_a_silent_application() {
    let (_app, mut client, _peer) = limited(Connector::total_timeout).await;
    let start = Instant::now();
    let error = client.send(post(b"")).await.unwrap_err();
    assert_timeout(&error, Phase::Response);
    assert_took(start, LIMIT);
}
