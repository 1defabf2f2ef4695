//! `fcgi ping`: a health check.

use std::{
    process::ExitCode,
    time::{Duration, Instant},
};

use clap::Args;
use fcgi_engine::text::{chain, escape};
use fcgi_tokio::Address;
use tokio::time::sleep;

use crate::{
    args::{limit, number},
    ask::{self, Answer},
    budget::{self, Budget},
    causes::{self, Cause},
    exit::Exit,
    place::{NoPlace, Place},
    report::{Form, Report},
};

/// How much of a body is compared.
const MOST: usize = 1 << 20;
/// php-fpm's answer unless ping.response is set.
const PONG: &str = "pong";
/// The first pause between two attempts. Each is twice as long as the last, up to a limit.
const FIRST_PAUSE: Duration = Duration::from_millis(50);
const LAST_PAUSE: Duration = Duration::from_secs(1);

/// Check that an application answers, as a health check
///
/// An application is well if it answers with status 200 and the expected body, in time, on the
/// socket that takes its requests. For php-fpm that is ping.path of the pool itself:
/// pm.status_listen answers pong even while every worker is busy.
#[derive(Args)]
#[command(after_long_help = AFTER_HELP)]
pub(crate) struct Ping {
    #[command(flatten)]
    place: Place,
    /// The path to request, as in php-fpm's ping.path
    #[arg(long, value_name = "PATH", default_value = "/ping", value_parser = path)]
    path: String,
    /// Run this script instead, named as the application sees it; it must answer with status 200
    #[arg(long, value_name = "FILE", conflicts_with = "path")]
    script: Option<String>,
    /// The whole body, without line ends at its end; default pong, and any body with --script
    #[arg(long, value_name = "TEXT")]
    expect: Option<String>,
    /// Time limit for everything, retries included; with --wait, for one attempt
    #[arg(long, value_name = "SECONDS", default_value = budget::PROBE, value_parser = limit)]
    timeout: Duration,
    /// Try again up to N times, while there is time
    #[arg(long, value_name = "N", default_value_t = 0, value_parser = number::<u32>, conflicts_with = "wait")]
    retry: u32,
    /// Retry until it is well, for at most this long; for use at a start
    #[arg(long, value_name = "SECONDS", value_parser = limit)]
    wait: Option<Duration>,
    /// Only connect; this does not test workers, since the kernel accepts connections for them
    #[arg(long, conflicts_with_all = ["path", "script", "expect"])]
    connect_only: bool,
    /// Print nothing; the exit status is the result
    #[arg(long, short)]
    quiet: bool,
    #[command(flatten)]
    form: Form,
}

const AFTER_HELP: &str = "\
Exit status:
  0  the application is well
  1  the application ended with a status other than 0
  2  usage, or no address found
  3  refused by the application (CANT_MPX_CONN, OVERLOADED, UNKNOWN_ROLE)
  4  protocol error or truncated response, as from a port that speaks HTTP
  5  connect or IO error: no socket, no permission, nobody listens
  6  time-out: saturated, or stopped
  7  a wrong answer: another status or body, as for a path that is not configured

Examples:
  The only php-fpm of a machine or container (ping.path = /ping in its pool)
    fcgi ping
  Docker
    HEALTHCHECK CMD [\"fcgi\", \"ping\", \"--docker\"]
  Wait for a start, for at most half a minute
    fcgi ping unix:/run/php/php-fpm.sock --wait 30
  Without ping.path: a script of your own
    fcgi ping 127.0.0.1:9000 --script /srv/www/health.php --expect ok
  Nagios
    fcgi ping unix:/run/php/php-fpm.sock --nagios";

fn path(text: &str) -> Result<String, &'static str> {
    if text.starts_with('/') { Ok(text.to_owned()) } else { Err("expected a path such as /ping") }
}

/// The result of one attempt.
struct Outcome {
    exit: Exit,
    message: String,
    cause: Option<Cause>,
    address: Option<Address>,
    status: Option<u16>,
    took: Duration,
    /// Whether another attempt may have another result; not if the usage is wrong.
    may_change: bool,
}

impl Ping {
    pub(crate) async fn run(self) -> ExitCode {
        let budget = Budget::new(Some(self.wait.unwrap_or(self.timeout)));
        let mut pause = FIRST_PAUSE;
        let mut tries = 0;
        let outcome = loop {
            tries += 1;
            let outcome = self.once(&budget).await;
            let again = self.wait.is_some() || tries <= self.retry;
            if outcome.exit == Exit::Done || !again || !outcome.may_change {
                break outcome;
            }
            sleep(budget.left().map_or(pause, |left| left.min(pause))).await;
            if budget.is_over() {
                break outcome;
            }
            pause = (pause * 2).min(LAST_PAUSE);
        };
        self.report(outcome, tries, &budget).finish(self.form, self.quiet)
    }

    fn report(&self, outcome: Outcome, tries: u32, budget: &Budget) -> Report {
        let tried = if tries > 1 { format!(" ({tries} tries)") } else { String::new() };
        let Outcome { exit, message, cause, address, status, took, .. } = outcome;
        let mut report = Report::new("ping", exit, format!("{message}{tried}")).cause(cause);
        if let Some(address) = &address {
            report = report.address(address);
        }
        if let Some(status) = status {
            report = report.field("status", status);
        }
        report
            .field("tries", tries)
            .duration("time", took, Some(self.timeout))
            .field_ms("total", budget.elapsed())
    }

    async fn once(&self, budget: &Budget) -> Outcome {
        let address = match self.place.find() {
            Ok(address) => address,
            Err(error) => return no_place(&error),
        };
        let started = Instant::now();
        let mut outcome = self.ask(&address, &budget.part(self.timeout), started).await;
        outcome.took = started.elapsed();
        outcome.address = Some(address);
        outcome
    }

    async fn ask(&self, address: &Address, budget: &Budget, started: Instant) -> Outcome {
        if self.connect_only {
            return match ask::connect(address, budget).await {
                Ok(_) => {
                    let message = format!("connected to {address} in {:.1?}", started.elapsed());
                    outcome(Exit::Done, message, None)
                }
                Err(error) => outcome(
                    Exit::of(&error),
                    error.report().to_string(),
                    causes::of(&error, address),
                ),
            };
        }
        let request = match &self.script {
            Some(script) => {
                let name = script.rsplit('/').next().unwrap_or_default();
                ask::get_script(script, &format!("/{name}"), "")
            }
            None => ask::get(&self.path),
        };
        match ask::ask(address, request, budget, MOST).await {
            Ok(answer) => self.judge(address, &answer, started),
            Err(failed) => {
                let cause = failed.cause(address);
                outcome(failed.exit(), chain(&failed).to_string(), cause)
            }
        }
    }

    fn judge(&self, address: &Address, answer: &Answer, started: Instant) -> Outcome {
        let status = Some(answer.head.parts.status.as_u16());
        let with_status = |outcome: Outcome| Outcome { status, ..outcome };
        let asked = self.script.as_deref().unwrap_or(&self.path);
        if status != Some(200) {
            let message = format!("{address}: {asked} was answered with {}", answer.status_line());
            let cause = self.cause_of(answer);
            return with_status(outcome(Exit::Unwanted, message, cause));
        }
        let expected = match (&self.expect, &self.script) {
            (Some(text), _) => Some(text.as_str()),
            (None, None) => Some(PONG),
            (None, Some(_)) => None,
        };
        let body = trim(&answer.body);
        if let Some(expected) = expected.filter(|expected| body != trim(expected.as_bytes())) {
            let message = format!(
                "{address}: {asked} was answered with {} instead of {expected:?}",
                excerpt(body)
            );
            let likely = match &self.script {
                Some(_) => "the script prints something else",
                None => "something else answers there, or ping.response says otherwise",
            };
            let cause = Cause::new("body", likely, "--expect names what is expected");
            return with_status(outcome(Exit::Unwanted, message, Some(cause)));
        }
        if answer.app_status != 0 {
            let message =
                format!("{address}: the application ended with status {}", answer.app_status);
            return with_status(outcome(Exit::AppStatus, message, None));
        }
        let said = if expected == Some(PONG) { PONG.to_owned() } else { "200".to_owned() };
        let message = format!("{said} from {address} in {:.1?}", started.elapsed());
        with_status(outcome(Exit::Done, message, None))
    }

    fn cause_of(&self, answer: &Answer) -> Option<Cause> {
        match &self.script {
            Some(script) => causes::of_answer(answer, script),
            None if answer.head.parts.status == 404 || answer.head.parts.status == 403 => {
                Some(causes::no_ping(&self.path, None))
            }
            None => causes::of_answer(answer, &self.path),
        }
    }
}

fn outcome(exit: Exit, message: String, cause: Option<Cause>) -> Outcome {
    Outcome {
        exit,
        message,
        cause,
        address: None,
        status: None,
        took: Duration::ZERO,
        may_change: exit != Exit::Usage,
    }
}

fn no_place(error: &NoPlace) -> Outcome {
    let may_change = error.may_come();
    Outcome { may_change, ..outcome(NoPlace::EXIT, error.to_string(), None) }
}

/// Removes the line ends at the end.
fn trim(body: &[u8]) -> &[u8] {
    let end = body.iter().rposition(|byte| !matches!(byte, b'\n' | b'\r'));
    &body[..end.map_or(0, |end| end + 1)]
}

/// The start of a body, for people.
fn excerpt(body: &[u8]) -> String {
    const LENGTH: usize = 60;
    let start = escape(&body[..body.len().min(LENGTH)], b"");
    if body.len() > LENGTH { format!("\"{start}…\"") } else { format!("\"{start}\"") }
}
