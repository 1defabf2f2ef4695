//! Decoding and encoding in memory, against a memcpy of the same bytes.

mod cegla;
mod memcpy;
mod ours;
mod subject;
mod tokio_fastcgi;

use std::time::Duration;

use anyhow::{Context, Result};

use self::subject::{Measured, Subject};
use crate::Options;
use crate::cpu::{self, Placement};
use crate::sample::Sample;
use crate::stats::{median, median_ratio};
use crate::table::{Table, number, thousands};

/// All participants; the others are compared with the first.
fn subjects() -> Vec<Box<dyn Subject>> {
    vec![
        Box::new(memcpy::Memcpy::default()),
        Box::new(Measured(ours::Ours::default())),
        Box::new(Measured(tokio_fastcgi::TokioFastcgi::default())),
        Box::new(Measured(cegla::Cegla::default())),
    ]
}

/// The direction of the bytes.
#[derive(Clone, Copy)]
enum Direction {
    Decode,
    Encode,
}

/// Measures and prints every sample in both directions.
pub(crate) fn run(options: &Options, cpus: Placement) -> Result<()> {
    cpu::pin(cpus.load)?;
    let slice = Duration::from_secs_f64(options.seconds / 4.0);
    println!(
        "codec: medians of {} rounds of {:.2} s each, interleaved; ratios are medians of per-round ratios\n",
        options.rounds,
        slice.as_secs_f64()
    );
    for sample in [Sample::small(), Sample::large()] {
        for direction in [Direction::Decode, Direction::Encode] {
            compare(options, slice, &sample, direction)?;
        }
    }
    Ok(())
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
    sample: &Sample,
    direction: Direction,
) -> Result<()> {
    let mut entries: Vec<Entry> = subjects()
        .into_iter()
        .filter(|subject| options.selects(subject.name()) || subject.name() == memcpy::NAME)
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
    println!("{what} {} ({} bytes)", sample.title, sample.wire.len());
    let base = entries[0].nanos.clone();
    let mut table = Table::new(&["codec", "ns/request", "GB/s", "time / memcpy"]);
    for entry in &entries {
        let nanos = median(&entry.nanos);
        let ratio = median_ratio(&entry.nanos, &base);
        let rate = nanos.map(|nanos| sample.wire.len() as f64 / nanos);
        table.row(
            vec![
                entry.subject.name().to_owned(),
                thousands(nanos),
                number(rate, 2),
                number(ratio, 2),
            ],
            entry.note.as_str(),
        );
    }
    table.print();
    Ok(())
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
