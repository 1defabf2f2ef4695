//! Measures whole servers, one after the other on one processor, against the floor.

use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};

use crate::Options;
use crate::candidates::{self, ADAPTERS, Go};
use crate::compare::{Column, Comparison, Round, Row, Subject};
use crate::cpu::{self, Placement};
use crate::goals::Goal;
use crate::load::{Answers, Load, Shape, Talk, Until, first_fastcgi};
use crate::process::Server;
use crate::sample::Sample;
use crate::strace::{self, Calls};

/// The row that the others are compared with.
pub(crate) const FLOOR: &str = "floor";

/// The shapes to measure, in turn.
const SHAPES: [(&str, Shape); 5] = [
    ("1 kept connection", Shape::Kept(1)),
    ("16 kept connections", Shape::Kept(16)),
    ("256 kept connections", Shape::Kept(256)),
    ("a connection for each request, 16 at once", Shape::Apart(16)),
    ("16 kept connections with 16 requests each", Shape::Shared(16, 16)),
];

/// A server that takes part.
struct Candidate {
    name: &'static str,
    /// The server and its correct answer, or the reason why it does not run.
    running: Result<(Rc<Server>, Answers)>,
}

/// Measures and prints every server in every shape.
pub(crate) fn run(options: &Options, cpus: Placement) -> Result<Vec<Goal>> {
    cpu::pin(cpus.load)?;
    println!("### Server\n");
    println!(
        "`hello` over a unix socket: the 26-parameter request, every answer compared. {}.\n",
        cpus.words()
    );
    let dir = tempfile::tempdir().context("cannot make a temporary folder")?;
    let sample = Sample::small();
    let candidates = candidates(options, dir.path(), &sample.wire(1, true), cpus);
    let mut goals = Vec::new();
    let shared = shared(dir.path(), &sample.wire(1, true), cpus);
    for (title, shape) in SHAPES {
        let row = |candidate: &Candidate| {
            let candidate = match shape {
                Shape::Shared(..) if candidate.name == shared.name => &shared,
                _ => candidate,
            };
            Row::new(candidate.name, candidate.subject(&sample, shape, dir.path()))
        };
        let rows = candidates.iter().map(row);
        let comparison = Comparison::run(options, title, FLOOR, rows.collect());
        comparison.print(&[Column::RATE, Column::CPU, Column::P99, Column::BUSY]);
        goals.extend(goals_of(&comparison, shape));
    }
    Ok(goals)
}

fn goals_of(comparison: &Comparison, shape: Shape) -> Vec<Goal> {
    let goal = |what: &str, name, base, wanted| comparison.goal(what, name, base, wanted);
    match shape {
        Shape::Kept(1) => vec![goal(
            "`hello` on fcgi-blocking, 1 connection, of bare threads",
            "blocking",
            "bare threads",
            0.95,
        )],
        Shape::Kept(16) => vec![
            goal(
                "`hello` on fcgi-tokio, 16 connections, of bare tokio",
                "tokio",
                "bare tokio",
                0.9,
            ),
            goal("`hello` on fcgi-smol, 16 connections, of bare tokio", "smol", "bare tokio", 0.9),
            goal("`hello` on fcgi-blocking, 16 connections, of the floor", "blocking", FLOOR, 0.9),
        ],
        Shape::Apart(_) => {
            let goal = |name| {
                goal(&format!("`hello` on fcgi-{name}, not kept, of the floor"), name, FLOOR, 0.9)
            };
            ADAPTERS.map(goal).into()
        }
        Shape::Shared(..) => {
            let goal = |name| {
                goal(&format!("`hello` on fcgi-{name}, 16 × 16, of the floor"), name, FLOOR, 0.6)
            };
            ADAPTERS.map(goal).into()
        }
        Shape::Kept(_) => Vec::new(),
    }
}

/// Starts all servers.
fn candidates(options: &Options, dir: &Path, request: &[u8], cpus: Placement) -> Vec<Candidate> {
    let socket = |name: &str| dir.join(format!("{}.sock", name.replace(' ', "-")));
    let start = |name: &'static str, command: Result<std::process::Command>| {
        let running = command.and_then(|command| {
            let server = Server::start(command, &socket(name), cpus)?;
            let answers = first_fastcgi(&server.socket, request)?;
            Ok((Rc::new(server), answers))
        });
        Candidate { name, running }
    };
    let mut all = Vec::new();
    for (name, builtin) in [
        (FLOOR, "floor"),
        ("bare tokio", "bare-tokio"),
        ("bare threads", "bare-threads"),
        ("tokio-fastcgi", "tokio-fastcgi"),
        ("cegla-fcgi", "cegla-fcgi"),
    ] {
        if name == "tokio-fastcgi" {
            for adapter in ADAPTERS {
                let hello = candidates::example(options, adapter, "hello", &socket(adapter));
                all.push(start(adapter, hello));
            }
        }
        all.push(start(name, candidates::builtin(builtin, &socket(name))));
    }
    all.push(start("libfcgi", candidates::libfcgi(dir, &socket("libfcgi"))));
    all.push(start("Go", candidates::go(dir, Go::Fastcgi, &socket("Go"))));
    all
}

/// Starts fcgi-blocking for shared connections.
fn shared(dir: &Path, request: &[u8], cpus: Placement) -> Candidate {
    let socket = dir.join("blocking-shared.sock");
    let running = candidates::builtin("blocking-shared", &socket).and_then(|command| {
        let server = Server::start(command, &socket, cpus)?;
        let answers = first_fastcgi(&socket, request)?;
        Ok((Rc::new(server), answers))
    });
    Candidate { name: "blocking", running }
}

impl Candidate {
    fn subject(&self, sample: &Sample, shape: Shape, dir: &Path) -> Result<Box<dyn Subject>> {
        let (server, answers) = match &self.running {
            Ok((server, answers)) => (Rc::clone(server), answers.clone()),
            Err(error) => bail!("{error:#}"),
        };
        match (self.name, shape) {
            ("libfcgi", Shape::Kept(2..)) => bail!("it serves one kept connection at a time"),
            ("libfcgi" | "tokio-fastcgi" | "bare threads", Shape::Shared(..)) => {
                bail!("it does not multiplex")
            }
            _ => {}
        }
        let (places, keep) = match shape {
            Shape::Kept(_) => (1, true),
            Shape::Apart(_) => (1, false),
            Shape::Shared(_, each) => (each as u16, true),
        };
        let requests = (1..=places).map(|id| sample.wire(id, keep)).collect();
        let talk = Talk { requests, answers };
        Ok(Box::new(Driven { server, shape, talk, dir: dir.to_owned() }))
    }
}

/// A server that the load generator drives.
pub(crate) struct Driven {
    pub(crate) server: Rc<Server>,
    pub(crate) shape: Shape,
    pub(crate) talk: Talk,
    /// The folder for strace's summary.
    pub(crate) dir: PathBuf,
}

impl Subject for Driven {
    /// Opens new connections, warms up, and measures for the given time.
    fn round(&mut self, seconds: f64) -> Result<Round> {
        let mut load = Load::connect(&self.server.socket, self.shape, &self.talk)?;
        load.drive(Until::Elapsed(Duration::from_secs_f64(seconds / 5.0)))?;
        let used = self.server.used()?;
        let start = Instant::now();
        let answers = load.drive(Until::Elapsed(Duration::from_secs_f64(seconds)))?;
        let wall = start.elapsed().as_secs_f64();
        let used = self.server.used()? - used;
        let p99 = load.p99();
        load.drain()?;
        ensure!(answers > 0, "no answer in {seconds} s");
        Ok(Round {
            rate: answers as f64 / wall,
            cpu: Some(used * 1e6 / answers as f64),
            p99,
            busy: Some(used / wall * 100.0),
            ..Round::default()
        })
    }

    fn calls(&mut self) -> Option<Result<Calls>> {
        let load = Load::connect(&self.server.socket, self.shape, &self.talk);
        Some(load.and_then(|load| strace::count(&self.server, load, &self.dir)))
    }
}
