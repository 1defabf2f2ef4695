//! Concurrent requests on one connection: none is answered before all have begun.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use fcgi_tokio::client::Connector;
use fcgi_tokio::{Address, Limits, Pool};

use super::{AT_ONCE, at_once, block_on, placed, request, start};
use crate::Options;
use crate::cpu::Placement;
use crate::sample::Sample;
use crate::serve::STDOUT;
use crate::stats::{median, median_ratio};
use crate::table::{Table, number, thousands};
use crate::usage::{Process, own_time};

/// The cost of one number of concurrent requests.
struct Entry {
    at_once: usize,
    /// In all measured rounds.
    requests: usize,
    pool: Pool,
    /// The peak memory per request, in bytes: the server's and the client's.
    memory: (f64, f64),
    /// Microseconds of processor time per request, by round: both, the server's, the client's.
    both: Vec<f64>,
    server: Vec<f64>,
    client: Vec<f64>,
}

/// Measures and prints.
pub(super) fn run(options: &Options, cpus: Placement) -> Result<()> {
    let dir = tempfile::tempdir().context("cannot make a temporary folder")?;
    let (server, address) = start(dir.path(), cpus)?;
    let (theirs, ours) = (Process::of(server.pid()), Process::own());
    let sample = Arc::new(Sample::small());
    let mut entries = Vec::new();
    block_on(async {
        batch(&pool(&address, 2)?, &sample, 2).await?;
        let before = (theirs.memory()?, ours.memory()?);
        for n in at_once(options) {
            let pool = pool(&address, n)?;
            theirs.forget_peak()?;
            ours.forget_peak()?;
            batch(&pool, &sample, n).await?;
            let most = (theirs.peak()?, ours.peak()?);
            let each = |before: f64, most: f64| (most - before) / n as f64;
            let memory = (each(before.0, most.0), each(before.1, most.1));
            let (both, server, client) = (Vec::new(), Vec::new(), Vec::new());
            entries.push(Entry { at_once: n, requests: 0, pool, memory, both, server, client });
        }
        for round in 1..=options.rounds {
            for entry in &mut entries {
                eprint!("\rround {round}/{}: {:<6}", options.rounds, entry.at_once);
                entry.round(&sample, theirs, options.seconds).await?;
            }
        }
        eprint!("\r{:30}\r", "");
        anyhow::Ok(())
    })?;
    print(options, cpus, &entries);
    Ok(())
}

/// One connection for this many concurrent requests, never closed.
fn pool(address: &Address, requests: usize) -> anyhow::Result<Pool> {
    let mut limits = Limits::client();
    limits.requests = requests;
    let pool = Pool::builder(address)
        .connector(Connector::new().limits(limits))
        .max_connections(1)
        .multiplex(requests)
        .max_waiting(requests)
        .idle_timeout(None)
        .max_age(None)
        .build()?;
    Ok(pool)
}

/// Sends `n` concurrent requests and checks their answers.
async fn batch(pool: &Pool, sample: &Arc<Sample>, n: usize) -> Result<()> {
    let start = |_| {
        let (pool, sample) = (pool.clone(), Arc::clone(sample));
        tokio::spawn(async move {
            let request = request(&sample).param(AT_ONCE, n.to_string());
            let answer = pool.send(request).await?.collect(STDOUT.len()).await?;
            ensure!(answer.app_status == 0 && answer.stdout == STDOUT, "a wrong answer");
            Ok(())
        })
    };
    let tasks: Vec<_> = (0..n).map(start).collect();
    for task in tasks {
        task.await??;
    }
    ensure!(pool.stats().connections == 1, "more than one connection");
    Ok(())
}

impl Entry {
    /// One round: a warm-up, then batch after batch for the measured time.
    async fn round(&mut self, sample: &Arc<Sample>, theirs: Process, seconds: f64) -> Result<()> {
        batch(&self.pool, sample, self.at_once).await?;
        let limit = Duration::from_secs_f64(seconds);
        let (start, server, client) = (Instant::now(), theirs.time()?, own_time());
        let mut batches = 0;
        while start.elapsed() < limit {
            batch(&self.pool, sample, self.at_once).await?;
            batches += 1;
        }
        let requests = batches * self.at_once;
        self.requests += requests;
        let each = 1e6 / requests as f64;
        let client = (own_time() - client) * each;
        let server = (theirs.time()? - server) * each;
        self.client.push(client);
        self.server.push(server);
        self.both.push(client + server);
        Ok(())
    }
}

/// Prints what was measured.
fn print(options: &Options, cpus: Placement, entries: &[Entry]) {
    println!(
        "multiplexed: medians of {} rounds of {} s each, interleaved; ratios are medians of per-round ratios",
        options.rounds, options.seconds
    );
    println!("26-parameter requests on one connection, none answered before all have begun");
    println!("{}\n", placed(cpus));
    let mut table = Table::new(&[
        "at once",
        "CPU us/request",
        "/ first row",
        "server",
        "/ first row",
        "client",
        "/ first row",
        "server bytes each",
        "client bytes each",
        "requests",
    ]);
    let Some(first) = entries.first() else { return };
    for entry in entries {
        let cost = |of: fn(&Entry) -> &Vec<f64>| {
            [number(median(of(entry)), 2), number(median_ratio(of(entry), of(first)), 2)]
        };
        let mut cells = vec![thousands(Some(entry.at_once as f64))];
        cells.extend(cost(|entry| &entry.both));
        cells.extend(cost(|entry| &entry.server));
        cells.extend(cost(|entry| &entry.client));
        let whole = [entry.memory.0, entry.memory.1, entry.requests as f64];
        cells.extend(whole.map(|number| thousands(Some(number))));
        table.row(cells, "");
    }
    table.print();
    println!("bytes: the growth of resident memory at its peak; of few requests, mostly buffers\n");
}
