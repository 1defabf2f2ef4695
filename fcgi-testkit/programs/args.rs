//! The arguments of `call`, the request that it makes of them, and its exit statuses: the same in
//! the async and in the blocking adapters.
//!
//! Exit status: 0 done; 1 app status not 0; 2 usage; 3 refused by the application; 4 protocol error
//! or truncated response; 5 connect or IO error; 6 time-out. If STDIN is given, CONTENT_LENGTH is
//! added unless it is given too.

#![allow(clippy::print_stderr, reason = "a program's one line on failure")]

use std::{
    io::{Read, Write},
    path::{Path, PathBuf},
    process::ExitCode,
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

use clap::{Parser, ValueEnum};

use crate::fcgi;

/// Sends one request to a FastCGI application.
#[derive(Parser)]
pub(crate) struct Args {
    /// unix:PATH, /PATH, HOST:PORT or :PORT
    pub(crate) address: fcgi::Address,
    #[arg(long, value_enum, default_value = "responder")]
    role: Role,
    /// A parameter, as NAME=VALUE; repeatable
    #[arg(long = "param", value_name = "NAME=VALUE", value_parser = param)]
    params: Vec<(String, String)>,
    /// The request's body; - reads stdin
    #[arg(long, value_name = "FILE")]
    stdin: Option<PathBuf>,
    /// A Filter's file
    #[arg(long, value_name = "FILE")]
    data: Option<PathBuf>,
    /// Time limit for the whole request
    #[arg(long, value_name = "SECONDS", value_parser = seconds)]
    pub(crate) timeout: Option<Duration>,
    #[arg(long, value_name = "SECONDS", value_parser = seconds)]
    pub(crate) connect_timeout: Option<Duration>,
    /// Ask the application to keep the connection
    #[arg(long)]
    keep_conn: bool,
}

#[derive(Clone, Copy, ValueEnum)]
enum Role {
    Responder,
    Authorizer,
    Filter,
}

fn param(text: &str) -> Result<(String, String), String> {
    let (name, value) = text.split_once('=').ok_or("expected NAME=VALUE")?;
    Ok((name.to_owned(), value.to_owned()))
}

fn seconds(text: &str) -> Result<Duration, String> {
    let seconds = text.parse().map_err(|_| "expected a number of seconds")?;
    Duration::try_from_secs_f64(seconds).map_err(|error| error.to_string())
}

fn read(path: &Path) -> Result<Vec<u8>, Failure> {
    let mut bytes = Vec::new();
    let read = if path.as_os_str() == "-" {
        std::io::stdin().read_to_end(&mut bytes).map(|_| bytes)
    } else {
        std::fs::read(path)
    };
    read.map_err(|error| Failure::Input(path.to_owned(), error))
}

impl Args {
    /// The request, with its bodies read.
    pub(crate) fn request(&self) -> Result<fcgi::client::Request, Failure> {
        let role = match self.role {
            Role::Responder => fcgi::Role::Responder,
            Role::Authorizer => fcgi::Role::Authorizer,
            Role::Filter => fcgi::Role::Filter,
        };
        let mut request = fcgi::client::Request::new(role)
            .params(self.params.iter().map(|(name, value)| (name, value)))
            .keep_conn(self.keep_conn);
        if let Some(path) = &self.stdin {
            let body = read(path)?;
            let has_input = role.has_input(fcgi::proto::Input::Stdin);
            if has_input && !self.params.iter().any(|(name, _)| name == "CONTENT_LENGTH") {
                request = request.param("CONTENT_LENGTH", body.len().to_string());
            }
            request = request.stdin(body);
        }
        if let Some(path) = &self.data {
            request = request.data(read(path)?);
        }
        Ok(request)
    }
}

/// Why there is no app status.
pub(crate) enum Failure {
    /// A body could not be read.
    Input(PathBuf, std::io::Error),
    /// The response could not be written.
    Output(std::io::Error),
    Call(fcgi::Error),
}

impl From<fcgi::Error> for Failure {
    fn from(error: fcgi::Error) -> Self {
        Self::Call(error)
    }
}

impl From<std::io::Error> for Failure {
    fn from(error: std::io::Error) -> Self {
        Self::Output(error)
    }
}

/// Whether STDERR's last line has not ended.
static OPEN_LINE: AtomicBool = AtomicBool::new(false);

/// Hands on a part of the response.
pub(crate) fn hand_on(chunk: fcgi::client::Chunk) -> std::io::Result<()> {
    match chunk {
        fcgi::client::Chunk::Stdout(bytes) => {
            let mut stdout = std::io::stdout().lock();
            stdout.write_all(&bytes)?;
            stdout.flush()
        }
        fcgi::client::Chunk::Stderr(bytes) => {
            OPEN_LINE.store(!bytes.ends_with(b"\n"), Ordering::Relaxed);
            std::io::stderr().write_all(&bytes)
        }
    }
}

/// Prints one line about the failure, with the address and the cause; returns the exit status.
pub(crate) fn report(address: &fcgi::Address, outcome: Result<u32, Failure>) -> ExitCode {
    if !matches!(outcome, Ok(0)) && OPEN_LINE.load(Ordering::Relaxed) {
        eprintln!();
    }
    let status = match outcome {
        Ok(0) => 0,
        Ok(status) => {
            eprintln!("call: {address}: the application ended with status {status}");
            1
        }
        Err(Failure::Input(path, error)) => {
            eprintln!("call: {address}: read {}: {error}", path.display());
            2
        }
        Err(Failure::Output(error)) => {
            eprintln!("call: {address}: write the response to stdout: {error}");
            5
        }
        Err(Failure::Call(error)) => {
            eprintln!("call: {}", error.report());
            match error {
                fcgi::Error::Rejected { .. } => 3,
                fcgi::Error::Protocol { .. } | fcgi::Error::Truncated { .. } => 4,
                fcgi::Error::Timeout { .. } => 6,
                fcgi::Error::NotCallable { .. } | fcgi::Error::Usage(_) => 2,
                _ => 5,
            }
        }
    };
    ExitCode::from(status)
}
