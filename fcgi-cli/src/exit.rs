//! The exit statuses, the same for every subcommand.

use std::process::ExitCode;

use fcgi_tokio as fcgi;

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
