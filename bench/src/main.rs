//! Side by side: this project, other FastCGI implementations, and the floor.
//!
//! See the README beside this crate for what is measured and how to read it.
#![allow(clippy::print_stdout, reason = "a command whose product is a table on stdout")]
#![allow(clippy::print_stderr, reason = "and whose progress goes to stderr")]

mod codec;
mod cpu;
mod hello;
mod sample;
mod scale;
mod serve;
mod stats;
mod table;
mod wire;

use std::path::PathBuf;

use anyhow::{Result, ensure};
use clap::{Args, Parser, Subcommand};

/// Compares FastCGI implementations side by side, round by round, in one run.
#[derive(Parser)]
#[command(
    name = "fcgi-bench",
    version,
    after_help = "Ratios count; absolute numbers are this machine's, now."
)]
struct Cli {
    #[command(subcommand)]
    what: Option<What>,
    #[command(flatten)]
    options: Options,
}

/// The settings of every run.
#[derive(Args)]
struct Options {
    /// Seconds that each server runs in a round; a codec measurement takes a quarter of it.
    #[arg(long, global = true, default_value_t = 1.0, value_name = "S")]
    seconds: f64,
    /// Rounds; in each, everything runs once, in turn.
    #[arg(long, global = true, default_value_t = 5, value_name = "R")]
    rounds: usize,
    /// Only these rows (repeat it, or separate names by commas).
    #[arg(long, global = true, value_delimiter = ',', value_name = "NAME")]
    only: Vec<String>,
    /// The program measured as `ours`, started as `PATH unix:SOCKET`.
    #[arg(long, global = true, value_name = "PATH")]
    ours: Option<PathBuf>,
    /// Also count each server's system calls over 1,000 requests, with strace.
    #[arg(long, global = true)]
    strace: bool,
}

impl Options {
    /// Whether the row with this name takes part.
    fn selects(&self, name: &str) -> bool {
        self.only.is_empty() || self.only.iter().any(|only| only == name)
    }
}

/// What to measure.
#[derive(Subcommand)]
enum What {
    /// Decoding and encoding in memory, against a memcpy of the same bytes.
    Codec,
    /// Whole servers on one processor over a unix socket, against the floor.
    Hello,
    /// This project alone: the cost of many connections and many concurrent requests.
    Scale,
    /// The first two (the default).
    All,
    /// Runs one server; `hello` starts this program again with it.
    #[command(subcommand, hide = true)]
    Serve(serve::Serve),
}

fn main() -> Result<()> {
    let Cli { what, options } = Cli::parse();
    ensure!(options.seconds.is_finite() && options.seconds > 0.0, "--seconds must be more than 0");
    ensure!(options.rounds > 0, "--rounds must be at least 1");
    let cpus = cpu::Placement::choose()?;
    match what.unwrap_or(What::All) {
        What::Serve(server) => server.run(),
        What::Codec => codec::run(&options, cpus),
        What::Hello => hello::run(&options, cpus),
        What::Scale => scale::run(&options, cpus),
        What::All => {
            codec::run(&options, cpus)?;
            hello::run(&options, cpus)
        }
    }
}
