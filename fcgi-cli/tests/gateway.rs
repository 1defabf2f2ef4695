//! `fcgi gateway`: which request gets which answer.

mod common;

use std::{
    fs,
    io::{Read, Write},
    net::TcpStream,
};

use common::gateway::{
    App, Gateway, Http2, PAGE, PATIENCE, Root, SECRET, block_on, link, text, until,
};
use fcgi_testkit::http::{HttpConnection, pattern};
use http_body_util::BodyExt;

/// Sends bytes as they are, and reads until the gateway closes.
fn raw(gateway: &Gateway, bytes: &[u8]) -> String {
    let mut stream = TcpStream::connect(("127.0.0.1", gateway.port)).expect("it accepts");
    stream.set_read_timeout(Some(PATIENCE)).expect("a socket");
    stream.write_all(bytes).expect("send");
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).expect("an answer");
    String::from_utf8_lossy(&answer).into_owned()
}

/// GET of a target that no client would send.
fn raw_get(gateway: &Gateway, target: &str) -> (u16, String) {
    let request = format!("GET {target} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
    let answer = raw(gateway, request.as_bytes());
    let status = answer.split(' ').nth(1).and_then(|status| status.parse().ok());
    (status.unwrap_or_else(|| panic!("{target}: {answer}")), answer)
}

fn php_site() -> (App, Root, Gateway) {
    let (app, root) = (App::start(), Root::new());
    let gateway = Gateway::start(&[&app.address, "--root", &root.arg()]);
    (app, root, gateway)
}

#[test]
fn says_where_it_is_and_what_it_serves() {
    let (app, root, gateway) = php_site();
    let port = gateway.port;
    let expected = format!(
        "http://127.0.0.1:{port}/ serves {}, its scripts run by the application at {}\n",
        root.arg(),
        app.address
    );
    assert_eq!(gateway.line, expected);
}

#[test]
fn a_script_gets_its_parameters() {
    let (_app, root, gateway) = php_site();
    let reply = gateway.ask("GET", "/app.php/a%20b?x=%2F", &[("X-Mine", "yes"), ("Proxy", "evil")]);
    let body = text(&reply);
    assert_eq!(reply.head.status, 200);
    for line in [
        "SCRIPT_NAME=/app.php",
        "PATH_INFO=/a b",
        "QUERY_STRING=x=%2F",
        "REQUEST_URI=/app.php/a%20b?x=%2F",
        "HTTP_X_MINE=yes",
        "REMOTE_ADDR=127.0.0.1",
        "SERVER_PROTOCOL=HTTP/1.1",
        "SERVER_NAME=127.0.0.1",
        &format!("SERVER_PORT={}", gateway.port),
        &format!("SCRIPT_FILENAME={}/app.php", root.arg()),
        "STDIN=0",
    ] {
        assert!(body.lines().any(|found| found == line), "no {line} in\n{body}");
    }
    // CVE-2016-5385 (H-15).
    assert!(!body.contains("HTTP_PROXY"), "{body}");
}

#[test]
fn a_parameter_of_the_operators_takes_the_place_of_another() {
    let (app, root) = (App::start(), Root::new());
    let args = ["--param", "SERVER_NAME=shop.example", "--param", "APP_ENV=dev"];
    let gateway = Gateway::start(&[&[&app.address, "--root", &root.arg()], &args[..]].concat());
    let body = text(&gateway.get("/app.php"));
    assert!(
        body.contains("SERVER_NAME=shop.example\n") && body.contains("APP_ENV=dev\n"),
        "{body}"
    );
    assert_eq!(body.matches("SERVER_NAME=").count(), 1);
}

#[test]
fn files_and_indexes() {
    let (app, _root, gateway) = php_site();
    let reply = gateway.get("/page.txt");
    assert_eq!((reply.head.status, text(&reply)), (200, PAGE.to_owned()));
    assert_eq!(reply.head.field("content-type"), Some("text/plain; charset=utf-8"));
    assert_eq!(reply.head.field("content-length"), Some("11"));
    assert_eq!(text(&gateway.get("/")), "<h1>home</h1>");
    assert_eq!(text(&gateway.get("/plain/")), "<h1>plain</h1>");
    assert_eq!(app.state.asked(), 0, "files are not the application's");

    let reply = gateway.get("/sub/");
    assert!(text(&reply).contains("SCRIPT_NAME=/sub/index.php\n"));
    let reply = gateway.get("/sub?x=1");
    assert_eq!(reply.head.status, 301);
    assert_eq!(reply.head.field("location"), Some("/sub/?x=1"));
}

#[test]
fn head_dates_and_ranges() {
    let (_app, root, gateway) = php_site();
    let reply = gateway.get("/page.txt");
    let modified = reply.head.field("last-modified").expect("a date").to_owned();
    let conditional = |field: &str, value: &str| gateway.ask("GET", "/page.txt", &[(field, value)]);
    assert_eq!(conditional("If-Modified-Since", &modified).head.status, 304);
    let long_ago = "Sun, 06 Nov 1994 08:49:37 GMT";
    assert_eq!(conditional("If-Modified-Since", long_ago).head.status, 200);
    for (range, expected, part) in [
        ("bytes=2-4", "bytes 2-4/11", "234"),
        ("bytes=8-", "bytes 8-10/11", "89\n"),
        ("bytes=-3", "bytes 8-10/11", "89\n"),
        ("bytes=-99", "bytes 0-10/11", PAGE),
        ("bytes=9-99", "bytes 9-10/11", "9\n"),
        ("bytes=9-99999999999999999999999", "bytes 9-10/11", "9\n"),
        ("bytes=-99999999999999999999999", "bytes 0-10/11", PAGE),
        // A list of which one is in the file, with the spaces that a list may have.
        ("bytes= 2-4", "bytes 2-4/11", "234"),
        ("bytes=,2-4 , ", "bytes 2-4/11", "234"),
        ("bytes=11-12,2-4,99-", "bytes 2-4/11", "234"),
    ] {
        let reply = conditional("Range", range);
        assert_eq!(reply.head.status, 206, "{range}");
        assert_eq!(reply.head.field("content-range"), Some(expected));
        assert_eq!(text(&reply), part);
    }
    for range in [
        "bytes=11-",
        "bytes=-0",
        "bytes=99999999999999999999999-",
        "bytes=11-12,99-",
        "bytes=-0,11-",
    ] {
        let reply = conditional("Range", range);
        assert_eq!(reply.head.status, 416, "{range}");
        assert_eq!(reply.head.field("content-range"), Some("bytes */11"));
    }
    let many = format!("bytes={}", "0-0,".repeat(12));
    for range in [
        "bytes=4-2",
        "bytes=x-",
        "lines=1-2",
        "bytes=+1-2",
        "bytes=-",
        "bytes=",
        "bytes=,",
        "bytes=0-1,x",
        "bytes=1 - 2",
        // More than the file altogether.
        "bytes=0-,-1",
        &many,
    ] {
        assert_eq!(conditional("Range", range).head.status, 200, "{range}");
    }
    // Of an empty file a part that starts where it starts is all of it.
    std::fs::write(root.path().join("empty"), "").expect("a file");
    for (range, status) in [("bytes=0-", 200), ("bytes=-5", 200), ("bytes=1-", 416)] {
        assert_eq!(
            gateway.ask("GET", "/empty", &[("Range", range)]).head.status,
            status,
            "{range}"
        );
    }
    let stale = [("Range", "bytes=0-1"), ("If-Range", long_ago)];
    assert_eq!(gateway.ask("GET", "/page.txt", &stale).head.status, 200);
    let fresh = [("Range", "bytes=0-1"), ("If-Range", &*modified)];
    assert_eq!(gateway.ask("GET", "/page.txt", &fresh).head.status, 206);

    for target in ["/page.txt", "/app.php"] {
        let request = format!("HEAD {target} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
        let head = raw(&gateway, request.as_bytes());
        assert!(head.starts_with("HTTP/1.1 200") && head.ends_with("\r\n\r\n"), "{head}");
        assert_eq!(head.contains("content-length: 11\r\n"), target == "/page.txt", "{head}");
    }
    let reply = gateway.ask("DELETE", "/page.txt", &[]);
    assert_eq!((reply.head.status, reply.head.field("allow")), (405, Some("GET, HEAD")));
}

#[test]
fn nothing_hidden_and_nothing_outside_is_shown() {
    let (app, root, gateway) = php_site();
    link(&root.path().join("../secret.txt"), &root.path().join("link.txt"));
    link(&root.path().join(".."), &root.path().join("up"));
    for target in [
        "/../secret.txt",
        "/plain/../../secret.txt",
        "/plain/%2e%2e/%2e%2e/secret.txt",
        "/%2e%2e/secret.txt",
        "/..%2fsecret.txt",
        "/..%5csecret.txt",
        "/..\\secret.txt",
        "/%252e%252e/secret.txt",
        "//../secret.txt",
        "/./.secret",
        "/.secret",
        "/%2esecret",
        "/plain/../.git/config",
        "/.git/config",
        "/.git/",
        "/page.txt%00.php",
        "/page.txt%0a",
        "/page.txt/",
        "/page.txt/x.php",
        "/UPPER.PHP",
        "/app.PHP",
        "/app.php%20",
        "/app.php.",
        "/app.php%00",
        "/link.txt",
        "/up/secret.txt",
        "/%",
        "/%zz",
        "http://other/../secret.txt",
        "*",
    ] {
        let (status, answer) = raw_get(&gateway, target);
        assert!(matches!(status, 400 | 404), "{target}: {answer}");
        assert!(!answer.contains(SECRET), "{target}: {answer}");
    }
    assert_eq!(app.state.asked(), 0, "none of it is the application's");
    // A path that stays inside is found, however it is written.
    for target in ["/plain/../page.txt", "/%70age.txt", "/./page.txt", "//page.txt"] {
        assert_eq!(raw_get(&gateway, target).0, 200, "{target}");
    }
}

#[test]
fn links_out_of_the_root_can_be_followed() {
    let (app, root) = (App::start(), Root::new());
    link(&root.path().join("../secret.txt"), &root.path().join("link.txt"));
    let gateway = Gateway::start(&[&app.address, "--root", &root.arg(), "--follow-links"]);
    assert_eq!(text(&gateway.get("/link.txt")), SECRET);
}

#[test]
fn a_script_that_is_not_there_is_not_asked_for_unless_told() {
    let (app, root, gateway) = php_site();
    assert_eq!(gateway.get("/nope.php").head.status, 404);
    assert_eq!(app.state.asked(), 0);

    let gateway = Gateway::start(&[&app.address, "--root", &root.arg(), "--no-check"]);
    assert!(text(&gateway.get("/nope.php/info")).contains("SCRIPT_NAME=/nope.php\n"));
    assert_eq!(text(&gateway.get("/page.txt")), PAGE);
    assert_eq!(gateway.get("/page.txt/x.php").head.status, 404, "php would run page.txt");

    let gateway = Gateway::start(&[&app.address, "--root", "/not/on/this/machine", "--no-check"]);
    let body = text(&gateway.get("/nope.php"));
    assert!(body.contains("SCRIPT_FILENAME=/not/on/this/machine/nope.php\n"), "{body}");
}

#[test]
fn a_front_controller_gets_what_is_no_file() {
    let (app, root) = (App::start(), Root::new());
    let args = ["--root", &root.arg(), "--front", "app.php", "--app-root", "/in/a/container"];
    let gateway = Gateway::start(&[&[&*app.address], &args[..]].concat());
    let body = text(&gateway.get("/shop/cart?id=7"));
    assert!(body.contains("SCRIPT_NAME=/app.php\n"), "{body}");
    assert!(body.contains("REQUEST_URI=/shop/cart?id=7\n"), "{body}");
    assert!(body.contains("SCRIPT_FILENAME=/in/a/container/app.php\n"), "{body}");
    assert_eq!(text(&gateway.get("/page.txt")), PAGE);
}

#[test]
fn a_mounted_application_gets_all_paths_but_files() {
    let (app, root) = (App::start(), Root::new());
    let gateway = Gateway::start(&[&app.address, "--mount", "/", "--root", &root.arg()]);
    assert!(text(&gateway.get("/any/thing.php")).contains("PATH_INFO=/any/thing.php\n"));
    // The source of a script is never shown.
    assert!(text(&gateway.get("/app.php")).contains("PATH_INFO=/app.php\n"));
    assert_eq!(text(&gateway.get("/page.txt")), PAGE);

    let gateway = Gateway::start(&[&app.address, "--mount", "/api"]);
    let body = text(&gateway.get("/api/users"));
    assert!(body.contains("SCRIPT_NAME=/api\n") && body.contains("PATH_INFO=/users\n"), "{body}");
    assert_eq!(gateway.get("/apis").head.status, 404);
}

#[test]
fn bodies_of_known_and_unknown_length() {
    let (_app, _root, gateway) = php_site();
    let length = 20 << 20;
    let reply = gateway.connect().post("/app.php/echo", length).expect("an answer");
    assert_eq!((reply.head.status, reply.body.len() as u64), (200, length));
    let is_same = reply.body.iter().enumerate().all(|(at, byte)| *byte == pattern(at as u64));
    assert!(is_same, "what came back is not what was sent");
    assert!(text(&gateway.connect().post("/app.php", 3).expect("an answer")).contains("STDIN=3\n"));

    // php-fpm reads no body without its length (Q-4): in memory, and in a temporary file.
    for length in [10, 1 << 20] {
        let mut connection = gateway.connect();
        connection
            .send_head("POST", "/app.php", &[("Transfer-Encoding", "chunked")])
            .expect("send");
        for _ in 0..2 {
            connection.send(format!("{:x}\r\n", length / 2).as_bytes()).expect("send");
            connection.send(&vec![b'x'; length / 2]).expect("send");
            connection.send(b"\r\n").expect("send");
        }
        connection.send(b"0\r\n\r\n").expect("send");
        let body = text(&connection.read_reply().expect("an answer"));
        assert!(body.contains(&format!("CONTENT_LENGTH={length}\n")), "{body}");
        assert!(body.contains(&format!("STDIN={length}\n")), "{body}");
        assert!(!body.contains("TRANSFER_ENCODING"), "{body}");
    }
}

#[test]
fn a_client_that_asks_first_is_told_to_go_on() {
    let (_app, _root, gateway) = php_site();
    let head = "POST /app.php HTTP/1.1\r\nHost: a\r\nConnection: close\r\nExpect: 100-continue\r\n\
        Content-Length: 2\r\n\r\nok";
    let answer = raw(&gateway, head.as_bytes());
    assert!(answer.starts_with("HTTP/1.1 100 Continue\r\n"), "{answer}");
    assert!(answer.contains("STDIN=2\n"), "{answer}");
}

#[test]
fn an_answer_streams_as_it_comes() {
    let (app, _root, gateway) = php_site();
    let mut connection = gateway.connect();
    connection.send_head("GET", "/app.php/hold", &[]).expect("send");
    assert_eq!(connection.read_head().expect("a head").status, 200);
    let mut block = [0; 64];
    let n = connection.read_body(&mut block).expect("the first piece");
    assert_eq!(&block[..n], b"first\n", "before the last was written");
    app.state.release();
    let n = connection.read_body(&mut block).expect("the last piece");
    assert_eq!(&block[..n], b"last\n");
    assert_eq!(connection.read_body(&mut block).expect("the end"), 0);
}

#[test]
fn an_application_may_redirect_inside() {
    let (_app, _root, gateway) = php_site();
    let reply = gateway.get("/app.php/to-page");
    assert_eq!((reply.head.status, text(&reply)), (200, PAGE.to_owned()));
    let body = text(&gateway.get("/app.php/to-app"));
    assert!(body.contains("PATH_INFO=/landed\n"), "{body}");
    assert!(body.contains("QUERY_STRING=by=redirect\n"), "{body}");
    assert_eq!(gateway.get("/app.php/to-itself").head.status, 502);
}

#[test]
fn requests_that_are_no_http() {
    let (app, _root, gateway) = php_site();
    for (request, expected) in [
        ("GET /app.php HTTP/1.1\r\n\r\n", "400"),
        ("GET /app.php HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", "400"),
        ("GET /app.php HTTP/1.1\r\nHost: a@b\r\n\r\n", "400"),
        ("GET /app.php HTTP/1.1\r\nHost: a:b\r\n\r\n", "400"),
        ("GET /page.txt HTTP/1.1\r\nHost: [::1]x\r\n\r\n", "400"),
        ("GET http://a:b/page.txt HTTP/1.1\r\nHost: a\r\n\r\n", "400"),
        ("GET http://u@a/app.php HTTP/1.1\r\nHost: a\r\n\r\n", "400"),
        ("GET /app.php HTTP/1.1\r\nHost: a\r\nX y: z\r\n\r\n", "400"),
        ("POST /app.php HTTP/1.1\r\nHost: a\r\nContent-Length: 1x\r\n\r\n", "400"),
        (
            "POST /app.php HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
            "400",
        ),
        ("CONNECT a:80 HTTP/1.1\r\nHost: a\r\n\r\n", "405"),
        ("TRACE /app.php HTTP/1.1\r\nHost: a\r\nCookie: secret\r\n\r\n", "405"),
        ("TRACE /page.txt HTTP/1.1\r\nHost: a\r\n\r\n", "405"),
    ] {
        let request = request.replacen("\r\n", "\r\nConnection: close\r\n", 1);
        let answer = raw(&gateway, request.as_bytes());
        let status = answer.split(' ').nth(1);
        assert_eq!(status, Some(expected), "{request}\n{answer}");
    }
    assert_eq!(app.state.asked(), 0);
}

#[test]
fn a_405_names_the_methods_that_are_allowed_there() {
    let (_app, _root, gateway) = php_site();
    for (method, path, allowed) in [
        ("TRACE", "/app.php", "GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS"),
        ("TRACE", "/page.txt", "GET, HEAD"),
        ("TRACE", "/missing", "GET, HEAD"),
        ("TRACE", "/-/ready", "GET, HEAD"),
        ("POST", "/page.txt", "GET, HEAD"),
        ("DELETE", "/-/metrics", "GET, HEAD"),
    ] {
        let request = format!("{method} {path} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
        let answer = raw(&gateway, request.as_bytes());
        assert!(answer.starts_with("HTTP/1.1 405 "), "{request}\n{answer}");
        assert!(answer.contains(&format!("\r\nallow: {allowed}\r\n")), "{request}\n{answer}");
    }
}

#[test]
fn a_request_with_two_lengths_is_refused() {
    let (app, _root, gateway) = php_site();
    let length = "Content-Length: 36";
    let chunked = "Transfer-Encoding: chunked";
    for fields in [
        format!("{length}\r\n{chunked}"),
        format!("{chunked}\r\n{length}"),
        format!("content-LENGTH:36\r\nX: y\r\n{chunked}"),
    ] {
        for before in ["", "\r\n"] {
            let request = format!(
                "{before}POST /app.php HTTP/1.1\r\nHost: a\r\n{fields}\r\n\r\n\
                 0\r\n\r\nGET /page.txt HTTP/1.1\r\nHost: a\r\n\r\n"
            );
            let answer = raw(&gateway, request.as_bytes());
            assert!(answer.starts_with("HTTP/1.1 400 "), "{answer}");
            assert!(answer.contains("Content-Length and Transfer-Encoding"), "{answer}");
            assert!(!answer.contains(PAGE), "{answer}");
        }
    }
    // On a connection that has carried another request.
    let mut connection = gateway.connect();
    for _ in 0..3 {
        assert_eq!(text(&connection.get("/page.txt").expect("an answer")), PAGE);
    }
    let two = [("Content-Length", "5"), ("Transfer-Encoding", "chunked")];
    connection.send_head("POST", "/app.php", &two).expect("send");
    assert_eq!(connection.read_reply().expect("an answer").head.status, 400);
    // Behind a request that is not answered yet.
    let request = format!(
        "POST /app.php/hold HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n\
         POST /app.php HTTP/1.1\r\nHost: a\r\n{length}\r\n{chunked}\r\n\r\n0\r\n\r\n"
    );
    app.state.release();
    let answer = raw(&gateway, request.as_bytes());
    assert!(answer.contains("last\n") && answer.contains("HTTP/1.1 400 "), "{answer}");
    assert_eq!(app.state.asked(), 1, "only what was held");
    // In two pieces, one before that answer and one after it.
    for (first, second) in [
        (&*format!("{length}\r\nTransfer-E"), "ncoding: chunked"),
        ("Content-Le", "ngth: 36\r\nTransfer-Encoding: chunked"),
        (&*format!("{length}\r\nX: "), "POST /app.php HTTP/1.1\r\nTransfer-Encoding: chunked"),
    ] {
        let mut connection = gateway.connect();
        connection.send_head("GET", "/app.php/hold", &[]).expect("send");
        connection.read_head().expect("a head");
        let head = format!("POST /app.php HTTP/1.1\r\nHost: a\r\n{first}");
        connection.send(head.as_bytes()).expect("send");
        // Usually the gateway reads this first; it must not matter.
        std::thread::sleep(std::time::Duration::from_millis(100));
        app.state.release();
        let mut block = [0; 64];
        while connection.read_body(&mut block).expect("more") > 0 {}
        connection.send(format!("{second}\r\n\r\n0\r\n\r\n").as_bytes()).expect("send");
        let reply = connection.read_reply().expect("an answer");
        assert_eq!(reply.head.status, 400, "{first} {second}");
    }
    assert_eq!(app.state.asked(), 4, "only what was held");
    // A value that looks like a field is still a value.
    let mut connection = gateway.connect();
    let fields = [("Transfer-Encoding", "chunked"), ("X-Mine", "Content-Length: 3")];
    connection.send_head("POST", "/app.php", &fields).expect("send");
    connection.send(b"5\r\nhello\r\n0\r\n\r\n").expect("send");
    assert!(text(&connection.read_reply().expect("an answer")).contains("STDIN=5\n"));
}

#[test]
fn bodies_of_every_kind_may_be_pipelined() {
    let (app, _root, gateway) = php_site();
    let head = "POST /app.php HTTP/1.1\r\nHost: a\r\n";
    let chunked = format!("{head}Transfer-Encoding: chunked\r\n\r\n");
    // Each looks like a request inside.
    let inside = "GET /page.txt HTTP/1.1\r\nHost: a\r\n\r\n";
    let length = inside.len();
    let requests = [
        (format!("{chunked}5\r\nhello\r\n0\r\n\r\n"), 5),
        (format!("{chunked}{length:x}\r\n{inside}\r\n00\r\n\r\n"), length),
        (format!("{head}Content-Length: {length}\r\n\r\n{inside}"), length),
        (
            format!(
                "\r\n{chunked}a;name=\"va\"\r\n\r\n0\r\n\r\n012\r\n0000;x=y\r\nOne: 1\r\nTwo: 2\r\n\r\n"
            ),
            10,
        ),
        (format!("{head}Content-Length: 0\r\n\r\n"), 0),
        (format!("{head}\r\n"), 0),
        (format!("{chunked}0\r\n\r\n"), 0),
        (format!("{chunked}1\r\n1\r\nFfF0\r\n{}\r\n0\r\n\r\n", "x".repeat(0xfff0)), 0xfff1),
        (format!("{chunked}4\r\nlast\r\n0\r\n\r\n"), 4),
    ];
    let mut all: String = requests.iter().map(|(request, _)| &**request).collect();
    all += "GET /page.txt HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";
    let all = all.as_bytes();
    for cut in [all.len(), 1, 7, 100, 300, 509, 4000] {
        let mut stream = TcpStream::connect(("127.0.0.1", gateway.port)).expect("the gateway");
        stream.set_nodelay(true).expect("a socket");
        stream.set_read_timeout(Some(PATIENCE)).expect("a socket");
        let mut sender = stream.try_clone().expect("a socket");
        let (first, rest) = all.split_at(cut);
        let (first, rest) = (first.to_vec(), rest.to_vec());
        let sending = std::thread::spawn(move || {
            for byte in first.chunks(if cut < 1000 { 1 } else { cut }) {
                sender.write_all(byte).expect("send");
            }
            sender.write_all(&rest).expect("send");
        });
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).expect("an answer");
        sending.join().expect("all was sent");
        let answer = String::from_utf8_lossy(&answer).into_owned();
        let found: Vec<_> = answer.lines().filter_map(|line| line.strip_prefix("STDIN=")).collect();
        let wanted: Vec<_> = requests.iter().map(|(_, length)| length.to_string()).collect();
        assert_eq!(found, wanted, "cut at {cut}: {answer}");
        assert!(answer.ends_with(PAGE), "cut at {cut}: {answer}");
    }
    // Two lengths are refused there too, and what is behind them is not served.
    for (before, _) in &requests {
        let asked = app.state.asked();
        let request = format!(
            "{before}{head}Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n{inside}"
        );
        let answer = raw(&gateway, request.as_bytes());
        assert!(answer.contains("Content-Length and Transfer-Encoding"), "{before}: {answer}");
        assert!(!answer.contains(PAGE), "{before}: {answer}");
        assert_eq!(app.state.asked(), asked + 1, "{before}");
    }
}

#[test]
fn the_access_log_can_not_be_forged() {
    let (_app, _root, gateway) = php_site();
    let request = b"GET /page.txt?%22x HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\
        Referer: http://a/\r\nUser-Agent: \\\" 200 \xff\xc2\x9b2J\r\n\r\n";
    raw(&gateway, request);
    until("the request is logged", || gateway.access_log().ends_with('\n'));
    let log = gateway.access_log();
    assert_eq!(log.lines().count(), 1, "{log}");
    assert!(log.starts_with("127.0.0.1 - - ["), "{log}");
    let expected =
        r#"] "GET /page.txt?%22x HTTP/1.1" 200 11 "http://a/" "\\\" 200 \xff\xc2\x9b2J" 0."#;
    assert!(log.contains(expected), "{log}");
}

#[test]
fn a_quiet_gateway_logs_errors_alone() {
    let (app, root) = (App::start(), Root::new());
    let gateway = Gateway::start(&[&app.address, "--root", &root.arg(), "--quiet"]);
    assert_eq!(gateway.get("/page.txt").head.status, 200);
    gateway.get("/app.php/stderr");
    until("STDERR is logged", || gateway.error_log().lines().count() == 2);
    assert_eq!(gateway.access_log(), "");
}

#[test]
fn h_10_stderr_goes_to_the_log_escaped() {
    let (_app, root, gateway) = php_site();
    gateway.get("/app.php/stderr");
    until("STDERR is logged", || gateway.error_log().lines().count() == 2);
    let title = format!("fcgi gateway: GET {}/app.php: STDERR: ", root.arg());
    until("the request is logged", || gateway.access_log().ends_with('\n'));
    let access = gateway.access_log();
    let id = access.trim_end().rsplit(' ').next().expect("an id");
    let expected = format!("{title}red \\x1b[31m [{id}]\n{title}second \"line\" [{id}]\n");
    assert_eq!(gateway.error_log(), expected);
}

#[test]
fn http_2_by_prior_knowledge() {
    let (app, _root, gateway) = php_site();
    block_on(async {
        let mut client = Http2::connect(&gateway).await;
        let held = client.post("/app.php/hold", "");
        let other = client.post("/app.php", "12345").await.expect("an answer");
        let other = other.collect().await.expect("a body").to_bytes();
        let other = String::from_utf8_lossy(&other);
        for line in ["SERVER_PROTOCOL=HTTP/2.0", "SERVER_NAME=www.example.org", "STDIN=5"] {
            assert!(other.lines().any(|found| found == line), "no {line} in\n{other}");
        }
        app.state.release();
        let held = held.await.expect("an answer").collect().await;
        assert_eq!(held.expect("a body").to_bytes(), "first\nlast\n");
    });
}

#[test]
fn it_listens_at_several_addresses() {
    let gateway = Gateway::start(&["--listen", "localhost:0", "--quiet"]);
    let (first, rest) = gateway.line.split_once(" and http://").expect("two addresses");
    assert_eq!(first, format!("http://127.0.0.1:{}", gateway.port) + "/");
    let (second, _) = rest.split_once("/ serve a sample application").expect("what they serve");
    let mut connection = HttpConnection::connect(second).expect("it accepts");
    assert_eq!(connection.get("/").expect("an answer").head.status, 200);
    assert_eq!(gateway.get("/").head.status, 200);
}

#[test]
fn the_sample_application_shows_the_request_and_takes_a_file() {
    let gateway = Gateway::start(&[]);
    assert!(gateway.line.contains("serves a sample application"), "{}", gateway.line);
    let reply = gateway.ask("GET", "/?q=%3Cb%3E&x=1", &[("X-Mine", "\"<script>")]);
    let page = text(&reply);
    let row = |name, value| format!("<th scope=\"row\">{name}</th><td>{value}</td>");
    assert!(page.contains(&row("QUERY_STRING", "q=%3Cb%3E&amp;x=1")), "{page}");
    assert!(page.contains(&row("HTTP_X_MINE", "&quot;&lt;script&gt;")), "{page}");
    assert_eq!(page.matches("<script>").count(), 1, "its own");
    assert!(reply.head.field("content-security-policy").is_some());

    let mut connection = gateway.connect();
    let body = "--b\r\nContent-Disposition: form-data; name=\"file\"; filename=\"<i>.txt\"\r\n\
        Content-Type: text/plain\r\n\r\nabc\r\n--b--\r\n";
    let length = body.len().to_string();
    let fields = [("Content-Type", "multipart/form-data; boundary=b"), ("Content-Length", &length)];
    connection.send_head("POST", "/upload", &fields).expect("send");
    connection.send(body.as_bytes()).expect("send");
    let page = text(&connection.read_reply().expect("an answer"));
    assert!(page.contains("<dd><code>&lt;i&gt;.txt</code></dd>"), "{page}");
    assert!(page.contains("<dd><code>3</code></dd>"), "{page}");
    // Of "abc", FIPS 180-2, B.1.
    let sha256 = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
    assert!(page.contains(sha256), "{page}");

    for target in ["/upload", "/nope"] {
        assert_eq!(gateway.get(target).head.status, if target == "/nope" { 404 } else { 303 });
    }
    assert_eq!(text(&gateway.get("/stream")).lines().count(), 8);
}

#[test]
fn the_sample_application_leaves_nothing_behind() {
    let folder = tempfile::Builder::new().prefix("g").tempdir_in("/tmp").expect("a folder");
    let mut child = common::fcgi()
        .args(["gateway", "--listen", "127.0.0.1:0"])
        .env("TMPDIR", folder.path())
        .stdout(std::process::Stdio::piped())
        .spawn()
        .expect("fcgi gateway runs");
    let mut line = [0; 16];
    child.stdout.as_mut().expect("piped").read_exact(&mut line).expect("it starts");
    assert_eq!(fs::read_dir(folder.path()).expect("a folder").count(), 1);
    let pid = rustix::process::Pid::from_child(&child);
    rustix::process::kill_process(pid, rustix::process::Signal::INT).expect("it runs");
    assert_eq!(child.wait().expect("it ends").code(), Some(0));
    assert_eq!(fs::read_dir(folder.path()).expect("a folder").count(), 0);
}
