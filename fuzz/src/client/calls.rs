//! Random calls of a web server.

use std::collections::{BTreeMap, BTreeSet};
use std::task::Poll;

use arbitrary::{Result, Unstructured};
use bytes::Bytes;
use fcgi_proto::{
    BeginRequest, ClientConfig, ClientConnection, Connection, Input, Output, Params, RequestKey,
    UsageError, client::Event,
};

use super::{OUTPUTS, ROLES};
use crate::{
    calls::{self, Caller, quiet},
    checked::Checked,
    heap::Owner,
    input::{Cuts, filler},
};

const INPUTS: [Input; 2] = [Input::Stdin, Input::Data];

/// A request in [`run`].
#[derive(Default)]
struct Wild {
    parked: BTreeSet<usize>,
    blocked: bool,
    aborted: bool,
    finished: bool,
}

#[derive(Default)]
struct WebServer {
    wild: BTreeMap<RequestKey, Wild>,
    keys: Vec<RequestKey>,
}

/// Runs a conversation once.
pub(super) fn run(
    config: ClientConfig,
    wire: &[u8],
    cuts: &mut Cuts,
    u: &mut Unstructured<'_>,
) -> Result<()> {
    let mut conn = Checked::new(Owner::Client, config.limits, || ClientConnection::new(config));
    let mut caller = WebServer::default();
    caller.begin(&mut conn, 0);
    calls::run(&mut caller, &mut conn, wire, cuts, u)?;
    conn.call(0, |conn| conn.handle_eof());
    caller.settle(&mut conn);
    conn.misuse();
    conn.transmit(usize::MAX);
    conn.transmit(0);
    if conn.get().error().is_none() {
        assert!(conn.get().is_closed() && conn.get().active_requests() == 0);
        assert!(caller.wild.values().all(|wild| wild.finished), "a request without its end");
    }
    Ok(())
}

impl WebServer {
    fn begin(&mut self, conn: &mut Checked<ClientConnection>, op: u8) {
        conn.requests += 1;
        let len = if op >> 4 == 15 { 130_000 } else { usize::from(op) };
        let request = BeginRequest {
            role: ROLES[usize::from(op >> 4) % 4],
            keep_conn: op >> 4 != 14,
            params: Params::from_iter([("", vec![b'v'; len]), ("N", Vec::new())]),
        };
        let begun = conn.call(len + 200, |conn| match op % 2 {
            0 => conn.begin(request),
            _ => conn.begin_without_body(request),
        });
        if let Ok(key) = begun {
            assert!(!self.keys.contains(&key), "a key used twice");
            self.keys.push(key);
            self.wild.insert(key, Wild::default());
        }
    }

    fn finish(&mut self, conn: &mut Checked<ClientConnection>, key: RequestKey, input: Input) {
        let done = conn.call(8, |conn| conn.request(key).map(|mut r| r.finish(input)));
        if done == Some(Ok(())) {
            // Nothing more to write, or another stream, which was not refused yet.
            self.wild.get_mut(&key).expect("known").blocked = false;
        }
    }

    fn abort(&mut self, conn: &mut Checked<ClientConnection>, key: RequestKey) {
        if conn.call(8, |conn| conn.request(key).map(|r| r.abort())).is_some() {
            let wild = self.wild.get_mut(&key).expect("known");
            wild.aborted = true;
            wild.parked.clear();
        }
    }
}

impl Caller for WebServer {
    type Conn = ClientConnection;

    fn keys(&self) -> &[RequestKey] {
        &self.keys
    }

    fn poll(&mut self, conn: &mut Checked<ClientConnection>) -> bool {
        let Ok(event) = conn.poll() else { return false };
        match event {
            None => return false,
            Some(Event::Readable { key, output }) => {
                let wild = self.wild.get_mut(&key).expect("Readable of a known request");
                assert!(!wild.finished, "Readable after the end");
                wild.parked.remove(&usize::from(output == Output::Stderr));
            }
            Some(Event::Writable { key }) => {
                let wild = self.wild.get_mut(&key).expect("Writable of a known request");
                assert!(!wild.finished && !wild.aborted, "Writable after the end");
                wild.blocked = false;
            }
            Some(Event::Finished { key, .. }) => {
                let wild = self.wild.get_mut(&key).expect("Finished of a known request");
                assert!(!wild.finished, "finished twice");
                wild.finished = true;
                wild.parked.clear();
            }
            Some(Event::Values(_) | Event::UnknownType(_)) => {}
        }
        true
    }

    fn read(
        &mut self,
        conn: &mut Checked<ClientConnection>,
        key: RequestKey,
        stream: usize,
        max: usize,
    ) -> bool {
        let read = conn.call(0, |conn| conn.request(key).map(|mut r| r.read(OUTPUTS[stream], max)));
        let wild = self.wild.get_mut(&key).expect("known");
        match read {
            None => {
                let lost = conn.get().error().is_some() || conn.get().active_requests() == 0;
                assert!(wild.finished || wild.aborted || lost, "a request is gone");
            }
            Some(Poll::Pending) => {
                assert!(!wild.finished && !wild.aborted, "an ended request is pending");
                wild.parked.insert(stream);
            }
            Some(Poll::Ready(Some(bytes))) => {
                assert!(bytes.len() <= max && (max == 0 || !bytes.is_empty()));
                assert!(!wild.aborted, "output of an aborted request");
                assert!(!wild.parked.contains(&stream), "no Readable after Pending");
                return true;
            }
            Some(Poll::Ready(None)) => {}
        }
        false
    }

    fn write(
        &mut self,
        conn: &mut Checked<ClientConnection>,
        key: RequestKey,
        stream: usize,
        len: usize,
    ) {
        let input = INPUTS[stream];
        let mut bytes = filler(len);
        let taken =
            conn.call(len, |conn| conn.request(key).map(|mut r| r.write(input, &mut bytes)));
        let wild = self.wild.get_mut(&key).expect("known");
        match taken {
            Some(Ok(taken)) => {
                assert!(!wild.finished && !wild.aborted, "input of an ended request");
                assert_eq!(taken, len - bytes.len());
                wild.blocked |= taken < len;
            }
            _ => assert_eq!(bytes.len(), len, "a write that failed took bytes"),
        }
    }

    fn call(
        &mut self,
        conn: &mut Checked<ClientConnection>,
        op: u8,
        key: Option<RequestKey>,
        u: &mut Unstructured<'_>,
    ) -> Result<()> {
        match (op % 16, op >> 4, key) {
            (7, ..) => self.begin(conn, op),
            (12, _, Some(key)) => {
                self.finish(conn, key, INPUTS[usize::from(u.arbitrary::<bool>()?)])
            }
            (13, _, Some(key)) => self.abort(conn, key),
            (14, 0, _) => conn.call(0, |conn| conn.handle_eof()),
            (14, 1..=4, _) => drop(conn.call(128, ClientConnection::query_values)),
            _ => {}
        }
        Ok(())
    }

    fn settle(&mut self, conn: &mut Checked<ClientConnection>) {
        loop {
            quiet(self, conn);
            let over = conn.is_over();
            for key in self.keys.clone() {
                for stream in 0..2 {
                    while self.read(conn, key, stream, usize::MAX) {}
                }
                let wild = &self.wild[&key];
                let ended = wild.finished || wild.aborted || over;
                // A request that was aborted under `FullRequest::Abort` takes no more input.
                let refused = conn.call(0, |conn| {
                    conn.request(key).is_none_or(|mut request| {
                        let none = request.write(Input::Stdin, &mut Bytes::new());
                        none == Err(UsageError::RequestEnded)
                    })
                });
                assert!(!wild.blocked || ended || refused, "no Writable, and nothing is queued");
            }
            if !self.poll(conn) {
                return;
            }
        }
    }
}
