//! What the fuzz targets found, as tests.

mod kit;

use std::task::Poll;

use fcgi_proto::{
    BeginRequest, ClientConfig, ClientConnection, Connection, Input, Params, Role, ServerConfig,
    ServerConnection, UsageError, server::Event,
};
use kit::*;

#[test]
fn an_abort_of_a_request_that_has_ended_meanwhile_is_not_reported() {
    let mut server = ServerConnection::new(ServerConfig::default());
    let (first, _) = accept(&mut server, &request(1, true, b""));
    let (second, _) = accept(&mut server, &request(2, true, b""));
    server.handle_disconnect();
    assert!(matches!(server.poll_event(), Ok(Some(Event::Aborted { key, .. })) if key == first));
    finish(&mut server, second, 0);
    assert_eq!(server.poll_event(), Ok(None));
}

#[test]
fn a_closed_client_asks_for_no_values() {
    let mut client = ClientConnection::new(ClientConfig::default());
    let begin = BeginRequest { role: Role::Authorizer, keep_conn: false, params: Params::new() };
    client.begin(begin).expect("can begin");
    sent(&mut client);
    events(&mut client, &end_request(1, 0, 0)).expect("valid");
    assert!(client.is_closed());
    assert_eq!(client.query_values(), Err(UsageError::Closed));
    assert!(client.is_closed());
}

#[test]
fn what_follows_the_last_request_of_a_client_is_not_looked_at_wherever_it_is_cut() {
    for cut in [false, true] {
        let mut client = ClientConnection::new(ClientConfig::default());
        let begin =
            BeginRequest { role: Role::Authorizer, keep_conn: false, params: Params::new() };
        client.begin(begin).expect("can begin");
        sent(&mut client);
        let mut bytes = end_request(1, 0, 0);
        if !cut {
            bytes.extend(b"HTTP/1.1 200 OK\r\n");
        }
        events(&mut client, &bytes).expect("the request has ended in order");
        assert!(client.is_closed() && !client.wants_read());
        assert_eq!((client.poll_event(), client.error()), (Ok(None), None));
    }
}

#[test]
fn a_client_that_waits_for_values_is_not_closed() {
    let mut client = ClientConnection::new(ClientConfig::default());
    client.query_values().expect("can ask");
    let begin = BeginRequest { role: Role::Authorizer, keep_conn: false, params: Params::new() };
    client.begin(begin).expect("can begin");
    sent(&mut client);
    events(&mut client, &end_request(1, 0, 0)).expect("valid");
    assert!(!client.is_closed() && client.wants_read());
    events(&mut client, &[1, 10, 0, 0, 0, 0, 0, 0]).expect("an empty result");
    assert!(client.is_closed() && !client.wants_read());
}

#[test]
fn after_a_protocol_error_no_failure_of_a_request_is_told() {
    let mut server = ServerConnection::new(ServerConfig::default());
    accept(&mut server, &request(1, true, b""));
    sent(&mut server);
    events(&mut server, b"GET / HTTP/1.1\r\n\r\n").expect_err("no record");
    assert!(server.is_closed());
    server.fail_all(1);
    assert!(server.is_closed() && server.poll_transmit().is_none());
}

#[test]
fn a_client_that_looks_at_nothing_more_asks_for_no_values_though_it_still_sends() {
    let mut client = ClientConnection::new(ClientConfig::default());
    let begin = BeginRequest { role: Role::Authorizer, keep_conn: false, params: Params::new() };
    client.begin(begin).expect("can begin");
    // Its end comes before all of it was sent.
    events(&mut client, &end_request(1, 0, 0)).expect("valid");
    assert!(!client.is_closed() && !client.wants_read());
    assert_eq!(client.query_values(), Err(UsageError::Closed));
    sent(&mut client);
    assert!(client.is_closed());
}

#[test]
fn the_end_of_stdin_is_read_after_its_event_however_the_request_came() {
    let bytes = request(1, true, b"");
    for cut in [bytes.len(), 1] {
        let mut server = ServerConnection::new(ServerConfig::default());
        let mut told = Vec::new();
        for piece in bytes.chunks(cut) {
            feed(&mut server, piece, |server, event| {
                let (Event::Request { key, .. } | Event::Readable { key, .. }) = event else {
                    panic!("{event:?}");
                };
                let mut request = server.request(key).expect("active");
                told.push((request.read(Input::Stdin, 1), request.is_input_complete()));
            })
            .expect("valid");
        }
        assert_eq!(told, [(Poll::Pending, false), (Poll::Ready(None), true)], "cut by {cut}");
        assert!(server.poll_event().expect("valid").is_none() && !server.is_input_pending());
    }
}

#[test]
fn a_request_that_is_ended_before_the_end_of_its_stdin_was_told_leaves_nothing_behind() {
    let mut limits = fcgi_proto::Limits::server();
    limits.idle_records = 0;
    let mut bytes = request(1, true, b"");
    let counted: Vec<_> = [bytes.len(), 1]
        .into_iter()
        .map(|cut| {
            let mut server =
                ServerConnection::new(ServerConfig { limits, ..ServerConfig::default() });
            for piece in bytes.chunks(cut) {
                let fed = feed(&mut server, piece, |server, event| {
                    let Event::Request { key, .. } = event else { panic!("{event:?}") };
                    finish(server, key, 0);
                });
                if fed.is_err() {
                    break;
                }
            }
            server.error()
        })
        .collect();
    assert_eq!(
        counted[0], counted[1],
        "the record of a request that has ended is idle, cut or not"
    );
    assert!(counted[0].is_some());

    // Whole, and ended at once: nothing of it is still to come.
    bytes.extend(request(2, true, b""));
    let mut server = ServerConnection::new(ServerConfig::default());
    let mut keys = Vec::new();
    feed(&mut server, &bytes, |server, event| {
        let Event::Request { key, .. } = event else { panic!("{event:?}") };
        keys.push(key);
        finish(server, key, 0);
        assert!(!server.is_input_pending());
    })
    .expect("valid");
    assert_eq!(keys.len(), 2);
    assert!(server.is_between_records());
}
