//! This project's codec: a server connection that decodes and a client connection that encodes.
//! Both are kept for the whole run, like a kept connection.

use std::hint::black_box;
use std::io::IoSlice;
use std::task::Poll;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use bytes::{Buf, BytesMut};
use fcgi_proto::{
    BeginRequest, ClientConfig, ClientConnection, Connection, Input, Limits, Params, Role,
    ServerConfig, ServerConnection, recv_buffer, server,
};

use super::subject::{Codec, Measured, Seen, Sent, Subject};
use crate::sample::{Request, Sample};
use crate::wire;

/// The row's name.
pub(super) const NAME: &str = "fcgi-proto";

/// END_REQUEST for the request with id 1.
const END: &[u8] = &[1, wire::END_REQUEST, 0, wire::ID as u8, 0, 8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];

/// The sizes of the buffers that this project's adapters lend to their connections.
const LENT: [usize; 3] = [4096, 16_384, 65_536];

/// The buffers that a thread lends to its connections.
#[derive(Default)]
struct Spares([Option<BytesMut>; 3]);

/// The connection that decodes and the one that encodes, with the buffers that they are lent.
pub(super) struct Ours {
    server: ServerConnection,
    client: ClientConnection,
    spares: Spares,
    /// How much each read of the last request brought.
    reads: Vec<usize>,
}

impl Default for Ours {
    fn default() -> Ours {
        let mut limits = Limits::client();
        // Whole bodies are queued at once.
        limits.send_high_water = 4 << 20;
        Ours {
            server: ServerConnection::new(ServerConfig::default()),
            client: ClientConnection::new(ClientConfig { limits }),
            spares: Spares::default(),
            reads: Vec::new(),
        }
    }
}

impl Spares {
    fn lend(&mut self, connection: &mut impl Connection) {
        let wanted = connection.wants_buffer();
        let Some(at) = LENT.iter().position(|size| Some(*size) == wanted) else { return };
        let spare = self.0[at].take().unwrap_or_else(|| recv_buffer(LENT[at]));
        self.0[at] = connection.lend(spare).err();
    }

    fn reclaim(&mut self, connection: &mut impl Connection) {
        let Some(spare) = connection.reclaim() else { return };
        if let Some(at) = LENT.iter().position(|size| *size == spare.len()) {
            self.0[at] = Some(spare);
        }
    }
}

/// Receives the next bytes of `wire`, as far as the window goes, in the place of a read. Returns
/// how many.
fn receive(
    connection: &mut impl Connection,
    spares: &mut Spares,
    wire: &mut &[u8],
) -> Result<usize> {
    spares.lend(connection);
    let window = connection.recv_buffer();
    let (now, later) = wire.split_at(window.len().min(wire.len()));
    window[..now.len()].copy_from_slice(now);
    connection.handle_recv(now.len())?;
    *wire = later;
    Ok(now.len())
}

impl Codec for Ours {
    const NAME: &'static str = NAME;

    fn decode<S: Seen>(&mut self, mut wire: &[u8], seen: &mut S) -> Result<()> {
        let server = &mut self.server;
        let mut active = None;
        self.reads.clear();
        while !wire.is_empty() {
            self.reads.push(receive(server, &mut self.spares, &mut wire)?);
            while let Some(event) = server.poll_event()? {
                match event {
                    server::Event::Request { key, params, .. } => {
                        for (name, value) in &params {
                            seen.param(name, value);
                        }
                        active = Some(key);
                    }
                    server::Event::Readable { key, .. } => {
                        let mut request = server.request(key).context("the request is gone")?;
                        while let Poll::Ready(Some(chunk)) = request.read(Input::Stdin, usize::MAX)
                        {
                            seen.body(&chunk);
                        }
                    }
                    _ => {}
                }
            }
            self.spares.reclaim(server);
        }
        let key = active.context("no request came out")?;
        server.request(key).context("the request is gone")?.finish(0)?;
        if let Some(mut answer) = server.poll_transmit() {
            answer.advance(answer.remaining());
        }
        server.poll_event()?;
        self.spares.reclaim(server);
        Ok(())
    }

    fn encode<S: Sent>(&mut self, request: &Request, sent: &mut S) -> Result<()> {
        let client = &mut self.client;
        let params: Params = request.params.iter().map(|(name, value)| (name, value)).collect();
        let begin = BeginRequest { role: Role::Responder, keep_conn: true, params };
        if request.body.is_empty() {
            client.begin_without_body(begin)?;
        } else {
            let key = client.begin(begin)?;
            let mut handle = client.request(key).context("the request is gone")?;
            handle.write(Input::Stdin, &mut request.body.clone())?;
            handle.finish(Input::Stdin)?;
        }
        while let Some(mut queued) = client.poll_transmit() {
            let mut slices = [IoSlice::new(&[]); 64];
            let n = queued.chunks_vectored(&mut slices);
            let mut all = 0;
            for slice in &slices[..n] {
                sent.bytes(slice);
                all += slice.len();
            }
            queued.advance(all);
        }
        // The request ends, so that the connection can carry the next one.
        let mut end = END;
        while !end.is_empty() {
            receive(client, &mut self.spares, &mut end)?;
            while client.poll_event()?.is_some() {}
            self.spares.reclaim(client);
        }
        Ok(())
    }
}

/// The row's name.
pub(super) const READS: &str = "reads alone";

/// The copies that stand for the reads of [`Ours`], into buffers of the same sizes, and nothing
/// else.
pub(super) struct Reads {
    reads: Vec<usize>,
    buffers: [BytesMut; 3],
}

impl Default for Reads {
    fn default() -> Reads {
        Reads { reads: Vec::new(), buffers: LENT.map(recv_buffer) }
    }
}

impl Subject for Reads {
    fn name(&self) -> &'static str {
        READS
    }

    fn check_decode(&mut self, sample: &Sample) -> Result<()> {
        let mut ours = Measured(Ours::default());
        ours.check_decode(sample)?;
        self.reads = ours.0.reads;
        Ok(())
    }

    fn check_encode(&mut self, _: &Sample) -> Result<bool> {
        Ok(false)
    }

    fn time_decode(&mut self, sample: &Sample, times: u64) -> Result<Duration> {
        if self.reads.is_empty() {
            self.check_decode(sample)?;
        }
        let start = Instant::now();
        for _ in 0..times {
            let mut wire = black_box(&sample.wire[..]);
            for read in &self.reads {
                let (now, later) = wire.split_at(*read);
                let at = LENT.iter().position(|size| read <= size);
                let buffer = at.and_then(|at| self.buffers.get_mut(at));
                let buffer = buffer.context("a read larger than every buffer")?;
                buffer[..*read].copy_from_slice(now);
                black_box(&mut buffer[..]);
                wire = later;
            }
        }
        Ok(start.elapsed())
    }

    fn time_encode(&mut self, _: &Sample, _: u64) -> Result<Duration> {
        anyhow::bail!("it only reads")
    }
}
