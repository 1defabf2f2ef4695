//! What a web server gets from `serve_http`, and what a service gets.

use std::sync::Arc;

use fcgi_driver::{
    Error,
    client::{self, Chunk, Request},
    http::{Body, FilterData, MetaVariables, Responder},
    server::{CANCELLED, FAILED, PANICKED, Server},
};
use fcgi_proto::{Limits, Role};
use fcgi_testkit::sim;
use http::Response;

use crate::{
    kit::{
        AnyBody, Step, answer, ask, ask_whatever, full, get, of_method, post, read, service, steps,
        text,
    },
    support::{Gauge, Inside, Log, address, builder, call, ms, serve},
};

fn ok() -> http::response::Builder {
    Response::builder()
}

#[test]
fn status_always_comes_first_w_2() {
    for status in [200, 201, 301, 302, 404, 418, 500, 599] {
        let answered = ask(get("/"), move |_| async move {
            answer(ok().status(status).header("Location", "https://example.org/"), "x")
        });
        let line = format!("Status: {status} ");
        assert!(text(&answered.stdout).starts_with(&line), "{}", text(&answered.stdout));
        assert_eq!(answered.app_status, 0);
    }
}

#[test]
fn hop_by_hop_fields_are_left_out_and_others_kept_apart_w_3() {
    let answered = ask(get("/"), |_| async {
        let head = ok()
            .header("Transfer-Encoding", "chunked")
            .header("Connection", "X-Mine")
            .header("X-Mine", "1")
            .header("Set-Cookie", "a=1")
            .header("Set-Cookie", "b=2");
        answer(head, "body")
    });
    assert_eq!(
        text(&answered.stdout),
        "Status: 200 OK\r\nset-cookie: a=1\r\nset-cookie: b=2\r\ncontent-length: 4\r\n\r\nbody"
    );
}

#[test]
fn a_body_is_held_against_its_content_length_w_4() {
    // One that is too long is whole for the client; one that is too short is cut (W-12).
    for (length, expected, end) in [
        ("4", "body", Some(0)),
        ("2", "bo", Some(FAILED)),
        ("0", "", Some(FAILED)),
        ("7", "body", None),
    ] {
        let (stdout, app_status) = ask_whatever(get("/"), move |_| async move {
            answer(ok().header("Content-Length", length), "body")
        });
        let (_, body) = text(&stdout).split_once("\r\n\r\n").unwrap();
        assert_eq!((body, app_status), (expected, end), "{length}");
    }
    let answered = ask(get("/"), |_| async { answer(ok().header("Content-Length", "+4"), "body") });
    assert!(text(&answered.stdout).starts_with("Status: 500 "));
    assert_eq!(answered.app_status, FAILED);
}

#[test]
fn parameters_are_in_the_extensions_w_5_w_6() {
    let request = get("/a?b=c")
        .param("SCRIPT_FILENAME", "proxy:fcgi://127.0.0.1:9000/srv/a.php")
        .param("AUTH_TYPE", "Basic")
        .param("REMOTE_USER", "ann");
    let answered = ask(request, |request| async move {
        let meta = request.extensions().get::<MetaVariables>().unwrap();
        assert_eq!(meta.script_filename(), Some(&b"/srv/a.php"[..]));
        assert_eq!((meta.auth_type(), meta.remote_user()), (Some("Basic"), Some(&b"ann"[..])));
        assert_eq!(request.extensions().get(), Some(&Role::Responder));
        assert_eq!(request.uri(), "/a?b=c");
        answer(ok(), "fine")
    });
    assert_eq!(answered.app_status, 0, "{}", text(&answered.stdout));
}

#[test]
fn a_web_server_that_leaves_at_the_end_is_no_error_w_7() {
    sim::run(1, async {
        let app = service(|_| async { answer(ok(), "fine") });
        serve(Server::new(), Responder::new(app));
        let pool = builder().build().unwrap();
        for _ in 0..3 {
            // Dropped with END_REQUEST still to come, for all the client knows.
            let mut response = pool.send(get("/").keep_conn(false)).await.unwrap();
            assert!(matches!(response.chunk().await, Ok(Some(Chunk::Stdout(_)))));
        }
        assert_eq!(call(&pool, get("/")).await.unwrap().app_status, 0);
    });
}

#[test]
fn a_web_server_that_leaves_drops_the_service_and_its_body_w_8() {
    sim::run(1, async {
        let running = Gauge::default();
        let gauge = running.clone();
        let app = service(move |request: http::Request<Body>| {
            let inside = gauge.enter();
            async move {
                if request.uri() == "/service" {
                    sim::sleep(ms(3_600_000)).await;
                }
                let body = steps([Step::Data("first"), Step::Sleep(3_600_000)]);
                let (parts, body) = Response::new(body).into_parts();
                Response::from_parts(parts, Guarded(body, inside))
            }
        });
        serve(Server::new(), Responder::new(app));
        for path in ["/service", "/body"] {
            let mut client = client::Client::<sim::Sim>::connect(&address()).await.unwrap();
            let sent = sim::poll_some(client.send(get(path)), 50).await;
            if path == "/body" {
                assert!(sent.is_some(), "the head and the first bytes came");
            }
            assert_eq!(running.now(), 1, "{path}");
            drop(sent);
            drop(client);
            sim::sleep(ms(10)).await;
            assert_eq!(running.now(), 0, "{path}");
        }
    });
}

struct Guarded(AnyBody, #[expect(dead_code, reason = "it counts while it lives")] Inside);

impl http_body::Body for Guarded {
    type Data = bytes::Bytes;
    type Error = fcgi_driver::http::BoxError;

    fn poll_frame(
        mut self: std::pin::Pin<&mut Self>,
        cx: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<Result<http_body::Frame<bytes::Bytes>, Self::Error>>> {
        std::pin::Pin::new(&mut self.0).poll_frame(cx)
    }
}

#[test]
fn requests_share_a_connection_w_9() {
    for seed in 0..10 {
        sim::run(seed, async {
            let app = service(|request: http::Request<Body>| async move {
                sim::sleep(ms(10)).await;
                answer(ok(), request.uri().path().to_owned())
            });
            serve(Server::new(), Responder::new(app));
            let pool = builder().multiplex(20).max_connections(1).build().unwrap();
            let (all, done) = (Gauge::default(), Log::default());
            for n in 0..20 {
                let (pool, inside, log) = (pool.clone(), all.enter(), done.clone());
                sim::spawn(async move {
                    let path = format!("/{n}");
                    let answered = call(&pool, get(&path)).await.unwrap();
                    assert!(text(&answered.stdout).ends_with(&format!("\r\n\r\n{path}")));
                    log.note(path);
                    drop(inside);
                });
            }
            while all.now() > 0 {
                sim::sleep(ms(1)).await;
            }
            assert_eq!(done.all().len(), 20);
            assert_eq!(sim::connections(&address()), 2, "one of them for GET_VALUES");
        });
    }
}

#[test]
fn without_content_length_the_body_ends_where_stdin_does_w_10() {
    for length in [None, Some(""), Some("-1")] {
        let mut request = of_method("POST", "/").stdin("chunks of it");
        if let Some(length) = length {
            request = request.param("CONTENT_LENGTH", length);
        }
        let answered = ask(request, |request| async move {
            assert!(!request.headers().contains_key("content-length"));
            answer(ok(), read(request.into_body()).await.unwrap())
        });
        assert!(text(&answered.stdout).ends_with("\r\n\r\nchunks of it"), "{length:?}");
    }
}

#[test]
fn a_request_without_a_body_says_so() {
    let answered = ask(get("/"), |request| async move {
        let body = request.body();
        assert!(http_body::Body::is_end_stream(body));
        assert_eq!(http_body::Body::size_hint(body).exact(), Some(0));
        answer(ok(), "none")
    });
    assert_eq!(answered.app_status, 0, "{}", text(&answered.stdout));
}

#[test]
fn a_body_of_another_length_than_declared_is_an_error_fc_6_2_2() {
    for (declared, sent, seen) in
        [("5", "three", None), ("9", "three", Some(5)), ("2", "three", Some(5))]
    {
        let request = of_method("POST", "/").param("CONTENT_LENGTH", declared).stdin(sent);
        let answered = ask(request, move |request| async move {
            let hint = http_body::Body::size_hint(request.body()).exact();
            assert_eq!(hint, Some(declared.parse().unwrap()));
            let (got, expected) = (read(request.into_body()).await, declared.parse().unwrap());
            match (seen, got) {
                (None, Ok(body)) => assert_eq!(body, sent),
                (Some(bytes), Err(Error::InputLength { declared, seen })) => {
                    assert_eq!((declared, seen), (expected, bytes));
                }
                (_, got) => panic!("{got:?}"),
            }
            answer(ok(), "seen")
        });
        assert_eq!(answered.app_status, 0, "{declared}: {}", text(&answered.stdout));
    }
}

#[test]
fn no_body_after_head_and_with_204_and_304() {
    let cases = [("HEAD", 200, true), ("GET", 204, false), ("GET", 304, true)];
    for (method, status, has_length) in cases {
        let answered = ask(of_method(method, "/"), move |_| async move {
            answer(ok().status(status).header("Content-Length", "4"), "body")
        });
        let (head, body) = text(&answered.stdout).split_once("\r\n\r\n").unwrap();
        assert!(head.starts_with(&format!("Status: {status} ")), "{head}");
        assert_eq!(head.contains("content-length: 4"), has_length, "{head}");
        assert_eq!((body, answered.app_status), ("", 0), "{method} {status}");
    }
}

#[test]
fn an_informational_status_is_not_sent() {
    for status in [100, 101, 103] {
        let answered =
            ask(get("/"), move |_| async move { answer(ok().status(status), "switching") });
        assert_eq!(
            text(&answered.stdout),
            "Status: 500 Internal Server Error\r\nContent-Type: text/plain\r\n\
             Content-Length: 22\r\n\r\nInternal Server Error\n"
        );
        assert_eq!(answered.app_status, FAILED);
    }
}

#[test]
fn a_failed_service_is_a_page_and_an_app_status() {
    sim::run(1, async {
        let app = tower::service_fn(async |request: http::Request<Body>| {
            if request.uri() == "/panic" {
                panic!("as asked");
            }
            Err::<Response<AnyBody>, _>("no database")
        });
        serve(Server::new(), Responder::new(app));
        let pool = builder().build().unwrap();
        for (path, app_status) in [("/fail", FAILED), ("/panic", PANICKED)] {
            let answered = call(&pool, get(path)).await.unwrap();
            assert!(text(&answered.stdout).starts_with("Status: 500 "), "{path}");
            assert_eq!(answered.app_status, app_status, "{path}");
        }
        assert_eq!(sim::connections(&address()), 1, "the connection goes on");
    });
}

/// A service that is never ready.
#[derive(Clone)]
struct NeverReady;

impl tower::Service<http::Request<Body>> for NeverReady {
    type Response = Response<AnyBody>;
    type Error = &'static str;
    type Future = std::future::Ready<Result<Response<AnyBody>, &'static str>>;

    fn poll_ready(
        &mut self,
        _: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Result<(), &'static str>> {
        std::task::Poll::Ready(Err("overloaded"))
    }

    fn call(&mut self, _: http::Request<Body>) -> Self::Future {
        unreachable!("it was not ready")
    }
}

#[test]
fn a_service_is_asked_whether_it_is_ready() {
    sim::run(1, async {
        serve(Server::new(), Responder::new(NeverReady));
        let answered = call(&builder().build().unwrap(), get("/")).await.unwrap();
        assert!(text(&answered.stdout).starts_with("Status: 500 "));
        assert_eq!(answered.app_status, FAILED);
    });
}

#[test]
fn a_failed_body_is_a_page_before_the_head_and_a_cut_after_it_w_12() {
    let cases = [
        (vec![Step::Fail], Some(FAILED)),
        (vec![Step::Panic], Some(PANICKED)),
        (vec![Step::Data("first"), Step::Fail], None),
        (vec![Step::Sleep(10), Step::Fail], None),
        (vec![Step::Data("first"), Step::Sleep(10), Step::Panic], None),
    ];
    for (body, expected) in cases {
        let (stdout, app_status) = ask_whatever(get("/"), {
            let body = body.clone();
            move |_| {
                let body = body.clone();
                async move { Response::new(steps(body)) }
            }
        });
        let status = if expected.is_some() { "Status: 500 " } else { "Status: 200 " };
        assert!(text(&stdout).starts_with(status), "{body:?}");
        assert_eq!(app_status, expected, "{body:?}");
    }
}

#[test]
fn parameters_that_are_no_http_request_get_400() {
    let cases = [
        Request::responder(),
        Request::responder().param("REQUEST_METHOD", "GET"),
        get("/").param("HTTP_X", "a\r\nb"),
        get("/").param("CONTENT_LENGTH", "1e3"),
        get("/").param("CONTENT_LENGTH", "-2"),
        of_method("GET\0", "/"),
    ];
    for request in cases {
        let what = format!("{:?}", request.begin());
        let answered = ask(request, |_| async { answer(ok(), "not reached") });
        assert!(text(&answered.stdout).starts_with("Status: 400 Bad Request\r\n"), "{what}");
        assert_eq!(answered.app_status, FAILED, "{what}");
    }
}

#[test]
fn bytes_come_before_the_response_ends() {
    sim::run(1, async {
        let app = service(|_| async {
            Response::new(steps([
                Step::Sleep(1000),
                Step::Data("one"),
                Step::Sleep(1000),
                Step::Data("two"),
            ]))
        });
        serve(Server::new(), Responder::new(app));
        let mut response = builder().build().unwrap().send(get("/")).await.unwrap();
        let mut seen = Vec::new();
        while let Some(chunk) = response.chunk().await.unwrap() {
            let Chunk::Stdout(bytes) = chunk else { panic!("{chunk:?}") };
            seen.push((sim::elapsed().as_secs(), bytes));
        }
        let at = |time| {
            let bytes = seen.iter().filter(|(at, _)| *at == time).map(|(_, bytes)| &bytes[..]);
            String::from_utf8(bytes.collect::<Vec<_>>().concat()).unwrap()
        };
        assert_eq!(at(0), "Status: 200 OK\r\n\r\n");
        assert_eq!((at(1), at(2)), ("one".into(), "two".into()));
    });
}

#[test]
fn a_large_body_goes_in_and_out_at_once_q_15() {
    const SIZE: usize = 3 << 20;
    for seed in 0..3 {
        sim::run(seed, async {
            let app = service(|request: http::Request<Body>| async move {
                Response::new(request.into_body())
            });
            let mut limits = Limits::server();
            limits.send_high_water = 64 * 1024;
            serve(Server::new().limits(limits), Responder::new(app));
            let request = of_method("POST", "/")
                .param("CONTENT_LENGTH", SIZE.to_string())
                .stdin(vec![b'x'; SIZE]);
            let response = builder().build().unwrap().send(request).await.unwrap();
            let answered = response.collect(2 * SIZE).await.unwrap();
            assert_eq!(answered.app_status, 0);
            let head = format!("Status: 200 OK\r\ncontent-length: {SIZE}\r\n\r\n");
            assert!(answered.stdout.starts_with(head.as_bytes()));
            assert_eq!(answered.stdout.len() - head.len(), SIZE);
        });
    }
}

/// Its STDIN never ends, though its body is whole: nobody waits for it any more.
#[test]
fn a_whole_body_starts_no_limit_for_its_input_w_16() {
    sim::run(1, async {
        let app = service(|request: http::Request<Body>| async move {
            let body = read(request.into_body()).await.unwrap();
            sim::sleep(ms(10_000)).await;
            answer(ok(), body)
        });
        serve(Server::new().stdin_timeout(Some(ms(1000))), Responder::new(app));
        let body = client::Body::from_stream(Never(Some("whole")));
        let request = of_method("POST", "/").param("CONTENT_LENGTH", "5").stdin(body);
        let answered = call(&builder().build().unwrap(), request).await.unwrap();
        assert!(answered.stdout.ends_with(b"\r\n\r\nwhole"));
        assert_eq!(answered.app_status, 0);
    });
}

#[test]
fn an_abort_is_an_error_of_the_request_body() {
    sim::run(1, async {
        let (log, noted) = (Log::default(), Arc::new(Log::default()));
        let (inner, ended) = (log.clone(), noted.clone());
        let app = service(move |request: http::Request<Body>| {
            let (log, ended) = (inner.clone(), ended.clone());
            async move {
                log.note("reading");
                let error = read(request.into_body()).await.unwrap_err();
                ended.note(error.to_string());
                answer(ok(), "too late")
            }
        });
        serve(Server::new().abort_grace(ms(1000)).stdin_timeout(None), Responder::new(app));
        let pool = builder().build().unwrap();
        let stuck = client::Body::from_stream(Never(None));
        let request = of_method("POST", "/").param("CONTENT_LENGTH", "5").stdin(stuck);
        sim::poll_some(pool.send(request), 50).await;
        sim::sleep(ms(10)).await;
        assert_eq!(log.all(), ["reading"]);
        assert_eq!(noted.all(), ["the web server aborted the request (Requested)"]);
        assert_ne!(CANCELLED, 0);
    });
}

/// These bytes, and no end.
struct Never(Option<&'static str>);

impl futures_core::Stream for Never {
    type Item = std::io::Result<bytes::Bytes>;

    fn poll_next(
        self: std::pin::Pin<&mut Self>,
        _: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<Self::Item>> {
        match self.get_mut().0.take() {
            Some(bytes) => std::task::Poll::Ready(Some(Ok(bytes.into()))),
            None => std::task::Poll::Pending,
        }
    }
}

#[test]
fn a_filter_has_its_file_too() {
    let file = "the file";
    for (length, fits) in [("8", true), ("9", false), ("", true)] {
        let mut request = Request::filter()
            .param("REQUEST_METHOD", "POST")
            .param("REQUEST_URI", "/page")
            .param("CONTENT_LENGTH", "4")
            .param("FCGI_DATA_LAST_MOD", "1700000000")
            .stdin("body")
            .data(file);
        if !length.is_empty() {
            request = request.param("FCGI_DATA_LENGTH", length);
        }
        let answered = ask(request, move |request| async move {
            assert_eq!(request.extensions().get(), Some(&Role::Filter));
            let data = request.extensions().get::<FilterData>().cloned().unwrap();
            assert_eq!(read(request.into_body()).await.unwrap(), "body");
            let read = read(data.take().unwrap()).await;
            assert_eq!(read.is_ok(), fits, "{read:?}");
            assert!(data.take().is_none());
            Response::new(full(read.unwrap_or_default()))
        });
        assert_eq!(answered.app_status, 0, "{}", text(&answered.stdout));
        assert_eq!(text(&answered.stdout).ends_with("\r\n\r\nthe file"), fits);
    }
}

#[test]
fn other_roles_are_refused_with_unknown_role() {
    sim::run(1, async {
        let app = service(|_| async { answer(ok(), "not reached") });
        serve(Server::new(), Responder::new(app));
        let error = call(&builder().build().unwrap(), Request::authorizer()).await.unwrap_err();
        assert!(error.to_string().contains("UNKNOWN_ROLE"), "{error}");
    });
}

#[test]
fn a_shutdown_lets_a_response_end() {
    sim::run(1, async {
        let app =
            service(|_| async { Response::new(steps([Step::Sleep(1000), Step::Data("done")])) });
        let listener = sim::listen(&address());
        sim::spawn(async move {
            let serve = Server::new().serve_http(listener, app);
            serve.with_graceful_shutdown(sim::sleep(ms(500))).await.unwrap();
        });
        let pool = builder().build().unwrap();
        let answered = call(&pool, post("x")).await.unwrap();
        assert!(text(&answered.stdout).ends_with("done"));
        assert!(matches!(call(&pool, get("/")).await, Err(Error::Connect { .. })));
    });
}
