//! `cargo xtask interop`: runs the same checks on every pair of peers, and writes docs/interop.md.

mod table;

use std::env;
use std::ffi::OsStr;
use std::fs;
use std::path::PathBuf;
use std::process;

use anyhow::{Context, Result, bail, ensure};
use clap::Args;
use fcgi_testkit::harness::REQUIRE_PEERS;
use fcgi_testkit::peers::{Missing, Peer};

use crate::command::{cargo, root};
use crate::failures::{self, Failure};
use crate::peers;
use table::Results;

const PAGE: &str = "docs/interop.md";
/// Where the tests write their results.
const RESULTS: &str = "FCGI_INTEROP_RESULTS";

/// The arguments of `cargo xtask interop`.
#[derive(Debug, Default, Args)]
pub(crate) struct Options {
    /// Run one pair, such as `nginx`, and print its table
    #[arg(long, value_name = "PAIR", conflicts_with = "check")]
    pub(crate) only: Option<String>,
    /// Write nothing; fail if docs/interop.md differs from the run
    #[arg(long)]
    pub(crate) check: bool,
    /// Install nothing
    #[arg(long)]
    pub(crate) no_install: bool,
    /// Fail if Cargo.lock would have to change
    #[arg(long)]
    pub(crate) locked: bool,
}

/// Provides the peers, runs the pairs, and writes or compares the page.
pub(crate) fn run(options: &Options) -> Result<()> {
    let missing = if options.no_install {
        peers::missing(Peer::INTEROP)
    } else {
        peers::provide(Peer::INTEROP)
    };
    // A single pair does not need the peers of the others.
    if options.only.is_none() && !missing.is_empty() {
        let missing: Vec<String> = missing.iter().map(Missing::to_string).collect();
        bail!("peers are missing: {}", missing.join("; "));
    }

    let file = env::temp_dir().join(format!("fcgi-interop-{}", process::id()));
    let mut failed = Vec::new();
    let outcome = tests(options, file.as_os_str(), &mut failed);
    let results = fs::read_to_string(&file);
    // The file is in the folder for temporary files.
    let _ = fs::remove_file(&file);
    let results = match (results, &outcome) {
        (Ok(results), _) => Results::read(&results)?,
        (Err(_), Err(_)) => {
            failures::print(&failed);
            return outcome;
        }
        (Err(error), Ok(())) => bail!("reading {}: {error}", file.display()),
    };
    let page = results.page();
    println!("{}", results.tables());
    failures::print(&failed);
    outcome?;
    if let Some(pair) = &options.only {
        ensure!(results.has(pair), "there is no pair {pair:?}; docs/interop.md names them");
        return Ok(());
    }
    ensure!(results.is_whole(), "not every check of every pair was run");

    let path = page_path();
    if !options.check {
        fs::write(&path, page).with_context(|| format!("writing {}", path.display()))?;
        println!("Wrote {PAGE}");
        return Ok(());
    }
    let tree = fs::read_to_string(&path).with_context(|| format!("reading {}", path.display()))?;
    match table::difference(&tree, &page) {
        None => Ok(()),
        Some(difference) => {
            bail!("{PAGE} is not what the run gave; `cargo xtask interop` writes it:\n{difference}")
        }
    }
}

fn tests(options: &Options, results: &OsStr, failed: &mut Vec<Failure>) -> Result<()> {
    let mut test = cargo(["test", "--package", "fcgi-interop"]);
    if options.locked {
        test.arg("--locked");
    }
    test.env(RESULTS, results).env(REQUIRE_PEERS, "1");
    if let Some(pair) = &options.only {
        test.arg("--").arg(format!("{pair}::"));
    }
    failures::test(&mut test, failed)
}

fn page_path() -> PathBuf {
    root().join(PAGE)
}
