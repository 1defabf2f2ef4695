//! Kept connections that do nothing.

use anyhow::{Context as _, Result};
use fcgi_tokio::client::Connector;

use super::{MOST, block_on, exchange, placed, request, start};
use crate::cpu::Placement;
use crate::sample::Sample;
use crate::table::{Table, number, thousands};
use crate::usage::{Process, allow_descriptors};

/// The numbers of connections; each row includes the connections of the row before.
const CONNECTIONS: [usize; 3] = [100, 1_000, MOST];
/// Descriptors in addition to those of the connections.
const SPARE: usize = 100;

/// Measures and prints.
pub(super) fn run(cpus: Placement) -> Result<()> {
    println!("idle: memory of kept connections, each after one 26-parameter request");
    println!("{}\n", placed(cpus));
    let mut table =
        Table::new(&["connections", "server bytes each", "client bytes each", "errors"]);
    let limit = allow_descriptors((MOST + SPARE) as u64);
    let most = if limit.is_ok() { MOST } else { CONNECTIONS[0] };
    let dir = tempfile::tempdir().context("cannot make a temporary folder")?;
    let (server, address) = start(dir.path(), cpus)?;
    let (theirs, ours) = (Process::of(server.pid()), Process::own());
    let sample = Sample::small();
    block_on(async {
        let connector = Connector::new();
        // Memory that only the first connection needs is not a connection's cost.
        exchange(&mut connector.connect(&address).await?, request(&sample)).await?;
        let before = (theirs.memory()?, ours.memory()?);
        let mut clients = Vec::new();
        for n in CONNECTIONS {
            if n > most {
                let error =
                    limit.as_ref().err().map_or(String::new(), |error| format!("{error:#}"));
                table.row(vec![thousands(Some(n as f64))], format!("not run: {error}"));
                continue;
            }
            clients.reserve_exact(n - clients.len());
            while clients.len() < n {
                let mut client = connector.connect(&address).await?;
                exchange(&mut client, request(&sample)).await?;
                clients.push(client);
            }
            let after = (theirs.memory()?, ours.memory()?);
            let mut errors = 0;
            for client in &mut clients {
                errors += usize::from(exchange(client, request(&sample)).await.is_err());
            }
            let each = |before: f64, after: f64| thousands(Some((after - before) / n as f64));
            let cells = vec![
                thousands(Some(n as f64)),
                each(before.0, after.0),
                each(before.1, after.1),
                number(Some(errors as f64), 0),
            ];
            table.row(cells, "");
        }
        anyhow::Ok(())
    })?;
    table.print();
    println!("memory is resident memory; errors: connections that did not answer a second request");
    println!();
    Ok(())
}
