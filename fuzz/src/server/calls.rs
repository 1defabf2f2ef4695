//! Random calls of an application.

use std::collections::{BTreeMap, BTreeSet};
use std::task::Poll;

use arbitrary::{Result, Unstructured};
use fcgi_proto::{
    Connection, Input, Output, Rejection, RequestKey, ServerConfig, ServerConnection, server::Event,
};

use super::INPUTS;
use crate::{
    calls::{self, Caller, quiet},
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

#[derive(Default)]
struct Application {
    live: BTreeMap<RequestKey, Wild>,
    /// Every key there was, ended requests' too.
    keys: Vec<RequestKey>,
    /// The connection was lost.
    gone: bool,
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
    let mut app = Application::default();
    calls::run(&mut app, &mut conn, wire, cuts, u)?;
    if !app.gone {
        app.disconnect(&mut conn);
    }
    app.settle(&mut conn);
    assert!(
        conn.get().is_closed() && conn.get().active_requests() == 0 || conn.get().error().is_some()
    );
    conn.misuse();
    conn.transmit(usize::MAX);
    conn.transmit(0);
    Ok(())
}

impl Application {
    fn disconnect(&mut self, conn: &mut Checked<ServerConnection>) {
        conn.call(0, |conn| conn.handle_disconnect());
        conn.forget_queue();
        self.gone = true;
    }

    /// Whether there should be such a request, checked against whether there is.
    fn check(&mut self, conn: &mut Checked<ServerConnection>, key: RequestKey) -> bool {
        let live = self.live.contains_key(&key) && conn.get().error().is_none();
        assert_eq!(conn.call(0, |conn| conn.request(key).is_some()), live, "a stale key");
        live
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
}

impl Caller for Application {
    type Conn = ServerConnection;

    fn keys(&self) -> &[RequestKey] {
        &self.keys
    }

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

    fn read(
        &mut self,
        conn: &mut Checked<ServerConnection>,
        key: RequestKey,
        stream: usize,
        max: usize,
    ) -> bool {
        if !self.check(conn, key) {
            return false;
        }
        let wild = self.live.get_mut(&key).expect("live");
        match conn.call(0, |conn| conn.request(key).unwrap().read(INPUTS[stream], max)) {
            Poll::Pending => {
                wild.parked.insert(stream);
                false
            }
            Poll::Ready(Some(bytes)) => {
                assert!(bytes.len() <= max && (max == 0 || !bytes.is_empty()));
                assert!(!wild.parked.contains(&stream), "no Readable after Pending");
                true
            }
            Poll::Ready(None) => {
                let told = !wild.parked.contains(&stream);
                let aborted = conn.call(0, |conn| conn.request(key).unwrap().is_aborted());
                assert!(told || aborted, "no Readable before the end");
                false
            }
        }
    }

    fn write(
        &mut self,
        conn: &mut Checked<ServerConnection>,
        key: RequestKey,
        stream: usize,
        len: usize,
    ) {
        if !self.check(conn, key) {
            return;
        }
        let output = [Output::Stdout, Output::Stderr][stream];
        let mut bytes = filler(len);
        let taken = conn.call(len, |conn| conn.request(key).unwrap().write(output, &mut bytes));
        if let Ok(taken) = taken {
            assert_eq!(taken, len - bytes.len());
            self.live.get_mut(&key).expect("live").blocked |= taken < len;
        }
    }

    fn call(
        &mut self,
        conn: &mut Checked<ServerConnection>,
        op: u8,
        key: Option<RequestKey>,
        _: &mut Unstructured<'_>,
    ) -> Result<()> {
        match (op % 16, op >> 4, key) {
            (12, _, Some(key)) => self.end(conn, key, End::Finish),
            (13, 0..8, Some(key)) => self.end(conn, key, End::Reject),
            (13, _, Some(key)) => self.end(conn, key, End::Fail),
            (14, 0, _) => conn.call(0, |conn| conn.shutdown()),
            (14, 1, _) => conn.call(0, |conn| conn.handle_eof()),
            (14, 2, _) => self.disconnect(conn),
            (14, 3, _) => {
                conn.call(300 * conn.requests.min(300), |conn| conn.fail_all(1));
                self.live.clear();
            }
            _ => {}
        }
        Ok(())
    }

    fn settle(&mut self, conn: &mut Checked<ServerConnection>) {
        loop {
            quiet(self, conn);
            for wild in self.live.values() {
                let lost = conn.get().error().is_some();
                assert!(!wild.blocked || lost, "no Writable, and nothing is queued");
            }
            let keys: Vec<_> = self.live.keys().copied().collect();
            for key in &keys {
                for stream in 0..2 {
                    self.read(conn, *key, stream, usize::MAX);
                }
                self.end(conn, *key, End::Finish);
            }
            if keys.is_empty() || conn.get().error().is_some() {
                return;
            }
        }
    }
}
