//! Any calls in any order: nothing panics, and the getters agree.

use std::task::Poll;

use bytes::{Buf, Bytes};
use fcgi_proto::{
    BeginRequest, Connection, Input, Limits, Output, ProtocolError, Rejection, RequestKey, Role,
    ServerConfig, ServerConnection, server,
};
use proptest::{collection::vec, prelude::*, sample::Index};

use crate::{conversations::*, log::*, support::*};

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
