//! The basis of the tests: the command, and a terminal to run it on.
#![allow(dead_code, reason = "each test target uses a part of it")]

pub(crate) mod gateway;
pub(crate) mod pages;
pub(crate) mod pool;
pub(crate) mod tap;
pub(crate) mod webdriver;

use std::{
    fs::{File, OpenOptions, read_dir, read_to_string},
    io::{Read, Write},
    os::{
        fd::OwnedFd,
        unix::{fs::OpenOptionsExt, net::UnixStream},
    },
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};

/// The command. Its probes give up after 2 s, which is short on a machine under load. Here they wait
/// longer, unless a test sets another limit.
pub(crate) fn fcgi() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_fcgi"));
    for name in ["CHECK", "DOCTOR", "LS", "PING", "STATUS"] {
        command.env(format!("FCGI_{name}_TIMEOUT"), "60");
    }
    command
}

/// A copy of the command, which can be removed while it runs, as an upgrade does.
pub(crate) fn copy_of_fcgi(folder: &Path) -> PathBuf {
    let copy = folder.join("fcgi");
    // Another process writes it: a file that this one has open for writing could not be run.
    let copied = Command::new("cp").arg(env!("CARGO_BIN_EXE_fcgi")).arg(&copy).status();
    assert!(copied.expect("cp runs").success());
    copy
}

/// A stdout that is full, and its end that nobody reads.
pub(crate) fn full() -> (Stdio, UnixStream) {
    let (mut stdout, unread) = UnixStream::pair().expect("a pair of sockets");
    stdout.set_nonblocking(true).expect("it need not wait");
    // In smaller and smaller pieces, until no byte fits any more.
    for block in [4096, 1] {
        while stdout.write(&[b'x'; 4096][..block]).is_ok() {}
    }
    stdout.set_nonblocking(false).expect("it may wait");
    (OwnedFd::from(stdout).into(), unread)
}

/// Whether a thread of a process waits in write(2) for the reader of stdout or stderr.
pub(crate) fn is_writing(process: u32) -> bool {
    let tasks = read_dir(format!("/proc/{process}/task")).into_iter().flatten().flatten();
    tasks.into_iter().any(|task| {
        let at = read_to_string(task.path().join("syscall")).unwrap_or_default();
        // On x86-64 and on others.
        let to = |start: &&str| at.starts_with(&format!("{start} "));
        ["1 0x1", "1 0x2", "64 0x1", "64 0x2"].iter().any(to)
    })
}

/// A terminal.
pub(crate) struct Pty {
    master: OwnedFd,
    path: String,
}

impl Pty {
    pub(crate) fn open() -> Self {
        // Other programs must not keep it open.
        let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
        let master = openpt(flags).expect("a pseudo-terminal");
        grantpt(&master).expect("grantpt");
        unlockpt(&master).expect("unlockpt");
        let path = ptsname(&master, Vec::new()).expect("ptsname");
        Self { master, path: path.into_string().expect("a path") }
    }

    /// The end for a program. It must not become the terminal of these tests.
    pub(crate) fn end(&self) -> Stdio {
        let flags = rustix::fs::OFlags::NOCTTY.bits() as i32;
        let file = OpenOptions::new().read(true).write(true).custom_flags(flags).open(&self.path);
        file.expect("the terminal opens").into()
    }

    /// Reads what a program writes there until `text` has come `times` times; gives all of it.
    pub(crate) fn read_until(&self, text: &str, times: usize) -> String {
        let mut seen = String::new();
        let mut block = [0; 4096];
        while seen.matches(text).count() < times {
            let n = rustix::io::read(&self.master, &mut block).expect("the terminal is read");
            seen.push_str(&String::from_utf8_lossy(&block[..n]));
        }
        seen
    }

    /// Runs a command that holds the only program ends. Returns what it wrote and its exit status.
    pub(crate) fn run(self, mut command: Command) -> (String, i32) {
        let mut child = command.spawn().expect("the command runs");
        drop(command);
        let mut text = Vec::new();
        let mut master = File::from(self.master);
        let mut block = [0; 4096];
        // A terminal that nobody has open any more ends with an error on Linux.
        while let Ok(n @ 1..) = master.read(&mut block) {
            text.extend_from_slice(&block[..n]);
        }
        let code = child.wait().expect("it ends").code().expect("not by a signal");
        (String::from_utf8_lossy(&text).into_owned(), code)
    }
}
