//! Sends one request to an application.
//!
//! `call --help` lists its options. STDOUT goes to stdout as it comes, STDERR to stderr; `args`
//! has the exit statuses.

#[path = "../../fcgi-testkit/programs/args.rs"]
mod args;

use std::process::ExitCode;

use args::{Args, Failure};
use clap::Parser;
use fcgi_blocking as fcgi;

fn main() -> ExitCode {
    let args = Args::parse();
    let outcome = args.request().and_then(|request| call(&args, request));
    args::report(&args.address, outcome)
}

fn call(args: &Args, request: fcgi::client::Request) -> Result<u32, Failure> {
    let connector = fcgi::client::Connector::new()
        .connect_timeout(args.connect_timeout.or(args.timeout))
        .first_byte_timeout(None)
        .next_byte_timeout(None)
        .total_timeout(args.timeout);
    let mut client = connector.connect(&args.address)?;
    let mut response = client.send(request)?;
    while let Some(chunk) = response.chunk()? {
        args::hand_on(chunk)?;
    }
    Ok(response.app_status().unwrap_or_default())
}
