//! This program under strace, as a server that says hello: what a request costs in system calls.

#[path = "server/peer.rs"]
#[allow(dead_code, unreachable_pub, reason = "the server's tests use the rest")]
mod peer;

use std::{
    collections::HashMap,
    os::unix::net::UnixStream,
    path::Path,
    process::{Command, ExitCode},
    time::{Duration, Instant},
};

use fcgi_blocking as fcgi;
use fcgi_testkit::{
    harness::{self, Case, Failed},
    peers::Peer as Tool,
};
use peer::{KEEP, Peer, complete, request};
use signal_hook::{consts::SIGTERM, iterator::Signals};

const REQUESTS: usize = 200;
const HELLO: &str = "Content-Type: text/plain\r\n\r\nHello, world\n";

/// Has this program serve, at the address and with as many threads as the arguments after it say.
const SERVE: &str = "serve-hello";

fn main() -> ExitCode {
    let arguments: Vec<_> = std::env::args().skip(1).collect();
    if let [command, address, threads] = arguments.as_slice() {
        if command == SERVE {
            return match serve(address, threads) {
                Ok(()) => ExitCode::SUCCESS,
                Err(_) => ExitCode::FAILURE,
            };
        }
    }
    harness::run([Case::new("a_kept_request_is_one_read_and_one_write", || {
        count_calls().map_err(Failed::from)
    })
    .needs(&[Tool::Strace])])
}

fn serve(address: &str, threads: &str) -> Result<(), Box<dyn std::error::Error>> {
    let mut signals = Signals::new([SIGTERM])?;
    let listener = fcgi::Listener::bind(&address.parse()?)?;
    let shutdown = fcgi::Shutdown::new();
    let stop = shutdown.clone();
    std::thread::spawn(move || {
        if signals.forever().next().is_some() {
            stop.trigger();
        }
    });
    let hello = |request: fcgi::Request| request.stdout().write_all(HELLO);
    Ok(fcgi::Server::new().threads(threads.parse()?).serve_until(listener, hello, &shutdown)?)
}

fn count_calls() -> Result<(), String> {
    let io = |error: std::io::Error| error.to_string();
    let program = std::env::current_exe().map_err(io)?;
    let folder = tempfile::tempdir().map_err(io)?;
    let (socket, log) = (folder.path().join("app.sock"), folder.path().join("strace.log"));
    for threads in ["1", "16"] {
        let mut strace = Command::new(Tool::Strace.find().map_err(|missing| missing.to_string())?)
            .args(["-c", "-f", "-o"])
            .arg(&log)
            .arg(&program)
            .arg(SERVE)
            .arg(format!("unix:{}", socket.display()))
            .arg(threads)
            .spawn()
            .map_err(io)?;
        let served = wait_for(&socket).and_then(|()| exchange(&socket));
        // strace's only child: it leaves at SIGTERM, and strace writes its table.
        let children = format!("/proc/{0}/task/{0}/children", strace.id());
        let server = std::fs::read_to_string(children).unwrap_or_default();
        let stopped = Command::new("kill").arg("-TERM").arg(server.trim()).status().map_err(io)?;
        if !stopped.success() {
            strace.kill().map_err(io)?;
        }
        let status = strace.wait().map_err(io)?;
        served?;
        if !status.success() {
            return Err(format!("strace ended with {status}"));
        }
        let calls = table(&std::fs::read_to_string(&log).map_err(io)?);
        let of = |names: &[&str]| names.iter().filter_map(|name| calls.get(*name)).sum::<usize>();
        // What the program does to start and to leave comes on top.
        let most = REQUESTS + 60;
        for (what, n) in [
            ("reads", of(&["read", "readv", "recv", "recvfrom", "recvmsg"])),
            ("writes", of(&["write", "writev", "send", "sendto", "sendmsg"])),
            ("polls", of(&["poll", "ppoll"])),
        ] {
            if !(REQUESTS..=most).contains(&n) {
                return Err(format!("{n} {what} for {REQUESTS} requests: {calls:?}"));
            }
        }
    }
    Ok(())
}

fn wait_for(socket: &Path) -> Result<(), String> {
    let start = Instant::now();
    while !socket.exists() {
        if start.elapsed() > Duration::from_secs(60) {
            return Err("hello does not listen".to_owned());
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    Ok(())
}

/// All requests on one kept connection.
fn exchange(socket: &Path) -> Result<(), String> {
    let stream = UnixStream::connect(socket).map_err(|error| error.to_string())?;
    let mut peer = Peer::new(stream);
    let hello = complete(HELLO);
    for _ in 0..REQUESTS {
        peer.send(request(1, KEEP, &[("REQUEST_METHOD", "GET")], b""));
        let answer = peer.answer(1);
        if answer != hello {
            return Err(format!("{answer:?}"));
        }
    }
    Ok(())
}

/// strace's table: a line for each system call, with the calls in its fourth column.
fn table(text: &str) -> HashMap<String, usize> {
    let mut calls = HashMap::new();
    for line in text.lines() {
        let columns: Vec<_> = line.split_whitespace().collect();
        if let (Some(name), Some(Ok(n))) = (columns.last(), columns.get(3).map(|n| n.parse())) {
            calls.insert((*name).to_owned(), n);
        }
    }
    calls
}
