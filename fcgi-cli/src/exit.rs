//! The exit statuses, the same for every subcommand.

use std::{env, process::ExitCode};

use clap::{
    Command,
    builder::{FalseyValueParser, TypedValueParser},
};
use fcgi_tokio as fcgi;

use crate::help;

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

/// The status for invalid arguments. They, or the variables of the subcommand's options, may still
/// select whose statuses to use; the command line takes precedence.
pub(crate) fn usage(command: &Command) -> ExitCode {
    let arguments: Vec<_> = env::args_os().skip(1).take_while(|arg| arg != "--").collect();
    let is_typed = |flag: &str| arguments.iter().any(|argument| argument == flag);
    let subcommand = arguments.iter().find_map(|word| command.find_subcommand(word));
    let is_set = |option: &str| {
        let Some(subcommand) = subcommand else { return false };
        let variable = help::variable_of(subcommand, option);
        let value = env::var_os(&variable).unwrap_or_default();
        let parsed = FalseyValueParser::new().parse_ref(command, None, &value);
        subcommand.get_arguments().any(|arg| arg.get_id() == option) && parsed.unwrap_or_default()
    };
    let is_nagios = || is_set("nagios") && !is_typed("--json");
    match () {
        () if is_typed("--docker") => ExitCode::from(Exit::Usage.docker()),
        () if is_typed("--nagios") => ExitCode::from(Exit::Usage.nagios().0),
        () if is_set("docker") => ExitCode::from(Exit::Usage.docker()),
        () if is_nagios() => ExitCode::from(Exit::Usage.nagios().0),
        () => Exit::Usage.into(),
    }
}
