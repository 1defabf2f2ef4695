//! Compares one axum router through FastCGI and under hyper alone, and Go's servers. This shows
//! what FastCGI and the mapping to HTTP cost an application.

use std::path::Path;
use std::process::Command;
use std::rc::Rc;

use anyhow::{Context as _, Result, bail};

use crate::Options;
use crate::candidates::{self, Go};
use crate::compare::{Column, Comparison, Row, Subject};
use crate::cpu::{self, Placement};
use crate::goals::Goal;
use crate::load::{Answers, Shape, Talk, first_fastcgi, first_http};
use crate::process::Server;
use crate::sample::Sample;
use crate::server::Driven;

const HYPER: &str = "axum on hyper";
const OURS: &str = "axum on fcgi-tokio";

/// Measures and prints.
pub(crate) fn run(options: &Options, cpus: Placement) -> Result<Vec<Goal>> {
    cpu::pin(cpus.load)?;
    println!("### HTTP\n");
    println!(
        "The same request over a unix socket, as HTTP/1.1 and as FastCGI. {}.\n",
        cpus.words()
    );
    let dir = tempfile::tempdir().context("cannot make a temporary folder")?;
    let sample = Sample::small();
    let socket = |name: &str| dir.path().join(name);
    let builtin = |name: &str| candidates::builtin(name, &socket(name));
    let go = |kind, name: &str| candidates::go(dir.path(), kind, &socket(name));
    let servers = [
        (HYPER, true, "axum-http", builtin("axum-http")),
        (OURS, false, "axum-fastcgi", builtin("axum-fastcgi")),
        ("Go net/http", true, "go-http", go(Go::Http, "go-http")),
        ("Go net/http/fcgi", false, "go-fastcgi", go(Go::Fastcgi, "go-fastcgi")),
    ];
    let running: Vec<_> = servers
        .into_iter()
        .map(|(name, http, file, command)| {
            (name, http, start(command, &socket(file), http, &sample, cpus))
        })
        .collect();
    let mut goals = Vec::new();
    for (title, shape) in [
        ("16 kept connections", Shape::Kept(16)),
        ("a connection for each request, 16 at once", Shape::Apart(16)),
    ] {
        let rows = running.iter().map(|(name, http, running)| {
            let subject = subject(running, *http, shape, &sample, dir.path());
            Row::new(*name, subject)
        });
        let comparison = Comparison::run(options, title, HYPER, rows.collect());
        comparison.print(&[Column::RATE, Column::CPU, Column::P99, Column::BUSY]);
        if let Shape::Kept(_) = shape {
            let what = "axum through FastCGI, requests a CPU second, of axum on hyper";
            goals.push(comparison.goal_per_cpu(what, OURS, HYPER, 0.9));
        }
    }
    Ok(goals)
}

fn request(sample: &Sample, http: bool, keep: bool) -> Vec<u8> {
    if http { sample.http(keep) } else { sample.wire(1, keep) }
}

fn start(
    command: Result<Command>,
    socket: &Path,
    http: bool,
    sample: &Sample,
    cpus: Placement,
) -> Result<(Rc<Server>, [Answers; 2])> {
    let server = Server::start(command?, socket, cpus)?;
    let first = if http { first_http } else { first_fastcgi };
    let kept = first(socket, &request(sample, http, true))?;
    // In HTTP/1.1 the answer itself says that the connection ends.
    let apart = first(socket, &request(sample, http, false))?;
    Ok((Rc::new(server), [kept, apart]))
}

fn subject(
    running: &Result<(Rc<Server>, [Answers; 2])>,
    http: bool,
    shape: Shape,
    sample: &Sample,
    dir: &Path,
) -> Result<Box<dyn Subject>> {
    let (server, [kept, apart]) = match running {
        Ok(running) => running,
        Err(error) => bail!("{error:#}"),
    };
    let keep = !matches!(shape, Shape::Apart(_));
    let answers = if keep { kept } else { apart }.clone();
    let talk = Talk { requests: vec![request(sample, http, keep)], answers };
    Ok(Box::new(Driven { server: Rc::clone(server), shape, talk, dir: dir.to_owned() }))
}
