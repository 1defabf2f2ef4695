//! `cargo xtask bench`.

use std::ffi::OsString;

use anyhow::Result;
use clap::Args;
use fcgi_testkit::peers::Peer;

use crate::command::{cargo, run as run_command};
use crate::peers;

/// The arguments of `cargo xtask bench`.
#[derive(Debug, Args)]
pub(crate) struct Options {
    /// Arguments for the benchmark program
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    arguments: Vec<OsString>,
}

/// Provides what the C peer is built with, then runs the benchmarks.
pub(crate) fn run(options: &Options) -> Result<()> {
    for missing in peers::provide(&[Peer::Gcc, Peer::Libfcgi]) {
        println!("No comparison with the C peer: {missing}");
    }
    let hello = ["build", "--profile", "bench", "-p", "fcgi-tokio", "--example", "tokio-hello"];
    run_command(&mut cargo(hello))?;
    let bench = ["run", "--profile", "bench", "-p", "fcgi-bench", "--"];
    run_command(cargo(bench).args(&options.arguments))
}
