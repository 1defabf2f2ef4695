//! `cargo xtask fuzz`.

use std::fs;
use std::path::PathBuf;
use std::process::Stdio;
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use clap::Args;

use crate::command::{cargo, nightly, root, run as run_command, shown, succeeds};

/// How the targets are built: without the address sanitizer, since the crates under test have no
/// unsafe code, and without tracing comparisons, which takes more than half of the time: the
/// dictionary and the seeds contain the numbers that matter.
const BUILD: [&str; 3] = ["--sanitizer", "none", "--no-trace-compares"];
/// How they run: with small inputs, since many runs find more than long ones. Quick inputs run more
/// often.
const RUN: [&str; 4] =
    ["-print_final_stats=1", "-timeout=10", "-max_len=2048", "-entropic_scale_per_exec_time=1"];

/// The arguments of `cargo xtask fuzz`.
#[derive(Debug, Args)]
pub(crate) struct Options {
    /// Seconds for each target
    // For libFuzzer 0 means "for ever".
    #[arg(long, value_parser = clap::value_parser!(u64).range(1..))]
    seconds: u64,
    /// Targets to run at the same time
    #[arg(long, default_value_t = 1)]
    jobs: usize,
    /// Targets to run [default: all]
    #[arg(value_name = "TARGET")]
    targets: Vec<String>,
}

impl Options {
    /// Every target, for a short time.
    pub(crate) fn smoke(each: Duration) -> Self {
        Self { seconds: each.as_secs(), jobs: 1, targets: Vec::new() }
    }
}

/// One target's run.
struct Finished {
    target: String,
    executions: Option<u64>,
    took: Duration,
    failure: Option<String>,
}

/// Installs cargo-fuzz if it is missing.
pub(crate) fn available() -> Result<()> {
    if !succeeds(&mut nightly(["--version"])) {
        bail!("fuzzing needs a nightly toolchain: rustup toolchain install nightly");
    }
    if !succeeds(&mut nightly(["fuzz", "--version"])) {
        run_command(&mut cargo(["install", "--locked", "cargo-fuzz"]))?;
    }
    Ok(())
}

/// Builds all targets, runs them and prints how often each was executed.
pub(crate) fn run(options: &Options) -> Result<()> {
    available()?;
    let targets = chosen(options)?;
    run_command(nightly(["fuzz", "build"]).args(BUILD).current_dir(fuzz_folder()))?;

    let queue = Mutex::new(targets.iter());
    let finished = Mutex::new(Vec::new());
    thread::scope(|scope| {
        for _ in 0..options.jobs.clamp(1, targets.len().max(1)) {
            scope.spawn(|| {
                loop {
                    let next = queue.lock().unwrap_or_else(PoisonError::into_inner).next();
                    let Some(target) = next else { break };
                    println!("Fuzzing {target} for {} s", options.seconds);
                    let run = fuzz(target, options.seconds);
                    finished.lock().unwrap_or_else(PoisonError::into_inner).push(run);
                }
            });
        }
    });
    let runs = finished
        .into_inner()
        .unwrap_or_else(PoisonError::into_inner)
        .into_iter()
        .collect::<Result<Vec<_>>>()?;
    report(&runs)
}

fn report(runs: &[Finished]) -> Result<()> {
    println!("\n{:<24} {:>14} {:>9} {:>9}", "target", "executions", "seconds", "per s");
    for run in runs {
        let seconds = run.took.as_secs_f64();
        let (executions, rate) = match run.executions {
            Some(n) => (n.to_string(), format!("{:.0}", n as f64 / seconds)),
            None => ("?".to_owned(), "?".to_owned()),
        };
        println!("{:<24} {executions:>14} {seconds:>9.0} {rate:>9}", run.target);
    }
    let failures: Vec<&str> = runs.iter().filter_map(|run| run.failure.as_deref()).collect();
    if !failures.is_empty() {
        bail!("{}", failures.join("\n"));
    }
    Ok(())
}

fn fuzz_folder() -> PathBuf {
    root().join("fuzz")
}

fn chosen(options: &Options) -> Result<Vec<String>> {
    let mut list = nightly(["fuzz", "list"]);
    let output = list
        .current_dir(fuzz_folder())
        .stderr(Stdio::inherit())
        .output()
        .with_context(|| format!("starting `{}`", shown(&list)))?;
    if !output.status.success() {
        bail!("`{}` failed ({})", shown(&list), output.status);
    }
    let all: Vec<String> =
        String::from_utf8_lossy(&output.stdout).lines().map(str::to_owned).collect();
    if options.targets.is_empty() {
        return Ok(all);
    }
    for target in &options.targets {
        if !all.contains(target) {
            bail!("no fuzz target {target:?}; there are {}", all.join(", "));
        }
    }
    Ok(options.targets.clone())
}

/// Runs one target: new inputs go to fuzz/corpus, the seeds are only read.
fn fuzz(target: &str, seconds: u64) -> Result<Finished> {
    let folder = fuzz_folder();
    let corpus = folder.join("corpus").join(target);
    fs::create_dir_all(&corpus).with_context(|| format!("creating {}", corpus.display()))?;
    let mut command = nightly(["fuzz", "run"]);
    command.args(BUILD).arg(target).arg(&corpus).current_dir(&folder);
    let seeds = folder.join("seeds").join(target);
    if seeds.is_dir() {
        command.arg(seeds);
    }
    command.arg("--").args(RUN);
    // With no time only the seeds run, so that the result does not depend on chance.
    command.arg(match seconds {
        0 => "-runs=0".to_owned(),
        _ => format!("-max_total_time={seconds}"),
    });
    let dictionary = folder.join("fastcgi.dict");
    if dictionary.is_file() {
        command.arg(format!("-dict={}", dictionary.display()));
    }

    let started = Instant::now();
    let output = command
        .stdin(Stdio::null())
        .output()
        .with_context(|| format!("starting `{}`", shown(&command)))?;
    let took = started.elapsed();
    let log = String::from_utf8_lossy(&output.stderr);
    let failure = (!output.status.success()).then(|| {
        println!("{log}");
        let artifact = after(&log, "Test unit written to ").unwrap_or("no artifact was written");
        format!("{target} failed ({}): {artifact}", output.status)
    });
    Ok(Finished {
        target: target.to_owned(),
        executions: after(&log, "stat::number_of_executed_units:")
            .and_then(|count| count.trim().parse().ok()),
        took,
        failure,
    })
}

/// The rest of the line after `marker`.
fn after<'a>(log: &'a str, marker: &str) -> Option<&'a str> {
    log.lines().find_map(|line| line.split_once(marker)).map(|(_, rest)| rest)
}
