//! Runs `cargo test` and repeats at the end which tests failed, and what they printed: people often
//! read only the end of a log of thousands of lines.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, BufRead, BufReader, IsTerminal, Write};
use std::mem;
use std::process::{Command, Stdio};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, bail};

use crate::command::shown;

/// How many lines of one failed test are repeated; longer output loses its middle.
const LINES_EACH: usize = 60;
/// How many lines are repeated of all failed tests.
const LINES_ALL: usize = 400;
/// How many lines are kept of a target that ends without a result, for example by aborting.
const LINES_LOST: usize = 30;

/// After this long without a line, the end of cargo counts as the end of its output.
const QUIET: Duration = Duration::from_secs(5);

/// One failed test, or a target that failed as a whole.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Failure {
    /// The options that make `cargo test` run its target.
    target: String,
    /// `None` for the whole target.
    name: Option<String>,
    output: Vec<String>,
}

/// Runs `cargo test`, passing its output on. Adds the tests that failed to `failures`.
pub(crate) fn test(command: &mut Command, failures: &mut Vec<Failure>) -> Result<()> {
    let (reader, writer) = rustix::pipe::pipe().context("making a pipe")?;
    let copy = writer.try_clone().context("copying a pipe")?;
    if io::stdout().is_terminal() {
        command.env("CARGO_TERM_COLOR", "always");
    }
    command.stdout(writer).stderr(copy);
    let mut child = command.spawn().with_context(|| format!("starting `{}`", shown(command)))?;
    // These would hold the pipe's other end and so keep it open.
    command.stdout(Stdio::inherit()).stderr(Stdio::inherit());

    let mut watch = Watch::default();
    let (sender, lines) = mpsc::channel();
    thread::spawn(move || {
        for line in BufReader::new(File::from(reader)).split(b'\n') {
            if sender.send(line).is_err() {
                break;
            }
        }
    });
    loop {
        match lines.recv_timeout(QUIET) {
            Ok(line) => {
                let mut line = line.context("reading the tests' output")?;
                line.push(b'\n');
                io::stdout().write_all(&line).context("writing the tests' output")?;
                let text = String::from_utf8_lossy(&line);
                watch.line(&anstream::adapter::strip_str(text.trim_end_matches('\n')).to_string());
            }
            // A program that a test left behind holds the pipe open.
            Err(RecvTimeoutError::Timeout) => {
                let ended = child.try_wait().context("asking for the tests' end")?;
                if ended.is_some() {
                    break;
                }
            }
            Err(RecvTimeoutError::Disconnected) => break,
        }
    }
    let status = child.wait().with_context(|| format!("waiting for `{}`", shown(command)))?;
    if !status.success() {
        failures.extend(watch.finish());
        bail!("`{}` failed ({status})", shown(command));
    }
    Ok(())
}

/// Prints what failed, the names last.
pub(crate) fn print(failures: &[Failure]) {
    if failures.is_empty() {
        return;
    }
    println!("\n{}", report(failures).join("\n"));
}

fn report(failures: &[Failure]) -> Vec<String> {
    let mut lines = Vec::new();
    let each = (LINES_ALL / failures.len().max(1)).clamp(5, LINES_EACH);
    for failure in failures {
        if lines.len() >= LINES_ALL {
            lines.push("(The output of the others is further up.)".to_owned());
            break;
        }
        lines.push(format!("==> {} printed:", failure.title()));
        // The output is indented, so that nothing in it counts as one of our results.
        lines
            .extend(shortened(&failure.output, each).into_iter().map(|line| format!("    {line}")));
        lines.push(String::new());
    }
    lines.push(format!("Failed ({}):", failures.len()));
    lines.extend(failures.iter().map(|failure| format!("    {}", failure.title())));
    lines
}

/// At most `most` lines and one that says how many are left out: the first third and the end are
/// kept.
fn shortened(lines: &[String], most: usize) -> Vec<String> {
    if lines.len() <= most {
        return lines.to_vec();
    }
    let first = most / 3;
    let last = most - first;
    let left_out = lines.len() - most;
    let mut short = lines[..first].to_vec();
    short.push(format!("[{left_out} lines left out]"));
    short.extend_from_slice(&lines[lines.len() - last..]);
    short
}

impl Failure {
    fn title(&self) -> String {
        let name = self.name.as_deref().unwrap_or("(the whole target)");
        if self.target.is_empty() {
            return name.to_owned();
        }
        format!("{} {name}", self.target)
    }
}

/// The part of a target's output that the next line belongs to.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum Part {
    /// One line for each test.
    #[default]
    Tests,
    /// What the failed tests printed.
    Outputs,
    /// Their names.
    Names,
    /// Cargo's reason why the target failed.
    Cause,
}

/// Finds the failed tests in the output of `cargo test`, line by line.
#[derive(Debug, Default)]
struct Watch {
    /// Whether building is done and a target runs.
    started: bool,
    part: Part,
    /// The last lines of the running target.
    recent: VecDeque<String>,
    /// Failures of targets that have ended.
    failures: Vec<Failure>,
    /// Failures of the running target.
    running: Vec<Failure>,
}

impl Watch {
    fn line(&mut self, line: &str) {
        if let Some(target) = rerun(line) {
            return self.target_failed(target);
        }
        if starts_target(line) {
            self.started = true;
            self.part = Part::Tests;
            self.recent.clear();
        }
        match self.part {
            Part::Tests if line == "failures:" => self.part = Part::Outputs,
            Part::Outputs if line == "failures:" => self.part = Part::Names,
            Part::Outputs => {
                if let Some(name) = heading(line) {
                    let name = Some(name.to_owned());
                    self.running.push(Failure { target: String::new(), name, output: Vec::new() });
                } else if let Some(failure) = self.running.last_mut() {
                    failure.output.push(line.to_owned());
                }
            }
            Part::Cause => {
                if line.is_empty() {
                    self.part = Part::Tests;
                } else if let Some(failure) = self.failures.last_mut() {
                    failure.output.push(line.to_owned());
                }
            }
            Part::Tests | Part::Names => {
                // Later such a line may come from a program that a test runs.
                if line.starts_with("error") && !self.started {
                    self.could_not_build(line);
                }
            }
        }
        if self.recent.len() == LINES_LOST {
            self.recent.pop_front();
        }
        self.recent.push_back(line.to_owned());
    }

    /// Errors of rustc or cargo itself.
    fn could_not_build(&mut self, line: &str) {
        let name = Some(line.to_owned());
        self.failures.push(Failure { target: String::new(), name, output: Vec::new() });
        self.part = Part::Cause;
    }

    fn target_failed(&mut self, target: &str) {
        let mut failed = mem::take(&mut self.running);
        if failed.is_empty() {
            let output = self.recent.drain(..).collect();
            failed.push(Failure { target: String::new(), name: None, output });
            self.part = Part::Cause;
        } else {
            self.part = Part::Tests;
        }
        for failure in &mut failed {
            failure.target = target.to_owned();
            while failure.output.last().is_some_and(|line| line.trim().is_empty()) {
                failure.output.pop();
            }
        }
        self.failures.extend(failed);
    }

    fn finish(mut self) -> Vec<Failure> {
        self.failures.append(&mut self.running);
        self.failures
    }
}

/// The target in ``error: test failed, to rerun pass `-p fcgi-proto --lib` ``.
fn rerun(line: &str) -> Option<&str> {
    let (_, rest) = line.strip_prefix("error: ")?.split_once("failed, to rerun pass `")?;
    rest.strip_suffix('`')
}

fn starts_target(line: &str) -> bool {
    let line = line.trim_start();
    line.starts_with("Running ") || line.starts_with("Doc-tests ")
}

/// The name in `---- NAME stdout ----` (libtest) or `---- NAME ----` (libtest-mimic).
fn heading(line: &str) -> Option<&str> {
    let name = line.strip_prefix("---- ")?.strip_suffix(" ----")?;
    Some(name.strip_suffix(" stdout").unwrap_or(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn watched(log: &str) -> Vec<Failure> {
        let mut watch = Watch::default();
        log.lines().for_each(|line| watch.line(line));
        watch.finish()
    }

    fn failure(target: &str, name: Option<&str>, output: &[&str]) -> Failure {
        Failure {
            target: target.to_owned(),
            name: name.map(str::to_owned),
            output: output.iter().map(|&line| line.to_owned()).collect(),
        }
    }

    const LIBTEST: &str = "\
     Running unittests src/lib.rs (target/debug/deps/fcgi_proto-1)

running 3 tests
test good ... ok
test bad::one ... FAILED
test bad::two ... FAILED

failures:

---- bad::one stdout ----

thread 'bad::one' panicked at src/lib.rs:1:1:
one is not two

---- bad::two stdout ----
two


failures:
    bad::one
    bad::two

test result: FAILED. 1 passed; 2 failed; 0 ignored; 0 measured; 0 filtered out

error: test failed, to rerun pass `-p fcgi-proto --lib`
     Running tests/suite.rs (target/debug/deps/suite-2)

running 2 tests
test fine ... ok
test calls::lost ... FAILED

failures:

---- calls::lost ----
no answer came

failures:
    calls::lost

test result: FAILED. 1 passed; 1 failed; 0 ignored

error: test failed, to rerun pass `-p fcgi-tokio --test suite`
error: 2 targets failed:
    `-p fcgi-proto --lib`
    `-p fcgi-tokio --test suite`
";

    #[test]
    fn failed_tests_are_named_with_what_they_printed() {
        let wanted = [
            failure(
                "-p fcgi-proto --lib",
                Some("bad::one"),
                &["", "thread 'bad::one' panicked at src/lib.rs:1:1:", "one is not two"],
            ),
            failure("-p fcgi-proto --lib", Some("bad::two"), &["two"]),
            failure("-p fcgi-tokio --test suite", Some("calls::lost"), &["no answer came"]),
        ];
        assert_eq!(watched(LIBTEST), wanted);
    }

    #[test]
    fn a_target_that_dies_is_named() {
        let log = "\
     Running tests/a.rs (target/debug/deps/a-1)

running 1 test
memory allocation failed
error: test failed, to rerun pass `-p x --test a`

Caused by:
  process didn't exit successfully: `a-1` (signal: 6, SIGABRT: process abort signal)
     Running tests/b.rs (target/debug/deps/b-1)
error: said by a program that a test runs
test fine ... ok
";
        let failures = watched(log);
        assert_eq!(failures.len(), 1, "{failures:?}");
        assert_eq!(failures[0].title(), "-p x --test a (the whole target)");
        assert!(failures[0].output.contains(&"memory allocation failed".to_owned()));
    }

    #[test]
    fn what_does_not_build_is_named() {
        let log = "\
   Compiling x v0.1.0
error[E0425]: cannot find value `y` in this scope
 --> src/lib.rs:1:1

error: could not compile `x` (lib) due to 1 previous error
";
        let titles: Vec<String> = watched(log).iter().map(Failure::title).collect();
        assert_eq!(
            titles,
            [
                "error[E0425]: cannot find value `y` in this scope",
                "error: could not compile `x` (lib) due to 1 previous error"
            ]
        );
    }

    #[test]
    fn nothing_failed_is_nothing_to_say() {
        let log = "     Running tests/b.rs (b-1)\ntest fine ... ok\n\ntest result: ok. 1 passed\n";
        assert_eq!(watched(log), []);
    }

    #[test]
    fn the_report_is_short_and_ends_with_the_names() {
        let long: Vec<String> = (0..10_000).map(|n| format!("test result: ok. {n}")).collect();
        let failures: Vec<Failure> = (0..200)
            .map(|n| Failure {
                target: "-p x --lib".to_owned(),
                name: Some(format!("case_{n}")),
                output: long.clone(),
            })
            .collect();
        let lines = report(&failures);
        assert!(lines.len() < LINES_ALL + failures.len() + 100, "{} lines", lines.len());
        assert_eq!(lines.last().map(String::as_str), Some("    -p x --lib case_199"));
        let counted = lines.iter().any(|line| line.starts_with("test result: "));
        assert!(!counted, "a line in it would be counted as a result");

        let lines = report(&failures[..1]);
        assert!(lines.len() > LINES_EACH, "{} lines", lines.len());
        assert!(lines.contains(&format!("    [{} lines left out]", 10_000 - LINES_EACH)));
    }
}
