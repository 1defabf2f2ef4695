//! Side by side: this project, other FastCGI implementations, and the floor.
//!
//! See the README of this crate for what is measured and how to read it.
#![allow(clippy::print_stdout, reason = "a command whose product is a table on stdout")]
#![allow(clippy::print_stderr, reason = "and whose progress goes to stderr")]

mod about;
mod bodies;
mod candidates;
mod client;
mod codec;
mod compare;
mod cpu;
mod goals;
mod http;
mod load;
mod process;
mod sample;
mod scale;
mod send;
mod serve;
mod server;
mod stats;
mod strace;
mod table;
mod usage;
mod web;
mod wire;

use std::path::PathBuf;

use anyhow::{Result, ensure};
use clap::{Args, Parser, Subcommand};

use self::cpu::Placement;
use self::goals::Goal;

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

/// Options for every run.
#[derive(Clone, Args)]
struct Options {
    /// Seconds that each row runs in a round; a codec measurement takes a quarter of it, and wrk
    /// whole ones.
    #[arg(long, global = true, default_value_t = 0.5, value_name = "S")]
    seconds: f64,
    /// Rounds; in each, everything runs once, in turn.
    #[arg(long, global = true, default_value_t = 3, value_name = "R")]
    rounds: usize,
    /// Only these rows (repeat it, or separate names by commas).
    #[arg(long, global = true, value_delimiter = ',', value_name = "NAME")]
    only: Vec<String>,
    /// The folder of the examples' `examples` and of `fcgi`, if not this program's.
    #[arg(long, global = true, value_name = "DIR")]
    programs: Option<PathBuf>,
    /// The command `fcgi`, if not the one of the profile `fast` beside this program.
    #[arg(long, global = true, value_name = "FILE")]
    command: Option<PathBuf>,
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
    Server,
    /// An axum router through FastCGI and under hyper alone, and Go's servers.
    Http,
    /// Clients, against a bare load generator.
    Client,
    /// 1 GiB up, down and echoed, against a plain copy.
    Bodies,
    /// Through nginx, and `fcgi gateway` beside nginx and Caddy.
    Web,
    /// This project alone: the cost of many connections and many concurrent requests.
    Scale,
    /// All of them (the default).
    All,
    /// Runs one client; `client` starts this program again with it.
    #[command(hide = true)]
    Send(send::Send),
    /// Runs one client; `bodies` starts this program again with it.
    #[command(hide = true)]
    SendBodies(bodies::Send),
    /// Works with a codec so often; `codec` counts its instructions.
    #[command(hide = true)]
    CodecOnce(codec::Once),
    /// Runs one server; `hello` starts this program again with it.
    #[command(subcommand, hide = true)]
    Serve(serve::Serve),
}

fn main() -> Result<()> {
    let Cli { what, options } = Cli::parse();
    ensure!(options.seconds.is_finite() && options.seconds > 0.0, "--seconds must be more than 0");
    ensure!(options.rounds > 0, "--rounds must be at least 1");
    let cpus = Placement::choose()?;
    let goals = match what.unwrap_or(What::All) {
        What::Serve(server) => return server.run(),
        What::Send(client) => return client.run(),
        What::SendBodies(client) => return client.run(),
        What::CodecOnce(once) => return once.run(),
        What::Codec => codec::run(&options, cpus)?,
        What::Server => server::run(&options, cpus)?,
        What::Http => http::run(&options, cpus)?,
        What::Client => client::run(&options, cpus)?,
        What::Bodies => bodies::run(&options, cpus)?,
        What::Web => web::run(&options, cpus)?,
        What::Scale => return scale::run(&options, cpus),
        What::All => all(&options, cpus)?,
    };
    goals::print(&goals);
    Ok(())
}

/// Runs everything.
fn all(options: &Options, cpus: Placement) -> Result<Vec<Goal>> {
    about::print(options, cpus);
    let groups = [codec::run, server::run, http::run, client::run, bodies::run, web::run];
    let mut goals = Vec::new();
    for group in groups {
        goals.extend(group(options, cpus)?);
    }
    scale::run(options, cpus)?;
    about::print_end();
    Ok(goals)
}
