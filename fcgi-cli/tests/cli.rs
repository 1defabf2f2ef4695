//! The `fcgi` command as a shell sees it.

use std::{
    io::{Read, Write},
    os::unix::net::UnixListener,
    path::PathBuf,
    process::{Command, Output, Stdio},
    thread,
};

use fcgi_tokio::{
    self as fcgi,
    proto::record::{EndRequestBody, RecordHeader, RecordType},
};

fn fcgi_command(args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_fcgi")).args(args).output().expect("the command runs")
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// A socket that takes one connection, reads a little, and answers with these bytes.
fn canned(answer: Vec<u8>) -> (tempfile::TempDir, String) {
    let (folder, path, address) = place();
    let listener = UnixListener::bind(path).expect("bind");
    thread::spawn(move || {
        if let Ok((mut stream, _)) = listener.accept() {
            let _ = stream.read(&mut [0; 4096]);
            let _ = stream.write_all(&answer);
        }
    });
    (folder, address)
}

fn place() -> (tempfile::TempDir, PathBuf, String) {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("s");
    let address = format!("unix:{}", path.display());
    (folder, path, address)
}

fn record(kind: RecordType, content: &[u8]) -> Vec<u8> {
    let mut header = RecordHeader::new(kind, 1, content.len() as u16);
    header.padding_length = 0;
    [&header.encode()[..], content].concat()
}

fn end(app_status: u32, protocol_status: u8) -> Vec<u8> {
    record(RecordType::EndRequest, &EndRequestBody { app_status, protocol_status }.encode())
}

/// Exit status, stdout, and the one line on stderr.
fn call(address: &str, args: &[&str]) -> (Option<i32>, String, String) {
    let output = fcgi_command(&[&["call", address], args].concat());
    (output.status.code(), text(&output.stdout), text(&output.stderr))
}

#[test]
fn a_call_that_is_done_exits_0() {
    let answer = [record(RecordType::Stdout, b"page"), end(0, 0)].concat();
    let (_folder, address) = canned(answer);
    assert_eq!(call(&address, &[]), (Some(0), "page".to_owned(), String::new()));
}

#[test]
fn an_app_status_exits_1_and_is_printed() {
    let answer = [record(RecordType::Stdout, b"page"), end(77, 0)].concat();
    let (_folder, address) = canned(answer);
    let (status, stdout, stderr) = call(&address, &[]);
    assert_eq!((status, &*stdout), (Some(1), "page"));
    assert!(stderr.contains(&address) && stderr.contains("77"), "{stderr}");
    assert_eq!(stderr.lines().count(), 1);
}

#[test]
fn usage_errors_exit_2() {
    for args in [&["call"][..], &["call", "nowhere"], &["call", "unix:/x", "--param", "NOVALUE"]] {
        assert_eq!(fcgi_command(args).status.code(), Some(2), "{args:?}");
    }
    let (status, _, stderr) = call("unix:/x", &["--stdin", "/no/such/file"]);
    assert_eq!(status, Some(2));
    assert!(stderr.contains("/no/such/file"), "{stderr}");
}

#[test]
fn usage_errors_exit_as_their_reader_wants() {
    let with = |args: &[&str], variables: &[(&str, &str)]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_fcgi"));
        let output = command.args(args).envs(variables.iter().copied()).output();
        output.expect("the command runs").status.code()
    };
    let wrong = ["ping", "--timeout", "x"];
    for (name, value, status) in [
        ("FCGI_PING_NAGIOS", "1", 3),
        ("FCGI_PING_NAGIOS", "true", 3),
        ("FCGI_PING_NAGIOS", "0", 2),
        ("FCGI_PING_NAGIOS", "", 2),
        ("FCGI_PING_DOCKER", "1", 1),
        ("FCGI_PING_DOCKER", "false", 2),
        ("FCGI_CALL_DOCKER", "1", 2),
    ] {
        assert_eq!(with(&wrong, &[(name, value)]), Some(status), "{name}={value}");
    }
    // The command line takes precedence.
    let nagios = [&wrong[..], &["--nagios"]].concat();
    assert_eq!(with(&nagios, &[("FCGI_PING_DOCKER", "1")]), Some(3));
    let json = [&wrong[..], &["--json"]].concat();
    assert_eq!(with(&json, &[("FCGI_PING_NAGIOS", "1")]), Some(2));
    // Programs find the error on stdout.
    let said = |args: &[&str]| {
        let output = fcgi_command(args);
        (text(&output.stdout), text(&output.stderr))
    };
    let (out, err) = said(&nagios);
    assert!(out.starts_with("PING UNKNOWN - invalid value 'x' for '--timeout "), "{out}");
    assert_eq!((out.lines().count(), &*err), (1, ""), "{out}");
    let (out, err) = said(&json);
    assert!(out.starts_with(r#"{"v":1,"command":"ping","ok":false,"exit_status":2,"#), "{out}");
    assert_eq!((out.lines().count(), &*err), (1, ""), "{out}");
    // The same for a value that comes from a variable, and for other subcommands.
    let variables = [("FCGI_STATUS_TIMEOUT", "x"), ("FCGI_STATUS_NAGIOS", "1")];
    assert_eq!(with(&["status"], &variables), Some(3));
    let said = |args: &[&str], variable: (&str, &str)| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_fcgi"));
        let output = command.args(args).envs([variable]).output().expect("the command runs");
        text(&output.stderr) + &text(&output.stdout)
    };
    let variable = ("FCGI_BENCH_CONNECTIONS", "0");
    for args in [&["bench", "unix:/x"][..], &["bench", "unix:/x", "--json"]] {
        assert!(said(args, variable).contains(variable.0), "{args:?}");
    }
    for args in [["-c", "0"], ["-c0", "-k"], ["--connections", "0"], ["--connections=0", "--json"]]
    {
        let args = [&["bench", "unix:/x"], &args[..]].concat();
        assert!(!said(&args, variable).contains(variable.0), "{args:?}");
    }
    // It has no such option.
    assert_eq!(with(&["decode", "--none"], &[("FCGI_DECODE_DOCKER", "1")]), Some(2));
}

#[test]
fn refusals_exit_3() {
    for (status, name) in [(1, "CANT_MPX_CONN"), (2, "OVERLOADED"), (3, "UNKNOWN_ROLE")] {
        let (_folder, address) = canned(end(0, status));
        let (status, _, stderr) = call(&address, &[]);
        assert_eq!(status, Some(3));
        assert!(stderr.contains(name) && stderr.contains(&address), "{stderr}");
    }
}

#[test]
fn broken_and_truncated_answers_exit_4() {
    let truncated = record(RecordType::Stdout, b"half");
    for (answer, cause) in [(b"HTTP/1.1 400".to_vec(), "version 72"), (truncated, "closed")] {
        let (_folder, address) = canned(answer);
        let (status, _, stderr) = call(&address, &[]);
        assert_eq!(status, Some(4));
        assert!(stderr.contains(cause) && stderr.contains(&address), "{stderr}");
        assert_eq!(stderr.lines().count(), 1);
    }
}

#[test]
fn nobody_listening_exits_5() {
    let (_folder, _, address) = place();
    let (status, _, stderr) = call(&address, &[]);
    assert_eq!(status, Some(5));
    assert!(stderr.contains(&address), "{stderr}");
}

#[test]
fn silence_exits_6() {
    let (_folder, path, address) = place();
    let _listener = UnixListener::bind(path).expect("bind");
    let (status, _, stderr) = call(&address, &["--timeout", "0.1"]);
    assert_eq!(status, Some(6));
    assert!(stderr.contains(&address) && stderr.contains("100ms"), "{stderr}");
}

/// As in curl. An alias may have given the first one.
#[test]
fn of_an_option_that_is_given_twice_the_last_one_counts() {
    let (_folder, path, address) = place();
    let _listener = UnixListener::bind(path).expect("bind");
    for command in ["call", "ping"] {
        let twice = ["--timeout", "60", "--timeout", "0.1", "--docker", "--docker"];
        let output = fcgi_command(&[&[command, &address], &twice[..]].concat());
        let stderr = text(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{command}: {stderr}");
        assert!(stderr.contains("100ms"), "{command}: {stderr}");
    }
}

/// A limit of 0 would mean none, which is hardly what somebody wants.
#[test]
fn wrong_numbers_are_named_with_their_option() {
    for (args, expected) in [
        (
            &["ping", "/x", "--timeout", "-1"][..],
            "'--timeout <SECONDS>': expected a time that is not negative",
        ),
        (&["ping", "/x", "--retry", "-1"], "'--retry <N>': expected a number, 0 or more"),
        (&["bench", "/x", "-n", "0"], "'--requests <N>': expected a number, 1 or more"),
        (
            &["status", "/x", "--listen-queue", "x"],
            "'--listen-queue <N>': expected a number, 0 or more",
        ),
        (
            &["gateway", "/x", "--max-waiting", "x"],
            "'--max-waiting <N>': expected a number, 0 or more",
        ),
        (&["gateway", "/x", "--max-body", "-1"], "'--max-body <SIZE>': expected a number of bytes"),
        (&["gateway", "/x", "--mount", "app"], "'--mount <PREFIX>': expected a path such as /app"),
        (&["gateway", "/x", "--files", "app"], "'--files <PREFIX>': expected a path such as /app"),
        (
            &["gateway", "/x", "--sendfile-root", "/no/folder"],
            "--sendfile-root /no/folder: No such file",
        ),
    ] {
        let output = fcgi_command(args);
        let said = text(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{args:?}: {said}");
        assert!(said.contains(expected), "{args:?}: {said}");
    }
}

#[test]
fn a_time_limit_is_more_than_0() {
    for command in ["ping", "status", "doctor", "ls", "check", "php", "bench"] {
        let output = fcgi_command(&[command, "--timeout", "0"]);
        let said = text(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{command}: {said}");
        assert!(said.contains("more than 0 seconds"), "{command}: {said}");
    }
    let (folder, _, address) = place();
    drop(folder);
    assert_eq!(fcgi_command(&["ping", "unix:/none", "--wait", "0"]).status.code(), Some(2));
    assert_eq!(call(&address, &["--timeout", "0"]).0, Some(5), "for a call it is no limit");
}

#[test]
fn a_body_from_a_pipe_gets_its_length() {
    let (_folder, path, address) = place();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().expect("tokio");
    let _guard = runtime.enter();
    let listener = fcgi::Listener::bind(path).expect("bind");
    let serve = fcgi::Server::new().serve(listener, |request: fcgi::Request| async move {
        let body = request.stdin().read_to_end(1 << 20).await?;
        let length = request.param_str("CONTENT_LENGTH").unwrap_or("none").to_owned();
        request.stdout().write_all(format!("{length}:{}", body.len())).await
    });
    runtime.spawn(serve);
    let mut child = Command::new(env!("CARGO_BIN_EXE_fcgi"))
        .args(["call", &address, "--stdin", "-"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("the command runs");
    child.stdin.take().expect("piped").write_all(&[b'x'; 100_000]).expect("write");
    let output = child.wait_with_output().expect("it ends");
    assert_eq!(text(&output.stdout), "100000:100000");
}
