//! `fcgi status`: how php-fpm's pools are doing.

mod look;
pub(crate) mod print;
mod prometheus;
mod serve;
mod thresholds;

pub(crate) use look::{Look, Pool};

use std::{
    ffi::OsString,
    fs, io,
    io::{IsTerminal, Write},
    os::unix::fs::FileTypeExt,
    path::{Path, PathBuf},
    process::ExitCode,
    sync::Arc,
    time::Duration,
};

use clap::{
    Args,
    builder::{OsStringValueParser, TypedValueParser},
};
use fcgi_tokio::{self as fcgi, Address, Phase, client::Connector, http::php_fpm::Status as Page};
use serde_json::{Map, Value};
use tokio::signal::unix::{SignalKind, signal};

use crate::{
    args::seconds,
    budget::{self, Budget},
    causes, complain,
    exit::Exit,
    place,
    report::{Form, Report, milliseconds, print as print_line},
};
use serve::Exporter;
use thresholds::{Key, Passed, Threshold};

/// Between the looks of `--max KEY=+N`, where `--watch` says nothing else.
const PAUSE: Duration = Duration::from_secs(1);

/// Show how php-fpm's pools are doing, and how many callers wait
///
/// The queue is the kernel's (as in `ss -xln`), and shows when php-fpm does not answer too: of
/// unix sockets php-fpm itself says 0, whatever waits. What php-fpm knows comes from its status
/// page (pm.status_path), which takes a free worker unless pm.status_listen has it elsewhere.
#[derive(Args)]
#[command(after_long_help = AFTER_HELP)]
pub(crate) struct Status {
    /// Pools: unix:PATH, /PATH, HOST:PORT or :PORT, or a folder of sockets; else FCGI_ADDR,
    /// FCGI_CONNECT, or the only socket found
    #[arg(value_name = "ADDR|DIR", value_parser = OsStringValueParser::new().try_map(target))]
    targets: Vec<Target>,
    /// The page's path, as in pm.status_path
    #[arg(long, value_name = "PATH", default_value = "/status", value_parser = path)]
    path: String,
    /// Ask for the page here, where pm.status_listen says: free when all workers are busy
    #[arg(long, value_name = "ADDR")]
    status_addr: Option<Address>,
    /// Show each worker too
    #[arg(long)]
    full: bool,
    /// Ask for the application's capacity instead (GET_VALUES)
    #[arg(long, conflicts_with_all = ["full", "watch", "prometheus", "serve"])]
    values: bool,
    /// Look again every S seconds
    #[arg(
        long,
        value_name = "S",
        num_args = 0..=1,
        default_missing_value = "2",
        value_parser = seconds,
        conflicts_with_all = ["prometheus", "serve"]
    )]
    watch: Option<Duration>,
    /// Fail (7) if a figure is above N, above N% of what there is, or rises by more than N; several
    /// are given again, or with commas between them
    #[arg(
        long,
        value_name = "KEY=N|N%|+N",
        value_delimiter = ',',
        value_parser = thresholds::most,
        help_heading = "Thresholds"
    )]
    max: Vec<Threshold>,
    /// Fail (7) if a figure is below N
    #[arg(
        long,
        value_name = "KEY=N",
        value_delimiter = ',',
        value_parser = thresholds::least,
        help_heading = "Thresholds"
    )]
    min: Vec<Threshold>,
    /// Print metrics for Prometheus, with php-fpm-exporter's names
    #[arg(long, help_heading = "Output", conflicts_with_all = ["json", "nagios", "docker"])]
    prometheus: bool,
    /// Serve these metrics at http://HOST:PORT/metrics
    #[arg(
        long,
        value_name = "[HOST]:PORT",
        help_heading = "Output",
        conflicts_with_all = ["json", "nagios", "docker"]
    )]
    serve: Option<String>,
    /// Time limit for each pool
    #[arg(long, value_name = "SECONDS", default_value = budget::PROBE, value_parser = seconds)]
    timeout: Duration,
    /// Print nothing; the exit status is the result
    #[arg(long, short, conflicts_with_all = ["prometheus", "serve", "watch"])]
    quiet: bool,
    #[command(flatten)]
    form: Form,
    // Last, since what follows would be under its heading.
    #[command(flatten)]
    healthcheck: Healthcheck,
}

/// php-fpm-healthcheck's options: `--NAME N` is `--max NAME=N`.
#[derive(Args)]
#[command(next_help_heading = "As in php-fpm-healthcheck: --NAME N is --max NAME=N")]
struct Healthcheck {
    #[arg(long, value_name = "N", hide_env = true)]
    accepted_conn: Option<u64>,
    #[arg(long, value_name = "N", hide_env = true)]
    listen_queue: Option<u64>,
    #[arg(long, value_name = "N", hide_env = true)]
    max_listen_queue: Option<u64>,
    #[arg(long, value_name = "N", hide_env = true)]
    listen_queue_len: Option<u64>,
    #[arg(long, value_name = "N", hide_env = true)]
    idle_processes: Option<u64>,
    #[arg(long, value_name = "N", hide_env = true)]
    active_processes: Option<u64>,
    #[arg(long, value_name = "N", hide_env = true)]
    total_processes: Option<u64>,
    #[arg(long, value_name = "N", hide_env = true)]
    max_active_processes: Option<u64>,
    #[arg(long, value_name = "N", hide_env = true)]
    max_children_reached: Option<u64>,
    #[arg(long, value_name = "N", hide_env = true)]
    slow_requests: Option<u64>,
    /// What it would print is printed anyway.
    #[arg(long, short, hide = true)]
    verbose: bool,
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
KEY is queue (the kernel's, or php-fpm's over TCP), listen-queue (the same, and php-fpm's of unix
sockets where the kernel can't tell), or one of php-fpm's: accepted-conn, max-listen-queue,
listen-queue-len, idle-processes, active-processes, total-processes, max-active-processes,
max-children-reached, slow-requests; idle, active and total are short for processes. N% is a share
of the queue's length, or of all processes. +N is a rise between two looks, a second apart or as
--watch says. A figure that is not known fails.

Exit status:
  0  every pool answered, and no threshold is passed
  2  usage, or no address to be found
  3  refused by the application
  4  protocol error or truncated response
  5  connect or IO error
  6  time-out: the queue shows all the same
  7  answered, but not as wanted: no status page there, or a threshold is passed
Of several pools the first one that is not well tells the status.

Examples:
  Every pool of a machine
    fcgi status /run/php
  A readiness probe: no traffic while more than 10 wait
    fcgi status --max queue=10
  Who is busy with what, again every second
    fcgi status unix:/run/php/php-fpm.sock --full --watch 1
  An exporter for Prometheus
    fcgi status /run/php --serve :9253";

/// One ADDR or DIR.
#[derive(Clone, Debug)]
enum Target {
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

fn path(text: &str) -> Result<String, &'static str> {
    if text.starts_with('/') { Ok(text.to_owned()) } else { Err("expected a path such as /status") }
}

/// A pool, and how it is.
struct Verdict {
    look: Look,
    exit: Exit,
    passed: Vec<Passed>,
}

impl Status {
    pub(crate) async fn run(self) -> ExitCode {
        let pools = match self.pools() {
            Ok(pools) => pools,
            Err(message) => {
                return Report::new("status", Exit::Usage, message).finish(self.form, self.quiet);
            }
        };
        if let Some(listen) = &self.serve {
            return self.serve(listen, pools).await;
        }
        if self.values {
            return self.values(&pools).await;
        }
        if self.prometheus {
            let scrapes = Exporter::new(pools, self.timeout).scrape().await;
            print_text(&prometheus::text(&scrapes));
            let failed = scrapes.iter().find_map(|it| it.look.status.as_ref().err());
            return failed.map_or(Exit::Done, |trouble| trouble.exit).into();
        }
        self.look(&pools).await
    }

    fn pools(&self) -> Result<Vec<Pool>, String> {
        let mut addresses = Vec::new();
        for target in &self.targets {
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
        if self.targets.is_empty() {
            addresses.push(place::find(None).map_err(|error| error.to_string())?);
        }
        let pool = |address| Pool {
            address,
            status_address: self.status_addr.clone(),
            path: self.path.clone(),
        };
        Ok(addresses.into_iter().map(pool).collect())
    }

    /// Looks once, or twice where something may only rise, or again and again.
    async fn look(&self, pools: &[Pool]) -> ExitCode {
        let thresholds: Vec<Threshold> = self
            .max
            .iter()
            .chain(&self.min)
            .copied()
            .chain(self.healthcheck.thresholds())
            .collect();
        let rises = thresholds.iter().any(Threshold::is_rise);
        // Both looks have to fit into the one limit.
        let (limit, pause) = match self.watch {
            Some(pause) => (self.timeout, pause),
            None if rises => {
                let pause = PAUSE.min(self.timeout / 2);
                ((self.timeout - pause) / 2, pause)
            }
            None => (self.timeout, Duration::ZERO),
        };
        let mut before: Vec<Look> = Vec::new();
        if rises && self.watch.is_none() {
            before = serve::looks(pools, false, limit).await;
            tokio::time::sleep(pause).await;
        }
        loop {
            let looks = serve::looks(pools, self.full, limit).await;
            let verdicts: Vec<Verdict> = looks
                .into_iter()
                .enumerate()
                .map(|(n, look)| judge(look, before.get(n), &thresholds))
                .collect();
            let (code, is_read) = self.show(&verdicts, &before, &thresholds);
            if self.watch.is_none() || !is_read {
                return code;
            }
            before = verdicts.into_iter().map(|verdict| verdict.look).collect();
            tokio::time::sleep(pause).await;
        }
    }

    /// Prints what was seen; gives the exit status, and whether stdout still has a reader.
    fn show(
        &self,
        verdicts: &[Verdict],
        before: &[Look],
        thresholds: &[Threshold],
    ) -> (ExitCode, bool) {
        let exit = verdicts.iter().map(|verdict| verdict.exit).find(|exit| *exit != Exit::Done);
        let exit = exit.unwrap_or(Exit::Done);
        let code = ExitCode::from(self.form.status(exit));
        if self.form.json {
            let lines: Vec<String> =
                verdicts.iter().map(|it| it.report(thresholds).json(self.form) + "\n").collect();
            return (code, print_text(&lines.concat()));
        }
        if self.form.nagios {
            return (together(verdicts, exit, thresholds).finish(self.form, false), true);
        }
        if self.quiet {
            return (code, true);
        }
        let looks: Vec<&Look> = verdicts.iter().map(|verdict| &verdict.look).collect();
        let mut text = print::text(&looks, before);
        if self.watch.is_some() {
            if io::stdout().is_terminal() {
                // From the top; what is below is of the last look.
                text.insert_str(0, "\x1b[H\x1b[J");
            } else {
                text.push('\n');
            }
        }
        let is_read = print_text(&text);
        for verdict in verdicts.iter().filter(|verdict| verdict.exit != Exit::Done) {
            complain(&format!("fcgi status: {}", verdict.report(thresholds).line()));
        }
        (code, is_read)
    }

    async fn serve(&self, listen: &str, pools: Vec<Pool>) -> ExitCode {
        let failed = |error: io::Error| {
            complain(&format!("fcgi status: listen at {listen}: {error}"));
            ExitCode::from(Exit::Io)
        };
        let signals = (signal(SignalKind::interrupt()), signal(SignalKind::terminate()));
        let (Ok(mut interrupt), Ok(mut terminate)) = signals else {
            return failed(io::Error::other("signals can't be caught"));
        };
        let listener = match serve::bind(listen).await {
            Ok(listener) => listener,
            Err(error) => return failed(error),
        };
        match listener.local_addr() {
            // Nobody needs to read it.
            Ok(address) => drop(print_line(&format!("http://{address}/metrics"))),
            Err(error) => return failed(error),
        }
        let exporter = Arc::new(Exporter::new(pools, self.timeout));
        tokio::select! {
            never = serve::serve(listener, exporter) => match never {},
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
        }
        ExitCode::SUCCESS
    }

    /// GET_VALUES, on a connection of its own.
    async fn values(&self, pools: &[Pool]) -> ExitCode {
        let mut worst = None;
        for pool in pools {
            let address = &pool.address;
            let budget = Budget::new(Some(self.timeout));
            // The budget is the limit.
            let connector = Connector::new().connect_timeout(None).values_timeout(Duration::MAX);
            let asked = connector.query_values(address);
            let report = match budget.hold(address, Phase::Values, asked).await {
                Ok(values) => {
                    let said = [
                        ("FCGI_MAX_CONNS", values.max_conns.map(u64::from)),
                        ("FCGI_MAX_REQS", values.max_reqs.map(u64::from)),
                        ("FCGI_MPXS_CONNS", values.mpxs_conns.map(u64::from)),
                    ];
                    let text: Vec<String> = said
                        .iter()
                        .map(|(name, value)| match value {
                            Some(value) => format!("{name}={value}"),
                            None => format!("{name} is not said"),
                        })
                        .collect();
                    let message = format!("{address}: {}", text.join(", "));
                    let report = Report::new("status", Exit::Done, message).address(address);
                    said.into_iter().fold(report, |report, (name, value)| report.field(name, value))
                }
                Err(error) => {
                    let exit = Exit::of(&error);
                    worst.get_or_insert(exit);
                    let cause = causes::of(&error, address);
                    Report::new("status", exit, error.report().to_string())
                        .address(address)
                        .cause(cause)
                }
            };
            report.finish(self.form, self.quiet);
        }
        ExitCode::from(self.form.status(worst.unwrap_or(Exit::Done)))
    }
}

fn judge(look: Look, before: Option<&Look>, thresholds: &[Threshold]) -> Verdict {
    let passed: Vec<Passed> =
        thresholds.iter().filter_map(|threshold| threshold.check(&look, before)).collect();
    let exit = match &look.status {
        Err(trouble) => trouble.exit,
        Ok(_) if !passed.is_empty() => Exit::Unwanted,
        Ok(_) => Exit::Done,
    };
    Verdict { look, exit, passed }
}

impl Verdict {
    fn message(&self) -> String {
        let Look { pool, status, .. } = &self.look;
        let address = &pool.address;
        let passed: Vec<String> = self.passed.iter().map(ToString::to_string).collect();
        let passed = passed.join("; ");
        match status {
            Err(trouble) if passed.is_empty() => {
                format!("{} ({})", trouble.message, self.look.queue_line())
            }
            Err(trouble) => format!("{} ({passed})", trouble.message),
            Ok(_) if !passed.is_empty() => format!("{address}: {passed}"),
            Ok(Page { active_processes: active, total_processes: total, .. }) => {
                let name = self.look.name().unwrap_or_default();
                let queue = self.look.queue_line();
                format!("{name} at {address}: {queue}, {active} of {total} workers active")
            }
        }
    }

    fn report(&self, thresholds: &[Threshold]) -> Report {
        let Look { pool, status, queue, took, .. } = &self.look;
        let mut report = Report::new("status", self.exit, self.message()).address(&pool.address);
        if status.is_err() {
            report = report.cause(self.look.cause());
        }
        let waiting = self.look.waiting();
        let source = match (queue, waiting) {
            (Ok(_), _) => Value::from("kernel"),
            (Err(_), Some(_)) => Value::from("php-fpm"),
            _ => Value::Null,
        };
        report = report
            .field("queue", waiting.map(|(waiting, _)| waiting))
            .field("queue_limit", waiting.map(|(_, limit)| limit))
            .field("queue_source", source);
        if let Err(why) = queue {
            report = report.field("queue_unknown", why.to_string());
        }
        if !self.passed.is_empty() {
            let passed: Vec<Value> = self.passed.iter().map(|it| it.to_string().into()).collect();
            report = report.field("passed", passed);
        }
        if let Ok(page) = status {
            report = fields(report, page);
        }
        for data in performance(&self.look, thresholds, "") {
            report = report.performance(data);
        }
        report.duration("time", *took, None)
    }
}

/// php-fpm's words as fields.
fn fields(report: Report, page: &Page) -> Report {
    let mut report = report
        .field("pool", page.pool.as_str())
        .field("process_manager", page.process_manager.as_str())
        .field("start_time", page.start_time)
        .field_ms("start_since", page.start_since);
    for (name, key) in FIGURES {
        report = report.field(name, key.of_status(page));
    }
    if let Some(peak) = page.memory_peak {
        report = report.field("memory_peak", peak);
    }
    if page.processes.is_empty() {
        return report;
    }
    let processes: Vec<Value> = page
        .processes
        .iter()
        .filter(|process| process.state != "(null)")
        .map(|it| {
            let fields: [(&str, Value); 11] = [
                ("pid", it.pid.into()),
                ("state", it.state.as_str().into()),
                ("start_since_ms", milliseconds(it.start_since)),
                ("requests", it.requests.into()),
                ("request_duration_ms", milliseconds(it.request_duration)),
                ("request_method", it.request_method.as_str().into()),
                ("request_uri", it.request_uri.as_str().into()),
                ("content_length", it.content_length.into()),
                ("script", it.script.as_str().into()),
                ("last_request_cpu", it.last_request_cpu.into()),
                ("last_request_memory", it.last_request_memory.into()),
            ];
            let fields = fields.into_iter().map(|(name, value)| (name.to_owned(), value));
            Value::Object(fields.collect::<Map<_, _>>())
        })
        .collect();
    report.field("processes", processes)
}

const FIGURES: [(&str, Key); 10] = [
    ("accepted_conn", Key::AcceptedConn),
    ("listen_queue", Key::ListenQueue),
    ("max_listen_queue", Key::MaxListenQueue),
    ("listen_queue_len", Key::ListenQueueLen),
    ("idle_processes", Key::IdleProcesses),
    ("active_processes", Key::ActiveProcesses),
    ("total_processes", Key::TotalProcesses),
    ("max_active_processes", Key::MaxActiveProcesses),
    ("max_children_reached", Key::MaxChildrenReached),
    ("slow_requests", Key::SlowRequests),
];

/// Nagios's performance data.
fn performance(look: &Look, thresholds: &[Threshold], start: &str) -> Vec<String> {
    let warn = |key| thresholds.iter().find_map(|it| it.warns(key)).unwrap_or_default();
    let mut data = Vec::new();
    if let Some((waiting, limit)) = look.waiting() {
        data.push(format!("{start}queue={waiting};{};;0;{limit}", warn(Key::Queue)));
    }
    if let Ok(page) = &look.status {
        let counters = [Key::AcceptedConn, Key::MaxChildrenReached, Key::SlowRequests];
        for (name, key) in FIGURES {
            let unit = if counters.contains(&key) { "c" } else { "" };
            let value = key.of_status(page).unwrap_or_default();
            data.push(format!("{start}{name}={value}{unit};{};;0;", warn(key)));
        }
    }
    data
}

/// Nagios takes one line.
fn together(verdicts: &[Verdict], exit: Exit, thresholds: &[Threshold]) -> Report {
    if let [only] = verdicts {
        return only.report(thresholds);
    }
    let bad = verdicts.iter().filter(|it| it.exit != Exit::Done);
    let mut messages: Vec<String> = bad.map(Verdict::message).collect();
    if messages.is_empty() {
        messages.push(format!("{} pools are well", verdicts.len()));
    }
    let mut report = Report::new("status", exit, messages.join("; "));
    for verdict in verdicts {
        let name = verdict.look.name().unwrap_or_else(|| verdict.look.pool.address.to_string());
        for data in performance(&verdict.look, thresholds, &format!("{name}_")) {
            report = report.performance(data);
        }
    }
    report
}

/// The sockets in a folder, sorted, each once where a link leads to one of them.
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

/// Prints text, and says whether anybody reads it.
fn print_text(text: &str) -> bool {
    let mut stdout = io::stdout().lock();
    stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()).is_ok()
}
