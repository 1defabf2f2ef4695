//! Installs the real peers, if that is allowed.

use std::process::Command;

use anyhow::{Context, Result, bail};
use fcgi_testkit::peers::{Missing, Peer};

use crate::command::{program, run, shown, succeeds};

/// Installs the missing `peers`, if the machine has apt-get and lets us; otherwise says so. Returns
/// what is still missing.
pub(crate) fn provide(peers: &[Peer]) -> Vec<Missing> {
    let absent = missing(peers);
    if absent.is_empty() {
        return absent;
    }
    if let Err(error) = install(&absent) {
        println!("Not installed: {error:#}");
    }
    missing(peers)
}

/// Those of `peers` that are not on this machine.
pub(crate) fn missing(peers: &[Peer]) -> Vec<Missing> {
    peers.iter().filter_map(|peer| peer.find().err()).collect()
}

fn install(absent: &[Missing]) -> Result<()> {
    let packages: Vec<&str> = absent.iter().map(|missing| missing.peer.package()).collect();
    println!("Installing {}", packages.join(" "));
    update_lists()?;
    if install_packages(&packages).is_ok() {
        return Ok(());
    }
    // If this release lacks one package, the others are still installed.
    let refused: Vec<String> = packages
        .iter()
        .filter_map(|package| install_packages(&[package]).err())
        .map(|error| format!("{error:#}"))
        .collect();
    if !refused.is_empty() {
        bail!("{}", refused.join("; "));
    }
    Ok(())
}

/// Updates apt-get's list of packages.
pub(crate) fn update_lists() -> Result<()> {
    let mut update = apt_get()?;
    // An old list may still be good enough.
    if let Err(error) = run(update.args(["update", "-qq"])) {
        println!("{error:#}");
    }
    Ok(())
}

/// Installs packages. Meanwhile a policy keeps their services from starting, unless the machine has
/// its own policy.
const INSTALL: &str = r#"
policy=/usr/sbin/policy-rc.d
if [ ! -e "$policy" ]; then
    trap 'rm -f "$policy"' EXIT
    trap 'exit 1' HUP INT TERM
    printf '#!/bin/sh\nexit 101\n' > "$policy"
    chmod 755 "$policy"
fi
apt-get -o DPkg::Lock::Timeout=300 -o Acquire::Retries=5 install -qq -y --no-install-recommends "$@"
"#;

pub(crate) fn install_packages(packages: &[&str]) -> Result<()> {
    let mut install = as_root()?;
    install.args(["sh", "-c", INSTALL, "sh"]).args(packages);
    let status = install.status().context("starting the installation")?;
    if !status.success() {
        bail!("apt-get did not install {} ({status})", packages.join(" "));
    }
    Ok(())
}

fn apt_get() -> Result<Command> {
    if !succeeds(program("apt-get").arg("--version")) {
        bail!("there is no apt-get here");
    }
    let mut command = as_root()?;
    command.args(["apt-get", "-o", "DPkg::Lock::Timeout=300", "-o", "Acquire::Retries=5"]);
    Ok(command)
}

/// The start of a command for root, or for a sudo that needs no password.
fn as_root() -> Result<Command> {
    let mut command = if rustix::process::geteuid().is_root() {
        program("env")
    } else {
        let mut sudo = program("sudo");
        sudo.args(["-n", "env"]);
        let mut probe = program("sudo");
        if !succeeds(probe.args(["-n", "true"])) {
            bail!("neither root nor `{}` without a password", shown(&probe));
        }
        sudo
    };
    command.arg("DEBIAN_FRONTEND=noninteractive");
    Ok(command)
}
