//! Every command that talks to an application, at every kind of address where none answers: it ends
//! within its one time limit, with the right exit status, and says so in one form.

mod common;

use std::{
    io::{Read, Write},
    net::{TcpListener, TcpStream},
    os::unix::net::UnixListener,
    process::{Command, Output},
    thread,
    time::Duration,
};

use common::fcgi;
use serde_json::Value;
use tempfile::TempDir;

/// How long a command may take before `timeout` ends it: many times its own limit.
const HUNG: &str = "120";
/// The command's own limit in seconds, where it is what ends it, and where it must not be.
const SHORT: &str = "0.4";
const LONG: &str = "60";

/// Something that is no application, and the exit statuses that commands may have there.
struct Dead {
    name: &'static str,
    address: String,
    expected: &'static [i32],
    _folder: Option<TempDir>,
}

impl Dead {
    fn new(name: &'static str, address: String, expected: &'static [i32]) -> Self {
        Self { name, address, expected, _folder: None }
    }

    /// A port where each connection is handled by `serve`.
    fn port(name: &'static str, expected: &'static [i32], serve: fn(TcpStream)) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("bound").to_string();
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                thread::spawn(move || serve(stream));
            }
        });
        Self::new(name, address, expected)
    }

    /// A port whose queue is full, since nobody accepts.
    fn full() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        rustix::net::listen(&listener, 0).expect("a short queue");
        let address = listener.local_addr().expect("bound");
        let waiting: Vec<_> = (0..2)
            .filter_map(|_| TcpStream::connect_timeout(&address, Duration::from_millis(500)).ok())
            .collect();
        assert!(!waiting.is_empty(), "the first one gets into the queue");
        // Both stay as long as the process.
        std::mem::forget((listener, waiting));
        Self::new("a full queue", address.to_string(), &[6])
    }

    fn stale() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("s");
        drop(UnixListener::bind(&path).expect("bind"));
        let address = format!("unix:{}", path.display());
        Self { _folder: Some(folder), ..Self::new("a stale socket", address, &[5]) }
    }
}

fn record(kind: u8, content: &[u8]) -> Vec<u8> {
    let [high, low] = (content.len() as u16).to_be_bytes();
    [&[1, kind, 0, 1, high, low, 0, 0], content].concat()
}

/// Reads the request, or its start.
fn asked(stream: &mut TcpStream) {
    let _ = stream.read(&mut [0; 65_536]);
}

/// Sends it for ever, as fast as it goes or slowly.
fn endless(stream: &mut TcpStream, bytes: &[u8], pause: Duration) {
    while stream.write_all(bytes).is_ok() {
        thread::sleep(pause);
    }
}

const STDOUT: u8 = 6;
const STDERR: u8 = 7;
const HEAD: &[u8] = b"Status: 503 Service Unavailable\r\nContent-Type: text/plain\r\n\r\n";

fn dead() -> Vec<Dead> {
    vec![
        Dead::new("no socket", "unix:/nonexistent/s".into(), &[5]),
        Dead::stale(),
        Dead::new("an unknown host", "no-such-host.invalid:9000".into(), &[5]),
        Dead::full(),
        Dead::port("silence", &[6], |mut stream| {
            let _ = stream.read_to_end(&mut Vec::new());
        }),
        Dead::port("a close", &[4], drop),
        Dead::port("a close after the request", &[4], |mut stream| asked(&mut stream)),
        Dead::port("HTTP", &[4], |mut stream| {
            asked(&mut stream);
            let _ = stream.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n");
        }),
        Dead::port("garbage", &[4], |mut stream| {
            asked(&mut stream);
            let _ = stream.write_all(&[0xA7; 4096]);
        }),
        Dead::port("a byte a second", &[6], |mut stream| {
            asked(&mut stream);
            for byte in record(STDOUT, HEAD) {
                if stream.write_all(&[byte]).is_err() {
                    return;
                }
                thread::sleep(Duration::from_secs(1));
            }
        }),
        // A status of 503 is not what ping and status want. GET_VALUES has no STDOUT.
        Dead::port("a body in drops", &[4, 6, 7], |mut stream| {
            asked(&mut stream);
            let _ = stream.write_all(&record(STDOUT, HEAD));
            endless(&mut stream, &record(STDOUT, b"y"), Duration::from_millis(5));
        }),
        Dead::port("STDERR in drops", &[4, 6], |mut stream| {
            asked(&mut stream);
            endless(&mut stream, &record(STDERR, b"z\n"), Duration::from_millis(5));
        }),
    ]
}

/// They always have something to read: time limits hold all the same.
fn floods() -> Vec<Dead> {
    vec![
        // For a check it is too long.
        Dead::port("a flood of STDOUT", &[4, 6, 7], |mut stream| {
            asked(&mut stream);
            let _ = stream.write_all(&record(STDOUT, HEAD));
            endless(&mut stream, &record(STDOUT, &[b'y'; 60_000]), Duration::ZERO);
        }),
        Dead::port("a flood of STDERR", &[4, 6], |mut stream| {
            asked(&mut stream);
            endless(&mut stream, &record(STDERR, &[b'z'; 60_000]), Duration::ZERO);
        }),
    ]
}

/// The commands, without address and limit.
const COMMANDS: [&[&str]; 9] = [
    &["ping"],
    &["ping", "--retry", "2"],
    &["status"],
    &["status", "--values"],
    &["call", "/x", "--param", "A=b"],
    &["doctor"],
    &["check", "--only", "FC-4.1-1"],
    &["bench", "-n", "1", "-c", "1"],
    &["php", "echo 1;", "--user", "65534"],
];

fn run(dead: &Dead, command: &[&str], more: &[&str]) -> Output {
    let mut limited = Command::new("timeout");
    let limit = if dead.expected.contains(&6) { SHORT } else { LONG };
    let bare = fcgi();
    limited.arg(HUNG).arg(bare.get_program()).arg(command[0]);
    for (name, value) in bare.get_envs() {
        if let Some(value) = value {
            limited.env(name, value);
        }
    }
    limited.arg(&dead.address).args(&command[1..]).args(["--timeout", limit]).args(more);
    limited.output().expect("it runs")
}

/// Calls this for each command and each peer, several at the same time.
fn each(dead: &[Dead], test: impl Fn(&Dead, &[&str]) + Sync) {
    let test = &test;
    thread::scope(|scope| {
        for command in COMMANDS {
            scope.spawn(move || dead.iter().for_each(|dead| test(dead, command)));
        }
    });
}

#[test]
fn each_ends_in_time_and_says_why() {
    each(&dead(), ends);
}

#[test]
fn each_ends_in_spite_of_a_flood() {
    each(&floods(), ends);
}

fn ends(dead: &Dead, command: &[&str]) {
    let output = run(dead, command, &[]);
    let code = output.status.code();
    let said = String::from_utf8_lossy(&output.stderr);
    let what = format!("fcgi {command:?} at {}: {code:?}: {said}", dead.name);
    assert!(dead.expected.iter().any(|expected| code == Some(*expected)), "{what}");
    assert!(said.contains(&format!("fcgi {}: ", command[0])), "{what}");
    assert!(said.contains(&dead.address), "{what}");
    // What is likely wrong follows what happened.
    let is_cut = ["STDOUT has more", "write to std"].iter().any(|why| said.contains(why));
    assert!(is_cut || said.contains("; "), "{what}");
}

#[test]
fn each_says_so_to_programs() {
    each(&dead(), |dead, command| {
        let output = run(dead, command, &["--json"]);
        let code = output.status.code().expect("an exit status");
        let lines = String::from_utf8_lossy(&output.stdout);
        let what = format!("fcgi {command:?} --json at {}: {code}: {lines}", dead.name);
        assert!(dead.expected.contains(&code), "{what}");
        let objects: Vec<Value> =
            lines.lines().map(|line| serde_json::from_str(line).expect(&what)).collect();
        let last = objects.last().expect(&what);
        assert_eq!(last["v"], 1, "{what}");
        assert_eq!(last["exit_status"], code, "{what}");
        assert_eq!(last["ok"], false, "{what}");
        assert!(output.stderr.is_empty(), "{what}");

        let output = run(dead, command, &["--nagios"]);
        let line = String::from_utf8_lossy(&output.stdout);
        let state = output.status.code().expect("an exit status");
        let (expected, word) = if code == 7 { (1, "WARNING") } else { (2, "CRITICAL") };
        assert_eq!(state, expected, "{what}{line}");
        let start = format!("{} {word} - ", command[0].to_uppercase());
        assert!(line.starts_with(&start) && line.lines().count() == 1, "{what}{line}");

        let output = run(dead, command, &["--docker"]);
        assert_eq!(output.status.code(), Some(1), "{what}");
    });
}
