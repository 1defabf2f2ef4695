//! The exit statuses, the same for every subcommand.

use std::{env, process::ExitCode};

use clap::Command;
use fcgi_tokio as fcgi;

use crate::{
    help,
    report::{Form, Report},
};

/// The exit status of a command.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) enum Exit {
    /// Success.
    Done = 0,
    /// The application ended with a status other than 0.
    AppStatus = 1,
    /// Usage, or a file that can't be opened.
    Usage = 2,
    /// The application refused the request.
    Refused = 3,
    /// A protocol error, or a truncated response.
    Protocol = 4,
    /// A connect or IO error.
    Io = 5,
    /// A time limit passed.
    Timeout = 6,
    /// A wrong answer.
    Unwanted = 7,
}

impl Exit {
    /// The status for an error of the library.
    pub(crate) fn of(error: &fcgi::Error) -> Self {
        match error {
            fcgi::Error::Rejected { .. } => Self::Refused,
            fcgi::Error::Protocol { .. } | fcgi::Error::Truncated { .. } => Self::Protocol,
            fcgi::Error::Timeout { .. } => Self::Timeout,
            fcgi::Error::NotCallable { .. } | fcgi::Error::Usage(_) => Self::Usage,
            fcgi::Error::TooLarge { .. } => Self::Unwanted,
            _ => Self::Io,
        }
    }

    /// For Docker, which distinguishes only healthy and unhealthy, and reserves 2.
    pub(crate) const fn docker(self) -> u8 {
        !matches!(self, Self::Done) as u8
    }

    /// OK, WARNING, CRITICAL and UNKNOWN, as in Nagios and the like.
    pub(crate) const fn nagios(self) -> (u8, &'static str) {
        match self {
            Self::Done => (0, "OK"),
            Self::Unwanted => (1, "WARNING"),
            Self::Usage => (3, "UNKNOWN"),
            _ => (2, "CRITICAL"),
        }
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}

/// Reports wrong arguments, and returns the exit status. The form of the report comes from the
/// arguments, or otherwise from the variables of the subcommand's options.
pub(crate) fn usage(command: &Command, error: &clap::Error) -> ExitCode {
    let arguments: Vec<_> = env::args_os().skip(1).take_while(|arg| arg != "--").collect();
    let is_typed = |flag: &str| arguments.iter().any(|argument| argument == flag);
    let subcommand = arguments.iter().find_map(|word| command.find_subcommand(word));
    let has = |option: &str| {
        subcommand.is_some_and(|it| it.get_arguments().any(|arg| arg.get_id() == option))
    };
    let is_set = |option: &str| {
        let Some(subcommand) = subcommand.filter(|_| has(option)) else { return false };
        let variable = help::variable_of(subcommand, option);
        env::var(&variable).is_ok_and(|value| help::switch(&value) == Ok(true))
    };
    let (json, docker, nagios) =
        (is_typed("--json"), is_typed("--docker"), is_typed("--nagios") && !is_typed("--docker"));
    let docker = docker || (is_set("docker") && !nagios);
    let form = Form {
        json: has("json") && (json || (is_set("json") && !nagios)),
        docker,
        nagios: has("nagios") && (nagios || (is_set("nagios") && !json && !docker)),
    };
    if form.json || form.nagios {
        let text = error.render().to_string();
        let lines: Vec<&str> =
            text.lines().take_while(|line| !line.is_empty()).map(str::trim).collect();
        let message = lines.join(" ");
        let message = message.strip_prefix("error: ").unwrap_or(&message);
        let name = subcommand.map_or("fcgi", Command::get_name);
        return Report::new(name, Exit::Usage, message).finish(form, false);
    }
    // A failure of the terminal can't be reported anywhere.
    let _ = error.print();
    ExitCode::from(form.status(Exit::Usage))
}
