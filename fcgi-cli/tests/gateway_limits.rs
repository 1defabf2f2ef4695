//! `fcgi gateway`: limits, failures, clients that leave, and its end.

mod common;

use std::{
    io::{Read, Write},
    net::{TcpListener, TcpStream},
    os::unix::net::UnixListener,
    process::{Command, Output},
    sync::Arc,
    thread,
    time::Duration,
};

use common::gateway::{App, Gateway, Http2, PAGE, PATIENCE, Root, block_on, text, until};
use rustix::process::Signal;

fn gateway(app: &App, args: &[&str]) -> Gateway {
    Gateway::start(&[&[&*app.address, "--mount", "/"], args].concat())
}

/// A client's connection, and what was sent on it.
fn client(gateway: &Gateway, sent: &str) -> TcpStream {
    let mut stream = TcpStream::connect(("127.0.0.1", gateway.port)).expect("it accepts");
    stream.set_read_timeout(Some(PATIENCE)).expect("a socket");
    stream.write_all(sent.as_bytes()).expect("send");
    stream
}

fn rest(mut stream: TcpStream) -> String {
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).expect("an answer");
    String::from_utf8_lossy(&answer).into_owned()
}

#[test]
fn a_body_too_large_is_refused_with_413() {
    let app = App::start();
    let gateway = gateway(&app, &["--max-body", "1K"]);
    // By its length, before a byte of it is asked for.
    let head = "POST /x HTTP/1.1\r\nHost: a\r\nConnection: close\r\nExpect: 100-continue\r\nContent-Length: 1025\r\n\r\n";
    let answer = rest(client(&gateway, head));
    assert!(answer.starts_with("HTTP/1.1 413 "), "{answer}");
    assert!(answer.contains("more than 1024 bytes"), "{answer}");
    // For whatever it is.
    let root = Root::new();
    let files = Gateway::start(&[&app.address, "--root", &root.arg(), "--max-body", "1K"]);
    for target in ["/page.txt", "/none", "/-/ready"] {
        for method in ["GET", "POST"] {
            let reply = files.ask(method, target, &[("Content-Length", "1025")]);
            assert_eq!(reply.head.status, 413, "{method} {target}");
        }
    }
    // Sent all the same: the client gets its answer, and not a reset.
    let reply = gateway.connect().post("/x", 4 << 20).expect("an answer");
    assert_eq!(reply.head.status, 413);
    // As it comes.
    let head = "POST /x HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\
        Transfer-Encoding: chunked\r\n\r\n400\r\n";
    let mut stream = client(&gateway, head);
    stream.write_all(&[b'x'; 1024]).expect("send");
    stream.write_all(b"\r\n1\r\nx\r\n0\r\n\r\n").expect("send");
    let answer = rest(stream);
    assert!(answer.starts_with("HTTP/1.1 413 "), "{answer}");
    assert_eq!(app.state.asked(), 0);
    let reply = gateway.connect().post("/x", 1024).expect("an answer");
    assert!(text(&reply).contains("STDIN=1024\n"), "what is allowed is");
}

#[test]
fn nobody_listens_is_502() {
    let folder = tempfile::tempdir().expect("a folder");
    let address = format!("unix:{}", folder.path().join("none").display());
    let gateway = Gateway::start(&[&address, "--mount", "/"]);
    let reply = gateway.get("/page");
    assert_eq!(reply.head.status, 502);
    let reason = format!("connect to {address}: No such file or directory (os error 2)");
    let page = text(&reply);
    let id = page.strip_prefix("502 Bad Gateway\nthe application can't be reached\nrequest ");
    let id = id.expect("the page has its reason and its name").trim_end();
    until("the reason is logged", || gateway.error_log().ends_with('\n'));
    let log = gateway.error_log();
    assert!(log.starts_with(&format!("fcgi gateway: GET /page: {reason}")), "{log}");
    assert_eq!(log.lines().count(), 1, "{log}");
    assert!(log.ends_with(&format!("[{id}]\n")), "{id}: {log}");
    until("it is in the access log", || gateway.access_log().ends_with(&format!(" {id}\n")));
}

/// The application's address and the system's error are only in the log.
#[test]
fn pages_say_nothing_of_what_is_inside() {
    let app = App::start();
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let closing = format!("tcp:{}", listener.local_addr().expect("an address"));
    thread::spawn(move || listener.incoming().for_each(drop));
    let nobody = TcpListener::bind("127.0.0.1:0").expect("a port").local_addr();
    let nobody = format!("tcp:{}", nobody.expect("an address"));
    for (address, target, options, status) in [
        (&*nobody, "/x", &[][..], 502),
        (&closing, "/x", &[], 502),
        (&app.address, "/no-head", &[], 502),
        (&app.address, "/x", &["--connections", "1", "--max-waiting", "0"], 503),
        (&app.address, "/x", &["--connections", "1", "--wait-timeout", "1"], 503),
        (&app.address, "/hang", &["--first-byte-timeout", "1"], 504),
        (&app.address, "/hang", &["--timeout", "1"], 504),
    ] {
        let gateway = Gateway::start(&[&[address, "--mount", "/"], options].concat());
        let mut held = gateway.connect();
        if status == 503 {
            held.send_head("GET", "/hold", &[]).expect("send");
            held.read_head().expect("a head");
        }
        let reply = gateway.get(target);
        assert_eq!(reply.head.status, status, "{address} {target} {options:?}");
        let (page, bare) = (text(&reply), &address[address.find(':').expect("a scheme") + 1..]);
        assert!(!page.contains(bare) && !page.contains("os error"), "{page}");
        assert_eq!(page.lines().count(), 3, "it has its reason and its name: {page}");
        until("the log has it", || gateway.error_log().contains(address));
    }
}

#[test]
fn errors_say_what_is_likely_wrong() {
    let folder = tempfile::tempdir().expect("a folder");
    let missing = format!("unix:{}", folder.path().join("none").display());
    let stale = folder.path().join("stale");
    drop(UnixListener::bind(&stale).expect("bind"));
    let http = TcpListener::bind("127.0.0.1:0").expect("a port");
    let web = format!("tcp:{}", http.local_addr().expect("an address"));
    thread::spawn(move || {
        while let Ok((mut stream, _)) = http.accept() {
            let _ = stream.read(&mut [0; 512]);
            let _ = stream.write_all(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n");
        }
    });
    for (address, cause) in [
        (missing, "there is no such socket"),
        (format!("unix:{}", stale.display()), "nobody listens"),
        (web, "HTTP"),
    ] {
        let gateway = Gateway::start(&[&address, "--mount", "/"]);
        let reply = gateway.get("/page");
        assert_eq!(reply.head.status, 502, "{address}");
        until("it is logged", || gateway.error_log().ends_with('\n'));
        let log = gateway.error_log();
        assert!(log.starts_with("fcgi gateway: GET /page: ") && log.contains(cause), "{log}");
        assert!(!text(&reply).contains(cause) || cause == "HTTP", "not for clients");
    }
}

#[test]
fn a_url_too_long_is_414() {
    let app = App::start();
    let gateway = gateway(&app, &["--max-head", "1M"]);
    let target = format!("/{}", "x".repeat(70_000));
    let request = format!("GET {target} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
    let answer = rest(client(&gateway, &request));
    assert!(answer.starts_with("HTTP/1.1 414 URI Too Long\r\n"), "{answer}");
    assert!(answer.contains("\r\n\r\n414 URI Too Long\n"), "{answer}");
    until("it is logged", || gateway.access_log().contains("] \"-\" 414 "));
    assert_eq!(app.state.asked(), 0);
}

#[test]
fn an_answer_that_is_none_is_502() {
    let app = App::start();
    let gateway = gateway(&app, &[]);
    let reply = gateway.get("/no-head");
    assert_eq!(reply.head.status, 502);
    assert!(text(&reply).contains("the application's answer"), "{}", text(&reply));
    until("why is in the log", || gateway.error_log().contains("no colon"));
}

#[test]
fn an_application_that_is_full_is_503() {
    let app = App::start();
    let gateway = gateway(&app, &[]);
    for _ in 0..2 {
        assert_eq!(gateway.get("/overloaded").head.status, 503);
    }
}

#[test]
fn a_full_queue_is_503() {
    let app = App::start();
    let gateway = gateway(&app, &["--connections", "1", "--max-waiting", "0"]);
    let mut first = gateway.connect();
    first.send_head("GET", "/hold", &[]).expect("send");
    first.read_head().expect("a head");
    let reply = gateway.get("/other");
    assert_eq!(reply.head.status, 503);
    assert!(text(&reply).contains("wait for a connection"), "{}", text(&reply));
}

#[test]
fn a_wait_too_long_is_503() {
    let app = App::start();
    let gateway = gateway(&app, &["--connections", "1", "--wait-timeout", "0.1"]);
    let mut first = gateway.connect();
    first.send_head("GET", "/hold", &[]).expect("send");
    first.read_head().expect("a head");
    let reply = gateway.get("/other");
    assert_eq!(reply.head.status, 503);
    assert!(text(&reply).contains("no free connection of the pool within 100ms"));
}

#[test]
fn an_application_too_slow_is_504() {
    let app = App::start();
    for (limit, phase) in [
        ("--first-byte-timeout", "no first byte of the response within 2s"),
        ("--timeout", "no end of the response within 2s"),
    ] {
        let gateway = gateway(&app, &[limit, "2"]);
        let reply = gateway.get("/hang");
        assert_eq!(reply.head.status, 504);
        assert!(text(&reply).contains(phase), "{}", text(&reply));
    }
    until("both are cancelled", || app.state.cancelled() == 2);
}

#[test]
fn an_answer_that_stops_is_cut_and_logged() {
    let app = App::start();
    for (target, limit, reason) in [
        ("/hold", "1", "no next byte of the response within 1s"),
        ("/cut", "60", "the application failed with status 7"),
    ] {
        let gateway = gateway(&app, &["--next-byte-timeout", limit]);
        let mut connection = gateway.connect();
        connection.send_head("GET", target, &[]).expect("send");
        assert!(connection.read_reply().is_err(), "{target} must not look whole");
        until(reason, || gateway.error_log().contains(reason));
    }
}

#[test]
fn a_client_that_leaves_cancels_its_request() {
    let app = App::start();
    let gateway = gateway(&app, &["--buffering", "off"]);
    // While it waits; while the answer comes; while its body goes out.
    let waits = client(&gateway, "GET /hang HTTP/1.1\r\nHost: a\r\n\r\n");
    until("it is asked", || app.state.asked() == 1);
    drop(waits);
    until("it is cancelled", || app.state.cancelled() == 1);

    let mut reads = client(&gateway, "GET /hold HTTP/1.1\r\nHost: a\r\n\r\n");
    reads.read_exact(&mut [0; 20]).expect("the head");
    drop(reads);
    until("it is cancelled", || app.state.cancelled() == 2);

    let head = "POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 1000000\r\n\r\n";
    let mut sends = client(&gateway, head);
    sends.write_all(&[b'x'; 200_000]).expect("send");
    until("it is asked", || app.state.asked() == 3);
    drop(sends);
    until("it is cancelled", || app.state.cancelled() == 3);

    until("all are logged", || gateway.access_log().lines().count() == 3);
    let log = gateway.access_log();
    assert!(log.contains("\"GET /hang HTTP/1.1\" 499 0 "), "{log}");
    // Another request gets none of its bytes (H-11).
    assert!(text(&gateway.get("/other")).contains("PATH_INFO=/other\n"));
}

#[test]
fn h_16_slow_clients_are_given_up() {
    let app = App::start();
    let gateway = gateway(&app, &["--client-timeout", "2"]);
    // Silent, silent after HTTP/2's first bytes, in the middle of a head, after a request.
    for sent in
        ["", "PRI * HT", "GET / HTTP/1.1\r\nHost: a\r\nX-", "GET /x HTTP/1.1\r\nHost: a\r\n\r\n"]
    {
        let answer = rest(client(&gateway, sent));
        assert_eq!(answer.starts_with("HTTP/1.1 200"), sent.starts_with("GET /x"), "{answer}");
    }
    for head in [
        "POST /x HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\nhalf",
        "POST /x HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n",
    ] {
        let answer = rest(client(&gateway, head));
        assert!(answer.starts_with("HTTP/1.1 408 "), "{answer}");
        assert!(answer.contains("no next byte from the client within 2s"), "{answer}");
    }
}

#[test]
fn a_client_that_does_not_read_is_given_up() {
    let app = App::start();
    for (n, args) in [&["--store-each", "1M"][..], &["--buffering", "off"]].into_iter().enumerate()
    {
        let gateway = gateway(&app, &[&["--client-timeout", "2"], args].concat());
        let _stream = client(&gateway, "GET /endless HTTP/1.1\r\nHost: a\r\n\r\n");
        until("it is cancelled", || app.state.cancelled() == n + 1);
    }
    // While it sends, too.
    let gateway = gateway(&app, &["--client-timeout", "2", "--buffering", "off"]);
    let head = "POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 100000000\r\n\r\n";
    let mut stream = client(&gateway, head);
    // More than all buffers on the way there and back; the other end closes in between.
    let block = [b'x'; 64 * 1024];
    while stream.write_all(&block).is_ok() {}
    until("it is cancelled", || app.state.cancelled() == 3);
}

#[test]
fn an_http_2_client_that_does_not_read_is_given_up() {
    let app = App::start();
    let gateway = gateway(&app, &["--client-timeout", "3", "--store-each", "1M"]);
    block_on(async {
        let mut client = Http2::connect(&gateway).await;
        let unread = client.post("/endless", "").await.expect("a head");
        let state = Arc::clone(&app.state);
        let cancelled = move || until("it is cancelled", || state.cancelled() == 1);
        tokio::task::spawn_blocking(cancelled).await.expect("no panic");
        // The connection goes on, and its other streams have their window.
        let other = client.post("/x", "12345").await.expect("another answer");
        assert_eq!(other.status(), 200);
        drop(unread);
    });
    let told = "the client took nothing of the answer for 3s";
    until("it is logged", || gateway.error_log().contains(told));
}

#[test]
fn an_http_2_client_that_leaves_cancels_its_request() {
    let app = App::start();
    let gateway = gateway(&app, &[]);
    block_on(async {
        let mut client = Http2::connect(&gateway).await;
        for (path, n) in [("/hang", 1), ("/hold", 2)] {
            let mut answer = Box::pin(client.post(path, ""));
            if path == "/hold" {
                drop(answer.await.expect("a head"));
            } else {
                while app.state.asked() < n {
                    let pause = Duration::from_millis(5);
                    let ended = tokio::time::timeout(pause, &mut answer).await;
                    assert!(ended.is_err(), "it hangs");
                }
                drop(answer);
            }
            let state = Arc::clone(&app.state);
            let cancelled = move || until("it is cancelled", || state.cancelled() == n);
            tokio::task::spawn_blocking(cancelled).await.expect("no panic");
        }
    });
}

#[test]
fn more_clients_than_allowed_wait() {
    let app = App::start();
    let gateway = gateway(&app, &["--max-clients", "1"]);
    let mut first = gateway.connect();
    assert_eq!(first.get("/x").expect("an answer").head.status, 200);
    let second = client(&gateway, "GET /y HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
    assert_eq!(first.get("/x").expect("an answer").head.status, 200);
    assert_eq!(app.state.asked(), 2, "the second waits");
    drop(first);
    assert!(rest(second).starts_with("HTTP/1.1 200"));
}

#[test]
fn a_signal_lets_requests_finish() {
    let app = App::start();
    for signal in [Signal::TERM, Signal::INT] {
        let mut gateway = gateway(&app, &[]);
        let mut idle = gateway.connect();
        assert_eq!(idle.get("/x").expect("an answer").head.status, 200);
        let silent = client(&gateway, "");
        let mut busy = gateway.connect();
        busy.send_head("GET", "/hold", &[]).expect("send");
        busy.read_head().expect("a head");
        gateway.signal(signal);
        let port = gateway.port;
        until("nobody listens", || TcpStream::connect(("127.0.0.1", port)).is_err());
        app.state.release();
        let mut body = Vec::new();
        let mut block = [0; 64];
        while let Ok(n @ 1..) = busy.read_body(&mut block) {
            body.extend_from_slice(&block[..n]);
        }
        assert_eq!(body, b"first\nlast\n");
        drop(silent);
        assert_eq!(gateway.wait().code(), Some(0));
        assert_eq!(gateway.error_log(), "");
    }
}

#[test]
fn requests_that_do_not_finish_are_cut_off() {
    let app = App::start();
    let mut gateway = gateway(&app, &["--shutdown-timeout", "0.1"]);
    let _busy = client(&gateway, "GET /hang HTTP/1.1\r\nHost: a\r\n\r\n");
    until("it is asked", || app.state.asked() == 1);
    gateway.signal(Signal::TERM);
    assert_eq!(gateway.wait().code(), Some(0));
    assert!(gateway.error_log().contains("not finished within 100ms"), "{}", gateway.error_log());
}

#[test]
fn a_second_signal_ends_it_at_once() {
    let app = App::start();
    let mut gateway = gateway(&app, &["--shutdown-timeout", "1000"]);
    let _busy = client(&gateway, "GET /hang HTTP/1.1\r\nHost: a\r\n\r\n");
    until("it is asked", || app.state.asked() == 1);
    gateway.signal(Signal::INT);
    let port = gateway.port;
    until("nobody listens", || TcpStream::connect(("127.0.0.1", port)).is_err());
    gateway.signal(Signal::INT);
    assert_eq!(gateway.wait().code(), Some(0));
}

/// Starts a program in a session of its own. SIGHUP ends it, even if these tests run under nohup.
fn in_a_session() -> Command {
    let mut command = Command::new("env");
    command.args(["--default-signal=HUP", "setsid"]);
    command
}

/// Other servers read their configuration again; people and logrotate send it by habit.
#[test]
fn sighup_is_ignored_and_logged() {
    let app = App::start();
    let mut command = in_a_session();
    command.arg(common::fcgi().get_program());
    let mut gateway = Gateway::spawn(command, &[&app.address, "--mount", "/"]);
    gateway.signal(Signal::HUP);
    until("it is logged", || gateway.error_log().contains("SIGHUP is ignored"));
    assert_eq!(gateway.get("/x").head.status, 200);
    gateway.signal(Signal::TERM);
    assert_eq!(gateway.wait().code(), Some(0));

    // Whoever starts it with nohup knows that already.
    let mut command = Command::new("sh");
    command.args(["-c", "trap '' HUP; exec \"$0\" \"$@\""]).arg(common::fcgi().get_program());
    let mut gateway = Gateway::spawn(command, &[&app.address, "--mount", "/"]);
    gateway.signal(Signal::HUP);
    assert_eq!(gateway.get("/x").head.status, 200);
    gateway.signal(Signal::TERM);
    assert_eq!(gateway.wait().code(), Some(0));
    assert_eq!(gateway.error_log(), "");
}

#[test]
fn it_ends_with_its_terminal() {
    let app = App::start();
    let terminal = common::Pty::open();
    let mut command = in_a_session();
    command.arg("--ctty").arg(common::fcgi().get_program()).stdin(terminal.end());
    let mut gateway = Gateway::spawn(command, &[&app.address, "--mount", "/"]);
    let mut busy = gateway.connect();
    busy.send_head("GET", "/hold", &[]).expect("send");
    busy.read_head().expect("a head");
    drop(terminal);
    let port = gateway.port;
    until("nobody listens", || TcpStream::connect(("127.0.0.1", port)).is_err());
    app.state.release();
    let mut block = [0; 64];
    while let Ok(1..) = busy.read_body(&mut block) {}
    assert_eq!(gateway.wait().code(), Some(0));
}

/// One that does not start.
fn fails(args: &[&str]) -> (Option<i32>, String) {
    let Output { status, stderr, .. } =
        common::fcgi().arg("gateway").args(args).output().expect("fcgi gateway runs");
    (status.code(), String::from_utf8_lossy(&stderr).into_owned())
}

#[test]
fn what_it_can_not_serve() {
    let taken = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = taken.local_addr().expect("an address").to_string();
    let (code, stderr) = fails(&["--listen", &address]);
    assert_eq!(code, Some(5));
    let expected = format!(
        "fcgi gateway: listen at {address}: Address already in use (os error 98); \
        --listen HOST:PORT takes another\n"
    );
    assert_eq!(stderr, expected);

    let root = Root::new();
    let file = root.path().join("page.txt").display().to_string();
    for (args, reason) in [
        (&["tcp:a:1", "--root", "/no/such"][..], "root /no/such: No such file or directory"),
        (&["tcp:a:1", "--root", &file], "not a directory"),
        (&["--php", "--root", "/no/such"], "root /no/such"),
        (&["-"], "can be called"),
        (&["nowhere"], "nowhere"),
        (&["tcp:a:1", "--split", "a/b"], "a/b"),
        (&["tcp:a:1", "--mount", "x"], "a path such as /app"),
        (&["tcp:a:1", "--max-body", "1T"], "20M"),
        (&["tcp:a:1", "--timeout", "-1"], "-1"),
        (&["tcp:a:1", "--connections", "0"], "1 or more"),
        (&["tcp:a:1", "--php"], "--php"),
        (&["http://127.0.0.1:80/"], "not HTTP; for a FastCGI application there, 127.0.0.1:80"),
        (&["--listen", "8080"], ":8080 for all"),
        (&["--listen", "http://127.0.0.1:80/"], "not a URL: 127.0.0.1:80"),
        (&["tcp:a:1", "--root", "no/such"], "there is no "),
        (&["tcp:a:1", "--deny", "[x"], "--deny"),
        (&["tcp:a:1", "--trusted-proxy", "10.0.0.0/33"], "10.0.0.0/8"),
        (&["tcp:a:1", "--ready", "ready"], "/-/ready"),
        (&["--mount", "/", "--front", "index.php"], "--front"),
    ] {
        let (code, stderr) = fails(&[args, &["--listen", "127.0.0.1:0"]].concat());
        assert_eq!(code, Some(2), "{args:?}: {stderr}");
        assert!(stderr.contains(reason), "{args:?}: {stderr}");
    }
}

#[test]
fn an_application_that_comes_later_is_found() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("late");
    let gateway = Gateway::start(&[&format!("unix:{}", path.display()), "--mount", "/"]);
    assert_eq!(gateway.get("/x").head.status, 502);
    // It takes the connection and closes it: still 502, for another reason.
    let listener = UnixListener::bind(path).expect("bind");
    thread::spawn(move || drop(listener.accept()));
    let reply = gateway.get("/x");
    assert_eq!(reply.head.status, 502);
    assert!(text(&reply).contains("closed before the request ended"), "{}", text(&reply));
}

#[test]
fn a_file_is_sent_whatever_the_application_does() {
    let root = Root::new();
    let gateway = Gateway::start(&["unix:/nobody/here", "--root", &root.arg()]);
    assert_eq!(text(&gateway.get("/page.txt")), PAGE);
}
