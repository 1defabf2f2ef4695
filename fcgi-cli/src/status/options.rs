//! The options of `fcgi status`.

use std::{
    ffi::OsString,
    fs, io,
    os::unix::fs::FileTypeExt,
    path::{Path, PathBuf},
    time::Duration,
};

use clap::{
    Args,
    builder::{OsStringValueParser, TypedValueParser},
};
use fcgi_tokio::{self as fcgi, Address};

use super::{
    look::Pool,
    serve,
    thresholds::{self, Key, Threshold},
};
use crate::{
    args::{limit, number},
    budget, place,
    report::Form,
};

/// Show how php-fpm's pools are doing, and how many callers wait
///
/// The queue is the kernel's (as in `ss -xln`), so it is shown even if php-fpm does not answer; for
/// unix sockets php-fpm itself always reports 0. The other figures come from php-fpm's status page
/// (pm.status_path), which needs a free worker unless pm.status_listen gives it its own socket.
#[derive(Args)]
#[command(after_long_help = AFTER_HELP)]
pub(crate) struct Status {
    /// Pools: unix:PATH, /PATH, HOST:PORT or :PORT, or a folder of sockets; else FCGI_ADDR,
    /// FCGI_CONNECT, or the only socket found
    #[arg(value_name = "ADDR|DIR", value_parser = OsStringValueParser::new().try_map(target))]
    pub(super) targets: Vec<Target>,
    /// The page's path, as in pm.status_path
    #[arg(long, value_name = "PATH", default_value = "/status", value_parser = path)]
    pub(super) path: String,
    /// Request the page here, the address of pm.status_listen: it answers while all workers are busy
    #[arg(long, value_name = "ADDR")]
    pub(super) status_addr: Option<Address>,
    /// Show each worker too
    #[arg(long)]
    pub(super) full: bool,
    /// Show the application's capacity instead (GET_VALUES)
    #[arg(
        long,
        conflicts_with_all = ["full", "watch", "prometheus", "serve", "max", "min", "Healthcheck"]
    )]
    pub(super) values: bool,
    /// Query again every S seconds
    #[arg(
        long,
        value_name = "S",
        num_args = 0..=1,
        default_missing_value = "2",
        value_parser = OsStringValueParser::new().try_map(watch),
        conflicts_with_all = ["prometheus", "serve", "nagios"]
    )]
    pub(super) watch: Option<Watch>,
    /// Fail (7) if a figure is above N, above N% of its limit, or rises by more than N; for several,
    /// repeat the option, or separate them with commas
    #[arg(
        long,
        value_name = "KEY=N|N%|+N",
        value_delimiter = ',',
        value_parser = thresholds::most,
        help_heading = "Thresholds"
    )]
    pub(super) max: Vec<Threshold>,
    /// Fail (7) if a figure is below N
    #[arg(
        long,
        value_name = "KEY=N",
        value_delimiter = ',',
        value_parser = thresholds::least,
        help_heading = "Thresholds"
    )]
    pub(super) min: Vec<Threshold>,
    /// Print metrics for Prometheus, with php-fpm-exporter's names
    #[arg(
        long,
        help_heading = "Output",
        conflicts_with_all = ["json", "nagios", "docker", "max", "min", "Healthcheck"]
    )]
    pub(super) prometheus: bool,
    /// Serve these metrics at http://HOST:PORT/metrics
    #[arg(
        long,
        value_name = "[HOST]:PORT",
        help_heading = "Output",
        value_parser = serve::place,
        conflicts_with_all = ["json", "nagios", "docker", "max", "min", "Healthcheck"]
    )]
    pub(super) serve: Option<String>,
    /// Time limit for each pool
    #[arg(long, value_name = "SECONDS", default_value = budget::PROBE, value_parser = limit)]
    pub(super) timeout: Duration,
    /// Print nothing; the exit status is the result
    #[arg(long, short, conflicts_with_all = ["prometheus", "serve", "watch"])]
    pub(super) quiet: bool,
    #[command(flatten)]
    pub(super) form: Form,
    // This comes last, since options after it would appear under its heading.
    #[command(flatten)]
    pub(super) healthcheck: Healthcheck,
}

/// php-fpm-healthcheck's options: `--NAME N` is `--max NAME=N`.
#[derive(Args)]
#[command(next_help_heading = "As in php-fpm-healthcheck: --NAME N is --max NAME=N")]
pub(super) struct Healthcheck {
    #[arg(long, value_name = "N", hide_env = true, value_parser = number::<u64>)]
    pub(super) accepted_conn: Option<u64>,
    #[arg(long, value_name = "N", hide_env = true, value_parser = number::<u64>)]
    pub(super) listen_queue: Option<u64>,
    #[arg(long, value_name = "N", hide_env = true, value_parser = number::<u64>)]
    pub(super) max_listen_queue: Option<u64>,
    #[arg(long, value_name = "N", hide_env = true, value_parser = number::<u64>)]
    pub(super) listen_queue_len: Option<u64>,
    #[arg(long, value_name = "N", hide_env = true, value_parser = number::<u64>)]
    pub(super) idle_processes: Option<u64>,
    #[arg(long, value_name = "N", hide_env = true, value_parser = number::<u64>)]
    pub(super) active_processes: Option<u64>,
    #[arg(long, value_name = "N", hide_env = true, value_parser = number::<u64>)]
    pub(super) total_processes: Option<u64>,
    #[arg(long, value_name = "N", hide_env = true, value_parser = number::<u64>)]
    pub(super) max_active_processes: Option<u64>,
    #[arg(long, value_name = "N", hide_env = true, value_parser = number::<u64>)]
    pub(super) max_children_reached: Option<u64>,
    #[arg(long, value_name = "N", hide_env = true, value_parser = number::<u64>)]
    pub(super) slow_requests: Option<u64>,
    /// Accepted but not needed: what it would print is always printed.
    #[arg(long, short, hide = true)]
    pub(super) verbose: bool,
}

impl Healthcheck {
    fn thresholds(&self) -> impl Iterator<Item = Threshold> {
        [
            (Key::AcceptedConn, self.accepted_conn),
            (Key::ListenQueue, self.listen_queue),
            (Key::MaxListenQueue, self.max_listen_queue),
            (Key::ListenQueueLen, self.listen_queue_len),
            (Key::IdleProcesses, self.idle_processes),
            (Key::ActiveProcesses, self.active_processes),
            (Key::TotalProcesses, self.total_processes),
            (Key::MaxActiveProcesses, self.max_active_processes),
            (Key::MaxChildrenReached, self.max_children_reached),
            (Key::SlowRequests, self.slow_requests),
        ]
        .into_iter()
        .filter_map(|(key, number)| Some(Threshold::most(key, number?)))
    }
}

const AFTER_HELP: &str = "\
KEY is queue (the kernel's, or php-fpm's over TCP), listen-queue (the same, or php-fpm's for unix
sockets if the kernel can't tell), or one of php-fpm's figures: accepted-conn, max-listen-queue,
listen-queue-len, idle-processes, active-processes, total-processes, max-active-processes,
max-children-reached, slow-requests; idle, active and total are short forms. N% is a percentage of
the queue's limit, or of all processes. +N is a rise between two queries, a second apart or as
--watch says. A figure that is not known fails.

Exit status:
  0  every pool answered, and no threshold is passed
  2  usage, or no address found
  3  refused by the application
  4  protocol error or truncated response
  5  connect or IO error
  6  time-out; the queue is still shown
  7  answered, but not as wanted: not a status page, or a threshold is passed
With several pools, the first one that fails decides the status.

Examples:
  Every pool of a machine
    fcgi status /run/php
  A readiness probe: no traffic while more than 10 wait
    fcgi status --max queue=10
  What each worker does, every second
    fcgi status unix:/run/php/php-fpm.sock --full --watch 1
  An exporter for Prometheus
    fcgi status /run/php --serve :9253";

/// One ADDR or DIR argument.
#[derive(Clone, Debug)]
pub(super) enum Target {
    Pool(Address),
    Folder(PathBuf),
}

fn target(argument: OsString) -> Result<Target, String> {
    let path = Path::new(&argument);
    if path.is_dir() {
        return Ok(Target::Folder(path.to_owned()));
    }
    let address: Address = argument
        .to_string_lossy()
        .parse()
        .map_err(|error: fcgi::AddressError| error.to_string())?;
    if address.is_callable() {
        Ok(Target::Pool(address))
    } else {
        Err("only unix:PATH and tcp:HOST:PORT can be called".into())
    }
}

/// What follows `--watch`.
#[derive(Clone, Debug)]
pub(super) enum Watch {
    Every(Duration),
    /// The first pool: there is no number.
    Target(Target),
}

/// The interval of `--watch` without a number.
const EVERY: Duration = Duration::from_secs(2);

fn watch(argument: OsString) -> Result<Watch, String> {
    match limit(&argument.to_string_lossy()) {
        Ok(every) => Ok(Watch::Every(every)),
        Err(error) => target(argument).map(Watch::Target).map_err(|_| error),
    }
}

fn path(text: &str) -> Result<String, &'static str> {
    if text.starts_with('/') { Ok(text.to_owned()) } else { Err("expected a path such as /status") }
}

impl Status {
    /// The pools that the arguments mean.
    pub(super) fn pools(&self) -> Result<Vec<Pool>, String> {
        let mut addresses = Vec::new();
        let first = match &self.watch {
            Some(Watch::Target(target)) => Some(target),
            _ => None,
        };
        let targets: Vec<&Target> = first.into_iter().chain(&self.targets).collect();
        for target in &targets {
            match target {
                Target::Pool(address) => addresses.push(address.clone()),
                Target::Folder(folder) => {
                    let sockets = sockets(folder)
                        .map_err(|error| format!("read {}: {error}", folder.display()))?;
                    if sockets.is_empty() {
                        return Err(format!("{}: no socket is in this folder", folder.display()));
                    }
                    addresses.extend(sockets.into_iter().map(Address::from));
                }
            }
        }
        if targets.is_empty() {
            addresses.push(place::find(None).map_err(|error| error.to_string())?);
        }
        let pool = |address| Pool {
            address,
            status_address: self.status_addr.clone(),
            path: self.path.clone(),
        };
        Ok(addresses.into_iter().map(pool).collect())
    }

    /// The time between queries, if there are several.
    pub(super) fn interval(&self) -> Option<Duration> {
        self.watch.as_ref().map(|watch| match watch {
            Watch::Every(every) => *every,
            Watch::Target(_) => EVERY,
        })
    }

    /// All thresholds.
    pub(super) fn thresholds(&self) -> Vec<Threshold> {
        let given = self.max.iter().chain(&self.min).copied();
        given.chain(self.healthcheck.thresholds()).collect()
    }
}

/// The sockets in a folder, sorted. If links lead to a socket, it is listed only once.
fn sockets(folder: &Path) -> io::Result<Vec<PathBuf>> {
    let mut sockets = Vec::new();
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if fs::metadata(&path).is_ok_and(|it| it.file_type().is_socket()) {
            sockets.push(fs::canonicalize(&path).unwrap_or(path));
        }
    }
    sockets.sort();
    sockets.dedup();
    Ok(sockets)
}
