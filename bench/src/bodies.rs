//! Large bodies: up, down and echoed, against a plain copy between two sockets.

mod carry;
mod plain;

use std::ffi::OsStr;
use std::fmt;
use std::path::Path;
use std::process::Command;
use std::time::Instant;

use anyhow::{Context as _, Result, ensure};
use clap::{Args, ValueEnum};

use crate::Options;
use crate::candidates::serve;
use crate::compare::{Column, Comparison, Round, Row, Subject};
use crate::cpu::{self, Placement};
use crate::goals::Goal;
use crate::process::Server;
use crate::usage::Process;

/// The number of bytes in one transfer.
const BYTES: u64 = 1 << 30;
/// The size of one write.
pub(crate) const PIECE: usize = 1 << 16;
/// The parameter that names the direction.
pub(crate) const DIRECTION: &str = "DIRECTION";
/// The head of every answer.
pub(crate) const HEAD: &[u8] = b"Content-Type: application/octet-stream\r\n\r\n";

/// What transfers the bytes.
#[derive(Clone, Copy, PartialEq, ValueEnum)]
pub(crate) enum Over {
    Plain,
    Tokio,
    Smol,
    AsyncStd,
    Blocking,
}

/// The direction of a transfer.
#[derive(Clone, Copy, PartialEq, ValueEnum)]
pub(crate) enum Direction {
    Up,
    Down,
    Echo,
}

/// The client of one transfer.
#[derive(Args)]
pub(crate) struct Send {
    #[arg(value_enum)]
    over: Over,
    #[arg(value_enum)]
    direction: Direction,
    socket: std::path::PathBuf,
    bytes: u64,
}

/// The argument of this program for a value.
fn word(value: impl ValueEnum) -> String {
    value.to_possible_value().map_or(String::new(), |value| value.get_name().to_owned())
}

impl fmt::Display for Direction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&word(*self))
    }
}

impl Direction {
    /// The direction that a request names.
    pub(crate) fn of(word: Option<&str>) -> Direction {
        word.and_then(|word| Direction::from_str(word, false).ok()).unwrap_or(Direction::Up)
    }

    /// How many bytes are received.
    fn back(self, bytes: u64) -> u64 {
        if self == Direction::Up { 0 } else { bytes }
    }

    /// How many bytes are sent.
    fn out(self, bytes: u64) -> u64 {
        if self == Direction::Down { 0 } else { bytes }
    }
}

/// Measures and prints.
pub(crate) fn run(options: &Options, cpus: Placement) -> Result<Vec<Goal>> {
    cpu::pin(cpus.load)?;
    println!("### Bodies\n");
    println!(
        "1 GiB in writes of 64 KiB between two processes over a unix socket. {}.\n",
        cpus.words()
    );
    let dir = tempfile::tempdir().context("cannot make a temporary folder")?;
    let overs = [Over::Plain, Over::Tokio, Over::Smol, Over::AsyncStd, Over::Blocking];
    let mut goals = Vec::new();
    let mut peak: Option<f64> = None;
    for direction in [Direction::Up, Direction::Down, Direction::Echo] {
        let row = |over| Row::new(word(over), Transfer::start(over, direction, dir.path(), cpus));
        let rows = overs.map(row).into();
        let comparison = Comparison::run(options, direction.to_string(), "plain", rows);
        comparison.print(&[Column::BYTES, Column::SERVER_PEAK, Column::CLIENT_PEAK]);
        for over in &overs[1..] {
            let name = word(*over);
            let what = format!("1 GiB {direction} on fcgi-{name}, of a plain copy");
            goals.push(comparison.goal(&what, &name, "plain", 0.9));
            for column in [Column::SERVER_PEAK, Column::CLIENT_PEAK] {
                peak = peak.into_iter().chain(comparison.most(column, &name)).reduce(f64::max);
            }
        }
    }
    goals.push(Goal::at_most("1 GiB: the most memory of a process of ours, MiB", 8.0, peak));
    Ok(goals)
}

/// A server, and how to start its client.
struct Transfer {
    server: Server,
    over: Over,
    direction: Direction,
}

impl Transfer {
    fn start(
        over: Over,
        direction: Direction,
        dir: &Path,
        cpus: Placement,
    ) -> Result<Box<dyn Subject>> {
        let name = word(over);
        let socket = dir.join(format!("{name}-{direction}.sock"));
        let command = serve([OsStr::new("bodies"), OsStr::new(&name), socket.as_os_str()])?;
        let mut command: Command = command;
        command.env("FCGI_THREADS", "1");
        Ok(Box::new(Transfer { server: Server::start(command, &socket, cpus)?, over, direction }))
    }
}

impl Subject for Transfer {
    fn round(&mut self, _: f64) -> Result<Round> {
        let server = Process::of(self.server.pid());
        server.forget_peak()?;
        let client = Command::new(std::env::current_exe()?)
            .arg("send-bodies")
            .args([word(self.over), word(self.direction)])
            .arg(&self.server.socket)
            .arg(BYTES.to_string())
            .env("RUST_BACKTRACE", "0")
            .output()
            .context("cannot start the client")?;
        let said = String::from_utf8_lossy(&client.stderr);
        ensure!(client.status.success(), "the client failed: {}", said.trim());
        let said = String::from_utf8_lossy(&client.stdout).into_owned();
        let mut numbers = said.split_whitespace().map(str::parse::<f64>);
        let (Some(Ok(seconds)), Some(Ok(peak))) = (numbers.next(), numbers.next()) else {
            anyhow::bail!("the client said {said:?}");
        };
        let mib = |bytes: f64| Some(bytes / f64::from(1 << 20));
        let peaks = [mib(server.peak()?), mib(peak)];
        Ok(Round { rate: BYTES as f64 / seconds, peaks, ..Round::default() })
    }
}

impl Send {
    /// Transfers the bytes, and prints how long that took and the peak memory.
    pub(crate) fn run(&self) -> Result<()> {
        let start = Instant::now();
        let came = match self.over {
            Over::Plain => plain::send(&self.socket, self.direction, self.bytes)?,
            _ => carry::send(self.over, &self.socket, self.direction, self.bytes)?,
        };
        let seconds = start.elapsed().as_secs_f64();
        let expected = self.direction.back(self.bytes);
        ensure!(came == expected, "{came} of {expected} bytes came back");
        println!("{seconds} {}", Process::own().peak()?);
        Ok(())
    }
}

/// Serves until it is killed.
pub(crate) fn serve_over(over: Over, socket: &Path) -> Result<()> {
    match over {
        Over::Plain => plain::serve(socket),
        _ => carry::serve(over, socket),
    }
}
