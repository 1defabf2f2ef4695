//! Parameters: many of them, and long ones.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use fcgi_tokio::client::{Connector, Request};
use fcgi_tokio::{Client, Limits};

use super::{block_on, exchange, start};
use crate::Options;
use crate::cpu::Placement;
use crate::stats::median;
use crate::table::{Table, number, thousands};
use crate::usage::{Process, own_time};

/// How many there are in each row, of 16 bytes each.
const PAIRS: [usize; 4] = [10, 100, 1_000, 10_000];
/// The length of a single one in each row.
const LENGTHS: [usize; 4] = [1 << 10, 10 << 10, 100 << 10, 1 << 20];
/// The most bytes of parameters on one connection.
pub(crate) const BYTES: usize = 4 << 20;

/// One row.
struct Entry {
    name: String,
    units: usize,
    params: Vec<(String, String)>,
    server: Vec<f64>,
    client: Vec<f64>,
    memory: f64,
}

/// Measures and prints.
pub(super) fn run(options: &Options, cpus: Placement) -> Result<()> {
    println!("Parameters of a request, fcgi-tokio at both ends. {}.\n", cpus.words());
    let many = PAIRS.map(|n| {
        let pair = |i| (format!("NAME{i:05}"), "value-x".to_owned());
        Entry::new(thousands(Some(n as f64)), n, (0..n).map(pair).collect())
    });
    let long = LENGTHS.map(|n| {
        let params = vec![("LONG".to_owned(), "x".repeat(n))];
        Entry::new(thousands(Some(n as f64)), n, params)
    });
    for (title, unit, entries) in
        [("parameters of 16 bytes", "parameter", many), ("bytes in one parameter", "byte", long)]
    {
        measure(options, cpus, title, unit, entries.into())?;
    }
    Ok(())
}

impl Entry {
    fn new(name: String, units: usize, params: Vec<(String, String)>) -> Entry {
        Entry { name, units, params, server: Vec::new(), client: Vec::new(), memory: 0.0 }
    }

    fn request(&self) -> Request {
        Request::responder().params(self.params.iter().map(|(name, value)| (name, value)))
    }

    /// Sends the request again and again for this time.
    async fn round(&mut self, client: &mut Client, theirs: Process, seconds: f64) -> Result<()> {
        exchange(client, self.request()).await?;
        let limit = Duration::from_secs_f64(seconds);
        let (start, server, own) = (Instant::now(), theirs.time()?, own_time());
        let mut requests = 0.0;
        while start.elapsed() < limit {
            exchange(client, self.request()).await?;
            requests += 1.0;
        }
        self.client.push((own_time() - own) * 1e6 / requests);
        self.server.push((theirs.time()? - server) * 1e6 / requests);
        Ok(())
    }
}

fn measure(
    options: &Options,
    cpus: Placement,
    title: &str,
    unit: &str,
    mut entries: Vec<Entry>,
) -> Result<()> {
    let dir = tempfile::tempdir().context("cannot make a temporary folder")?;
    let (server, address) = start(dir.path(), cpus)?;
    let theirs = Process::of(server.pid());
    let mut limits = Limits::client();
    limits.params_bytes = BYTES;
    limits.send_high_water = BYTES;
    block_on(async {
        let mut client = Connector::new().limits(limits).connect(&address).await?;
        let before = theirs.memory()?;
        // The smaller ones come first, since the peak is that of the greatest.
        for entry in &mut entries {
            theirs.forget_peak()?;
            exchange(&mut client, entry.request()).await?;
            entry.memory = (theirs.peak()? - before).max(0.0);
        }
        for _ in 0..options.rounds {
            for entry in &mut entries {
                entry.round(&mut client, theirs, options.seconds / 2.0).await?;
            }
        }
        anyhow::Ok(())
    })?;
    println!("**{title}**\n");
    let mut table = Table::new(&[
        "",
        "server µs/request",
        &format!("ns/{unit}"),
        "client µs/request",
        &format!("ns/{unit}"),
        "server's memory KiB",
    ]);
    for entry in &entries {
        let mut cells = vec![entry.name.clone()];
        for micros in [median(&entry.server), median(&entry.client)] {
            let each = micros.map(|micros| micros * 1e3 / entry.units as f64);
            cells.extend([number(micros, 1), number(each, 2)]);
        }
        cells.push(thousands(Some(entry.memory / 1024.0)));
        table.row(cells, "");
    }
    table.print();
    Ok(())
}
