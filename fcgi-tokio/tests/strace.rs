//! `hello` under strace: what a request costs in system calls.

use std::{
    collections::HashMap,
    path::Path,
    process::{Command, ExitCode},
    time::{Duration, Instant},
};

use fcgi_testkit::{
    examples::Examples,
    harness::{self, Case, Failed},
    peers::Peer,
};
use fcgi_tokio as fcgi;

const REQUESTS: usize = 200;

fn main() -> ExitCode {
    harness::run([Case::new("a_kept_request_is_one_read_and_one_write", || {
        count_calls().map_err(Failed::from)
    })
    .needs(&[Peer::Strace])])
}

fn count_calls() -> Result<(), String> {
    let io = |error: std::io::Error| error.to_string();
    let examples = Examples::build("fcgi-tokio", &["hello"]).map_err(io)?;
    let folder = tempfile::tempdir().map_err(io)?;
    let (socket, log) = (folder.path().join("app.sock"), folder.path().join("strace.log"));
    let address = format!("unix:{}", socket.display());
    let mut strace = Command::new(Peer::Strace.find().map_err(|missing| missing.to_string())?)
        .args(["-c", "-f", "-o"])
        .arg(&log)
        .arg(examples.path("hello"))
        .arg(&address)
        .env("FCGI_THREADS", "1")
        .spawn()
        .map_err(io)?;
    let served = wait_for(&socket).and_then(|()| exchange(&address));
    // strace's only child: it leaves at SIGTERM, and strace writes its table.
    let children = format!("/proc/{0}/task/{0}/children", strace.id());
    let hello = std::fs::read_to_string(children).unwrap_or_default();
    let stopped = Command::new("kill").arg("-TERM").arg(hello.trim()).status().map_err(io)?;
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
    ] {
        if !(REQUESTS..=most).contains(&n) {
            return Err(format!("{n} {what} for {REQUESTS} requests: {calls:?}"));
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
fn exchange(address: &str) -> Result<(), String> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.map_err(|error| error.to_string())?.block_on(async {
        let address = address.parse().map_err(|error: fcgi::AddressError| error.to_string())?;
        let mut client = fcgi::Client::connect(&address).await.map_err(|e| e.to_string())?;
        for _ in 0..REQUESTS {
            let request = fcgi::client::Request::responder().param("REQUEST_METHOD", "GET");
            let response = client.send(request).await.map_err(|e| e.to_string())?;
            let answer = response.collect(1000).await.map_err(|e| e.to_string())?;
            if !answer.stdout.ends_with(b"Hello, world\n") {
                return Err(format!("{answer:?}"));
            }
        }
        Ok(())
    })
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
