//! Tests the oldest compiler that the published crates promise to build with.
//!
//! Debian 12 has Rust 1.85.0 as rustc-web. Its packages are unpacked into the target folder, so the
//! machine's own Rust stays unchanged.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};

use crate::ci::published;
use crate::command::{cargo, program, run, shown};
use crate::peers;
use crate::tool::target;

const VERSION: &str = "1.85.0";
const PACKAGES: [&str; 3] = ["rustc-web", "libstd-rust-web-dev", "libstd-rust-web-1.85"];
/// The libraries that rustc-web is linked with.
const LLVM: &str = "libllvm19";

/// Checks each published crate, with all features, under that compiler.
pub(crate) fn check(old: &Old) -> Result<()> {
    let mut check = cargo(["check", "--locked", "--all-features"]);
    for name in published()? {
        check.args(["--package", &name]);
    }
    check.arg("--target-dir").arg(folder().join("target"));
    check.env("RUSTC", &old.rustc).env("LD_LIBRARY_PATH", &old.libraries);
    run(&mut check)
}

/// Rust 1.85.0, unpacked.
pub(crate) struct Old {
    rustc: PathBuf,
    libraries: PathBuf,
}

impl Old {
    fn version(&self) -> Result<String> {
        let mut ask = program(&self.rustc);
        ask.arg("--version").env("LD_LIBRARY_PATH", &self.libraries);
        let output = ask.output().with_context(|| format!("starting `{}`", shown(&ask)))?;
        ensure!(
            output.status.success(),
            "`{}` failed: {}",
            shown(&ask),
            String::from_utf8_lossy(&output.stderr).trim()
        );
        Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
    }
}

/// Unpacks it if it is missing.
pub(crate) fn compiler() -> Result<Old> {
    let folder = folder();
    let old = Old {
        rustc: folder.join("usr/bin/rustc"),
        libraries: folder.join("usr/lib/x86_64-linux-gnu"),
    };
    if old.version().is_err() {
        unpack(&folder)?;
    }
    let version = old.version()?;
    ensure!(version.contains(VERSION), "{} says {version}", old.rustc.display());
    println!("{version}");
    Ok(old)
}

fn folder() -> PathBuf {
    target().join("msrv")
}

fn unpack(folder: &Path) -> Result<()> {
    fs::create_dir_all(folder).with_context(|| format!("creating {}", folder.display()))?;
    peers::update_lists()?;
    peers::install_packages(&[LLVM])?;
    let mut packages = Vec::new();
    for name in PACKAGES {
        packages.push(match offered(name)? {
            Some(version) => format!("{name}={version}"),
            None => bail!("apt-get offers no {name} of Rust {VERSION}"),
        });
    }
    let mut download = program("apt-get");
    download.args(["download", "-qq", "-o", "Acquire::Retries=5"]);
    run(download.args(&packages).current_dir(folder))?;
    for entry in fs::read_dir(folder).with_context(|| format!("reading {}", folder.display()))? {
        let path = entry.with_context(|| format!("reading {}", folder.display()))?.path();
        if path.extension().is_some_and(|extension| extension == "deb") {
            run(Command::new("dpkg").arg("--extract").arg(&path).arg(folder))?;
            fs::remove_file(&path).with_context(|| format!("removing {}", path.display()))?;
        }
    }
    Ok(())
}

/// The version of a package that holds the required Rust, which may not be the newest.
fn offered(package: &str) -> Result<Option<String>> {
    let mut list = program("apt-cache");
    list.args(["madison", package]);
    let output = list.output().with_context(|| format!("starting `{}`", shown(&list)))?;
    let lines = String::from_utf8_lossy(&output.stdout).into_owned();
    let version = lines
        .lines()
        .filter_map(|line| line.split('|').nth(1))
        .map(str::trim)
        .find(|version| version.starts_with(VERSION));
    Ok(version.map(str::to_owned))
}
