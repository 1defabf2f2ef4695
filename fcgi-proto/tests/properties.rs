//! Properties of the codec and of both connections, for any bytes, any cut of them and any order
//! of calls.

mod support;

use std::{collections::BTreeMap, task::Poll};

use bytes::{Buf, Bytes, BytesMut};
use fcgi_proto::{
    BeginRequest, ClientConfig, ClientConnection, Connection, FullRequest, Input, Limits, Output,
    Params, ProtocolError, Rejection, RequestKey, Role, ServerConfig, ServerConnection, client,
    pairs::{self, PairDecoder, PairPiece},
    record::{BeginRequestBody, EndRequestBody, RecordHeader, RecordType},
    server,
};
use proptest::{collection::vec, prelude::*, sample::Index};
use support::*;

// ---- What the connections are made to do ------------------------------------------------------

/// One record of a conversation, well-formed or not.
fn any_record(types: &'static [(u32, u8)]) -> impl Strategy<Value = Vec<u8>> {
    let kind = proptest::sample::select(
        types.iter().flat_map(|(n, t)| vec![*t; *n as usize]).collect::<Vec<_>>(),
    );
    let content = prop_oneof![
        3 => Just(Vec::new()),
        4 => vec(any::<u8>(), 0..20),
        2 => vec(any::<u8>(), 0..600),
        1 => pair_block(),
        1 => (0usize..4000).prop_map(|n| vec![n as u8; n]),
    ];
    let id = prop_oneof![12 => 1u16..4, 1 => Just(0), 1 => any::<u16>()];
    (kind, id, content, prop_oneof![3 => Just(0u8), 1 => any::<u8>()], any::<[u8; 8]>()).prop_map(
        |(kind, id, content, padding, body)| match kind {
            // Bodies of the length that they must have, most of the time.
            BEGIN if body[7] < 250 => {
                let role = [0, body[0] % 4, body[1] | u8::from(body[2] > 40), 0, 0, 0, 0, 0];
                record(kind, id, &role, padding)
            }
            END if body[7] < 250 => {
                let status = if body[0] < 200 { 0 } else { body[0] % 5 };
                end(id, u32::from(body[1]), status)
            }
            ABORT => record(kind, id, &[], padding),
            GET_VALUES..=11 if body[7] < 250 => {
                let content = if kind == 11 { &body[..] } else { &content };
                record(kind, 0, content, padding)
            }
            _ => record(kind, id, &content, padding),
        },
    )
}

const TO_SERVER: &[(u32, u8)] =
    &[(6, BEGIN), (2, ABORT), (8, PARAMS), (8, STDIN), (3, DATA), (2, GET_VALUES), (1, 77)];
const TO_CLIENT: &[(u32, u8)] =
    &[(8, STDOUT), (5, STDERR), (3, END), (2, GET_VALUES_RESULT), (1, 11), (1, 77)];

fn pair_block() -> impl Strategy<Value = Vec<u8>> {
    let name = prop_oneof![
        3 => vec(any::<u8>(), 0..8),
        1 => Just(b"FCGI_MAX_CONNS".to_vec()),
        1 => Just(b"FCGI_MPXS_CONNS".to_vec()),
        1 => vec(any::<u8>(), 120..140),
    ];
    vec((name, vec(any::<u8>(), 0..140), any::<bool>()), 0..6).prop_map(|pairs| {
        let mut out = Vec::new();
        for (name, value, long) in pairs {
            if long {
                // The four-byte form, which a receiver takes for short lengths too (FC-3.4-2).
                for len in [name.len(), value.len()] {
                    out.extend((len as u32 | 0x8000_0000).to_be_bytes());
                }
                out.extend(name);
                out.extend(value);
            } else {
                pairs::encode(&name, &value, &mut out).unwrap();
            }
        }
        out
    })
}

/// A whole request of some role, as records.
fn whole_request(id: u16) -> impl Strategy<Value = Vec<Vec<u8>>> {
    let body = || vec(vec(any::<u8>(), 1..300), 0..4);
    (1u16..4, pair_block(), vec(1usize..60, 1..4), body(), body(), any::<u8>()).prop_map(
        move |(role, params, cuts, stdin, data, how)| {
            let mut out = vec![begin(id, role, how & 1)];
            let mut rest = &params[..];
            for cut in cuts.iter().cycle() {
                if rest.is_empty() {
                    break;
                }
                let (now, later) = rest.split_at(rest.len().min(*cut));
                out.push(record(PARAMS, id, now, how));
                rest = later;
            }
            out.push(record(PARAMS, id, &[], 0));
            if role != 2 {
                out.extend(stdin.iter().map(|chunk| record(STDIN, id, chunk, 3)));
                out.push(record(STDIN, id, &[], how));
            }
            if role == 3 {
                out.extend(data.iter().map(|chunk| record(DATA, id, chunk, 0)));
                out.push(record(DATA, id, &[], 0));
            }
            if how > 230 {
                out.insert(out.len() / 2, record(ABORT, id, &[], 0));
            }
            out
        },
    )
}

/// Three requests at once, each in its order.
fn interleaved() -> impl Strategy<Value = Vec<u8>> {
    let requests = (whole_request(1), whole_request(2), whole_request(3));
    (requests, vec(0usize..3, 0..60)).prop_map(|((a, b, c), order)| {
        let mut queues = [a, b, c].map(|records| records.into_iter());
        let mut out = Vec::new();
        for i in order {
            out.extend(queues[i].next().unwrap_or_default());
        }
        out.extend(queues.into_iter().flatten().flatten());
        out
    })
}

fn mutated(bytes: impl Strategy<Value = Vec<u8>>) -> impl Strategy<Value = Vec<u8>> {
    let edits = vec((any::<Index>(), 0u8..4, any::<u8>()), 1..4);
    (bytes, edits).prop_map(|(mut bytes, edits)| {
        for (at, how, value) in edits {
            if bytes.is_empty() {
                break;
            }
            let at = at.index(bytes.len());
            match how {
                0 => bytes[at] = value,
                1 => bytes[at] ^= 1 << (value % 8),
                2 => drop(bytes.remove(at)),
                _ => bytes.insert(at, value),
            }
        }
        bytes
    })
}

fn server_bytes() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        4 => interleaved(),
        4 => vec(any_record(TO_SERVER), 0..40).prop_map(|records| records.concat()),
        4 => mutated(interleaved()),
        1 => vec(any::<u8>(), 0..200),
    ]
}

fn client_bytes() -> impl Strategy<Value = Vec<u8>> {
    let soup = || vec(any_record(TO_CLIENT), 0..40).prop_map(|records| records.concat());
    prop_oneof![
        6 => soup(),
        3 => mutated(soup()),
        1 => vec(any::<u8>(), 0..200),
    ]
}

/// Limits from the defaults down to ones that every conversation runs into.
fn limits(base: Limits) -> impl Strategy<Value = Limits> {
    let small = (
        (8usize..5000, 1usize..500, 1usize..800, 1usize..12, 1usize..4),
        (1usize..700, 1usize..1000, any::<bool>(), 1usize..2000, 1usize..300),
        (0u32..20, 0u32..40, 0usize..3),
    );
    let small = small.prop_map(move |(a, b, c)| {
        let mut limits = base;
        (limits.recv_buffer, limits.params_bytes, limits.params_bytes_connection, ..) = a;
        (_, _, _, limits.params_pairs, limits.requests) = a;
        (limits.unread_request, limits.unread_connection, ..) = b;
        limits.full_request = if b.2 { FullRequest::Abort } else { FullRequest::Pause };
        (_, _, _, limits.send_high_water, limits.reply_bytes) = b;
        (limits.idle_records, limits.tiny_records, limits.tombstones) = c;
        limits.stray_bytes = 100 * c.0 as usize;
        limits
    });
    let mut many = base;
    many.requests = 8;
    prop_oneof![1 => Just(base), 2 => Just(many), 3 => small]
}

fn cuts() -> impl Strategy<Value = Vec<usize>> {
    prop_oneof![
        1 => Just(vec![1]),
        1 => Just(vec![usize::MAX]),
        3 => vec(1usize..40, 1..8),
        2 => vec(1usize..2000, 1..8),
    ]
}

// ---- What they report, without what depends on the cut ----------------------------------------

#[derive(Debug, PartialEq, Clone)]
enum Seen {
    Request(RequestKey, Role, Params, bool),
    Aborted(RequestKey, server::AbortReason),
    Finished(RequestKey, client::Outcome),
    Values(fcgi_proto::Values),
    UnknownType(u8),
}

/// Everything but where streams were cut. The application does nothing but read.
#[derive(Debug, PartialEq, Default)]
struct Log {
    seen: Vec<Seen>,
    /// The bytes of each stream, and whether its end was read.
    streams: BTreeMap<(RequestKey, bool), (Vec<u8>, bool)>,
    /// The same in the order in which it was read: a stretch of one stream, and whether that ended it.
    reads: Vec<(RequestKey, bool, Vec<u8>, bool)>,
    error: Option<ProtocolError>,
    sent: Vec<u8>,
    closed: bool,
    active: usize,
}

impl Log {
    fn put(&mut self, key: RequestKey, second: bool, read: Poll<Option<Bytes>>) -> bool {
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
trait Subject: Connection {
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

fn run(mut subject: impl Subject, bytes: &[u8], cuts: &[usize], max: usize) -> Log {
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

fn client_with(limits: Limits, query: bool) -> (ClientConnection, Vec<RequestKey>) {
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

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    /// H-13: at the application, any cut of the same bytes gives the same events, and the same
    /// answers to the reads between them.
    #[test]
    fn server_any_cut(
        bytes in server_bytes(),
        limits in limits(Limits::server()),
        (a, b) in (cuts(), cuts()),
        max in prop_oneof![Just(usize::MAX), 1usize..100],
    ) {
        let server = || ServerConnection::new(ServerConfig { limits, ..ServerConfig::default() });
        let (a, b) = (run(server(), &bytes, &a, usize::MAX), run(server(), &bytes, &b, max));
        prop_assert_eq!(&a, &b);
        let (_, rest) = parse(&a.sent);
        prop_assert_eq!(rest, 0);
    }

    /// H-13: a request's start that comes whole is the same request as one that comes cut.
    #[test]
    fn server_whole_start(
        (role, keep, pads, with_end) in (0u16..5, any::<u8>(), any::<[u8; 3]>(), any::<bool>()),
        params in vec(pair_block(), 0..3).prop_map(|blocks| blocks.concat()),
        (cut_short, behind) in (0u8..8, prop_oneof![Just(Vec::new()), server_bytes()]),
        limits in limits(Limits::server()),
        cuts in cuts(),
    ) {
        let params = &params[..params.len() - usize::from(cut_short == 0 && !params.is_empty())];
        let pads = pads.map(|pad| if pad < 128 { 0 } else { pad });
        let mut bytes = [
            begin(1, role, keep),
            record(PARAMS, 1, params, pads[0]),
            record(PARAMS, 1, &[], pads[1]),
        ]
        .concat();
        if with_end {
            bytes.extend(record(STDIN, 1, &[], pads[2]));
        }
        bytes.extend(behind);
        let server = || ServerConnection::new(ServerConfig { limits, ..ServerConfig::default() });
        let whole = run(server(), &bytes, &[usize::MAX], usize::MAX);
        prop_assert_eq!(&whole, &run(server(), &bytes, &cuts, usize::MAX));
        prop_assert_eq!(&whole, &run(server(), &bytes, &[1], usize::MAX));
    }

    /// H-13: at the web server.
    #[test]
    fn client_any_cut(
        bytes in client_bytes(),
        limits in limits(Limits::client()),
        query: bool,
        (a, b) in (cuts(), cuts()),
        max in prop_oneof![Just(usize::MAX), 1usize..100],
    ) {
        let client = || client_with(limits, query).0;
        let (a, b) = (run(client(), &bytes, &a, usize::MAX), run(client(), &bytes, &b, max));
        prop_assert_eq!(&a, &b);
        prop_assert_eq!(a.active, 0);
        prop_assert!(a.closed);
        let (_, rest) = parse(&a.sent);
        prop_assert_eq!(rest, 0);
    }
}

// ---- Round trips ------------------------------------------------------------------------------

fn role() -> impl Strategy<Value = Role> {
    proptest::sample::select(vec![Role::Responder, Role::Authorizer, Role::Filter])
}

/// Longer than a record, at times.
fn large() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        3 => vec(any::<u8>(), 0..9000),
        1 => (60_000usize..200_000).prop_map(|n| (0..n).map(|i| (i * i / 7) as u8).collect()),
    ]
}

fn any_params() -> impl Strategy<Value = Vec<(Vec<u8>, Vec<u8>)>> {
    vec((vec(any::<u8>(), 0..200), vec(any::<u8>(), 0..300)), 0..30)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 120, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn headers_and_bodies(t: u8, id: u16, len: u16, padding: u8, reserved: u8, body: [u8; 8]) {
        let record_type = RecordType::from_u8(t);
        prop_assert_eq!(record_type.as_u8(), t);
        let header = RecordHeader { record_type, request_id: id, content_length: len, padding_length: padding };
        let mut bytes = header.encode();
        bytes[7] = reserved;
        prop_assert_eq!(RecordHeader::decode(bytes), Ok(header));
        let padded = RecordHeader::new(record_type, id, len);
        prop_assert_eq!((usize::from(len) + usize::from(padded.padding_length)) % 8, 0);
        let begin = BeginRequestBody::decode(body);
        prop_assert_eq!(BeginRequestBody::decode(begin.encode()), begin);
        let end = EndRequestBody::decode(body);
        prop_assert_eq!(EndRequestBody::decode(end.encode()), end);
    }

    #[test]
    fn records_at_any_cut(
        records in vec(any_record(TO_SERVER), 0..12),
        cuts in cuts(),
    ) {
        let wire = records.concat();
        let found = framed(&wire, &cuts);
        prop_assert_eq!(found.len(), records.len());
        for ((header, content), record) in found.iter().zip(&records) {
            prop_assert_eq!(&header.encode()[..], &record[..8]);
            prop_assert_eq!(content, &record[8..8 + content.len()]);
            prop_assert_eq!(usize::from(header.content_length), content.len());
        }
    }

    #[test]
    fn pairs_at_any_cut(pairs in any_params(), cuts in cuts()) {
        let mut wire = Vec::new();
        for (name, value) in &pairs {
            let before = wire.len();
            pairs::encode(name, value, &mut wire).unwrap();
            prop_assert_eq!(wire.len() - before, pairs::encoded_len(name.len(), value.len()));
        }
        let mut decoder = PairDecoder::new();
        let mut found: Vec<(Vec<u8>, Vec<u8>)> = Vec::new();
        let mut cuts = cuts.iter().cycle();
        let mut at = 0;
        while at < wire.len() {
            let end = wire.len().min(at.saturating_add(*cuts.next().unwrap()));
            while let (used, Some(piece)) = decoder.next(&wire[at..end]) {
                match piece {
                    PairPiece::Lengths { .. } => found.push(Default::default()),
                    PairPiece::Name(bytes) => found.last_mut().unwrap().0.extend(bytes),
                    PairPiece::Value(bytes) => found.last_mut().unwrap().1.extend(bytes),
                }
                at += used;
            }
            at = end;
        }
        prop_assert!(decoder.is_at_boundary());
        prop_assert_eq!(&found, &pairs);

        let params = Params::from_iter(pairs.iter().map(|(n, v)| (n, v)));
        prop_assert_eq!(params.encoded_len(), wire.len());
        prop_assert_eq!(params.len(), pairs.len());
        prop_assert!(params.iter().eq(pairs.iter().map(|(n, v)| (&n[..], &v[..]))));
        for (name, _) in &pairs {
            let last = pairs.iter().rfind(|(n, _)| n == name).map(|(_, v)| &v[..]);
            prop_assert_eq!(params.get(name), last);
        }
    }

    #[test]
    fn random_pairs_never_panic(bytes in vec(any::<u8>(), 0..300), cut in 1usize..20) {
        let mut decoder = PairDecoder::new();
        for chunk in bytes.chunks(cut) {
            let mut at = 0;
            while let (used, Some(_)) = decoder.next(&chunk[at..]) {
                at += used;
            }
        }
    }

    /// A whole request from a client to a server, and its answer back.
    #[test]
    fn requests(
        role in role(),
        keep_conn: bool,
        pairs in any_params(),
        (stdin, data) in (vec(any::<u8>(), 0..9000), vec(any::<u8>(), 0..9000)),
        (stdout, stderr) in (large(), vec(any::<u8>(), 0..5000)),
        status: u32,
        rejected in proptest::option::weighted(0.2, 1u8..4),
        (a, b) in (cuts(), cuts()),
    ) {
        let params = Params::from_iter(pairs);
        let mut client = ClientConnection::new(ClientConfig::default());
        let key = client.begin(BeginRequest { role, keep_conn, params: params.clone() }).unwrap();
        for (input, body) in [(Input::Stdin, &stdin), (Input::Data, &data)] {
            if role.has_input(input) {
                let mut request = client.request(key).unwrap();
                let mut body = Bytes::copy_from_slice(body);
                request.write(input, &mut body).unwrap();
                prop_assert!(body.is_empty());
                request.finish(input).unwrap();
            }
        }
        let mut wire = Vec::new();
        transmit(&mut client, usize::MAX, &mut wire);
        prop_assert_eq!(parse(&wire).1, 0);

        let mut server = ServerConnection::new(ServerConfig::default());
        let mut log = Log::default();
        let mut cuts = a.iter().cycle();
        let mut at = 0;
        while at < wire.len() {
            at += feed(&mut server, &wire[at..], *cuts.next().unwrap());
            server.observe(&mut log, usize::MAX);
        }
        let Seen::Request(server_key, ..) = log.seen[0] else { panic!() };
        prop_assert_eq!(&log.seen, &[Seen::Request(server_key, role, params, keep_conn)]);
        let all = |stream: &[u8], there| (if there { stream.to_vec() } else { Vec::new() }, true);
        prop_assert_eq!(&log.streams[&(server_key, false)], &all(&stdin, role.has_input(Input::Stdin)));
        prop_assert_eq!(&log.streams[&(server_key, true)], &all(&data, role.has_input(Input::Data)));

        let mut request = server.request(server_key).unwrap();
        prop_assert!(request.is_input_complete());
        for (output, body) in [(Output::Stdout, &stdout), (Output::Stderr, &stderr)] {
            let mut body = Bytes::copy_from_slice(body);
            request.write(output, &mut body).unwrap();
            prop_assert!(body.is_empty());
        }
        let outcome = match rejected.and_then(Rejection::from_u8) {
            None => {
                request.finish(status).unwrap();
                client::Outcome::Complete { app_status: status }
            }
            Some(rejection) => {
                request.reject(rejection).unwrap();
                client::Outcome::Rejected(rejection)
            }
        };
        let mut wire = Vec::new();
        transmit(&mut server, usize::MAX, &mut wire);
        prop_assert_eq!(parse(&wire).1, 0);
        prop_assert_eq!(server.is_closed(), !keep_conn);
        prop_assert_eq!(server.is_reusable(), keep_conn);

        let mut log = Log::default();
        let mut cuts = b.iter().cycle();
        let mut at = 0;
        while at < wire.len() {
            at += feed(&mut client, &wire[at..], *cuts.next().unwrap());
            client.observe(&mut log, usize::MAX);
        }
        prop_assert_eq!(&log.seen, &[Seen::Finished(key, outcome)]);
        let got = |second| log.streams.get(&(key, second)).map(|s| s.0.clone()).unwrap_or_default();
        if rejected.is_none() || !stdout.is_empty() {
            prop_assert_eq!(got(false), stdout);
        }
        prop_assert_eq!(got(true), stderr);
        prop_assert_eq!(client.is_reusable(), keep_conn);
        prop_assert_eq!(client.is_closed(), !keep_conn);
    }
}

// ---- Any calls in any order -------------------------------------------------------------------

#[derive(Debug, Clone)]
enum Call {
    Feed(Vec<u8>),
    /// Says that bytes were read without having asked for the window.
    Recv(usize),
    Eof,
    Disconnect,
    Shutdown,
    Poll(usize),
    Advance(usize),
    Begin(Role, bool, usize),
    Query,
    Read(Index, bool, usize),
    Write(Index, bool, usize),
    Finish(Index, bool),
    Abort(Index),
}

fn call(bytes: BoxedStrategy<Vec<u8>>) -> impl Strategy<Value = Call> {
    let size = || prop_oneof![3 => 0usize..40, 2 => 0usize..6000, 1 => Just(usize::MAX)];
    let key = any::<Index>;
    prop_oneof![
        40 => bytes.prop_map(Call::Feed),
        2 => size().prop_map(Call::Recv),
        1 => Just(Call::Eof),
        1 => Just(Call::Disconnect),
        1 => Just(Call::Shutdown),
        30 => (0usize..10).prop_map(Call::Poll),
        20 => size().prop_map(Call::Advance),
        15 => (role(), any::<bool>(), 0usize..300).prop_map(|(r, k, n)| Call::Begin(r, k || n > 60, n)),
        3 => Just(Call::Query),
        20 => (key(), any::<bool>(), size()).prop_map(|(k, s, n)| Call::Read(k, s, n)),
        20 => (key(), any::<bool>(), size()).prop_map(|(k, s, n)| Call::Write(k, s, n)),
        10 => (key(), any::<bool>()).prop_map(|(k, s)| Call::Finish(k, s)),
        4 => key().prop_map(Call::Abort),
    ]
}

fn calls(types: &'static [(u32, u8)]) -> impl Strategy<Value = Vec<Call>> {
    let bytes = prop_oneof![
        30 => any_record(types),
        4 => vec(any_record(types), 0..6).prop_map(|records| records.concat()),
        1 => vec(any::<u8>(), 0..20),
    ];
    vec(call(bytes.boxed()), 0..80)
}

/// The getters agree with each other, after every call.
fn check(connection: &mut impl Connection, error: &mut Option<ProtocolError>) {
    if error.is_some() {
        assert_eq!(connection.error(), *error, "sticky");
    }
    *error = connection.error();
    let wants = connection.wants_read();
    assert_eq!(connection.recv_buffer().is_empty(), !wants);
    if connection.is_closed() {
        assert!(!connection.is_reusable());
    }
    if connection.is_reusable() {
        assert_eq!(connection.active_requests(), 0);
        assert!(connection.poll_transmit().is_none());
    }
    if error.is_some() {
        assert!(!wants && !connection.is_reusable());
    }
}

fn feed_all(connection: &mut impl Connection, bytes: &[u8]) {
    let mut at = 0;
    while at < bytes.len() {
        let n = feed(connection, &bytes[at..], usize::MAX);
        if n == 0 {
            break;
        }
        at += n;
    }
}

fn advance(connection: &mut impl Connection, n: usize, sent: &mut Vec<u8>) {
    if n < usize::MAX {
        transmit(connection, n, sent);
        return;
    }
    while let Some(mut transmit) = connection.poll_transmit() {
        let chunk = transmit.chunk().len();
        sent.extend_from_slice(transmit.chunk());
        // Past the end stops at the end.
        let last = chunk == transmit.remaining();
        transmit.advance(if last { usize::MAX } else { chunk });
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn server_any_calls(calls in calls(TO_SERVER), limits in limits(Limits::server())) {
        let mut server = ServerConnection::new(ServerConfig { limits, ..ServerConfig::default() });
        let mut keys: Vec<RequestKey> = Vec::new();
        let (mut sent, mut gone, mut error) = (Vec::new(), false, None);
        for call in calls {
            let pick = |i: &Index| (!keys.is_empty()).then(|| keys[i.index(keys.len())]);
            let stdin = |s| if s { Input::Stdin } else { Input::Data };
            match call {
                Call::Feed(bytes) => feed_all(&mut server, &bytes),
                Call::Recv(n) => drop(server.handle_recv(n)),
                Call::Eof => server.handle_eof(),
                Call::Disconnect => {
                    server.handle_disconnect();
                    gone = true;
                }
                Call::Shutdown | Call::Query => server.shutdown(),
                Call::Poll(n) => for _ in 0..n {
                    match server.poll_event() {
                        Ok(Some(server::Event::Request { key, .. })) => keys.push(key),
                        Ok(Some(_)) => {}
                        Ok(None) => break,
                        Err(e) => prop_assert_eq!(Some(e), server.error()),
                    }
                },
                Call::Advance(n) => advance(&mut server, n, &mut sent),
                Call::Begin(..) => {}
                Call::Read(i, s, n) => if let Some(mut r) = pick(&i).and_then(|k| server.request(k)) {
                    if let Poll::Ready(Some(bytes)) = r.read(stdin(s), n) {
                        prop_assert!(bytes.len() <= n);
                    }
                },
                Call::Write(i, s, n) => if let Some(mut r) = pick(&i).and_then(|k| server.request(k)) {
                    let n = n.min(200_000);
                    let mut bytes = Bytes::from(vec![7; n]);
                    let output = if s { Output::Stdout } else { Output::Stderr };
                    match r.write(output, &mut bytes) {
                        Ok(taken) => prop_assert_eq!(taken + bytes.len(), n),
                        Err(_) => prop_assert_eq!(bytes.len(), n),
                    }
                },
                Call::Finish(i, s) => if let Some(key) = pick(&i) {
                    if let Some(r) = server.request(key) {
                        if s { r.finish(3).unwrap() } else { r.reject(Rejection::Overloaded).unwrap() }
                    }
                    prop_assert!(server.request(key).is_none());
                },
                Call::Abort(i) => if let Some(r) = pick(&i).and_then(|k| server.request(k)) {
                    let _ = (r.is_aborted(), r.is_input_complete(), r.role(), r.key());
                },
            }
            check(&mut server, &mut error);
        }
        transmit(&mut server, usize::MAX, &mut sent);
        let (_, rest) = parse(&sent);
        prop_assert!(rest == 0 || gone);
    }

    #[test]
    fn client_any_calls(calls in calls(TO_CLIENT), limits in limits(Limits::client())) {
        let (mut client, mut keys) = client_with(limits, false);
        let (mut sent, mut error) = (Vec::new(), None);
        for call in calls {
            let pick = |i: &Index| (!keys.is_empty()).then(|| keys[i.index(keys.len())]);
            let stdin = |s| if s { Input::Stdin } else { Input::Data };
            match call {
                Call::Feed(bytes) => feed_all(&mut client, &bytes),
                Call::Recv(n) => drop(client.handle_recv(n)),
                Call::Eof => client.handle_eof(),
                Call::Disconnect | Call::Shutdown => {}
                Call::Query => drop(client.query_values()),
                Call::Poll(n) => for _ in 0..n {
                    match client.poll_event() {
                        Ok(Some(_)) => {}
                        Ok(None) => break,
                        Err(e) => prop_assert_eq!(Some(e), client.error()),
                    }
                },
                Call::Advance(n) => advance(&mut client, n, &mut sent),
                Call::Begin(role, keep_conn, n) => {
                    let params = (0..n).map(|i| (format!("N{i}"), vec![b'v'; i])).collect();
                    let can = client.can_begin();
                    let key = client.begin(BeginRequest { role, keep_conn, params });
                    prop_assert_eq!(can, key.is_ok());
                    if let Ok(key) = key {
                        prop_assert!(!keys.contains(&key), "a key is used once (H-11)");
                        keys.push(key);
                    }
                }
                Call::Read(i, s, n) => if let Some(mut r) = pick(&i).and_then(|k| client.request(k)) {
                    let output = if s { Output::Stdout } else { Output::Stderr };
                    if let Poll::Ready(Some(bytes)) = r.read(output, n) {
                        prop_assert!(bytes.len() <= n);
                    }
                },
                Call::Write(i, s, n) => if let Some(mut r) = pick(&i).and_then(|k| client.request(k)) {
                    let n = n.min(200_000);
                    let mut bytes = Bytes::from(vec![7; n]);
                    match r.write(stdin(s), &mut bytes) {
                        Ok(taken) => prop_assert_eq!(taken + bytes.len(), n),
                        Err(_) => prop_assert_eq!(bytes.len(), n),
                    }
                },
                Call::Finish(i, s) => if let Some(mut r) = pick(&i).and_then(|k| client.request(k)) {
                    let _ = r.finish(stdin(s));
                },
                Call::Abort(i) => if let Some(r) = pick(&i).and_then(|k| client.request(k)) {
                    r.abort();
                },
            }
            check(&mut client, &mut error);
        }
        transmit(&mut client, usize::MAX, &mut sent);
        let (_, rest) = parse(&sent);
        prop_assert!(rest == 0 || client.error().is_some());
    }
}

// ---- What these properties found, each alone --------------------------------------------------

/// PARAMS over a limit are not counted on after their request has failed.
#[test]
fn failed_params_are_forgotten() {
    let mut server = ServerConnection::new(ServerConfig::default());
    let mut log = Log::default();
    for _ in 0..40 {
        let mut wire = begin(1, 2, 1);
        for _ in 0..5 {
            // One value over five records, past `params_bytes`.
            wire.extend(record(PARAMS, 1, &[0x80; 60_000], 0));
        }
        feed_all_observed(&mut server, &wire, &mut log);
    }
    let whole = [begin(1, 2, 1), record(PARAMS, 1, &[0; 2], 0), record(PARAMS, 1, &[], 0)].concat();
    feed_all_observed(&mut server, &whole, &mut log);
    assert!(matches!(log.seen[..], [Seen::Request(..)]), "{:?}", log.seen);
}

fn feed_all_observed(server: &mut ServerConnection, wire: &[u8], log: &mut Log) {
    let mut at = 0;
    while at < wire.len() {
        at += feed(server, &wire[at..], usize::MAX);
        server.observe(log, usize::MAX);
        transmit(server, usize::MAX, &mut log.sent);
    }
}

/// Of two limits, the one whose byte comes first decides how a request fails, at any cut.
#[test]
fn the_first_limit_decides() {
    let mut limits = Limits::server();
    (limits.params_bytes, limits.params_bytes_connection) = (100, 150);
    let wire = [
        begin(1, 1, 1),
        record(PARAMS, 1, &[&[40, 100][..], &[0; 38]].concat(), 0),
        begin(2, 1, 1),
        record(PARAMS, 2, &[&[40, 50][..], &[0; 118]].concat(), 0),
    ]
    .concat();
    let server = || ServerConnection::new(ServerConfig { limits, ..ServerConfig::default() });
    assert_eq!(run(server(), &wire, &[1], 1), run(server(), &wire, &[usize::MAX], 1));
}

/// Aborted ids stay out of use, and the others stay small (FC-3.3-7, Q-12).
#[test]
fn ids_stay_small_beside_tombstones() {
    let mut limits = Limits::client();
    limits.requests = 200;
    let mut client = ClientConnection::new(ClientConfig { limits });
    let mut set_aside = Vec::new();
    for _ in 0..10 {
        let keys: Vec<RequestKey> = (0..100)
            .map(|_| {
                let params = Params::new();
                let begin = BeginRequest { role: Role::Authorizer, keep_conn: true, params };
                client.begin(begin).unwrap()
            })
            .collect();
        for key in &keys {
            assert!(!set_aside.contains(&key.id()));
            assert!(key.id() <= 110, "{}", key.id());
        }
        let last = keys.iter().max_by_key(|key| key.id()).unwrap();
        client.request(*last).unwrap().abort();
        set_aside.push(last.id());
        for key in &keys {
            feed(&mut client, &end(key.id(), 0, 0), usize::MAX);
            while client.poll_event().unwrap().is_some() {}
        }
        discard_transmit(&mut client);
    }
    // Late second answers free them, each once.
    for id in set_aside {
        for _ in 0..2 {
            feed(&mut client, &end(id, 0, 0), usize::MAX);
            while client.poll_event().unwrap().is_some() {}
        }
    }
    let params = Params::new;
    let begin = || BeginRequest { role: Role::Authorizer, keep_conn: true, params: params() };
    let mut ids: Vec<u16> = (0..200).map(|_| client.begin(begin()).unwrap().id()).collect();
    ids.sort_unstable();
    ids.dedup();
    assert_eq!(ids.len(), 200);
}
