//! The cost of many connections or requests: idle connections, concurrent requests on one
//! connection, connections that come and go.
//!
//! Each part runs in its own process, and so does its server, so that the memory of one part is not
//! counted for another.

mod churn;
mod connections;
mod core;
mod idle;
mod multiplexed;
pub(crate) mod params;
mod quiet;

use std::env;
use std::ffi::OsStr;
use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, Result, ensure};
use fcgi_tokio::client::Request;
use fcgi_tokio::{Address, Client};

use crate::Options;
use crate::candidates;
use crate::cpu::{self, Placement};
use crate::process::Server;
use crate::sample::Sample;
use crate::serve::STDOUT;

/// The parameter that tells the server how many requests must have begun before any is answered.
pub(crate) const AT_ONCE: &str = "AT_ONCE";
/// The largest number of connections, and of concurrent requests.
pub(crate) const MOST: usize = 10_000;

/// The parts, by the names that `--only` knows.
const PARTS: [&str; 7] = ["connections", "quiet", "idle", "multiplexed", "core", "churn", "params"];

/// The numbers of concurrent requests, row by row.
const REQUESTS: [usize; 4] = [10, 100, 1_000, MOST];

/// Measures and prints every part.
pub(crate) fn run(options: &Options, cpus: Placement) -> Result<()> {
    for name in &options.only {
        let row = name.parse().is_ok_and(|n| REQUESTS.contains(&n));
        let known = row || PARTS.contains(&&**name);
        ensure!(known, "--only takes {} and {REQUESTS:?} here, not {name}", PARTS.join(", "));
    }
    let named: Vec<&str> = PARTS.into_iter().filter(|part| is_named(options, part)).collect();
    let parts = if named.is_empty() { PARTS.to_vec() } else { named };
    match parts[..] {
        ["connections"] => connections::run(options, cpus),
        ["quiet"] => quiet::run(options, cpus),
        ["params"] => params::run(options, cpus),
        ["idle"] => idle::run(cpus),
        ["multiplexed"] => multiplexed::run(options, cpus),
        ["core"] => core::run(options, cpus),
        ["churn"] => churn::run(options, cpus),
        _ => parts.into_iter().try_for_each(|part| again(options, cpus, part)),
    }
}

fn is_named(options: &Options, name: &str) -> bool {
    options.only.iter().any(|only| only == name)
}

/// The numbers of concurrent requests that take part: the given ones, or all.
fn at_once(options: &Options) -> Vec<usize> {
    let is_chosen = |n: &usize| is_named(options, &n.to_string());
    let named: Vec<usize> = REQUESTS.into_iter().filter(is_chosen).collect();
    if named.is_empty() { REQUESTS.to_vec() } else { named }
}

/// Runs this program again for one part.
fn again(options: &Options, cpus: Placement, part: &str) -> Result<()> {
    // It chooses among the processors that it inherits.
    cpus.unpin()?;
    let status = Command::new(env::current_exe().context("where is this program?")?)
        .args(["scale", "--only", part])
        .args(at_once(options).iter().flat_map(|n| ["--only".to_owned(), n.to_string()]))
        .args(["--seconds", &options.seconds.to_string()])
        .args(["--rounds", &options.rounds.to_string()])
        .args(options.programs.iter().flat_map(|path| [OsStr::new("--programs"), path.as_os_str()]))
        .status()?;
    ensure!(status.success(), "{part} failed");
    Ok(())
}

/// A fresh server with its socket in `dir`, and its address. The caller stays on the load's
/// processor.
fn start(dir: &Path, cpus: Placement) -> Result<(Server, Address)> {
    cpu::pin(cpus.load)?;
    let socket = dir.join("scale.sock");
    let command = candidates::serve(["scale".as_ref(), socket.as_os_str()])?;
    let server = Server::start(command, &socket, cpus)?;
    Ok((server, format!("unix:{}", socket.display()).parse()?))
}

/// Runs the load on tokio's single-threaded runtime.
fn block_on<T>(load: impl Future<Output = Result<T>>) -> Result<T> {
    tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(load)
}

/// The 26-parameter request.
fn request(sample: &Sample) -> Request {
    Request::responder().params(sample.request.params.iter().map(|(name, value)| (name, value)))
}

/// One request on an open connection.
async fn exchange(client: &mut Client, request: Request) -> Result<()> {
    let answer = client.send(request).await?.collect(STDOUT.len()).await?;
    ensure!(answer.app_status == 0 && answer.stdout == STDOUT, "a wrong answer: {answer:?}");
    Ok(())
}

/// The part of the header that says where everything ran.
fn placed(cpus: Placement) -> String {
    let Placement { load, server } = cpus;
    let shared = if load == server { " (the only one: they share it)" } else { "" };
    format!("over a unix socket; load on CPU {load}, server on CPU {server}{shared}")
}
