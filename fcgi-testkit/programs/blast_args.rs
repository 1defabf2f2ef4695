//! The arguments of `blast`, the requests that it sends, and its output: the same in the async and
//! in the blocking adapters.

#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a program's result, or failure")]

use std::{process::ExitCode, time::Duration};

use clap::Parser;

use crate::fcgi;

/// The largest answer, in bytes.
pub(crate) const ANSWER: usize = 1 << 20;

/// The parameters that nginx sends with its `fastcgi_params` and a browser's headers.
pub(crate) const PARAMS: [(&str, &str); 26] = [
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
#[derive(Clone, Parser)]
pub(crate) struct Args {
    /// unix:PATH, /PATH, HOST:PORT or :PORT
    pub(crate) address: fcgi::Address,
    #[arg(value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) requests: u64,
    #[arg(value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) connections: u64,
    /// A connection for each request, instead of kept ones
    #[arg(long)]
    pub(crate) no_keep_conn: bool,
}

impl Args {
    /// How many of the requests go over each connection.
    pub(crate) fn shares(&self) -> impl Iterator<Item = u64> {
        let (each, more) = (self.requests / self.connections, self.requests % self.connections);
        (0..self.connections).map(move |n| each + u64::from(n < more)).filter(|share| *share > 0)
    }
}

/// A request, over a connection that is kept or not. All of them share their parameters.
pub(crate) fn request(params: &fcgi::Params, keep_conn: bool) -> fcgi::client::Request {
    fcgi::client::Request::responder().append_params(params).keep_conn(keep_conn)
}

/// The parameters of each request.
pub(crate) fn params() -> fcgi::Params {
    fcgi::Params::from_iter(PARAMS).shared()
}

/// Every answer must have app status 0 and some bytes.
pub(crate) fn check(answer: &fcgi::client::Collected) -> Result<(), Failure> {
    if answer.app_status != 0 {
        let status = answer.app_status;
        return Err(Failure::Answer(format!("a request ended with status {status}")));
    }
    if answer.stdout.is_empty() {
        return Err(Failure::Answer("an answer without a byte".to_owned()));
    }
    Ok(())
}

pub(crate) enum Failure {
    Call(fcgi::Error),
    /// An answer came, but a wrong one.
    Answer(String),
    /// The runtime or a thread could not be started.
    Start(std::io::Error),
}

impl From<fcgi::Error> for Failure {
    fn from(error: fcgi::Error) -> Self {
        Self::Call(error)
    }
}

/// Prints the result, or one line about the failure; returns the exit status.
pub(crate) fn report(args: &Args, outcome: Result<Duration, Failure>) -> ExitCode {
    match outcome {
        Ok(took) => {
            let (requests, seconds) = (args.requests, took.as_secs_f64());
            let rate = requests as f64 / seconds;
            println!("requests={requests} seconds={seconds:.6} rps={rate:.0}");
            return ExitCode::SUCCESS;
        }
        Err(Failure::Call(error)) => eprintln!("blast: {}", error.report()),
        Err(Failure::Answer(what)) => eprintln!("blast: {}: {what}", args.address),
        Err(Failure::Start(error)) => eprintln!("blast: {}: start: {error}", args.address),
    }
    ExitCode::FAILURE
}
