//! Sends one request to an application.
//!
//! `call --help` lists its options. STDOUT goes to stdout as it comes, STDERR to stderr; `args`
//! has the exit statuses.
//!
//! The example of this name of every async adapter is this file, with the adapter's `fcgi` and
//! `runtime`.

#[path = "args.rs"]
mod args;

use std::process::ExitCode;

use args::{Args, Failure};
use clap::Parser;

use crate::{fcgi, runtime};

pub(crate) fn main() -> ExitCode {
    let args = Args::parse();
    let address = args.address.clone();
    let outcome = args.request().and_then(|request| runtime::block_on(call(args, request))?);
    args::report(&address, outcome)
}

async fn call(args: Args, request: fcgi::client::Request) -> Result<u32, Failure> {
    let connector = fcgi::client::Connector::new()
        .connect_timeout(args.connect_timeout.or(args.timeout))
        .first_byte_timeout(None)
        .next_byte_timeout(None)
        .total_timeout(args.timeout);
    let mut client = connector.connect(&args.address).await?;
    let mut response = client.send(request).await?;
    while let Some(chunk) = response.chunk().await? {
        args::hand_on(chunk)?;
    }
    Ok(response.app_status().unwrap_or_default())
}
