//! Cargo subcommands that the steps need, installed into the target folder.

use std::env;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};

use crate::command::{cargo, program, root, run, succeeds};

/// A program from crates.io.
pub(crate) struct Tool {
    /// Its crate, and the name of its program.
    name: &'static str,
    version: &'static str,
    /// How it must be called as a cargo subcommand: `cargo-hack hack`.
    subcommand: &'static str,
}

pub(crate) const HACK: Tool = Tool { name: "cargo-hack", version: "0.6.46", subcommand: "hack" };
pub(crate) const DENY: Tool = Tool { name: "cargo-deny", version: "0.20.2", subcommand: "deny" };

impl Tool {
    /// The command of the tool, which is first installed if it is missing.
    pub(crate) fn command(&self) -> Result<Command> {
        let mut own = program(self.name);
        if succeeds(own.args([self.subcommand, "--version"])) {
            return Ok(self.start(Path::new(self.name)));
        }
        let folder = target().join("tools");
        let installed = folder.join("bin").join(self.name);
        if !installed.is_file() {
            println!("Installing {} {}", self.name, self.version);
            // It is not optimised: it runs for seconds but would compile for minutes.
            let mut install = cargo(["install", "--locked", "--debug", self.name]);
            install.args(["--version", self.version, "--root"]).arg(&folder);
            install.env("CARGO_PROFILE_DEV_DEBUG", "0");
            run(&mut install).with_context(|| format!("{} is missing", self.name))?;
        }
        Ok(self.start(&installed))
    }

    fn start(&self, path: &Path) -> Command {
        let mut command = program(path);
        command.arg(self.subcommand);
        command
    }
}

/// The program that merges the counts of instrumented programs.
pub(crate) struct Profdata(pub(crate) PathBuf);

/// LLVM's tool for counts, of the same version as the compiler's own LLVM. It is installed with
/// rustup if it is missing.
///
/// # Errors
/// It can't be had, or the target's standard library has no code that counts.
pub(crate) fn profdata(target: &str) -> Result<Profdata> {
    let library = library(target)?;
    let entries = library.read_dir().with_context(|| format!("reading {}", library.display()))?;
    let mut names = entries.flatten().map(|entry| entry.file_name());
    let counts = names.any(|name| name.to_string_lossy().starts_with("libprofiler_builtins-"));
    ensure!(counts, "rustc has no profiler for {target}");
    let tool = library_of_host()?.with_file_name("bin").join("llvm-profdata");
    if !tool.is_file() {
        println!("Installing llvm-tools");
        run(program("rustup").args(["component", "add", "llvm-tools"]))
            .context("llvm-tools are missing")?;
    }
    ensure!(tool.is_file(), "llvm-tools have no {}", tool.display());
    Ok(Profdata(tool))
}

/// The folder of a target's standard library.
pub(crate) fn library(target: &str) -> Result<PathBuf> {
    library_by(&["--target", target])
}

/// The folder of the standard library for the machine that builds.
fn library_of_host() -> Result<PathBuf> {
    library_by(&[])
}

fn library_by(arguments: &[&str]) -> Result<PathBuf> {
    let output = program("rustc").args(["--print", "target-libdir"]).args(arguments).output();
    let output = output.context("starting rustc")?;
    ensure!(output.status.success(), "rustc has no target-libdir");
    Ok(PathBuf::from(String::from_utf8_lossy(&output.stdout).trim()))
}

/// The triple of the machine that builds.
pub(crate) fn host() -> Result<String> {
    let output = program("rustc").args(["-vV"]).output().context("starting rustc")?;
    let said = String::from_utf8_lossy(&output.stdout);
    let host = said.lines().find_map(|line| line.strip_prefix("host: "));
    Ok(host.context("rustc -vV names no host")?.to_owned())
}

/// The folder that cargo builds in.
pub(crate) fn target() -> PathBuf {
    env::var_os("CARGO_TARGET_DIR").map_or_else(|| root().join("target"), PathBuf::from)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_target_without_a_profiler_is_named() {
        let refused = profdata("aarch64-unknown-none").err().map(|error| format!("{error:#}"));
        let refused = refused.expect("nothing is installed for it");
        assert!(refused.contains("aarch64-unknown-none"), "{refused}");
    }
}
