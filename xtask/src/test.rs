//! `cargo xtask test`.

use std::ffi::OsString;
use std::process::Command;

use anyhow::{Result, bail};
use clap::Args;
use fcgi_testkit::harness::REQUIRE_PEERS;
use fcgi_testkit::peers::{Missing, Peer};

use crate::command::cargo;
use crate::{failures, peers};

/// The arguments of `cargo xtask test`.
#[derive(Debug, Default, Args)]
pub(crate) struct Options {
    /// Fail if a peer is missing and can't be installed
    #[arg(long)]
    pub(crate) require_peers: bool,
    /// Install nothing
    #[arg(long)]
    pub(crate) no_install: bool,
    /// Fail if Cargo.lock would have to change
    #[arg(long)]
    pub(crate) locked: bool,
    /// Arguments for cargo test, such as a part of a test's name
    #[arg(last = true)]
    pub(crate) arguments: Vec<OsString>,
}

/// Provides the peers, then runs all tests, including those of the documentation.
pub(crate) fn run(options: &Options) -> Result<()> {
    let missing =
        if options.no_install { peers::missing(Peer::TESTS) } else { peers::provide(Peer::TESTS) };
    if options.require_peers && !missing.is_empty() {
        bail!("required peers are missing: {}", listed(&missing, "; "));
    }
    if !missing.is_empty() {
        println!(
            "Tests that need one of these peers will be ignored:\n  {}\n",
            listed(&missing, "\n  ")
        );
    }

    let mut failed = Vec::new();
    let targets = &["--lib", "--bins", "--examples", "--tests"];
    let code = failures::test(&mut cargo_test(options, targets), &mut failed);
    let docs = failures::test(&mut cargo_test(options, &["--doc"]), &mut failed);
    failures::print(&failed);
    code.and(docs)
}

fn cargo_test(options: &Options, what: &[&str]) -> Command {
    let mut test = cargo(["test", "--workspace", "--all-features"]);
    // Interop is a separate task.
    test.args(["--exclude", "fcgi-bench", "--exclude", "fcgi-interop"]).args(what);
    // Shows every failure in one run, with a result for every test.
    test.arg("--no-fail-fast");
    if options.locked {
        test.arg("--locked");
    }
    if options.require_peers {
        test.env(REQUIRE_PEERS, "1");
    }
    if !options.arguments.is_empty() {
        test.arg("--").args(&options.arguments);
    }
    test
}

fn listed(missing: &[Missing], separator: &str) -> String {
    let lines: Vec<String> = missing.iter().map(Missing::to_string).collect();
    lines.join(separator)
}
