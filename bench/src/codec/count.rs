//! Counts instructions with callgrind, as the difference of two runs, so that a program's start is
//! not counted.

use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, bail, ensure};
use clap::{Args, ValueEnum as _};

use super::{Direction, subjects};
use crate::sample::Sample;

/// The repetitions in the two runs.
const TIMES: [u64; 2] = [2, 12];

/// One of those runs.
#[derive(Args)]
pub(crate) struct Once {
    subject: String,
    sample: usize,
    #[arg(value_enum)]
    direction: Direction,
    times: u64,
}

impl Once {
    /// Repeats the work this many times.
    pub(crate) fn run(&self) -> Result<()> {
        let sample = Sample::all().into_iter().nth(self.sample).context("no such sample")?;
        let subject = subjects().into_iter().find(|subject| subject.name() == self.subject);
        let mut subject = subject.context("no such codec")?;
        super::measure(subject.as_mut(), &sample, self.direction, self.times).map(drop)
    }
}

/// The number of instructions for one repetition.
pub(super) fn instructions(subject: &str, sample: usize, direction: Direction) -> Result<u64> {
    let [few, many] = TIMES.map(|times| run(subject, sample, direction, times));
    Ok(many?.saturating_sub(few?) / (TIMES[1] - TIMES[0]))
}

fn run(subject: &str, sample: usize, direction: Direction, times: u64) -> Result<u64> {
    let direction = direction.to_possible_value().context("a direction without a name")?;
    let output = Command::new("valgrind")
        .args(["--tool=callgrind", "--callgrind-out-file=/dev/null"])
        .arg(std::env::current_exe()?)
        .args(["codec-once", subject, &sample.to_string(), direction.get_name()])
        .arg(times.to_string())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .output()
        .context("valgrind was not found, install valgrind")?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "valgrind failed: {}", said.trim());
    let Some(count) = said.lines().find_map(|line| line.split_once("Collected :")) else {
        bail!("valgrind told no count");
    };
    Ok(count.1.trim().parse()?)
}
