//! `cargo xtask ci`.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use crate::command::{cargo, program, run as run_command};
use crate::{fuzz, interop as interop_task, test};

const UNPUBLISHED: [&str; 4] = ["fcgi-bench", "fcgi-interop", "fcgi-testkit", "xtask"];
const NO_STD_TARGET: &str = "thumbv7em-none-eabi";
/// Only the seeds: what chance finds is for `cargo xtask fuzz`.
const FUZZ_SMOKE: Duration = Duration::ZERO;

/// A name, and what it does.
type Step = (&'static str, fn() -> Result<()>);

/// Everything that a change must pass, stopping at the first failure.
pub(crate) fn run() -> Result<()> {
    let steps: [Step; 8] = [
        ("tests", tests),
        ("interop", interop),
        ("format", || cargo_step(&["fmt", "--all", "--check"])),
        ("clippy", clippy),
        ("docs", docs),
        ("no_std", no_std),
        ("package", package),
        ("fuzz seeds", fuzz_smoke),
    ];
    let started = Instant::now();
    let mut summary = Vec::new();
    for (name, step) in steps {
        println!("\n==> {name}");
        let step_started = Instant::now();
        let outcome = step();
        let seconds = step_started.elapsed().as_secs_f64();
        outcome.with_context(|| format!("{name}, after {seconds:.1} s"))?;
        println!("==> {name}: {seconds:.1} s");
        summary.push(format!("{name} {seconds:.0} s"));
    }
    let total = started.elapsed().as_secs_f64();
    println!("\nAll passed in {total:.0} s: {}", summary.join(", "));
    Ok(())
}

fn cargo_step(arguments: &[&str]) -> Result<()> {
    run_command(&mut cargo(arguments))
}

fn tests() -> Result<()> {
    test::run(&test::Options { require_peers: true, locked: true, ..test::Options::default() })
}

fn interop() -> Result<()> {
    let options = interop_task::Options { check: true, locked: true, ..Default::default() };
    interop_task::run(&options)
}

fn clippy() -> Result<()> {
    cargo_step(&[
        "clippy",
        "--workspace",
        "--all-targets",
        "--all-features",
        "--locked",
        "--",
        "-Dwarnings",
    ])
}

fn docs() -> Result<()> {
    let arguments = ["doc", "--workspace", "--no-deps", "--all-features", "--locked"];
    run_command(cargo(arguments).env("RUSTDOCFLAGS", "-D warnings"))
}

/// Without its `std` feature, and for a target that has no std where the
/// toolchain has one.
fn no_std() -> Result<()> {
    let build = ["build", "-p", "fcgi-proto", "--no-default-features", "--locked"];
    cargo_step(&build)?;
    if has_target(NO_STD_TARGET) {
        run_command(cargo(build).args(["--target", NO_STD_TARGET]))?;
    }
    Ok(())
}

fn has_target(target: &str) -> bool {
    program("rustc")
        .args(["--print", "target-libdir", "--target", target])
        .output()
        .is_ok_and(|output| Path::new(String::from_utf8_lossy(&output.stdout).trim()).is_dir())
}

/// Builds each library from what its package would hold.
fn package() -> Result<()> {
    let mut package = cargo(["package", "--workspace", "--locked", "--allow-dirty"]);
    for name in UNPUBLISHED {
        package.args(["--exclude", name]);
    }
    run_command(&mut package)
}

fn fuzz_smoke() -> Result<()> {
    match fuzz::unavailable() {
        Some(reason) => println!("Left out: {reason}"),
        None => fuzz::run(&fuzz::Options::smoke(FUZZ_SMOKE))?,
    }
    Ok(())
}
