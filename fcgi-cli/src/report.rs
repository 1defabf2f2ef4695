//! The final output of a command, for people and for programs.

use std::{
    io::{self, Write},
    process::ExitCode,
    time::Duration,
};

use clap::Args;
use fcgi_tokio::Address;
use serde_json::{Map, Value};

use crate::{causes::Cause, complain, exit::Exit};

/// The version of `--json`'s output.
const VERSION: u32 = 1;

/// Who reads the output; to be flattened into a subcommand's arguments.
#[derive(Args, Clone, Copy, Default, Debug)]
pub(crate) struct Form {
    /// Print one JSON object per line
    #[arg(long, help_heading = "Output", conflicts_with = "nagios")]
    pub(crate) json: bool,
    /// Exit with 0 or 1, as Docker's HEALTHCHECK requires
    #[arg(long, help_heading = "Output", conflicts_with = "nagios")]
    pub(crate) docker: bool,
    /// Print one line with performance data, and exit with 0 OK, 1 WARNING, 2 CRITICAL or 3 UNKNOWN
    #[arg(long, help_heading = "Output")]
    pub(crate) nagios: bool,
}

impl Form {
    /// The process's exit status.
    pub(crate) const fn status(self, exit: Exit) -> u8 {
        if self.docker {
            exit.docker()
        } else if self.nagios {
            exit.nagios().0
        } else {
            exit as u8
        }
    }
}

/// The result of a command for one application.
#[derive(Debug)]
pub(crate) struct Report {
    command: String,
    exit: Exit,
    address: Option<String>,
    message: String,
    cause: Option<Cause>,
    fields: Map<String, Value>,
    performance: Vec<String>,
}

impl Report {
    /// Creates a report. `message` says what happened, and at which address.
    pub(crate) fn new(command: impl Into<String>, exit: Exit, message: impl Into<String>) -> Self {
        Self {
            command: command.into(),
            exit,
            address: None,
            message: message.into(),
            cause: None,
            fields: Map::new(),
            performance: Vec::new(),
        }
    }

    pub(crate) fn address(mut self, address: &Address) -> Self {
        self.address = Some(address.to_string());
        self
    }

    /// Sets the likely cause.
    pub(crate) fn cause(mut self, cause: Option<Cause>) -> Self {
        self.cause = cause;
        self
    }

    /// Adds a field to the JSON object.
    pub(crate) fn field(mut self, name: &'static str, value: impl Into<Value>) -> Self {
        self.fields.insert(name.to_owned(), value.into());
        self
    }

    /// Adds a duration: `NAME_ms` in JSON, and `NAME` in seconds, up to `limit`, in the performance
    /// data.
    pub(crate) fn duration(
        self,
        name: &'static str,
        duration: Duration,
        limit: Option<Duration>,
    ) -> Self {
        let limit = limit.map(|limit| limit.as_secs_f64().to_string()).unwrap_or_default();
        self.performance(format!("{name}={:.6}s;;;0;{limit}", duration.as_secs_f64()))
            .field_ms(name, duration)
    }

    /// Adds a duration as `NAME_ms`, only in JSON.
    pub(crate) fn field_ms(mut self, name: &'static str, duration: Duration) -> Self {
        self.fields.insert(format!("{name}_ms"), milliseconds(duration));
        self
    }

    /// Adds a number to Nagios's performance data: `NAME=VALUE;WARN;CRIT;MIN;MAX`, unchanged.
    pub(crate) fn performance(mut self, data: impl Into<String>) -> Self {
        self.performance.push(data.into());
        self
    }

    /// Everything in one line, for people.
    pub(crate) fn line(&self) -> String {
        match &self.cause {
            Some(cause) => format!("{}: {cause}", self.message),
            None => self.message.clone(),
        }
    }

    pub(crate) fn json(&self, form: Form) -> String {
        let mut object = Map::new();
        let mut put = |name: &str, value: Value| {
            object.insert(name.to_owned(), value);
        };
        put("v", VERSION.into());
        put("command", self.command.as_str().into());
        if let Some(address) = &self.address {
            put("address", address.as_str().into());
        }
        put("ok", (self.exit == Exit::Done).into());
        put("exit_status", form.status(self.exit).into());
        put("message", self.message.as_str().into());
        if let Some(cause) = &self.cause {
            put("cause", cause.id.into());
            put("likely", cause.likely.as_str().into());
            put("remedy", cause.remedy.as_str().into());
        }
        object.extend(self.fields.clone());
        Value::Object(object).to_string()
    }

    fn nagios(&self) -> String {
        let (name, (_, state)) = (self.command.to_ascii_uppercase(), self.exit.nagios());
        // A bar starts the performance data, and only the first line counts.
        let line = self.line().replace('|', "/").replace('\n', "; ");
        let data = self.performance.join(" ");
        let bar = if data.is_empty() { "" } else { " | " };
        format!("{name} {state} - {line}{bar}{data}")
    }

    pub(crate) const fn exit(&self) -> Exit {
        self.exit
    }

    /// Like [`finish`](Self::finish), for a command whose output is enough if all is well.
    pub(crate) fn finish_unless_done(&self, form: Form) -> ExitCode {
        self.finish(form, self.exit == Exit::Done)
    }

    /// Prints the result and returns the exit status. For people, success goes to stdout and
    /// failure to stderr; programs read stdout. `quiet` applies only to people: programs still get
    /// their line.
    pub(crate) fn finish(&self, form: Form, quiet: bool) -> ExitCode {
        ExitCode::from(form.status(self.show(form, quiet)))
    }

    /// Like [`finish`](Self::finish), for a command with several results.
    pub(crate) fn show(&self, form: Form, quiet: bool) -> Exit {
        let text = if form.json {
            self.json(form)
        } else if form.nagios {
            self.nagios()
        } else if !quiet && self.exit == Exit::Done {
            self.line()
        } else {
            if !quiet {
                complain(&format!("fcgi {}: {}", self.command, self.line()));
            }
            return self.exit;
        };
        print_result(&self.command, &text, self.exit)
    }
}

/// Prints a command's result on stdout, as a line. Returns `exit`, or [`Exit::Io`] if that fails.
pub(crate) fn print_result(command: &str, line: &str, exit: Exit) -> Exit {
    write_result(command, &format!("{line}\n"), exit).0
}

/// Like [`print_result`], without an end of line. Returns also whether to go on: not if the reader is
/// gone, which is no error, or if it fails.
pub(crate) fn write_result(command: &str, text: &str, exit: Exit) -> (Exit, bool) {
    let mut stdout = io::stdout().lock();
    match stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()) {
        Ok(()) => (exit, true),
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => (exit, false),
        Err(error) => {
            complain(&format!("fcgi {command}: write to stdout: {error}"));
            (Exit::Io, false)
        }
    }
}

/// Milliseconds, with microseconds after the point.
pub(crate) fn milliseconds(duration: Duration) -> Value {
    ((duration.as_secs_f64() * 1e6).round() / 1e3).into()
}

/// Prints a line on stdout. A reader that is gone is not an error.
pub(crate) fn print(line: &str) -> io::Result<()> {
    let mut stdout = io::stdout().lock();
    match writeln!(stdout, "{line}").and_then(|()| stdout.flush()) {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        written => written,
    }
}
