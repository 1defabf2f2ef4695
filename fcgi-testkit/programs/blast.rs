//! Sends many small requests to an application: what the client's throughput is measured on.
//!
//! `blast ADDR REQUESTS CONNECTIONS` sends that many keep-alive requests, each with nginx's
//! parameters and no body, over that many connections, and prints `requests=N seconds=S rps=R`.
//! Every answer must have app status 0 and some bytes; else one line says what came, and the exit
//! status is 1 (2 for usage).
//!
//! Every async adapter's example of this name is this file, with its `fcgi` and its `runtime`.

#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a program's result, or failure")]

use std::{
    process::ExitCode,
    time::{Duration, Instant},
};

use clap::Parser;

use crate::{fcgi, runtime};

/// The most that an answer may have, in bytes.
const ANSWER: usize = 1 << 20;

/// What nginx sends with its `fastcgi_params` and a browser's headers.
const PARAMS: [(&str, &str); 26] = [
    ("QUERY_STRING", "page=2&order=name"),
    ("REQUEST_METHOD", "GET"),
    ("CONTENT_TYPE", ""),
    ("CONTENT_LENGTH", ""),
    ("SCRIPT_NAME", "/list.php"),
    ("REQUEST_URI", "/list.php?page=2&order=name"),
    ("DOCUMENT_URI", "/list.php"),
    ("DOCUMENT_ROOT", "/srv/www"),
    ("SERVER_PROTOCOL", "HTTP/1.1"),
    ("REQUEST_SCHEME", "https"),
    ("HTTPS", "on"),
    ("GATEWAY_INTERFACE", "CGI/1.1"),
    ("SERVER_SOFTWARE", "nginx/1.26.3"),
    ("REMOTE_ADDR", "192.0.2.17"),
    ("REMOTE_PORT", "51234"),
    ("SERVER_ADDR", "192.0.2.1"),
    ("SERVER_PORT", "443"),
    ("SERVER_NAME", "www.example.org"),
    ("REDIRECT_STATUS", "200"),
    ("SCRIPT_FILENAME", "/srv/www/list.php"),
    ("HTTP_HOST", "www.example.org"),
    ("HTTP_USER_AGENT", "Mozilla/5.0 (X11; Linux x86_64; rv:128.0) Gecko/20100101 Firefox/128.0"),
    ("HTTP_ACCEPT", "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"),
    ("HTTP_ACCEPT_LANGUAGE", "en-US,en;q=0.5"),
    ("HTTP_ACCEPT_ENCODING", "gzip, deflate, br, zstd"),
    ("HTTP_COOKIE", "session=0123456789abcdef0123456789abcdef"),
];

/// Sends many small requests to a FastCGI application.
#[derive(Parser)]
struct Args {
    /// unix:PATH or tcp:HOST:PORT
    address: fcgi::Address,
    #[arg(value_parser = clap::value_parser!(u64).range(1..))]
    requests: u64,
    #[arg(value_parser = clap::value_parser!(u64).range(1..))]
    connections: u64,
}

pub(crate) fn main() -> ExitCode {
    let args = Args::parse();
    let (address, requests) = (args.address.clone(), args.requests);
    match runtime::block_on(blast(args)) {
        Ok(Ok(took)) => {
            let seconds = took.as_secs_f64();
            let rate = requests as f64 / seconds;
            println!("requests={requests} seconds={seconds:.6} rps={rate:.0}");
            ExitCode::SUCCESS
        }
        Ok(Err(Failure::Call(error))) => {
            eprintln!("blast: {error}");
            ExitCode::FAILURE
        }
        Ok(Err(Failure::Answer(what))) => {
            eprintln!("blast: {address}: {what}");
            ExitCode::FAILURE
        }
        Err(error) => {
            eprintln!("blast: {address}: start the runtime: {error}");
            ExitCode::FAILURE
        }
    }
}

enum Failure {
    Call(fcgi::Error),
    /// It came, but was not what it must be.
    Answer(String),
}

impl From<fcgi::Error> for Failure {
    fn from(error: fcgi::Error) -> Self {
        Self::Call(error)
    }
}

/// Runs a task for each connection, and says how long they took.
async fn blast(args: Args) -> Result<Duration, Failure> {
    let started = Instant::now();
    let tasks: Vec<_> = (0..args.connections)
        .map(|task| {
            let more = u64::from(task < args.requests % args.connections);
            let share = args.requests / args.connections + more;
            runtime::spawn(send(args.address.clone(), share))
        })
        .collect();
    for task in tasks {
        task.await?;
    }
    Ok(started.elapsed())
}

/// Sends a task's share of the requests.
async fn send(address: fcgi::Address, share: u64) -> Result<(), Failure> {
    if share == 0 {
        return Ok(());
    }
    let mut client = fcgi::Client::connect(&address).await?;
    for _ in 0..share {
        let request = fcgi::client::Request::responder().params(PARAMS).keep_conn(true);
        let answer = client.send(request).await?.collect(ANSWER).await?;
        if answer.app_status != 0 {
            let status = answer.app_status;
            return Err(Failure::Answer(format!("a request ended with status {status}")));
        }
        if answer.stdout.is_empty() {
            return Err(Failure::Answer("an answer without a byte".to_owned()));
        }
    }
    Ok(())
}
