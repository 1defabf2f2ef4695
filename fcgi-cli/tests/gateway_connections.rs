//! `fcgi gateway`: clients' connections, from their first byte to the end of the last answer.

mod common;

use std::{
    io::{BufRead, BufReader, Read, Write},
    net::TcpStream,
    os::unix::net::UnixStream,
    process::{Command, Stdio},
    thread,
    time::Duration,
};

use common::gateway::{App, Gateway, Http2, PAGE, PATIENCE, Root, block_on, text, until};
use fcgi_testkit::{
    http::HttpConnection,
    signal::background,
    wire::{RawApp, Type, answer},
};
use http_body_util::BodyExt;
use rustix::process::Signal;

/// Bodies kept for the slower side, and bodies that stream.
const MODES: [&[&str]; 2] = [&[], &["--buffering", "off"]];

fn gateway(app: &App, args: &[&str]) -> Gateway {
    Gateway::start(&[&[&*app.address, "--mount", "/"], args].concat())
}

fn client(gateway: &Gateway, sent: &[u8]) -> TcpStream {
    let mut stream = TcpStream::connect(("127.0.0.1", gateway.port)).expect("it accepts");
    stream.set_read_timeout(Some(PATIENCE)).expect("a socket");
    stream.write_all(sent).expect("send");
    stream
}

/// The bytes up to the end of the connection, and whether that was a normal end.
fn rest(mut stream: TcpStream) -> (String, bool) {
    let mut answer = Vec::new();
    let is_orderly = stream.read_to_end(&mut answer).is_ok();
    (String::from_utf8_lossy(&answer).into_owned(), is_orderly)
}

/// An HTTP/2 client's bytes: the preface, and SETTINGS with this initial window.
fn http_2(window: u32) -> Vec<u8> {
    let mut bytes = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
    bytes.extend([0, 0, 6, 4, 0, 0, 0, 0, 0, 0, 4]);
    bytes.extend(window.to_be_bytes());
    bytes
}

/// As `nc -N` does: the end of what a client sends is no end of what it reads.
#[test]
fn a_client_that_sends_nothing_more_gets_its_answers() {
    let (app, root) = (App::start(), Root::new());
    let big = "x".repeat(3_000_000);
    std::fs::write(root.path().join("big.txt"), &big).expect("a file");
    let gateway = Gateway::start(&[&app.address, "--root", &root.arg()]);
    let ask = |sent: &str| {
        let stream = client(&gateway, sent.as_bytes());
        stream.shutdown(std::net::Shutdown::Write).expect("a socket");
        rest(stream)
    };
    for version in ["1.0", "1.1"] {
        for (target, status, end) in
            [("/page.txt", "200", PAGE), ("/none", "404", "\n"), ("/big.txt", "200", &big)]
        {
            for _ in 0..5 {
                let get = format!("GET {target} HTTP/{version}\r\nHost: a\r\n\r\n");
                let (answer, is_orderly) = ask(&get);
                assert_eq!(answer.split(' ').nth(1), Some(status), "{target}");
                assert!(is_orderly && answer.ends_with(end), "{target}: {} bytes", answer.len());
            }
        }
    }
    let two = "GET /big.txt HTTP/1.1\r\nHost: a\r\n\r\nGET /page.txt HTTP/1.1\r\nHost: a\r\n\r\n";
    let (answer, is_orderly) = ask(two);
    assert!(is_orderly && answer.ends_with(PAGE) && answer.len() > big.len(), "{}", answer.len());
    // An application has half a second, which a busy machine may take alone.
    let chunked = "POST /app.php HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n\
                   5\r\nhello\r\n0\r\n\r\n";
    assert!((0..20).any(|_| ask(chunked).0.contains("STDIN=5\n")), "no answer from a script");
    // What is no whole request gets no 200.
    for cut in [10, chunked.len() - 20, chunked.len() - 1] {
        assert!(!ask(&chunked[..cut]).0.starts_with("HTTP/1.1 200"), "{cut}");
    }
}

/// At a unix socket the gateway can tell whether a client still reads: it waits as long as it does.
#[test]
fn at_a_unix_socket_it_gets_its_answer_however_long_that_takes() {
    let (app, folder) = (App::start(), tempfile::tempdir().expect("a folder"));
    let path = folder.path().join("s");
    let listen = format!("unix:{}", path.display());
    let gateway = gateway(&app, &["--listen", &listen]);
    let ask = || {
        let mut stream = UnixStream::connect(&path).expect("it accepts");
        stream.write_all(b"GET /hold HTTP/1.0\r\nHost: a\r\n\r\n").expect("send");
        stream.shutdown(std::net::Shutdown::Write).expect("a socket");
        let mut first = Vec::new();
        while !first.ends_with(b"first\n") {
            let mut byte = [0];
            stream.read_exact(&mut byte).expect("the answer's start");
            first.extend(byte);
        }
        stream
    };
    let mut stream = ask();
    // Longer than a client at a TCP port is waited for.
    thread::sleep(Duration::from_millis(1200));
    app.state.release();
    let mut last = String::new();
    stream.read_to_string(&mut last).expect("a normal end");
    assert_eq!(last, "last\n");
    assert_eq!(app.state.cancelled(), 0);
    // Those that leave are noticed, even if their request and its end came together.
    drop((0..6).map(|_| ask()).collect::<Vec<_>>());
    until("the application is told", || app.state.cancelled() == 6);
    drop(gateway);
}

/// Answers PINGs and SETTINGS until the connection ends.
fn answer_pings(mut stream: TcpStream) -> u32 {
    let mut pings = 0;
    loop {
        let mut head = [0; 9];
        if stream.read_exact(&mut head).is_err() {
            return pings;
        }
        let length = u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize;
        let mut content = vec![0; length];
        if stream.read_exact(&mut content).is_err() {
            return pings;
        }
        let is_answer = head[4] & 1 == 1;
        let answer = match head[3] {
            4 if !is_answer => [0, 0, 0, 4, 1, 0, 0, 0, 0].to_vec(),
            6 if !is_answer => {
                pings += 1;
                [&[0, 0, 8, 6, 1, 0, 0, 0, 0][..], &content].concat()
            }
            _ => continue,
        };
        if stream.write_all(&answer).is_err() {
            return pings;
        }
    }
}

/// The request is answered before its body has come. The next request is answered too, or the answer
/// says that the connection ends.
#[test]
fn a_body_that_nobody_reads_loses_no_request() {
    let (app, root) = (App::start(), Root::new());
    let site = Gateway::start(&[&app.address, "--root", &root.arg(), "--max-body", "1K"]);
    let unbuffered = gateway(&app, &["--buffering", "off"]);
    for (gateway, target, length, status) in [
        (&site, "/nope", 4, 404),
        (&site, "/page.txt", 4, 405),
        (&site, "/app.php", 4096, 413),
        (&site, "/plain", 4, 301),
        (&unbuffered, "/early", 4, 403),
    ] {
        // The body comes after the answer.
        let mut connection = gateway.connect();
        let length = length.to_string();
        connection.send_head("POST", target, &[("Content-Length", &length)]).expect("send");
        let reply = connection.read_reply().expect("an answer");
        assert_eq!(reply.head.status, status, "{target}");
        assert_eq!(reply.head.field("connection"), Some("close"), "{target}");

        // The body comes at once, the next request with it.
        let body = "x".repeat(length.parse().expect("a number"));
        let request = format!(
            "POST {target} HTTP/1.1\r\nHost: a\r\nContent-Length: {length}\r\n\r\n{body}\
             GET /hello HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"
        );
        let (answers, _) = rest(client(gateway, request.as_bytes()));
        let heads: Vec<_> = answers.matches("HTTP/1.1 ").collect();
        let first = answers.split("\r\n\r\n").next().unwrap_or_default();
        let is_told = first.contains("connection: close");
        assert_eq!(heads.len(), if is_told { 1 } else { 2 }, "{target}: {answers}");
        // A small body that is there is read. Only the application may want one.
        let is_read = length.len() < 4 && target != "/early";
        assert!(!is_told || !is_read, "{target}: {answers}");
    }
    // HTTP/1.0 with keep-alive.
    let request = b"POST /nope HTTP/1.0\r\nConnection: keep-alive\r\nContent-Length: 4\r\n\r\n";
    let (answer, _) = rest(client(&site, request));
    assert!(!answer.contains("keep-alive"), "{answer}");
}

/// Its end is the connection's, so it must not say that this stays open.
#[test]
fn an_http_1_0_answer_of_unknown_length_keeps_no_connection() {
    let (app, length) = (App::start(), 3_000_000);
    for buffering in ["on", "off"] {
        let gateway = gateway(&app, &["--buffering", buffering]);
        let request = format!("GET /bytes?{length} HTTP/1.0\r\nConnection: keep-alive\r\n\r\n");
        let (answer, _) = rest(client(&gateway, request.as_bytes()));
        let (head, body) = answer.split_once("\r\n\r\n").expect("a head");
        assert!(!head.contains("keep-alive") && !head.contains("content-length"), "{head}");
        assert!(body.len() >= length, "{} of {length} bytes", body.len());
    }
}

#[test]
fn the_reason_is_the_applications_or_the_standard_one() {
    let app = App::start();
    let gateway = gateway(&app, &[]);
    for (status, expected) in [
        ("200%20Fine", "200 Fine"),
        ("404%20No%20such%20shop", "404 No such shop"),
        ("404", "404 Not Found"),
        ("299", "299 Success"),
        ("599", "599 Server Error"),
        ("499%20Gone", "499 Gone"),
    ] {
        for version in ["1.0", "1.1"] {
            let request = format!(
                "GET /reason?{status} HTTP/{version}\r\nHost: a\r\nConnection: close\r\n\r\n"
            );
            let (answer, _) = rest(client(&gateway, request.as_bytes()));
            let line = answer.lines().next().unwrap_or_default();
            assert_eq!(line, format!("HTTP/{version} {expected}"));
        }
    }
    let status = block_on(async {
        let mut client = Http2::connect(&gateway).await;
        client.get("/reason?599%20Odd").await.expect("an answer").status()
    });
    assert_eq!(status, 599);
}

/// What the application sent before it failed reaches the client, and the client sees the cut.
#[test]
fn an_answer_that_breaks_off_is_sent_and_seen_to_be_cut() {
    let app = App::start();
    for mode in MODES {
        let gateway = gateway(&app, mode);
        for target in ["/cut", "/cut-known"] {
            let request = format!("GET {target} HTTP/1.1\r\nHost: a\r\n\r\n");
            let (answer, _) = rest(client(&gateway, request.as_bytes()));
            assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{target}: {answer:?}");
            assert!(answer.contains("half"), "{target}: {answer:?}");
            assert!(!answer.contains("\r\n0\r\n"), "no last chunk: {answer:?}");
            let is_known = answer.contains("content-length: 100\r\n");
            assert_eq!(is_known, target == "/cut-known", "{answer:?}");

            // Without chunks and without a length, only a reset shows the cut.
            let request = format!("GET {target} HTTP/1.0\r\nHost: a\r\n\r\n");
            let (answer, is_orderly) = rest(client(&gateway, request.as_bytes()));
            assert!(answer.ends_with("\r\n\r\nhalf"), "{target}: {answer:?}");
            assert_eq!(is_orderly, target == "/cut-known", "{target}");

            block_on(async {
                let mut client = Http2::connect(&gateway).await;
                let answer = client.get(target).await.expect("a head");
                assert_eq!(answer.status(), 200);
                let mut body = answer.into_body();
                let first = body.frame().await.expect("a frame").expect("its data");
                assert_eq!(first.into_data().expect("data"), "half");
                let error = body.frame().await.expect("more").expect_err("a reset");
                assert!(error.to_string().contains("body"), "{error}");
                // The connection goes on.
                assert_eq!(client.get("/x").await.expect("an answer").status(), 200);
            });
        }
    }
}

/// Half a head, nothing at all, and HTTP/2 that answers nothing: there is no request to wait for.
#[test]
fn a_signal_waits_for_requests_alone() {
    let app = App::start();
    let mut gateway = gateway(&app, &["--shutdown-timeout", "1000", "--client-timeout", "1000"]);
    let mut half = gateway.connect();
    half.get("/x").expect("an answer");
    half.send(b"GET /y HTTP/1.1\r\nHost: a\r\nX-").expect("send");
    let mut http_2 = client(&gateway, &http_2(65_535));
    http_2.read_exact(&mut [0; 9]).expect("its SETTINGS");
    let clients =
        [client(&gateway, b""), client(&gateway, b"GET / HT"), client(&gateway, b"PRI * HTT")];
    // All of them have been accepted.
    gateway.get("/x");
    gateway.signal(Signal::TERM);
    assert_eq!(gateway.wait().code(), Some(0));
    assert_eq!(gateway.error_log(), "");
    drop((half, http_2, clients));
}

/// A request under way is waited for, over HTTP/2 too.
#[test]
fn a_signal_lets_http_2_requests_finish() {
    let app = App::start();
    let mut gateway = gateway(&app, &["--shutdown-timeout", "1000"]);
    block_on(async {
        let mut client = Http2::connect(&gateway).await;
        let answer = client.get("/hold").await.expect("a head");
        gateway.signal(Signal::TERM);
        let port = gateway.port;
        let closed = move || {
            until("nobody listens", || TcpStream::connect(("127.0.0.1", port)).is_err());
        };
        tokio::task::spawn_blocking(closed).await.expect("no panic");
        app.state.release();
        let body = answer.into_body().collect().await.expect("a whole body").to_bytes();
        assert_eq!(body, "first\nlast\n");
    });
    assert_eq!(gateway.wait().code(), Some(0));
    assert_eq!(gateway.error_log(), "");
}

/// A connection that answers PINGs and asks nothing does not keep its place.
#[test]
fn an_http_2_client_that_asks_nothing_is_given_up() {
    let app = App::start();
    let gateway = gateway(&app, &["--client-timeout", "2", "--max-clients", "1"]);
    // One request, and then nothing.
    let get = [0, 0, 6, 1, 5, 0, 0, 0, 1, 0x82, 0x86, 0x84, 0x41, 1, b'a'];
    let stream = client(&gateway, &[&http_2(65_535)[..], &get].concat());
    until("it is asked", || app.state.asked() == 1);
    let pings = thread::spawn(move || answer_pings(stream));
    // Its place is free again.
    assert_eq!(gateway.get("/x").head.status, 200);
    pings.join().expect("no panic");
}

/// A file whose stream has no window is given up as a script's answer is.
#[test]
fn an_http_2_client_that_does_not_read_a_file_is_given_up() {
    let (app, root) = (App::start(), Root::new());
    std::fs::write(root.path().join("large.bin"), vec![b'x'; 8 << 20]).expect("a file");
    let gateway = Gateway::start(&[&app.address, "--root", &root.arg(), "--client-timeout", "2"]);
    block_on(async {
        let mut client = Http2::connect(&gateway).await;
        let unread = client.get("/large.bin").await.expect("a head");
        tokio::time::sleep(Duration::from_millis(10)).await;
        let log = || gateway.error_log();
        let told = "GET /large.bin: the client took nothing of the answer for 2s";
        let started = std::time::Instant::now();
        while !log().contains(told) {
            assert!(started.elapsed() < PATIENCE, "not given up: {}", log());
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        drop(unread);
    });
    assert_eq!(text(&gateway.get("/page.txt")), PAGE);
}

/// A gateway whose logs nobody reads.
fn unread(args: &[&str]) -> (std::process::Child, u16, std::process::ChildStdout) {
    let mut child = Command::new(env!("CARGO_BIN_EXE_fcgi"))
        .args(["gateway", "--listen", "127.0.0.1:0"])
        .args(args)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("fcgi gateway runs");
    // Byte by byte, so that nothing of the log is read.
    let mut stdout = BufReader::with_capacity(1, child.stdout.take().expect("piped"));
    let mut line = String::new();
    stdout.read_line(&mut line).expect("it starts");
    let port = line.strip_prefix("http://127.0.0.1:").and_then(|rest| rest.split('/').next());
    (child, port.and_then(|port| port.parse().ok()).expect("a port"), stdout.into_inner())
}

fn ends(mut child: std::process::Child) {
    let pid = rustix::process::Pid::from_child(&child);
    rustix::process::kill_process(pid, Signal::TERM).expect("it runs");
    let mut status = None;
    until("the gateway ends", || {
        status = child.try_wait().expect("it can be waited for");
        status.is_some()
    });
    assert_eq!(status.and_then(|status| status.code()), Some(0));
}

/// Requests go on when nobody reads the access log, whose lines are dropped and counted.
#[test]
fn an_access_log_that_nobody_reads_holds_nothing_up() {
    let root = Root::new();
    let (mut child, port, stdout) = unread(&["unix:/nobody/here", "--root", &root.arg()]);
    let mut connection = HttpConnection::connect(("127.0.0.1", port)).expect("it accepts");
    // More than a pipe and the queue hold.
    let target = format!("/page.txt?{}", "x".repeat(20_000));
    for n in 0..120 {
        let reply = connection.get(&target).unwrap_or_else(|error| panic!("request {n}: {error}"));
        assert_eq!(reply.head.status, 200);
    }
    // Once it is read, the error log says what is missing.
    let mut stderr = BufReader::new(child.stderr.take().expect("piped"));
    let reads = thread::spawn(move || BufReader::new(stdout).lines().count());
    let mut line = String::new();
    stderr.read_line(&mut line).expect("stderr can be read");
    assert!(line.contains(" lines of the access log were dropped: "), "{line}");
    ends(child);
    assert!(reads.join().expect("no panic") < 120, "some were dropped");
}

/// The same for STDERR without an end and an error log that nobody reads.
#[test]
fn an_error_log_that_nobody_reads_holds_nothing_up() {
    let app = App::start();
    let args = [&*app.address, "--mount", "/", "--shutdown-timeout", "0.1"];
    let (child, port, _stdout) = unread(&args);
    let connect = || HttpConnection::connect(("127.0.0.1", port)).expect("it accepts");
    let mut noisy: Vec<_> = (0..2).map(|_| connect()).collect();
    for connection in &mut noisy {
        connection.send_head("GET", "/noisy", &[]).expect("send");
    }
    until("they are asked", || app.state.asked() == 2);
    let mut connection = connect();
    for _ in 0..10 {
        assert_eq!(connection.get("/x").expect("an answer").head.status, 200);
    }
    ends(child);
}

/// php-fpm may still be busy after its answer: its connections are kept only if that is asked
/// for.
#[test]
fn connections_to_the_application_are_kept_only_if_asked_for() {
    for args in [&[][..], &["--keep-conn"]] {
        let app = RawApp::new();
        let site = [&*app.address.to_string(), "--mount", "/"].map(ToOwned::to_owned);
        let keeps = !args.is_empty();
        let serving = background(move || {
            let mut peer = app.accept();
            for round in 0..3 {
                if !keeps && round > 0 {
                    peer.expect_end();
                    peer = app.accept();
                }
                let begin = peer.record();
                assert_eq!((begin.kind, begin.content[2]), (Type::BeginRequest, u8::from(keeps)));
                peer.stream_of(Type::Params, begin.id);
                peer.stream_of(Type::Stdin, begin.id);
                peer.send(answer(begin.id, b"Content-Type: text/plain\n\nhere"));
            }
            peer
        });
        let site: Vec<_> = site.iter().map(String::as_str).chain(args.iter().copied()).collect();
        let gateway = Gateway::start(&site);
        for _ in 0..3 {
            assert_eq!(text(&gateway.get("/")), "here");
        }
        serving.join();
    }
}

/// A request that hyper itself refuses gets a page with the reason, and a line in both logs.
#[test]
fn what_is_no_request_is_told_why() {
    let app = App::start();
    let gateway = gateway(&app, &["--max-head", "8K", "--max-fields", "20"]);
    let long = "x".repeat(10_000);
    let many = "X: y\r\n".repeat(30);
    for (n, (request, status, reason)) in [
        ("GET / HTTP/1.1\r\nHost: a\r\nX y: z\r\n\r\n".to_owned(), "400 Bad Request", "header"),
        ("GET /\r\n\r\n".to_owned(), "400 Bad Request", "URI"),
        ("\x16\x03\x01\r\n\r\n".to_owned(), "400 Bad Request", "method"),
        (
            "POST / HTTP/1.1\r\nContent-Length: 1x\r\n\r\n".to_owned(),
            "400 Bad Request",
            "content-length",
        ),
        (
            "POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n".to_owned(),
            "400 Bad Request",
            "transfer-encoding",
        ),
        (
            "POST / HTTP/1.1\r\nTransfer-Encoding: chunked, gzip\r\n\r\n".to_owned(),
            "400 Bad Request",
            "transfer-encoding",
        ),
        // Whatever its length is: some of these are too long for a 64-bit number.
        (
            format!("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: {}\r\n\r\n", u64::MAX),
            "413 Payload Too Large",
            "more than 134217728 bytes",
        ),
        (
            format!("POST / HTTP/1.1\r\nHost: a\r\ncontent-length:{}0\r\n\r\n", u64::MAX),
            "413 Payload Too Large",
            "more than 134217728 bytes",
        ),
        (format!("GET /{long} HTTP/1.1\r\nHost: a\r\n\r\n"), "414 URI Too Long", "URL"),
        (
            format!("GET / HTTP/1.1\r\nHost: a\r\nX: {long}\r\n\r\n"),
            "431 Request Header Fields Too Large",
            "large",
        ),
        (
            format!("GET / HTTP/1.1\r\nHost: a\r\n{many}\r\n"),
            "431 Request Header Fields Too Large",
            "large",
        ),
    ]
    .into_iter()
    .enumerate()
    {
        // The first on its connection, and one behind another.
        for before in ["", "GET /x HTTP/1.1\r\nHost: a\r\n\r\n"] {
            let mut stream = client(&gateway, before.as_bytes());
            if !before.is_empty() {
                let mut seen = Vec::new();
                while !seen.ends_with(b"STDIN=0\n") {
                    let mut block = [0; 4096];
                    let n = stream.read(&mut block).expect("an answer");
                    seen.extend_from_slice(&block[..n]);
                }
            }
            stream.write_all(request.as_bytes()).expect("send");
            let (answer, _) = rest(stream);
            assert!(answer.starts_with(&format!("HTTP/1.1 {status}\r\n")), "{request}: {answer}");
            let (head, page) = answer.split_once("\r\n\r\n").expect("a head");
            assert!(head.contains(&format!("content-length: {}\r\n", page.len())), "{answer}");
            assert!(page.starts_with(&format!("{status}\n")), "{answer}");
            assert!(page.contains(reason), "{request}: {answer}");
        }
        let code = &status[..3];
        until("the error log has it", || gateway.error_log().lines().count() == 2 * (n + 1));
        let log = gateway.error_log();
        let last = log.lines().last().expect("a line");
        assert!(last.starts_with("fcgi gateway: client 127.0.0.1:"), "{last}");
        assert!(last.contains(&format!(": {status}: ")) && last.contains(reason), "{last}");
        let line = format!("] \"-\" {code} ");
        until("the access log has it", || gateway.access_log().contains(&line));
    }
}

/// A coding that nobody decodes would reach the application as the body.
#[test]
fn transfer_codings_but_chunked_are_refused() {
    let app = App::start();
    let gateway = gateway(&app, &[]);
    for coding in [
        "gzip, chunked",
        "identity, chunked",
        "gzip\r\nTransfer-Encoding: chunked",
        "chunked, chunked",
        "chunked\r\nTransfer-Encoding: chunked",
    ] {
        let request =
            format!("POST /x HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: {coding}\r\n\r\n0\r\n\r\n");
        let (answer, _) = rest(client(&gateway, request.as_bytes()));
        assert!(answer.starts_with("HTTP/1.1 501 "), "{coding}: {answer}");
        assert!(answer.contains("a transfer coding other than chunked"), "{answer}");
    }
    assert_eq!(app.state.asked(), 0);
}

/// Whichever host it asks for: a cache in front of the gateway may use the other one.
#[test]
fn a_request_has_one_host_that_is_one() {
    let (app, root) = (App::start(), Root::new());
    let gateway = Gateway::start(&[&app.address, "--root", &root.arg()]);
    for target in ["/page.txt", "/app.php", "/-/ready", "/none"] {
        for hosts in
            ["Host: a\r\nHost: a", "Host: a\r\nhost: b", "Host: a b", "Host: a/b", "Host: a@b"]
        {
            let request = format!("GET {target} HTTP/1.1\r\n{hosts}\r\nConnection: close\r\n\r\n");
            let (answer, _) = rest(client(&gateway, request.as_bytes()));
            assert!(answer.starts_with("HTTP/1.1 400 "), "{target} {hosts}: {answer}");
            assert!(answer.to_ascii_lowercase().contains("host"), "{answer}");
        }
    }
    for host in ["Host:", "Host: [::1]:80", "Host: a.example:"] {
        let request = format!("GET /page.txt HTTP/1.1\r\n{host}\r\nConnection: close\r\n\r\n");
        let (answer, _) = rest(client(&gateway, request.as_bytes()));
        assert!(answer.starts_with("HTTP/1.1 200 "), "{host}: {answer}");
    }
    assert_eq!(app.state.asked(), 0);
}

/// Whoever answers: the application, a file, or the gateway itself. hyper drops a body only in
/// HTTP/1, and clients take a body as an error.
#[test]
fn an_answer_to_head_has_no_body_in_http_2() {
    let (app, root) = (App::start(), Root::new());
    let gateway = Gateway::start(&[&app.address, "--root", &root.arg(), "--deny", "/plain"]);
    let targets = [
        ("/app.php", 200),
        ("/page.txt", 200),
        ("/none", 404),
        ("/plain/", 403),
        ("/sub", 301),
        ("/app.php/overloaded", 503),
        ("/app.php/no-head", 502),
        ("/-/ready", 200),
        ("/-/metrics", 200),
    ];
    block_on(async {
        let mut http_2 = Http2::connect(&gateway).await;
        for (target, status) in targets {
            let head = http_2.head(target).await.expect("a head");
            assert_eq!(head.status(), status, "{target}");
            let by_http_1 = gateway.connect().head(target).expect("a head");
            assert_eq!(by_http_1.head.status, status, "{target}");
            // Names of requests and figures may have other lengths.
            let has_length = head.headers().contains_key("content-length");
            assert_eq!(has_length, by_http_1.head.field("content-length").is_some(), "{target}");
            let body = head.into_body().collect().await.expect("an end");
            assert!(body.to_bytes().is_empty(), "{target}");
        }
    });
}

/// HTTP/2's heads have the same limit of fields.
#[test]
fn http_2_heads_have_a_limit() {
    let app = App::start();
    let gateway = gateway(&app, &["--max-fields", "20"]);
    block_on(async {
        let mut client = Http2::connect(&gateway).await;
        for (number, status) in [(20, 200), (21, 431)] {
            let answer = client.get_with_fields("/x", number).await.expect("an answer");
            assert_eq!(answer.status(), status, "{number} fields");
        }
    });
}

/// A file that ends with what hyper's own answer looks like is sent whole.
#[test]
fn what_looks_like_a_refusal_is_sent() {
    let (app, root) = (App::start(), Root::new());
    let text = "HTTP/1.1 400 Bad Request\r\nconnection: close\r\ncontent-length: 0\r\n\r\n";
    std::fs::write(root.path().join("sample.http"), text).expect("a file");
    let gateway = Gateway::start(&[&app.address, "--root", &root.arg()]);
    let mut connection = gateway.connect();
    for _ in 0..3 {
        let reply = connection.get("/sample.http").expect("an answer");
        assert_eq!(String::from_utf8_lossy(&reply.body), text);
    }
}
