//! Random calls of a web server in between, stale keys and end of file.

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
    checked::Checked,
    heap::Owner,
    input::{Cuts, filler},
};

/// A request in [`run`].
#[derive(Default)]
struct Wild {
    parked: BTreeSet<usize>,
    blocked: bool,
    aborted: bool,
    finished: bool,
}

struct Chaos {
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
    let mut state = Chaos { wild: BTreeMap::new(), keys: Vec::new() };
    let mut at = 0;
    state.begin(&mut conn, 0);
    while !u.is_empty() {
        let op: u8 = u.arbitrary()?;
        let key = (!state.keys.is_empty()).then(|| {
            let at = usize::from(op >> 4) % state.keys.len();
            state.keys[state.keys.len() - 1 - at]
        });
        match (op % 16, key) {
            (0..=2, _) => {
                let end = (at + cuts.size()).min(wire.len());
                at += conn.feed(&wire[at..end]);
            }
            (3 | 4, _) => {
                for _ in 0..=op >> 4 {
                    state.poll(&mut conn);
                }
            }
            (5, _) => drop(conn.transmit(usize::from(op >> 4) * 13)),
            (6, _) => drop(conn.transmit(usize::MAX)),
            (7, _) => state.begin(&mut conn, op),
            (8 | 9, Some(key)) => {
                let max = *u.choose(&[0, 1, 10, 5000, usize::MAX])?;
                let _ = state.read(&mut conn, key, usize::from(op % 2), max);
            }
            (10 | 11, Some(key)) => {
                let len = *u.choose(&[0, 1, 100, 4096, 4097, 70_000])?;
                let input = if op & 1 == 0 { Input::Stdin } else { Input::Data };
                state.write(&mut conn, key, input, len);
            }
            (12, Some(key)) => {
                let input = if u.arbitrary()? { Input::Stdin } else { Input::Data };
                let done = conn.call(8, |conn| conn.request(key).map(|mut r| r.finish(input)));
                if done == Some(Ok(())) {
                    // Nothing more to write, or another stream, which was not refused yet.
                    state.wild.get_mut(&key).expect("known").blocked = false;
                }
            }
            (13, Some(key)) => state.abort(&mut conn, key),
            (14, _) => match op >> 4 {
                0 => conn.call(0, |conn| conn.handle_eof()),
                1..=4 => drop(conn.call(128, ClientConnection::query_values)),
                _ => {}
            },
            (15, _) => conn.misuse(),
            _ => {}
        }
    }
    loop {
        state.settle(&mut conn);
        let n = conn.feed(&wire[at..(at + 3000).min(wire.len())]);
        at += n;
        if n == 0 {
            break;
        }
    }
    assert!(at == wire.len() || conn.is_over() || !conn.get().wants_read());
    conn.call(0, |conn| conn.handle_eof());
    state.settle(&mut conn);
    conn.misuse();
    conn.transmit(usize::MAX);
    conn.transmit(0);
    if conn.get().error().is_none() {
        assert!(conn.get().is_closed() && conn.get().active_requests() == 0);
        assert!(state.wild.values().all(|wild| wild.finished), "a request without its end");
    }
    Ok(())
}

impl Chaos {
    fn begin(&mut self, conn: &mut Checked<ClientConnection>, op: u8) {
        conn.requests += 1;
        let len = if op >> 4 == 15 { 130_000 } else { usize::from(op) };
        let request = BeginRequest {
            role: ROLES[usize::from(op >> 4) % 4],
            keep_conn: op >> 4 != 14,
            params: Params::from_iter([("", vec![b'v'; len]), ("N", Vec::new())]),
        };
        if let Ok(key) = conn.call(len + 200, |conn| conn.begin(request)) {
            assert!(!self.keys.contains(&key), "a key used twice");
            self.keys.push(key);
            self.wild.insert(key, Wild::default());
        }
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

    /// Says whether bytes came.
    fn read(
        &mut self,
        conn: &mut Checked<ClientConnection>,
        key: RequestKey,
        i: usize,
        max: usize,
    ) -> bool {
        let read = conn.call(0, |conn| conn.request(key).map(|mut r| r.read(OUTPUTS[i], max)));
        let wild = self.wild.get_mut(&key).expect("known");
        match read {
            None => {
                let lost = conn.get().error().is_some() || conn.get().active_requests() == 0;
                assert!(wild.finished || wild.aborted || lost, "a request is gone");
            }
            Some(Poll::Pending) => {
                assert!(!wild.finished && !wild.aborted, "an ended request is pending");
                wild.parked.insert(i);
            }
            Some(Poll::Ready(Some(bytes))) => {
                assert!(bytes.len() <= max && (max == 0 || !bytes.is_empty()));
                assert!(!wild.aborted, "output of an aborted request");
                assert!(!wild.parked.contains(&i), "no Readable after Pending");
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
        input: Input,
        len: usize,
    ) {
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

    fn abort(&mut self, conn: &mut Checked<ClientConnection>, key: RequestKey) {
        if conn.call(8, |conn| conn.request(key).map(|r| r.abort())).is_some() {
            let wild = self.wild.get_mut(&key).expect("known");
            wild.aborted = true;
            wild.parked.clear();
        }
    }

    fn settle(&mut self, conn: &mut Checked<ClientConnection>) {
        loop {
            let mut progress = false;
            while self.poll(conn) {
                progress = true;
            }
            progress |= !conn.transmit(usize::MAX).is_empty();
            if progress {
                continue;
            }
            let over = conn.is_over();
            for key in self.keys.clone() {
                for i in 0..2 {
                    while self.read(conn, key, i, usize::MAX) {}
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
