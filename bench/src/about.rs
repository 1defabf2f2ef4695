//! The machine, the date, and the versions.

use std::fs;
use std::process::Command;

use fcgi_testkit::peers::Peer;

use crate::Options;
use crate::cpu::Placement;
use crate::table::Table;

/// The crates that take part, and those that they are built on.
const CRATES: [&str; 11] = [
    "tokio",
    "smol",
    "async-std",
    "hyper",
    "axum",
    "bytes",
    "cegla-fcgi",
    "fastcgi-client",
    "tokio-fastcgi",
    "rama-fastcgi",
    "tracing",
];

/// Prints them.
pub(crate) fn print(options: &Options, cpus: Placement) {
    let Options { seconds, rounds, .. } = options;
    println!(
        "Medians of {rounds} interleaved rounds of {seconds} s a row (A B C, A B C, …); each ratio is \
         the median of the rounds' own ratios. Ratios count, absolute numbers are this machine's.\n"
    );
    let mut table = Table::new(&["", "this run"]);
    let mut row = |name: &str, value: String| table.row(vec![name.to_owned(), value], "");
    row("date", said("date", &["-u", "+%Y-%m-%d %H:%M UTC"]));
    row("processor", processor());
    row("kernel", said("uname", &["-sr"]));
    row("Rust", said("rustc", &["--version"]));
    let peers = [Peer::Nginx, Peer::Caddy, Peer::PhpFpm, Peer::Go, Peer::Libfcgi];
    for peer in peers {
        row(peer.name(), peer.version().unwrap_or_else(|| "missing".to_owned()));
    }
    let crates: Vec<String> = CRATES.iter().filter_map(|name| locked(name)).collect();
    row("crates", crates.join(", "));
    row("load before", load());
    row("places", cpus.words());
    table.print();
}

/// Prints whether others used the machine during the run.
pub(crate) fn print_end() {
    println!("Load of the machine at the end of the run: {}.\n", load());
}

/// The first line that a program prints.
fn said(program: &str, args: &[&str]) -> String {
    let output = Command::new(program).args(args).output();
    let text = output.map(|output| String::from_utf8_lossy(&output.stdout).into_owned());
    let line = text.ok().and_then(|text| text.lines().next().map(str::to_owned));
    line.unwrap_or_else(|| "unknown".to_owned())
}

fn processor() -> String {
    let text = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = text.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": "));
    let n = text.lines().filter(|line| line.starts_with("processor")).count();
    format!("{n} × {}", model.map_or("unknown", |(_, model)| model.trim()))
}

/// The mean number of processes that wanted to run, over 1, 5 and 15 minutes.
fn load() -> String {
    let text = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    text.split_whitespace().take(3).collect::<Vec<_>>().join(", ")
}

/// The version of a crate that this program was built with.
fn locked(name: &str) -> Option<String> {
    let package = format!("name = \"{name}\"\nversion = \"");
    let (_, rest) = include_str!("../../Cargo.lock").split_once(&package)?;
    Some(format!("{name} {}", rest.split('"').next()?))
}
