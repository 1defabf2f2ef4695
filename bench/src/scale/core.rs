//! The same numbers of concurrent requests between two in-memory state machines, on one thread, to
//! separate the core's share of the cost from the driver's and the kernel's.

use std::task::Poll;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use bytes::{Buf as _, Bytes};
use fcgi_proto::{
    BeginRequest, ClientConfig, ClientConnection, Connection, Input, Limits, Output, Params,
    RequestKey, Role, ServerConfig, ServerConnection, client, server,
};

use super::{MOST, at_once};
use crate::Options;
use crate::cpu::{self, Placement};
use crate::sample::Sample;
use crate::serve::STDOUT;
use crate::stats::{median, median_ratio};
use crate::table::{Table, number, thousands};
use crate::usage::own_time;

/// How much is queued before it is moved, like a socket's buffer.
const FLUSH: usize = 64 * 1024;

/// Both ends of a connection.
struct Ends {
    client: ClientConnection,
    server: ServerConnection,
    /// Requests whose handlers run.
    begun: Vec<RequestKey>,
    finished: usize,
    /// Bytes of STDOUT.
    received: usize,
}

/// Measures and prints.
pub(super) fn run(options: &Options, cpus: Placement) -> Result<()> {
    cpu::pin(cpus.load)?;
    let sample = Sample::small();
    let params: Params = sample.request.params.iter().cloned().collect();
    let begin = BeginRequest { role: Role::Responder, keep_conn: true, params };
    let mut ends: Vec<(usize, Ends, Vec<f64>)> =
        at_once(options).into_iter().map(|n| (n, Ends::new(), Vec::new())).collect();
    for round in 1..=options.rounds {
        for (n, ends, cost) in &mut ends {
            eprint!("\rround {round}/{}: {n:<6}", options.rounds);
            ends.batch(&begin, *n)?;
            let limit = Duration::from_secs_f64(options.seconds / 4.0);
            let (start, used) = (Instant::now(), own_time());
            let mut requests = 0;
            while start.elapsed() < limit {
                ends.batch(&begin, *n)?;
                requests += *n;
            }
            cost.push((own_time() - used) * 1e6 / requests as f64);
        }
    }
    eprint!("\r{:30}\r", "");
    println!(
        "core: both state machines in memory, the same requests; medians of {} rounds of {} s each",
        options.rounds,
        options.seconds / 4.0
    );
    println!("on CPU {}\n", cpus.load);
    let mut table = Table::new(&["at once", "CPU us/request", "/ first row"]);
    let first = ends.first().map(|(_, _, cost)| cost.clone()).unwrap_or_default();
    for (n, _, cost) in &ends {
        let ratio = number(median_ratio(cost, &first), 2);
        table.row(vec![thousands(Some(*n as f64)), number(median(cost), 2), ratio], "");
    }
    table.print();
    Ok(())
}

impl Ends {
    fn new() -> Ends {
        let (mut ours, mut theirs) = (Limits::client(), Limits::server());
        (ours.requests, theirs.requests) = (MOST, MOST);
        Ends {
            client: ClientConnection::new(ClientConfig { limits: ours }),
            server: ServerConnection::new(ServerConfig { limits: theirs, ..Default::default() }),
            begun: Vec::new(),
            finished: 0,
            received: 0,
        }
    }

    /// Begins `n` requests, then answers them all.
    fn batch(&mut self, begin: &BeginRequest, n: usize) -> Result<()> {
        for _ in 0..n {
            let key = self.client.begin(begin)?;
            self.client.request(key).context("it has just begun")?.finish(Input::Stdin)?;
            if self.client.poll_transmit().is_some_and(|queued| queued.remaining() >= FLUSH) {
                self.carry_requests()?;
            }
        }
        self.carry_requests()?;
        ensure!(self.begun.len() == n, "{} of {n} requests have begun", self.begun.len());
        (self.finished, self.received) = (0, 0);
        for key in std::mem::take(&mut self.begun) {
            let mut request = self.server.request(key).context("it has begun")?;
            let taken = request.write(Output::Stdout, &mut Bytes::from_static(STDOUT))?;
            ensure!(taken == STDOUT.len(), "there was room for {taken} bytes");
            request.finish(0)?;
            if self.server.poll_transmit().is_some_and(|queued| queued.remaining() >= FLUSH) {
                self.carry_answers()?;
            }
        }
        self.carry_answers()?;
        let (finished, received) = (self.finished, self.received);
        ensure!(finished == n, "{finished} of {n} requests have finished");
        ensure!(received == n * STDOUT.len(), "{received} bytes came of {n} answers");
        Ok(())
    }

    fn carry_requests(&mut self) -> Result<()> {
        while pass(&mut self.client, &mut self.server)? {
            while let Some(event) = self.server.poll_event()? {
                if let server::Event::Request { key, .. } = event {
                    self.begun.push(key);
                }
            }
        }
        Ok(())
    }

    fn carry_answers(&mut self) -> Result<()> {
        while pass(&mut self.server, &mut self.client)? {
            while let Some(event) = self.client.poll_event()? {
                match event {
                    client::Event::Readable { key, .. } => self.read(key),
                    client::Event::Finished { key, .. } => {
                        self.read(key);
                        self.finished += 1;
                    }
                    _ => {}
                }
            }
        }
        Ok(())
    }

    /// Reads what has come of an answer. A read of the socket may have cut it in two.
    fn read(&mut self, key: RequestKey) {
        while let Some(mut request) = self.client.request(key) {
            let Poll::Ready(Some(bytes)) = request.read(Output::Stdout, usize::MAX) else { return };
            self.received += bytes.len();
        }
    }
}

/// Moves what fits in one read; false if there was nothing.
fn pass(from: &mut impl Connection, to: &mut impl Connection) -> Result<bool> {
    let Some(mut queued) = from.poll_transmit() else { return Ok(false) };
    let chunk = queued.chunk();
    let window = to.recv_buffer();
    let n = window.len().min(chunk.len());
    ensure!(n > 0, "the receiver is paused");
    window[..n].copy_from_slice(&chunk[..n]);
    to.handle_recv(n)?;
    queued.advance(n);
    Ok(true)
}
