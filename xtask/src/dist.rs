//! `cargo xtask dist`: builds the command for release, and measures it.

use std::fs;
use std::io::{Read, Write};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use clap::Args;
use fcgi_testkit::peers::{Peer, PhpFpm, PhpFpmOptions, scratch};

use crate::command::{program, root, run as run_command, succeeds};
use crate::peers;
use crate::tool;
use crate::trained::{self, Build};

const MUSL: &str = "x86_64-unknown-linux-musl";
const GNU: &str = "x86_64-unknown-linux-gnu";
/// This requests a static glibc; musl is static anyway. At a fixed address: without relocations the
/// program is smaller and starts sooner.
const FLAGS: &str = "-Ctarget-feature=+crt-static -Crelocation-model=static";
/// The size limits of the program, in bytes: plain, and compressed.
const MOST: u64 = 4_500_000;
const MOST_COMPRESSED: u64 = 2_000_000;
/// How much longer than cgi-fcgi `fcgi ping` may take, and how much memory it may use.
const MOST_MORE: Duration = Duration::from_micros(500);
const MOST_MEMORY: u64 = 4096;
/// The number of runs of each program, which take turns.
const RUNS: usize = 300;

/// The arguments of `cargo xtask dist`.
#[derive(Debug, Args)]
pub(crate) struct Options {
    /// Leave docs/cli.md as it is
    #[arg(long)]
    no_page: bool,
    /// Build the command for a busy gateway instead, in target/dist-fcgi/fast, and measure nothing
    #[arg(long)]
    fast: bool,
}

/// What was measured.
struct Figures {
    target: String,
    size: u64,
    compressed: u64,
    /// Medians.
    ping: Duration,
    cgi_fcgi: Duration,
    /// KiB.
    memory: u64,
}

/// Builds the program, its completions and man pages in target/dist-fcgi, measures it, and writes
/// the figures to docs/cli.md.
pub(crate) fn run(options: &Options) -> Result<()> {
    let folder = tool::target().join("dist-fcgi");
    if options.fast {
        let fcgi = place(&trained::fast()?, &folder.join("fast"))?;
        println!("{}", fcgi.display());
        return Ok(());
    }
    let target = if has_target(MUSL) || fetch_target(MUSL) { MUSL } else { GNU };
    // With counts the program would have 4.9 MB, more than the limit allows.
    let build =
        Build { profile: "dist", target, arguments: &["--no-default-features"], flags: FLAGS };
    let fcgi = place(&build.untrained()?, &folder)?;
    ensure!(is_static(&fcgi)?, "{} needs a loader: it is not static", fcgi.display());
    pages(&fcgi, &folder)?;
    if let Some(missing) = peers::provide(&[Peer::PhpFpm, Peer::CgiFcgi]).first() {
        bail!("nothing to compare with: {missing}");
    }
    let (ping, cgi_fcgi) = times(&fcgi)?;
    let figures = Figures {
        target: target.to_owned(),
        size: fs::metadata(&fcgi)?.len(),
        compressed: compressed(&fcgi)?,
        ping,
        cgi_fcgi,
        memory: memory(&fcgi)?,
    };
    let text = figures.text();
    println!("{}\n{text}", fcgi.display());
    if !options.no_page {
        write_page(&text)?;
    }
    figures.check()
}

impl Figures {
    fn text(&self) -> String {
        let mega = |bytes: u64| format!("{:.2} MB", bytes as f64 / 1e6);
        let milli = |time: Duration| format!("{:.2} ms", time.as_secs_f64() * 1e3);
        let rows = [
            ("the program, static", mega(self.size), mega(MOST)),
            ("compressed (xz -9)", mega(self.compressed), mega(MOST_COMPRESSED)),
            ("`fcgi ping` of php-fpm, whole process", milli(self.ping), String::new()),
            (
                "the same with `cgi-fcgi`",
                milli(self.cgi_fcgi),
                format!("at most {} less", milli(MOST_MORE)),
            ),
            (
                "`fcgi ping`, resident at most",
                format!("{:.1} MiB", self.memory as f64 / 1024.0),
                format!("{:.1} MiB", MOST_MEMORY as f64 / 1024.0),
            ),
        ];
        let mut text = format!("| {} | | limit |\n| --- | --- | --- |\n", self.target);
        for (what, figure, limit) in rows {
            text.push_str(&format!("| {what} | {figure} | {limit} |\n"));
        }
        text
    }

    fn check(&self) -> Result<()> {
        ensure!(self.size <= MOST, "the program has {} bytes, more than {MOST}", self.size);
        let compressed = self.compressed;
        ensure!(compressed <= MOST_COMPRESSED, "compressed it has {compressed} bytes");
        let more = self.ping.saturating_sub(self.cgi_fcgi);
        ensure!(more <= MOST_MORE, "fcgi ping takes {more:?} more than cgi-fcgi");
        ensure!(self.memory <= MOST_MEMORY, "fcgi ping has {} KiB resident", self.memory);
        Ok(())
    }
}

/// Copies the built program to `folder`.
fn place(built: &Path, folder: &Path) -> Result<PathBuf> {
    fs::create_dir_all(folder)?;
    let fcgi = folder.join("fcgi");
    fs::copy(built, &fcgi).with_context(|| format!("copying {}", built.display()))?;
    Ok(fcgi)
}

/// Fetches a target's standard library, if rustup is here and reaches its server.
fn fetch_target(target: &str) -> bool {
    succeeds(program("rustup").args(["target", "add", target])) && has_target(target)
}

fn has_target(target: &str) -> bool {
    tool::library(target).is_ok_and(|library| library.is_dir())
}

/// Whether a program names no loader (an ELF file's INTERP header).
fn is_static(path: &Path) -> Result<bool> {
    let bytes = fs::read(path)?;
    let short = |at: usize| bytes.get(at..at + 2).map(|two| u16::from_le_bytes([two[0], two[1]]));
    let word = |at: usize| bytes.get(at..at + 4).and_then(|four| four.try_into().ok());
    let long = |at: usize| bytes.get(at..at + 8).and_then(|eight| eight.try_into().ok());
    // In a 64-bit file: the table's position, the size of a header, and their number.
    let (Some(place), Some(size), Some(number)) = (long(0x20), short(0x36), short(0x38)) else {
        bail!("{} is not an ELF file", path.display());
    };
    const INTERP: u32 = 3;
    let place = u64::from_le_bytes(place) as usize;
    Ok((0..usize::from(number)).all(|header| {
        word(place + header * usize::from(size)).map(u32::from_le_bytes) != Some(INTERP)
    }))
}

/// Writes completions and man pages next to the program.
fn pages(fcgi: &Path, folder: &Path) -> Result<()> {
    let completions = folder.join("completions");
    fs::create_dir_all(&completions)?;
    for (shell, file) in [("bash", "fcgi.bash"), ("zsh", "_fcgi"), ("fish", "fcgi.fish")] {
        let output = Command::new(fcgi).args(["completions", shell]).output()?;
        ensure!(output.status.success(), "fcgi completions {shell} failed");
        fs::write(completions.join(file), output.stdout)?;
    }
    run_command(Command::new(fcgi).args(["man", "--dir"]).arg(folder.join("man")))
}

fn compressed(path: &Path) -> Result<u64> {
    let output = Command::new("xz").args(["-9", "-c"]).arg(path).output().context("xz")?;
    ensure!(output.status.success(), "xz failed");
    Ok(output.stdout.len() as u64)
}

/// The median times for pinging php-fpm with `fcgi` and with cgi-fcgi, which take turns.
fn times(fcgi: &Path) -> Result<(Duration, Duration)> {
    let php = PhpFpm::start(PhpFpmOptions::default()).context("starting php-fpm")?;
    let address = php.unix_address();
    let socket = address.trim_start_matches("unix:").to_owned();
    let cgi_fcgi = Peer::CgiFcgi.find()?;
    let mut ours = Command::new(fcgi);
    ours.args(["ping", &address, "-q"]);
    let mut theirs = Command::new(cgi_fcgi);
    theirs.args(["-bind", "-connect", &socket]);
    theirs.envs([
        ("REQUEST_METHOD", "GET"),
        ("SCRIPT_NAME", "/ping"),
        ("SCRIPT_FILENAME", "/ping"),
    ]);
    let mut measured = [Vec::new(), Vec::new()];
    for _ in 0..RUNS {
        for (command, times) in [&mut ours, &mut theirs].into_iter().zip(&mut measured) {
            let started = Instant::now();
            ensure!(succeeds(command), "a ping failed");
            times.push(started.elapsed());
        }
    }
    let [ours, theirs] = measured.map(|mut times| {
        times.sort();
        times[times.len() / 2]
    });
    Ok((ours, theirs))
}

/// The peak resident memory of `fcgi ping` until its answer comes, in KiB.
fn memory(fcgi: &Path) -> Result<u64> {
    let folder = scratch()?;
    let path = folder.path().join("app.sock");
    let listener = UnixListener::bind(&path)?;
    let mut ping = Command::new(fcgi);
    ping.args(["ping", "--timeout", "60"]).arg(&path).stdout(Stdio::null()).stderr(Stdio::null());
    let mut child = ping.spawn()?;
    let (mut stream, _) = listener.accept()?;
    // The request is sent now, and the program waits.
    stream.read_exact(&mut [0; 16])?;
    thread::sleep(Duration::from_millis(50));
    let status = fs::read_to_string(format!("/proc/{}/status", child.id()))?;
    let _ = stream.write_all(b"done");
    let _ = child.wait();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).context("VmHWM")?;
    line.trim().trim_end_matches(" kB").parse().context("VmHWM's number")
}

/// Writes the figures between their marks.
fn write_page(text: &str) -> Result<()> {
    let path = root().join("docs/cli.md");
    let page = fs::read_to_string(&path)?;
    let (start, end) = ("<!-- dist -->\n", "<!-- /dist -->");
    let (before, rest) = page.split_once(start).context("docs/cli.md has no part dist")?;
    let (_, after) = rest.split_once(end).context("docs/cli.md's part dist has no end")?;
    fs::write(&path, format!("{before}{start}{text}{end}{after}"))?;
    Ok(())
}
