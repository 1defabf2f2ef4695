//! `fcgi gateway`: slow clients hold no connection to the application.

mod common;

use std::{
    io::{Read, Write},
    net::TcpStream,
};

use common::gateway::{App, Gateway, Http2, PATIENCE, block_on, text, until};
use fcgi_testkit::http::pattern;
use http_body_util::BodyExt;

/// An application with one connection. Requests wait for it without a limit.
fn gateway(app: &App, args: &[&str]) -> Gateway {
    let one = ["--mount", "/", "--connections", "1", "--wait-timeout", "1000"];
    Gateway::start(&[&[&*app.address], &one[..], args].concat())
}

fn client(gateway: &Gateway, sent: &str) -> TcpStream {
    let mut stream = TcpStream::connect(("127.0.0.1", gateway.port)).expect("it accepts");
    stream.set_read_timeout(Some(PATIENCE)).expect("a socket");
    stream.write_all(sent.as_bytes()).expect("send");
    stream
}

fn rest(mut stream: TcpStream) -> Vec<u8> {
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).expect("an answer");
    answer
}

fn is_pattern(body: &[u8], length: usize) -> bool {
    body.len() == length && body.iter().enumerate().all(|(at, byte)| *byte == pattern(at as u64))
}

const LENGTH: usize = 8 << 20;

#[test]
fn clients_that_send_slowly_hold_no_connection() {
    let app = App::start();
    let gateway = gateway(&app, &[]);
    let known = "POST /x HTTP/1.1\r\nHost: a\r\nConnection: close\r\nContent-Length: 5\r\n\r\nh";
    let unknown = "POST /x HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\
        Transfer-Encoding: chunked\r\n\r\n5\r\nh";
    let old = "POST /x HTTP/1.0\r\nHost: a\r\nContent-Length: 5\r\n\r\nh";
    let slow: Vec<_> = [known, unknown, old]
        .iter()
        .map(|head| (client(&gateway, head), head.contains("chunked")))
        .collect();
    for n in 1..=3 {
        assert_eq!(gateway.get("/x").head.status, 200);
        assert_eq!(app.state.asked(), n, "no body is whole");
    }
    for (mut stream, is_chunked) in slow {
        stream.write_all(if is_chunked { b"ello\r\n0\r\n\r\n" } else { b"ello" }).expect("send");
        let answer = rest(stream);
        let answer = String::from_utf8_lossy(&answer);
        assert!(answer.contains("STDIN=5\n"), "{answer}");
        assert!(answer.contains("CONTENT_LENGTH=5\n"), "{answer}");
    }
}

#[test]
fn clients_that_read_slowly_hold_no_connection() {
    let app = App::start();
    let gateway = gateway(&app, &[]);
    let slow: Vec<_> = ["1.0", "1.1"]
        .map(|version| {
            let head = format!(
                "GET /bytes?{LENGTH} HTTP/{version}\r\nHost: a\r\nConnection: close\r\n\r\n"
            );
            client(&gateway, &head)
        })
        .into();
    until("they are asked", || app.state.asked() == 2);
    let mut unread = gateway.connect();
    unread.send_head("GET", &format!("/bytes?{LENGTH}"), &[]).expect("send");
    unread.read_head().expect("a head");
    assert_eq!(gateway.get("/x").head.status, 200, "the connection is free");
    // Nothing is lost.
    let mut body = Vec::new();
    let mut block = vec![0; 1000];
    while let n @ 1.. = unread.read_body(&mut block).expect("more") {
        body.extend_from_slice(&block[..n]);
        block.resize((block.len() * 2).min(1 << 20), 0);
    }
    assert!(is_pattern(&body, LENGTH), "what came is not what was sent");
    for stream in slow {
        let answer = rest(stream);
        let head = answer.windows(4).position(|end| end == b"\r\n\r\n").expect("a head");
        if answer.starts_with(b"HTTP/1.0") {
            assert!(is_pattern(&answer[head + 4..], LENGTH));
        } else {
            assert!(answer.len() > LENGTH && answer.ends_with(b"\r\n0\r\n\r\n"));
        }
    }
}

#[test]
fn http_2_streams_that_are_not_read_hold_no_connection() {
    let app = App::start();
    let gateway = gateway(&app, &[]);
    block_on(async {
        let mut client = Http2::connect(&gateway).await;
        let mut unread = Vec::new();
        for _ in 0..3 {
            unread.push(client.get(&format!("/bytes?{LENGTH}")).await.expect("a head"));
        }
        assert_eq!(client.get("/x").await.expect("an answer").status(), 200);
        for answer in unread {
            let body = answer.into_body().collect().await.expect("a body").to_bytes();
            assert!(is_pattern(&body, LENGTH), "what came is not what was sent");
        }
    });
}

#[test]
fn an_answer_of_a_megabyte_needs_no_disk() {
    let app = App::start();
    let gateway = gateway(&app, &["--store", "1"]);
    block_on(async {
        let mut client = Http2::connect(&gateway).await;
        // Together they are more than fits between gateway and client.
        let mut unread = Vec::new();
        for _ in 0..16 {
            unread.push(client.get("/bytes?1000000").await.expect("a head"));
        }
        assert_eq!(client.get("/x").await.expect("an answer").status(), 200);
        // They are read together: unread ones could use up the connection's window.
        let all = unread.into_iter().map(|answer| tokio::spawn(answer.into_body().collect()));
        for body in all.collect::<Vec<_>>() {
            let body = body.await.expect("a task").expect("a body").to_bytes();
            assert!(is_pattern(&body, 1_000_000), "what came is not what was sent");
        }
    });
}

#[test]
fn bodies_stream_without_buffering() {
    let app = App::start();
    let gateway = gateway(&app, &["--buffering", "off"]);
    let mut connection = gateway.connect();
    connection.send_head("POST", "/echo", &[("Content-Length", "10")]).expect("send");
    connection.send(b"first").expect("send");
    assert_eq!(connection.read_head().expect("a head").status, 200);
    let mut block = [0; 64];
    let n = connection.read_body(&mut block).expect("the first piece");
    assert_eq!(&block[..n], b"first", "before the last was sent");
    connection.send(b" last").expect("send");
    let n = connection.read_body(&mut block).expect("the last piece");
    assert_eq!(&block[..n], b" last");
}

#[test]
fn what_is_kept_has_limits() {
    let app = App::start();
    let gateway = gateway(&app, &["--store", "1M", "--store-each", "512K"]);
    // An answer: its application waits.
    let mut unread = gateway.connect();
    unread.send_head("GET", "/bytes?4000000", &[]).expect("send");
    unread.read_head().expect("a head");
    // A request: it is refused.
    let reply = gateway.connect().post("/x", 2 << 20).expect("an answer");
    assert_eq!(reply.head.status, 503);
    assert!(text(&reply).contains("there is no room for more bodies of requests"));
    let mut body = Vec::new();
    let mut block = vec![0; 64 * 1024];
    while let n @ 1.. = unread.read_body(&mut block).expect("more") {
        body.extend_from_slice(&block[..n]);
    }
    assert!(is_pattern(&body, 4_000_000));
    // The memory of clients that have left is given back.
    for n in 1..=3 {
        let mut leaves = gateway.connect();
        leaves.send_head("POST", "/x", &[("Content-Length", "1000000")]).expect("send");
        leaves.send(&vec![b'x'; 900_000]).expect("send");
        drop(leaves);
        until("it is logged", || gateway.access_log().matches(" 499 ").count() == n);
        let reply = gateway.connect().post("/x", 800_000).expect("an answer");
        assert_eq!(reply.head.status, 200, "{}", text(&reply));
    }
}

#[test]
fn a_client_that_leaves_its_kept_answer_cancels_the_request() {
    let app = App::start();
    let gateway = gateway(&app, &["--store-each", "512K"]);
    let mut leaves = gateway.connect();
    leaves.send_head("GET", "/endless", &[]).expect("send");
    leaves.read_head().expect("a head");
    drop(leaves);
    until("it is cancelled", || app.state.cancelled() == 1);
    assert_eq!(gateway.get("/x").head.status, 200);
}

/// A full disk, or a folder for temporary files that is not there.
#[test]
fn an_answer_that_can_not_be_kept_comes_whole() {
    let app = App::start();
    let args = [&*app.address, "--mount", "/"];
    let gateway = Gateway::start_with_env("TMPDIR", "/no/such/folder", &args);
    let length = 4 * LENGTH;
    let head = format!("GET /bytes?{length} HTTP/1.0\r\n\r\n");
    let slow = client(&gateway, &head);
    until("it would be kept", || gateway.error_log().contains("keep the answer: No such file"));
    let answer = rest(slow);
    let head = answer.windows(4).position(|end| end == b"\r\n\r\n").expect("a head");
    assert!(is_pattern(&answer[head + 4..], length), "{} of {length} bytes", answer.len());
    let log = gateway.error_log();
    assert_eq!(log.lines().count(), 1, "said once: {log}");
    // The next ones too.
    assert_eq!(text(&gateway.get("/bytes?3")).len(), 3);
    assert!(is_pattern(&gateway.get(&format!("/bytes?{LENGTH}")).body, LENGTH));
}
