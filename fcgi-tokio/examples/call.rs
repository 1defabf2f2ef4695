//! Sends one request to an application.
//!
//! STDOUT goes to stdout as it comes, STDERR to stderr. Exit status: 0 done; 1 app status not 0;
//! 2 usage; 3 refused by the application; 4 protocol error or truncated response; 5 connect or IO
//! error; 6 time-out. CONTENT_LENGTH is added where STDIN is given and it is not.

#![allow(clippy::print_stderr, reason = "a program's one line on failure")]

use std::{
    io::{Read, Write},
    path::PathBuf,
    process::ExitCode,
    time::Duration,
};

use clap::{Parser, ValueEnum};
use fcgi_tokio as fcgi;

/// Sends one request to a FastCGI application.
#[derive(Parser)]
struct Args {
    /// unix:PATH or tcp:HOST:PORT
    address: fcgi::Address,
    #[arg(long, value_enum, default_value = "responder")]
    role: Role,
    /// A parameter, as NAME=VALUE; may be given again
    #[arg(long = "param", value_name = "NAME=VALUE", value_parser = param)]
    params: Vec<(String, String)>,
    /// The request's body; - reads stdin
    #[arg(long, value_name = "FILE")]
    stdin: Option<PathBuf>,
    /// A Filter's file
    #[arg(long, value_name = "FILE")]
    data: Option<PathBuf>,
    /// Limit for the whole request
    #[arg(long, value_name = "SECONDS", value_parser = seconds)]
    timeout: Option<Duration>,
    #[arg(long, value_name = "SECONDS", value_parser = seconds)]
    connect_timeout: Option<Duration>,
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

fn read(path: &PathBuf) -> std::io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    if path.as_os_str() == "-" {
        std::io::stdin().read_to_end(&mut bytes)?;
        return Ok(bytes);
    }
    std::fs::read(path)
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let args = Args::parse();
    let request = match request(&args) {
        Ok(request) => request,
        Err((path, error)) => {
            eprintln!("call: {}: read {}: {error}", args.address, path.display());
            return ExitCode::from(2);
        }
    };
    match call(&args, request).await {
        Ok(0) => ExitCode::SUCCESS,
        Ok(status) => {
            eprintln!("call: {}: the application ended with status {status}", args.address);
            ExitCode::from(1)
        }
        Err(Failure::Output(error)) => {
            eprintln!("call: {}: write the response to stdout: {error}", args.address);
            ExitCode::from(5)
        }
        Err(Failure::Call(error)) => {
            eprintln!("call: {error}");
            ExitCode::from(match error {
                fcgi::Error::Rejected { .. } => 3,
                fcgi::Error::Protocol { .. } | fcgi::Error::Truncated { .. } => 4,
                fcgi::Error::Timeout { .. } => 6,
                fcgi::Error::NotCallable { .. } | fcgi::Error::Usage(_) => 2,
                _ => 5,
            })
        }
    }
}

fn request(args: &Args) -> Result<fcgi::client::Request, (PathBuf, std::io::Error)> {
    let role = match args.role {
        Role::Responder => fcgi::Role::Responder,
        Role::Authorizer => fcgi::Role::Authorizer,
        Role::Filter => fcgi::Role::Filter,
    };
    let mut request = fcgi::client::Request::new(role)
        .params(args.params.iter().map(|(name, value)| (name, value)))
        .keep_conn(args.keep_conn);
    if let Some(path) = &args.stdin {
        let body = read(path).map_err(|error| (path.clone(), error))?;
        let has_input = role.has_input(fcgi::proto::Input::Stdin);
        if has_input && !args.params.iter().any(|(name, _)| name == "CONTENT_LENGTH") {
            request = request.param("CONTENT_LENGTH", body.len().to_string());
        }
        request = request.stdin(body);
    }
    if let Some(path) = &args.data {
        request = request.data(read(path).map_err(|error| (path.clone(), error))?);
    }
    Ok(request)
}

enum Failure {
    Call(fcgi::Error),
    Output(std::io::Error),
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

async fn call(args: &Args, request: fcgi::client::Request) -> Result<u32, Failure> {
    let connector = fcgi::client::Connector::new()
        .connect_timeout(args.connect_timeout.or(args.timeout))
        .first_byte_timeout(None)
        .next_byte_timeout(None)
        .total_timeout(args.timeout);
    let mut client = connector.connect(&args.address).await?;
    let mut response = client.send(request).await?;
    while let Some(chunk) = response.chunk().await? {
        match chunk {
            fcgi::client::Chunk::Stdout(bytes) => {
                let mut stdout = std::io::stdout().lock();
                stdout.write_all(&bytes)?;
                stdout.flush()?;
            }
            fcgi::client::Chunk::Stderr(bytes) => std::io::stderr().write_all(&bytes)?,
        }
    }
    Ok(response.app_status().unwrap_or_default())
}
