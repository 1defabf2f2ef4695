//! What is written is read.

use bytes::Bytes;
use fcgi_proto::{
    BeginRequest, ClientConfig, ClientConnection, Connection, Input, Output, Params, Rejection,
    Role, ServerConfig, ServerConnection, client,
    pairs::{self, PairDecoder, PairPiece},
    record::{BeginRequestBody, EndRequestBody, RecordHeader, RecordType},
    server,
};
use proptest::{collection::vec, prelude::*};

use crate::{conversations::*, log::*, support::*};

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

/// A change of parameters.
#[derive(Clone, Debug)]
enum Change {
    Push(&'static str, Vec<u8>),
    /// Appends what there was after so many changes.
    Append(usize),
    Share,
    /// Sends them to a server, and goes on with what it got.
    Receive,
}

fn change() -> impl Strategy<Value = Change> {
    let name = prop::sample::select(vec!["CONTENT_LENGTH", "CONTENT_LENGTX", "N", ""]);
    prop_oneof![
        6 => (name, vec(any::<u8>(), 0..200)).prop_map(|(name, value)| Change::Push(name, value)),
        2 => (0usize..8).prop_map(Change::Append),
        2 => Just(Change::Share),
        1 => Just(Change::Receive),
    ]
}

fn received(params: &Params) -> Params {
    let mut client = ClientConnection::new(ClientConfig::default());
    let begin = BeginRequest { role: Role::Authorizer, keep_conn: true, params: params.clone() };
    client.begin(begin).unwrap();
    let (mut server, mut wire) = (ServerConnection::new(ServerConfig::default()), Vec::new());
    transmit(&mut client, usize::MAX, &mut wire);
    let mut rest = &wire[..];
    while !rest.is_empty() {
        rest = &rest[feed(&mut server, rest, usize::MAX)..];
        while let Some(event) = server.poll_event().unwrap() {
            if let server::Event::Request { params, .. } = event {
                return params;
            }
        }
    }
    panic!("no request came out")
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

    /// Shared, appended or received: the pairs are those that were put in, and what others hold
    /// stays as it is.
    #[test]
    fn params_are_what_was_put_in(changes in vec(change(), 0..20)) {
        type Pairs = Vec<(Vec<u8>, Vec<u8>)>;
        let mut states: Vec<(Params, Pairs)> = vec![Default::default()];
        for change in changes {
            let (mut params, mut pairs) = states.last().unwrap().clone();
            match change {
                Change::Push(name, value) => {
                    params.push(name, &value);
                    pairs.push((name.into(), value));
                }
                Change::Append(at) if params.encoded_len() < 4096 => {
                    let (other, others) = &states[at % states.len()];
                    params.append(other);
                    pairs.extend(others.iter().cloned());
                }
                Change::Append(_) => {}
                Change::Share => params = params.shared(),
                Change::Receive => params = received(&params),
            }
            states.push((params, pairs));
        }
        for (params, pairs) in &states {
            let put_in = pairs.iter().map(|(name, value)| (&name[..], &value[..]));
            prop_assert!(params.iter().eq(put_in.clone()));
            prop_assert_eq!(params.len(), pairs.len());
            for name in ["CONTENT_LENGTH", "CONTENT_LENGTX", "N", "", "other"] {
                let last = put_in.clone().rfind(|(known, _)| *known == name.as_bytes());
                prop_assert_eq!(params.get(name), last.map(|(_, value)| value));
            }
        }
    }

    /// A request without a body that begins and ends in one step is the same as one in several.
    #[test]
    fn without_body(
        role in prop::sample::select(vec![Role::Responder, Role::Authorizer, Role::Filter]),
        keep_conn: bool,
        params in any_params(),
        large in any::<bool>(),
    ) {
        let mut params: Params = params.into_iter().collect();
        if large {
            params.push("LARGE", vec![b'x'; 70_000]);
        }
        let begin = BeginRequest { role, keep_conn, params };
        let mut clients = [(); 2].map(|()| ClientConnection::new(ClientConfig::default()));
        let mut keys = Vec::new();
        let mut wires = [Vec::new(), Vec::new()];
        for (at, client) in clients.iter_mut().enumerate() {
            let key = if at == 0 {
                client.begin_without_body(&begin).unwrap()
            } else {
                let key = client.begin(&begin).unwrap();
                for input in [Input::Stdin, Input::Data] {
                    if role.has_input(input) {
                        client.request(key).unwrap().finish(input).unwrap();
                    }
                }
                key
            };
            for input in [Input::Stdin, Input::Data] {
                prop_assert!(client.request(key).unwrap().finish(input).is_err());
            }
            transmit(client, usize::MAX, &mut wires[at]);
            prop_assert!(!client.is_reusable());
            let answer = end(1, 7, 0);
            prop_assert_eq!(feed(client, &answer, usize::MAX), answer.len());
            let event = client.poll_event().unwrap();
            let outcome = client::Outcome::Complete { app_status: 7 };
            prop_assert_eq!(event, Some(client::Event::Finished { key, outcome }));
            prop_assert_eq!(client.poll_event(), Ok(None));
            prop_assert_eq!(client.is_reusable(), keep_conn);
            keys.push(key);
        }
        prop_assert_eq!(&wires[0], &wires[1]);
        prop_assert_eq!(keys[0], keys[1]);
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
