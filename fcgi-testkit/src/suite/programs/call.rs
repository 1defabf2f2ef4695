//! `call`'s exit statuses, each; and `blast`.

use std::{
    fs::File,
    io::{Read, Write},
    net::{TcpListener, TcpStream},
    os::{
        fd::OwnedFd,
        unix::net::{UnixListener, UnixStream},
    },
    time::Duration,
};

use super::{Running, assert_fails};
use crate::suite::{Case, Suite, signal::until, wire::*};

pub(super) const CASES: &[(&str, Case)] = cases![
    "programs":
    call_exit_2_usage,
    call_exit_3_refused,
    call_exit_4_truncated_or_protocol_error,
    call_exit_5_connect_or_io_error,
    call_exit_6_time_out,
    call_exit_6_connect_time_out,
    blast_counts_its_requests,
    an_address_is_taken_as_people_write_it,
];

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

fn call_exit_2_usage(suite: &Suite) {
    let programs = suite.programs();
    for args in [
        &[][..],
        &["9000"],
        &["tcp:127.0.0.1:9000", "--role", "president"],
        &["tcp:127.0.0.1:9000", "--param", "no equals sign"],
        &["tcp:127.0.0.1:9000", "--timeout", "soon"],
        &["tcp:127.0.0.1:9000", "--timeout", "-1"],
        &["tcp:127.0.0.1:9000", "--no-such-option"],
    ] {
        let output = programs.call(args);
        assert_eq!(output.status.code(), Some(2), "{args:?}");
        assert!(!output.stderr.is_empty(), "{args:?}");
    }
    assert_fails(&programs.call(&["-"]), 2, "-", "can be called");
    let output = programs.call(&["tcp:127.0.0.1:9000", "--stdin", "/no/such/file"]);
    assert_fails(&output, 2, "tcp:127.0.0.1:9000", "/no/such/file");
}

fn call_exit_3_refused(suite: &Suite) {
    for (status, name) in [(1, "CANT_MPX_CONN"), (2, "OVERLOADED"), (3, "UNKNOWN_ROLE")] {
        let (_folder, address) = raw(Some(end(1, 0, status)));
        assert_fails(&suite.programs().call(&[&address]), 3, &address, name);
    }
}

fn call_exit_4_truncated_or_protocol_error(suite: &Suite) {
    let (_folder, address) = raw(Some(record(Type::Stdout, 1, b"partial!")));
    let output = suite.programs().call(&[&address]);
    assert_fails(&output, 4, &address, "closed before the request ended");
    assert_eq!(output.stdout, b"partial!", "after the bytes that came");
    let (_folder, address) = raw(Some(b"HTTP/1.1 400 Bad Request\r\n\r\n".to_vec()));
    assert_fails(&suite.programs().call(&[&address]), 4, &address, "version");
}

fn call_exit_5_connect_or_io_error(suite: &Suite) {
    let address = "unix:/no/such/socket";
    assert_fails(&suite.programs().call(&[address]), 5, address, "No such file");
    // A port that nobody listens at any more.
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = format!("tcp:{}", listener.local_addr().unwrap());
    drop(listener);
    assert_fails(&suite.programs().call(&[&address]), 5, &address, "refused");
    // A response that can't be written.
    let (_folder, address) = raw(Some(answer(1, b"hello")));
    let full = File::options().write(true).open("/dev/full").unwrap();
    let output = suite.programs().command("call").arg(&address).stdout(full).output().unwrap();
    assert_fails(&output, 5, &address, "No space left");
}

fn call_exit_6_time_out(suite: &Suite) {
    let (_folder, address) = raw(None);
    let output = suite.programs().call(&[&address, "--timeout", "0.2"]);
    assert_fails(&output, 6, &address, "200ms");
    // The first bytes are there, the others never come.
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("raw.sock");
    let listener = UnixListener::bind(&path).unwrap();
    std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        stream.write_all(&record(Type::Stdout, 1, b"partial!")).unwrap();
        while stream.read(&mut [0; 4096]).is_ok_and(|n| n > 0) {}
    });
    let address = format!("unix:{}", path.display());
    let output = suite.programs().call(&[&address, "--timeout", "4.5"]);
    assert_fails(&output, 6, &address, "4.5s");
    assert_eq!(output.stdout, b"partial!", "after the bytes that came");
}

fn call_exit_6_connect_time_out(suite: &Suite) {
    // A backlog that is full: the system drops what asks for more.
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    rustix::net::listen(&listener, 0).unwrap();
    let address = listener.local_addr().unwrap();
    let connect = |_| TcpStream::connect_timeout(&address, Duration::from_millis(300)).ok();
    let connected: Vec<_> = (0..10).map_while(connect).collect();
    assert!(connected.len() < 10, "no backlog is that long");
    let address = format!("tcp:{address}");
    for option in ["--connect-timeout", "--timeout"] {
        let output = suite.programs().call(&[&address, option, "0.3"]);
        assert_fails(&output, 6, &address, "300ms");
    }
}

fn blast_counts_its_requests(suite: &Suite) {
    let programs = suite.programs();
    let hello = programs.start("hello");
    let output = programs.command("blast").args([&hello.address, "500", "3"]).output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let fields: Vec<_> = text.split_whitespace().filter_map(|f| f.split_once('=')).collect();
    assert_eq!(
        fields.iter().map(|field| field.0).collect::<Vec<_>>(),
        ["requests", "seconds", "rps"]
    );
    assert_eq!(fields[0].1, "500", "{text}");
    assert!(
        fields[1..].iter().all(|field| field.1.parse::<f64>().is_ok_and(|n| n > 0.0)),
        "{text}"
    );
    assert_eq!(text.lines().count(), 1, "{text}");
    let output = programs.command("blast").args(["-", "1", "1"]).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.starts_with("blast: -: "), "{said}");
}

fn an_address_is_taken_as_people_write_it(suite: &Suite) {
    let programs = suite.programs();
    let hello = programs.start("hello");
    let path = hello.path().display().to_string();
    let given = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = given.local_addr().unwrap().port();
    let child = programs.command("hello").arg("-").stdin(OwnedFd::from(given)).spawn().unwrap();
    let _tcp = Running { child, address: String::new(), folder: tempfile::tempdir().unwrap() };
    let by_path = ["unix:", "unix://", ""].map(|scheme| format!("{scheme}{path}"));
    let by_host =
        ["tcp:", "tcp://", "fcgi://", ""].map(|scheme| format!("{scheme}127.0.0.1:{port}"));
    for address in by_path.into_iter().chain(by_host).chain([format!(":{port}")]) {
        let output = programs.call(&[&address]);
        assert!(output.status.success(), "{address}: {output:?}");
        assert!(output.stdout.ends_with(b"Hello, world\n"), "{address}: {output:?}");
    }
    // A path from the working directory, for both ends.
    let folder = tempfile::tempdir().unwrap();
    let mut command = programs.command("hello");
    let child = command.arg("./app.sock").current_dir(folder.path()).spawn().unwrap();
    let address = format!("unix:{}/app.sock", folder.path().display());
    let here = Running { child, address, folder };
    until("it listens", || UnixStream::connect(here.path()).is_ok());
    let mut command = programs.command("call");
    let output = command.arg("./app.sock").current_dir(here.folder.path()).output().unwrap();
    assert!(output.stdout.ends_with(b"Hello, world\n"), "{output:?}");
}
