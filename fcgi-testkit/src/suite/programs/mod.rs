//! The example programs, to the contract that every adapter's share.

mod call;
mod cgi;
mod echo;
mod inherit;
mod notify;
mod restart;
mod servers;
mod small;

use std::{
    io::Write,
    path::PathBuf,
    process::{Child, Command, ExitStatus, Output, Stdio},
};

use tempfile::TempDir;

use crate::{
    examples::Examples,
    listening::{self, sockets},
};

use super::{
    Case,
    signal::{background, until},
    wire::Peer,
};

pub(super) const CASES: &[&[(&str, Case)]] = &[
    cgi::CASES,
    echo::CASES,
    call::CASES,
    servers::CASES,
    inherit::CASES,
    restart::CASES,
    notify::CASES,
    small::CASES,
];

/// The examples that the cases run.
const NAMES: &[&str] = &["app", "auto", "echo", "call", "hello", "handler", "duplex", "blast"];

/// The adapter's examples.
pub(super) struct Programs(Examples);

impl Programs {
    pub(super) fn build(package: &str) -> Self {
        Self(Examples::build(package, NAMES).unwrap())
    }

    pub(super) fn command(&self, name: &str) -> Command {
        Command::new(self.0.path(name))
    }

    /// Runs `call` with an empty stdin.
    pub(super) fn call(&self, args: &[&str]) -> Output {
        self.call_with(b"", args)
    }

    /// Runs `call` with these bytes on its stdin.
    pub(super) fn call_with(&self, stdin: &[u8], args: &[&str]) -> Output {
        let mut child = self
            .command("call")
            .args(args)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut input = child.stdin.take().unwrap();
        let bytes = stdin.to_vec();
        // It does not have to read it.
        let writer = background(move || drop(input.write_all(&bytes)));
        let output = background(move || child.wait_with_output().unwrap()).join();
        writer.join();
        output
    }

    /// A server at a unix socket.
    pub(super) fn start(&self, name: &str) -> Running {
        self.start_with(name, |command| {
            command.stderr(Stdio::null());
        })
    }

    pub(super) fn start_with(&self, name: &str, set: impl FnOnce(&mut Command)) -> Running {
        let folder = tempfile::tempdir().unwrap();
        let address = format!("unix:{}/app.sock", folder.path().display());
        let mut command = self.command(name);
        command.arg(&address).stdin(Stdio::null());
        set(&mut command);
        let running = Running { child: command.spawn().unwrap(), address, folder };
        until("it listens", || running.listens());
        running
    }
}

/// A program that does not outlive its test.
pub(super) struct Running {
    pub(super) child: Child,
    pub(super) address: String,
    pub(super) folder: TempDir,
}

impl Drop for Running {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Running {
    pub(super) fn path(&self) -> PathBuf {
        self.folder.path().join("app.sock")
    }

    /// Whether it listens. Its socket's path exists a moment earlier.
    pub(super) fn listens(&self) -> bool {
        listening::listens(&self.path())
    }

    /// Connections that the server has not closed.
    pub(super) fn connections(&self) -> usize {
        sockets(&self.path()).into_iter().filter(|listens| !listens).count()
    }

    pub(super) fn dial(&self) -> Peer {
        Peer::dial(&self.address.parse().unwrap())
    }

    pub(super) fn signal(&self, signal: &str) {
        let pid = self.child.id().to_string();
        assert!(Command::new("kill").args([signal, &pid]).status().unwrap().success());
    }

    pub(super) fn exit_status(&mut self) -> ExitStatus {
        let mut status = None;
        until("it ends", || {
            status = self.child.try_wait().unwrap();
            status.is_some()
        });
        status.unwrap()
    }
}

/// Asserts the exit status, and that one line names the cause and the address.
pub(super) fn assert_fails(output: &Output, status: i32, address: &str, cause: &str) {
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(status), "{stderr}");
    let lines: Vec<_> = stderr.lines().collect();
    assert_eq!(lines.len(), 1, "one line: {stderr}");
    assert!(lines[0].contains(address), "names the address: {stderr}");
    assert!(lines[0].contains(cause), "says {cause:?}: {stderr}");
}

/// A line of `/proc/PID/status`.
pub(super) fn proc_status(pid: u32, name: &str) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
    let number = line.and_then(|line| line.split_whitespace().next()?.parse().ok());
    number.unwrap_or_else(|| panic!("no {name} in {status}"))
}
