//! docs/conformance.md: `fcgi check` against applications on these libraries and on others.

mod common;

use std::{
    collections::BTreeMap,
    env,
    fmt::Write,
    fs,
    path::{Path, PathBuf},
    process::{Child, Command, ExitCode, Stdio},
    thread,
};

use common::{fcgi, gateway::until};
use fcgi_testkit::{
    examples::Examples,
    harness::{self, Case, Failed},
    listening::listens,
    peers::{Application, ApplicationKind, Peer, PhpFpm, PhpFpmOptions, scratch},
};
use serde_json::Value;

/// Set it to write the page instead of comparing it.
const UPDATE: &str = "UPDATE_CLI";
/// Long enough for a machine with other things to do.
const PATIENCE: &str = "5";
const OURS: [&str; 4] = ["tokio", "smol", "async-std", "blocking"];
const OTHERS: [Other; 3] = [Other::Libfcgi, Other::Go, Other::PhpFpm];

const HEAD: &str = "\
# Conformance

This page shows the results of `fcgi check`, which sends plain requests in many forms, and then what
the specification does not allow. The first four columns are the `echo` examples of these libraries'
adapters. The others are a C program on libfcgi, one on Go's `net/http/fcgi`, and php-fpm with a
script that prints a line. The numbers are those of [requirements.md](requirements.md). It also lists
what the specification leaves open and these libraries decided; in those cases a \"fail\" only means
that the application decided differently. *skip* means that the application does not offer what the
case needs.

A test makes this page, and compares it in each run. `UPDATE_CLI=1 cargo test -p fcgi-cli --test
conformance` writes it. `fcgi check ADDR` runs the same cases against your application; see
[cli.md](cli.md).

";

fn main() -> ExitCode {
    let peers = [Peer::Go, Peer::Libfcgi, Peer::Gcc, Peer::PhpFpm];
    harness::run([Case::new("conformance", conformance).needs(&peers)])
}

/// One of our own applications.
struct Echo {
    child: Child,
    address: String,
    _folder: tempfile::TempDir,
}

impl Echo {
    fn start(adapter: &str) -> Result<Self, Failed> {
        let examples = Examples::build(&format!("fcgi-{adapter}"), &["echo"])?;
        let folder = scratch()?;
        let socket = folder.path().join("echo.sock");
        let address = format!("unix:{}", socket.display());
        let child = Command::new(examples.path("echo"))
            .arg(&address)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()?;
        until("it listens", || listens(&socket));
        Ok(Self { child, address, _folder: folder })
    }
}

impl Drop for Echo {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// An application on another library.
#[derive(Clone, Copy)]
enum Other {
    Libfcgi,
    Go,
    PhpFpm,
}

impl Other {
    fn name(self) -> &'static str {
        match self {
            Self::Libfcgi => "libfcgi",
            Self::Go => "Go",
            Self::PhpFpm => "php-fpm",
        }
    }

    /// Checks a fresh application: an earlier check may have cost it its workers.
    fn check(self, args: &[&str]) -> Result<Vec<[String; 3]>, Failed> {
        let checked = match self {
            Self::Libfcgi => {
                let started = Application::start(ApplicationKind::Libfcgi { workers: 8 })?;
                check(&started.address(), args)
            }
            Self::Go => check(&Application::start(ApplicationKind::Go)?.address(), args),
            Self::PhpFpm => {
                let php = PhpFpm::start(PhpFpmOptions::default().children(8))?;
                let script = php.script("hello.php").display().to_string();
                check(&php.unix_address(), &[args, &["--script", &script]].concat())
            }
        };
        Ok(checked?.0)
    }
}

/// Each case with its name and its result, in order, and the text about failures.
fn check(address: &str, args: &[&str]) -> Result<(Vec<[String; 3]>, String), Failed> {
    let output = fcgi()
        .args(["check", address, "--json", "--timeout", PATIENCE])
        .args(args)
        .stderr(Stdio::inherit())
        .output()?;
    let (mut results, mut failures) = (Vec::new(), String::new());
    let printed = String::from_utf8(output.stdout)?;
    for line in printed.lines() {
        let object: Value = serde_json::from_str(line)?;
        if object["event"] == "case" {
            let text = |name: &str| object[name].as_str().unwrap_or_default().to_owned();
            results.push([text("case"), text("name"), text("result")]);
            if object["result"] == "fail" {
                failures.push_str(&format!("{line:.400}\n"));
            }
        }
    }
    let expected = if failures.is_empty() { 0 } else { 7 };
    assert_eq!(output.status.code(), Some(expected), "{address} {args:?} printed: {printed}");
    Ok((results, failures))
}

fn conformance() -> Result<(), Failed> {
    let mut columns = Vec::new();
    for adapter in OURS {
        let echo = Echo::start(adapter)?;
        let (results, failures) = check(&echo.address, &[])?;
        assert_eq!(failures, "", "all of {adapter}'s pass");
        columns.push((adapter, results));
    }
    // Applications that do not answer cost time, so all are checked at once.
    let checked: Vec<_> = thread::scope(|scope| {
        let run = |other: Other| scope.spawn(move || other.check(&[]));
        let running: Vec<_> = OTHERS.into_iter().map(run).collect();
        running.into_iter().map(|running| running.join()).collect()
    });
    let written = written();
    for (other, checked) in OTHERS.into_iter().zip(checked) {
        let mut results = checked.map_err(|_| "a check panicked")??;
        for result in &mut results {
            settle(result, other.name(), &written, |case| other.check(&["--only", case]))?;
        }
        columns.push((other.name(), results));
    }
    compare(&page(&columns)?)
}

/// The results on the page, by case and application.
fn written() -> BTreeMap<(String, String), String> {
    let page = fs::read_to_string(path()).unwrap_or_default();
    let cells = |line: &str| -> Vec<String> {
        line.split('|').map(|cell| cell.trim().trim_matches('*').to_owned()).collect()
    };
    let mut lines = page.lines().filter(|line| line.starts_with('|')).map(cells);
    let names = lines.next().unwrap_or_default();
    let results = lines.flat_map(|line| {
        let case = line.get(1).cloned().unwrap_or_default();
        names.iter().cloned().zip(line).map(move |(name, cell)| ((case.clone(), name), cell))
    });
    results.collect()
}

/// Other libraries may answer in either way, depending on how their threads and processes run. So a
/// result that was seen once counts.
fn settle(
    result: &mut [String; 3],
    name: &str,
    written: &BTreeMap<(String, String), String>,
    again: impl Fn(&str) -> Result<Vec<[String; 3]>, Failed>,
) -> Result<(), Failed> {
    const TRIES: usize = 10;
    let Some(expected) = written.get(&(result[0].clone(), name.to_owned())) else { return Ok(()) };
    for _ in 0..TRIES {
        if result[2] == *expected || env::var_os(UPDATE).is_some() {
            break;
        }
        let seen = again(&result[0])?;
        result[2].clone_from(&seen.first().ok_or("no result")?[2]);
    }
    Ok(())
}

fn path() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/conformance.md")
}

fn page(columns: &[(&str, Vec<[String; 3]>)]) -> Result<String, Failed> {
    let names: Vec<&str> = columns.iter().map(|(name, _)| *name).collect();
    let mut page = HEAD.to_owned();
    writeln!(page, "| | case | {} |", names.join(" | "))?;
    writeln!(page, "| --- | --- |{}", " --- |".repeat(names.len()))?;
    let mut sums: BTreeMap<&str, Vec<usize>> = BTreeMap::new();
    let first = &columns.first().ok_or("no application")?.1;
    for (n, [number, name, _]) in first.iter().enumerate() {
        write!(page, "| {number} | {name} |")?;
        for (at, (_, results)) in columns.iter().enumerate() {
            let [other, _, result] = results.get(n).ok_or("not every case was run")?;
            assert_eq!(number, other);
            let shown = if result == "fail" { "**fail**" } else { result };
            write!(page, " {shown} |")?;
            sums.entry(result).or_insert_with(|| vec![0; columns.len()])[at] += 1;
        }
        page.push('\n');
    }
    for result in ["pass", "fail", "skip"] {
        let none = vec![0; columns.len()];
        let counts = sums.get(result).unwrap_or(&none);
        let counts: Vec<String> = counts.iter().map(ToString::to_string).collect();
        writeln!(page, "| | *{result}* | {} |", counts.join(" | "))?;
    }
    Ok(page)
}

fn compare(page: &str) -> Result<(), Failed> {
    let path = path();
    if env::var_os(UPDATE).is_some() {
        fs::write(&path, page)?;
        return Ok(());
    }
    let written = fs::read_to_string(&path)?;
    let differences: Vec<String> = written
        .lines()
        .zip(page.lines())
        .filter(|(before, now)| before != now)
        .map(|(before, now)| format!("- {before}\n+ {now}"))
        .collect();
    let differences = differences.join("\n");
    assert!(written == page, "docs/conformance.md; {UPDATE}=1 writes it:\n{differences}");
    Ok(())
}
