//! `fcgi call`: one request to an application.

use std::{
    fs::File,
    io::{self, IsTerminal, Read, Write},
    path::{Path, PathBuf},
    pin::Pin,
    process::ExitCode,
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use clap::{Args, ValueEnum};
use fcgi_tokio::{
    self as fcgi,
    client::{Body, Chunk, Connector, Request},
};

use crate::trace::escape;

const BLOCK: usize = 64 * 1024;

/// Send one request to an application.
///
/// STDOUT goes to stdout as it comes, STDERR to stderr. CONTENT_LENGTH is added when --stdin is
/// given and it is not among the parameters.
#[derive(Args)]
#[command(after_help = "Exit status:
  0  done
  1  the application ended with a status other than 0, which is printed
  2  usage
  3  refused by the application (CANT_MPX_CONN, OVERLOADED, UNKNOWN_ROLE)
  4  protocol error or truncated response
  5  connect or IO error
  6  time-out

Examples:
  A php-fpm health check:
    fcgi call unix:/run/php/php-fpm.sock --timeout 2 --param REQUEST_METHOD=GET \\
        --param SCRIPT_NAME=/ping --param SCRIPT_FILENAME=/ping
  A form, posted:
    printf 'a=1&b=2' | fcgi call tcp:127.0.0.1:9000 --stdin - --param REQUEST_METHOD=POST \\
        --param CONTENT_TYPE=application/x-www-form-urlencoded \\
        --param SCRIPT_FILENAME=/srv/www/form.php
  A Filter:
    fcgi call unix:/run/filter.sock --role filter --data page.html --param REQUEST_METHOD=GET")]
pub(crate) struct Call {
    /// unix:PATH or tcp:HOST:PORT
    address: fcgi::Address,
    /// What the application is asked to be
    #[arg(long, value_enum, default_value = "responder")]
    role: Role,
    /// A parameter; may be given again
    #[arg(long = "param", value_name = "NAME=VALUE", value_parser = param)]
    params: Vec<(String, String)>,
    /// The request's body; - reads stdin to its end first, unless CONTENT_LENGTH is given
    #[arg(long, value_name = "FILE|-")]
    stdin: Option<PathBuf>,
    /// A Filter's file
    #[arg(long, value_name = "FILE")]
    data: Option<PathBuf>,
    /// Limit for the whole request; default none
    #[arg(long, value_name = "SECONDS", value_parser = seconds)]
    timeout: Option<Duration>,
    /// Limit for connecting; default --timeout, or none
    #[arg(long, value_name = "SECONDS", value_parser = seconds)]
    connect_timeout: Option<Duration>,
    /// Ask the application to keep the connection open
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

/// Why a call did not succeed.
enum Failure {
    Status(u32),
    Fcgi(fcgi::Error),
    File(PathBuf, io::Error),
    Output(io::Error),
}

impl From<fcgi::Error> for Failure {
    fn from(error: fcgi::Error) -> Self {
        Self::Fcgi(error)
    }
}

impl Call {
    pub(crate) async fn run(self) -> ExitCode {
        let Err(failure) = self.call().await else { return ExitCode::SUCCESS };
        let address = &self.address;
        let (code, text) = match failure {
            // The reader of a pipe has had enough.
            Failure::Output(error) if error.kind() == io::ErrorKind::BrokenPipe => {
                return ExitCode::SUCCESS;
            }
            Failure::Output(error) => (5, format!("{address}: write the response: {error}")),
            Failure::File(path, error) => {
                (2, format!("{address}: read {}: {error}", path.display()))
            }
            Failure::Status(status) => {
                (1, format!("{address}: the application ended with status {status}"))
            }
            Failure::Fcgi(error) => (exit_status(&error), error.to_string()),
        };
        // There is nowhere left to report a failure of stderr.
        let _ = writeln!(io::stderr(), "fcgi call: {text}");
        ExitCode::from(code)
    }

    async fn call(&self) -> Result<(), Failure> {
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
                Chunk::Stdout(bytes) => {
                    let mut stdout = io::stdout().lock();
                    stdout.write_all(&bytes).map_err(Failure::Output)?;
                    stdout.flush().map_err(Failure::Output)?;
                }
                // Control bytes could steer a terminal (H-10).
                Chunk::Stderr(bytes) if io::stderr().is_terminal() => {
                    let text = escape(&bytes, b"\n\t");
                    io::stderr().write_all(text.as_bytes()).map_err(Failure::Output)?;
                }
                Chunk::Stderr(bytes) => {
                    io::stderr().write_all(&bytes).map_err(Failure::Output)?;
                }
            }
        }
        match response.app_status() {
            None | Some(0) => Ok(()),
            Some(status) => Err(Failure::Status(status)),
        }
    }

    fn request(&self) -> Result<Request, Failure> {
        let role = match self.role {
            Role::Responder => fcgi::Role::Responder,
            Role::Authorizer => fcgi::Role::Authorizer,
            Role::Filter => fcgi::Role::Filter,
        };
        let mut request = Request::new(role)
            .params(self.params.iter().map(|(name, value)| (name, value)))
            .keep_conn(self.keep_conn);
        if let Some(path) = &self.stdin {
            let says_length = self.params.iter().any(|(name, _)| name == "CONTENT_LENGTH")
                || !role.has_input(fcgi::proto::Input::Stdin);
            let (body, length) = open(path, !says_length)?;
            if let (false, Some(length)) = (says_length, length) {
                request = request.param("CONTENT_LENGTH", length.to_string());
            }
            request = request.stdin(body);
        }
        if let Some(path) = &self.data {
            request = request.data(open(path, false)?.0);
        }
        Ok(request)
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

/// A file, or stdin for `-`, as a body, and its length: what is no regular file is read to its
/// end first where the length is needed.
fn open(path: &Path, needs_length: bool) -> Result<(Body, Option<u64>), Failure> {
    let failed = |error| Failure::File(path.to_owned(), error);
    let mut reader: Box<dyn Read + Send> = Box::new(io::stdin());
    if path.as_os_str() != "-" {
        let file = File::open(path).map_err(failed)?;
        let metadata = file.metadata().map_err(failed)?;
        if metadata.is_file() {
            let length = metadata.len();
            return Ok((Body::from_stream(Blocks(Box::new(file.take(length)))), Some(length)));
        }
        reader = Box::new(file);
    }
    if !needs_length {
        return Ok((Body::from_stream(Blocks(reader)), None));
    }
    let mut bytes = Vec::new();
    reader.read_to_end(&mut bytes).map_err(failed)?;
    let length = bytes.len() as u64;
    Ok((bytes.into(), Some(length)))
}

/// Reads block by block. A disk is not waited for long enough to need a thread.
struct Blocks(Box<dyn Read + Send>);

impl futures_core::Stream for Blocks {
    type Item = io::Result<Bytes>;

    fn poll_next(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let mut block = vec![0; BLOCK];
        Poll::Ready(match self.get_mut().0.read(&mut block) {
            Ok(0) => None,
            Ok(n) => {
                block.truncate(n);
                Some(Ok(block.into()))
            }
            Err(error) => Some(Err(error)),
        })
    }
}
