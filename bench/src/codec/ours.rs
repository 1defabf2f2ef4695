//! This project's codec: a server connection that decodes and a client connection that encodes.
//! Both are kept for the whole run, like a kept connection.

use std::io::IoSlice;
use std::task::Poll;

use anyhow::{Context, Result};
use bytes::Buf;
use fcgi_proto::{
    BeginRequest, ClientConfig, ClientConnection, Connection, Input, Limits, Params, Role,
    ServerConfig, ServerConnection, server,
};

use super::subject::{Codec, Seen, Sent};
use crate::sample::Request;

/// The row's name.
pub(super) const NAME: &str = "fcgi-proto";

/// The connection that decodes.
pub(super) struct Ours {
    server: ServerConnection,
}

impl Default for Ours {
    fn default() -> Ours {
        Ours { server: ServerConnection::new(ServerConfig::default()) }
    }
}

impl Codec for Ours {
    const NAME: &'static str = NAME;

    fn decode<S: Seen>(&mut self, mut wire: &[u8], seen: &mut S) -> Result<()> {
        let server = &mut self.server;
        let mut active = None;
        while !wire.is_empty() {
            let window = server.recv_buffer();
            let n = window.len().min(wire.len());
            window[..n].copy_from_slice(&wire[..n]);
            server.handle_recv(n)?;
            wire = &wire[n..];
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
        let mut limits = Limits::client();
        limits.send_high_water = 4 << 20;
        let mut client = ClientConnection::new(ClientConfig { limits });
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
        Ok(())
    }
}
