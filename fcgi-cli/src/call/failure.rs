//! Why a call did not succeed, its exit status and its message.

use std::{fmt, io, path::PathBuf};

use fcgi_http::HeadError;
use fcgi_tokio as fcgi;

use crate::exit::Exit;

/// Why a call did not succeed.
pub(super) enum Failure {
    Status(u32),
    Fcgi(fcgi::Error),
    Usage(String),
    /// A body's file could not be read.
    File(PathBuf, io::Error),
    /// The output file could not be created.
    Open(PathBuf, io::Error),
    /// Writing to `stdout` or `stderr` failed.
    Output(&'static str, io::Error),
    /// The answer does not start with a head.
    Head(HeadError),
    /// Its status is 400 or more, with `--fail`.
    Unwanted(String),
}

impl From<fcgi::Error> for Failure {
    fn from(error: fcgi::Error) -> Self {
        Self::Fcgi(error)
    }
}

impl Failure {
    pub(super) fn exit(&self) -> Exit {
        match self {
            Self::Status(_) => Exit::AppStatus,
            Self::Fcgi(error) => Exit::of(error),
            Self::Open(_, error) | Self::Output(_, error)
                if error.kind() == io::ErrorKind::TimedOut =>
            {
                Exit::Timeout
            }
            Self::Usage(_) | Self::File(..) | Self::Open(..) => Exit::Usage,
            Self::Output(..) => Exit::Io,
            Self::Head(_) => Exit::Protocol,
            Self::Unwanted(_) => Exit::Unwanted,
        }
    }

    pub(super) fn message(&self, address: &dyn fmt::Display) -> String {
        match self {
            Self::Status(status) => {
                format!("{address}: the application ended with status {status}")
            }
            Self::Fcgi(error) => error.report().to_string(),
            Self::Usage(reason) => reason.clone(),
            Self::File(path, error) => format!("{address}: read {}: {error}", path.display()),
            Self::Open(path, error) => format!("{address}: write {}: {error}", path.display()),
            Self::Output(name, error) => format!("{address}: write to {name}: {error}"),
            Self::Head(error) => format!("{address}: {error}"),
            Self::Unwanted(status) => format!("{address}: answered with {status}"),
        }
    }
}
