//! `fcgi tap`: what it passes on, what it prints, and what must not hold it up.

mod common;

use std::{
    fs,
    io::{self, Read, Write},
    net::TcpListener,
    os::unix::fs::PermissionsExt,
    process::{Command, Stdio},
    thread,
};

use common::{fcgi, gateway::until, tap::Tap};
use fcgi_testkit::{
    signal::Gate,
    wire::{
        CLOSE, KEEP, Peer, RESPONDER, RawApp, Type, abort, answer, begin, close, complete, end,
        pair, params, record, request, stream,
    },
};
use rustix::process::Signal;
use serde_json::Value;

/// Answers every request with STDERR and a page, and keeps the connection.
fn page(stderr: &'static str, page: &'static str) -> impl ToString {
    RawApp::new().serve(move |mut peer| {
        while let Some((id, _, _)) = peer.try_request() {
            let error = match stderr {
                "" => Vec::new(),
                text => record(Type::Stderr, id, text.as_bytes()),
            };
            if peer.try_send([error, answer(id, page.as_bytes())].concat()).is_err() {
                return;
            }
        }
    })
}

fn echo() -> impl ToString {
    RawApp::new().serve(|mut peer| peer.echo())
}

/// A request for a path, from a client with credentials.
fn get(id: u16, uri: &str) -> Vec<u8> {
    let pairs = [
        ("REQUEST_METHOD", "GET"),
        ("REQUEST_URI", uri),
        ("HTTP_COOKIE", "session=hidden"),
        ("HTTP_AUTHORIZATION", "Basic aGlkZGVu"),
        ("DB_PASSWORD", "hidden"),
    ];
    request(id, KEEP, &pairs, b"")
}

const PAGE: &str = "Status: 404 Not Found\r\nSet-Cookie: id=hidden\r\n\r\nnothing here\n";

/// Numbers that depend on the clock become `#`: those before ` ms`, and a line's first one.
fn without_times(text: &str) -> String {
    let mut out = String::new();
    for line in text.lines() {
        let mut words: Vec<String> = line.split(' ').map(str::to_owned).collect();
        for n in 0..words.len() {
            if n + 1 < words.len() && words[n + 1].trim_end_matches(',') == "ms" {
                words[n] = "#".to_owned();
            }
        }
        if let Some(word) = words.iter_mut().find(|word| !word.is_empty() && word.contains('.')) {
            if word.parse::<f64>().is_ok() {
                *word = "#.###".to_owned();
            }
        }
        out.push_str(&words.join(" "));
        out.push('\n');
    }
    out
}

#[test]
fn a_request_is_a_line() {
    let mut tap = Tap::start(page("PHP Notice:\x1b[2J at 1\nmore\n", PAGE).to_string(), &[]);
    let mut web = tap.connect();
    web.send(get(1, "/a b?x=1&token=hidden"));
    web.answer(1);
    let pairs = [("REQUEST_METHOD", "POST"), ("SCRIPT_NAME", "/up"), ("QUERY_STRING", "q=1")];
    web.send(request(2, KEEP, &pairs, b"12345"));
    web.answer(2);
    tap.lines(6);
    tap.signal(Signal::TERM);
    assert_eq!(tap.wait().code(), Some(0));
    let expected = "    1  STDERR: PHP Notice:\\x1b[2J at 1
    1  STDERR: more
    1  GET /a\\x20b?x=1&token=******  404  first # ms, total # ms  in 0 B, out 61 B, STDERR 26 B
    2  STDERR: PHP Notice:\\x1b[2J at 1
    2  STDERR: more
    2  POST /up?q=1  404  first # ms, total # ms  in 5 B, out 61 B, STDERR 26 B
";
    assert_eq!(without_times(&tap.stdout()), expected);
    assert!(tap.stderr().ends_with("fcgi tap: 2 requests on 1 connections\n"), "{}", tap.stderr());
}

#[test]
fn verbose_shows_every_record() {
    let tap = Tap::start(page("a warning\n", PAGE).to_string(), &["-v"]);
    let mut web = tap.connect();
    web.send(record(Type::GetValues, 0, &pair(b"FCGI_MPXS_CONNS", b"")));
    // A pair that is cut over records is shown when it is whole (FC-3.4-3).
    let all = [pair(b"REQUEST_METHOD", b"PUT"), pair(b"HTTP_COOKIE", b"a=hidden")].concat();
    let (one, other) = all.split_at(30);
    web.send(
        [
            begin(1, RESPONDER, CLOSE),
            record(Type::Params, 1, one),
            record(Type::Params, 1, other),
            close(Type::Params, 1),
            stream(Type::Stdin, 1, b"one\ntwo\nthree\nfour\nfive\n"),
            close(Type::Stdin, 1),
        ]
        .concat(),
    );
    web.answer(1);
    let expected =
        "    #.###     1  web → app  GET_VALUES          0      17    7  FCGI_MPXS_CONNS=
    #.###     1  web → app  BEGIN_REQUEST       1       8    0  Responder, no keep_conn
    #.###     1  web → app  PARAMS              1      30    2  REQUEST_METHOD=PUT
    #.###     1  web → app  PARAMS              1      10    6  HTTP_COOKIE=********
    #.###     1  web → app  PARAMS              1       0    0  end of PARAMS
    #.###     1  web → app  STDIN               1      24    0  one\\n
                                                                two\\n
                                                                three\\n
                                                                four\\n
                                                                … 5 bytes more
    #.###     1  web → app  STDIN               1       0    0  end of STDIN
    #.###     1  web ← app  STDERR              1      10    6  a warning\\n
    #.###     1  web ← app  STDOUT              1      61    3  Status: 404 Not Found\\r\\n
                                                                Set-Cookie: *********\\r\\n
                                                                \\r\\n
                                                                nothing here\\n
    #.###     1  web ← app  STDOUT              1       0    0  end of STDOUT
    #.###     1  web ← app  END_REQUEST         1       8    0  app status 0, REQUEST_COMPLETE
    1  PUT -  404  first # ms, total # ms  in 24 B, out 61 B, STDERR 10 B
";
    tap.lines(expected.lines().count());
    assert_eq!(without_times(&tap.stdout()), expected);
}

#[test]
fn secrets_are_shown_when_asked_for() {
    let tap = Tap::start(page("", PAGE).to_string(), &["-v", "--show-secrets"]);
    let mut web = tap.connect();
    web.send(get(1, "/?password=hidden"));
    web.answer(1);
    let shown = tap.lines(15).join("\n");
    for secret in
        ["session=hidden", "Basic aGlkZGVu", "DB_PASSWORD=hidden", "password=hidden", "id=hidden"]
    {
        assert!(shown.contains(secret), "{secret} in {shown}");
    }
}

#[test]
fn secrets_are_hidden_from_the_recording_too() {
    let mut tap = Tap::start(page("", PAGE).to_string(), &["--write", "r.pcapng"]);
    let mut web = tap.connect();
    let mut pairs = vec![
        ("REQUEST_METHOD", "POST"),
        ("HTTP_COOKIE", "session=hidden"),
        ("QUERY_STRING", "api_key=hidden"),
        ("CONTENT_TYPE", "application/x-www-form-urlencoded"),
    ];
    let form = b"name=Ann&password=hidden";
    web.send(request(1, KEEP, &pairs, form));
    web.answer(1);
    // Bodies of other types are not examined.
    pairs[3].1 = "application/json";
    web.send(request(1, KEEP, &pairs, b"{\"word\": \"a body\"}"));
    web.answer(1);
    tap.stop();
    let recorded = fs::read(tap.file("r.pcapng")).expect("a recording");
    let recorded = String::from_utf8_lossy(&recorded);
    assert!(!recorded.contains("hidden"), "a secret in the recording");
    assert!(recorded.contains("name=Ann&password=******"), "the form is there");
    assert!(recorded.contains("a body"), "the body is there");
}

#[test]
fn usual_secrets_are_known_by_their_names() {
    const HEAD: &str = "Status: 302 Found\r\nLocation: https://a/cb#access_token=LEAK\r\n\
                        X-Accel-Redirect: /a?sid=LEAK\r\nX-Session: LEAK\r\n\r\n";
    let mut tap = Tap::start(page("", HEAD).to_string(), &["-v", "--write", "r.pcapng"]);
    let mut web = tap.connect();
    let pairs = [
        ("REQUEST_METHOD", "POST"),
        ("REQUEST_URI", "/a?PHPSESSID=LEAK&sid=LEAK&code=LEAK&b=kept"),
        ("DOCUMENT_URI", "/a?next=%2Fb%3Fcode%3DLEAK"),
        ("HTTP_X_ORIGINAL_URI", "/y?token=LEAK"),
        ("HTTP_X_REWRITE_URL", "/y#id_token=LEAK"),
        ("X_SESSION_ID", "LEAK"),
        ("X-Session", "LEAK"),
        ("HTTP_X_CSRF", "LEAK"),
        ("AUTH_TYPE", "kept"),
        ("CONTENT_TYPE", "application/x-www-form-urlencoded"),
    ];
    web.send(request(1, KEEP, &pairs, b"log=ann&pwd=a;LEAK&otp=LEAK&c=kept"));
    web.answer(1);
    let seen = all_that_is_seen(&mut tap);
    assert!(!seen.contains("LEAK"), "{seen}");
    for kept in ["&b=kept", "AUTH_TYPE=kept", "log=ann&pwd=******&otp=****&c=kept"] {
        assert!(seen.contains(kept), "{kept} in {seen}");
    }
}

/// All output of a tap: its stdout, its recording, and what `decode -v` prints of that.
fn all_that_is_seen(tap: &mut Tap) -> String {
    tap.stop();
    let recorded = fs::read(tap.file("r.pcapng")).expect("a recording");
    let output = fcgi().args(["decode", "-v"]).arg(tap.file("r.pcapng")).output().expect("it runs");
    let parts = [tap.stdout().into_bytes(), recorded, output.stdout].concat();
    String::from_utf8_lossy(&parts).into_owned()
}

/// Parameters and a body with secrets, for a request that has begun.
fn late(id: u16) -> Vec<u8> {
    [
        params(id, &[("HTTP_COOKIE", "sid=TOPSECRET")]),
        stream(Type::Stdin, id, b"password=TOPSECRET"),
        stream(Type::Data, id, b"TOPSECRET"),
    ]
    .concat()
}

#[test]
fn what_belongs_to_no_request_is_hidden() {
    for show in [false, true] {
        let app = RawApp::new();
        let mut args = vec!["-v", "--write", "r.pcapng"];
        args.extend(show.then_some("--show-secrets"));
        let mut tap = Tap::start(&app.address, &args);
        // The answer ends before the request does.
        let mut web = tap.connect();
        web.send(begin(1, RESPONDER, KEEP));
        let mut to_app = app.accept();
        to_app.record();
        to_app.send(answer(1, b"early"));
        assert_eq!(web.answer(1), complete(b"early"));
        web.send(late(1));
        to_app.send(record(Type::Stdout, 1, b"Set-Cookie: sid=TOPSECRET\r\n\r\n"));
        web.record();
        // Streams in the wrong direction belong to no request either.
        web.send([begin(2, RESPONDER, KEEP), record(Type::Stdout, 2, b"TOPSECRET")].concat());
        to_app.send(late(2));
        (0..3).for_each(|_| drop(web.record()));
        // Padding may hold what was in the peer's memory.
        let mut padded = fcgi_testkit::wire::padded(Type::Stdin, 2, b"a", 9);
        let at = padded.len() - 9;
        padded[at..].copy_from_slice(b"TOPSECRET");
        web.send(padded);
        // A browser at the port.
        let mut browser = tap.connect();
        let _server = app.accept();
        browser.send(b"GET / HTTP/1.1\r\n");
        browser.send(b"Cookie: sid=TOPSECRET\r\n\r\n");
        until("it is told of", || tap.stderr().contains("is no FastCGI from here on"));
        browser.shutdown_write();
        web.shutdown_write();
        drop(to_app.rest());
        drop((web, browser, to_app, _server));
        let seen = all_that_is_seen(&mut tap);
        assert_eq!(seen.contains("TOPSECRET"), show, "{seen}");
    }
}

#[test]
fn requests_that_are_not_told_apart_show_nothing() {
    let app = RawApp::new();
    let mut tap = Tap::start(&app.address, &["-v", "--write", "r.pcapng"]);
    let web = tap.connect();
    let mut to_app = app.accept();
    let mut wire: Vec<u8> = (1..=4097).flat_map(|id| begin(id, RESPONDER, KEEP)).collect();
    wire.extend(late(4097));
    let sent = web.send_beside(wire);
    (0..4097 + 3).for_each(|_| drop(to_app.record()));
    assert!(sent.join());
    drop((web, to_app));
    assert!(!all_that_is_seen(&mut tap).contains("TOPSECRET"));
}

#[test]
fn a_second_beginning_shows_nothing() {
    let app = RawApp::new();
    let mut tap = Tap::start(&app.address, &["-v", "--write", "r.pcapng"]);
    let mut web = tap.connect();
    let mut to_app = app.accept();
    // A name that never ends would take in what comes after it.
    web.send([begin(1, RESPONDER, KEEP), record(Type::Params, 1, b"\x7f\x7fNAME")].concat());
    web.send([begin(1, RESPONDER, KEEP), late(1)].concat());
    (0..6).for_each(|_| drop(to_app.record()));
    drop((web, to_app));
    assert!(!all_that_is_seen(&mut tap).contains("TOPSECRET"));
}

#[test]
fn json_is_one_object_a_line() {
    let mut tap = Tap::start(page("oh", PAGE).to_string(), &["--json"]);
    let mut web = tap.connect();
    web.send(get(7, "/x"));
    web.answer(7);
    tap.lines(1);
    tap.stop();
    let lines: Vec<Value> =
        tap.lines(2).iter().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    let request = &lines[0];
    for (name, value) in [
        ("v", Value::from(1)),
        ("event", "request".into()),
        ("request", 1.into()),
        ("connection", 1.into()),
        ("request_id", 7.into()),
        ("role", "Responder".into()),
        ("method", "GET".into()),
        ("path", "/x".into()),
        ("status", 404.into()),
        ("app_status", 0.into()),
        ("ended", true.into()),
        ("stdin_bytes", 0.into()),
        ("stdout_bytes", 61.into()),
        ("stderr_bytes", 2.into()),
    ] {
        assert_eq!(request[name], value, "{name} of {request}");
    }
    let (first, total) = (request["first_byte_ms"].as_f64(), request["total_ms"].as_f64());
    assert!(first.is_some() && first <= total, "{request}");
    assert_eq!((&lines[1]["event"], &lines[1]["exit_status"]), (&"end".into(), &0.into()));
}

#[test]
fn filters_choose_requests() {
    let application = page("", PAGE).to_string();
    for (filters, expected) in [
        (&["/b"][..], &["/b"][..]),
        (&["path=/*"], &["/a?x", "/b", "/c"]),
        (&["!path=/?"], &["/a?x", "/b", "/c"]),
        (&["path=/a*", "method=GET"], &["/a?x"]),
        (&["method=POST"], &[]),
        (&["status=404"], &["/a?x", "/b", "/c"]),
        (&["status=5xx,cut"], &[]),
        (&["status>=400", "!/b"], &["/a?x", "/c"]),
        (&["!stderr", "ms>=0"], &["/a?x", "/b", "/c"]),
        (&["REQUEST_URI=/c"], &["/c"]),
    ] {
        let args: Vec<&str> = filters.iter().flat_map(|filter| ["--filter", filter]).collect();
        let mut tap = Tap::start(&application, &args);
        let mut web = tap.connect();
        for uri in ["/a?x", "/b", "/c"] {
            web.send(get(1, uri));
            web.answer(1);
        }
        tap.stop();
        let stdout = tap.stdout();
        let paths: Vec<_> = stdout.lines().map(|line| line.split_whitespace().nth(2)).collect();
        let expected: Vec<_> = expected.iter().map(|path| Some(*path)).collect();
        assert_eq!(paths, expected, "{filters:?}");
    }
    // Records are held back until that is known.
    let tap = Tap::start(&application, &["-v", "--filter", "/b"]);
    let mut web = tap.connect();
    for uri in ["/a", "/b", "/c"] {
        web.send(get(1, uri));
        web.answer(1);
    }
    drop(web);
    let shown = tap.lines(15);
    assert!(shown[0].contains("BEGIN_REQUEST") && shown[14].contains("GET /b"), "{shown:#?}");
    let output = fcgi().args(["tap", "--listen", "x", "y", "--filter", "status=no"]).output();
    assert_eq!(output.expect("it runs").status.code(), Some(2));
}

#[test]
fn bytes_pass_untouched_and_at_once() {
    let app = RawApp::new();
    let tap = Tap::start(&app.address, &["-v"]);
    let mut web = tap.connect();
    let mut to_app = app.accept();
    // A padded record with a reserved byte, byte by byte: each arrives before the next is sent.
    let mut bytes = begin(1, RESPONDER, KEEP);
    bytes.extend(fcgi_testkit::wire::padded(Type::Params, 1, b"\x01\x01ab", 255));
    let mut reader = std::os::unix::net::UnixStream::from(to_app.socket());
    for byte in &bytes {
        web.send([*byte]);
        let mut got = [0];
        reader.read_exact(&mut got).expect("it arrives");
        assert_eq!(got[0], *byte);
    }
    // Bytes that are not FastCGI pass too, in both directions.
    let noise: Vec<u8> = (0..100_000_u32).map(|n| (n % 253) as u8 ^ 0x80).collect();
    let sent = web.send_beside(noise.clone());
    let mut got = vec![0; noise.len()];
    reader.read_exact(&mut got).expect("it arrives");
    assert!(sent.join() && got == noise);
    to_app.send(b"HTTP/1.1 400 no\r\n\r\n");
    drop((to_app, reader, app));
    assert_eq!(web.rest(), b"HTTP/1.1 400 no\r\n\r\n");
    until("both are told of", || tap.stderr().matches("is no FastCGI from here on").count() == 2);
    assert!(tap.stderr().contains("what the web server sends"), "{}", tap.stderr());
    assert!(tap.stderr().contains("what the application sends"), "{}", tap.stderr());
}

#[test]
fn both_directions_at_once() {
    let mut tap = Tap::start(echo().to_string(), &["--write", "r.pcapng"]);
    let mut web = tap.connect();
    let body: Vec<u8> = (0..30_000_000_u32).map(|n| (n % 251) as u8).collect();
    let sent = web.send_beside(request(1, KEEP, &[("REQUEST_METHOD", "POST")], &body));
    assert!(web.answer(1) == complete(&body), "Q-15");
    assert!(sent.join());
    tap.stop();
    assert!(tap.stdout().contains("in 30000000 B, out 30000000 B"), "{}", tap.stdout());
}

#[test]
fn a_half_close_is_no_end() {
    for tap in [Tap::start(echo().to_string(), &[]), Tap::start_on_tcp(echo().to_string(), &[])] {
        let mut web = tap.connect();
        web.send(begin(1, RESPONDER, KEEP));
        web.send(params(1, &[("REQUEST_METHOD", "POST")]));
        web.send(stream(Type::Stdin, 1, b"body"));
        web.send(close(Type::Stdin, 1));
        web.shutdown_write();
        assert_eq!(web.answer(1), complete(b"body"), "FC-3.5-2");
        web.expect_close();
        assert!(tap.lines(1)[0].contains("in 4 B, out 4 B"), "{:?}", tap.lines(1));
    }
}

#[test]
fn the_applications_half_close_is_one_too() {
    let app = RawApp::new();
    let tap = Tap::start(&app.address, &[]);
    let mut web = tap.connect();
    let mut to_app = app.accept();
    web.send(begin(1, RESPONDER, KEEP));
    to_app.send(answer(1, b"early"));
    to_app.shutdown_write();
    assert_eq!(web.answer(1), complete(b"early"));
    web.expect_close();
    // Later bytes still arrive.
    web.send(params(1, &[("REQUEST_METHOD", "POST")]));
    assert_eq!(to_app.record().kind, Type::BeginRequest);
    assert_eq!(to_app.stream_of(Type::Params, 1), [pair(b"REQUEST_METHOD", b"POST")].concat());
}

#[test]
fn a_web_server_that_is_gone_is_gone_for_the_application() {
    let app = RawApp::new();
    let tap = Tap::start(&app.address, &[]);
    let web = {
        let mut web = tap.connect();
        web.send(get(1, "/left"));
        web
    };
    let mut to_app = app.accept();
    to_app.request();
    drop(web);
    // It sees that both directions are closed (W-8), and not only that no more comes.
    let socket = to_app.socket();
    until("it hangs up", || {
        fcgi_engine::socket::hang_up(&socket) == fcgi_engine::socket::HangUp::Gone
    });
    assert!(tap.lines(1)[0].contains("GET /left  web server left  first -"), "{:?}", tap.lines(1));
}

#[test]
fn aborts_pass() {
    let tap = Tap::start(echo().to_string(), &[]);
    let mut web = tap.connect();
    web.send([begin(1, RESPONDER, KEEP), params(1, &[("SCRIPT_NAME", "/slow")])].concat());
    web.send(abort(1));
    assert_eq!(web.record().kind, Type::EndRequest);
    let line = &tap.lines(1)[0];
    assert!(line.contains("- /slow  aborted, app status 1  first -"), "{line}");
}

#[test]
fn an_application_that_goes_away_is_told_of() {
    let application = RawApp::new().serve(|mut peer| {
        if peer.try_request().is_some() {
            peer.send(record(Type::Stdout, 1, b"Status: 200\r\n\r\nhal"));
        }
    });
    let tap = Tap::start(application, &[]);
    let mut web = tap.connect();
    web.send(get(1, "/cut"));
    assert_eq!(web.record().content, b"Status: 200\r\n\r\nhal");
    web.expect_end();
    let line = &tap.lines(1)[0];
    assert!(line.contains("GET /cut  200 cut  first"), "{line}");
}

#[test]
fn a_reset_is_a_reset() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = format!("tcp:{}", listener.local_addr().expect("its address"));
    let tap = Tap::start_on_tcp(&address, &["--write", "r.pcapng"]);
    let accept = || Peer::tcp(listener.accept().expect("a connection").0);
    let is_reset = |peer: &mut Peer| matches!(peer.try_record(), Err(error) if error.kind() == io::ErrorKind::ConnectionReset);
    // From the application, after some of its answer.
    let mut web = tap.connect();
    web.send(get(1, "/reset"));
    let mut to_app = accept();
    to_app.request();
    to_app.send(record(Type::Stdout, 1, b"some"));
    assert_eq!(web.record().content, b"some");
    to_app.reset_on_close();
    drop(to_app);
    assert!(is_reset(&mut web), "the web server sees it");
    // And from the web server.
    let web = tap.connect();
    let mut to_app = accept();
    web.reset_on_close();
    drop(web);
    assert!(is_reset(&mut to_app), "the application sees it");
    assert!(tap.lines(1)[0].contains("GET /reset  cut"), "{:?}", tap.lines(1));
}

#[test]
fn a_reader_that_is_gone_lets_its_writer_fail() {
    for tcp in [false, true] {
        let app = RawApp::new();
        let tap = match tcp {
            true => Tap::start_on_tcp(&app.address, &[]),
            false => Tap::start(&app.address, &[]),
        };
        let mut web = tap.connect();
        web.send(begin(1, RESPONDER, KEEP));
        let mut to_app = app.accept();
        assert_eq!(to_app.record().kind, Type::BeginRequest);
        drop(to_app);
        // More than all buffers hold: without an error it would wait for ever.
        let block = stream(Type::Stdin, 1, &vec![0; 1 << 20]);
        let failed = (0..200).any(|_| web.try_send(&block).is_err());
        assert!(failed, "writing goes on for ever");
    }
}

#[test]
fn output_that_nobody_reads_stops_nothing() {
    let mut tap = Tap::start_unread(echo().to_string(), &["-v"]);
    let mut web = tap.connect();
    let body = vec![b'x'; 400];
    for _ in 0..8000 {
        web.send(request(1, KEEP, &[("REQUEST_METHOD", "POST")], &body));
        assert_eq!(web.answer(1), complete(&body));
    }
    // It reports that while nobody reads.
    until("it says so", || tap.stderr().contains(" lines were dropped: stdout is not read"));
    assert_eq!(tap.stop().code(), Some(0));
    assert!(tap.stderr().contains("8000 requests on 1 connections"), "{}", tap.stderr());
}

#[test]
fn a_recording_that_nobody_reads_stops_nothing() {
    let mut tap = Tap::start_unread(echo().to_string(), &["--write", "-"]);
    let mut web = tap.connect();
    let body = vec![b'x'; 1 << 20];
    for _ in 0..20 {
        let sent = web.send_beside(request(1, KEEP, &[("REQUEST_METHOD", "POST")], &body));
        assert!(web.answer(1) == complete(&body));
        assert!(sent.join());
    }
    until("it says so", || tap.stderr().contains(" packets were not recorded: the file is not"));
    assert_eq!(tap.stop().code(), Some(0));
}

#[test]
fn a_full_disk_stops_nothing_and_leaves_whole_packets() {
    let mut tap = Tap::start_within("f 64", echo().to_string(), &["--write", "r.pcapng"]);
    let mut web = tap.connect();
    for _ in 0..20 {
        web.send(request(1, KEEP, &[("REQUEST_METHOD", "POST")], &[b'x'; 5000]));
        assert_eq!(web.answer(1), complete([b'x'; 5000]));
    }
    assert_eq!(tap.stop().code(), Some(0));
    let said = tap.stderr();
    assert!(said.contains("write r.pcapng: File too large"), "{said}");
    assert!(said.contains(" packets were not recorded: the file can't be written"), "{said}");
    assert_eq!(tap.stdout().lines().count(), 20);
    // A gap in it does not make it unreadable.
    let output = fcgi().arg("decode").arg(tap.file("r.pcapng")).output().expect("it runs");
    let stdout = String::from_utf8_lossy(&output.stdout);
    assert!(stdout.starts_with("    1  POST -  "), "{stdout}");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn who_may_connect_to_the_one_may_connect_to_the_other() {
    let app = RawApp::new();
    let fcgi_tokio::Target::Unix(path) = app.address.target() else { panic!("a unix socket") };
    fs::set_permissions(path, fs::Permissions::from_mode(0o622)).expect("its mode");
    let tap = Tap::start(&app.address, &[]);
    let mode = || fs::metadata(tap.file("tap.sock")).expect("its socket").permissions().mode();
    assert_eq!(mode() & 0o777, 0o622);
}

#[test]
fn requests_under_way_end_first() {
    let gate = Gate::default();
    let app = RawApp::new().serve({
        let gate = gate.clone();
        move |mut peer| {
            while let Some((id, _, _)) = peer.try_request() {
                gate.wait();
                peer.send(answer(id, b"late"));
            }
        }
    });
    let mut tap = Tap::start(app, &["-v"]);
    let mut web = tap.connect();
    let _idle = tap.connect();
    web.send(get(1, "/slow"));
    until("the request is under way", || tap.stdout().contains("end of STDIN"));
    tap.signal(Signal::TERM);
    until("nobody can connect", || !tap.file("tap.sock").exists());
    gate.open();
    assert_eq!(web.answer(1), complete(b"late"));
    assert_eq!(tap.wait().code(), Some(0));
    assert!(tap.stdout().contains("GET /slow  -  first"), "{}", tap.stdout());
}

#[test]
fn nobody_to_carry_to() {
    let folder = tempfile::tempdir().expect("a folder");
    let nowhere = folder.path().join("none.sock");
    let mut tap = Tap::start(nowhere.display(), &[]);
    let mut web = tap.connect();
    web.expect_end();
    until("it says so", || tap.stderr().contains("connection 1: connect to unix:"));
    assert!(tap.stderr().contains("No such file"), "{}", tap.stderr());
    assert_eq!(tap.stop().code(), Some(0));
}

#[test]
fn what_can_not_start_says_why() {
    let run = |args: &[&str]| {
        let output = fcgi().arg("tap").args(args).stdin(Stdio::null()).output().expect("it runs");
        (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
    };
    let (code, said) = run(&["--listen", "/nonexistent/x.sock", "127.0.0.1:1"]);
    assert_eq!(code, Some(5), "{said}");
    assert!(said.starts_with("fcgi tap: listen at unix:/nonexistent/x.sock: "), "{said}");
    let (code, said) =
        run(&["--listen", "127.0.0.1:0", "127.0.0.1:1", "--write", "/nonexistent/f"]);
    assert_eq!(code, Some(2), "{said}");
    assert!(said.starts_with("fcgi tap: write /nonexistent/f: "), "{said}");
    assert_eq!(run(&["127.0.0.1:1"]).0, Some(2), "--listen is needed");
}

#[test]
fn a_recording_prints_the_same_again() {
    let mut tap = Tap::start(page("a warning\n", PAGE).to_string(), &["--write", "r.pcapng"]);
    let mut web = [tap.connect(), tap.connect()];
    for n in 0..20 {
        let web = &mut web[n % 2];
        web.send(get(n as u16 + 1, &format!("/page/{n}")));
        web.answer(n as u16 + 1);
    }
    drop(web);
    tap.stop();
    let decode = |args: &[&str]| {
        let output =
            fcgi().arg("decode").arg(tap.file("r.pcapng")).args(args).output().expect("it runs");
        assert_eq!(String::from_utf8_lossy(&output.stderr), "");
        assert_eq!(output.status.code(), Some(0));
        String::from_utf8(output.stdout).expect("text")
    };
    // To the microsecond.
    assert_eq!(decode(&[]), tap.stdout());
    assert_eq!(decode(&["--filter", "/page/1*"]).lines().filter(|l| l.contains("GET")).count(), 11);
    let records = decode(&["-v"]);
    assert_eq!(records.matches("BEGIN_REQUEST").count(), 20);
    assert_eq!(records.matches("HTTP_COOKIE=**************").count(), 20);
}

#[test]
fn a_recording_that_is_cut_is_shown_as_far_as_it_goes() {
    let mut tap = Tap::start(page("", PAGE).to_string(), &["--write", "r.pcapng"]);
    let mut web = tap.connect();
    for id in [1, 2] {
        web.send(get(id, "/page"));
        web.answer(id);
    }
    drop(web);
    tap.stop();
    let whole = fs::read(tap.file("r.pcapng")).expect("the recording");
    for (length, requests) in [(27, 0), (28 + 4, 0), (whole.len() - 1, 2)] {
        let (stdout, stderr, code) = decode(&whole[..length]);
        assert_eq!(code, Some(4), "{length}: {stderr}");
        assert_eq!(stderr, "fcgi decode: -: it ends within a packet\n", "{length}");
        assert_eq!(stdout.matches("GET /page").count(), requests, "{length}: {stdout}");
    }
}

/// `fcgi decode` of these bytes, from stdin.
fn decode(bytes: &[u8]) -> (String, String, Option<i32>) {
    decode_by(fcgi().args(["decode", "-"]), bytes)
}

/// The same, with a limit (`v` for KiB of memory, `t` for seconds of processor time).
fn decode_within(limit: &str, bytes: &[u8]) -> (String, String, Option<i32>) {
    let script = format!("ulimit -{limit}; exec \"$0\" decode -");
    decode_by(Command::new("sh").args(["-c", &script]).arg(fcgi().get_program()), bytes)
}

fn decode_by(command: &mut Command, bytes: &[u8]) -> (String, String, Option<i32>) {
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("it runs");
    let mut stdin = child.stdin.take().expect("piped");
    let bytes = bytes.to_vec();
    // It may end before it has read all.
    let writer = thread::spawn(move || drop(stdin.write_all(&bytes)));
    let output = child.wait_with_output().expect("it ends");
    writer.join().expect("written");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (text(&output.stdout), text(&output.stderr), output.status.code())
}

#[test]
fn raw_bytes_are_records() {
    let wire = [
        request(1, CLOSE, &[("REQUEST_METHOD", "GET"), ("SCRIPT_NAME", "/raw")], b""),
        stream(Type::Stdout, 1, b"Status: 201\r\n\r\nok"),
        end(1, 3, 0),
    ]
    .concat();
    let (stdout, stderr, code) = decode(&wire);
    let expected =
        "    0.000     1  web → app  BEGIN_REQUEST       1       8    0  Responder, no keep_conn
    0.000     1  web → app  PARAMS              1      36    4  REQUEST_METHOD=GET
                                                                SCRIPT_NAME=/raw
    0.000     1  web → app  PARAMS              1       0    0  end of PARAMS
    0.000     1  web → app  STDIN               1       0    0  end of STDIN
    0.000     1  web ← app  STDOUT              1      17    7  Status: 201\\r\\n
                                                                \\r\\n
                                                                ok
    0.000     1  web ← app  END_REQUEST         1       8    0  app status 3, REQUEST_COMPLETE
    1  GET /raw  201 app status 3  first 0.00 ms, total 0.00 ms  in 0 B, out 17 B
";
    assert_eq!((&*stdout, &*stderr, code), (expected, "", Some(0)));
    // A recording that is cut, and a file that is none.
    let (stdout, stderr, code) = decode(&wire[..wire.len() - 1]);
    assert!(stdout.contains("GET /raw  201 open"), "{stdout}");
    let at = wire.len() - 16;
    assert_eq!(stderr, format!("fcgi decode: -: it breaks off in the record at byte {at}\n"));
    assert_eq!(code, Some(4));
    let (_, stderr, code) = decode(b"GET / HTTP/1.1\r\n");
    assert!(stderr.starts_with("fcgi decode: -: no record at byte 0: "), "{stderr}");
    assert_eq!(code, Some(4));
    let nothing = "fcgi decode: -: there is no FastCGI in an empty file\n".to_owned();
    assert_eq!(decode(b""), (String::new(), nothing, Some(4)));
}

#[test]
fn what_can_not_be_read_says_so() {
    let output = fcgi().args(["decode", "/nonexistent"]).output().expect("it runs");
    assert_eq!(output.status.code(), Some(2));
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(said.starts_with("fcgi decode: /nonexistent: No such file"), "{said}");
}

const SYN: u8 = 2;
const FIN: u8 = 1;
const RST: u8 = 4;

/// A capture of packets between a web server's port and port 9000: port, whether it goes to the
/// application, flags, sequence number and bytes of each.
fn capture<'a>(packets: impl IntoIterator<Item = (u16, bool, u8, u32, &'a [u8])>) -> Vec<u8> {
    const RAW_IP: u32 = 101;
    let mut out = 0xA1B2_C3D4_u32.to_le_bytes().to_vec();
    for word in [0x0004_0002, 0, 0, 0xFFFF, RAW_IP] {
        out.extend(u32::to_le_bytes(word));
    }
    for (n, (port, up, flags, sequence, payload)) in packets.into_iter().enumerate() {
        let length = 40 + payload.len() as u32;
        for word in [n as u32 / 1000, n as u32 % 1000, length, length] {
            out.extend(word.to_le_bytes());
        }
        out.extend([0x45, 0]);
        out.extend((length as u16).to_be_bytes());
        out.extend([0, 0, 0, 0, 64, 6, 0, 0, 127, 0, 0, 1, 127, 0, 0, 1]);
        let (from, to) = if up { (port, 9000) } else { (9000, port) };
        out.extend([from.to_be_bytes(), to.to_be_bytes()].concat());
        out.extend(sequence.to_be_bytes());
        let ack = if (flags, up) == (SYN, true) { 0 } else { 16 };
        out.extend([0, 0, 0, 0, 5 << 4, flags | ack, 0xFF, 0xFF, 0, 0, 0, 0]);
        out.extend(payload);
    }
    out
}

#[test]
fn connections_that_have_ended_cost_nothing() {
    let body = vec![b'x'; 20_000];
    let asked = request(1, CLOSE, &[("REQUEST_METHOD", "POST")], &body);
    let answered = answer(1, &body);
    let count = 3000_u16;
    for reset in [false, true] {
        let packets = (0..count).flat_map(|n| {
            let (up, down) = (1 + asked.len() as u32, 1 + answered.len() as u32);
            let port = 10_000 + n;
            let end = if reset { RST } else { FIN };
            [
                (port, true, SYN, 0, &b""[..]),
                (port, false, SYN, 0, b""),
                (port, true, 0, 1, &asked),
                (port, false, 0, 1, &answered),
                (port, false, end, down, b""),
                (port, true, FIN, up, b""),
                // Bytes that come twice begin no request.
                (port, true, 0, 1, &asked),
                (port, false, 0, down + 1, b""),
            ]
        });
        let (stdout, stderr, code) = decode_within("v 150000", &capture(packets));
        assert_eq!((&*stderr, code), ("", Some(0)));
        assert_eq!(
            stdout.lines().count(),
            usize::from(count),
            "{}",
            &stdout[..stdout.len().min(500)]
        );
        assert!(stdout.lines().all(|line| line.contains("in 20000 B, out 20000 B")), "{stdout}");
    }
}

#[test]
fn many_small_packets_in_the_wrong_order_take_no_time() {
    let body = vec![b'x'; 40_000];
    let asked = request(1, CLOSE, &[("REQUEST_METHOD", "POST")], &body);
    let number = |n: usize| (n as u32).wrapping_sub(20_000);
    let mut packets = vec![(10_000, true, SYN, number(0).wrapping_sub(1), &b""[..])];
    // The first packet shows that it is FastCGI.
    let rest = asked.iter().enumerate().skip(9).rev();
    packets.push((10_000, true, 0, number(0), &asked[..8]));
    packets.extend(rest.map(|(n, byte)| (10_000, true, 0, number(n), std::slice::from_ref(byte))));
    // A part of the next packet came before.
    packets.push((10_000, true, 0, number(4), &asked[4..200]));
    let answered = answer(1, b"");
    packets.push((10_000, false, 0, 1, &answered));
    let (stdout, stderr, code) = decode_within("t 10", &capture(packets));
    assert_eq!((&*stderr, code), ("", Some(0)), "{stdout}");
    assert!(stdout.contains("in 40000 B, out 0 B"), "{stdout}");
}
