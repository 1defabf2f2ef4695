//! The example programs, to the contract that every adapter's share.

mod common;

use std::{
    fs::File,
    io::{Read, Write},
    os::{fd::OwnedFd, unix::net::UnixListener},
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Output, Stdio},
    time::{Duration, Instant},
};

use common::{Type, answer, end, pattern, record, request};

/// An example, which `cargo test` has built beside this program.
fn example(name: &str) -> PathBuf {
    let program = std::env::current_exe().unwrap();
    let target = program.parent().and_then(Path::parent).unwrap();
    let example = target.join("examples").join(name);
    assert!(example.is_file(), "{} is not built: run `cargo test`", example.display());
    example
}

/// A program that does not outlive its test.
struct Running {
    child: Child,
    address: String,
    folder: tempfile::TempDir,
}

impl Drop for Running {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Running {
    fn start(name: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("app.sock");
        let address = format!("unix:{}", path.display());
        let mut command = Command::new(example(name));
        command.arg(&address).stdin(Stdio::null()).stderr(Stdio::piped());
        let child = command.spawn().unwrap();
        let running = Self { child, address, folder };
        wait_until("it listens", || path.exists());
        running
    }

    fn path(&self) -> PathBuf {
        self.folder.path().join("app.sock")
    }

    fn terminate(&self, signal: &str) {
        let pid = self.child.id().to_string();
        assert!(Command::new("kill").args([signal, &pid]).status().unwrap().success());
    }

    fn exit_status(&mut self) -> ExitStatus {
        let mut status = None;
        wait_until("it ends", || {
            status = self.child.try_wait().unwrap();
            status.is_some()
        });
        status.unwrap()
    }
}

fn wait_until(what: &str, mut is_so: impl FnMut() -> bool) {
    let start = Instant::now();
    while !is_so() {
        assert!(start.elapsed() < Duration::from_secs(60), "waited too long until {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Runs `call`; with what its stdin is.
fn call_with(stdin: &[u8], args: &[&str]) -> Output {
    let mut child = Command::new(example("call"))
        .args(args)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut input = child.stdin.take().unwrap();
    let bytes = stdin.to_vec();
    // It need not read it.
    let writer = std::thread::spawn(move || drop(input.write_all(&bytes)));
    let output = child.wait_with_output().unwrap();
    writer.join().unwrap();
    output
}

fn call(args: &[&str]) -> Output {
    call_with(b"", args)
}

/// Asserts the exit status, and the one line that says why and where.
fn assert_fails(output: &Output, status: i32, address: &str, cause: &str) {
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(status), "{stderr}");
    let lines: Vec<_> = stderr.lines().collect();
    assert_eq!(lines.len(), 1, "one line: {stderr}");
    assert!(lines[0].contains(address), "names the address: {stderr}");
    assert!(lines[0].contains(cause), "says {cause:?}: {stderr}");
}

/// An application that answers one connection's first request with these bytes and closes, or
/// with `None` stays silent.
fn raw(bytes: Option<Vec<u8>>) -> (tempfile::TempDir, String) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("raw.sock");
    let listener = UnixListener::bind(&path).unwrap();
    std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut buffer = [0; 4096];
        assert!(stream.read(&mut buffer).unwrap() > 0);
        if let Some(bytes) = bytes {
            stream.write_all(&bytes).unwrap();
            return;
        }
        while stream.read(&mut buffer).is_ok_and(|n| n > 0) {}
    });
    (folder, format!("unix:{}", path.display()))
}

// echo, and call with it.

#[test]
fn echo_sends_parameters_stdin_and_data_back() {
    let echo = Running::start("echo");
    let data = echo.folder.path().join("data");
    std::fs::write(&data, "the file").unwrap();
    let output = call_with(
        b"the body",
        &[&echo.address, "--param", "B=2=3", "--param", "A=", "--param", "B=1", "--stdin", "-"],
    );
    assert!(output.status.success());
    let expected = "Content-Type: text/plain\r\n\r\nB=2=3\nA=\nB=1\nCONTENT_LENGTH=8\n\nthe body";
    assert_eq!(String::from_utf8_lossy(&output.stdout), expected);
    assert_eq!(output.stderr, b"");
    let output = call_with(
        b"form",
        &[&echo.address, "--role", "filter", "--stdin", "-", "--data", data.to_str().unwrap()],
    );
    let expected = "Content-Type: text/plain\r\n\r\nCONTENT_LENGTH=4\n\nformthe file";
    assert_eq!(String::from_utf8_lossy(&output.stdout), expected);
    // No STDIN, no parameters.
    let output = call(&[&echo.address, "--keep-conn"]);
    assert_eq!(output.stdout, b"Content-Type: text/plain\r\n\r\n\n");
}

#[test]
fn echo_sends_a_large_body_back_q_15() {
    let echo = Running::start("echo");
    let body = pattern(30 << 20, 5);
    let file = echo.folder.path().join("body");
    std::fs::write(&file, &body).unwrap();
    let output = call(&[&echo.address, "--stdin", file.to_str().unwrap()]);
    assert!(output.status.success());
    let head = format!("Content-Type: text/plain\r\n\r\nCONTENT_LENGTH={}\n\n", body.len());
    assert!(output.stdout.starts_with(head.as_bytes()));
    assert!(output.stdout[head.len()..] == body, "the body came back changed");
}

#[test]
fn echo_authorizes_whoever_has_credentials_fc_6_3_1() {
    let echo = Running::start("echo");
    let output = call(&[&echo.address, "--role", "authorizer"]);
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(text.starts_with("Status: 403") && text.ends_with("\r\n\r\n"), "{text:?}");
    let credentials = ["--param", "HTTP_AUTHORIZATION=Basic eA==", "--param", "SECRET=1"];
    let output =
        call(&[&[echo.address.as_str(), "--role", "authorizer"][..], &credentials].concat());
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(text.starts_with("Status: 200"), "{text:?}");
    assert!(text.contains("\r\nVariable-REMOTE_USER: "), "{text:?}");
    assert!(text.ends_with("\r\n\r\n") && !text.contains("SECRET"), "no echo: {text:?}");
}

#[test]
fn echo_is_steered_by_parameters() {
    let echo = Running::start("echo");
    let output = call(&[&echo.address, "--param", "ECHO_REPEAT_BYTES=200000"]);
    assert!(output.status.success());
    let (head, body) = output.stdout.split_at(28);
    assert_eq!(head, b"Content-Type: text/plain\r\n\r\n");
    assert_eq!(body.len(), 200_000, "instead of the echo");
    let output = call(&[&echo.address, "--param", "ECHO_STDERR=a warning"]);
    assert_eq!((output.status.code(), output.stderr.as_slice()), (Some(0), &b"a warning"[..]));
    let output = call(&[&echo.address, "--param", "ECHO_EXIT=4294967295"]);
    assert_fails(&output, 1, &echo.address, "4294967295");
    assert!(output.stdout.starts_with(b"Content-Type"));
    let output = call(&[&echo.address, "--param", "ECHO_PANIC=1"]);
    assert_fails(&output, 1, &echo.address, "101");
    let start = Instant::now();
    let output = call(&[&echo.address, "--param", "ECHO_SLEEP_MS=300"]);
    assert!(output.status.success());
    assert!(start.elapsed() >= Duration::from_millis(300));
}

// call's exit statuses, each.

#[test]
fn call_exit_2_usage() {
    for args in [
        &[][..],
        &["9000"],
        &["tcp:127.0.0.1:9000", "--role", "president"],
        &["tcp:127.0.0.1:9000", "--param", "no equals sign"],
        &["tcp:127.0.0.1:9000", "--timeout", "soon"],
        &["tcp:127.0.0.1:9000", "--timeout", "-1"],
        &["tcp:127.0.0.1:9000", "--no-such-option"],
    ] {
        let output = call(args);
        assert_eq!(output.status.code(), Some(2), "{args:?}");
        assert!(!output.stderr.is_empty(), "{args:?}");
    }
    assert_fails(&call(&["-"]), 2, "-", "can be called");
    let output = call(&["tcp:127.0.0.1:9000", "--stdin", "/no/such/file"]);
    assert_fails(&output, 2, "tcp:127.0.0.1:9000", "/no/such/file");
}

#[test]
fn call_exit_3_refused() {
    for (status, name) in [(1, "CANT_MPX_CONN"), (2, "OVERLOADED"), (3, "UNKNOWN_ROLE")] {
        let (_folder, address) = raw(Some(end(1, 0, status)));
        assert_fails(&call(&[&address]), 3, &address, name);
    }
}

#[test]
fn call_exit_4_truncated_or_protocol_error() {
    let (_folder, address) = raw(Some(record(Type::Stdout, 1, b"partial!")));
    let output = call(&[&address]);
    assert_fails(&output, 4, &address, "closed before the request ended");
    assert_eq!(output.stdout, b"partial!", "after the bytes that came");
    let (_folder, address) = raw(Some(b"HTTP/1.1 400 Bad Request\r\n\r\n".to_vec()));
    assert_fails(&call(&[&address]), 4, &address, "version");
}

#[test]
fn call_exit_5_connect_or_io_error() {
    let address = "unix:/no/such/socket";
    assert_fails(&call(&[address]), 5, address, "No such file");
    // A response that can't be written.
    let (_folder, address) = raw(Some(answer(1, b"hello")));
    let full = File::options().write(true).open("/dev/full").unwrap();
    let output = Command::new(example("call")).arg(&address).stdout(full).output().unwrap();
    assert_fails(&output, 5, &address, "No space left");
}

#[test]
fn call_exit_6_time_out() {
    let (_folder, address) = raw(None);
    assert_fails(&call(&[&address, "--timeout", "0.2"]), 6, &address, "200ms");
}

// The servers' own ends.

fn finishes_its_request_after(signal: &str) {
    let mut echo = Running::start("echo");
    let mut stream = std::os::unix::net::UnixStream::connect(echo.path()).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
    // GET_VALUES comes with the request and behind it: its answer says that the request runs.
    let pairs = [("ECHO_SLEEP_MS", "700")];
    let wire = [request(1, true, &pairs, b"body"), record(Type::GetValues, 0, b"")].concat();
    stream.write_all(&wire).unwrap();
    let mut reply = [0; 8];
    stream.read_exact(&mut reply).unwrap();
    assert_eq!(reply[1], 10, "GET_VALUES_RESULT");
    echo.terminate(signal);
    let mut wire = Vec::new();
    stream.read_to_end(&mut wire).unwrap();
    let expected = b"Content-Type: text/plain\r\n\r\nECHO_SLEEP_MS=700\n\nbody";
    let stdout = wire.windows(expected.len()).any(|window| window == expected);
    assert!(stdout, "{}", String::from_utf8_lossy(&wire));
    assert!(wire.ends_with(&end(1, 0, 0)));
    assert_eq!(echo.exit_status().code(), Some(0));
    assert!(!echo.path().exists());
}

#[test]
fn sigterm_finishes_requests_and_exits_0_fc_7_1() {
    finishes_its_request_after("-TERM");
}

#[test]
fn sigint_finishes_requests_and_exits_0() {
    finishes_its_request_after("-INT");
}

#[test]
fn hello_says_hello_and_leaves_at_sigterm() {
    for threads in ["1", "2"] {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("app.sock");
        let address = format!("unix:{}", path.display());
        let child = Command::new(example("hello"))
            .arg(&address)
            .env("FCGI_THREADS", threads)
            .spawn()
            .unwrap();
        let mut hello = Running { child, address, folder };
        wait_until("it listens", || path.exists());
        for role in ["responder", "filter", "authorizer"] {
            let output = call(&[&hello.address, "--role", role]);
            assert_eq!(output.stdout, b"Content-Type: text/plain\r\n\r\nHello, world\n");
        }
        if threads == "1" {
            let status = format!("/proc/{}/status", hello.child.id());
            let status = std::fs::read_to_string(status).unwrap();
            assert!(status.contains("Threads:\t1\n"), "{status}");
        }
        hello.terminate("-TERM");
        assert_eq!(hello.exit_status().code(), Some(0));
    }
}

#[test]
fn descriptor_0_is_listened_on_fc_2_2_1() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("given.sock");
    let address = format!("unix:{}", path.display());
    let given = OwnedFd::from(UnixListener::bind(&path).unwrap());
    let child = Command::new(example("echo")).arg("-").stdin(Stdio::from(given)).spawn().unwrap();
    let mut echo = Running { child, address, folder };
    let output = call(&[&echo.address, "--param", "A=1"]);
    assert_eq!(output.stdout, b"Content-Type: text/plain\r\n\r\nA=1\n\n");
    echo.terminate("-TERM");
    assert_eq!(echo.exit_status().code(), Some(0));
    assert!(path.exists(), "the web server's socket is not ours to remove");
}

#[test]
fn descriptor_0_over_tcp_and_web_server_addrs_fc_3_2_1() {
    for (list, served) in [("127.0.0.1", true), ("192.0.2.1,127.0.0.1", true), ("192.0.2.1", false)]
    {
        let given = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = format!("tcp:{}", given.local_addr().unwrap());
        let child = Command::new(example("hello"))
            .arg("-")
            .env("FCGI_WEB_SERVER_ADDRS", list)
            .stdin(Stdio::from(OwnedFd::from(given)))
            .spawn()
            .unwrap();
        let folder = tempfile::tempdir().unwrap();
        let hello = Running { child, address, folder };
        let output = call(&[&hello.address]);
        if served {
            assert!(output.status.success());
            assert!(output.stdout.ends_with(b"Hello, world\n"));
        } else {
            let said = String::from_utf8_lossy(&output.stderr);
            assert_eq!(output.status.code(), Some(4), "closed without a word: {said}");
        }
    }
}

#[test]
fn servers_that_cannot_listen_say_why() {
    for name in ["echo", "hello"] {
        for (args, cause) in [
            (&[][..], "usage"),
            (&["9000"], "unix:PATH"),
            (&["unix:/no/such/folder/app.sock"], "No such file"),
            (&["-"], "no listening socket"),
        ] {
            let output =
                Command::new(example(name)).args(args).stdin(Stdio::null()).output().unwrap();
            assert!(!output.status.success(), "{name} {args:?}");
            let stderr = String::from_utf8_lossy(&output.stderr);
            assert!(stderr.contains(cause), "{name} {args:?}: {stderr}");
        }
    }
}
