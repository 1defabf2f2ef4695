//! Decoding and encoding in memory, against a memcpy of the same bytes.

mod cegla;
mod count;
mod memcpy;
mod ours;
mod subject;
mod tokio_fastcgi;

use std::time::Duration;

use anyhow::{Context, Result};
use clap::ValueEnum;

pub(crate) use self::count::Once;
use self::subject::{Measured, Subject};
use crate::Options;
use crate::cpu::{self, Placement};
use crate::goals::Goal;
use crate::sample::Sample;
use crate::stats::{median, median_ratio};
use crate::table::{Table, number, thousands};

/// All participants; the others are compared with the first.
fn subjects() -> Vec<Box<dyn Subject>> {
    vec![
        Box::new(memcpy::Memcpy::default()),
        Box::new(ours::Reads::default()),
        Box::new(Measured(ours::Ours::default())),
        Box::new(Measured(tokio_fastcgi::TokioFastcgi::default())),
        Box::new(Measured(cegla::Cegla::default())),
    ]
}

/// The direction of the bytes.
#[derive(Clone, Copy, PartialEq, ValueEnum)]
enum Direction {
    Decode,
    Encode,
}

/// A codec without a release for our version of Rust.
const RAMA: (&str, &str) = ("rama-fastcgi", "not run: 0.4.0 needs Rust 1.96");

/// Measures and prints every sample in both directions.
pub(crate) fn run(options: &Options, cpus: Placement) -> Result<Vec<Goal>> {
    cpu::pin(cpus.load)?;
    let slice = Duration::from_secs_f64(options.seconds / 4.0);
    println!("### Codec\n");
    println!(
        "In memory, on processor {}, in slices of {:.2} s. `memcpy` copies the same wire bytes once. \
         Instructions are callgrind's.\n",
        cpus.load,
        slice.as_secs_f64()
    );
    let mut goals = Vec::new();
    // What the request without a body takes, in each direction.
    let mut starts = [const { Vec::new() }; 2];
    for (index, sample) in Sample::all().iter().enumerate() {
        for direction in [Direction::Decode, Direction::Encode] {
            if direction == Direction::Encode && !sample.encodes {
                continue;
            }
            let entries = compare(options, slice, (index, sample), direction)?;
            let find = |name| entries.iter().find(|entry| entry.subject.name() == name);
            let Some(ours) = find(ours::NAME) else { continue };
            // Beyond the copies that stand for its reads.
            let beyond: Vec<f64> = match find(ours::READS).filter(|reads| !reads.nanos.is_empty()) {
                Some(reads) => difference(&ours.nanos, &reads.nanos),
                None => ours.nanos.clone(),
            };
            let start: &mut Vec<f64> = &mut starts[direction as usize];
            // The records alone, without the request that they belong to.
            let records = difference(&beyond, start);
            let ratio = median_ratio(&records, &entries[0].nanos);
            if index == 0 {
                *start = beyond;
            }
            match (index, direction) {
                (0, Direction::Decode) => goals.push(Goal::at_most(
                    "codec: 26 parameters decoded and looked at, ns",
                    400.0,
                    median(&ours.nanos),
                )),
                (1, Direction::Encode) => goals.push(Goal::at_most(
                    "codec: records of 64 KiB encoded, of a memcpy",
                    0.01,
                    ratio,
                )),
                (1, Direction::Decode) => goals.push(Goal::at_most(
                    "codec: records of 64 KiB decoded beyond the read, of a memcpy",
                    0.01,
                    ratio,
                )),
                _ => {}
            }
        }
    }
    Ok(goals)
}

/// What is left of each round.
fn difference(all: &[f64], part: &[f64]) -> Vec<f64> {
    all.iter().zip(part).map(|(all, part)| all - part).collect()
}

/// One subject's results in a comparison.
struct Entry {
    subject: Box<dyn Subject>,
    /// How many repetitions fill a slice; `None` if it has failed or has no such function.
    times: Option<u64>,
    /// Nanoseconds per request, by round.
    nanos: Vec<f64>,
    note: String,
}

/// Measures all of them on one sample in one direction, and prints the table.
fn compare(
    options: &Options,
    slice: Duration,
    (index, sample): (usize, &Sample),
    direction: Direction,
) -> Result<Vec<Entry>> {
    let mut entries: Vec<Entry> = subjects()
        .into_iter()
        .filter(|subject| {
            let name = subject.name();
            options.selects(name) || [memcpy::NAME, ours::READS].contains(&name)
        })
        .map(|subject| Entry::prepare(subject, slice, sample, direction))
        .collect();
    for _ in 0..options.rounds {
        for entry in &mut entries {
            if let Some(times) = entry.times {
                let spent = measure(entry.subject.as_mut(), sample, direction, times)?;
                entry.nanos.push(spent.as_nanos() as f64 / times as f64);
            }
        }
    }
    let what = match direction {
        Direction::Decode => "decode",
        Direction::Encode => "encode",
    };
    println!("**{what} {} ({} bytes)**\n", sample.title, thousands(Some(sample.wire.len() as f64)));
    let base = entries[0].nanos.clone();
    let mut table = Table::new(&["", "ns/request", "GB/s", "time / memcpy", "instructions"]);
    for entry in &mut entries {
        let nanos = median(&entry.nanos);
        let ratio = median_ratio(&entry.nanos, &base);
        let rate = nanos.map(|nanos| sample.wire.len() as f64 / nanos);
        let counted = entry.times.map(|_| {
            count::instructions(entry.subject.name(), index, direction).inspect_err(|error| {
                entry.note = format!("instructions not counted: {error:#}");
            })
        });
        let counted = counted.and_then(Result::ok).map(|count| count as f64);
        table.row(
            vec![
                entry.subject.name().to_owned(),
                thousands(nanos),
                number(rate, 2),
                number(ratio, 2),
                thousands(counted),
            ],
            entry.note.as_str(),
        );
    }
    if options.selects(RAMA.0) {
        table.row(vec![RAMA.0.to_owned()], RAMA.1);
    }
    table.print();
    Ok(entries)
}

impl Entry {
    /// Checks that `subject` works correctly, warms it up and finds how many repetitions fit a
    /// slice.
    fn prepare(
        mut subject: Box<dyn Subject>,
        slice: Duration,
        sample: &Sample,
        direction: Direction,
    ) -> Entry {
        let checked = match direction {
            Direction::Decode => subject.check_decode(sample).map(|()| true),
            Direction::Encode => subject.check_encode(sample),
        };
        let (times, note) = match checked {
            Ok(true) => match calibrate(subject.as_mut(), slice, sample, direction) {
                Ok(times) => (Some(times), String::new()),
                Err(error) => (None, format!("FAILED: {error:#}")),
            },
            Ok(false) => (None, "not run: it has no encoder for requests".to_owned()),
            Err(error) => (None, format!("FAILED: {error:#}")),
        };
        Entry { subject, times, nanos: Vec::new(), note }
    }
}

/// Doubles the repetitions until they take long enough to tell how many fill a slice.
fn calibrate(
    subject: &mut dyn Subject,
    slice: Duration,
    sample: &Sample,
    direction: Direction,
) -> Result<u64> {
    let mut times = 1;
    loop {
        let spent = measure(subject, sample, direction, times)?;
        if spent >= slice / 8 || times >= 1 << 30 {
            let each = spent.as_secs_f64() / times as f64;
            return Ok(((slice.as_secs_f64() / each) as u64).max(1));
        }
        times *= 2;
    }
}

/// Times `times` repetitions.
fn measure(
    subject: &mut dyn Subject,
    sample: &Sample,
    direction: Direction,
    times: u64,
) -> Result<Duration> {
    match direction {
        Direction::Decode => subject.time_decode(sample, times),
        Direction::Encode => subject.time_encode(sample, times),
    }
    .with_context(|| format!("{} failed while it was timed", subject.name()))
}
