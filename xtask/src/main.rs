//! The workspace's own tasks: `cargo xtask --help`.

#![allow(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "printing is what a command-line tool does"
)]

mod api;
mod bench;
mod ci;
mod command;
mod dist;
mod failures;
mod fuzz;
mod instructions;
mod interop;
mod msrv;
mod paced;
mod peers;
mod test;
mod tool;
mod trained;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// The workspace's own tasks
#[derive(Debug, Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask", max_term_width = 100)]
struct Arguments {
    #[command(subcommand)]
    task: Task,
}

#[derive(Debug, Subcommand)]
enum Task {
    /// Install missing peers, if possible, and run every test
    Test(test::Options),
    /// Run everything that a change must pass: tests, interop, fmt, clippy, docs, public API,
    /// no_std, features, oldest Rust, dependencies, packages, fuzz seeds
    Ci(ci::Options),
    /// Write the public API of each library to docs/api
    Api(api::Options),
    /// Run every web server and application against ours, and write docs/interop.md
    Interop(interop::Options),
    /// Run the fuzz targets, each for a given time
    Fuzz(fuzz::Options),
    /// Build the release of the command, static and small, and measure it
    Dist(dist::Options),
    /// Run the benchmarks, optimised
    Bench(bench::Options),
    /// Count the instructions of a request, with callgrind
    Instructions(instructions::Options),
}

fn main() -> ExitCode {
    let outcome = match Arguments::parse().task {
        Task::Test(options) => test::run(&options),
        Task::Ci(options) => ci::run(&options),
        Task::Api(options) => api::run(&options),
        Task::Interop(options) => interop::run(&options),
        Task::Fuzz(options) => fuzz::run(&options),
        Task::Dist(options) => dist::run(&options),
        Task::Bench(options) => bench::run(&options),
        Task::Instructions(options) => instructions::run(&options),
    };
    if let Err(error) = outcome {
        // No backtrace: the error is about a command, not about this program.
        eprintln!("error: {error:#}");
        return ExitCode::FAILURE;
    }
    ExitCode::SUCCESS
}
