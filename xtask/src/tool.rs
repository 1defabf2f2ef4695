//! Cargo subcommands that the steps need, installed into the target folder.

use std::env;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

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

/// The folder that cargo builds in.
pub(crate) fn target() -> PathBuf {
    env::var_os("CARGO_TARGET_DIR").map_or_else(|| root().join("target"), PathBuf::from)
}
