//! A request's body is over at its length (W-16), a response's at its end.

use std::io::{self, Read};

use fcgi::{
    Error, Pool,
    http::{Body, FilterData, HttpClient, HttpError, Mount},
};
use fcgi_blocking as fcgi;
use fcgi_testkit::{signal::background, wire::RawApp};
use http::{Request, Response, StatusCode};

use crate::{
    app::{FILTER, Gate, KEEP, RESPONDER, Type, begin, close, end, params, record, stream},
    kit::{answer, app, ok, text},
};

fn post(role: u16, length: &str) -> Vec<u8> {
    let pairs = [
        ("REQUEST_METHOD", "POST"),
        ("REQUEST_URI", "/"),
        ("CONTENT_LENGTH", length),
        ("FCGI_DATA_LENGTH", "4"),
    ];
    [begin(1, role, KEEP), params(1, &pairs), close(Type::Params, 1)].concat()
}

fn stdin(content: &str) -> Vec<u8> {
    stream(Type::Stdin, 1, content.as_bytes())
}

/// Answers with the body and a Filter's file.
fn echo(request: Request<Body>) -> Response<Body> {
    let file = request.extensions().get::<FilterData>().and_then(FilterData::take);
    let mut page = match io::read_to_string(request.into_body()) {
        Ok(body) => body,
        Err(error) => error.to_string(),
    };
    if let Some(mut file) = file {
        file.read_to_string(&mut page).unwrap();
    }
    answer(ok(), page)
}

/// What is in a response after its head.
fn page(stdout: &[u8]) -> &str {
    text(stdout).split_once("\r\n\r\n").unwrap().1
}

#[test]
fn a_body_is_over_at_its_length_w_16() {
    let stray = [stdin("hello"), close(Type::Stdin, 1), close(Type::Data, 1)].concat();
    let filtered = [stdin("hello"), stream(Type::Data, 1, b"file")].concat();
    let app = app(echo);
    let mut peer = app.dial();
    for (role, length, body, expected) in [
        // STDIN is never ended.
        (RESPONDER, "5", stdin("hello"), "hello"),
        (RESPONDER, "5", [stdin("he"), stdin("llo")].concat(), "hello"),
        (RESPONDER, "0", Vec::new(), ""),
        // An empty DATA record follows, which flup's client sends to any role.
        (RESPONDER, "5", stray, "hello"),
        // Nor is DATA, which is over at FCGI_DATA_LENGTH.
        (FILTER, "5", filtered, "hellofile"),
    ] {
        peer.send([post(role, length), body].concat());
        let answered = peer.answer(1);
        assert_eq!((page(&answered.stdout), answered.app_status), (expected, 0), "{length}");
    }
}

#[test]
fn bytes_past_the_length_fail_the_body_fc_6_2_2() {
    for (length, sent) in [("4", "hello"), ("0", "x")] {
        // In one record with the rest, or in one of its own that is there when the body is read.
        for parts in [vec![sent], vec![&sent[..sent.len() - 1], &sent[sent.len() - 1..]]] {
            let gate = Gate::default();
            let held = gate.clone();
            let app = app(move |request: Request<Body>| {
                if request.uri() == "/now" {
                    return answer(ok(), "now");
                }
                held.wait();
                let error = io::read_to_string(request.into_body()).unwrap_err();
                answer(ok(), error.to_string())
            });
            let mut peer = app.dial();
            let body = parts.iter().flat_map(|part| stdin(part));
            // One write, with a second request behind it: its answer says that all was read.
            let mut bytes: Vec<u8> = post(RESPONDER, length).into_iter().chain(body).collect();
            bytes.extend(crate::app::request(3, KEEP, &crate::kit::get("/now"), b""));
            peer.send(bytes);
            assert_eq!(page(&peer.answer(3).stdout), "now");
            gate.open();
            let answered = peer.answer(1);
            let expected =
                Error::InputLength { declared: length.parse().unwrap(), seen: sent.len() as u64 };
            assert_eq!(page(&answered.stdout), expected.to_string());
        }
    }
}

#[test]
fn a_body_that_ends_before_its_length_fails_fc_6_2_2() {
    let app = app(echo);
    let mut peer = app.dial();
    peer.send([post(RESPONDER, "9"), stdin("hello"), close(Type::Stdin, 1)].concat());
    let expected = Error::InputLength { declared: 9, seen: 5 }.to_string();
    assert_eq!(page(&peer.answer(1).stdout), expected);
}

/// The response of an application that writes these bytes at once: the status, the body, and the error
/// after it.
fn received(answer: Vec<u8>) -> Result<(StatusCode, Vec<u8>, Option<HttpError>), HttpError> {
    let raw = RawApp::new();
    let client =
        HttpClient::new(Pool::new(raw.address.clone()).unwrap(), Mount::new("/app").unwrap());
    let _running = background(move || {
        let mut peer = raw.accept();
        peer.request();
        peer.send(answer);
    });
    let response = client.send(Request::get("/app").body(Body::empty()).unwrap())?;
    let (head, mut body) = response.into_parts();
    let mut read = Vec::new();
    loop {
        match body.chunk() {
            Ok(Some(bytes)) => read.extend(bytes),
            Ok(None) => return Ok((head.status, read, None)),
            Err(error) => {
                assert!(matches!(body.chunk(), Ok(None)), "nothing follows an error");
                return Ok((head.status, read, Some(error)));
            }
        }
    }
}

#[test]
fn every_byte_that_came_is_handed_on_before_the_error_q_20() {
    // A head and its body; how they end; and what error follows.
    let failed = || end(1, 5, 0);
    let well = || end(1, 0, 0);
    for (stdout, last, expected) in [
        ("X: y\n\nhalf", failed(), "failed with status 5"),
        ("X: y\n\nhalf", Vec::new(), "closed before the request ended"),
        ("X: y\nContent-Length: 9\n\nhalf", well(), "after 4 bytes"),
        ("X: y\nContent-Length: 9\n\nhalf", failed(), "after 4 bytes"),
        ("X: y\nContent-Length: 9\n\nhalf", Vec::new(), "closed before the request ended"),
        // A page with this status may be a refusal's, so that it is read to its end first (W-2).
        ("Status: 503 Later\n\nhalf", failed(), "failed with status 5"),
        ("Status: 503 Later\n\nhalf", Vec::new(), "closed before the request ended"),
        // Another record's header, cut.
        ("X: y\n\nhalf", vec![1, 6, 0], "closed before the request ended"),
    ] {
        let bytes = [record(Type::Stdout, 1, stdout.as_bytes()), last].concat();
        let (status, body, error) = received(bytes).expect("a whole head");
        assert_eq!(status == 503, stdout.contains("503"));
        assert_eq!(text(&body), "half", "{stdout}");
        let error = error.expect("it is cut").report().to_string();
        assert!(error.contains(expected), "{stdout}: {error}");
    }
}

#[test]
fn a_failure_before_the_head_is_whole_is_an_error_q_20() {
    for (stdout, last) in [
        ("", end(1, 5, 0)),
        ("", Vec::new()),
        ("Content-Type: text/pl", end(1, 5, 0)),
        ("Content-Type: text/pl", end(1, 0, 0)),
        ("Content-Type: text/pl", Vec::new()),
    ] {
        let bytes = [stream(Type::Stdout, 1, stdout.as_bytes()), last].concat();
        let error = received(bytes).unwrap_err();
        assert_eq!(error.status(), StatusCode::BAD_GATEWAY, "{stdout}: {error}");
    }
}
