//! Whole servers, one after the other on one processor, against the floor.

pub(crate) mod candidates;
mod load;
pub(crate) mod process;
mod strace;

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};

use self::candidates::{CONNECTIONS, Candidate, FLOOR};
use self::load::{Load, Until, first_answer};
use self::process::Server;
use self::strace::Calls;
use crate::Options;
use crate::cpu::{self, Placement};
use crate::sample::Sample;
use crate::stats::{median, median_ratio};
use crate::table::{Table, number, thousands};

/// One row: a server and its results.
struct Entry {
    name: &'static str,
    connections: usize,
    /// The server, and the STDOUT that each of its answers must have; `None` once it has failed.
    running: Option<(Server, Vec<u8>)>,
    note: String,
    /// Answers in all measured rounds.
    requests: u64,
    /// Answers per second, by round.
    rate: Vec<f64>,
    /// Microseconds of processor time per answer, by round.
    cost: Vec<f64>,
    /// How much of the wall-clock time the server was running, by round.
    busy: Vec<f64>,
    calls: Option<Calls>,
}

/// Measures and prints every server.
pub(crate) fn run(options: &Options, cpus: Placement) -> Result<()> {
    cpu::pin(cpus.load)?;
    let dir = tempfile::tempdir().context("cannot make a temporary folder")?;
    let sample = Sample::small();
    let mut entries: Vec<Entry> = candidates::all(options, dir.path())
        .into_iter()
        .map(|candidate| Entry::start(candidate, &sample.wire, cpus))
        .collect();
    for round in 1..=options.rounds {
        for entry in &mut entries {
            eprint!("\rround {round}/{}: {:<14}", options.rounds, entry.name);
            entry.attempt(|entry| entry.round(&sample.wire, options.seconds));
        }
    }
    eprint!("\r{:30}\r", "");
    if options.strace {
        for entry in &mut entries {
            entry.attempt(|entry| {
                let Some((server, expected)) = &entry.running else {
                    return Ok(());
                };
                let load =
                    Load::connect(&server.socket, entry.connections, &sample.wire, expected)?;
                match strace::count(server, load, dir.path()) {
                    Ok(calls) => entry.calls = Some(calls),
                    Err(error) => {
                        entry.note = format!("{} (no system calls: {error:#})", entry.note)
                    }
                }
                Ok(())
            });
        }
    }
    print(options, cpus, &entries);
    Ok(())
}

impl Entry {
    /// Starts the candidate's server and checks its first answer.
    fn start(candidate: Candidate, request: &[u8], cpus: Placement) -> Entry {
        let mut entry = Entry {
            name: candidate.name,
            connections: candidate.connections,
            running: None,
            note: candidate.note.to_owned(),
            requests: 0,
            rate: Vec::new(),
            cost: Vec::new(),
            busy: Vec::new(),
            calls: None,
        };
        match candidate.command.and_then(|command| Server::start(command, &candidate.socket, cpus))
        {
            Err(error) => entry.note = format!("not run: {error:#}"),
            Ok(server) => match first_answer(&server.socket, request) {
                Err(error) => entry.note = format!("FAILED: {error:#}"),
                Ok(expected) => entry.running = Some((server, expected)),
            },
        }
        entry
    }

    /// Runs `f` with a running server. If that fails, the row fails and its server is stopped.
    fn attempt(&mut self, work: impl FnOnce(&mut Entry) -> Result<()>) {
        if self.running.is_some() {
            if let Err(error) = work(self) {
                self.note = format!(
                    "FAILED after {} requests: {error:#}",
                    thousands(Some(self.requests as f64))
                );
                self.running = None;
            }
        }
    }

    /// One round: fresh connections, a warm-up, then the measured time.
    fn round(&mut self, request: &[u8], seconds: f64) -> Result<()> {
        let Some((server, expected)) = &self.running else {
            return Ok(());
        };
        let mut load = Load::connect(&server.socket, self.connections, request, expected)?;
        load.drive(Until::Elapsed(Duration::from_secs_f64(seconds / 5.0)))?;
        let used = cpu::used(server.pid())?;
        let start = Instant::now();
        let answers = load.drive(Until::Elapsed(Duration::from_secs_f64(seconds)))?;
        let wall = start.elapsed().as_secs_f64();
        let used = cpu::used(server.pid())? - used;
        load.drain()?;
        anyhow::ensure!(answers > 0, "no answer in {seconds} s");
        self.requests += answers;
        self.rate.push(answers as f64 / wall);
        self.cost.push(used * 1e6 / answers as f64);
        self.busy.push(used / wall);
        Ok(())
    }
}

/// Prints what was measured.
fn print(options: &Options, cpus: Placement, entries: &[Entry]) {
    println!(
        "hello: medians of {} rounds of {} s each, interleaved; ratios are medians of per-round ratios",
        options.rounds, options.seconds
    );
    println!(
        "a 26-parameter request, {CONNECTIONS} kept connections to a unix socket; load on CPU {}, server on CPU {}{}\n",
        cpus.load,
        cpus.server,
        if cpus.load == cpus.server { " (the only one: they share it)" } else { "" }
    );
    let floor = entries.iter().find(|entry| entry.name == FLOOR);
    let base = |of: fn(&Entry) -> &Vec<f64>| floor.map(of).cloned().unwrap_or_default();
    let (rate, cost) = (base(|entry| &entry.rate), base(|entry| &entry.cost));
    let mut headings = vec![
        "server",
        "requests/s",
        "/ floor",
        "CPU us/request",
        "/ floor",
        "busy %",
        "requests",
        "errors",
    ];
    if options.strace {
        headings.extend(["read", "write", "wait", "other"]);
    }
    let mut table = Table::new(&headings);
    for entry in entries {
        let measured = !entry.rate.is_empty();
        let failed = entry.note.starts_with("FAILED");
        let mut cells = vec![
            entry.name.to_owned(),
            thousands(median(&entry.rate)),
            number(median_ratio(&entry.rate, &rate), 3),
            number(median(&entry.cost), 2),
            number(median_ratio(&entry.cost, &cost), 2),
            number(median(&entry.busy).map(|busy| busy * 100.0), 0),
            thousands(measured.then_some(entry.requests as f64)),
            if failed { "1".to_owned() } else { number(measured.then_some(0.0), 0) },
        ];
        if options.strace {
            let calls = entry.calls.as_ref();
            let of = |pick: fn(&Calls) -> f64| number(calls.map(pick), 2);
            cells.extend([of(|c| c.reads), of(|c| c.writes), of(|c| c.waits), of(|c| c.others)]);
        }
        table.row(cells, entry.note.as_str());
    }
    table.print();
    if options.strace {
        println!(
            "read, write, wait, other: system calls a request, by strace, over {} requests\n",
            strace::REQUESTS
        );
    }
}
