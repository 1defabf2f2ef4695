//! `cargo xtask bench`.

use std::ffi::OsString;
use std::fs;
use std::io::{BufRead, BufReader};
use std::process::Stdio;

use anyhow::{Context, Result, bail};
use clap::Args;
use fcgi_testkit::peers::Peer;

use crate::command::{cargo, program, root, run as run_command, shown, succeeds};
use crate::{peers, tool, trained};

/// A whole run writes a part of this document.
const FILE: &str = "docs/performance.md";
/// The marks around that part.
const MARKS: [&str; 2] = ["<!-- cargo xtask bench: begin -->\n", "<!-- cargo xtask bench: end -->"];
/// The peers that it compares with, and the tools that measure.
const PEERS: [Peer; 7] =
    [Peer::Gcc, Peer::Libfcgi, Peer::Go, Peer::Nginx, Peer::Caddy, Peer::PhpFpm, Peer::Strace];
/// Programs that are not peers, each in a package of its name.
const TOOLS: [&str; 2] = ["wrk", "valgrind"];
/// The suffixes of the crates whose examples take part.
const ADAPTERS: [&str; 4] = ["tokio", "smol", "async-std", "blocking"];

/// The arguments of `cargo xtask bench`.
#[derive(Debug, Args)]
pub(crate) struct Options {
    /// Arguments for the benchmark program, such as `server --rounds 9`; without them all of it runs,
    /// and docs/performance.md is written
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    arguments: Vec<OsString>,
}

/// Installs the peers, builds the measured programs, and runs the benchmarks.
pub(crate) fn run(options: &Options) -> Result<()> {
    for missing in peers::provide(&PEERS) {
        println!("Left out: {missing}");
    }
    for tool in TOOLS {
        if !succeeds(program("sh").args(["-c", "command -v \"$0\"", tool])) {
            if let Err(error) = peers::install_packages(&[tool]) {
                println!("Left out: what needs {tool}: {error:#}");
            }
        }
    }
    run_command(cargo(["build"]).args(libraries()))?;
    let mut bench = program(tool::target().join("release/fcgi-bench"));
    if measures_the_command(&options.arguments) {
        bench.arg("--command").arg(trained::fast()?);
    }
    if !options.arguments.is_empty() {
        return run_command(bench.args(&options.arguments));
    }
    let mut child = bench.args(["all", "--strace"]).stdout(Stdio::piped()).spawn()?;
    let mut said = String::new();
    let stdout = child.stdout.take().context("the benchmark has no stdout")?;
    for line in BufReader::new(stdout).lines() {
        let line = line?;
        println!("{line}");
        said.push_str(&line);
        said.push('\n');
    }
    let status = child.wait()?;
    if !status.success() {
        bail!("{} failed: {status}", shown(&bench));
    }
    let path = root().join(FILE);
    let text = fs::read_to_string(&path).with_context(|| format!("reading {FILE}"))?;
    fs::write(&path, with(&text, &said)?).with_context(|| format!("writing {FILE}"))
}

/// The arguments of the build of everything except the command. One build gives all of its packages
/// the same features, and those of fcgi-cli remove the libraries' `debug!` and `debug_span!`, which
/// users' programs have. So the command is built alone.
fn libraries() -> Vec<String> {
    let mut libraries = ["--profile", "release", "-p", "fcgi-bench", "--bin", "fcgi-bench"]
        .map(str::to_owned)
        .to_vec();
    for adapter in ADAPTERS {
        libraries.extend(["-p".to_owned(), format!("fcgi-{adapter}")]);
        for example in ["hello", "blast"] {
            libraries.extend(["--example".to_owned(), format!("{adapter}-{example}")]);
        }
    }
    libraries
}

/// Whether the command takes part, whose build takes minutes: only beside web servers.
fn measures_the_command(arguments: &[OsString]) -> bool {
    let parts = ["codec", "server", "http", "client", "bodies", "scale"];
    !arguments.iter().any(|argument| parts.iter().any(|part| argument == part))
}

/// Replaces the part between the marks of the document.
fn with(text: &str, said: &str) -> Result<String> {
    let [begin, end] = MARKS;
    let parts = text.split_once(begin).and_then(|(before, rest)| {
        let (_, after) = rest.split_once(end)?;
        Some((before, after))
    });
    let (before, after) = parts.with_context(|| format!("{FILE} has not the marks {MARKS:?}"))?;
    Ok(format!("{before}{begin}\n{}\n\n{end}{after}", said.trim()))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Looks at the features that cargo would build the measured libraries with.
    #[test]
    fn the_libraries_are_measured_with_their_tracing() {
        let limits = |arguments: &[String]| {
            let packages = arguments.chunks(2).filter(|pair| pair[0] == "-p").flatten();
            let mut tree = cargo(["tree", "--offline", "--edges", "normal,dev,features"]);
            let output = tree.args(packages).output().unwrap();
            assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
            let tree = String::from_utf8(output.stdout).unwrap();
            assert!(tree.contains("fcgi-engine v"), "{tree}");
            tree.contains("max_level")
        };
        assert!(!limits(&libraries()), "a program's features change the libraries");
        let command = ["-p", "fcgi-cli"].map(str::to_owned);
        assert!(limits(&command), "the command needs no build of its own");
    }

    #[test]
    fn a_run_replaces_its_own_part_alone() {
        let [begin, end] = MARKS;
        let text = format!("# Title\n{begin}\nold\n\n{end}\n## Learnt\n");
        let new = format!("# Title\n{begin}\nnew\n\n{end}\n## Learnt\n");
        assert_eq!(with(&text, "new\n\n").unwrap(), new);
        assert_eq!(with(&new, "new\n").unwrap(), new);
        assert!(with("# Title\n", "new").is_err());
    }
}
