//! Connections that come, carry one request, and go.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use fcgi_tokio::Address;
use fcgi_tokio::client::Connector;
use tokio::task::JoinSet;
use tokio::time::interval;

use super::{block_on, exchange, placed, request, start};
use crate::Options;
use crate::cpu::Placement;
use crate::sample::Sample;
use crate::table::{Table, number, thousands};
use crate::usage::{Process, own_time};

/// Connections per second in the paced row.
const PACE: u32 = 1_000;
/// The number of callers that open one connection after the other in the unpaced row.
const CALLERS: usize = 16;

/// One row.
#[derive(Default)]
struct Counts {
    connections: usize,
    /// The first failure, and the number of failures.
    error: Option<anyhow::Error>,
    errors: usize,
}

/// Measures and prints.
pub(super) fn run(options: &Options, cpus: Placement) -> Result<()> {
    let seconds = options.seconds * options.rounds as f64;
    println!("churn: a connection for each 26-parameter request, {seconds:.1} s a row");
    println!("{}\n", placed(cpus));
    let mut table = Table::new(&[
        "pace",
        "connections/s",
        "server CPU us each",
        "client CPU us each",
        "server KiB before",
        "after",
        "connections",
        "errors",
    ]);
    let dir = tempfile::tempdir().context("cannot make a temporary folder")?;
    let (server, address) = start(dir.path(), cpus)?;
    let theirs = Process::of(server.pid());
    let time = Duration::from_secs_f64(seconds);
    block_on(async {
        let load = Load { address, sample: Sample::small() };
        let load = Arc::new(load);
        load.paced(Duration::from_millis(200)).await;
        for pace in [Some(PACE), None] {
            let memory = theirs.memory()?;
            let (start, server, client) = (Instant::now(), theirs.time()?, own_time());
            let counts = match pace {
                Some(_) => load.paced(time).await,
                None => load.unpaced(time).await,
            };
            let (wall, client) = (start.elapsed().as_secs_f64(), own_time() - client);
            let n = counts.connections as f64;
            let cells = vec![
                pace.map_or("none".to_owned(), |pace| {
                    format!("{}/s", thousands(Some(pace.into())))
                }),
                thousands(Some(n / wall)),
                number(Some((theirs.time()? - server) * 1e6 / n), 1),
                number(Some(client * 1e6 / n), 1),
                thousands(Some(memory / 1024.0)),
                thousands(Some(theirs.memory()? / 1024.0)),
                thousands(Some(n)),
                number(Some(counts.errors as f64), 0),
            ];
            let note = counts.error.map_or(String::new(), |error| format!("FAILED: {error:#}"));
            table.row(cells, note);
        }
        anyhow::Ok(())
    })?;
    table.print();
    Ok(())
}

/// The settings of every connection.
struct Load {
    address: Address,
    sample: Sample,
}

impl Load {
    /// One connection from its opening to its end.
    async fn connection(&self) -> Result<()> {
        let mut client = Connector::new().connect(&self.address).await?;
        exchange(&mut client, request(&self.sample).keep_conn(false)).await
    }

    /// Opens a connection at each tick, whether or not the earlier ones have ended.
    async fn paced(self: &Arc<Self>, time: Duration) -> Counts {
        let (mut counts, mut tasks) = (Counts::default(), JoinSet::new());
        let mut tick = interval(Duration::from_secs(1) / PACE);
        let start = Instant::now();
        while start.elapsed() < time {
            tick.tick().await;
            let load = Arc::clone(self);
            tasks.spawn(async move { load.connection().await });
            while let Some(ended) = tasks.try_join_next() {
                counts.add(ended.unwrap_or_else(|panic| Err(panic.into())));
            }
        }
        while let Some(ended) = tasks.join_next().await {
            counts.add(ended.unwrap_or_else(|panic| Err(panic.into())));
        }
        counts
    }

    /// Some callers open one connection after the other.
    async fn unpaced(self: &Arc<Self>, time: Duration) -> Counts {
        let (mut all, mut tasks) = (Counts::default(), JoinSet::new());
        for _ in 0..CALLERS {
            let load = Arc::clone(self);
            tasks.spawn(async move {
                let (mut counts, start) = (Counts::default(), Instant::now());
                while start.elapsed() < time {
                    counts.add(load.connection().await);
                }
                counts
            });
        }
        while let Some(ended) = tasks.join_next().await {
            match ended {
                Ok(counts) => all.merge(counts),
                Err(panic) => all.add(Err(panic.into())),
            }
        }
        all
    }
}

impl Counts {
    fn add(&mut self, ended: Result<()>) {
        self.connections += 1;
        if let Err(error) = ended {
            self.errors += 1;
            self.error.get_or_insert(error);
        }
    }

    fn merge(&mut self, other: Counts) {
        self.connections += other.connections;
        self.errors += other.errors;
        self.error = self.error.take().or(other.error);
    }
}
