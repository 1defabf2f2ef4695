//! Measures clients, one after the other on one processor, against a bare load generator. All of
//! them call the bare server, which is on the other processor.

use std::ffi::{OsStr, OsString};
use std::path::Path;
use std::process::{Command, Stdio};
use std::rc::Rc;

use anyhow::{Context as _, Result, ensure};
use rustix::process::{Pid, WaitId, WaitIdOptions, waitid};

use crate::Options;
use crate::candidates::{self, ADAPTERS};
use crate::compare::{Column, Comparison, Round, Row, Subject};
use crate::cpu::{self, Placement};
use crate::goals::Goal;
use crate::process::Server;

const BASE: &str = "bare";
/// The number of connections, each with one request in flight.
const CONNECTIONS: u64 = 16;

/// Measures and prints.
pub(crate) fn run(options: &Options, cpus: Placement) -> Result<Vec<Goal>> {
    cpu::pin(cpus.load)?;
    println!("### Client\n");
    println!(
        "26-parameter requests to the bare server, {CONNECTIONS} at once: `blast` on each adapter, \
         and the loops that the other crates document. Client on processor {}, server on {}.\n",
        cpus.server, cpus.load
    );
    let dir = tempfile::tempdir().context("cannot make a temporary folder")?;
    let socket = dir.path().join("floor.sock");
    // The other way round: nothing else runs on the processor of the measured program.
    let around = Placement { load: cpus.server, server: cpus.load };
    let server = Server::start(candidates::builtin("floor", &socket)?, &socket, around);
    cpu::pin(cpus.server)?;
    let server = Rc::new(server?);
    let mut goals = Vec::new();
    for (title, keep) in [("kept connections", true), ("a connection for each request", false)] {
        let mut rows = vec![row(BASE, sender(BASE, &socket), &server, keep)];
        for adapter in ADAPTERS {
            rows.push(row(adapter, blast(options, adapter, &socket), &server, keep));
        }
        for name in ["fastcgi-client", "cegla-fcgi"] {
            rows.push(row(name, sender(name, &socket), &server, keep));
        }
        let comparison = Comparison::run(options, title, BASE, rows);
        comparison.print(&[Column::RATE, Column::CPU, Column::BUSY]);
        if keep {
            for adapter in ADAPTERS {
                let what = format!("`blast` on fcgi-{adapter}, of the bare load generator");
                goals.push(comparison.goal(&what, adapter, BASE, 0.8));
            }
        }
    }
    cpu::pin(cpus.load)?;
    Ok(goals)
}

/// A program with the arguments of `blast`.
struct Program {
    path: std::path::PathBuf,
    /// The arguments before the numbers.
    args: Vec<OsString>,
}

/// This program as a client.
fn sender(name: &str, socket: &Path) -> Result<Program> {
    let path = std::env::current_exe().context("where is this program?")?;
    let args = [OsStr::new("send"), OsStr::new(name), socket.as_os_str()];
    Ok(Program { path, args: args.map(OsStr::to_owned).into() })
}

fn blast(options: &Options, adapter: &str, socket: &Path) -> Result<Program> {
    let path = candidates::program(options, &format!("examples/{adapter}-blast"))?;
    let mut address = OsString::from("unix:");
    address.push(socket);
    Ok(Program { path, args: vec![address] })
}

fn row(name: &str, program: Result<Program>, server: &Rc<Server>, keep: bool) -> Row {
    let subject = program.map(|program| {
        let server = Rc::clone(server);
        let driver = Driver { program, keep, rate: None, _server: server };
        Box::new(driver) as Box<dyn Subject>
    });
    Row::new(name, subject)
}

/// A client. It is started for each round.
struct Driver {
    program: Program,
    keep: bool,
    /// Requests per second of the last run; they say how many requests fill a round.
    rate: Option<f64>,
    _server: Rc<Server>,
}

impl Subject for Driver {
    fn round(&mut self, seconds: f64) -> Result<Round> {
        let rate = match self.rate {
            Some(rate) => rate,
            None => self.send(1_000)?.rate,
        };
        let round = self.send(((rate * seconds) as u64).max(100))?;
        self.rate = Some(round.rate);
        Ok(round)
    }
}

impl Driver {
    fn send(&self, requests: u64) -> Result<Round> {
        let mut command = Command::new(&self.program.path);
        command.args(&self.program.args).args([requests, CONNECTIONS].map(|n| n.to_string()));
        if !self.keep {
            command.arg("--no-keep-conn");
        }
        command.env("FCGI_THREADS", "1").env("RUST_BACKTRACE", "0").stdin(Stdio::null());
        let client = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
        // Its processor time can be read as long as nobody has waited for it.
        let pid = Pid::from_child(&client);
        waitid(WaitId::Pid(pid), WaitIdOptions::EXITED | WaitIdOptions::NOWAIT)?;
        let used = cpu::used(pid);
        let output = client.wait_with_output()?;
        let said = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "{} {}", output.status, said.trim());
        let said = String::from_utf8_lossy(&output.stdout);
        let seconds = said.split_whitespace().find_map(|word| word.strip_prefix("seconds="));
        let seconds: f64 = seconds.context("it told no time")?.parse()?;
        let used = used?;
        Ok(Round {
            rate: requests as f64 / seconds,
            cpu: Some(used * 1e6 / requests as f64),
            busy: Some(used / seconds * 100.0),
            ..Round::default()
        })
    }
}
