//! Busy connections: what a request costs with more and more of them.

use std::path::Path;
use std::rc::Rc;

use anyhow::{Context as _, Result, anyhow};

use super::MOST;
use crate::Options;
use crate::candidates::{self, ADAPTERS};
use crate::compare::{Column, Comparison, Row, Subject};
use crate::cpu::{self, Placement};
use crate::load::{Answers, Shape, Talk, first_fastcgi};
use crate::process::Server;
use crate::sample::Sample;
use crate::server::Driven;
use crate::usage::allow_descriptors;

/// The number of connections in each row.
const CONNECTIONS: [usize; 5] = [1, 10, 100, 1_000, MOST];
/// The row that the others are compared with. Here there is something to read at each wake-up.
const BASE: &str = "100";

/// Measures and prints.
pub(super) fn run(options: &Options, cpus: Placement) -> Result<()> {
    println!("Kept connections, all of them busy with `hello`. {}.\n", cpus.words());
    cpu::pin(cpus.load)?;
    let limit = allow_descriptors((MOST + 100) as u64);
    let dir = tempfile::tempdir().context("cannot make a temporary folder")?;
    let sample = Sample::small();
    for adapter in ADAPTERS {
        let socket = dir.path().join(format!("{adapter}.sock"));
        let running = candidates::example(options, adapter, "hello", &socket)
            .and_then(|command| Server::start(command, &socket, cpus))
            .and_then(|server| {
                let answers = first_fastcgi(&socket, &sample.wire)?;
                Ok((Rc::new(server), answers))
            });
        let row = |n: usize| {
            let subject = match (&running, &limit) {
                (Err(error), _) => Err(anyhow!("{error:#}")),
                (_, Err(error)) if n == MOST => Err(anyhow!("{error:#}")),
                (Ok(running), _) => Ok(subject(running, n, &sample, dir.path())),
            };
            Row::new(n.to_string(), subject)
        };
        let all = Options { only: Vec::new(), ..options.clone() };
        let title = format!("busy connections, fcgi-{adapter}");
        let comparison = Comparison::run(&all, title, BASE, CONNECTIONS.map(row).into());
        comparison.print(&[Column::RATE, Column::CPU, Column::P99]);
    }
    Ok(())
}

fn subject(
    (server, answers): &(Rc<Server>, Answers),
    n: usize,
    sample: &Sample,
    dir: &Path,
) -> Box<dyn Subject> {
    let talk = Talk { requests: vec![sample.wire.clone()], answers: answers.clone() };
    let server = Rc::clone(server);
    Box::new(Driven { server, shape: Shape::Kept(n), talk, dir: dir.to_owned() })
}
