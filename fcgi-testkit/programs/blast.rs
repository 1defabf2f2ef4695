//! Sends many small requests to an application, to measure the client's throughput.
//!
//! `blast ADDR REQUESTS CONNECTIONS` sends that many keep-alive requests, each with nginx's
//! parameters and no body, over a pool of that many connections, and prints `requests=N seconds=S
//! rps=R`. With `--no-keep-conn` each request gets its own connection. Every answer must have app
//! status 0 and some bytes; otherwise one line says what came, and the exit status is 1 (2 for
//! usage).
//!
//! The example of this name of every async adapter is this file, with the adapter's `fcgi` and
//! `runtime`.

#[path = "blast_args.rs"]
mod args;

use std::{
    process::ExitCode,
    time::{Duration, Instant},
};

use args::{ANSWER, Args, Failure, check, params, request};
use clap::Parser;

use crate::{fcgi, runtime};

pub(crate) fn main() -> ExitCode {
    let args = Args::parse();
    let outcome = match runtime::block_on(blast(args.clone())) {
        Ok(outcome) => outcome,
        Err(error) => Err(Failure::Start(error)),
    };
    args::report(&args, outcome)
}

/// Runs a task for each connection, and says how long they took.
async fn blast(args: Args) -> Result<Duration, Failure> {
    let most = usize::try_from(args.connections).unwrap_or(usize::MAX);
    let pool = fcgi::Pool::builder(args.address.clone())
        .max_connections(most)
        .keep_conn(!args.no_keep_conn)
        .build()?;
    let params = params();
    let started = Instant::now();
    let spawn =
        |share| runtime::spawn(send(pool.clone(), params.clone(), share, !args.no_keep_conn));
    let tasks: Vec<_> = args.shares().map(spawn).collect();
    for task in tasks {
        task.await?;
    }
    Ok(started.elapsed())
}

/// Sends a task's share of the requests.
async fn send(
    pool: fcgi::Pool,
    params: fcgi::Params,
    share: u64,
    keep_conn: bool,
) -> Result<(), Failure> {
    for _ in 0..share {
        check(&pool.send(request(&params, keep_conn)).await?.collect(ANSWER).await?)?;
    }
    Ok(())
}
