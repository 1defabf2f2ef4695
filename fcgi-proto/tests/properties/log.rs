//! What connections report, without what depends on how their bytes were cut.

use std::{collections::BTreeMap, task::Poll};

use bytes::{Bytes, BytesMut};
use fcgi_proto::{
    BeginRequest, ClientConfig, ClientConnection, Connection, Input, Limits, Output, Params,
    ProtocolError, RequestKey, Role, ServerConnection, client, server,
};

use crate::support::*;

#[derive(Debug, PartialEq, Clone)]
pub(crate) enum Seen {
    Request(RequestKey, Role, Params, bool),
    Aborted(RequestKey, server::AbortReason),
    Finished(RequestKey, client::Outcome),
    Values(fcgi_proto::Values),
    UnknownType(u8),
}

/// Everything but where streams were cut. The application does nothing but read.
#[derive(Debug, PartialEq, Default)]
pub(crate) struct Log {
    pub(crate) seen: Vec<Seen>,
    /// The bytes of each stream, and whether its end was read.
    pub(crate) streams: BTreeMap<(RequestKey, bool), (Vec<u8>, bool)>,
    /// The same in the order in which it was read: a stretch of one stream, and whether that ended it.
    pub(crate) reads: Vec<(RequestKey, bool, Vec<u8>, bool)>,
    pub(crate) error: Option<ProtocolError>,
    pub(crate) sent: Vec<u8>,
    pub(crate) closed: bool,
    pub(crate) active: usize,
}

impl Log {
    pub(crate) fn put(&mut self, key: RequestKey, second: bool, read: Poll<Option<Bytes>>) -> bool {
        let stream = self.streams.entry((key, second)).or_default();
        let Poll::Ready(read) = read else { return false };
        if self.reads.last().is_none_or(|last| (last.0, last.1) != (key, second)) {
            self.reads.push((key, second, Vec::new(), false));
        }
        let stretch = self.reads.last_mut().unwrap();
        match read {
            Some(bytes) => {
                assert!(!bytes.is_empty());
                stream.0.extend_from_slice(&bytes);
                stretch.2.extend_from_slice(&bytes);
                true
            }
            None => {
                (stream.1, stretch.3) = (true, true);
                false
            }
        }
    }
}

/// A connection under test: reports into a log until it has nothing to report.
pub(crate) trait Subject: Connection {
    fn observe(&mut self, log: &mut Log, max: usize);
}

impl Subject for ServerConnection {
    fn observe(&mut self, log: &mut Log, max: usize) {
        loop {
            let event = match self.poll_event() {
                Ok(Some(event)) => event,
                Ok(None) => return,
                Err(error) => {
                    log.error = Some(error);
                    return;
                }
            };
            let read: &[(RequestKey, Input)] = match event {
                server::Event::Request { key, role, params, keep_conn } => {
                    log.seen.push(Seen::Request(key, role, params, keep_conn));
                    &[(key, Input::Stdin), (key, Input::Data)]
                }
                server::Event::Readable { key, input } => &[(key, input)],
                server::Event::Aborted { key, reason } => {
                    log.seen.push(Seen::Aborted(key, reason));
                    &[]
                }
                server::Event::Writable { .. } => panic!("nothing was written"),
            };
            for &(key, input) in read {
                let mut request = self.request(key).expect("active");
                if request.is_aborted() {
                    continue;
                }
                while log.put(key, input == Input::Data, request.read(input, max)) {}
            }
        }
    }
}

impl Subject for ClientConnection {
    fn observe(&mut self, log: &mut Log, max: usize) {
        loop {
            let event = match self.poll_event() {
                Ok(Some(event)) => event,
                Ok(None) => return,
                Err(error) => {
                    log.error = Some(error);
                    return;
                }
            };
            match event {
                client::Event::Readable { key, output } => {
                    while let Some(mut request) = self.request(key) {
                        if !log.put(key, output == Output::Stderr, request.read(output, max)) {
                            break;
                        }
                    }
                }
                client::Event::Finished { key, outcome } => {
                    log.seen.push(Seen::Finished(key, outcome));
                }
                client::Event::Values(values) => log.seen.push(Seen::Values(values)),
                client::Event::UnknownType(t) => log.seen.push(Seen::UnknownType(t)),
                client::Event::Writable { .. } => panic!("nothing was written"),
            }
        }
    }
}

pub(crate) fn run(mut subject: impl Subject, bytes: &[u8], cuts: &[usize], max: usize) -> Log {
    let mut log = Log::default();
    let mut cuts = cuts.iter().cycle();
    let mut at = 0;
    let mut spare: Option<BytesMut> = None;
    loop {
        // Sending makes room, so that more can be reported.
        loop {
            subject.observe(&mut log, max);
            if transmit(&mut subject, usize::MAX, &mut log.sent) == 0 {
                break;
            }
        }
        if at == bytes.len() || !subject.wants_read() {
            break;
        }
        let cut = *cuts.next().unwrap();
        // Odd cuts are read into a buffer that is lent for as long as they are parsed.
        if let Some(size) = subject.wants_buffer().filter(|_| cut % 2 == 1) {
            let lent = spare.take().filter(|spare| spare.len() == size);
            subject.lend(lent.unwrap_or_else(|| BytesMut::zeroed(size))).expect("it wants one");
            assert_eq!(subject.wants_buffer(), None);
        }
        at += feed(&mut subject, &bytes[at..], cut);
        subject.observe(&mut log, max);
        spare = subject.reclaim().or(spare);
        if cut % 3 == 1 {
            let retired = subject.retire();
            spare = retired.and_then(|retired| retired.try_into_mut().ok()).or(spare);
        }
    }
    assert!(
        at == bytes.len() || subject.is_closed(),
        "stuck at {at} of {}: {log:?} {:?}",
        bytes.len(),
        subject.error()
    );
    subject.handle_eof();
    loop {
        subject.observe(&mut log, max);
        if transmit(&mut subject, usize::MAX, &mut log.sent) == 0 {
            break;
        }
    }
    assert!(!subject.wants_read());
    assert_eq!(subject.error(), log.error);
    log.closed = subject.is_closed();
    log.active = subject.active_requests();
    log
}

pub(crate) fn client_with(limits: Limits, query: bool) -> (ClientConnection, Vec<RequestKey>) {
    let mut client = ClientConnection::new(ClientConfig { limits });
    let mut keys = Vec::new();
    for role in [Role::Responder, Role::Authorizer, Role::Filter] {
        let params = Params::from_iter([("A", "b")]);
        if client.can_begin() {
            keys.push(client.begin(BeginRequest { role, keep_conn: true, params }).unwrap());
        }
    }
    if query {
        client.query_values().unwrap();
    }
    discard_transmit(&mut client);
    (client, keys)
}
