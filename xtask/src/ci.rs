//! `cargo xtask ci`.

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use clap::Args;

use crate::command::{cargo, program, root, run as run_command};
use crate::{api, fuzz, instructions, interop as interop_task, msrv, test, tool};

const UNPUBLISHED: [&str; 4] = ["fcgi-bench", "fcgi-interop", "fcgi-testkit", "xtask"];
const NO_STD_TARGET: &str = "thumbv7em-none-eabi";
/// Runs only the seeds: random inputs are for `cargo xtask fuzz`.
const FUZZ_SMOKE: Duration = Duration::ZERO;

/// A step's name, and what it does.
type Step = (&'static str, fn(&Options) -> Result<()>);

/// The arguments of `cargo xtask ci`.
#[derive(Debug, Args)]
pub(crate) struct Options {
    /// Fail if a peer or a tool is missing and can't be installed
    #[arg(long)]
    require_peers: bool,
    /// Steps to run, such as `clippy` [default: all]
    #[arg(value_name = "STEP")]
    steps: Vec<String>,
}

/// Everything that a change must pass, stopping at the first failure.
pub(crate) fn run(options: &Options) -> Result<()> {
    let steps: [Step; 13] = [
        ("tests", tests),
        ("interop", |_| interop()),
        ("format", |_| cargo_step(&["fmt", "--all", "--check"])),
        ("clippy", |_| clippy()),
        ("docs", |_| docs()),
        ("public-api", |_| api::run(&api::Options { check: true })),
        ("no_std", |_| no_std()),
        ("features", features),
        ("oldest-rust", |options| with_tool(options, msrv::compiler(), |old| msrv::check(&old))),
        ("dependencies", dependencies),
        ("package", |_| package()),
        ("fuzz-seeds", fuzz_smoke),
        ("instructions", instructions_step),
    ];
    for name in &options.steps {
        ensure!(
            steps.iter().any(|(step, _)| step == name),
            "there is no step {name:?}; there are {}",
            steps.map(|(step, _)| step).join(", ")
        );
    }
    let started = Instant::now();
    let mut summary = Vec::new();
    for (name, step) in steps {
        if !options.steps.is_empty() && !options.steps.iter().any(|wanted| wanted == name) {
            continue;
        }
        println!("\n==> {name}");
        let step_started = Instant::now();
        let outcome = step(options);
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

/// Runs a step whose tool may be missing: that fails if everything is required, otherwise it is
/// reported.
fn with_tool<T>(
    options: &Options,
    tool: Result<T>,
    step: impl FnOnce(T) -> Result<()>,
) -> Result<()> {
    match tool {
        Ok(tool) => step(tool),
        Err(error) if options.require_peers => Err(error),
        Err(error) => {
            println!("Left out: {error:#}");
            Ok(())
        }
    }
}

fn tests(options: &Options) -> Result<()> {
    test::run(&test::Options {
        require_peers: options.require_peers,
        locked: true,
        ..test::Options::default()
    })
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

/// Builds the docs like docs.rs, with feature labels. The labels are unstable, hence the variable.
fn docs() -> Result<()> {
    let mut doc = cargo(["doc", "--workspace", "--no-deps", "--all-features", "--locked"]);
    doc.arg("--target-dir").arg(tool::target().join("docs"));
    doc.env("RUSTC_BOOTSTRAP", "1").env("RUSTDOCFLAGS", "-D warnings --cfg docsrs");
    run_command(&mut doc)
}

/// Builds without the `std` feature, and for a target without std if the toolchain has one.
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

/// Checks each published crate without features, with each alone, and with each pair.
fn features(options: &Options) -> Result<()> {
    with_tool(options, tool::HACK.command(), |mut hack| {
        hack.args(["check", "--locked", "--feature-powerset", "--depth", "2", "--workspace"]);
        hack.args(UNPUBLISHED.iter().flat_map(|name| ["--exclude", name]));
        run_command(&mut hack)
    })
}

/// Checks licences, sources and unwanted crates, by deny.toml.
fn dependencies(options: &Options) -> Result<()> {
    with_tool(options, tool::DENY.command(), |mut deny| {
        // It looks at every system's crates, and a build here needs only this one's.
        cargo_step(&["fetch", "--locked"])?;
        run_command(deny.args(["--offline", "check", "bans", "licenses", "sources"]))
    })
}

/// Builds each library from the contents of its package.
///
/// The folder is a new one each time. Cargo unpacks the packages of a workspace once for a path and
/// a version, and would build a changed driver with the engine of the last run.
fn package() -> Result<()> {
    let folder = tempfile::Builder::new()
        .prefix("package-")
        .tempdir_in(tool::target())
        .context("making a folder for the packages")?;
    let mut package = cargo(["package", "--workspace", "--locked", "--allow-dirty"]);
    package.arg("--target-dir").arg(folder.path()).env("CARGO_PROFILE_DEV_DEBUG", "0");
    for name in UNPUBLISHED {
        package.args(["--exclude", name]);
    }
    run_command(&mut package)
}

fn fuzz_smoke(options: &Options) -> Result<()> {
    with_tool(options, fuzz::available(), |()| fuzz::run(&fuzz::Options::smoke(FUZZ_SMOKE)))
}

/// Checks that the cost of a request has not grown.
fn instructions_step(options: &Options) -> Result<()> {
    let check = |()| instructions::run(&instructions::Options { check: true });
    with_tool(options, instructions::available(), check)
}

/// The crates that are published on crates.io.
pub(crate) fn published() -> Result<Vec<String>> {
    let mut names = Vec::new();
    let root = root();
    for entry in fs::read_dir(root).with_context(|| format!("reading {}", root.display()))? {
        let name = entry.with_context(|| format!("reading {}", root.display()))?.file_name();
        let name = name.to_string_lossy().into_owned();
        let is_crate = root.join(&name).join("Cargo.toml").is_file();
        if is_crate && name.starts_with("fcgi-") && !UNPUBLISHED.contains(&name.as_str()) {
            names.push(name);
        }
    }
    ensure!(!names.is_empty(), "there is no crate in {}", root.display());
    names.sort();
    Ok(names)
}

/// The libraries among them.
pub(crate) fn libraries() -> Result<Vec<String>> {
    let mut names = published()?;
    names.retain(|name| root().join(name).join("src/lib.rs").is_file());
    Ok(names)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Checks what users see who have only a package, not the repository.
    #[test]
    fn packages_are_complete() {
        for name in published().unwrap() {
            let folder = root().join(&name);
            let read = |file: &str| {
                fs::read_to_string(folder.join(file))
                    .unwrap_or_else(|error| panic!("{name}/{file}: {error}"))
            };
            for licence in ["LICENSE-MIT", "LICENSE-APACHE"] {
                let ours = fs::read_to_string(root().join(licence)).unwrap();
                assert_eq!(read(licence), ours, "{name}/{licence}");
            }
            let readme = read("README.md");
            for link in readme.split("](").skip(1) {
                let absolute = link.starts_with("https://") || link.starts_with('#');
                assert!(absolute, "{name}/README.md links to {}", link.split(')').next().unwrap());
            }
            if libraries().unwrap().contains(&name) {
                let manifest = read("Cargo.toml");
                assert!(manifest.contains("[package.metadata.docs.rs]"), "{name}/Cargo.toml");
                let root = read("src/lib.rs");
                assert!(root.contains("cfg_attr(docsrs, feature(doc_cfg))"), "{name}/src/lib.rs");
                let example = readme.contains("```rust") || root.contains("//! ```");
                assert!(example, "neither {name}/README.md nor its src/lib.rs has an example");
            }
        }
    }
}
