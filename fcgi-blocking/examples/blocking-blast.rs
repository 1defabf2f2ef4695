//! Sends many small requests to an application, to measure the client's throughput.
//!
//! `blast ADDR REQUESTS CONNECTIONS` sends that many keep-alive requests, each with nginx's
//! parameters and no body, from that many threads over a pool of as many connections, and prints
//! `requests=N seconds=S rps=R`. With `--no-keep-conn` each request gets its own connection. Every
//! answer must have app status 0 and some bytes; otherwise one line says what came, and the exit
//! status is 1 (2 for usage).

#[path = "../../fcgi-testkit/programs/blast_args.rs"]
mod args;

use std::{
    process::ExitCode,
    thread,
    time::{Duration, Instant},
};

use args::{ANSWER, Args, Failure, check, params, request};
use clap::Parser;
use fcgi_blocking as fcgi;

fn main() -> ExitCode {
    let args = Args::parse();
    args::report(&args, blast(&args))
}

/// Runs a thread for each connection, and returns how long they took.
fn blast(args: &Args) -> Result<Duration, Failure> {
    let connections = usize::try_from(args.connections).unwrap_or(usize::MAX);
    let pool = fcgi::Pool::builder(args.address.clone())
        .max_connections(connections)
        .keep_conn(!args.no_keep_conn)
        .build()?;
    let params = params();
    let started = Instant::now();
    let mut threads = Vec::new();
    for share in args.shares() {
        let (pool, params, keep_conn) = (pool.clone(), params.clone(), !args.no_keep_conn);
        let thread = thread::Builder::new().spawn(move || send(&pool, &params, share, keep_conn));
        threads.push(thread.map_err(Failure::Start)?);
    }
    for thread in threads {
        match thread.join() {
            Ok(sent) => sent?,
            Err(panicked) => std::panic::resume_unwind(panicked),
        }
    }
    Ok(started.elapsed())
}

/// Sends a thread's share of the requests.
fn send(
    pool: &fcgi::Pool,
    params: &fcgi::Params,
    share: u64,
    keep_conn: bool,
) -> Result<(), Failure> {
    for _ in 0..share {
        check(&pool.send(request(params, keep_conn))?.collect(ANSWER)?)?;
    }
    Ok(())
}
