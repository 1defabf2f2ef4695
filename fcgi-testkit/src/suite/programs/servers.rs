//! How servers end: signals, descriptor 0, and addresses that can't be listened on.

use std::{
    io::ErrorKind,
    net::{TcpListener, TcpStream},
    os::{
        fd::{AsRawFd, OwnedFd},
        unix::net::{UnixListener, UnixStream},
    },
    path::Path,
    process::Stdio,
};

use super::{Running, proc_status};
use crate::suite::{Case, Suite, signal::until, wire::*};

pub(super) const CASES: &[(&str, Case)] = cases![
    "programs":
    sigterm_finishes_requests_and_exits_0_fc_7_1,
    sigint_finishes_requests_and_exits_0,
    sigterm_ends_an_idle_server_fc_7_1,
    hello_says_hello_and_leaves_at_sigterm,
    tcp_addresses_are_listened_on,
    the_socket_of_a_killed_server_is_replaced,
    descriptor_0_is_listened_on_fc_2_2_1,
    descriptor_0_is_given_up_when_it_was_taken_over_fc_2_2_1,
    descriptor_0_over_tcp_and_web_server_addrs_fc_3_2_1,
    servers_that_cannot_listen_say_why,
];

fn finishes_its_request_after(suite: &Suite, signal: &str) {
    let mut echo = suite.programs().start("echo");
    let mut peer = echo.dial();
    // GET_VALUES is sent together with the request, after it: its answer shows that the request
    // runs.
    let pairs = [("ECHO_SLEEP_MS", "700")];
    peer.send([request(1, KEEP, &pairs, b"body"), record(Type::GetValues, 0, b"")].concat());
    assert_eq!(peer.record().kind, Type::GetValuesResult);
    echo.signal(signal);
    let expected = "Content-Type: text/plain\r\n\r\nECHO_SLEEP_MS=700\n\nbody";
    assert_eq!(peer.answer(1), complete(expected));
    peer.expect_close();
    assert_eq!(echo.exit_status().code(), Some(0));
    assert!(!echo.path().exists());
}

fn sigterm_finishes_requests_and_exits_0_fc_7_1(suite: &Suite) {
    finishes_its_request_after(suite, "-TERM");
}

fn sigint_finishes_requests_and_exits_0(suite: &Suite) {
    finishes_its_request_after(suite, "-INT");
}

fn sigterm_ends_an_idle_server_fc_7_1(suite: &Suite) {
    for name in ["echo", "hello"] {
        let mut server = suite.programs().start(name);
        // One connection that was never used, and one that waits for its next request.
        let (mut silent, mut kept) = (server.dial(), server.dial());
        kept.send(request(1, KEEP, &[], b""));
        assert_eq!(kept.answer(1).app_status, 0);
        server.signal("-TERM");
        silent.expect_close();
        kept.expect_close();
        assert_eq!(server.exit_status().code(), Some(0), "{name}");
    }
}

fn hello_says_hello_and_leaves_at_sigterm(suite: &Suite) {
    let programs = suite.programs();
    for threads in ["1", "2"] {
        let mut hello = programs.start_with("hello", |command| {
            command.env("FCGI_THREADS", threads);
        });
        for role in ["responder", "filter", "authorizer"] {
            let output = programs.call(&[&hello.address, "--role", role]);
            assert_eq!(output.stdout, b"Content-Type: text/plain\r\n\r\nHello, world\n");
        }
        if threads == "1" {
            let threads = proc_status(hello.child.id(), "Threads");
            assert!(threads <= suite.adapter.fewest_threads(), "{threads} threads");
        }
        hello.signal("-TERM");
        assert_eq!(hello.exit_status().code(), Some(0));
    }
}

fn tcp_addresses_are_listened_on(suite: &Suite) {
    let programs = suite.programs();
    // A port that was free a moment ago may be taken now, but not ten times.
    let served = (0..10).any(|_| {
        let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let address = format!("tcp:localhost:{}", free.port());
        let child = programs.command("echo").arg(format!("tcp:{free}")).spawn().unwrap();
        let mut echo = Running { child, address, folder: tempfile::tempdir().unwrap() };
        let mut gone = false;
        until("it listens or ends", || {
            gone = echo.child.try_wait().unwrap().is_some();
            gone || TcpStream::connect(free).is_ok()
        });
        if gone {
            return false;
        }
        let output = programs.call_with(b"over tcp", &[&echo.address, "--stdin", "-"]);
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        assert!(output.stdout.ends_with(b"CONTENT_LENGTH=8\n\nover tcp"));
        echo.signal("-TERM");
        assert_eq!(echo.exit_status().code(), Some(0));
        true
    });
    assert!(served);
}

fn the_socket_of_a_killed_server_is_replaced(suite: &Suite) {
    let programs = suite.programs();
    let mut killed = programs.start("echo");
    killed.signal("-KILL");
    assert_eq!(killed.exit_status().code(), None);
    assert!(killed.path().exists(), "nobody could remove it");
    let next = programs.command("echo").arg(&killed.address).spawn().unwrap();
    killed.child = next;
    until("it listens", || killed.listens());
    assert!(programs.call(&[&killed.address]).status.success());
    // The socket of a running server is not replaced.
    let output = programs.command("hello").arg(&killed.address).output().unwrap();
    assert!(!output.status.success());
    assert!(String::from_utf8_lossy(&output.stderr).contains("in use"), "{output:?}");
    assert!(programs.call(&[&killed.address]).status.success());
}

fn descriptor_0_is_listened_on_fc_2_2_1(suite: &Suite) {
    let programs = suite.programs();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("given.sock");
    let address = format!("unix:{}", path.display());
    let given = OwnedFd::from(UnixListener::bind(&path).unwrap());
    let child = programs.command("echo").arg("-").stdin(Stdio::from(given)).spawn().unwrap();
    let mut echo = Running { child, address, folder };
    let output = programs.call(&[&echo.address, "--param", "A=1"]);
    assert_eq!(output.stdout, b"Content-Type: text/plain\r\n\r\nA=1\n\n");
    echo.signal("-TERM");
    assert_eq!(echo.exit_status().code(), Some(0));
    assert!(path.exists(), "the web server's socket is not ours to remove");
}

/// The descriptors of a process that refer to this file.
fn descriptors(pid: u32, file: &Path) -> Vec<String> {
    let folder = format!("/proc/{pid}/fd");
    let names = std::fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().file_name());
    let names = names.map(|name| name.into_string().unwrap());
    names
        .filter(|n| std::fs::read_link(format!("{folder}/{n}")).is_ok_and(|to| to == file))
        .collect()
}

fn descriptor_0_is_given_up_when_it_was_taken_over_fc_2_2_1(suite: &Suite) {
    const CLOSE_ON_EXEC: u32 = 0o2_000_000;
    let programs = suite.programs();
    let (folder, path, address) = unix_address();
    let given = UnixListener::bind(&path).unwrap();
    let socket = format!("/proc/self/fd/{}", given.as_raw_fd());
    let socket = std::fs::read_link(socket).unwrap();
    let stdin = Stdio::from(OwnedFd::from(given));
    // The command holds this process's copy; it is dropped after this line.
    let child = programs.command("echo").arg("-").stdin(stdin).spawn().unwrap();
    let mut echo = Running { child, address: address.to_string(), folder };
    let mut peer = echo.dial();
    peer.send([begin(1, RESPONDER, KEEP), params(1, &[("A", "1")])].concat());
    peer.expect_stdout(1, "Content-Type: text/plain\r\n\r\nA=1\n\n");
    // The children don't inherit it, and it is no longer open as descriptor 0.
    let pid = echo.child.id();
    let zero = std::fs::read_link(format!("/proc/{pid}/fd/0")).unwrap();
    assert_eq!(zero, Path::new("/dev/null"));
    for fd in descriptors(pid, &socket) {
        let info = std::fs::read_to_string(format!("/proc/{pid}/fdinfo/{fd}")).unwrap();
        let flags = info.lines().find_map(|line| line.strip_prefix("flags:")).unwrap();
        let flags = u32::from_str_radix(flags.trim(), 8).unwrap();
        assert_ne!(flags & CLOSE_ON_EXEC, 0, "descriptor {fd}: {flags:o}");
    }
    // Nobody else listens, so connections to an application that is shutting down are refused.
    echo.signal("-TERM");
    until("it takes no more connections", || {
        let error = UnixStream::connect(&path).err();
        error.is_some_and(|error| error.kind() == ErrorKind::ConnectionRefused)
    });
    peer.send(close(Type::Stdin, 1));
    assert_eq!(peer.answer(1), complete(""), "its request was under way");
    assert_eq!(echo.exit_status().code(), Some(0));
}

fn descriptor_0_over_tcp_and_web_server_addrs_fc_3_2_1(suite: &Suite) {
    let programs = suite.programs();
    for (list, served) in [
        ("127.0.0.1", true),
        ("192.0.2.1,127.0.0.1", true),
        ("::ffff:127.0.0.1", true),
        ("192.0.2.1", false),
        ("nonsense", false),
        ("", true),
    ] {
        let given = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = format!("tcp:{}", given.local_addr().unwrap());
        let child = programs
            .command("hello")
            .arg("-")
            .env("FCGI_WEB_SERVER_ADDRS", list)
            .stdin(Stdio::from(OwnedFd::from(given)))
            .spawn()
            .unwrap();
        let hello = Running { child, address, folder: tempfile::tempdir().unwrap() };
        let output = programs.call(&[&hello.address]);
        if served {
            assert!(output.status.success(), "{list:?}");
            assert!(output.stdout.ends_with(b"Hello, world\n"));
        } else {
            let said = String::from_utf8_lossy(&output.stderr);
            assert_eq!(output.status.code(), Some(4), "closed without a word: {said}");
        }
    }
    // A unix socket's peer is not in the list of addresses.
    let hello = programs.start_with("hello", |command| {
        command.env("FCGI_WEB_SERVER_ADDRS", "127.0.0.1");
    });
    hello.dial().expect_close();
}

fn servers_that_cannot_listen_say_why(suite: &Suite) {
    for name in ["echo", "hello"] {
        for (args, cause) in [
            (&[][..], "usage"),
            (&["9000"], "unix:PATH"),
            (&["unix:/no/such/folder/app.sock"], "No such file"),
            (&["-"], "not a listening socket"),
        ] {
            let mut command = suite.programs().command(name);
            let output = command.args(args).stdin(Stdio::null()).output().unwrap();
            assert!(!output.status.success(), "{name} {args:?}");
            let stderr = String::from_utf8_lossy(&output.stderr);
            assert!(stderr.contains(cause), "{name} {args:?}: {stderr}");
        }
    }
}
