//! `fcgi tap`: what it passes on, and what must not hold it up.

mod common;

use std::{
    fs,
    io::{self, Read},
    net::TcpListener,
    os::unix::fs::PermissionsExt,
};

use common::{
    fcgi,
    gateway::until,
    tap::{Tap, decode, echo, get},
};
use fcgi_testkit::{
    signal::Gate,
    wire::{
        KEEP, Peer, RESPONDER, RawApp, Type, abort, answer, begin, close, complete, pair, params,
        record, request, stream,
    },
};
use rustix::process::Signal;

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
    let mut tap = Tap::start(&app.address, &["--write", "r.pcapng"]);
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
    // The recording knows it too.
    tap.stop();
    let recording = fs::read(tap.file("r.pcapng")).expect("the recording");
    assert_eq!(decode(&recording), (tap.stdout(), String::new(), Some(0)));
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
