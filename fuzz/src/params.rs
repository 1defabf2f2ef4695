//! `params`: name-value pairs and PARAMS streams, against a plain decoder.

use arbitrary::{Result, Unstructured};
use fcgi_proto::{
    BeginRequest, ClientConfig, ClientConnection, Connection, Limits, Params, ProtocolError,
    ProtocolErrorKind, Role, ServerConfig, ServerConnection,
    pairs::{self, PairDecoder, PairPiece},
    server::Event,
};

use crate::{
    checked::Checked,
    heap::{self, Owner},
    input::{self, Cuts},
    wire::{self, kind},
};

/// Runs one input: `[n] [n bytes that steer] [the stream]`.
pub fn run(data: &[u8]) {
    heap::reset();
    let Some((n, rest)) = data.split_first() else { return };
    if let Some((steer, stream)) = rest.split_at_checked(usize::from(*n)) {
        let _ = all(&mut Unstructured::new(steer), stream);
    }
}

fn all(steer: &mut Unstructured<'_>, stream: &[u8]) -> Result<()> {
    let mut records = Cuts::new(steer)?.suit(stream.len());
    let mut cuts = Cuts::new(steer)?.suit(stream.len());
    let limits = input::limits(steer, Limits::server())?;
    decoder(stream, &mut cuts);
    server(stream, &mut records, &mut cuts, limits);
    round_trip(stream, &mut cuts);
    Ok(())
}

/// The decoder agrees with the plain one, at any cut.
fn decoder(stream: &[u8], cuts: &mut Cuts) {
    let mut decoder = PairDecoder::new();
    let mut found: Vec<(Vec<u8>, Vec<u8>, u32, u32)> = Vec::new();
    let mut at = 0;
    while at < stream.len() {
        let end = (at + cuts.size()).min(stream.len());
        let mut input = &stream[at..end];
        loop {
            let (used, piece) = decoder.next(input);
            input = &input[used..];
            match (piece, found.last_mut()) {
                (None, _) => {
                    assert!(input.is_empty(), "None with bytes left");
                    break;
                }
                (Some(PairPiece::Lengths { name, value }), _) => {
                    found.push((Vec::new(), Vec::new(), name, value));
                }
                (Some(PairPiece::Name(bytes)), Some(pair)) => pair.0.extend_from_slice(bytes),
                (Some(PairPiece::Value(bytes)), Some(pair)) => {
                    assert_eq!(pair.0.len(), pair.2 as usize, "a value before its name");
                    pair.1.extend_from_slice(bytes);
                }
                (Some(_), None) => panic!("a piece before its lengths"),
            }
        }
        at = end;
    }
    let last_is_whole = found
        .last()
        .is_none_or(|(n, v, nl, vl)| (n.len(), v.len()) == (*nl as usize, *vl as usize));
    match wire::pairs(stream) {
        Some(expected) => {
            assert!(decoder.is_at_boundary() && last_is_whole);
            assert_eq!(found.into_iter().map(|(n, v, ..)| (n, v)).collect::<Vec<_>>(), expected);
        }
        None => assert!(!decoder.is_at_boundary(), "whole, and cut by the plain decoder"),
    }
}

/// How a PARAMS stream should end: with the pairs, or with a failed request.
fn expected(stream: &[u8], limits: &Limits) -> Option<Vec<(Vec<u8>, Vec<u8>)>> {
    let all = wire::pairs(stream)?;
    (stream.len() <= limits.params_bytes.min(limits.params_bytes_connection)
        && all.len() <= limits.params_pairs)
        .then_some(all)
}

/// A server that gets the stream in records reports the request or refuses it.
fn server(stream: &[u8], records: &mut Cuts, cuts: &mut Cuts, limits: Limits) {
    if limits.requests == 0 {
        return;
    }
    let mut bytes = wire::record(kind::BEGIN, 1, &[0, 1, 1, 0, 0, 0, 0, 0], 0);
    let mut rest = stream;
    while !rest.is_empty() {
        let n = records.size().min(rest.len()).min(65_535);
        bytes.extend(wire::record(kind::PARAMS, 1, &rest[..n], (n % 9) as u8));
        rest = &rest[n..];
    }
    bytes.extend(wire::record(kind::PARAMS, 1, &[], 0));

    let config = ServerConfig { limits, ..ServerConfig::default() };
    let mut conn = Checked::new(Owner::Server, limits, || ServerConnection::new(config));
    conn.requests = 1;
    let mut request = None;
    let mut at = 0;
    loop {
        loop {
            let event = match conn.poll() {
                Ok(None) => break,
                Ok(Some(event)) => event,
                // Small records, and those of a request that failed, have budgets.
                Err(ProtocolError { kind: ProtocolErrorKind::RecordFlood(n), .. }) => {
                    assert!(n == limits.tiny_records || n == limits.idle_records);
                    return;
                }
                Err(error) => panic!("{error}"),
            };
            let Event::Request { params, .. } = event else { panic!("{event:?}") };
            assert!(request.replace(params).is_none());
        }
        if !conn.transmit(usize::MAX).is_empty() {
            continue;
        }
        if at == bytes.len() {
            break;
        }
        let n = conn.feed(&bytes[at..(at + cuts.size()).min(bytes.len())]);
        assert!(n > 0, "paused for ever");
        at += n;
    }
    match (expected(stream, &limits), request) {
        (Some(pairs), Some(params)) => {
            let want = pairs.iter().map(|(name, value)| (&name[..], &value[..]));
            assert!(params.iter().eq(want));
            assert_eq!(params.len(), pairs.len());
            for (name, _) in pairs.iter().take(8) {
                let last = pairs.iter().rev().find(|(n, _)| n == name);
                assert_eq!(params.get(name), last.map(|(_, value)| &value[..]));
            }
            assert!(conn.sent.log.is_empty());
        }
        (None, None) => {
            let (kind, id, body) = conn.sent.log.last().expect("END_REQUEST");
            assert_eq!((*kind, *id, body.len()), (wire::kind::END, 1, 8));
            assert!(conn.get().is_reusable());
        }
        (want, got) => panic!("{want:?} was sent, {got:?} came"),
    }
}

/// The encoding is the shortest form, in records of whole pairs, and decodes to the same.
fn round_trip(stream: &[u8], cuts: &mut Cuts) {
    // Names and values of any bytes, of the sizes that cut the stream.
    let mut params = Params::new();
    let mut want = Vec::new();
    let mut rest = stream;
    while !rest.is_empty() && params.len() < 300 {
        let (name, value) = (cuts.size() % 300, cuts.size());
        let (name, after) = rest.split_at(name.min(rest.len()));
        let (value, after) = after.split_at(value.min(after.len()));
        params.push(name, value);
        let before = want.len();
        pairs::encode(name, value, &mut want).expect("short");
        assert_eq!(want[before..], wire::pair(name, value));
        assert_eq!(want.len() - before, pairs::encoded_len(name.len(), value.len()));
        if after.len() == rest.len() {
            break;
        }
        rest = after;
    }
    assert_eq!(params.encoded_len(), want.len());

    let config = ClientConfig::default();
    let mut conn = Checked::new(Owner::Client, config.limits, || ClientConnection::new(config));
    conn.requests = 1 + want.len() / crate::checked::BEGIN_MOST;
    let request = BeginRequest { role: Role::Authorizer, keep_conn: true, params: params.clone() };
    conn.call(want.len() + 64, |conn| conn.begin(request)).expect("a new connection");
    while !conn.transmit(cuts.size()).is_empty() {}
    let sent: Vec<u8> = conn
        .sent
        .log
        .iter()
        .filter(|(kind, ..)| *kind == wire::kind::PARAMS)
        .flat_map(|(.., content)| content.iter().copied())
        .collect();
    assert!(sent == want, "PARAMS");
    let decoded = wire::pairs(&sent).expect("whole pairs");
    assert!(params.iter().eq(decoded.iter().map(|(name, value)| (&name[..], &value[..]))));
}
