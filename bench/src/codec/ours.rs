//! This project's codec: a server connection that decodes and a client connection that encodes.
//! Both are kept for the whole run, like a kept connection.

use std::io::IoSlice;
use std::task::Poll;

use anyhow::{Context, Result};
use bytes::{Buf, BytesMut};
use fcgi_proto::{
    BeginRequest, ClientConfig, ClientConnection, Connection, Input, Limits, Params, Role,
    ServerConfig, ServerConnection, server,
};

use super::subject::{Codec, Seen, Sent};
use crate::sample::Request;
use crate::wire;

/// The row's name.
pub(super) const NAME: &str = "fcgi-proto";

/// END_REQUEST for the request with id 1.
const END: &[u8] = &[1, wire::END_REQUEST, 0, wire::ID as u8, 0, 8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];

/// The size of the buffer that this project's adapters lend to their connections.
const LENT: usize = 4096;

/// The connection that decodes and the one that encodes, with the buffer that a thread lends them.
pub(super) struct Ours {
    server: ServerConnection,
    client: ClientConnection,
    spare: Option<BytesMut>,
}

impl Default for Ours {
    fn default() -> Ours {
        let mut limits = Limits::client();
        // Whole bodies are queued at once.
        limits.send_high_water = 4 << 20;
        Ours {
            server: ServerConnection::new(ServerConfig::default()),
            client: ClientConnection::new(ClientConfig { limits }),
            spare: Some(BytesMut::zeroed(LENT)),
        }
    }
}

/// Receives the next bytes of `wire`, as far as the window goes, in the place of a read.
fn receive(
    connection: &mut impl Connection,
    spare: &mut Option<BytesMut>,
    wire: &mut &[u8],
) -> Result<()> {
    if connection.wants_buffer() == Some(LENT) {
        let lent = spare.take().unwrap_or_else(|| BytesMut::zeroed(LENT));
        *spare = connection.lend(lent).err();
    }
    let window = connection.recv_buffer();
    let (now, later) = wire.split_at(window.len().min(wire.len()));
    window[..now.len()].copy_from_slice(now);
    connection.handle_recv(now.len())?;
    *wire = later;
    Ok(())
}

impl Codec for Ours {
    const NAME: &'static str = NAME;

    fn decode<S: Seen>(&mut self, mut wire: &[u8], seen: &mut S) -> Result<()> {
        let server = &mut self.server;
        let mut active = None;
        while !wire.is_empty() {
            receive(server, &mut self.spare, &mut wire)?;
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
            self.spare = server.reclaim().or(self.spare.take());
        }
        let key = active.context("no request came out")?;
        server.request(key).context("the request is gone")?.finish(0)?;
        if let Some(mut answer) = server.poll_transmit() {
            answer.advance(answer.remaining());
        }
        server.poll_event()?;
        Ok(())
    }

    fn encode<S: Sent>(&mut self, request: &Request, sent: &mut S) -> Result<()> {
        let client = &mut self.client;
        let params: Params = request.params.iter().cloned().collect();
        let key = client.begin(BeginRequest { role: Role::Responder, keep_conn: true, params })?;
        let mut handle = client.request(key).context("the request is gone")?;
        handle.write(Input::Stdin, &mut request.body.clone())?;
        handle.finish(Input::Stdin)?;
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
            receive(client, &mut self.spare, &mut end)?;
            while client.poll_event()?.is_some() {}
            self.spare = client.reclaim().or(self.spare.take());
        }
        Ok(())
    }
}
