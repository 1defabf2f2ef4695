//! What a web server gets from `serve_http`, and what a handler gets.

use std::{
    io::{self, Read},
    sync::mpsc,
};

use fcgi::{
    CANCELLED, Error, FAILED, Limits, PANICKED, Role, Server, Shutdown,
    http::{Body, Cancelled, FilterData, MetaVariables},
};
use fcgi_blocking as fcgi;
use http::{Request, Response};

use crate::{
    app::{
        AUTHORIZER, CLOSE, FILTER, Gate, KEEP, Type, abort, begin, close, params, pattern, request,
        serve, stream, until,
    },
    kit::{Step, answer, app, ask, ask_whatever, get, handler, of_method, ok, steps, text},
};

#[test]
fn status_always_comes_first_w_2() {
    for status in [200, 201, 301, 302, 404, 418, 500, 599] {
        let answered = ask(&get("/"), "", move |_| {
            answer(ok().status(status).header("Location", "https://example.org/"), "x")
        });
        let line = format!("Status: {status} ");
        assert!(text(&answered.stdout).starts_with(&line), "{}", text(&answered.stdout));
        assert_eq!(answered.app_status, 0);
    }
}

#[test]
fn hop_by_hop_fields_are_left_out_and_others_kept_apart_w_3() {
    let answered = ask(&get("/"), "", |_| {
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
        let head = move || ok().header("Content-Length", length);
        let at_hand = ask_whatever(&get("/"), move |_| answer(head(), "body"));
        let read = ask_whatever(&get("/"), move |_| head().body(&b"body"[..]));
        for (stdout, app_status) in [at_hand, read] {
            let (_, body) = text(&stdout).split_once("\r\n\r\n").unwrap();
            assert_eq!((body, app_status), (expected, end), "{length}");
        }
    }
    let answered = ask(&get("/"), "", |_| answer(ok().header("Content-Length", "+4"), "body"));
    assert!(text(&answered.stdout).starts_with("Status: 500 "));
    assert_eq!(answered.app_status, FAILED);
}

#[test]
fn parameters_are_in_the_extensions_w_5_w_6() {
    let mut pairs = get("/a?b=c");
    pairs.extend([
        ("SCRIPT_FILENAME", "proxy:fcgi://127.0.0.1:9000/srv/a.php"),
        ("AUTH_TYPE", "Basic"),
        ("REMOTE_USER", "ann"),
    ]);
    let answered = ask(&pairs, "", |request| {
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
    let app = app(|_| answer(ok(), "fine"));
    for _ in 0..3 {
        let mut peer = app.dial();
        peer.send(request(1, CLOSE, &get("/"), b""));
        // It goes with END_REQUEST still to come, for all it has read.
        assert_eq!(peer.record().kind, Type::Stdout);
    }
    let mut peer = app.dial();
    peer.send(request(1, CLOSE, &get("/"), b""));
    assert_eq!(peer.answer(1).app_status, 0);
}

#[test]
fn a_web_server_that_leaves_is_told_to_the_handler_and_its_body_w_8() {
    let (sender, ended) = mpsc::channel();
    let (begun, running) = mpsc::channel();
    let app = app(move |request: Request<Body>| {
        begun.send(()).unwrap();
        let cancelled = request.extensions().get::<Cancelled>().unwrap().clone();
        if request.uri() == "/handler" {
            while cancelled.within(std::time::Duration::from_secs(60)).is_none() {}
            sender.send("handler").unwrap();
        }
        Response::new(Endless(sender.clone()))
    });
    for path in ["/handler", "/body"] {
        let mut peer = app.dial();
        peer.send(request(1, CLOSE, &get(path), b""));
        // A request whose web server has gone before that is not begun with.
        running.recv().unwrap();
        if path == "/body" {
            assert_eq!(peer.record().kind, Type::Stdout);
        }
        drop(peer);
        assert_eq!(ended.recv().unwrap(), &path[1..]);
        if path == "/handler" {
            assert_eq!(ended.recv().unwrap(), "body");
        }
    }
}

/// Gives bytes for as long as it is asked.
struct Endless(mpsc::Sender<&'static str>);

impl Read for Endless {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        buf.fill(b'x');
        Ok(buf.len())
    }
}

impl Drop for Endless {
    fn drop(&mut self) {
        let _ = self.0.send("body");
    }
}

#[test]
fn requests_share_a_connection_w_9() {
    let gate = Gate::default();
    let held = gate.clone();
    let app = app(move |request: Request<Body>| {
        if request.uri() == "/slow" {
            held.wait();
        }
        answer(ok(), request.uri().path().to_owned())
    });
    let mut peer = app.dial();
    peer.send(request(1, KEEP, &get("/slow"), b""));
    peer.send(request(3, KEEP, &get("/fast"), b""));
    assert!(peer.answer(3).stdout.ends_with(b"\r\n\r\n/fast"));
    gate.open();
    assert!(peer.answer(1).stdout.ends_with(b"\r\n\r\n/slow"));
}

#[test]
fn without_content_length_the_body_ends_where_stdin_does_w_10() {
    for length in [None, Some(""), Some("-1")] {
        let mut pairs = of_method("POST", "/");
        pairs.extend(length.map(|length| ("CONTENT_LENGTH", length)));
        let answered = ask(&pairs, "chunks of it", |request| {
            assert!(!request.headers().contains_key("content-length"));
            io::read_to_string(request.into_body()).map(|body| answer(ok(), body))
        });
        assert!(text(&answered.stdout).ends_with("\r\n\r\nchunks of it"), "{length:?}");
    }
}

#[test]
fn a_request_without_a_body_says_so() {
    let answered = ask(&get("/"), "", |request| {
        // STDIN's end has come in the same write as the rest.
        assert_eq!(request.body().size_hint(), Some(0));
        answer(ok(), "none")
    });
    assert_eq!(answered.app_status, 0, "{}", text(&answered.stdout));
}

#[test]
fn a_body_of_another_length_than_declared_is_an_error_fc_6_2_2() {
    for (declared, seen) in [("5", None), ("9", Some(5)), ("2", Some(5))] {
        let mut pairs = of_method("POST", "/");
        pairs.push(("CONTENT_LENGTH", declared));
        let answered = ask(&pairs, "three", move |request| {
            assert_eq!(request.body().size_hint(), Some(declared.parse().unwrap()));
            match (seen, io::read_to_string(request.into_body())) {
                (None, Ok(body)) => assert_eq!(body, "three"),
                (Some(bytes), Err(error)) => {
                    let error = error.get_ref().and_then(|error| error.downcast_ref());
                    let Some(Error::InputLength { declared: said, seen }) = error else {
                        panic!("{error:?}")
                    };
                    assert_eq!((said.to_string().as_str(), *seen), (declared, bytes));
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
    for (method, status, has_length) in
        [("HEAD", 200, true), ("GET", 204, false), ("GET", 304, true)]
    {
        let answered = ask(&of_method(method, "/"), "", move |_| {
            // The reader is not asked: it would panic.
            let head = ok().status(status).header("Content-Length", "4");
            head.body(steps([Step::Panic])).unwrap()
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
        let answered = ask(&get("/"), "", move |_| answer(ok().status(status), "switching"));
        assert_eq!(
            text(&answered.stdout),
            "Status: 500 Internal Server Error\r\nContent-Type: text/plain\r\n\
             Content-Length: 22\r\n\r\nInternal Server Error\n"
        );
        assert_eq!(answered.app_status, FAILED);
    }
}

#[test]
fn a_failed_handler_is_a_page_and_an_app_status() {
    let app = app(|request: Request<Body>| {
        if request.uri() == "/panic" {
            panic!("as asked");
        }
        Err::<Response<Body>, _>("no database")
    });
    let mut peer = app.dial();
    for (path, app_status) in [("/fail", FAILED), ("/panic", PANICKED), ("/fail", FAILED)] {
        peer.send(request(1, KEEP, &get(path), b""));
        let answered = peer.answer(1);
        assert!(text(&answered.stdout).starts_with("Status: 500 "), "{path}");
        assert!(!text(&answered.stdout).contains("database"), "it is for the log");
        assert_eq!(answered.app_status, app_status, "{path}");
    }
}

#[test]
fn a_failed_body_is_a_page_before_the_head_and_a_cut_after_it_w_12() {
    for (body, expected) in [
        (vec![Step::Fail], Some(FAILED)),
        (vec![Step::Panic], Some(PANICKED)),
        (vec![Step::Data("first"), Step::Fail], None),
        (vec![Step::Data("first"), Step::Panic], None),
    ] {
        let steps_of_it = body.clone();
        let (stdout, app_status) =
            ask_whatever(&get("/"), move |_| Response::new(steps(steps_of_it.clone())));
        let status = if expected.is_some() { "Status: 500 " } else { "Status: 200 " };
        assert!(text(&stdout).starts_with(status), "{body:?}");
        assert_eq!(app_status, expected, "{body:?}");
    }
    let (stdout, app_status) =
        ask_whatever(&get("/"), |_| answer(ok(), Body::sized(&b"body"[..], 5)));
    assert!(text(&stdout).ends_with("content-length: 5\r\n\r\nbody"));
    assert_eq!(app_status, None);
}

#[test]
fn parameters_that_are_no_http_request_get_400() {
    let with = |name, value| get("/").into_iter().chain([(name, value)]).collect::<Vec<_>>();
    for pairs in [
        vec![],
        vec![("REQUEST_METHOD", "GET")],
        with("HTTP_X", "a\r\nb"),
        with("CONTENT_LENGTH", "1e3"),
        with("CONTENT_LENGTH", "-2"),
        of_method("GET\0", "/"),
    ] {
        let answered = ask(&pairs, "", |_| answer(ok(), "not reached"));
        let page = text(&answered.stdout);
        assert!(page.starts_with("Status: 400 Bad Request\r\n"), "{pairs:?}: {page}");
        assert_eq!(answered.app_status, FAILED, "{pairs:?}");
    }
}

#[test]
fn bytes_come_before_the_response_ends() {
    let gate = Gate::default();
    let held = gate.clone();
    let app = app(move |_| Response::new(Gated { held: held.clone(), left: 3 }));
    let mut peer = app.dial();
    peer.send(request(1, KEEP, &get("/"), b""));
    for expected in ["Status: 200 OK\r\n\r\n3", "2", "1"] {
        gate.open();
        // Nothing else is asked of the reader before this has come.
        peer.expect_stdout(1, expected.as_bytes());
    }
    gate.open();
    assert_eq!(peer.answer(1).app_status, 0);
}

struct Gated {
    held: Gate,
    left: u8,
}

impl Read for Gated {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        self.held.wait();
        let Some(left) = self.left.checked_sub(1) else { return Ok(0) };
        buf[0] = b'0' + self.left;
        self.left = left;
        Ok(1)
    }
}

#[test]
fn a_large_body_goes_in_and_out_at_once_q_15() {
    const SIZE: usize = 3 << 20;
    let mut limits = Limits::server();
    limits.send_high_water = 64 * 1024;
    let echo = handler(|request: Request<Body>| Response::new(request.into_body()));
    let app = serve(Server::new().limits(limits), echo);
    let mut peer = app.dial();
    let body = pattern(SIZE, 7);
    let length = SIZE.to_string();
    let mut pairs = of_method("POST", "/");
    pairs.push(("CONTENT_LENGTH", &length));
    let (mut sender, bytes) = (peer.writer(), request(1, CLOSE, &pairs, &body));
    let sending = std::thread::spawn(move || io::Write::write_all(&mut sender, &bytes));
    let answered = peer.answer(1);
    sending.join().unwrap().unwrap();
    assert_eq!(answered.app_status, 0);
    let head = format!("Status: 200 OK\r\ncontent-length: {SIZE}\r\n\r\n");
    assert!(answered.stdout.starts_with(head.as_bytes()));
    assert!(answered.stdout[head.len()..] == body, "the body is the same");
}

#[test]
fn an_abort_is_an_error_of_the_request_body() {
    let (sender, ended) = mpsc::channel();
    let (begun, reading) = mpsc::channel();
    let app = app(move |request: Request<Body>| {
        begun.send(()).unwrap();
        let error = io::read_to_string(request.into_body()).unwrap_err();
        sender.send(error.to_string()).unwrap();
        answer(ok(), "too late")
    });
    let mut peer = app.dial();
    let mut pairs = of_method("POST", "/");
    pairs.push(("CONTENT_LENGTH", "5"));
    peer.send([begin(1, 1, KEEP), params(1, &pairs)].concat());
    reading.recv().unwrap();
    peer.send(abort(1));
    assert_eq!(ended.recv().unwrap(), "the web server aborted the request (Requested)");
    assert_eq!(peer.answer(1).app_status, CANCELLED);
}

#[test]
fn a_filter_has_its_file_too() {
    for (length, fits) in [("8", true), ("9", false), ("", true)] {
        let app = app(move |request: Request<Body>| {
            assert_eq!(request.extensions().get(), Some(&Role::Filter));
            let data = request.extensions().get::<FilterData>().cloned().unwrap();
            assert_eq!(io::read_to_string(request.into_body()).unwrap(), "body");
            let read = io::read_to_string(data.take().unwrap());
            assert_eq!(read.is_ok(), fits, "{read:?}");
            assert!(data.take().is_none());
            answer(ok(), read.unwrap_or_default())
        });
        let mut pairs = of_method("POST", "/page");
        pairs.extend([("CONTENT_LENGTH", "4"), ("FCGI_DATA_LAST_MOD", "1700000000")]);
        if !length.is_empty() {
            pairs.push(("FCGI_DATA_LENGTH", length));
        }
        let mut peer = app.dial();
        peer.send([begin(1, FILTER, KEEP), params(1, &pairs)].concat());
        for (kind, content) in [(Type::Stdin, "body"), (Type::Data, "the file")] {
            peer.send([stream(kind, 1, content.as_bytes()), close(kind, 1)].concat());
        }
        let answered = peer.answer(1);
        assert_eq!(answered.app_status, 0, "{}", text(&answered.stdout));
        assert_eq!(text(&answered.stdout).ends_with("\r\n\r\nthe file"), fits);
    }
}

#[test]
fn other_roles_are_refused_with_unknown_role() {
    let app = app(|_| answer(ok(), "not reached"));
    let mut peer = app.dial();
    peer.send([begin(1, AUTHORIZER, KEEP), params(1, &get("/"))].concat());
    assert_eq!(peer.answer(1).protocol_status, 3);
}

#[test]
fn a_shutdown_lets_a_response_end() {
    let folder = tempfile::tempdir().unwrap();
    let address = fcgi::Address::unix(folder.path().join("app.sock"));
    let listener = fcgi::Listener::bind(&address).unwrap();
    let (gate, shutdown) = (Gate::default(), Shutdown::new());
    let (held, stop) = (gate.clone(), shutdown.clone());
    let (begun, running) = mpsc::channel();
    let server = std::thread::spawn(move || {
        let hello = move |_: Request<Body>| {
            begun.send(()).unwrap();
            held.wait();
            answer(ok(), "done")
        };
        Server::new().serve_http(listener, hello).with_graceful_shutdown(stop).run()
    });
    let mut peer = crate::app::Peer::dial(&address);
    peer.send(request(1, KEEP, &get("/"), b""));
    running.recv().unwrap();
    shutdown.trigger();
    gate.open();
    assert!(text(&peer.answer(1).stdout).ends_with("done"));
    until("the server ends", || server.is_finished());
    server.join().unwrap().unwrap();
}
