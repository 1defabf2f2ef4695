//! Many requests of one connection, under ids that are the peer's choice: each is found under its
//! own key and its own id, and a key of one that has ended reaches no other (H-11).

mod common;

use std::collections::BTreeMap;

use common::{END, STDIN, end, feed, finished, get, head, mux_client, rec, records, requested};
use common::{brief, reply, sent, server_with};
use fcgi_proto::{Connection, Limits, RequestKey, client::Outcome, server};

/// Ids near each other, far apart, and at both ends.
fn ids() -> Vec<u16> {
    let near = 1..200;
    let far = (1_000..60_000).step_by(997);
    near.chain(far).chain([63_999, 64_000, 65_534, u16::MAX]).collect()
}

/// The same in an order that has nothing to do with the numbers.
fn shuffled(ids: &[u16]) -> Vec<u16> {
    let mut ids = ids.to_vec();
    ids.sort_by_key(|id| id.wrapping_mul(40_503));
    ids
}

#[test]
fn a_server_finds_each_request_under_its_id() {
    let ids = ids();
    let mut limits = Limits::server();
    limits.requests = ids.len();
    let mut server = server_with(limits);
    let mut ended: Vec<RequestKey> = Vec::new();
    for turn in 0..3 {
        let mut keys = BTreeMap::new();
        for &id in &shuffled(&ids) {
            let (key, _) = requested(&feed(&mut server, head(id, 1, common::KEEP)));
            assert_eq!(key.id(), id);
            keys.insert(id, key);
        }
        assert_eq!(server.active_requests(), ids.len());
        for &key in &ended {
            assert!(server.request(key).is_none(), "turn {turn}: {key:?} has ended");
        }
        // Half of them end and begin again beside the others.
        for &id in ids.iter().step_by(2) {
            let old = keys[&id];
            reply(&mut server, old, b"x", u32::from(id));
            assert!(server.request(old).is_none());
            let (key, _) = requested(&feed(&mut server, head(id, 1, common::KEEP)));
            assert_ne!(key, old);
            keys.insert(id, key);
            ended.push(old);
        }
        // STDIN of each reaches that one.
        for (&id, &key) in &keys {
            let body = id.to_be_bytes();
            feed(&mut server, [rec(STDIN, id, &body), rec(STDIN, id, b"")].concat());
            assert!(server.request(key).unwrap().is_input_complete());
            let (read, whole) = common::read_in(&mut server, key, fcgi_proto::Input::Stdin);
            assert_eq!((&read[..], whole), (&body[..], true));
        }
        sent(&mut server);
        for &id in &shuffled(&ids) {
            reply(&mut server, keys[&id], b"x", u32::from(id));
            let wire = sent(&mut server);
            let last = records(&wire).pop().unwrap();
            assert_eq!((last.kind, last.id), (END, id));
            assert_eq!(last.content[..4], u32::from(id).to_be_bytes(), "{:?}", brief(&wire));
        }
        assert_eq!(server.active_requests(), 0);
        assert!(server.is_reusable());
        ended.extend(keys.into_values());
    }
}

#[test]
fn a_server_lets_every_request_end_with_its_connection() {
    let ids = ids();
    let mut limits = Limits::server();
    limits.requests = ids.len();
    let mut server = server_with(limits);
    for &id in &ids {
        feed(&mut server, head(id, 1, common::KEEP));
    }
    server.handle_disconnect();
    let mut aborted = Vec::new();
    while let Some(event) = server.poll_event().unwrap() {
        let server::Event::Aborted { key, .. } = event else { panic!("{event:?}") };
        aborted.push(key.id());
    }
    aborted.sort_unstable();
    assert_eq!(aborted, ids);
}

#[test]
fn a_client_finds_each_request_under_its_id() {
    let n = 300;
    let mut client = mux_client(n);
    let mut ended: Vec<RequestKey> = Vec::new();
    for _ in 0..3 {
        let keys: Vec<_> = (0..n).map(|_| get(&mut client)).collect();
        assert_eq!(client.active_requests(), n);
        for &key in &ended {
            assert!(client.request(key).is_none(), "{key:?} has ended");
        }
        sent(&mut client);
        let ids: Vec<_> = keys.iter().map(|key| key.id()).collect();
        for id in shuffled(&ids) {
            let outcome = Outcome::Complete { app_status: u32::from(id) };
            let key = *keys.iter().find(|key| key.id() == id).unwrap();
            assert_eq!(finished(&feed(&mut client, end(id, u32::from(id), 0))), [(key, outcome)]);
        }
        assert!(client.is_reusable());
        ended.extend(keys);
    }
}
