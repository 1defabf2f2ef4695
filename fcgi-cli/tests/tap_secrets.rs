//! `fcgi tap`: secrets, and what it hides since it can't know.

mod common;

use std::fs;

use common::{
    fcgi,
    gateway::until,
    tap::{PAGE, Tap, get, page},
};
use fcgi_testkit::wire::{
    KEEP, RESPONDER, RawApp, Type, answer, begin, complete, params, record, request, stream,
};

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
    pairs[3].1 = "text/plain";
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

#[test]
fn bodies_are_examined_by_their_type() {
    const ANSWER: &str = "Content-Type: application/json; charset=utf-8\r\n\r\n\
                          {\"access_token\": \"LEAK\", \"user\": \"ann\"}";
    let multipart = "--x\r\nContent-Disposition: form-data; name=\"user\"\r\n\r\nann\r\n\
                     --x\r\nContent-Disposition: form-data; name=\"password\"\r\n\r\nLEAK\r\n--x--\r\n";
    for (kind, body, kept) in [
        ("application/json", r#"{"user":"ann","login":{"password":"LEAK"}}"#, "{\"user\":\"ann\""),
        ("multipart/form-data; boundary=x", multipart, "ann"),
    ] {
        for show in [false, true] {
            let mut args = vec!["-v", "--write", "r.pcapng"];
            args.extend(show.then_some("--show-secrets"));
            let mut tap = Tap::start(page("", ANSWER).to_string(), &args);
            let mut web = tap.connect();
            let length = body.len().to_string();
            let pairs =
                [("REQUEST_METHOD", "POST"), ("CONTENT_TYPE", kind), ("CONTENT_LENGTH", &length)];
            let half = body.len() - 20;
            web.send([begin(1, RESPONDER, KEEP), params(1, &pairs)].concat());
            web.send(record(Type::Stdin, 1, &body.as_bytes()[..half]));
            web.send(stream(Type::Stdin, 1, &body.as_bytes()[half..]));
            web.send(fcgi_testkit::wire::close(Type::Stdin, 1));
            assert_eq!(web.answer(1).stdout, ANSWER.as_bytes(), "what is relayed is not changed");
            let seen = all_that_is_seen(&mut tap);
            assert_eq!(seen.contains("LEAK"), show, "{seen}");
            assert!(seen.contains(kept) && seen.contains("access_token"), "{seen}");
        }
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
