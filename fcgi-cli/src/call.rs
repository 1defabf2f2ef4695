//! `fcgi call`: one request to an application.

use std::{
    future::pending,
    io::{self, IsTerminal, Write},
    path::{Path, PathBuf},
    process::ExitCode,
    time::Duration,
};

use clap::{
    Args, ValueEnum,
    builder::{OsStringValueParser, TypedValueParser},
};
use fcgi_tokio::{
    self as fcgi,
    client::{Chunk, Connector, Request},
    proto,
};

use fcgi_engine::text::Escaper;
use tokio::signal::unix::{SignalKind, signal};

use crate::{
    args::{Param, param, seconds},
    complain, input,
};

/// Send one request to an application
///
/// STDOUT of the application goes to stdout as it comes, its STDERR to stderr; control characters
/// in STDERR are escaped if stderr is a terminal. When the reader of stdout has had enough
/// (| head), the request is aborted, and that is no failure.
#[derive(Args)]
#[command(after_long_help = AFTER_HELP)]
pub(crate) struct Call {
    /// unix:PATH, /PATH, HOST:PORT or :PORT
    #[arg(value_name = "ADDR")]
    address: fcgi::Address,
    /// Role to request
    #[arg(long, value_enum, default_value = "responder")]
    role: Role,
    /// A parameter; may be given again, and is sent in the order given
    #[arg(
        long = "param",
        value_name = "NAME=VALUE",
        value_parser = OsStringValueParser::new().try_map(param)
    )]
    params: Vec<Param>,
    /// The body of the request: a file, or - for stdin
    ///
    /// CONTENT_LENGTH is added if it is not among the parameters; what comes from a pipe is then
    /// read to its end before it is sent. An authorizer has no body: it gets none.
    #[arg(long, value_name = "FILE|-")]
    stdin: Option<PathBuf>,
    /// The file that a filter is to change
    ///
    /// Filters may want FCGI_DATA_LENGTH and FCGI_DATA_LAST_MOD too: they are not added.
    #[arg(long, value_name = "FILE")]
    data: Option<PathBuf>,
    /// Limit for the whole request, once connected; default none
    #[arg(long, value_name = "SECONDS", value_parser = seconds)]
    timeout: Option<Duration>,
    /// Limit for connecting; default that of --timeout
    #[arg(long, value_name = "SECONDS", value_parser = seconds)]
    connect_timeout: Option<Duration>,
    /// Ask the application to keep the connection open
    #[arg(long)]
    keep_conn: bool,
}

const AFTER_HELP: &str = "\
Exit status:
  0  done
  1  the application ended with a status other than 0, which is printed
  2  usage, or a file that can't be opened
  3  refused by the application (CANT_MPX_CONN, OVERLOADED, UNKNOWN_ROLE)
  4  protocol error or truncated response
  5  connect or IO error
  6  time-out
  128 and the signal's number, when SIGINT or SIGTERM ends it; the request is aborted

Examples:
  Is php-fpm alive? (ping.path = /ping in its pool's configuration)
    fcgi call unix:/run/php/php-fpm.sock --param SCRIPT_NAME=/ping \\
        --param SCRIPT_FILENAME=/ping --param REQUEST_METHOD=GET
  As a health check, with a time limit
    fcgi call tcp:127.0.0.1:9000 --timeout 2 --param SCRIPT_NAME=/ping \\
        --param SCRIPT_FILENAME=/ping --param REQUEST_METHOD=GET >/dev/null
  Post a form
    printf 'name=Ann&age=7' | fcgi call unix:/run/php/php-fpm.sock --stdin - \\
        --param REQUEST_METHOD=POST --param SCRIPT_FILENAME=/srv/www/form.php \\
        --param CONTENT_TYPE=application/x-www-form-urlencoded
  Upload a file of any size
    fcgi call tcp:127.0.0.1:9000 --stdin disk.img --param REQUEST_METHOD=PUT \\
        --param SCRIPT_FILENAME=/srv/www/upload.php
  Send a file through a filter
    fcgi call unix:/run/filter.sock --role filter --data page.html \\
        --param REQUEST_METHOD=GET --param SCRIPT_NAME=/page.html
  May this user in?
    fcgi call unix:/run/auth.sock --role authorizer \\
        --param HTTP_AUTHORIZATION='Basic QW5uOnNlY3JldA=='";

#[derive(Clone, Copy, ValueEnum)]
enum Role {
    Responder,
    Authorizer,
    Filter,
}

impl From<Role> for fcgi::Role {
    fn from(role: Role) -> Self {
        match role {
            Role::Responder => Self::Responder,
            Role::Authorizer => Self::Authorizer,
            Role::Filter => Self::Filter,
        }
    }
}

/// Why a call did not succeed.
enum Failure {
    Status(u32),
    Fcgi(fcgi::Error),
    File(PathBuf, io::Error),
    /// Writing to `stdout` or `stderr`.
    Output(&'static str, io::Error),
}

impl From<fcgi::Error> for Failure {
    fn from(error: fcgi::Error) -> Self {
        Self::Fcgi(error)
    }
}

impl Call {
    pub(crate) async fn run(self) -> ExitCode {
        let mut output = Output::new();
        let address = &self.address;
        let called = tokio::select! {
            called = self.call(&mut output) => called,
            // Dropping the call aborts the request.
            (name, number) = signalled() => {
                output.end_line();
                complain(&format!("fcgi call: {address}: request aborted by {name}"));
                return ExitCode::from(128 + number);
            }
        };
        let Err(failure) = called else { return ExitCode::SUCCESS };
        let (code, message) = match failure {
            Failure::Output(_, error) if error.kind() == io::ErrorKind::BrokenPipe => {
                return ExitCode::SUCCESS;
            }
            Failure::Output(name, error) => (5, format!("{address}: write to {name}: {error}")),
            Failure::File(path, error) => {
                (2, format!("{address}: read {}: {error}", path.display()))
            }
            Failure::Status(status) => {
                (1, format!("{address}: the application ended with status {status}"))
            }
            Failure::Fcgi(error) => (exit_status(&error), error.report().to_string()),
        };
        output.end_line();
        complain(&format!("fcgi call: {message}"));
        ExitCode::from(code)
    }

    async fn call(&self, output: &mut Output) -> Result<(), Failure> {
        let request = self.request()?;
        let mut client = Connector::new()
            .connect_timeout(self.connect_timeout.or(self.timeout))
            .first_byte_timeout(None)
            .next_byte_timeout(None)
            .total_timeout(self.timeout)
            .connect(&self.address)
            .await?;
        let mut response = client.send(request).await?;
        while let Some(chunk) = response.chunk().await? {
            match chunk {
                Chunk::Stdout(bytes) => output.stdout(&bytes)?,
                Chunk::Stderr(bytes) => output.stderr(&bytes)?,
            }
        }
        output.finish()?;
        match response.app_status() {
            None | Some(0) => Ok(()),
            Some(status) => Err(Failure::Status(status)),
        }
    }

    fn request(&self) -> Result<Request, Failure> {
        let role = fcgi::Role::from(self.role);
        let open = |path: &Path, needs_length| {
            input::open(path, needs_length).map_err(|error| Failure::File(path.to_owned(), error))
        };
        let mut request = Request::new(role)
            .params(self.params.iter().map(|(name, value)| (name, value)))
            .keep_conn(self.keep_conn);
        if let Some(path) = &self.stdin {
            let given = self.params.iter().any(|(name, _)| name == b"CONTENT_LENGTH");
            let (body, length) = open(path, !given && role.has_input(proto::Input::Stdin))?;
            if let Some(length) = length {
                request = request.param("CONTENT_LENGTH", length.to_string());
            }
            request = request.stdin(body);
        }
        if let Some(path) = &self.data {
            let (body, _) = open(path, false)?;
            request = request.data(body);
        }
        Ok(request)
    }
}

/// Waits for a signal that asks the command to leave; its name and number.
async fn signalled() -> (&'static str, u8) {
    let signals = (signal(SignalKind::interrupt()), signal(SignalKind::terminate()));
    let (Ok(mut interrupt), Ok(mut terminate)) = signals else { return pending().await };
    tokio::select! {
        _ = interrupt.recv() => ("SIGINT", 2),
        _ = terminate.recv() => ("SIGTERM", 15),
    }
}

fn exit_status(error: &fcgi::Error) -> u8 {
    match error {
        fcgi::Error::Rejected { .. } => 3,
        fcgi::Error::Protocol { .. } | fcgi::Error::Truncated { .. } => 4,
        fcgi::Error::Timeout { .. } => 6,
        fcgi::Error::NotCallable { .. } | fcgi::Error::Usage(_) => 2,
        _ => 5,
    }
}

/// Where the application's output goes.
struct Output {
    /// For a terminal (H-10).
    escaper: Option<Escaper>,
    /// What went to stderr last has no end of line.
    mid_line: bool,
}

impl Output {
    fn new() -> Self {
        let escaper = io::stderr().is_terminal().then(|| Escaper::new(b"\n\t"));
        Self { escaper, mid_line: false }
    }

    fn stdout(&mut self, bytes: &[u8]) -> Result<(), Failure> {
        let mut stdout = io::stdout().lock();
        stdout
            .write_all(bytes)
            .and_then(|()| stdout.flush())
            .map_err(|error| Failure::Output("stdout", error))
    }

    fn stderr(&mut self, bytes: &[u8]) -> Result<(), Failure> {
        let escaped = self.escaper.as_mut().map(|escaper| escaper.push(bytes));
        self.write_stderr(escaped.as_deref().map_or(bytes, str::as_bytes))
    }

    fn finish(&mut self) -> Result<(), Failure> {
        let rest = self.escaper.as_mut().map(Escaper::finish).unwrap_or_default();
        self.write_stderr(rest.as_bytes())
    }

    fn write_stderr(&mut self, bytes: &[u8]) -> Result<(), Failure> {
        let Some(last) = bytes.last() else { return Ok(()) };
        self.mid_line = *last != b'\n';
        io::stderr().lock().write_all(bytes).map_err(|error| Failure::Output("stderr", error))
    }

    /// Lets a message start on a line of its own.
    fn end_line(&mut self) {
        if self.finish().is_ok() && self.mid_line {
            complain("");
        }
    }
}
