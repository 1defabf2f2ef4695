//! The client's time limits.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use fcgi::{
    Address, Client, Error, Phase, Values,
    client::{Body, Chunk, Collected, Connector, Request},
};
use fcgi_tokio as fcgi;
use futures_core::Stream;
use tokio::{io::AsyncWriteExt, sync::mpsc, time::Instant};

use crate::{LATER, LIMIT, assert_took, common::*};

fn post(body: &[u8]) -> Request {
    let length = body.len().to_string();
    Request::responder().param("CONTENT_LENGTH", length).stdin(Bytes::copy_from_slice(body))
}

async fn call(client: &mut Client, request: Request) -> Result<Collected, Error> {
    within(client.send(request)).await?.collect(64 << 20).await
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
    let address = Address::unix(path);
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
        // A slow upload is not a slow application.
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
