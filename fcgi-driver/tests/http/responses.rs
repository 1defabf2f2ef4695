//! What an `HttpClient` makes of what an application answers.

use std::sync::{Arc, Mutex};

use fcgi_driver::{
    Error,
    http::{HeadLimits, HttpClient, HttpError},
    server::{self, Server},
};
use fcgi_proto::record::{EndRequestBody, RecordHeader, RecordType};
use fcgi_testkit::sim;
use http::{Method, Request, StatusCode};
use http_body_util::BodyExt;

use crate::{
    client::{body, client, get, mount, raw},
    kit::{full, text},
    records::{record, records},
    support::{Gauge, address, builder, ms, serve},
};

#[test]
fn a_response_body_is_held_against_its_length_cgi_6_3_5_1() {
    // The head's length, the body, the app status; what is read, and whether that is all.
    let cases = [
        ("Content-Length: 4\n", "body", 0, "body", true),
        ("Content-Length: 4\n", "body", 5, "body", true),
        ("Content-Length: 5\n", "body", 0, "body", false),
        ("Content-Length: 2\n", "body", 0, "bo", false),
        ("Content-Length: 0\n", "body", 0, "", false),
        ("", "body", 0, "body", true),
        ("", "body", 5, "body", false),
    ];
    for (seed, (length, sent, app_status, expected, whole)) in
        (0..10).flat_map(|seed| cases.map(|case| (seed, case)))
    {
        sim::run(seed, async move {
            serve(Server::new(), raw(format!("X: y\n{length}\n{sent}"), app_status));
            let mut body = client().send(get("/app")).await.unwrap().into_body();
            let (mut read, mut ended) = (Vec::new(), Ok(()));
            while let Some(frame) = body.frame().await {
                match frame {
                    Ok(frame) => read.extend(frame.into_data().unwrap()),
                    Err(error) => ended = Err(error),
                }
            }
            assert_eq!(text(&read), expected, "{length}{app_status}");
            assert_eq!(ended.is_ok(), whole, "{length}{app_status}: {ended:?}");
            if let Err(error) = ended {
                assert_eq!(error.status(), 502);
            }
        });
    }
}

#[test]
fn a_response_without_a_body_has_none() {
    for (method, status) in [(Method::HEAD, 200), (Method::GET, 204), (Method::GET, 304)] {
        sim::run(1, async move {
            let page = format!("Status: {status} X\nContent-Length: 4\n\nbody");
            serve(Server::new(), raw(page, 0));
            let client = client();
            for _ in 0..3 {
                let request =
                    Request::builder().method(&method).uri("/app").body(full("")).unwrap();
                let response = client.send(request).await.unwrap();
                assert_eq!(response.status(), status);
                assert_eq!(http_body::Body::size_hint(response.body()).exact(), Some(0));
                assert_eq!(body(response).await.unwrap(), "");
            }
            assert_eq!(sim::connections(&address()), 1);
        });
    }
}

#[test]
fn the_connection_is_kept_when_the_declared_bytes_were_read() {
    sim::run(1, async {
        serve(Server::new(), raw("Content-Length: 4\n\nbody", 0));
        let client = client();
        for _ in 0..5 {
            let mut body = client.send(get("/app")).await.unwrap().into_body();
            let mut read = 0;
            // As hyper does: no more than Content-Length says.
            while read < 4 {
                read += body.frame().await.unwrap().unwrap().into_data().unwrap().len();
            }
            // What came with the last byte is taken, what comes later is drained.
            drop(body);
            sim::sleep(ms(10)).await;
        }
        assert_eq!(sim::connections(&address()), 1);
    });
}

#[test]
fn a_request_that_ended_with_its_last_byte_is_not_aborted() {
    // The end may come in a later read than that byte: reads are cut as the seed says.
    (0..30).for_each(not_aborted);
}

fn not_aborted(seed: u64) {
    let wire = Arc::new(Mutex::new(Vec::new()));
    let seen = Arc::clone(&wire);
    sim::run(seed, async move {
        let mut backlog = sim::backlog(&address());
        sim::spawn(async move {
            let mut io = backlog.accept().await;
            let end = EndRequestBody { app_status: 0, protocol_status: 0 }.encode();
            let answer = [
                record(RecordType::Stdout, 1, b"Content-Length: 4\n\nbody"),
                record(RecordType::Stdout, 1, b""),
                record(RecordType::EndRequest, 1, &end),
            ];
            let mut answered = 0;
            loop {
                let bytes = io.read().await.unwrap();
                if bytes.is_empty() {
                    return;
                }
                let begun = {
                    let mut all = seen.lock().unwrap();
                    all.extend(bytes);
                    let is_end = |(header, content): &(RecordHeader, Vec<u8>)| {
                        header.record_type == RecordType::Stdin && content.is_empty()
                    };
                    records(&all).iter().filter(|record| is_end(record)).count()
                };
                for _ in answered..begun {
                    io.write_all(&answer.concat()).await.unwrap();
                }
                answered = begun;
            }
        });
        let client = client();
        for _ in 0..5 {
            let mut body = client.send(get("/app")).await.unwrap().into_body();
            // The whole answer is there before anything of the body is read.
            sim::sleep(ms(10)).await;
            let mut read = 0;
            while read < 4 {
                read += body.frame().await.unwrap().unwrap().into_data().unwrap().len();
            }
            drop(body);
        }
        assert_eq!(sim::connections(&address()), 1);
    });
    let wire = records(&wire.lock().unwrap());
    assert!(wire.iter().all(|(header, _)| header.record_type != RecordType::AbortRequest));
    assert_eq!(
        wire.iter().filter(|(header, _)| header.record_type == RecordType::BeginRequest).count(),
        5
    );
}

#[test]
fn repeated_fields_are_kept_apart_cgi_6_3_4_1() {
    sim::run(1, async {
        serve(Server::new(), raw("Set-Cookie: a=1\nSet-Cookie: b=2\nConnection: close\n\n", 0));
        let response = client().send(get("/app")).await.unwrap();
        let cookies: Vec<_> = response.headers().get_all("set-cookie").iter().collect();
        assert_eq!(cookies, ["a=1", "b=2"]);
        assert!(!response.headers().contains_key("connection"));
    });
}

#[test]
fn what_is_no_response_is_502() {
    let cases = [
        ("no head at all", 0),
        ("HTTP/1.1 200 OK\n\n", 0),
        ("X: a\n\0: b\n\n", 0),
        ("Content-Type: text/plain\n", 0),
        ("Status: 100 Continue\n\n", 0),
        ("Content-Length: x\n\n", 0),
    ];
    for (stdout, app_status) in cases {
        sim::run(1, async move {
            serve(Server::new(), raw(stdout, app_status));
            let error = client().send(get("/app")).await.unwrap_err();
            assert!(matches!(error, HttpError::Head { .. }), "{stdout:?}: {error}");
            assert!(error.to_string().starts_with("unix:/app: "), "{error}");
            assert_eq!(error.status(), StatusCode::BAD_GATEWAY);
        });
    }
    sim::run(1, async {
        serve(Server::new(), raw(format!("X: {}\n\n", "x".repeat(500)), 0));
        let mut limits = HeadLimits::default();
        (limits.bytes, limits.fields) = (400, 10);
        let client = HttpClient::with_pool(builder().build().unwrap())
            .scripts(mount())
            .head_limits(limits)
            .build()
            .unwrap();
        assert_eq!(client.send(get("/app")).await.unwrap_err().status(), 502);
    });
}

#[test]
fn an_application_that_breaks_off_is_an_error_of_the_body_q_14() {
    sim::run(1, async {
        let mut backlog = sim::backlog(&address());
        sim::spawn(async move {
            loop {
                let mut peer =
                    crate::support::Peer::new(backlog.accept().await, Default::default());
                let (key, _) = peer.request().await.unwrap();
                peer.write(key, "X: y\n\nhalf of ");
                peer.send().await;
            }
        });
        let mut body = client().send(get("/app")).await.unwrap().into_body();
        assert_eq!(body.frame().await.unwrap().unwrap().into_data().unwrap(), "half of ");
        let error = body.frame().await.unwrap().unwrap_err();
        assert!(matches!(error, HttpError::Call(Error::Truncated { .. })), "{error}");
        assert!(body.frame().await.is_none());
    });
}

#[test]
fn dropping_a_response_aborts_its_request() {
    sim::run(1, async {
        let running = Gauge::default();
        let gauge = running.clone();
        serve(Server::new(), move |request: server::Request| {
            let inside = gauge.enter();
            async move {
                request.stdout().write_all("X: y\n\nfirst").await.unwrap();
                sim::sleep(ms(3_600_000)).await;
                drop(inside);
            }
        });
        let response = client().send(get("/app")).await.unwrap();
        assert_eq!(running.now(), 1);
        drop(response);
        sim::sleep(ms(100)).await;
        assert_eq!(running.now(), 0);
    });
}

#[test]
fn a_503_of_the_application_itself_is_a_response() {
    sim::run(1, async {
        let page = format!("Status: 503 Later\n\n{}", "x".repeat(10_000));
        serve(Server::new(), raw(page, 0));
        let response = client().send(get("/app")).await.unwrap();
        assert_eq!(response.status(), 503);
        assert_eq!(body(response).await.unwrap().len(), 10_000);
    });
}
