//! `fcgi bench`: how many requests an application answers, and how fast.

mod load;
mod print;
mod shot;

use std::{
    io::{self, IsTerminal, Write},
    path::PathBuf,
    pin::pin,
    process::ExitCode,
    sync::Arc,
    time::Duration,
};

use bytes::Bytes;
use clap::{
    Args,
    builder::{OsStringValueParser, TypedValueParser},
};
use fcgi_tokio::{self as fcgi, Address};
use tokio::time::{Instant, MissedTickBehavior, interval_at};

use crate::{
    args::{Param, at_least_one, limit, param, size},
    ask,
    budget::Budget,
    causes, complain,
    exit::Exit,
    input::Input,
    place::Place,
    report::{Form, Report, print_result},
    signals::signalled,
    writer,
};
use load::{Load, Plan};
use shot::Template;

/// The time without -n and -t.
const TIME: Duration = Duration::from_secs(10);
/// The largest body that is read, in bytes.
const MOST: u64 = 1 << 30;
/// The time between two updates of the progress line.
const PROGRESS: Duration = Duration::from_millis(250);

/// Measure how many requests an application answers, and how fast
///
/// Requests are sent as fast as the application answers (closed loop), or with --rate at a fixed
/// rate (open loop). With --rate the time of a late request counts from when it was due, so that a
/// slow answer does not hide the wait of the requests behind it (coordinated omission). SIGINT ends
/// the run at once and prints what was measured so far.
#[derive(Args)]
#[command(after_long_help = AFTER_HELP)]
pub(crate) struct Bench {
    #[command(flatten)]
    place: Place,
    /// The path to request, with its query; default: --path
    #[arg(value_name = "URL-PATH", conflicts_with_all = ["path", "script"])]
    url_path: Option<String>,
    /// The folder of scripts, as the application sees it; without it the path is also the script,
    /// as for php-fpm's ping.path
    #[arg(long, value_name = "DIR", requires = "url_path")]
    root: Option<String>,
    /// The same as URL-PATH
    #[arg(long, value_name = "PATH", default_value = "/ping")]
    path: String,
    /// Run this script, named as the application sees it
    #[arg(long, value_name = "FILE", conflicts_with = "path")]
    script: Option<String>,
    /// A parameter, added to those of the path or replacing one; repeatable
    #[arg(
        long = "param",
        value_name = "NAME=VALUE",
        value_parser = OsStringValueParser::new().try_map(param)
    )]
    params: Vec<Param>,
    /// The body of each request: a file, or - for stdin; the method is POST unless --param sets one
    #[arg(long, value_name = "FILE|-")]
    stdin: Option<PathBuf>,
    /// A body of this many bytes (K, M, G)
    #[arg(long, value_name = "N", value_parser = size, conflicts_with = "stdin")]
    body: Option<u64>,
    /// Concurrent connections
    #[arg(short, long, value_name = "N", default_value = "8", value_parser = count)]
    connections: usize,
    /// Total number of requests
    #[arg(short = 'n', long, value_name = "N", value_parser = at_least_one::<u64>)]
    requests: Option<u64>,
    /// Total time in seconds; default 10 without -n
    #[arg(short, long, value_name = "S", value_parser = limit)]
    time: Option<Duration>,
    /// Requests per second, of all connections together (open loop)
    #[arg(long, value_name = "R", value_parser = rate)]
    rate: Option<f64>,
    /// Keep connections open; each occupies a worker of php-fpm
    #[arg(long)]
    keep: bool,
    /// Concurrent requests on each connection, if the application multiplexes
    #[arg(long, value_name = "M", default_value = "1", value_parser = count)]
    multiplex: usize,
    /// Time limit for each request
    #[arg(long, value_name = "SECONDS", default_value = "10", value_parser = limit)]
    timeout: Duration,
    #[command(flatten)]
    form: Form,
}

const AFTER_HELP: &str = "\
Exit status:
  0  every request succeeded
  1, 3 to 6  as for fcgi call, for the most frequent failure
  2  usage, or a file that can't be read
  7  wrong answers: statuses of 400 or more, an application that does not multiplex, or a rate that
     it can't keep up with
  128 and the signal's number, when SIGINT or SIGTERM ends it

Examples:
  php-fpm itself, without a script
    fcgi bench unix:/run/php/php-fpm.sock -c 8 -t 5
  A script, with kept connections
    fcgi bench 127.0.0.1:9000 '/index.php?page=2' --root /srv/www --keep -n 10000
  How slow is it at 200 requests a second?
    fcgi bench 127.0.0.1:9000 --script /srv/www/index.php --rate 200 -c 50 -t 30
  An application that multiplexes, with bodies of 64 KiB
    fcgi bench unix:/run/app.sock --path /upload --multiplex 16 -c 2 --body 64K";

fn count(text: &str) -> Result<usize, &'static str> {
    match text.parse() {
        Ok(n @ 1..=65_535) => Ok(n),
        _ => Err("expected a number from 1 to 65535"),
    }
}

fn rate(text: &str) -> Result<f64, &'static str> {
    match text.parse() {
        Ok(rate) if rate > 0.0 && rate <= 1e9 => Ok(rate),
        _ => Err("expected a number of requests a second, above 0"),
    }
}

impl Bench {
    pub(crate) async fn run(self) -> ExitCode {
        let usage = |message: String| Report::new("bench", Exit::Usage, message);
        let address = match self.place.find() {
            Ok(address) => address,
            Err(error) => return usage(error.to_string()).finish(self.form, false),
        };
        let template = match self.template().await {
            Ok(template) => template,
            Err(message) => return usage(message).finish(self.form, false),
        };
        if let Err(report) = self.probe(&address).await {
            return report.finish(self.form, false);
        }
        let plan = Plan {
            address,
            template,
            connections: self.connections,
            multiplex: self.multiplex,
            requests: self.requests,
            time: self.time.or_else(|| self.requests.is_none().then_some(TIME)),
            rate: self.rate,
            timeout: self.timeout,
        };
        let load = Load::new(plan.clone());
        let (outcome, caught) = match watched(&load).await {
            Ok(ended) => ended,
            Err(error) => {
                let report = Report::new("bench", Exit::of(&error), error.report().to_string());
                return report.finish(self.form, false);
            }
        };
        let exit = print::exit(&outcome);
        let report = print::report(&plan, &outcome, exit);
        let form = self.form;
        let print = move || {
            if form.json || form.nagios {
                return report.finish(form, false);
            }
            let shown = print_result("bench", print::text(&plan, &outcome).trim_end(), exit);
            if exit != Exit::Done {
                complain(&format!("fcgi bench: {}", report.line()));
            }
            ExitCode::from(form.status(shown))
        };
        let (code, caught) = tokio::select! {
            code = writer::apart(print) => (code, caught),
            // Nobody reads the output.
            (_, number) = signalled() => (Exit::Done.into(), Some(number)),
        };
        match caught {
            Some(number) => ExitCode::from(128 + number),
            None => code,
        }
    }

    /// Whether the application answers, before the load; and whether it multiplexes, if it must.
    async fn probe(&self, address: &Address) -> Result<(), Report> {
        let budget = Budget::new(Some(self.timeout));
        if let Err(error) = ask::connect(address, &budget).await {
            let report = Report::new("bench", Exit::of(&error), error.report().to_string());
            return Err(report.address(address).cause(causes::of(&error, address)));
        }
        if self.multiplex == 1 {
            return Ok(());
        }
        let values = fcgi::client::Connector::new().query_values(address).await;
        let values = values.map_err(|error| {
            let report = Report::new("bench", Exit::of(&error), error.report().to_string());
            report.address(address).cause(causes::of(&error, address))
        })?;
        if values.mpxs_conns == Some(true) {
            return Ok(());
        }
        let message = format!(
            "{address}: it does not multiplex (FCGI_MPXS_CONNS is not 1): leave --multiplex away"
        );
        Err(Report::new("bench", Exit::Unwanted, message).address(address))
    }

    async fn template(&self) -> Result<Template, String> {
        let body = self.read_body().await?;
        let path = self.url_path.as_ref().unwrap_or(&self.path);
        if !path.starts_with('/') {
            return Err(format!("{path:?}: expected a path that starts with a slash"));
        }
        let (name, query) = path.split_once('?').unwrap_or((path, ""));
        let request = match (&self.script, &self.root) {
            (Some(script), _) => {
                let name = script.rsplit('/').next().unwrap_or_default();
                ask::get_script(script, &format!("/{name}"), "")
            }
            (None, Some(root)) => {
                let file = format!("{}{name}", root.trim_end_matches('/'));
                ask::get_script(&file, name, query)
            }
            (None, None) => ask::get_script(name, name, query),
        };
        let mut own: Vec<Param> = Vec::new();
        if !body.is_empty() {
            own.push((b"REQUEST_METHOD".to_vec(), b"POST".to_vec()));
            own.push((b"CONTENT_LENGTH".to_vec(), body.len().to_string().into_bytes()));
        }
        // Of several parameters with one name, the last counts, as on the command line.
        let default =
            request.begin().params.iter().map(|(name, value)| (name.to_vec(), value.to_vec()));
        let all: Vec<Param> = default.chain(own).chain(self.params.iter().cloned()).collect();
        let last = |n: usize| all[n + 1..].iter().all(|(name, _)| *name != all[n].0);
        let params = (0..all.len()).filter(|n| last(*n)).map(|n| (&all[n].0, &all[n].1));
        let params = params.collect();
        Ok(Template { params, body, keep: self.keep || self.multiplex > 1 })
    }

    async fn read_body(&self) -> Result<Bytes, String> {
        if let Some(length) = self.body {
            let length = usize::try_from(length).map_err(|error| error.to_string())?;
            return Ok(Bytes::from(vec![b'x'; length]));
        }
        let Some(path) = &self.stdin else { return Ok(Bytes::new()) };
        let read = Input::whole(path, MOST).await;
        read.map(Bytes::from).map_err(|error| format!("read {}: {error}", path.display()))
    }
}

/// Runs the load, with a progress line on a terminal. A signal ends it early and is returned.
async fn watched(load: &Arc<Load>) -> Result<(load::Outcome, Option<u8>), fcgi::Error> {
    let mut signalled = pin!(signalled());
    let is_shown = io::stderr().is_terminal();
    let mut ticks = interval_at(Instant::now() + PROGRESS, PROGRESS);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
    let mut caught = None;
    let outcome = {
        let mut run = pin!(load.run());
        loop {
            tokio::select! {
                outcome = &mut run => break outcome?,
                (_, number) = &mut signalled => {
                    // Abort requests in progress: they may hang.
                    load.stop();
                    caught = Some(number);
                    break load.outcome();
                }
                _ = ticks.tick(), if is_shown => draw(load),
            }
        }
    };
    if is_shown {
        // A failure of stderr can't be reported anywhere.
        let _ = write!(io::stderr().lock(), "\r\x1b[K");
    }
    Ok((outcome, caught))
}

fn draw(load: &Load) {
    let ((done, failed), seconds) = (load.counts(), load.elapsed().as_secs_f64());
    #[expect(clippy::cast_precision_loss, reason = "a rate, for people")]
    let rate = done as f64 / seconds.max(1e-9);
    let failed = if failed > 0 { format!(", {failed} failed") } else { String::new() };
    let share = load.share() * 100.0;
    let line =
        format!("{share:>3.0}%  {done} requests in {seconds:.1} s, {rate:.0} a second{failed}");
    let _ = write!(io::stderr().lock(), "\r\x1b[K{line}");
}
