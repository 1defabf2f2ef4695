//! Runs a server under strace, and counts its system calls of each kind.
//!
//! The cost of a request can't be seen from outside, and a time means little on a busy machine. The
//! number of system calls is the same each time.
//!
//! ```no_run
//! use std::{path::Path, process::Command};
//!
//! let socket = Path::new("/tmp/app.sock");
//! let mut server = Command::new("hello");
//! server.arg("unix:/tmp/app.sock");
//! let calls = fcgi_testkit::strace::count(&server, socket, || {
//!     // Here are 200 requests.
//!     Ok(())
//! })?;
//! assert!(calls.of(fcgi_testkit::strace::READS) < 260, "{calls:?}");
//! # Ok::<(), String>(())
//! ```

use std::{
    collections::HashMap,
    path::Path,
    process::Command,
    time::{Duration, Instant},
};

use crate::{listening::listens, peers::Peer};

/// The calls that read.
pub const READS: &[&str] = &["read", "readv", "recv", "recvfrom", "recvmsg"];
/// The calls that write.
pub const WRITES: &[&str] = &["write", "writev", "send", "sendto", "sendmsg"];
/// The calls that wait for descriptors.
pub const POLLS: &[&str] = &["poll", "ppoll"];

/// System calls by name: how often each was made, by all threads of a program.
#[derive(Clone, Debug)]
pub struct Calls(HashMap<String, usize>);

impl Calls {
    /// strace's table: a line for each system call, with the calls in its fourth column.
    fn parse(table: &str) -> Self {
        let mut calls = HashMap::new();
        for line in table.lines() {
            let columns: Vec<_> = line.split_whitespace().collect();
            if let (Some(name), Some(Ok(n))) = (columns.last(), columns.get(3).map(|n| n.parse())) {
                calls.insert((*name).to_owned(), n);
            }
        }
        Self(calls)
    }

    /// How often any of these was made.
    pub fn of(&self, names: &[&str]) -> usize {
        names.iter().filter_map(|name| self.0.get(*name)).sum()
    }

    /// Whether each of these kinds was made once for each request, apart from what the program does
    /// to start and to end.
    ///
    /// # Errors
    /// Which kind was made how often.
    pub fn once_a_request(&self, requests: usize, kinds: &[&[&str]]) -> Result<(), String> {
        // The calls of the program's start and end come on top.
        let most = requests + 60;
        for kind in kinds {
            let n = self.of(kind);
            if !(requests..=most).contains(&n) {
                return Err(format!("{n} of {kind:?} for {requests} requests: {self:?}"));
            }
        }
        Ok(())
    }
}

/// Starts a server under strace, runs `exchange` once it listens, ends the server with
/// SIGTERM, and counts.
///
/// # Errors
/// If there is no strace, the server does not listen within a minute or does not end well, or
/// `exchange` fails.
pub fn count(
    server: &Command,
    socket: &Path,
    exchange: impl FnOnce() -> Result<(), String>,
) -> Result<Calls, String> {
    let io = |error: std::io::Error| error.to_string();
    let folder = tempfile::tempdir().map_err(io)?;
    let log = folder.path().join("strace.log");
    let mut strace = Command::new(Peer::Strace.find().map_err(|missing| missing.to_string())?);
    strace.args(["-c", "-f", "-o"]).arg(&log).arg(server.get_program()).args(server.get_args());
    strace.envs(server.get_envs().filter_map(|(name, value)| Some((name, value?))));
    let mut strace = strace.spawn().map_err(io)?;
    let served = wait_for(socket).and_then(|()| exchange());
    // strace's only child: it ends on SIGTERM, and strace then writes its table.
    let children = format!("/proc/{0}/task/{0}/children", strace.id());
    let child = std::fs::read_to_string(children).unwrap_or_default();
    let stopped = Command::new("kill").arg("-TERM").arg(child.trim()).status().map_err(io)?;
    if !stopped.success() {
        strace.kill().map_err(io)?;
    }
    let status = strace.wait().map_err(io)?;
    served?;
    if !status.success() {
        return Err(format!("strace ended with {status}"));
    }
    Ok(Calls::parse(&std::fs::read_to_string(&log).map_err(io)?))
}

fn wait_for(socket: &Path) -> Result<(), String> {
    let start = Instant::now();
    while !listens(socket) {
        if start.elapsed() > Duration::from_secs(60) {
            return Err(format!("nothing listens at {}", socket.display()));
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    Ok(())
}
