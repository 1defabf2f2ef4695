//! `fcgi call` against applications in the test: what it sends, and each exit status.

mod common;
#[path = "../src/demo/echo.rs"]
mod echo;

use std::{
    fs,
    io::{Read, Write},
    os::unix::net::UnixListener,
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
    thread,
};

use common::{Pty, fcgi, full, gateway::until, is_writing};
use fcgi_lib::proto::record::{EndRequestBody, RecordHeader, RecordType};
use fcgi_tokio as fcgi_lib;
use tempfile::TempDir;

/// An application that echoes, on a unix socket in a folder of its own.
struct App {
    folder: TempDir,
}

impl App {
    fn start() -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let app = Self { folder };
        let address = fcgi_lib::Address::unix(app.socket());
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = runtime.expect("a runtime");
        let listener = fcgi_lib::Listener::bind(address).expect("it listens");
        let serve = fcgi_lib::Server::new().serve(listener, answer);
        // It ends with the test's process.
        thread::spawn(move || runtime.block_on(serve));
        app
    }

    /// An application that answers every connection with these bytes, once a request has come,
    /// and closes it.
    fn with_bytes(answer: impl Into<Vec<u8>>) -> Self {
        let app = Self { folder: tempfile::tempdir().expect("a temporary folder") };
        let listener = UnixListener::bind(app.socket()).expect("it listens");
        let answer = answer.into();
        thread::spawn(move || {
            for stream in listener.incoming() {
                let mut stream = stream.expect("a connection");
                let mut request = [0; 4096];
                let _ = stream.read(&mut request).expect("a request");
                stream.write_all(&answer).expect("it takes the answer");
            }
        });
        app
    }

    fn socket(&self) -> PathBuf {
        self.folder.path().join("app")
    }

    fn address(&self) -> String {
        format!("unix:{}", self.socket().display())
    }

    fn file(&self, name: &str, bytes: &[u8]) -> PathBuf {
        let path = self.folder.path().join(name);
        fs::write(&path, bytes).expect("it can be written");
        path
    }

    fn call(&self, args: &[&str]) -> Command {
        let mut command = fcgi();
        command.arg("call").arg(self.address()).args(args).stdin(Stdio::null());
        command
    }

    fn run(&self, args: &[&str]) -> Output {
        self.call(args).output().expect("fcgi call runs")
    }

    /// Runs a call that fails in one line, which names the address.
    fn fail(&self, args: &[&str], status: i32, cause: &str) {
        let output = self.run(args);
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(status), "{stderr}");
        assert_eq!(stderr.lines().count(), 1, "{stderr}");
        assert!(stderr.starts_with("fcgi call: "), "{stderr}");
        assert!(stderr.contains(&self.address()), "{stderr}");
        assert!(stderr.contains(cause), "{stderr}");
    }
}

async fn answer(request: fcgi_lib::Request) -> anyhow::Result<u32> {
    let mut out = request.stdout();
    match request.role() {
        fcgi_lib::Role::Responder if request.param("REFUSE").is_some() => {
            request.reject(fcgi_lib::Rejection::Overloaded);
            Ok(0)
        }
        fcgi_lib::Role::Responder => echo::echo(request).await,
        fcgi_lib::Role::Authorizer => {
            out.write_all(format!("Status: 200\r\n\r\n{} params", request.params().len())).await?;
            Ok(0)
        }
        fcgi_lib::Role::Filter => {
            out.write_all(request.stdin().read_to_end(100).await?).await?;
            out.write_all("|").await?;
            out.write_all(request.data().read_to_end(100).await?).await?;
            Ok(0)
        }
    }
}

fn text(output: &Output) -> String {
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn page(rest: &str) -> String {
    format!("Content-Type: text/plain\r\n\r\n{rest}")
}

fn path(path: &Path) -> &str {
    path.to_str().expect("UTF-8")
}

fn record(record_type: RecordType, content: &[u8]) -> Vec<u8> {
    let header = RecordHeader::new(record_type, 1, content.len() as u16);
    let padding = vec![0; header.padding_length.into()];
    [&header.encode(), content, &padding].concat()
}

fn end(protocol_status: u8) -> Vec<u8> {
    let body = EndRequestBody { app_status: 0, protocol_status };
    record(RecordType::EndRequest, &body.encode())
}

#[test]
fn status_0_params_in_order() {
    let output = App::start().run(&["--param", "B=2", "--param", "A=1=1", "--param", "B="]);
    assert_eq!(text(&output), page("B=2\nA=1=1\nB=\n\n"));
    assert!(output.stderr.is_empty());
}

#[test]
fn params_are_bytes() {
    use std::os::unix::ffi::OsStrExt;
    let app = App::start();
    let mut command = app.call(&["--param"]);
    let output = command.arg(std::ffi::OsStr::from_bytes(b"A=\xff")).output().expect("it runs");
    assert!(output.stdout.windows(4).any(|bytes| bytes == b"A=\xff\n"));
}

#[test]
fn status_0_stdin_from_a_file() {
    let app = App::start();
    let body = app.file("body", b"hello");
    let output = app.run(&["--stdin", path(&body)]);
    assert_eq!(text(&output), page("CONTENT_LENGTH=5\n\nhello"));
    let output = app.run(&["--stdin", path(&body), "--param", "CONTENT_LENGTH=3"]);
    assert_eq!(text(&output), page("CONTENT_LENGTH=3\n\nhello"), "what is given is kept");
    let empty = app.file("empty", b"");
    assert_eq!(text(&app.run(&["--stdin", path(&empty)])), page("CONTENT_LENGTH=0\n\n"));
}

#[test]
fn a_file_of_proc_has_more_than_it_says() {
    let output = App::start().run(&["--stdin", "/proc/version"]);
    let version = fs::read_to_string("/proc/version").expect("it can be read");
    let expected = page(&format!("CONTENT_LENGTH={}\n\n{version}", version.len()));
    assert_eq!(text(&output), expected);
}

#[test]
fn a_large_file_comes_back_whole() {
    let app = App::start();
    let body: Vec<u8> = (0..30_000_000_u32).map(|n| (n % 251) as u8).collect();
    let file = app.file("body", &body);
    let output = app.run(&["--stdin", path(&file)]);
    assert_eq!(output.status.code(), Some(0));
    assert!(output.stdout.ends_with(&body), "{} bytes came", output.stdout.len());
}

#[test]
fn status_0_stdin_from_a_pipe() {
    let app = App::start();
    let mut child = app.call(&["--stdin", "-"]);
    let child = child.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn();
    let mut child = child.expect("fcgi call runs");
    child.stdin.take().expect("piped").write_all(b"from a pipe").expect("it reads");
    let output = child.wait_with_output().expect("it ends");
    assert_eq!(text(&output), page("CONTENT_LENGTH=11\n\nfrom a pipe"));
}

#[test]
fn q_15_a_pipe_is_streamed_where_content_length_is_given() {
    let app = App::start();
    let mut child = app.call(&["--stdin", "-", "--param", "CONTENT_LENGTH=8"]);
    let child = child.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn();
    let mut child = child.expect("fcgi call runs");
    let (mut stdin, mut stdout) = child.stdin.take().zip(child.stdout.take()).expect("piped");
    stdin.write_all(b"half").expect("it reads");
    let expected = page("CONTENT_LENGTH=8\n\nhalf");
    let mut half = vec![0; expected.len()];
    stdout.read_exact(&mut half).expect("the first half comes back before the second is sent");
    assert_eq!(half, expected.as_bytes());
    stdin.write_all(b"full").expect("it reads");
    drop(stdin);
    let mut rest = String::new();
    stdout.read_to_string(&mut rest).expect("the rest comes");
    assert_eq!(rest, "full");
    assert_eq!(child.wait().expect("it ends").code(), Some(0));
}

#[test]
fn ends_although_stdin_goes_on() {
    let app = App::with_bytes([record(RecordType::Stdout, b"early"), end(0)].concat());
    let mut child = app.call(&["--stdin", "-", "--param", "CONTENT_LENGTH=8"]);
    let child = child.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn();
    let mut child = child.expect("fcgi call runs");
    let _stdin = child.stdin.take();
    let mut answer = String::new();
    child.stdout.take().expect("piped").read_to_string(&mut answer).expect("an answer");
    assert_eq!(answer, "early");
    assert_eq!(child.wait().expect("it ends").code(), Some(0));
}

#[test]
fn status_0_filter_and_authorizer() {
    let app = App::start();
    let (body, file) = (app.file("body", b"in"), app.file("data", b"file"));
    let output = app.run(&["--role", "filter", "--stdin", path(&body), "--data", path(&file)]);
    assert_eq!(text(&output), "in|file");
    let output = app.run(&["--role", "authorizer", "--stdin", path(&body), "--param", "A=1"]);
    assert_eq!(text(&output), "Status: 200\r\n\r\n1 params", "no CONTENT_LENGTH");
}

/// The names that a path brings depend on the role (FC-6.3-1, FC-6.4-1).
#[test]
fn a_path_is_called_in_every_role() {
    let app = App::start();
    let (body, file) = (app.file("body", b"in"), app.file("data", b"file"));
    let sent = |args: &[&str]| {
        let output = app.run(&[&["/a.php/info?x=1", "--root", "/srv", "-v"], args].concat());
        // Not every answer has a head.
        assert!(!output.stdout.is_empty(), "{output:?}");
        String::from_utf8_lossy(&output.stderr).into_owned()
    };
    let no_authorizer = ["SCRIPT_NAME", "PATH_INFO", "PATH_TRANSLATED", "CONTENT_LENGTH"];
    let responder = sent(&["--stdin", path(&body)]);
    for name in no_authorizer {
        assert!(responder.contains(&format!("{name}=")), "{name}: {responder}");
    }
    let authorizer = ["--role", "authorizer", "--stdin", path(&body)];
    let seen = sent(&authorizer);
    for name in no_authorizer {
        assert!(!seen.contains(&format!("{name}=")), "{name}: {seen}");
    }
    assert!(seen.contains("SCRIPT_FILENAME=/srv/a.php\n"), "{seen}");
    let seen = sent(&[&authorizer[..], &["--param", "PATH_INFO=/mine"]].concat());
    assert!(seen.contains("PATH_INFO=/mine\n") && !seen.contains("SCRIPT_NAME="), "{seen}");
    let filter = ["--role", "filter", "--data", path(&file)];
    let seen = sent(&filter);
    let modified = std::fs::metadata(&file).expect("a file").modified().expect("a time");
    let modified = modified.duration_since(std::time::UNIX_EPOCH).expect("a time").as_secs();
    assert!(seen.contains("FCGI_DATA_LENGTH=4\n"), "{seen}");
    assert!(seen.contains(&format!("FCGI_DATA_LAST_MOD={modified}\n")), "{seen}");
    let seen = sent(&[&filter[..], &["--param", "FCGI_DATA_LENGTH=9"]].concat());
    assert!(
        seen.contains("FCGI_DATA_LENGTH=9\n") && !seen.contains("FCGI_DATA_LENGTH=4"),
        "{seen}"
    );
}

#[test]
fn keep_conn_is_asked_for() {
    let output = App::start().run(&["--keep-conn", "--param", "A=1"]);
    assert_eq!(text(&output), page("A=1\n\n"));
}

#[test]
fn status_1_and_the_response_all_the_same() {
    let app = App::start();
    let output = app.run(&["--param", "ECHO_EXIT=4294967295"]);
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(String::from_utf8_lossy(&output.stdout), page("ECHO_EXIT=4294967295\n\n"));
    app.fail(&["--param", "ECHO_EXIT=3"], 1, "the application ended with status 3");
}

#[test]
fn a_message_starts_on_its_own_line() {
    let output = App::start().run(&["--param", "ECHO_STDERR=oops", "--param", "ECHO_EXIT=1"]);
    let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(stderr.starts_with("oops\nfcgi call: unix:"), "{stderr}");
    assert_eq!(stderr.lines().count(), 2);
}

#[test]
fn status_2_usage() {
    let app = App::start();
    app.fail(&["--stdin", "/nonexistent"], 2, "read /nonexistent: No such file");
    app.fail(&["--role", "filter", "--data", "/nonexistent"], 2, "read /nonexistent: ");
    app.fail(&["--stdin", "/"], 2, "read /: is a directory");
    for args in [
        &["unix"][..],
        &["unix:/x", "--role", "proxy"],
        &["unix:/x", "--param", "A"],
        &["unix:/x", "--timeout", "-1"],
        &["unix:/x", "--timeout", "1e19"],
        &["unix:/x", "--connect-timeout", "NaN"],
        &["-"],
        &[],
    ] {
        let output = fcgi().arg("call").args(args).output().expect("fcgi call runs");
        assert_eq!(output.status.code(), Some(2), "{args:?}");
        assert!(!output.stderr.is_empty() && output.stdout.is_empty(), "{args:?}");
    }
}

#[test]
fn status_3_refused() {
    App::start().fail(&["--param", "REFUSE=1"], 3, "refused with OVERLOADED");
    for (status, name) in [(1, "CANT_MPX_CONN"), (2, "OVERLOADED"), (3, "UNKNOWN_ROLE")] {
        App::with_bytes(end(status)).fail(&[], 3, name);
    }
}

#[test]
fn status_4_protocol_error_or_truncated() {
    App::with_bytes("HTTP/1.1 400 Bad Request\r\n\r\n").fail(&[], 4, "record version 72");
    for (said, likely) in [
        ("HTTP/1.1 400 Bad Request\r\n\r\n", "that is HTTP, not FastCGI"),
        ("<!DOCTYPE HTML>\n<h1>Error response</h1>\n", "that is HTTP, not FastCGI"),
        ("\x15\x03\x01\0\x02\x02\x46\0", "that is TLS, not FastCGI"),
        ("2024 hello\n", "it does not speak FastCGI"),
        ("\x01\x04\0\x01\0\0\0\0", "the application breaks a rule of FastCGI"),
    ] {
        App::with_bytes(said).fail(&[], 4, likely);
    }
    App::with_bytes("").fail(&[], 4, "connection closed before the request ended");
    let app = App::with_bytes(record(RecordType::Stdout, b"some"));
    app.fail(&[], 4, "connection closed before the request ended");
    assert_eq!(app.run(&[]).stdout, b"some", "what came is passed on");
    App::with_bytes(end(9)).fail(&[], 4, "protocol status 9");
}

#[test]
fn status_5_connect_or_io_error() {
    let app = App { folder: tempfile::tempdir().expect("a temporary folder") };
    app.fail(&[], 5, "connect to unix:");
    drop(UnixListener::bind(app.socket()).expect("it listens"));
    app.fail(&[], 5, "Connection refused");
    let app = App::start();
    let mut command = app.call(&[]);
    command.stdout(fs::File::create("/dev/full").expect("it opens"));
    let output = command.output().expect("fcgi call runs");
    let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(5), "{stderr}");
    assert!(stderr.contains("write to stdout: No space left"), "{stderr}");
}

#[test]
fn status_6_time_out() {
    let app = App::start();
    app.fail(&["--timeout", "0.2", "--param", "ECHO_SLEEP_MS=3600000"], 6, "within 200ms");
    let output = app.run(&["--timeout", "1e9", "--connect-timeout", "1e9"]);
    assert_eq!(output.status.code(), Some(0));
}

#[test]
fn a_signal_aborts_the_request() {
    for (name, code) in [("INT", 130), ("TERM", 143)] {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let app = App { folder };
        let listener = UnixListener::bind(app.socket()).expect("it listens");
        let child = app.call(&[]).stderr(Stdio::piped()).spawn().expect("fcgi call runs");
        let (mut stream, _) = listener.accept().expect("a connection");
        let mut seen = Vec::new();
        let mut signalled = false;
        let mut block = [0; 4096];
        // To the end: BEGIN_REQUEST, PARAMS, STDIN, then ABORT_REQUEST.
        while let Ok(n @ 1..) = stream.read(&mut block) {
            seen.extend_from_slice(&block[..n]);
            if !std::mem::replace(&mut signalled, true) {
                let id = child.id().to_string();
                let kill = Command::new("kill").args([&format!("-{name}"), &id]).status();
                assert!(kill.expect("kill runs").success());
            }
        }
        let abort = RecordHeader::new(RecordType::AbortRequest, 1, 0).encode();
        assert!(seen.ends_with(&abort), "SIG{name}: {seen:?}");
        let output = child.wait_with_output().expect("it ends");
        assert_eq!(output.status.code(), Some(code));
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(said.contains(&format!("request aborted by SIG{name}")), "{said}");
    }
}

#[test]
fn a_time_limit_holds_while_stdin_is_silent() {
    let app = App::start();
    let mut command = app.call(&["--stdin", "-", "--timeout", "0.2"]);
    command.args(["--param", "CONTENT_LENGTH=8"]).stdin(Stdio::piped()).stdout(Stdio::null());
    let mut child = command.spawn().expect("fcgi call runs");
    let _stdin = child.stdin.take();
    assert_eq!(child.wait().expect("it ends").code(), Some(6));
}

/// A call whose answer has no end, and whose stdout nobody reads.
fn unread(app: &App, args: &[&str]) -> Child {
    let mut command = app.call(&["--param", "ECHO_REPEAT_BYTES=1000000000000"]);
    command.args(args).stdout(Stdio::piped()).stderr(Stdio::piped());
    command.spawn().expect("fcgi call runs")
}

/// Waits until a thread of a process waits in write(2).
fn until_it_writes(child: &Child) {
    until("a thread waits for its reader", || is_writing(child.id()));
}

fn wait(mut child: Child) -> Option<i32> {
    let mut status = None;
    until("it ends", || {
        status = child.try_wait().expect("it can be waited for");
        status.is_some()
    });
    status.and_then(|status| status.code())
}

#[test]
fn a_time_limit_holds_while_nobody_reads_stdout() {
    let app = App::start();
    assert_eq!(wait(unread(&app, &["--timeout", "0.5"])), Some(6));
}

/// The call went well, but its output did not.
#[test]
fn output_for_programs_that_is_cut_is_no_success() {
    let app = App::start();
    for (forms, status) in [(&["--json"][..], 6), (&["--nagios"], 2), (&["--json", "--docker"], 1)]
    {
        let (stdout, _unread) = full();
        let mut command = app.call(&["--timeout", "1"]);
        command.args(forms).stdout(stdout).stderr(Stdio::null());
        assert_eq!(wait(command.spawn().expect("fcgi call runs")), Some(status), "{forms:?}");
    }
}

#[test]
fn a_signal_ends_it_while_nobody_reads_stdout() {
    let app = App::start();
    for (name, code) in [("INT", 130), ("TERM", 143)] {
        let child = unread(&app, &[]);
        until_it_writes(&child);
        let kill =
            Command::new("kill").args([&format!("-{name}"), &child.id().to_string()]).status();
        assert!(kill.expect("kill runs").success());
        assert_eq!(wait(child), Some(code));
    }
}

/// A call that writes far more to stderr than a pipe holds.
fn unheard(app: &App, args: &[&str]) -> Child {
    let noise = format!("ECHO_STDERR={}", "noise ".repeat(10_000));
    let mut command = app.call(&["--param", &noise, "-v"]);
    let many: Vec<String> = (0..100).map(|n| format!("NAME_{n}={}", "x".repeat(1000))).collect();
    for param in &many {
        command.args(["--param", param]);
    }
    command.args(args).stdout(Stdio::null()).stderr(Stdio::piped());
    command.spawn().expect("fcgi call runs")
}

#[test]
fn a_time_limit_holds_while_nobody_reads_stderr() {
    let app = App::start();
    assert_eq!(wait(unheard(&app, &["--timeout", "0.5"])), Some(6));
}

#[test]
fn a_signal_ends_it_while_nobody_reads_stderr() {
    let app = App::start();
    for (name, code) in [("INT", 130), ("TERM", 143)] {
        let child = unheard(&app, &["--timeout", "0"]);
        until_it_writes(&child);
        let kill =
            Command::new("kill").args([&format!("-{name}"), &child.id().to_string()]).status();
        assert!(kill.expect("kill runs").success());
        assert_eq!(wait(child), Some(code));
    }
}

#[test]
fn a_time_limit_holds_while_nobody_reads_the_file() {
    let app = App::start();
    let pipe = app.folder.path().join("pipe");
    assert!(Command::new("mkfifo").arg(&pipe).status().expect("mkfifo runs").success());
    let args = ["-o", path(&pipe), "--timeout", "0.5"];
    assert_eq!(wait(unread(&app, &args)), Some(6));
}

/// A comma belongs to the value.
#[test]
fn variables_have_a_value_a_line() {
    let app = App::start();
    let with = |name: &str, value: &str| {
        let output = app.call(&["/x"]).env(name, value).output().expect("fcgi call runs");
        assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
        text(&output)
    };
    let seen = with("FCGI_CALL_HEADER", "Accept: text/html, text/plain\nX-Other: 1");
    for part in ["HTTP_ACCEPT=text/html, text/plain", "HTTP_X_OTHER=1"] {
        assert!(seen.contains(part), "{part}: {seen}");
    }
    for name in ["FCGI_CALL_DATA_ASCII", "FCGI_CALL_DATA_BINARY"] {
        let seen = with(name, "a=1,2");
        assert!(seen.contains("CONTENT_LENGTH=5\n"), "{seen}");
    }
    let seen = with("FCGI_CALL_FORM", "a=1,2");
    assert!(seen.contains("1,2"), "{seen}");
}

#[test]
fn a_reader_that_has_had_enough_is_no_failure() {
    let app = App::start();
    let mut command = app.call(&["--param", "ECHO_REPEAT_BYTES=1000000000000"]);
    let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn();
    let mut child = child.expect("fcgi call runs");
    let mut some = [0; 1000];
    let mut stdout = child.stdout.take().expect("piped");
    stdout.read_exact(&mut some).expect("it starts");
    drop(stdout);
    let output = child.wait_with_output().expect("it ends");
    assert_eq!(String::from_utf8_lossy(&output.stderr), "");
    assert_eq!(output.status.code(), Some(0));
}

#[test]
fn h_10_stderr_is_escaped_for_a_terminal_only() {
    let app = App::start();
    let args = ["--param", "ECHO_STDERR=\x1b[2J caf\u{e9}\tx\u{9b}1m\n", "--param", "ECHO_EXIT=7"];
    let output = app.run(&args);
    assert!(output.stderr.starts_with(b"\x1b[2J caf\xc3\xa9\tx\xc2\x9b1m\n"), "raw");

    let pty = Pty::open();
    let mut command = app.call(&args);
    command.stdout(Stdio::null()).stderr(pty.end());
    let (shown, status) = pty.run(command);
    assert_eq!(status, 1);
    let message = format!("fcgi call: {}: the application ended with status 7\r\n", app.address());
    assert_eq!(shown, format!("\\x1b[2J café\tx\\xc2\\x9b1m\r\n{message}"));
}

#[test]
fn help_and_version() {
    let run = |args: &[&str]| text(&fcgi().args(args).output().expect("fcgi runs"));
    assert_eq!(run(&["--version"]), concat!("fcgi ", env!("CARGO_PKG_VERSION"), "\n"));
    let help = run(&["--help"]);
    assert!(help.contains("FastCGI is how web servers"), "{help}");
    assert!(help.contains("fcgi demo\n"), "{help}");
    let help = run(&["call", "--help"]);
    for part in ["Exit status:", "--param SCRIPT_NAME=/ping", "--stdin -", "--role filter"] {
        assert!(help.contains(part), "{help}");
    }
    assert_eq!(fcgi().output().expect("fcgi runs").status.code(), Some(2), "nothing to do");
}
