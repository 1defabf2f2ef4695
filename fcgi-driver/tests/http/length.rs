//! A request's body is over at its length (W-16), a response's at its end.

use fcgi_driver::{
    Error,
    http::{Body, FilterData, HttpError, Responder},
    runtime::Runtime,
    server::Server,
};
use fcgi_testkit::{
    sim::{self, Pipe, Sim},
    wire::{FILTER, KEEP, RESPONDER, Type, begin, close, end, params, record, stream},
};
use http::{Response, StatusCode};
use http_body_util::BodyExt;

use crate::{
    client::{client, get},
    kit::{answer, read, service, text},
    records::records,
    support::{address, ms, serve},
};

/// Our server's answer to these records, up to END_REQUEST. A service that reads the body answers
/// with it.
async fn exchange(io: &mut Pipe, bytes: &[u8]) -> String {
    io.write_all(bytes).await.unwrap();
    let mut answered = Vec::new();
    loop {
        let more = io.read().await.unwrap();
        assert!(!more.is_empty(), "the connection was closed: {}", text(&answered));
        answered.extend(more);
        let records = records(&answered);
        let of_kind = |kind: Type| records.iter().filter(move |(h, _)| h.record_type == kind);
        if let Some((_, body)) = of_kind(Type::EndRequest).next() {
            assert_eq!(body[..4], [0; 4], "the app status");
            return of_kind(Type::Stdout).map(|(_, content)| text(content)).collect();
        }
    }
}

/// Answers with the body and a Filter's file.
fn echo() -> impl fcgi_driver::server::Handler {
    Responder::new(service(|request: http::Request<Body>| async move {
        let file = request.extensions().get::<FilterData>().and_then(FilterData::take);
        let mut page = match read(request.into_body()).await {
            Ok(body) => body.to_vec(),
            Err(error) => error.to_string().into_bytes(),
        };
        if let Some(file) = file {
            page.extend(read(file).await.unwrap());
        }
        answer(Response::builder(), page)
    }))
}

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

#[test]
fn a_body_is_over_at_its_length_w_16() {
    let stray = [stdin("hello"), close(Type::Stdin, 1), close(Type::Data, 1)].concat();
    let filtered = [stdin("hello"), stream(Type::Data, 1, b"file")].concat();
    for seed in 0..10 {
        let cases = [
            // STDIN is never ended.
            (RESPONDER, "5", stdin("hello"), "hello"),
            (RESPONDER, "5", [stdin("he"), stdin("llo")].concat(), "hello"),
            (RESPONDER, "0", Vec::new(), ""),
            // An empty DATA record follows, which flup's client sends to any role.
            (RESPONDER, "5", stray.clone(), "hello"),
            // Nor is DATA, which is over at FCGI_DATA_LENGTH.
            (FILTER, "5", filtered.clone(), "hellofile"),
        ];
        sim::run(seed, async move {
            serve(Server::new(), echo());
            let mut io = Sim::connect(&address()).await.unwrap();
            for (role, length, body, expected) in cases {
                let bytes = [post(role, length), body].concat();
                let page = exchange(&mut io, &bytes).await;
                let (_, got) = page.split_once("\r\n\r\n").unwrap();
                assert_eq!(got, expected, "seed {seed}");
            }
            assert_eq!(sim::connections(&address()), 1);
        });
    }
}

#[test]
fn bytes_past_the_length_fail_the_body_fc_6_2_2() {
    for (length, sent) in [("4", "hello"), ("0", "x")] {
        // In one record with the rest, or in one of its own that is there when the body is read.
        for parts in [vec![sent], vec![&sent[..sent.len() - 1], &sent[sent.len() - 1..]]] {
            sim::run(1, async move {
                let slow = service(|request: http::Request<Body>| async move {
                    sim::sleep(ms(10)).await;
                    let error = read(request.into_body()).await.unwrap_err();
                    answer(Response::builder(), error.to_string())
                });
                serve(Server::new(), Responder::new(slow));
                let mut io = Sim::connect(&address()).await.unwrap();
                let body = parts.iter().flat_map(|part| stdin(part));
                let bytes: Vec<u8> = post(RESPONDER, length).into_iter().chain(body).collect();
                let page = exchange(&mut io, &bytes).await;
                let seen = sent.len().to_string();
                assert!(page.contains(&seen) && page.contains(length), "{page}");
            });
        }
    }
}

#[test]
fn a_body_that_ends_before_its_length_fails_fc_6_2_2() {
    sim::run(1, async {
        serve(Server::new(), echo());
        let mut io = Sim::connect(&address()).await.unwrap();
        let bytes = [post(RESPONDER, "9"), stdin("hello"), close(Type::Stdin, 1)].concat();
        let page = exchange(&mut io, &bytes).await;
        let expected = Error::InputLength { declared: 9, seen: 5 }.to_string();
        assert!(page.ends_with(&expected), "{page}");
    });
}

/// The response of an application that writes these bytes at once: the status, the body, and the error
/// after it.
async fn received(answer: Vec<u8>) -> Result<(StatusCode, Vec<u8>, Option<HttpError>), HttpError> {
    let mut backlog = sim::backlog(&address());
    sim::spawn(async move {
        let mut io = backlog.accept().await;
        let mut bytes = Vec::new();
        // BEGIN_REQUEST, PARAMS, their end, STDIN's end.
        while records(&bytes).len() < 4 {
            bytes.extend(io.read().await.unwrap());
        }
        io.write_all(&answer).await.unwrap();
    });
    let response = client().send(get("/app")).await?;
    let (head, mut body) = response.into_parts();
    let mut read = Vec::new();
    while let Some(frame) = body.frame().await {
        match frame {
            Ok(frame) => read.extend(frame.into_data().unwrap()),
            Err(error) => {
                assert!(body.frame().await.is_none(), "nothing follows an error");
                return Ok((head.status, read, Some(error)));
            }
        }
    }
    Ok((head.status, read, None))
}

#[test]
fn every_byte_that_came_is_handed_on_before_the_error_q_20() {
    // A head and its body; how they end; and what error follows.
    let failed = || end(1, 5, 0);
    let well = || end(1, 0, 0);
    let cases = [
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
    ];
    for seed in 0..10 {
        for (stdout, last, expected) in cases.clone() {
            sim::run(seed, async move {
                let bytes = [record(Type::Stdout, 1, stdout.as_bytes()), last].concat();
                let (status, body, error) = received(bytes).await.expect("a whole head");
                assert_eq!(status == 503, stdout.contains("503"));
                assert_eq!(text(&body), "half", "{stdout}: seed {seed}");
                let error = error.expect("it is cut").report().to_string();
                assert!(error.contains(expected), "{stdout}: {error}");
            });
        }
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
        sim::run(1, async move {
            let bytes = [stream(Type::Stdout, 1, stdout.as_bytes()), last].concat();
            let error = received(bytes).await.unwrap_err();
            assert_eq!(error.status(), StatusCode::BAD_GATEWAY, "{stdout}: {error}");
        });
    }
}
