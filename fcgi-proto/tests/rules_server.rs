//! The application's end: which records answer which (FC-3.5 to FC-7-1), what sits in front of it
//! (W), and what a hostile peer may not do (H). Each test names its rule.
#![allow(missing_docs)]
mod common;

use bytes::Bytes;
use common::*;
use fcgi_proto::{
    Connection, FullRequest, Input, Limits, Output, ProtocolErrorKind as Kind, Rejection, Role,
    Roles, ServerConfig, ServerConnection, UsageError, Values,
    server::{AbortReason, Event},
};
use std::task::Poll;

const NOTHING: &[u8] = b"";

#[test]
fn fc_3_5_1_without_keep_conn_the_app_closes_after_end_request() {
    let mut server = server();
    let (key, _) = requested(&feed(&mut server, post(1, 0, b"")));
    assert!(!server.is_closed());
    reply(&mut server, key, b"hi", 0);
    assert!(!server.is_closed(), "the answer is not sent yet");
    assert!(!sent(&mut server).is_empty());
    assert!(server.is_closed() && !server.is_reusable() && !server.wants_read());
}

#[test]
fn fc_3_5_1_with_keep_conn_the_connection_stays() {
    let mut server = server();
    for _ in 0..3 {
        let (key, _) = requested(&feed(&mut server, post(1, KEEP, b"x")));
        assert!(!server.is_reusable());
        reply(&mut server, key, b"hi", 0);
        sent(&mut server);
        assert!(server.is_reusable() && !server.is_closed() && server.wants_read());
    }
}

#[test]
fn fc_3_5_2_a_half_close_after_the_request_still_gets_the_response() {
    let mut server = server();
    let (key, _) = requested(&feed(&mut server, post(1, KEEP, b"x")));
    server.handle_eof();
    assert_eq!(feed(&mut server, NOTHING), []);
    reply(&mut server, key, b"hi", 0);
    assert_eq!(records(&sent(&mut server)).len(), 3);
    assert!(server.is_closed());
}

#[test]
fn fc_3_5_2_w_8_an_end_inside_a_request_aborts_it() {
    for wire in [head(1, 1, KEEP), [head(1, 1, KEEP), rec(STDIN, 1, b"x")].concat()] {
        let mut server = server();
        let (key, _) = requested(&feed(&mut server, wire));
        server.handle_eof();
        let reason = AbortReason::Disconnected;
        assert_eq!(feed(&mut server, NOTHING), [Event::Aborted { key, reason }]);
        assert!(!server.is_closed(), "the application has not answered");
        server.request(key).unwrap().finish(1).unwrap();
        sent(&mut server);
        assert!(server.is_closed());
    }
    let mut server = server();
    feed(&mut server, begin(1, 1, KEEP));
    server.handle_eof();
    assert_eq!(feed(&mut server, NOTHING), [], "the application never saw it");
    assert!(server.is_closed());
}

#[test]
fn w_7_w_8_a_peer_that_is_gone_aborts_everything_and_gets_nothing() {
    let mut server = server();
    let (key, _) = requested(&feed(&mut server, post(1, KEEP, b"x")));
    let mut request = server.request(key).unwrap();
    request.write(Output::Stdout, &mut Bytes::from_static(b"lost")).unwrap();
    server.handle_disconnect();
    let reason = AbortReason::Disconnected;
    assert_eq!(feed(&mut server, NOTHING), [Event::Aborted { key, reason }]);
    let mut request = server.request(key).unwrap();
    let more = request.write(Output::Stdout, &mut Bytes::from_static(b"lost too"));
    assert_eq!(more, Err(UsageError::Closed));
    request.finish(0).unwrap();
    assert!(server.poll_transmit().is_none());
    assert!(server.is_closed());
}

fn values_server(requests: usize) -> ServerConnection {
    let mut limits = Limits::server();
    limits.requests = requests;
    let values = Values { max_conns: Some(40), max_reqs: Some(4000), mpxs_conns: None };
    ServerConnection::new(ServerConfig { limits, values, ..ServerConfig::default() })
}

fn ask(names: &[&[u8]]) -> Vec<u8> {
    let content: Vec<u8> = names.iter().flat_map(|name| pair(name, b"ignored")).collect();
    rec(GET_VALUES, 0, &content)
}

#[test]
fn fc_4_1_1_get_values_is_answered_at_any_time() {
    let query = ask(&[b"FCGI_MAX_REQS", b"FCGI_NO_SUCH_THING", b"FCGI_MAX_CONNS"]);
    let answer = [pair(b"FCGI_MAX_CONNS", b"40"), pair(b"FCGI_MAX_REQS", b"4000")].concat();
    let mut server = values_server(1);
    for before in [vec![], begin(1, 1, KEEP), rec(PARAMS, 1, NOTHING), rec(STDIN, 1, b"x")] {
        feed(&mut server, before);
        assert_eq!(feed(&mut server, &query), []);
        assert_eq!(brief(&sent(&mut server)), [(GET_VALUES_RESULT, 0, answer.clone())]);
    }
}

#[test]
fn fc_4_1_1_an_empty_or_unknown_query_gets_an_empty_result() {
    for query in [rec(GET_VALUES, 0, NOTHING), ask(&[b"FCGI_NO_SUCH_THING"]), ask(&[b""])] {
        let mut server = values_server(1);
        feed(&mut server, query);
        assert_eq!(brief(&sent(&mut server)), [(GET_VALUES_RESULT, 0, vec![])]);
    }
}

#[test]
fn fc_4_1_2_the_values_are_those_of_the_configuration() {
    let query = ask(&[b"FCGI_MAX_CONNS", b"FCGI_MPXS_CONNS"]);
    for (requests, mpxs) in [(1, b"0"), (2, b"1")] {
        let mut server = values_server(requests);
        feed(&mut server, &query);
        let expected = [pair(b"FCGI_MAX_CONNS", b"40"), pair(b"FCGI_MPXS_CONNS", mpxs)].concat();
        assert_eq!(brief(&sent(&mut server)), [(GET_VALUES_RESULT, 0, expected)]);
    }
    let mut server = server();
    feed(&mut server, &query);
    let expected = pair(b"FCGI_MPXS_CONNS", b"1");
    assert_eq!(brief(&sent(&mut server)), [(GET_VALUES_RESULT, 0, expected)], "what is known");
}

#[test]
fn h_2_a_name_asked_for_often_is_answered_once() {
    let mut server = values_server(1);
    feed(&mut server, ask(&[&b"FCGI_MAX_CONNS"[..]; 2000]));
    let expected = pair(b"FCGI_MAX_CONNS", b"40");
    assert_eq!(brief(&sent(&mut server)), [(GET_VALUES_RESULT, 0, expected)]);
}

#[test]
fn fc_4_2_1_unknown_management_types_get_unknown_type() {
    let mut server = server();
    for before in [vec![], begin(1, 1, KEEP)] {
        feed(&mut server, before);
        for kind in [0, 12, 255] {
            assert_eq!(feed(&mut server, rec(kind, 0, b"some content")), []);
            let expected = vec![kind, 0, 0, 0, 0, 0, 0, 0];
            assert_eq!(brief(&sent(&mut server)), [(UNKNOWN_TYPE, 0, expected)]);
        }
    }
}

#[test]
fn fc_5_1_1_fc_5_1_2_begin_request_names_role_and_flags() {
    for (number, expected) in [(1, Role::Responder), (2, Role::Authorizer), (3, Role::Filter)] {
        for flags in [0, KEEP] {
            let events = feed(&mut server(), head(1, number, flags));
            let [Event::Request { role, keep_conn, .. }] = events[..] else { panic!("{events:?}") };
            assert_eq!((role, keep_conn), (expected, flags == KEEP));
        }
    }
}

#[test]
fn fc_5_1_2_other_roles_get_unknown_role_and_the_connection_goes_on() {
    for role in [0, 4, 0x0101, u16::MAX] {
        let mut server = server();
        let wire = [head(1, role, KEEP), rec(STDIN, 1, b"x"), rec(STDIN, 1, NOTHING)].concat();
        assert_eq!(feed(&mut server, wire), []);
        assert_eq!(brief(&sent(&mut server)), [(END, 1, ended(0, 3))]);
        requested(&feed(&mut server, post(1, KEEP, NOTHING)));
    }
}

#[test]
fn fc_5_1_2_a_role_that_is_not_offered_gets_unknown_role() {
    let roles = Roles::of(Role::Authorizer).and(Role::Filter);
    let config = ServerConfig { roles, rejection_body: false, ..ServerConfig::default() };
    let mut server = ServerConnection::new(config);
    assert_eq!(feed(&mut server, post(1, KEEP, NOTHING)), []);
    assert_eq!(brief(&sent(&mut server)), [(END, 1, ended(0, 3))]);
    requested(&feed(&mut server, head(1, 2, KEEP)));
}

#[test]
fn fc_5_4_1_abort_reaches_the_application_which_answers() {
    for wire in [head(1, 1, KEEP), post(1, KEEP, b"body"), head(1, 2, KEEP)] {
        let mut server = server();
        let (key, _) = requested(&feed(&mut server, wire));
        let reason = AbortReason::Requested;
        let aborted = feed(&mut server, rec(ABORT, 1, NOTHING));
        assert_eq!(aborted, [Event::Aborted { key, reason }]);
        assert_eq!(feed(&mut server, rec(ABORT, 1, NOTHING)), [], "once");
        assert_eq!(sent(&mut server), NOTHING, "it is the application's to answer");
        let mut request = server.request(key).unwrap();
        assert!(request.is_aborted());
        assert_eq!(request.read(Input::Stdin, 10), Poll::Ready(None));
        request.finish(9).unwrap();
        let answer = [(STDOUT, 1, vec![]), (END, 1, ended(9, 0))];
        assert_eq!(brief(&sent(&mut server)), answer);
        assert!(server.is_reusable());
    }
}

#[test]
fn fc_5_4_1_abort_before_the_end_of_params_is_answered_by_the_library() {
    let mut server = server();
    let wire = [begin(1, 1, KEEP), rec(PARAMS, 1, &pair(b"N", b"V")), rec(ABORT, 1, NOTHING)];
    assert_eq!(feed(&mut server, wire.concat()), []);
    assert_eq!(brief(&sent(&mut server)), [(STDOUT, 1, vec![]), (END, 1, ended(1, 0))]);
    assert_eq!(feed(&mut server, rec(ABORT, 1, NOTHING)), [], "an inactive id");
    assert!(server.is_reusable());
}

#[test]
fn fc_5_5_1_end_request_carries_both_statuses() {
    let mut server = server();
    let (key, _) = requested(&feed(&mut server, head(1, 2, KEEP)));
    server.request(key).unwrap().finish(0x0102_0304).unwrap();
    assert_eq!(records(&sent(&mut server))[1].content, [1, 2, 3, 4, 0, 0, 0, 0]);
    for rejection in [Rejection::CantMpxConn, Rejection::Overloaded, Rejection::UnknownRole] {
        let (key, _) = requested(&feed(&mut server, head(1, 2, KEEP)));
        server.request(key).unwrap().reject(rejection).unwrap();
        let expected = [(END, 1, ended(0, rejection.as_u8()))];
        assert_eq!(brief(&sent(&mut server)), expected);
        assert_eq!(Rejection::from_u8(rejection.as_u8()), Some(rejection));
    }
    assert_eq!([0, 4, 255].map(Rejection::from_u8), [None; 3]);
}

#[test]
fn fc_5_5_2_a_request_past_the_limit_is_refused() {
    for (requests, status) in [(1, 1), (3, 2)] {
        let mut limits = Limits::server();
        limits.requests = requests;
        let mut server = server_with(limits);
        for id in 1..=requests as u16 {
            requested(&feed(&mut server, head(id, 1, KEEP)));
        }
        assert_eq!(feed(&mut server, post(99, KEEP, b"dropped")), []);
        let last = brief(&sent(&mut server)).pop();
        assert_eq!(last, Some((END, 99, ended(0, status))));
        assert_eq!(server.active_requests(), requests);
    }
}

#[test]
fn w_2_a_refused_responder_gets_a_503_page_that_can_be_switched_off() {
    for (rejection_body, role, page) in [(true, 1, true), (false, 1, false), (true, 2, false)] {
        let config = ServerConfig { rejection_body, ..ServerConfig::default() };
        let mut server = ServerConnection::new(config);
        let (key, _) = requested(&feed(&mut server, head(1, role, KEEP)));
        server.request(key).unwrap().reject(Rejection::Overloaded).unwrap();
        match (&brief(&sent(&mut server))[..], page) {
            ([(STDOUT, 1, text), (STDOUT, 1, close), (END, 1, end)], true) => {
                assert!(text.starts_with(b"Status: 503 ") && close.is_empty());
                assert_eq!(*end, ended(0, 2));
            }
            ([(END, 1, end)], false) => assert_eq!(*end, ended(0, 2)),
            (other, _) => panic!("{other:?}"),
        }
    }
    let mut server = server();
    let (key, _) = requested(&feed(&mut server, head(1, 1, KEEP)));
    let mut request = server.request(key).unwrap();
    request.write(Output::Stdout, &mut Bytes::from_static(b"half")).unwrap();
    request.reject(Rejection::Overloaded).unwrap();
    let expected = [(STDOUT, 1, b"half".to_vec()), (STDOUT, 1, vec![]), (END, 1, ended(0, 2))];
    assert_eq!(brief(&sent(&mut server)), expected, "no page behind what was written");
}

#[test]
fn fc_6_1_1_stdout_is_closed_even_when_empty_and_stderr_when_used() {
    for stderr in [false, true] {
        let mut server = server();
        let (key, _) = requested(&feed(&mut server, post(1, KEEP, NOTHING)));
        let mut request = server.request(key).unwrap();
        if stderr {
            request.write(Output::Stderr, &mut Bytes::from_static(b"!")).unwrap();
        }
        request.finish(0).unwrap();
        let mut expected = vec![(STDOUT, 1, vec![]), (END, 1, ended(0, 0))];
        if stderr {
            expected.insert(0, (STDERR, 1, b"!".to_vec()));
            expected.insert(2, (STDERR, 1, vec![]));
        }
        assert_eq!(brief(&sent(&mut server)), expected);
    }
}

#[test]
fn fc_6_1_2_stdout_and_stderr_interleave_in_the_order_written() {
    let mut server = server();
    let (key, _) = requested(&feed(&mut server, post(1, KEEP, NOTHING)));
    let mut request = server.request(key).unwrap();
    for (output, text) in [(Output::Stdout, "a"), (Output::Stderr, "b"), (Output::Stdout, "c")] {
        request.write(output, &mut Bytes::from_static(text.as_bytes())).unwrap();
    }
    let expected =
        [(STDOUT, 1, b"a".to_vec()), (STDERR, 1, b"b".to_vec()), (STDOUT, 1, b"c".to_vec())];
    assert_eq!(brief(&sent(&mut server)), expected);
}

#[test]
fn w_1_small_first_writes_share_one_stdout_record() {
    let mut server = server();
    let (key, _) = requested(&feed(&mut server, post(1, KEEP, NOTHING)));
    let mut request = server.request(key).unwrap();
    for line in ["Status: 200 OK\r\n", "Content-Type: text/plain\r\n", "\r\n", "body"] {
        request.write(Output::Stdout, &mut Bytes::from_static(line.as_bytes())).unwrap();
    }
    let records = records(&sent(&mut server));
    assert_eq!(records.len(), 1);
    assert!(records[0].content.ends_with(b"plain\r\n\r\nbody"));
}

#[test]
fn w_1_a_large_head_written_at_once_is_one_record() {
    let mut server = server();
    let (key, _) = requested(&feed(&mut server, post(1, KEEP, NOTHING)));
    let mut head = Bytes::from(vec![b'h'; 60_000]);
    server.request(key).unwrap().write(Output::Stdout, &mut head).unwrap();
    assert_eq!(records(&sent(&mut server))[0].content.len(), 60_000);
}

#[test]
fn fc_6_2_1_output_may_start_before_stdin_is_read() {
    let mut server = server();
    let (key, _) = requested(&feed(&mut server, head(1, 1, KEEP)));
    let mut request = server.request(key).unwrap();
    assert!(!request.is_input_complete());
    assert_eq!(request.write(Output::Stdout, &mut Bytes::from_static(b"early")), Ok(5));
    assert_eq!(brief(&sent(&mut server)), [(STDOUT, 1, b"early".to_vec())]);
    feed(&mut server, [rec(STDIN, 1, b"in"), rec(STDIN, 1, NOTHING)].concat());
    assert!(server.request(key).unwrap().is_input_complete());
    assert_eq!(read_in(&mut server, key, Input::Stdin), (b"in".to_vec(), true));
}

#[test]
fn fc_6_2_1_stdin_that_comes_after_end_request_is_dropped() {
    let mut server = server();
    let (key, _) = requested(&feed(&mut server, head(1, 1, KEEP)));
    feed(&mut server, rec(STDIN, 1, b"unread"));
    reply(&mut server, key, b"done", 0);
    sent(&mut server);
    assert!(server.is_input_pending());
    assert_eq!(feed(&mut server, [rec(STDIN, 1, b"late"), rec(STDIN, 1, NOTHING)].concat()), []);
    let (key, _) = requested(&feed(&mut server, post(1, KEEP, b"own")));
    assert_eq!(read_in(&mut server, key, Input::Stdin), (b"own".to_vec(), true));
}

#[test]
fn fc_6_2_1_params_may_end_after_stdin_has_begun() {
    let mut server = server();
    let wire = [begin(1, 1, KEEP), rec(STDIN, 1, b"in"), rec(STDIN, 1, NOTHING)].concat();
    assert_eq!(feed(&mut server, wire), []);
    let (key, _) = requested(&feed(&mut server, rec(PARAMS, 1, NOTHING)));
    assert!(server.request(key).unwrap().is_input_complete());
    assert_eq!(read_in(&mut server, key, Input::Stdin), (b"in".to_vec(), true));
}

#[test]
fn h_12_input_that_nobody_can_read_yet_is_refused_at_the_limit() {
    let mut limits = Limits::server();
    (limits.unread_request, limits.unread_connection) = (1000, 1500);
    let mut server = server_with(limits);
    feed(&mut server, [begin(1, 1, KEEP), rec(STDIN, 1, &[b'x'; 3000])].concat());
    assert_eq!(brief(&sent(&mut server)).pop(), Some((END, 1, ended(0, 2))));
    for id in [2, 3] {
        feed(&mut server, [begin(id, 1, KEEP), rec(STDIN, id, &[b'x'; 900])].concat());
    }
    assert_eq!(brief(&sent(&mut server)).pop(), Some((END, 3, ended(0, 2))));
    let (key, _) = requested(&feed(&mut server, rec(PARAMS, 2, NOTHING)));
    assert_eq!(read_in(&mut server, key, Input::Stdin).0.len(), 900);
}

#[test]
fn fc_6_3_1_an_authorizer_has_no_stdin_and_what_is_sent_of_one_is_skipped() {
    let mut server = server();
    let (key, _) = requested(&feed(&mut server, head(1, 2, KEEP)));
    let mut request = server.request(key).unwrap();
    assert!(request.is_input_complete());
    assert_eq!(request.read(Input::Stdin, 1), Poll::Ready(None));
    assert_eq!(feed(&mut server, rec(STDIN, 1, NOTHING)), []);
    // The body of the client, as some web servers send it: before the answer, and after.
    let body = [rec(STDIN, 1, b"a client's body"), rec(STDIN, 1, NOTHING)].concat();
    assert_eq!(feed(&mut server, &body), []);
    assert_eq!(server.request(key).unwrap().read(Input::Stdin, 1), Poll::Ready(None));
    reply(&mut server, key, b"Status: 200\r\n\r\n", 0);
    assert_eq!(feed(&mut server, &body), []);
    let (key, _) = requested(&feed(&mut server, post(1, KEEP, b"next")));
    assert_eq!(read_in(&mut server, key, Input::Stdin).0, b"next");
}

#[test]
fn q_21_streams_that_a_role_does_not_have_come_out_of_a_budget() {
    let mut limits = Limits::server();
    limits.stray_bytes = 100_000;
    for (role, stream) in [(2, STDIN), (2, DATA), (1, DATA)] {
        let mut server = server_with(limits);
        for id in 1..=3 {
            // The start of a request cancels what was stray before.
            feed(&mut server, [head(id, role, KEEP), rec(stream, id, &[b'x'; 60_000])].concat());
        }
        let expected = Kind::StrayBytes(100_000);
        assert_eq!(feed_bad(&mut server, rec(stream, 3, &[b'x'; 60_000])), expected);
    }
}

#[test]
fn fc_6_4_1_a_filter_has_params_stdin_and_data() {
    let mut server = server();
    let (key, _) = requested(&feed(&mut server, head(1, 3, KEEP)));
    feed(&mut server, [rec(STDIN, 1, b"in"), rec(STDIN, 1, NOTHING)].concat());
    assert!(!server.request(key).unwrap().is_input_complete());
    reply(&mut server, key, b"output starts here", 0);
    let (key, _) = requested(&feed(&mut server, head(2, 3, KEEP)));
    feed(&mut server, [rec(STDIN, 2, NOTHING), rec(DATA, 2, b"file"), rec(DATA, 2, b"")].concat());
    assert!(server.request(key).unwrap().is_input_complete());
    assert_eq!(read_in(&mut server, key, Input::Stdin), (vec![], true));
    assert_eq!(read_in(&mut server, key, Input::Data), (b"file".to_vec(), true));

    let responder = [head(3, 1, KEEP), rec(DATA, 3, b"file"), rec(STDIN, 3, b"in")].concat();
    let (key, _) = requested(&feed(&mut server, responder));
    assert_eq!(read_in(&mut server, key, Input::Stdin).0, b"in");
}

#[test]
fn fc_6_4_1_data_that_ends_first_does_not_end_stdin() {
    let mut server = server();
    let (key, _) = requested(&feed(&mut server, head(1, 3, KEEP)));
    feed(&mut server, rec(DATA, 1, NOTHING));
    assert!(!server.request(key).unwrap().is_input_complete());
    server.handle_eof();
    let reason = AbortReason::Disconnected;
    assert_eq!(feed(&mut server, NOTHING), [Event::Aborted { key, reason }]);
}

#[test]
fn fc_7_1_shutdown_finishes_what_runs_and_refuses_the_rest() {
    let mut server = server();
    let (key, _) = requested(&feed(&mut server, head(1, 1, KEEP)));
    server.shutdown();
    assert!(!server.is_closed() && !server.is_reusable());
    assert_eq!(feed(&mut server, post(2, KEEP, NOTHING)), []);
    assert_eq!(brief(&sent(&mut server)).pop(), Some((END, 2, ended(0, 2))));
    feed(&mut server, [rec(STDIN, 1, b"x"), rec(STDIN, 1, NOTHING)].concat());
    assert_eq!(read_in(&mut server, key, Input::Stdin), (b"x".to_vec(), true));
    reply(&mut server, key, b"done", 0);
    assert!(!server.is_closed());
    sent(&mut server);
    assert!(server.is_closed());

    let mut idle = common::server();
    idle.shutdown();
    assert!(idle.is_closed() && !idle.wants_read());
}

#[test]
fn w_10_a_body_of_undeclared_length_is_read_to_its_end() {
    let mut server = server();
    let (key, params) = requested(&feed(&mut server, post(1, KEEP, b"chunked")));
    assert_eq!(params.get("CONTENT_LENGTH"), None);
    assert_eq!(read_in(&mut server, key, Input::Stdin), (b"chunked".to_vec(), true));
}

#[test]
fn h_9_records_that_bring_nothing_have_a_budget() {
    let mut limits = Limits::server();
    (limits.idle_records, limits.tiny_records) = (100, 1000);
    let floods: [(Vec<u8>, Kind); 5] = [
        (rec(STDIN, 9, NOTHING), Kind::RecordFlood(100)),
        (rec(99, 1, b"1234567"), Kind::RecordFlood(100)),
        (rec(STDIN, 1, b"x"), Kind::RecordFlood(1000)),
        ([begin(2, 1, KEEP), rec(ABORT, 2, NOTHING)].concat(), Kind::RecordFlood(100)),
        (
            [begin(2, 1, KEEP), rec(PARAMS, 2, &[8; 12]), rec(ABORT, 2, NOTHING)].concat(),
            Kind::RecordFlood(100),
        ),
    ];
    for (record, expected) in floods {
        let mut server = server_with(limits);
        requested(&feed(&mut server, head(1, 1, KEEP)));
        let mut error = None;
        for _ in 0..=1000 {
            error = offer(&mut server, &record).error;
            sent(&mut server);
        }
        assert_eq!(error.expect("a flood").kind, expected);
    }
}

#[test]
fn h_9_the_budgets_start_afresh_when_something_comes() {
    let mut limits = Limits::server();
    (limits.idle_records, limits.tiny_records) = (100, 100);
    let mut server = server_with(limits);
    for _ in 0..5 {
        feed(&mut server, rec(STDIN, 9, NOTHING).repeat(90));
        let (key, _) = requested(&feed(&mut server, head(1, 1, KEEP)));
        feed(&mut server, rec(STDIN, 1, b"x").repeat(90));
        feed(&mut server, rec(STDIN, 1, &[b'x'; 8]));
        reply(&mut server, key, NOTHING, 0);
        sent(&mut server);
    }
}

#[test]
fn h_9_a_peer_that_does_not_read_replies_is_paused_until_it_does() {
    let query = ask(&[b"FCGI_MPXS_CONNS"]);
    let refused = begin(1, 9, KEEP);
    for flood in [query, rec(99, 0, NOTHING), refused] {
        let mut server = server();
        let flood = flood.repeat(10_000);
        let first = offer(&mut server, &flood);
        assert!(first.error.is_none() && first.taken < flood.len() && !server.wants_read());
        let (mut taken, mut replies) = (first.taken, 0);
        loop {
            let wire = sent(&mut server);
            assert!(wire.len() <= Limits::server().reply_bytes + 200);
            if wire.is_empty() {
                break;
            }
            replies += records(&wire).len();
            taken += offer(&mut server, &flood[taken..]).taken;
        }
        assert_eq!((taken, replies), (flood.len(), 10_000), "it goes on as the peer reads");
    }
}

#[test]
fn h_9_replies_that_were_sent_no_longer_count() {
    let mut server = server();
    let query = ask(&[b"FCGI_MPXS_CONNS"]);
    for _ in 0..2000 {
        feed(&mut server, &query);
        feed(&mut server, &query);
        assert!(server.wants_read(), "two replies wait, the rest are sent");
        sent(&mut server);
    }
}

#[test]
fn h_12_unread_input_pauses_the_connection() {
    let mut limits = Limits::server();
    limits.unread_request = 10_000;
    let mut server = server_with(limits);
    let (key, _) = requested(&feed(&mut server, head(1, 1, KEEP)));
    let body: Vec<u8> = (0..100_000_u32).map(|i| i as u8).collect();
    let wire = [rec(STDIN, 1, &body[..60_000]), rec(STDIN, 1, &body[60_000..])].concat();
    let (mut at, mut read) = (0, Vec::new());
    while read.len() < body.len() {
        let fed = offer(&mut server, &wire[at..]);
        assert_eq!(fed.error, None);
        at += fed.taken;
        let (bytes, _) = read_in(&mut server, key, Input::Stdin);
        assert!(!bytes.is_empty() && bytes.len() <= 10_000);
        read.extend(bytes);
    }
    assert_eq!(read, body);
}

#[test]
fn h_12_a_full_request_can_be_aborted_instead() {
    let mut limits = Limits::server();
    (limits.unread_request, limits.full_request) = (10_000, FullRequest::Abort);
    let mut server = server_with(limits);
    let (key, _) = requested(&feed(&mut server, head(1, 1, KEEP)));
    let events = feed(&mut server, rec(STDIN, 1, &[b'x'; 60_000]));
    assert_eq!(events.last(), Some(&Event::Aborted { key, reason: AbortReason::Overrun }));
    let (other, _) = requested(&feed(&mut server, post(2, KEEP, b"goes on")));
    assert_eq!(read_in(&mut server, other, Input::Stdin), (b"goes on".to_vec(), true));
}

#[test]
fn h_12_output_is_taken_up_to_the_high_water_mark() {
    let mut limits = Limits::server();
    limits.send_high_water = 10_000;
    let mut server = server_with(limits);
    let (key, _) = requested(&feed(&mut server, post(1, KEEP, NOTHING)));
    let mut body = Bytes::from(vec![b'x'; 25_000]);
    let mut request = server.request(key).unwrap();
    assert_eq!(request.write(Output::Stdout, &mut body), Ok(10_000));
    assert_eq!(request.write(Output::Stdout, &mut body), Ok(0));
    assert_eq!(feed(&mut server, NOTHING), []);
    sent(&mut server);
    assert_eq!(feed(&mut server, NOTHING), [Event::Writable { key }], "once");
    assert_eq!(server.request(key).unwrap().write(Output::Stdout, &mut body), Ok(10_000));
}

#[test]
fn h_11_a_stale_key_reaches_no_later_request() {
    let mut server = server();
    let (old, _) = requested(&feed(&mut server, post(1, KEEP, NOTHING)));
    reply(&mut server, old, NOTHING, 0);
    sent(&mut server);
    let (new, _) = requested(&feed(&mut server, post(1, KEEP, b"x")));
    assert_eq!(old.id(), new.id());
    assert!(old != new && server.request(old).is_none() && server.request(new).is_some());
}

#[test]
fn after_an_error_only_what_was_queued_is_sent() {
    let mut server = server();
    let (one, _) = requested(&feed(&mut server, post(1, KEEP, NOTHING)));
    let (two, _) = requested(&feed(&mut server, post(2, KEEP, NOTHING)));
    reply(&mut server, one, b"whole", 0);
    feed_bad(&mut server, [9; 8]);
    assert!(server.request(two).is_none() && !server.is_closed());
    assert_eq!(records(&sent(&mut server)).len(), 3);
    assert!(server.is_closed());
}
