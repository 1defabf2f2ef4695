//! Thousands of quiet connections next to a busy one.

use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::rc::Rc;

use anyhow::{Context as _, Result};

use crate::Options;
use crate::candidates::{self, ADAPTERS};
use crate::compare::{Column, Comparison, Round, Row, Subject};
use crate::cpu::{self, Placement};
use crate::load::{PATIENCE, Shape, Talk, first_fastcgi};
use crate::process::Server;
use crate::sample::Sample;
use crate::server::Driven;
use crate::usage::allow_descriptors;

/// The number of quiet connections. Each had one request.
const QUIET: usize = 5_000;

/// Measures and prints.
pub(super) fn run(options: &Options, cpus: Placement) -> Result<()> {
    println!(
        "One busy connection, alone and beside {QUIET} that are kept and quiet. {}.\n",
        cpus.words()
    );
    cpu::pin(cpus.load)?;
    let limit = allow_descriptors((QUIET + 100) as u64);
    let dir = tempfile::tempdir().context("cannot make a temporary folder")?;
    for adapter in ADAPTERS {
        let row = |name: &str, quiet: usize| {
            let limit = limit.as_ref().map(drop).map_err(|error| anyhow::anyhow!("{error:#}"));
            let subject = limit.and_then(|()| {
                let socket = dir.path().join(format!("{adapter}-{quiet}.sock"));
                let command = candidates::example(options, adapter, "hello", &socket)?;
                let server = Server::start(command, &socket, cpus)?;
                Ok(Box::new(Beside::new(server, quiet, dir.path())?) as Box<dyn Subject>)
            });
            Row::new(name, subject)
        };
        let rows = vec![row("alone", 0), row("beside quiet ones", QUIET)];
        let all = Options { only: Vec::new(), ..options.clone() };
        let title = format!("a busy connection, fcgi-{adapter}");
        let comparison = Comparison::run(&all, title, "alone", rows);
        comparison.print(&[Column::RATE, Column::CPU, Column::P99]);
    }
    Ok(())
}

/// A server with its quiet connections.
struct Beside {
    driven: Driven,
    _quiet: Vec<UnixStream>,
}

impl Beside {
    fn new(server: Server, quiet: usize, dir: &Path) -> Result<Beside> {
        let sample = Sample::small();
        let answers = first_fastcgi(&server.socket, &sample.wire)?;
        let open = |_| {
            let mut stream = UnixStream::connect(&server.socket)?;
            stream.set_read_timeout(Some(PATIENCE))?;
            stream.write_all(&sample.wire)?;
            // The answer is one write, and small enough for one read.
            let n = stream.read(&mut [0; 1024])?;
            anyhow::ensure!(n > 0, "the server closed a connection");
            Ok(stream)
        };
        let quiet = (0..quiet).map(open).collect::<Result<_>>().context("a quiet connection")?;
        let talk = Talk { requests: vec![sample.wire.clone()], answers };
        let (server, dir) = (Rc::new(server), dir.to_owned());
        Ok(Beside { driven: Driven { server, shape: Shape::Kept(1), talk, dir }, _quiet: quiet })
    }
}

impl Subject for Beside {
    fn round(&mut self, seconds: f64) -> Result<Round> {
        self.driven.round(seconds)
    }
}
