//! `cargo xtask instructions`: counts the instructions of a request with callgrind. The counted
//! program sleeps before each message that it gets, so the result is nearly the same each time,
//! however busy the machine is.

use std::{
    fs,
    os::unix::net::{UnixListener, UnixStream},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    thread::sleep,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail, ensure};
use clap::Args;
use rustix::process::{Pid, Signal, kill_process};

use crate::command::{cargo, program, root, run as run_command, succeeds};
use crate::paced::{End, relay};
use crate::{peers, tool};

/// Where the counts are kept.
const FILE: &str = "bench/instructions.txt";
const HEAD: &str = "# Instructions a request of a kept connection, as `cargo xtask instructions` counts them.\n\
                    # `cargo xtask ci` fails when one has grown by more than a tenth.\n";
/// The numbers of requests of the two runs whose difference is counted. This excludes a program's
/// start and end.
const RUNS: [u64; 2] = [500, 2500];
/// How long a program may take to listen, under valgrind.
const START: Duration = Duration::from_secs(60);

/// A program to count, and its crate.
struct Subject {
    package: &'static str,
    example: &'static str,
    /// Whether it sends requests; the others answer them.
    sends: bool,
}

const SUBJECTS: [Subject; 4] = [
    Subject { package: "fcgi-tokio", example: "tokio-hello", sends: false },
    Subject { package: "fcgi-blocking", example: "blocking-hello", sends: false },
    Subject { package: "fcgi-tokio", example: "tokio-blast", sends: true },
    Subject { package: "fcgi-blocking", example: "blocking-blast", sends: true },
];
/// The program that sends requests to the counted servers, and the one that counted clients send
/// them to.
const SENDER: &str = "blocking-blast";
const SERVER: &str = "tokio-hello";

/// The arguments of `cargo xtask instructions`.
#[derive(Debug, Args)]
pub(crate) struct Options {
    /// Write nothing, and fail if a count is more than a tenth above the file's
    #[arg(long)]
    pub(crate) check: bool,
}

/// Installs valgrind if it is missing.
pub(crate) fn available() -> Result<()> {
    let is_here = || succeeds(program("valgrind").arg("--version"));
    if !is_here() {
        peers::update_lists()?;
        peers::install_packages(&["valgrind"])?;
    }
    ensure!(is_here(), "valgrind is missing");
    Ok(())
}

/// Counts, prints, and writes the file or compares with it.
pub(crate) fn run(options: &Options) -> Result<()> {
    available()?;
    let mut build = cargo(["build", "--release", "--locked"]);
    for subject in &SUBJECTS {
        build.args(["-p", subject.package, "--example", subject.example]);
    }
    run_command(&mut build)?;
    let path = root().join(FILE);
    let known = fs::read_to_string(&path).unwrap_or_default();
    let (mut written, mut grown) = (HEAD.to_owned(), Vec::new());
    for subject in &SUBJECTS {
        let name = subject.example;
        let counted = count(subject).with_context(|| format!("counting {name}"))?;
        written += &format!("{name} {counted}\n");
        let before = of(&known, name);
        match before {
            Some(before) => println!("{name}: {counted} instructions a request; {FILE}: {before}"),
            None => println!("{name}: {counted} instructions a request"),
        }
        // A count that is missing in the file is as bad as one that has grown.
        if before.is_none_or(|before| counted > before + before / 10) {
            grown.push(name);
        }
    }
    if !options.check {
        return fs::write(&path, written).with_context(|| format!("writing {}", path.display()));
    }
    ensure!(
        grown.is_empty(),
        "more than a tenth above {FILE}: {}; mend that, or run `cargo xtask instructions` and say why",
        grown.join(", ")
    );
    Ok(())
}

/// A count in the file.
fn of(known: &str, name: &str) -> Option<u64> {
    known.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' ')?.parse().ok())
}

fn count(subject: &Subject) -> Result<u64> {
    let [few, many] = RUNS;
    let (few, many) = (run_for(subject, few)?, run_for(subject, many)?);
    Ok(many.saturating_sub(few) / (RUNS[1] - RUNS[0]))
}

/// All instructions of a program for this many requests.
fn run_for(subject: &Subject, requests: u64) -> Result<u64> {
    let folder = Folder::new()?;
    let [socket, relayed] = ["app.sock", "relay.sock"].map(|name| folder.0.join(name));
    let log = folder.0.join("log");
    let (mut server, mut sender) = if subject.sends {
        (example(SERVER), counted(subject.example, &log))
    } else {
        (counted(subject.example, &log), example(SENDER))
    };
    for program in [&mut server, &mut sender] {
        program.env("FCGI_THREADS", "1").stdout(Stdio::null());
    }
    server.arg(address(&socket));
    sender.args([&address(&relayed), &requests.to_string(), "1"]);
    let mut server = Running(server.spawn().context("starting the server")?);
    server.until_it_listens(&socket)?;
    let listener = UnixListener::bind(&relayed).context("listening for the client")?;
    listener.set_nonblocking(true)?;
    let mut sender = Running(sender.spawn().context("starting the client")?);
    let paced = |running: &Running, paced: bool| paced.then(|| running.0.id());
    let (client, server_process) = (paced(&sender, subject.sends), paced(&server, !subject.sends));
    // A pool replaces its connections when they are old.
    let sent = loop {
        if let Ok((stream, _)) = listener.accept() {
            stream.set_nonblocking(false)?;
            let to_server = UnixStream::connect(&socket).context("connecting to the server")?;
            let to_server = End { stream: to_server, paced: server_process };
            relay(End { stream, paced: client }, to_server)?;
        } else if let Some(status) = sender.0.try_wait()? {
            break status;
        } else {
            sleep(Duration::from_millis(1));
        }
    };
    ensure!(sent.success(), "the client failed: {sent}");
    server.end()?;
    let log = fs::read_to_string(&log).context("reading valgrind's log")?;
    let collected =
        log.lines().find_map(|line| line.split_once("Collected :")?.1.trim().parse().ok());
    collected.context("valgrind told no count")
}

fn address(socket: &Path) -> String {
    format!("unix:{}", socket.display())
}

fn example(name: &str) -> Command {
    program(tool::target().join("release/examples").join(name))
}

fn counted(name: &str, log: &Path) -> Command {
    let mut valgrind = program("valgrind");
    valgrind.args(["--tool=callgrind", "--callgrind-out-file=/dev/null"]);
    valgrind.arg(format!("--log-file={}", log.display()));
    valgrind.arg(example(name).get_program());
    valgrind
}

/// A temporary folder, removed with this value.
struct Folder(PathBuf);

impl Folder {
    fn new() -> Result<Self> {
        let path = tool::target().join(format!("instructions-{}", std::process::id()));
        fs::create_dir_all(&path).with_context(|| format!("making {}", path.display()))?;
        Ok(Self(path))
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        // The folder is inside the one that cargo builds in.
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// A program that ends with this value.
struct Running(Child);

impl Running {
    fn until_it_listens(&mut self, socket: &Path) -> Result<()> {
        let started = Instant::now();
        while UnixStream::connect(socket).is_err() {
            if let Some(status) = self.0.try_wait()? {
                bail!("the server ended at once: {status}");
            }
            ensure!(started.elapsed() < START, "the server does not listen after {START:?}");
            sleep(Duration::from_millis(20));
        }
        Ok(())
    }

    fn end(mut self) -> Result<()> {
        kill_process(Pid::from_child(&self.0), Signal::TERM)?;
        let status = self.0.wait()?;
        ensure!(status.success(), "the server failed: {status}");
        Ok(())
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_count_is_found_by_its_whole_name() {
        let known = format!("{HEAD}tokio-hello-x 1\ntokio-hello 6500\n");
        assert_eq!(of(&known, "tokio-hello"), Some(6500));
        assert_eq!(of(&known, "tokio"), None);
    }
}
