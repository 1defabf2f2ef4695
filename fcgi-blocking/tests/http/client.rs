//! What an `HttpClient` sends, and what it makes of what comes back.

use std::{
    io::{self, Read, Seek, SeekFrom, Write},
    time::{Duration, SystemTime},
};

use fcgi::{
    Error, Pool, Server,
    http::{
        Body, FilterFile, HeadLimits, HttpClient, HttpError, Mount, ParamsBuilder, ResponseBody,
        Script, ScriptError, UnknownLength,
    },
};
use fcgi_blocking as fcgi;
use http::{Method, Request, Response, request::Parts};

use crate::{
    app::{App, pattern, serve},
    kit::{Step, answer, handler, ok, steps, text},
};

fn client(app: &App) -> HttpClient {
    HttpClient::new(Pool::builder(app.address.clone()).keep_conn(true).build().unwrap(), mount())
}

fn mount() -> Mount {
    Mount::new("/app").unwrap()
}

fn get(uri: &str) -> Request<Body> {
    Request::get(uri).body(Body::empty()).unwrap()
}

fn post<B>(body: B) -> Request<B> {
    Request::post("/app/").body(body).unwrap()
}

fn page(response: Response<ResponseBody>) -> io::Result<String> {
    io::read_to_string(response.into_body())
}

/// An application that answers with these bytes on STDOUT and this status.
fn raw(stdout: impl Into<Vec<u8>>, app_status: u32) -> App {
    let stdout = stdout.into();
    serve(Server::new().threads(2), move |request: fcgi::Request| {
        let _ = request.stdout().write_all(stdout.clone());
        app_status
    })
}

/// One that answers with the parameters that it got, and STDIN.
fn show() -> App {
    serve(Server::new().threads(2), |request: fcgi::Request| -> Result<(), Error> {
        let mut page = b"Content-Type: text/plain\n\n".to_vec();
        for (name, value) in request.params() {
            page.extend([name, b"=", value, b"\n"].concat());
        }
        page.extend(b"\n");
        page.extend(request.stdin().read_to_end(1 << 20)?);
        request.stdout().write_all(page)
    })
}

#[test]
fn a_request_is_told_and_its_response_read() {
    let app = show();
    let params = ParamsBuilder::new().server_name("example.org").param("MINE", "1");
    let pool = Pool::new(app.address.clone()).unwrap();
    let client = HttpClient::with_pool(pool).scripts(mount()).params(params).build().unwrap();
    let request = Request::post("/app/users?id=7")
        .header("Cookie", "a=1")
        .header("Proxy", "evil")
        .body(Body::from("name=x"))
        .unwrap();
    let response = client.send(request).unwrap();
    assert_eq!(response.status(), 200);
    assert_eq!(response.headers()["content-type"], "text/plain");
    let page = page(response).unwrap();
    for line in [
        "REQUEST_METHOD=POST\n",
        "SCRIPT_NAME=/app\n",
        "PATH_INFO=/users\n",
        "QUERY_STRING=id=7\n",
        "CONTENT_LENGTH=6\n",
        "HTTP_COOKIE=a=1\n",
        "SERVER_NAME=example.org\n",
        "MINE=1\n",
    ] {
        assert!(page.contains(line), "{line}{page}");
    }
    assert!(!page.contains("HTTP_PROXY"));
    assert!(page.ends_with("\n\nname=x"), "{page}");
}

#[test]
fn a_request_may_bring_its_own_script_and_parameters() {
    let app = show();
    let mut request = get("/anything");
    request.extensions_mut().insert(Script::new("/mine", ""));
    let own = ParamsBuilder::new().remote_addr("192.0.2.7:4711".parse().unwrap());
    request.extensions_mut().insert(own);
    let told = page(client(&app).send(request).unwrap()).unwrap();
    assert!(told.contains("SCRIPT_NAME=/mine\n"), "{told}");
    assert!(told.contains("REMOTE_ADDR=192.0.2.7\n"), "{told}");
    let scripts = |parts: &Parts| match parts.uri.path() {
        "/closure" => Ok(Script::new("/c", "")),
        _ => Err(ScriptError::NotFound),
    };
    let client = HttpClient::new(Pool::new(app.address.clone()).unwrap(), scripts);
    assert!(page(client.send(get("/closure")).unwrap()).unwrap().contains("SCRIPT_NAME=/c\n"));
    assert_eq!(client.send(get("/else")).unwrap_err().status(), 404);
}

const HUNDRED: &str = "0123456789012345678901234567890123456789012345678901234567890123456789\
                       012345678901234567890123456789";

/// So many times 100 bytes, of a reader.
fn hundreds(times: usize) -> impl Read + Send + 'static {
    steps(std::iter::repeat_n(Step::Data(HUNDRED), times))
}

#[test]
fn a_body_of_unknown_length_is_spooled_or_streamed_q_4() {
    let app = show();
    // What CONTENT_LENGTH said, and how many bytes came.
    let sent = |unknown, times| {
        let pool = Pool::new(app.address.clone()).unwrap();
        let client =
            HttpClient::with_pool(pool).scripts(mount()).unknown_length(unknown).build().unwrap();
        let page = page(client.send(post(hundreds(times))).unwrap()).unwrap();
        let (params, stdin) = page.split_once("\n\n").unwrap();
        let length = params.lines().find_map(|line| line.strip_prefix("CONTENT_LENGTH="));
        (length.map(str::to_owned), stdin.len())
    };
    let memory = UnknownLength::Spool { memory: 10_000, limit: 100_000 };
    let file = UnknownLength::Spool { memory: 150, limit: 100_000 };
    for spool in [memory, file, UnknownLength::default()] {
        assert_eq!(sent(spool, 50), (Some("5000".into()), 5000));
        assert_eq!(sent(spool, 0), (None, 0));
    }
    assert_eq!(sent(UnknownLength::Stream, 50), (None, 5000));
    assert_eq!(sent(UnknownLength::Stream, 0), (None, 0));
}

#[test]
fn more_than_is_spooled_is_413() {
    let app = show();
    for memory in [100, 1 << 20] {
        let unknown = UnknownLength::Spool { memory, limit: 4999 };
        let pool = Pool::new(app.address.clone()).unwrap();
        let client =
            HttpClient::with_pool(pool).scripts(mount()).unknown_length(unknown).build().unwrap();
        let error = client.send(post(hundreds(50))).unwrap_err();
        assert!(matches!(error, HttpError::RequestTooLarge { limit: 4999 }), "{error}");
        assert_eq!(error.status(), 413);
        assert_eq!(client.pool().stats().connections, 0, "no worker is taken for it");
    }
}

#[test]
fn a_body_is_held_against_its_content_length_q_4() {
    let app = show();
    // Small ones are read before they are sent, large ones as they are.
    for times in [5, 700] {
        for (more, good) in [(0, true), (-1, false), (1, false)] {
            let length = (100 * times as i64 + more).to_string();
            let mut request = post(hundreds(times));
            request.headers_mut().insert("content-length", length.parse().unwrap());
            match client(&app).send(request) {
                Ok(response) => assert!(good && response.status() == 200, "{length}"),
                Err(error) => {
                    assert!(!good, "{length}: {error}");
                    assert_eq!(error.status(), 400, "{error}");
                }
            }
        }
    }
    let mut request = post(Body::from("abc"));
    request.headers_mut().insert("content-length", "4".parse().unwrap());
    assert_eq!(client(&app).send(request).unwrap_err().status(), 400);
}

#[test]
fn a_body_that_fails_is_400() {
    let app = show();
    let failing = || steps([Step::Data("x"), Step::Fail]);
    let mut declared = post(failing());
    declared.headers_mut().insert("content-length", "9".parse().unwrap());
    let mut streamed = post(failing());
    streamed.headers_mut().insert("content-length", "99999".parse().unwrap());
    for request in [post(failing()), declared, streamed] {
        let error = client(&app).send(request).unwrap_err();
        assert_eq!(error.status(), 400, "{error}");
        assert!(error.report().to_string().contains("the body failed"), "{error}");
    }
}

#[test]
fn a_local_redirect_of_a_get_is_followed_cgi_6_2_2_1() {
    let app = serve(Server::new().threads(2), |request: fcgi::Request| {
        let page = match request.param_str("PATH_INFO") {
            Some("/again") => "Location: /app/again\n\n".to_owned(),
            Some("/busy") => {
                request.reject(fcgi_proto::Rejection::Overloaded);
                return Ok(());
            }
            Some("/to-busy") => "Location: /app/busy\n\n".to_owned(),
            Some("/there") => format!(
                "Content-Type: text/plain\n\n{} {}",
                request.param_str("REQUEST_URI").unwrap_or_default(),
                request.param_str("REQUEST_METHOD").unwrap_or_default(),
            ),
            _ => "Location: /app/there?from=here\n\n".to_owned(),
        };
        request.stdout().write_all(page)
    });
    let client = client(&app);
    let response = client.send(get("/app/here")).unwrap();
    assert_eq!(page(response).unwrap(), "/app/there?from=here GET");
    assert_eq!(client.pool().stats().connections, 1, "the connection was kept");
    let posted = client.send(post(Body::from("x"))).unwrap();
    assert_eq!(posted.status(), 302);
    assert_eq!(posted.headers()["location"], "/app/there?from=here");
    let error = client.send(get("/app/again")).unwrap_err();
    assert!(matches!(error, HttpError::Redirects { limit: 10, .. }), "{error}");
    assert_eq!(error.status(), 502);
    for (path, unprocessed) in [("/app/busy", true), ("/app/to-busy", false)] {
        let error = client.send(get(path)).unwrap_err();
        assert!(error.is_rejected() && error.status() == 503, "{error}");
        assert_eq!(error.is_unprocessed(), unprocessed, "a script that redirects was run");
    }
    let pool = Pool::new(app.address.clone()).unwrap();
    let none = HttpClient::with_pool(pool).scripts(mount()).redirect_limit(0).build().unwrap();
    assert_eq!(none.send(get("/app/here")).unwrap().status(), 302);
}

#[test]
fn a_response_body_is_held_against_its_length_cgi_6_3_5_1() {
    // The head's length, the body, the app status; what is read, and whether that is all.
    for (length, app_status, expected, whole) in [
        ("Content-Length: 4\n", 0, "body", true),
        ("Content-Length: 4\n", 5, "body", true),
        ("Content-Length: 5\n", 0, "body", false),
        ("Content-Length: 2\n", 0, "bo", false),
        ("Content-Length: 0\n", 0, "", false),
        ("", 0, "body", true),
        ("", 5, "body", false),
    ] {
        let app = raw(format!("X: y\n{length}\nbody"), app_status);
        let mut body = client(&app).send(get("/app")).unwrap().into_body();
        let mut read = Vec::new();
        let ended = loop {
            match body.chunk() {
                Ok(Some(bytes)) => read.extend(bytes),
                Ok(None) => break Ok(()),
                Err(error) => break Err(error),
            }
        };
        assert_eq!(text(&read), expected, "{length}{app_status}");
        assert_eq!(ended.is_ok(), whole, "{length}{app_status}: {ended:?}");
        assert!(matches!(body.chunk(), Ok(None)), "nothing comes after the end");
        if let Err(error) = ended {
            assert_eq!(error.status(), 502);
        }
    }
}

#[test]
fn a_response_without_a_body_has_none() {
    for (method, status) in [(Method::HEAD, 200), (Method::GET, 204), (Method::GET, 304)] {
        let app = raw(format!("Status: {status} X\nContent-Length: 4\n\nbody"), 0);
        let client = client(&app);
        for _ in 0..3 {
            let request = Request::builder().method(&method).uri("/app").body(io::empty()).unwrap();
            let response = client.send(request).unwrap();
            assert_eq!(response.status(), status);
            assert_eq!(response.body().size_hint(), Some(0));
            assert_eq!(page(response).unwrap(), "");
        }
        assert_eq!(client.pool().stats().connections, 1);
    }
}

#[test]
fn what_is_no_response_is_502() {
    let long = format!("X: {}\n\n", "y".repeat(70_000));
    for stdout in ["no head", "X: y\n", "Bad\n\n", "Status: 1e3\n\n", &long] {
        let app = raw(stdout, 0);
        let error = client(&app).send(get("/app")).unwrap_err();
        assert!(matches!(error, HttpError::Head { .. }), "{stdout:.20}: {error}");
        assert_eq!(error.status(), 502);
        let limits = HeadLimits::default();
        assert!(limits.bytes < 70_000, "the long one is past it");
    }
    let nobody = HttpClient::new(Pool::new("unix:/nonexistent").unwrap(), mount());
    let error = nobody.send(get("/app")).unwrap_err();
    assert!(error.status() == 502 && error.is_unprocessed(), "{error}");
}

#[test]
fn a_refusal_is_503_with_or_without_its_page_w_2() {
    for page in [true, false] {
        let app = serve(Server::new().threads(2).rejection_body(page), |request: fcgi::Request| {
            request.reject(fcgi::Rejection::Overloaded);
        });
        let error = client(&app).send(get("/app")).unwrap_err();
        assert_eq!(error.status(), 503, "{error}");
        assert!(error.is_unprocessed());
    }
    let page_of_its_own = raw("Status: 503 X\n\nlater", 0);
    let response = client(&page_of_its_own).send(get("/app")).unwrap();
    assert_eq!((response.status().as_u16(), page(response).unwrap().as_str()), (503, "later"));
}

#[test]
fn large_bodies_go_both_ways_at_once_q_15() {
    const SIZE: usize = 3 << 20;
    let echo = handler(|request: Request<Body>| Response::new(request.into_body()));
    let app = serve(Server::new().threads(2), echo);
    let bytes = pattern(SIZE, 3);
    let body = Body::sized(io::Cursor::new(bytes.clone()), SIZE as u64);
    let response = client(&app).send(post(body)).unwrap();
    assert_eq!(response.body().size_hint(), Some(SIZE as u64));
    let mut back = Vec::new();
    response.into_body().read_to_end(&mut back).unwrap();
    assert!(back == bytes, "the same came back");
}

#[test]
fn our_own_server_and_client_understand_each_other() {
    let app = serve(
        Server::new().threads(2),
        handler(|request: Request<Body>| match request.uri().path() {
            "/app/cut" => ok().body(steps([Step::Data("first"), Step::Fail])),
            path => {
                assert_eq!(path, "/app/");
                ok().status(201).header("X-A", "b").body(steps([Step::Data("made")]))
            }
        }),
    );
    let client = client(&app);
    let response = client.send(post(Body::from("x"))).unwrap();
    assert_eq!(
        (response.status().as_u16(), &response.headers()["x-a"]),
        (201, &"b".parse().unwrap())
    );
    assert_eq!(page(response).unwrap(), "made");
    // A body that failed at the server has not the look of a whole one here.
    let error = page(client.send(get("/app/cut")).unwrap()).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof);
    let error = error.get_ref().and_then(|error| error.downcast_ref());
    assert!(matches!(error, Some(Error::Truncated { .. })), "{error:?}");
}

#[test]
fn a_filter_gets_its_file_fc_6_4_1() {
    let app = serve(Server::new().threads(2), |request: fcgi::Request| -> Result<(), Error> {
        let told = format!(
            "X: y\n\n{} {} ",
            request.param_str("FCGI_DATA_LENGTH").unwrap_or_default(),
            request.param_str("FCGI_DATA_LAST_MOD").unwrap_or_default(),
        );
        let stdin = request.stdin().read_to_end(100)?;
        let data = request.data().read_to_end(100)?;
        request.stdout().write_all([told.as_bytes(), &stdin, b" ", &data].concat())
    });
    let at = SystemTime::UNIX_EPOCH + Duration::from_secs(1_700_000_000);
    for file in
        [FilterFile::from_bytes("the file", at), FilterFile::from_reader(&b"the file"[..], 8, at)]
    {
        let response = client(&app).filter(post(Body::from("body")), file).unwrap();
        assert_eq!(page(response).unwrap(), "8 1700000000 body the file");
    }
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(b"before, and the file").unwrap();
    file.set_modified(at).unwrap();
    file.seek(SeekFrom::End(-8)).unwrap();
    let rest = FilterFile::from_file(file).unwrap();
    let response = client(&app).filter(post(Body::from("body")), rest).unwrap();
    assert_eq!(page(response).unwrap(), "8 1700000000 body the file");
    let short = FilterFile::from_reader(&b"the file"[..], 9, at);
    assert_eq!(client(&app).filter(post(Body::from("body")), short).unwrap_err().status(), 400);
}

#[test]
fn a_response_given_up_does_not_spoil_the_next_h_11() {
    let big = handler(|request: Request<Body>| match request.uri().path() {
        "/app/big" => answer(ok(), vec![b'x'; 4 << 20]),
        _ => answer(ok(), "small"),
    });
    let app = serve(Server::new().threads(2), big);
    let client = client(&app);
    for _ in 0..3 {
        let response = client.send(get("/app/big")).unwrap();
        assert_eq!(response.body().size_hint(), Some(4 << 20));
        drop(response);
        assert_eq!(page(client.send(get("/app/small")).unwrap()).unwrap(), "small");
    }
}
