//! What these properties have found, each alone.

use fcgi_proto::{
    BeginRequest, ClientConfig, ClientConnection, Connection, Limits, Params, RequestKey, Role,
    ServerConfig, ServerConnection,
};

use crate::{log::*, support::*};

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
