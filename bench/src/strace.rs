//! System calls per request, counted with strace.

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, ensure};
use rustix::process::{Pid, Signal, kill_process};

use crate::load::{Load, Until};
use crate::process::Server;

/// How many requests are counted.
pub(crate) const REQUESTS: u64 = 1_000;

/// Calls per request.
pub(crate) struct Calls {
    /// Of the read family.
    pub(crate) reads: f64,
    /// Of the write family.
    pub(crate) writes: f64,
    /// Calls that wait for sockets.
    pub(crate) waits: f64,
    /// All other calls.
    pub(crate) others: f64,
}

/// Attaches strace to `server`, sends it some requests, and counts.
pub(crate) fn count(server: &Server, mut load: Load<'_>, dir: &Path) -> Result<Calls> {
    // Open the connections, and let the server accept them, before anything is counted.
    load.drive(Until::Sent(64))?;
    let summary = dir.join("strace.txt");
    let pid = server.pid().to_string();
    let mut strace = Command::new("strace")
        .args(["-f", "-c", "-p", &pid, "-o"])
        .arg(&summary)
        .stdin(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .context("cannot run strace")?;
    // strace reports on stderr when it is attached.
    let stderr = strace.stderr.take().context("strace has no stderr")?;
    let mut line = String::new();
    // Keep it open to the end, since strace may print more.
    let mut stderr = BufReader::new(stderr);
    stderr.read_line(&mut line)?;
    let driven = if line.contains("attached") {
        load.drive(Until::Sent(REQUESTS)).map(drop)
    } else {
        Err(anyhow::anyhow!("strace: {}", line.trim()))
    };
    let _ = kill_process(Pid::from_child(&strace), Signal::INT);
    strace.wait()?;
    driven?;
    parse(&fs::read_to_string(&summary).context("strace left no summary")?)
}

/// Reads the table of `strace -c`: the fourth column counts, the last one names.
fn parse(summary: &str) -> Result<Calls> {
    let mut calls = Calls { reads: 0.0, writes: 0.0, waits: 0.0, others: 0.0 };
    let mut found = false;
    for line in summary.lines() {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let (Some(Ok(count)), Some(&name)) =
            (fields.get(3).map(|n| n.parse::<u32>()), fields.last())
        else {
            continue;
        };
        let kind = match name {
            "total" => continue,
            "read" | "readv" | "recvfrom" | "recvmsg" => &mut calls.reads,
            "write" | "writev" | "sendto" | "sendmsg" => &mut calls.writes,
            "epoll_wait" | "epoll_pwait" | "epoll_pwait2" | "poll" | "ppoll" | "select"
            | "pselect6" => &mut calls.waits,
            _ => &mut calls.others,
        };
        *kind += f64::from(count) / REQUESTS as f64;
        found = true;
    }
    ensure!(found, "strace counted nothing");
    Ok(calls)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_summary_is_read() {
        let calls = parse(
            "% time     seconds  usecs/call     calls    errors syscall\n\
             ------ ----------- ----------- --------- --------- ----------------\n\
              60.00    0.001000           1      1000           write\n\
              40.00    0.000900           1      2000         7 recvfrom\n\
              40.00    0.000900           1       500           epoll_wait\n\
             ------ ----------- ----------- --------- --------- ----------------\n\
             100.00    0.001900           1      3500         7 total\n",
        )
        .unwrap();
        assert_eq!((calls.reads, calls.writes, calls.waits, calls.others), (2.0, 1.0, 0.5, 0.0));
    }
}
