//! `fcgi check`: for FastCGI applications what h2spec is for HTTP/2.

mod cases;
mod connection;
mod run;
mod steps;
mod wire;

use std::{
    collections::HashMap,
    fmt::Write as _,
    fs::File,
    io::{self, IsTerminal, Write as _},
    path::{Path, PathBuf},
    process::ExitCode,
    time::{Duration, Instant},
};

use anstyle::{AnsiColor, Style};
use clap::{
    Args,
    builder::{OsStringValueParser, TypedValueParser},
};
use fcgi_tokio::Address;
use serde_json::Map;

use crate::{
    args::{Param, limit, param},
    budget,
    exit::Exit,
    place::{NoPlace, Place},
    report::{self, Form, Report, milliseconds},
};
use cases::CASES;
use connection::Log;
use run::{Checked, Unready, Verdict};
use steps::Case;
use wire::Plain;

/// Check an application against the FastCGI specification
///
/// Sends valid and invalid records, and checks what comes back. Cases are numbered by requirement:
/// FC-3.3-2/1 is the first one of FC-3.3-2 in docs/requirements.md. Where the specification leaves
/// something open, the choice of these libraries is tested; that page marks such rules.
///
/// The application gets a few hundred requests, including broken ones. Do not check one that is in
/// use.
#[derive(Args)]
#[command(after_long_help = AFTER_HELP)]
pub(crate) struct Check {
    #[command(flatten)]
    place: Place,
    /// Run only the cases of this requirement, or this case; separate several by commas
    #[arg(long, value_name = "ID", value_delimiter = ',')]
    only: Vec<String>,
    /// Also write the results to a file, as JUnit XML; - writes them to stdout instead of the lines
    #[arg(long, value_name = "FILE")]
    junit: Option<PathBuf>,
    /// The path to request, which the application must answer
    #[arg(long, value_name = "PATH", default_value = "/")]
    path: String,
    /// The script's file, as the application sees it; default the path
    #[arg(long, value_name = "FILE")]
    script: Option<String>,
    /// Another parameter of each request; repeatable
    #[arg(
        long = "param",
        value_name = "NAME=VALUE",
        value_parser = OsStringValueParser::new().try_map(param)
    )]
    params: Vec<Param>,
    /// Time limit for each expected answer
    #[arg(long, value_name = "SECONDS", default_value = budget::PROBE, value_parser = limit)]
    timeout: Duration,
    /// List the cases without running them
    #[arg(long)]
    list: bool,
    #[command(flatten)]
    form: Form,
}

const AFTER_HELP: &str = "\
Exit status:
  0  every case passed, or was skipped with a reason
  2  usage, or no address found
  4  a plain request is not answered as FastCGI
  5  connect or IO error
  6  a plain request is not answered in time
  7  a case failed

Examples:
  An application that answers any path
    fcgi check unix:/run/app.sock
  php-fpm, which needs a script
    fcgi check unix:/run/php/php-fpm.sock --script /srv/www/hello.php
  Only the cases about GET_VALUES
    fcgi check 127.0.0.1:9000 --only FC-4.1-1,FC-4.1-2,Q-9";

/// How many bytes of a connection are shown for a failed case.
const SHOWN: usize = 256;

/// A case with its number, `FC-3.3-2/1`.
struct Numbered {
    number: String,
    case: &'static Case,
}

fn numbered() -> Vec<Numbered> {
    let mut counts: HashMap<&str, u32> = HashMap::new();
    let number = |case: &'static Case| {
        let count = counts.entry(case.id).or_default();
        *count += 1;
        Numbered { number: format!("{}/{count}", case.id), case }
    };
    CASES.iter().map(number).collect()
}

/// The content of a JUnit file.
struct Junit {
    total: usize,
    failed: u32,
    skipped: u32,
    errors: u32,
    cases: String,
}

impl Junit {
    /// Nothing could be checked.
    fn none(why: &str) -> Self {
        let why = escaped(why);
        let cases = format!(
            "<testcase classname=\"check\" name=\"a plain request is answered\"><error \
             message=\"{why}\"/></testcase>\n"
        );
        Self { total: 1, failed: 0, skipped: 0, errors: 1, cases }
    }
}

/// Where the results go.
enum Results {
    Stdout,
    File(File, String),
}

/// Writes the results, if they are wanted.
fn write_junit(to: Option<Results>, address: &Address, junit: Junit) -> Result<(), Failed> {
    let Junit { total, failed, skipped, errors, cases } = junit;
    let suite = escaped(&address.to_string());
    let text = format!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<testsuites><testsuite name=\"fcgi check \
         {suite}\" tests=\"{total}\" failures=\"{failed}\" skipped=\"{skipped}\" \
         errors=\"{errors}\">\n{cases}</testsuite></testsuites>"
    );
    match to {
        None => Ok(()),
        Some(Results::Stdout) => say(&text),
        Some(Results::File(mut file, path)) => {
            writeln!(file, "{text}").map_err(|error| (Exit::Io, format!("write {path}: {error}")))
        }
    }
}

#[derive(Default)]
struct Counts {
    passed: u32,
    failed: u32,
    skipped: u32,
}

/// Prints a line on stdout.
fn say(line: &str) -> Result<(), Failed> {
    report::print(line).map_err(|error| (Exit::Io, format!("write to stdout: {error}")))
}

/// Why the check could not finish.
type Failed = (Exit, String);

impl Check {
    pub(crate) async fn run(self) -> ExitCode {
        let checked = self.check().await;
        checked.unwrap_or_else(|(exit, message)| {
            Report::new("check", exit, message).field("event", "end").finish(self.form, false)
        })
    }

    async fn check(&self) -> Result<ExitCode, Failed> {
        let form = self.form;
        let chosen = self.chosen()?;
        if self.list {
            for numbered in &chosen {
                say(&match form.json {
                    true => serde_json::Value::Object(named(numbered)).to_string(),
                    false => format!("{:<12} {}", numbered.number, numbered.case.name),
                })?;
            }
            return Ok(Exit::Done.into());
        }
        let address = self.place.find().map_err(|error| (NoPlace::EXIT, error.to_string()))?;
        let results = self.junit()?;
        // The results are then the only thing on stdout.
        let is_shown = !matches!(results, Some(Results::Stdout));
        let mut checked = Checked::new(address.clone(), self.plain(), self.timeout);
        if let Err(Unready { exit, why, cause }) = checked.prepare().await {
            let why = format!("{address}: a plain request is not answered: {why}");
            write_junit(results, &address, Junit::none(&why))?;
            let report = Report::new("check", exit, why).address(&address).cause(cause);
            return Ok(report.field("event", "end").finish(form, false));
        }
        let began = Instant::now();
        let mut counts = Counts::default();
        let mut junit = String::new();
        for numbered in &chosen {
            let started = Instant::now();
            let verdict = checked.run(numbered.case).await;
            let took = started.elapsed();
            match verdict {
                Verdict::Pass => counts.passed += 1,
                Verdict::Fail { .. } => counts.failed += 1,
                Verdict::Skip(_) => counts.skipped += 1,
            }
            if form.json {
                say(&as_json(numbered, &verdict, took))?;
            } else if !form.nagios && is_shown {
                say(&as_text(numbered, &verdict))?;
            }
            junit_case(&mut junit, numbered, &verdict, took);
        }
        let Counts { passed, failed, skipped } = counts;
        let total = chosen.len();
        let junit = Junit { total, failed, skipped, errors: 0, cases: junit };
        write_junit(results, &address, junit)?;
        let exit = if failed > 0 { Exit::Unwanted } else { Exit::Done };
        let all = format!("{total} cases: {passed} passed, {failed} failed, {skipped} skipped");
        if !form.json && !form.nagios {
            if is_shown {
                say(&format!("\n{all}"))?;
            }
            return Ok(ExitCode::from(form.status(exit)));
        }
        let mut report = Report::new("check", exit, format!("{address}: {all}"))
            .address(&address)
            .field("event", "end");
        for (name, n) in [("passed", passed), ("failed", failed), ("skipped", skipped)] {
            report = report.field(name, n).performance(format!("{name}={n};;;0;{total}"));
        }
        Ok(report.duration("time", began.elapsed(), None).finish(form, false))
    }

    /// Where the results go, opened before the first case runs.
    fn junit(&self) -> Result<Option<Results>, Failed> {
        let Some(path) = &self.junit else { return Ok(None) };
        if path != Path::new("-") {
            let file = File::create(path)
                .map_err(|error| (Exit::Usage, format!("write {}: {error}", path.display())))?;
            return Ok(Some(Results::File(file, path.display().to_string())));
        }
        if self.form.json || self.form.nagios {
            let what = "--junit - needs stdout for itself: name a file, or leave out --json and \
                        --nagios";
            return Err((Exit::Usage, what.to_owned()));
        }
        Ok(Some(Results::Stdout))
    }

    fn chosen(&self) -> Result<Vec<Numbered>, Failed> {
        let all = numbered();
        let is_meant = |given: &str, case: &Numbered| {
            given.eq_ignore_ascii_case(case.case.id) || given.eq_ignore_ascii_case(&case.number)
        };
        for given in &self.only {
            if !all.iter().any(|case| is_meant(given, case)) {
                let what = format!("there is no case {given}; fcgi check --list has all of them");
                return Err((Exit::Usage, what));
            }
        }
        let is_chosen = |case: &Numbered| {
            self.only.is_empty() || self.only.iter().any(|given| is_meant(given, case))
        };
        Ok(all.into_iter().filter(is_chosen).collect())
    }

    fn plain(&self) -> Plain {
        let (name, query) = self.path.split_once('?').unwrap_or((&self.path, ""));
        let script = self.script.as_deref().unwrap_or(name);
        let pairs = [
            ("SCRIPT_FILENAME", script),
            ("SCRIPT_NAME", name),
            ("REQUEST_URI", &self.path),
            ("QUERY_STRING", query),
            ("SERVER_PROTOCOL", "HTTP/1.1"),
            ("GATEWAY_INTERFACE", "CGI/1.1"),
            ("SERVER_NAME", "localhost"),
            ("SERVER_PORT", "80"),
            ("REMOTE_ADDR", "127.0.0.1"),
            ("HTTP_HOST", "localhost"),
        ];
        let mut params: Vec<Param> = pairs
            .iter()
            .map(|(name, value)| (name.as_bytes().to_vec(), value.as_bytes().to_vec()))
            .filter(|(name, _)| !self.params.iter().any(|(given, _)| given == name))
            .collect();
        params.extend(self.params.iter().cloned());
        Plain { params }
    }
}

fn as_text(numbered: &Numbered, verdict: &Verdict) -> String {
    let Numbered { number, case } = numbered;
    let colour = io::stdout().is_terminal()
        && anstream::AutoStream::choice(&io::stdout()) != anstream::ColorChoice::Never;
    let (word, style) = match verdict {
        Verdict::Pass => ("pass", AnsiColor::Green.on_default()),
        Verdict::Fail { .. } => ("FAIL", AnsiColor::Red.on_default().bold()),
        Verdict::Skip(_) => ("skip", AnsiColor::Yellow.on_default()),
    };
    let style = if colour { style } else { Style::new() };
    let mut text = format!("{number:<12} {style}{word}{style:#}  {}", case.name);
    match verdict {
        Verdict::Pass => {}
        Verdict::Skip(reason) => text.push_str(&format!(": {reason}")),
        Verdict::Fail { why, sent, received } => {
            text.push_str(&format!("\n{:<18} {why}", ""));
            for (name, log) in [("sent", sent), ("received", received)] {
                dump(&mut text, name, log);
            }
        }
    }
    text
}

/// Shows the first bytes of a direction, 16 per line.
fn dump(text: &mut String, name: &str, log: &Log) {
    let shown = &log.start[..log.start.len().min(SHOWN)];
    if shown.is_empty() {
        text.push_str(&format!("\n{:<18} {name:<9} nothing", ""));
    }
    for (n, line) in shown.chunks(16).enumerate() {
        let hex: Vec<String> = line.iter().map(|byte| format!("{byte:02x}")).collect();
        let plain: String = line
            .iter()
            .map(|byte| if (0x20..0x7F).contains(byte) { char::from(*byte) } else { '.' })
            .collect();
        let label = if n == 0 { name } else { "" };
        text.push_str(&format!("\n{:<18} {label:<9} {:<47}  {plain}", "", hex.join(" ")));
    }
    let more = log.total - shown.len() as u64;
    if more > 0 {
        text.push_str(&format!("\n{:<18} {:<9} … {more} bytes more", "", ""));
    }
}

fn hex(log: &Log) -> String {
    log.start.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The start of a case's object.
fn named(numbered: &Numbered) -> Map<String, serde_json::Value> {
    let fields: [(&str, serde_json::Value); 6] = [
        ("v", 1.into()),
        ("command", "check".into()),
        ("event", "case".into()),
        ("case", numbered.number.as_str().into()),
        ("id", numbered.case.id.into()),
        ("name", numbered.case.name.into()),
    ];
    fields.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
}

fn as_json(numbered: &Numbered, verdict: &Verdict, took: Duration) -> String {
    let mut object = named(numbered);
    let mut put = |name: &str, value: serde_json::Value| {
        object.insert(name.to_owned(), value);
    };
    match verdict {
        Verdict::Pass => put("result", "pass".into()),
        Verdict::Skip(reason) => {
            put("result", "skip".into());
            put("reason", reason.as_str().into());
        }
        Verdict::Fail { why, sent, received } => {
            put("result", "fail".into());
            put("reason", why.as_str().into());
            put("sent_hex", hex(sent).into());
            put("sent_bytes", sent.total.into());
            put("received_hex", hex(received).into());
            put("received_bytes", received.total.into());
        }
    }
    put("time_ms", milliseconds(took));
    serde_json::Value::Object(object).to_string()
}

fn junit_case(out: &mut String, numbered: &Numbered, verdict: &Verdict, took: Duration) {
    let Numbered { number, case } = numbered;
    let name = escaped(&format!("{number} {}", case.name));
    let seconds = took.as_secs_f64();
    // Writing to a String can't fail.
    let _ =
        write!(out, "<testcase classname=\"{}\" name=\"{name}\" time=\"{seconds:.3}\">", case.id);
    let _ = match verdict {
        Verdict::Pass => Ok(()),
        Verdict::Skip(reason) => write!(out, "<skipped message=\"{}\"/>", escaped(reason)),
        Verdict::Fail { why, sent, received } => {
            let (why, sent, received) = (escaped(why), hex(sent), hex(received));
            write!(out, "<failure message=\"{why}\">sent {sent}\nreceived {received}</failure>")
        }
    };
    out.push_str("</testcase>\n");
}

/// Escapes text for XML.
fn escaped(text: &str) -> String {
    let mut out = String::new();
    for letter in text.chars() {
        match letter {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            // XML has no way to write these.
            c if c.is_control() || matches!(c, '\u{FFFE}' | '\u{FFFF}') => out.push(' '),
            c => out.push(c),
        }
    }
    out
}
