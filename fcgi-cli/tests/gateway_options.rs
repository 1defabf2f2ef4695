//! `fcgi gateway`: where its options come from, and where it listens.

mod common;

use std::{
    fs,
    io::{Read, Write},
    net::TcpListener,
    os::unix::{
        fs::MetadataExt,
        net::{UnixListener, UnixStream},
    },
    path::Path,
    process::{Command, Output},
};

use common::gateway::{App, Gateway, PAGE, Root, text};

fn ask_unix(path: &std::path::Path, target: &str) -> String {
    let mut stream = UnixStream::connect(path).expect("it listens");
    let request = format!("GET {target} HTTP/1.1\r\nHost: a.example\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).expect("send");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("an answer");
    answer
}

fn run(args: &[&str]) -> Output {
    common::fcgi().args(args).output().expect("fcgi runs")
}

#[test]
fn every_option_can_be_a_variable() {
    let (app, root) = (App::start(), Root::new());
    let mut command = common::fcgi();
    command.arg("gateway");
    for (name, value) in [
        ("FCGI_ADDR", &*app.address),
        ("FCGI_GATEWAY_ROOT", &root.arg()),
        ("FCGI_GATEWAY_LISTEN", "127.0.0.1:0,127.0.0.1:0"),
        ("FCGI_GATEWAY_QUIET", "true"),
        ("FCGI_GATEWAY_PARAM", "APP_ENV=a,b\nOTHER=c"),
        ("FCGI_GATEWAY_INDEX", "page.txt"),
        ("FCGI_GATEWAY_MAX_BODY", "10"),
        ("FCGI_GATEWAY_FOLLOW_LINKS", ""),
        ("FCGI_GATEWAY_SPLIT", ""),
    ] {
        command.env(name, value);
    }
    let gateway = Gateway::run(command);
    assert_eq!(gateway.line.matches("http://127.0.0.1:").count(), 2, "{}", gateway.line);
    let body = text(&gateway.get("/app.php"));
    assert!(body.contains("APP_ENV=a,b\n") && body.contains("OTHER=c\n"), "{body}");
    assert_eq!(text(&gateway.get("/")), PAGE);
    assert_eq!(gateway.connect().post("/app.php", 11).expect("an answer").head.status, 413);
    assert_eq!(gateway.access_log(), "", "it is quiet");
}

#[test]
fn the_command_line_goes_before_the_environment() {
    let root = Root::new();
    let mut command = common::fcgi();
    command.env("FCGI_ADDR", "unix:/no/such").env("FCGI_GATEWAY_INDEX", "index.html");
    command.env("FCGI_GATEWAY_MOUNT", "/app");
    let app = App::start();
    let args = [&app.address, "--root", &root.arg(), "--index", "page.txt", "--mount", "/"];
    let gateway = Gateway::spawn(command, &args);
    assert!(gateway.line.contains(&app.address), "{}", gateway.line);
    assert_eq!(text(&gateway.get("/")), PAGE);
    assert!(text(&gateway.get("/x")).contains("PATH_INFO=/x\n"));

    // Even where the two can't be together.
    let mut command = common::fcgi();
    command.env("FCGI_ADDR", "unix:/no/such");
    let gateway = Gateway::spawn(command, &["--spawn", "sleep 1000", "--mount", "/"]);
    assert!(gateway.line.contains("the program sleep 1000"), "{}", gateway.line);
}

#[test]
fn a_switch_is_on_or_off() {
    let (app, root) = (App::start(), Root::new());
    fs::write(root.path().join("../outside.txt"), PAGE).expect("a file");
    common::gateway::link(Path::new("../outside.txt"), &root.path().join("link.txt"));
    let args = ["gateway", &app.address, "--root", &root.arg(), "--listen", "127.0.0.1:0"];
    for (value, status) in [("on", 200), ("TRUE", 200), ("1", 200), ("off", 404), ("no", 404)] {
        let name = "FCGI_GATEWAY_FOLLOW_LINKS";
        let gateway = Gateway::start_with_env(name, value, &args[1..4]);
        assert_eq!(gateway.get("/link.txt").head.status, status, "{value}");
    }
    for wrong in ["maybe", "of", "2", " on"] {
        let mut command = common::fcgi();
        let output = command.args(args).env("FCGI_GATEWAY_FOLLOW_LINKS", wrong).output();
        let output = output.expect("it runs");
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{wrong}: {stderr}");
        assert!(stderr.contains("--follow-links") && stderr.contains("on or off"), "{stderr}");
    }
}

#[test]
fn the_two_pages_inside_have_paths_of_their_own() {
    let output = run(&["gateway", "--listen", "127.0.0.1:0", "--ready", "/-/metrics"]);
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{stderr}");
    assert!(stderr.contains("--ready") && stderr.contains("--metrics"), "{stderr}");
}

/// As a block of YAML has them, or a file with CRLF.
#[test]
fn lines_of_a_variable_may_end_in_any_way() {
    let (app, root) = (App::start(), Root::new());
    let args = [&*app.address, "--root", &root.arg()];
    for lines in ["/plain\n*.txt\n", "\n/plain\n\n*.txt\n\n", "/plain\r\n*.txt\r\n"] {
        let gateway = Gateway::start_with_env("FCGI_GATEWAY_DENY", lines, &args);
        for (target, status) in [("/", 200), ("/plain/", 403), ("/page.txt", 403)] {
            assert_eq!(gateway.get(target).head.status, status, "{target}, {lines:?}");
        }
    }
    for lines in ["A=b\n\nC=d e\n", "A=b\r\nC=d e\r\n"] {
        let gateway = Gateway::start_with_env("FCGI_GATEWAY_PARAM", lines, &args);
        let body = text(&gateway.get("/app.php"));
        assert!(body.contains("A=b\n") && body.contains("C=d e\n"), "{lines:?}: {body}");
    }
    let wrong = run(&["gateway", "--listen", "127.0.0.1:0", "--param", "=x"]);
    assert_eq!(wrong.status.code(), Some(2), "no name");
    // An empty pattern denies nothing, and `/` everything.
    for (pattern, status) in [("", 200), ("/", 403)] {
        let gateway = Gateway::start(&[&args[..], &["--deny", pattern]].concat());
        assert_eq!(gateway.get("/page.txt").head.status, status, "{pattern:?}");
    }
}

/// As people write lists.
#[test]
fn lists_in_a_variable_may_have_spaces() {
    let (app, root) = (App::start(), Root::new());
    let second = App::start();
    let addresses = format!(" {} ,  {}", app.address, second.address);
    let mut command = common::fcgi();
    command.arg("gateway");
    for (name, value) in [
        ("FCGI_ADDR", &*addresses),
        ("FCGI_GATEWAY_ROOT", &root.arg()),
        ("FCGI_GATEWAY_LISTEN", "127.0.0.1:0, 127.0.0.1:0"),
        ("FCGI_GATEWAY_INDEX", "none.html, page.txt"),
        ("FCGI_GATEWAY_SPLIT", ".none ,\t.php"),
        ("FCGI_GATEWAY_FRONT", "sub/index.php, app.php"),
        ("FCGI_GATEWAY_FILES", "/none, /plain "),
        ("FCGI_GATEWAY_TRUSTED_PROXY", "10.0.0.0/8, 127.0.0.1"),
    ] {
        command.env(name, value);
    }
    let gateway = Gateway::run(command);
    assert_eq!(gateway.line.matches("http://127.0.0.1:").count(), 2, "{}", gateway.line);
    assert_eq!(text(&gateway.get("/")), PAGE);
    assert_eq!(gateway.get("/plain/none").head.status, 404);
    let reply = gateway.ask("GET", "/app.php/x", &[("X-Forwarded-For", "192.0.2.1")]);
    assert!(text(&reply).contains("REMOTE_ADDR=192.0.2.1\n"), "{}", text(&reply));
    assert!(text(&gateway.get("/nothing")).contains("SCRIPT_NAME=/app.php\n"));
    // On the command line a value is taken as it is.
    fs::write(root.path().join(" x"), "spaces").expect("a file");
    let args = [&*app.address, "--root", &root.arg(), "--index", " x"];
    assert_eq!(text(&Gateway::start(&args).get("/")), "spaces");
}

/// A limit that has passed before it starts would refuse everything.
#[test]
fn a_time_limit_is_more_than_nothing() {
    for option in [
        "--timeout",
        "--connect-timeout",
        "--first-byte-timeout",
        "--next-byte-timeout",
        "--client-timeout",
    ] {
        for zero in ["0", "0.0", "-0"] {
            let output = run(&["gateway", "--listen", "127.0.0.1:0", &format!("{option}={zero}")]);
            let stderr = String::from_utf8_lossy(&output.stderr);
            assert_eq!(output.status.code(), Some(2), "{option} {zero}: {stderr}");
            assert!(stderr.contains(option) && stderr.contains("more than 0"), "{stderr}");
        }
    }
}

#[test]
fn help_names_the_variables() {
    let Output { stdout, .. } =
        common::fcgi().args(["gateway", "--help"]).output().expect("it runs");
    let help = String::from_utf8(stdout).expect("text");
    for name in ["FCGI_ADDR", "FCGI_GATEWAY_LISTEN", "FCGI_GATEWAY_MAX_BODY", "FCGI_GATEWAY_QUIET"]
    {
        assert!(help.contains(&format!("[env: {name}")), "{name} in\n{help}");
    }
    let all = help.matches("\n      --").count() + help.matches("\n  -q, --").count();
    let named = help.matches("[env: FCGI_GATEWAY_").count();
    assert_eq!(named, all, "{help}");
}

#[test]
fn unix_sockets_have_a_mode_an_owner_and_a_group() {
    let (app, folder) = (App::start(), tempfile::tempdir().expect("a folder"));
    let path = folder.path().join("socket");
    let listen = format!("unix:{}", path.display());
    let own = fs::metadata(folder.path()).expect("it is there");
    let (owner, group) = (own.uid().to_string(), own.gid().to_string());
    let args = [&app.address, "--mount", "/", "--listen", &listen];
    for (options, mode) in [
        (&["--listen-mode", "0666"][..], 0o666),
        (&["--listen-mode", "660", "--listen-group", &group], 0o660),
        (&["--listen-mode", "600", "--listen-owner", &owner, "--listen-group", &group], 0o600),
    ] {
        let _gateway = Gateway::start(&[&args[..], options].concat());
        let file = fs::metadata(&path).expect("it listens");
        assert_eq!(file.mode() & 0o7777, mode, "{options:?}");
        assert_eq!((file.uid(), file.gid()), (own.uid(), own.gid()), "{options:?}");
        assert!(ask_unix(&path, "/x").contains("REMOTE_ADDR=unix:\n"));
    }
    // Root can give them to another user.
    if own.uid() == 0 {
        let others = ["--listen-owner", "12345", "--listen-group", "23456"];
        let _gateway = Gateway::start(&[&args[..], &others].concat());
        let file = fs::metadata(&path).expect("it listens");
        assert_eq!((file.uid(), file.gid()), (12345, 23456));
    }
    for (options, code, reason) in [
        (&["--listen-mode", "999"][..], 2, "such as 660"),
        (&["--listen-mode", "77777"], 2, "such as 660"),
        (&["--listen-mode", "+660"], 2, "such as 660"),
        (&["--listen-group", "no-such-group"], 5, "no-such-group"),
        (&["--listen-owner", ""], 2, "--listen-owner"),
    ] {
        let output = run(&[&["gateway"], &args[..], options].concat());
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(code), "{options:?}: {stderr}");
        assert!(stderr.contains(reason), "{options:?}: {stderr}");
    }
    let output = run(&["gateway", "--listen", "127.0.0.1:0", "--listen-mode", "660"]);
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{stderr}");
    assert!(stderr.contains("--listen unix:PATH"), "{stderr}");
}

#[test]
fn it_listens_at_unix_sockets() {
    let (app, root) = (App::start(), Root::new());
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("http.sock");
    let listen = format!("unix:{}", path.display());
    let args = [&app.address, "--root", &root.arg(), "--listen", &listen];
    let mut gateway = Gateway::start(&args);
    assert!(gateway.line.contains(&format!("/ and {listen} serve ")), "{}", gateway.line);
    assert!(ask_unix(&path, "/page.txt").ends_with(PAGE));
    let answer = ask_unix(&path, "/app.php");
    for line in ["REMOTE_ADDR=unix:\n", "SERVER_NAME=a.example\n", "SERVER_PORT=80\n"] {
        assert!(answer.contains(line), "{answer}");
    }
    common::gateway::until("both are logged", || gateway.access_log().lines().count() == 2);
    assert!(gateway.access_log().starts_with("unix: - - ["), "{}", gateway.access_log());
    gateway.signal(rustix::process::Signal::TERM);
    assert_eq!(gateway.wait().code(), Some(0));
    assert!(!path.exists(), "its file is removed");
}

#[test]
fn systemds_sockets_are_listened_at() {
    let (app, root) = (App::start(), Root::new());
    let tcp = TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = tcp.local_addr().expect("an address").port();
    // The shell puts it where systemd would.
    let mut command = Command::new("sh");
    let script = "exec 3<&0 </dev/null; LISTEN_PID=$$ LISTEN_FDS=1 exec \"$@\"";
    command.args(["-c", script, "sh"]).arg(common::fcgi().get_program());
    command.args(["gateway", &app.address, "--root", &root.arg()]);
    command.stdin(std::os::fd::OwnedFd::from(tcp));
    let gateway = Gateway::run(command);
    assert_eq!(gateway.port, port);
    assert!(!gateway.line.contains(" and "), "that one alone: {}", gateway.line);
    assert_eq!(text(&gateway.get("/page.txt")), PAGE);

    // More than there are: only the first missing one is reported.
    let mut command = Command::new("sh");
    let script = "exec 3<&0 </dev/null; LISTEN_PID=$$ LISTEN_FDS=30 exec \"$@\"";
    command.args(["-c", script, "sh"]).arg(common::fcgi().get_program());
    command.args(["gateway", &app.address]);
    command.stdin(std::os::fd::OwnedFd::from(TcpListener::bind("127.0.0.1:0").expect("a port")));
    let output = command.output().expect("it runs");
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(5), "{said}");
    assert_eq!(said.lines().count(), 1, "{said}");
    assert!(said.contains("that systemd passed"), "{said}");

    // They were passed to another process.
    let folder = tempfile::tempdir().expect("a folder");
    let mut command = Command::new("sh");
    command.args(["-c", "LISTEN_PID=1 LISTEN_FDS=1 exec \"$@\"", "sh"]);
    command.arg(common::fcgi().get_program());
    let gateway = Gateway::spawn(command, &[&app.address, "--root", &root.arg()]);
    assert_ne!(gateway.port, port);
    drop(folder);
}

/// Somebody else who has the same socket may shut it down. The gateway must not look at it without
/// end.
#[cfg(target_os = "linux")]
#[test]
fn a_listener_that_somebody_shuts_down_ends_the_gateway() {
    let (app, root) = (App::start(), Root::new());
    let listener = UnixListener::bind(root.path().join("../http")).expect("a socket");
    let mut command = Command::new("sh");
    let script = "exec 3<&0 </dev/null; LISTEN_PID=$$ LISTEN_FDS=1 exec \"$@\"";
    command.args(["-c", script, "sh"]).arg(common::fcgi().get_program());
    command.stdin(std::os::fd::OwnedFd::from(listener.try_clone().expect("a socket")));
    let mut gateway = Gateway::spawn(command, &[&app.address, "--root", &root.arg()]);
    assert_eq!(text(&gateway.get("/page.txt")), PAGE);
    rustix::net::shutdown(&listener, rustix::net::Shutdown::Both).expect("a socket");
    assert_eq!(gateway.wait().code(), Some(5), "{}", gateway.error_log());
    assert!(gateway.error_log().contains("somebody has shut it down"), "{}", gateway.error_log());
}
