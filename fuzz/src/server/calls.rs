//! Random calls of an application in between, stale keys, shutdown, end of file and disconnect.

use std::collections::{BTreeMap, BTreeSet};
use std::task::Poll;

use arbitrary::{Result, Unstructured};
use fcgi_proto::{
    Connection, Input, Output, Rejection, RequestKey, ServerConfig, ServerConnection, server::Event,
};

use super::INPUTS;
use crate::{
    checked::Checked,
    heap::Owner,
    input::{Cuts, filler},
};

/// A request in [`run`].
#[derive(Default)]
struct Wild {
    /// Streams whose reader must wait.
    parked: BTreeSet<usize>,
    /// A write took less than it was given.
    blocked: bool,
}

/// How a request is ended.
#[derive(Clone, Copy)]
enum End {
    Finish,
    Reject,
    Fail,
}

struct Chaos {
    live: BTreeMap<RequestKey, Wild>,
    /// Every key there was, ended requests' too.
    keys: Vec<RequestKey>,
}

/// Runs a conversation once.
pub(super) fn run(
    config: ServerConfig,
    wire: &[u8],
    cuts: &mut Cuts,
    u: &mut Unstructured<'_>,
) -> Result<()> {
    let mut conn = Checked::new(Owner::Server, config.limits, || ServerConnection::new(config));
    conn.requests = config.limits.requests;
    let mut state = Chaos { live: BTreeMap::new(), keys: Vec::new() };
    let mut at = 0;
    let mut gone = false;
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
            (3..=5, _) => {
                for _ in 0..=op >> 4 {
                    state.poll(&mut conn);
                }
            }
            (6, _) => drop(conn.transmit(usize::from(op >> 4) * 13)),
            (7, _) => drop(conn.transmit(usize::MAX)),
            (8 | 9, Some(key)) => {
                let max = *u.choose(&[0, 1, 10, 5000, usize::MAX])?;
                state.read(&mut conn, key, usize::from(op % 2), max);
            }
            (10 | 11, Some(key)) => {
                let len = *u.choose(&[0, 1, 100, 4096, 4097, 70_000])?;
                let output = if op & 1 == 0 { Output::Stdout } else { Output::Stderr };
                state.write(&mut conn, key, output, len);
            }
            (12, Some(key)) => state.end(&mut conn, key, End::Finish),
            (13, Some(key)) => {
                state.end(&mut conn, key, if op >> 4 < 8 { End::Reject } else { End::Fail });
            }
            (14, _) => match op >> 4 {
                0 => conn.call(0, |conn| conn.shutdown()),
                1 => conn.call(0, |conn| conn.handle_eof()),
                2 => {
                    conn.call(0, |conn| conn.handle_disconnect());
                    conn.forget_queue();
                    gone = true;
                }
                3 => {
                    conn.call(300 * config.limits.requests.min(300), |conn| conn.fail_all(1));
                    state.live.clear();
                }
                _ => {}
            },
            (15, _) => conn.misuse(),
            _ => {}
        }
    }
    // In the end all is read, ended and sent.
    loop {
        state.settle(&mut conn);
        let n = conn.feed(&wire[at..(at + 3000).min(wire.len())]);
        at += n;
        if n == 0 {
            break;
        }
    }
    if !gone {
        conn.call(0, |conn| conn.handle_disconnect());
        conn.forget_queue();
    }
    state.settle(&mut conn);
    assert!(
        conn.get().is_closed() && conn.get().active_requests() == 0 || conn.get().error().is_some()
    );
    conn.misuse();
    conn.transmit(usize::MAX);
    conn.transmit(0);
    Ok(())
}

impl Chaos {
    fn poll(&mut self, conn: &mut Checked<ServerConnection>) -> bool {
        let Ok(event) = conn.poll() else { return false };
        match event {
            None => return false,
            Some(Event::Request { key, .. }) => {
                assert!(!self.keys.contains(&key), "a key used twice");
                self.keys.push(key);
                self.live.insert(key, Wild::default());
            }
            Some(Event::Readable { key, input }) => {
                let wild = self.live.get_mut(&key).expect("Readable of a live request");
                wild.parked.remove(&usize::from(input == Input::Data));
            }
            Some(Event::Writable { key }) => {
                // Of an ended request it would be noise.
                let wild = self.live.get_mut(&key).expect("Writable of a live request");
                wild.blocked = false;
            }
            Some(Event::Aborted { key, .. }) => {
                let wild = self.live.get_mut(&key).expect("Aborted of a live request");
                wild.parked.clear();
            }
        }
        true
    }

    /// Whether there should be such a request, checked against whether there is.
    fn check(&mut self, conn: &mut Checked<ServerConnection>, key: RequestKey) -> bool {
        let live = self.live.contains_key(&key) && conn.get().error().is_none();
        assert_eq!(conn.call(0, |conn| conn.request(key).is_some()), live, "a stale key");
        live
    }

    fn read(
        &mut self,
        conn: &mut Checked<ServerConnection>,
        key: RequestKey,
        i: usize,
        max: usize,
    ) {
        if !self.check(conn, key) {
            return;
        }
        let wild = self.live.get_mut(&key).expect("live");
        match conn.call(0, |conn| conn.request(key).unwrap().read(INPUTS[i], max)) {
            Poll::Pending => drop(wild.parked.insert(i)),
            Poll::Ready(Some(bytes)) => {
                assert!(bytes.len() <= max && (max == 0 || !bytes.is_empty()));
                assert!(!wild.parked.contains(&i), "no Readable after Pending");
            }
            Poll::Ready(None) => {}
        }
    }

    fn write(
        &mut self,
        conn: &mut Checked<ServerConnection>,
        key: RequestKey,
        output: Output,
        len: usize,
    ) {
        if !self.check(conn, key) {
            return;
        }
        let mut bytes = filler(len);
        let taken = conn.call(len, |conn| conn.request(key).unwrap().write(output, &mut bytes));
        if let Ok(taken) = taken {
            assert_eq!(taken, len - bytes.len());
            self.live.get_mut(&key).expect("live").blocked |= taken < len;
        }
    }

    fn end(&mut self, conn: &mut Checked<ServerConnection>, key: RequestKey, how: End) {
        if self.check(conn, key) {
            conn.call(300, |conn| {
                let request = conn.request(key).unwrap();
                match how {
                    End::Finish => request.finish(0),
                    End::Reject => request.reject(Rejection::UnknownRole),
                    End::Fail => request.fail(9),
                }
            })
            .expect("live");
            self.live.remove(&key);
            self.check(conn, key);
        }
    }

    fn settle(&mut self, conn: &mut Checked<ServerConnection>) {
        loop {
            let mut progress = false;
            while self.poll(conn) {
                progress = true;
            }
            progress |= !conn.transmit(usize::MAX).is_empty();
            if progress {
                continue;
            }
            for wild in self.live.values() {
                let lost = conn.get().error().is_some();
                assert!(!wild.blocked || lost, "no Writable, and nothing is queued");
            }
            let keys: Vec<_> = self.live.keys().copied().collect();
            for key in &keys {
                for i in 0..2 {
                    self.read(conn, *key, i, usize::MAX);
                }
                self.end(conn, *key, End::Finish);
            }
            if keys.is_empty() || conn.get().error().is_some() {
                return;
            }
        }
    }
}
