//! The web server's end: what it sends, and what it makes of what applications send (FC-3.5 to
//! FC-6.4, Q, H). Each test names its rule.
#![allow(missing_docs)]
mod common;

use bytes::Bytes;
use common::*;
use fcgi_proto::{
    BeginRequest, ClientConfig, ClientConnection, Connection, FullRequest, Input, Limits, Output,
    Params, ProtocolErrorKind as Kind, Rejection, Role, UsageError, Values,
    client::{Event, Outcome},
};
use std::task::Poll;

const DONE: Outcome = Outcome::Complete { app_status: 0 };
const NOTHING: &[u8] = b"";

#[test]
fn fc_3_5_1_keep_conn_is_asked_for_and_decides_what_follows() {
    for keep_conn in [false, true] {
        let mut client = client();
        let params = Params::new();
        let key = client.begin(BeginRequest { role: Role::Responder, keep_conn, params }).unwrap();
        client.request(key).unwrap().finish(Input::Stdin).unwrap();
        assert_eq!(
            records(&sent(&mut client))[0].content,
            [0, 1, u8::from(keep_conn), 0, 0, 0, 0, 0]
        );
        assert!(!client.is_reusable() && !client.is_closed());
        feed(&mut client, end(1, 0, 0));
        assert_eq!((client.is_reusable(), client.is_closed()), (keep_conn, !keep_conn));
        assert_eq!(client.can_begin(), keep_conn);
    }
}

#[test]
fn fc_3_5_2_an_idle_connection_may_be_closed_by_either_end() {
    let mut client = client();
    get(&mut client);
    feed(&mut client, end(1, 0, 0));
    assert!(client.is_reusable());
    client.handle_eof();
    assert_eq!(feed(&mut client, NOTHING), []);
    assert!(client.is_closed() && !client.is_reusable());
    let begin = BeginRequest { role: Role::Responder, keep_conn: true, params: Params::new() };
    assert_eq!(client.begin(begin), Err(UsageError::Closed));
    assert_eq!(sent(&mut client), NOTHING);
}

#[test]
fn fc_4_1_1_q_9_get_values_is_asked_with_a_length_padded_to_8() {
    let mut client = client();
    client.query_values().unwrap();
    let wire = sent(&mut client);
    assert_eq!(wire.len() % 8, 0);
    let all = records(&wire);
    assert!(all[0].padding > 0, "libfcgi answers once it has seen padding");
    let names = ["FCGI_MAX_CONNS", "FCGI_MAX_REQS", "FCGI_MPXS_CONNS"];
    let content: Vec<u8> = names.iter().flat_map(|name| pair(name.as_bytes(), b"")).collect();
    assert_eq!((all.len(), all[0].kind, all[0].id), (1, GET_VALUES, 0));
    assert_eq!(all[0].content, content);
    assert_eq!(client.query_values(), Err(UsageError::QueryPending));
}

#[test]
fn fc_4_1_1_q_7_the_answer_may_hold_some_names_or_rubbish() {
    let answers: [(Vec<u8>, Values); 4] = [
        (vec![], Values::default()),
        (pair(b"FCGI_MPXS_CONNS", b"0"), Values { mpxs_conns: Some(false), ..Values::default() }),
        (
            [pair(b"FCGI_MAX_REQS", b"50"), pair(b"X", b"1"), pair(b"FCGI_MAX_CONNS", b"7")]
                .concat(),
            Values { max_conns: Some(7), max_reqs: Some(50), mpxs_conns: None },
        ),
        (pair(b"FCGI_MAX_CONNS", b"lots, really, no end of them"), Values::default()),
    ];
    for (content, values) in answers {
        let mut client = client();
        client.query_values().unwrap();
        sent(&mut client);
        assert!(!client.is_reusable(), "the answer is to come");
        let events = feed(&mut client, rec(GET_VALUES_RESULT, 0, &content));
        assert_eq!(events, [Event::Values(values)]);
        assert!(client.is_reusable());
    }
}

#[test]
fn fc_4_2_1_unknown_type_is_reported() {
    let mut client = client();
    client.query_values().unwrap();
    sent(&mut client);
    let events = feed(&mut client, rec(UNKNOWN_TYPE, 0, &[GET_VALUES, 0, 0, 0, 0, 0, 0, 0]));
    assert_eq!(events, [Event::UnknownType(GET_VALUES)]);
    assert!(client.is_reusable() && client.query_values().is_ok(), "no answer is waited for");
}

#[test]
fn fc_5_4_1_abort_is_sent_once_and_waits_for_end_request() {
    let mut client = client();
    let key = get(&mut client);
    feed(&mut client, rec(STDOUT, 1, b"dropped"));
    client.request(key).unwrap().abort();
    client.request(key).unwrap().abort();
    assert_eq!(brief(&sent(&mut client)), [(ABORT, 1, vec![])]);
    assert!(!client.is_reusable() && client.active_requests() == 1);
    assert_eq!(read_out(&mut client, key, Output::Stdout), (vec![], true));
    feed(&mut client, rec(STDOUT, 1, b"dropped too"));
    let outcome = Outcome::Complete { app_status: 3 };
    assert_eq!(feed(&mut client, end(1, 3, 0)), [Event::Finished { key, outcome }]);
    assert!(client.request(key).is_none() && client.is_reusable());
}

#[test]
fn fc_5_5_1_end_request_is_a_typed_outcome() {
    let rejected = Outcome::Rejected;
    for (app, protocol, expected) in [
        (0, 0, DONE),
        (u32::MAX, 0, Outcome::Complete { app_status: u32::MAX }),
        (0, 1, rejected(Rejection::CantMpxConn)),
        (0, 2, rejected(Rejection::Overloaded)),
        (0, 3, rejected(Rejection::UnknownRole)),
    ] {
        let mut client = client();
        let key = get(&mut client);
        assert_eq!(finished(&feed(&mut client, end(1, app, protocol))), [(key, expected)]);
    }
    for status in [4, 255] {
        let mut client = client();
        get(&mut client);
        let expected = Kind::ProtocolStatus { request_id: 1, status };
        assert_eq!(feed_bad(&mut client, end(1, 0, status)), expected);
    }
}

#[test]
fn fc_6_1_1_every_stream_of_the_role_is_closed_even_when_empty() {
    for (role, inputs, kinds) in [
        (Role::Responder, &[Input::Stdin][..], &[BEGIN, PARAMS, PARAMS, STDIN][..]),
        (Role::Authorizer, &[], &[BEGIN, PARAMS, PARAMS]),
        (Role::Filter, &[Input::Stdin, Input::Data], &[BEGIN, PARAMS, PARAMS, STDIN, DATA]),
    ] {
        let mut client = client();
        let key = start(&mut client, role);
        inputs.iter().for_each(|input| client.request(key).unwrap().finish(*input).unwrap());
        let records = records(&sent(&mut client));
        assert_eq!(records.iter().map(|record| record.kind).collect::<Vec<_>>(), kinds);
        assert!(records[2..].iter().all(|record| record.content.is_empty()));
    }
    let mut client = client();
    let params = Params::new();
    client.begin(BeginRequest { role: Role::Authorizer, keep_conn: true, params }).unwrap();
    assert_eq!(
        brief(&sent(&mut client))[1..],
        [(PARAMS, 1, vec![])],
        "no empty record but the end"
    );
}

#[test]
fn fc_6_1_2_q_3_outputs_interleave_and_stdout_need_not_be_closed() {
    for closes in [NOTHING, &rec(STDOUT, 1, NOTHING), &rec(STDERR, 1, NOTHING)] {
        let mut client = client();
        let key = get(&mut client);
        let wire = [
            &rec(STDOUT, 1, b"a")[..],
            &rec(STDERR, 1, b"1"),
            &rec(STDOUT, 1, b"b"),
            &rec(STDERR, 1, b"2"),
            closes,
            &end(1, 0, 0),
        ];
        let events = feed(&mut client, wire.concat());
        assert_eq!(finished(&events), [(key, DONE)]);
        assert!(client.request(key).unwrap().is_ended() && !client.is_reusable());
        assert_eq!(read_out(&mut client, key, Output::Stderr).0, b"12");
        assert_eq!(read_out(&mut client, key, Output::Stdout), (b"ab".to_vec(), true));
        assert!(client.is_reusable());
    }
}

#[test]
fn fc_6_2_1_q_15_the_answer_may_come_while_stdin_is_written() {
    let mut client = client();
    let key = start(&mut client, Role::Responder);
    let mut request = client.request(key).unwrap();
    request.write(Input::Stdin, &mut Bytes::from_static(b"first")).unwrap();
    feed(&mut client, rec(STDOUT, 1, b"early"));
    assert_eq!(read_out(&mut client, key, Output::Stdout), (b"early".to_vec(), false));
    let mut request = client.request(key).unwrap();
    assert_eq!(request.write(Input::Stdin, &mut Bytes::from_static(b"second")), Ok(6));
    let stdin = brief(&sent(&mut client)).pop();
    assert_eq!(stdin, Some((STDIN, 1, b"firstsecond".to_vec())));
}

#[test]
fn fc_6_2_1_q_10_end_request_before_the_end_of_stdin_stops_sending() {
    for requests in [1, 2] {
        let mut client = mux_client(requests);
        let key = start(&mut client, Role::Responder);
        sent(&mut client);
        feed(&mut client, rec(STDOUT, 1, b"unread, so that the request stays"));
        assert_eq!(finished(&feed(&mut client, end(1, 0, 0))), [(key, DONE)]);
        let mut request = client.request(key).unwrap();
        let late = request.write(Input::Stdin, &mut Bytes::from_static(b"x"));
        assert_eq!(late, Err(UsageError::RequestEnded));
        assert_eq!(request.finish(Input::Stdin), Err(UsageError::RequestEnded));
        assert_eq!(sent(&mut client), NOTHING);
        read_out(&mut client, key, Output::Stdout);
        assert_eq!(client.is_reusable(), requests > 1, "one at a time: the rest of STDIN is due");
    }
}

#[test]
fn q_10_input_still_queued_at_end_request_makes_it_unfit() {
    let mut client = client();
    let key = start(&mut client, Role::Responder);
    sent(&mut client);
    let mut request = client.request(key).unwrap();
    request.write(Input::Stdin, &mut Bytes::from_static(b"queued")).unwrap();
    request.finish(Input::Stdin).unwrap();
    feed(&mut client, end(1, 0, 0));
    sent(&mut client);
    assert!(client.is_closed() && !client.is_reusable());
}

#[test]
fn q_10_abort_inside_stdin_makes_it_unfit() {
    let mut client = client();
    let key = start(&mut client, Role::Responder);
    client.request(key).unwrap().abort();
    sent(&mut client);
    assert!(!client.is_closed(), "END_REQUEST is to come");
    feed(&mut client, end(1, 0, 0));
    assert!(client.is_closed() && !client.is_reusable());
}

#[test]
fn q_10_one_request_at_a_time_by_default() {
    let mut client = client();
    let key = get(&mut client);
    let begin = BeginRequest { role: Role::Responder, keep_conn: true, params: Params::new() };
    assert_eq!(client.begin(begin.clone()), Err(UsageError::TooManyRequests(1)));
    assert_eq!(sent(&mut client), NOTHING);
    assert_eq!(finished(&feed(&mut client, end(1, 0, 0))), [(key, DONE)]);
    assert!(client.begin(begin).is_ok());
}

#[test]
fn fc_6_3_1_an_authorizer_is_sent_params_alone() {
    let mut client = client();
    let key = start(&mut client, Role::Authorizer);
    let mut request = client.request(key).unwrap();
    let not_in_role = Err(UsageError::StreamNotInRole);
    let mut body = Bytes::from_static(b"x");
    assert_eq!(request.write(Input::Stdin, &mut body), not_in_role);
    assert_eq!(request.finish(Input::Stdin), Err(UsageError::StreamNotInRole));
    assert_eq!(body.len(), 1, "nothing was taken");
    assert!(records(&sent(&mut client)).iter().all(|r| [BEGIN, PARAMS].contains(&r.kind)));
    feed(&mut client, end(1, 0, 0));
    assert!(client.is_reusable(), "its input is whole");
}

#[test]
fn fc_6_4_1_data_comes_after_the_end_of_stdin() {
    let mut client = client();
    let key = start(&mut client, Role::Filter);
    let mut request = client.request(key).unwrap();
    let mut data = Bytes::from_static(b"file");
    assert_eq!(request.write(Input::Data, &mut data), Err(UsageError::DataBeforeStdin));
    assert_eq!(request.finish(Input::Data), Err(UsageError::DataBeforeStdin));
    request.finish(Input::Stdin).unwrap();
    assert_eq!(request.write(Input::Data, &mut data), Ok(4));
    request.finish(Input::Data).unwrap();
    let expected = [(STDIN, 1, vec![]), (DATA, 1, b"file".to_vec()), (DATA, 1, vec![])];
    assert_eq!(brief(&sent(&mut client))[3..], expected);
}

#[test]
fn usage_errors_change_nothing() {
    let mut client = client();
    let key = start(&mut client, Role::Responder);
    let mut request = client.request(key).unwrap();
    let mut data = Bytes::from_static(b"x");
    assert_eq!(request.write(Input::Data, &mut data), Err(UsageError::StreamNotInRole));
    request.finish(Input::Stdin).unwrap();
    assert_eq!(request.write(Input::Stdin, &mut data), Err(UsageError::StreamFinished));
    assert_eq!(request.finish(Input::Stdin), Err(UsageError::StreamFinished));
    assert_eq!((data.len(), records(&sent(&mut client)).len()), (1, 4));
    client.request(key).unwrap().abort();
    let mut request = client.request(key).unwrap();
    assert_eq!(request.write(Input::Stdin, &mut data), Err(UsageError::RequestEnded));
    assert_eq!(brief(&sent(&mut client)), [(ABORT, 1, vec![])]);
    let outcome = Outcome::Rejected(Rejection::Overloaded);
    assert_eq!(feed(&mut client, end(1, 0, 2)), [Event::Finished { key, outcome }]);
}

#[test]
fn h_11_output_of_a_cancelled_request_reaches_no_other() {
    let mut client = mux_client(4);
    let old = get(&mut client);
    client.request(old).unwrap().abort();
    let new = get(&mut client);
    assert_ne!(old.id(), new.id(), "the old id is not reused before its END_REQUEST");
    let wire = [
        rec(STDOUT, old.id(), b"old"),
        rec(STDOUT, new.id(), b"new"),
        end(old.id(), 0, 0),
        rec(STDOUT, old.id(), b"older"),
        rec(STDOUT, new.id(), b"er"),
        end(new.id(), 0, 0),
    ];
    feed(&mut client, wire.concat());
    assert_eq!(read_out(&mut client, new, Output::Stdout), (b"newer".to_vec(), true));
    assert!(client.request(old).is_none());
}

#[test]
fn q_12_an_aborted_id_waits_for_a_stray_end_request() {
    let mut client = mux_client(4);
    let old = get(&mut client);
    client.request(old).unwrap().abort();
    sent(&mut client);
    assert_eq!(finished(&feed(&mut client, end(1, 0, 0))), [(old, DONE)]);
    let new = get(&mut client);
    assert_eq!(new.id(), 2);
    let events = feed(&mut client, [rec(STDOUT, 1, b"stray"), end(1, 0, 0)].concat());
    assert_eq!(events, [], "the second END_REQUEST ends nothing");
    assert_eq!(get(&mut client).id(), 1, "now the id is free");
    assert_eq!(finished(&feed(&mut client, end(2, 0, 0))), [(new, DONE)]);
}

#[test]
fn q_12_tombstones_have_a_limit() {
    let mut client = client();
    for _ in 0..=Limits::client().tombstones {
        assert!(client.can_begin());
        let key = get(&mut client);
        client.request(key).unwrap().abort();
        sent(&mut client);
        feed(&mut client, end(key.id(), 0, 0));
    }
    assert!(!client.can_begin() && !client.is_reusable());
}

#[test]
fn q_12_a_result_that_nobody_asked_for_is_ignored() {
    let mut client = client();
    client.query_values().unwrap();
    sent(&mut client);
    assert_eq!(feed(&mut client, rec(GET_VALUES_RESULT, 0, NOTHING)).len(), 1);
    assert_eq!(feed(&mut client, rec(GET_VALUES_RESULT, 0, NOTHING)), []);
    assert!(client.is_reusable());
}

#[test]
fn q_13_overloaded_without_stdout_is_a_rejection() {
    let mut client = client();
    let key = get(&mut client);
    let outcome = Outcome::Rejected(Rejection::Overloaded);
    assert_eq!(feed(&mut client, end(1, 0, 2)), [Event::Finished { key, outcome }]);
    assert!(client.is_reusable());
}

#[test]
fn q_8_q_14_a_close_before_end_request_is_truncated_after_what_came() {
    for wire in [
        vec![],
        rec(STDOUT, 1, b"came"),
        [rec(STDOUT, 1, b"came"), rec(STDOUT, 1, NOTHING)].concat(),
        [rec(STDOUT, 1, b"came"), end(1, 0, 0)[..15].to_vec()].concat(),
        rec(STDOUT, 1, b"came, but for this")[..12].to_vec(),
    ] {
        let mut client = client();
        let key = get(&mut client);
        feed(&mut client, &wire);
        client.handle_eof();
        let outcome = Outcome::Truncated;
        assert_eq!(feed(&mut client, NOTHING), [Event::Finished { key, outcome }]);
        let came = if wire.is_empty() { NOTHING } else { b"came" };
        assert_eq!(read_out(&mut client, key, Output::Stdout), (came.to_vec(), true));
        assert!(client.is_closed() && !client.is_reusable());
    }
}

#[test]
fn q_14_bytes_that_came_before_the_end_wait_for_the_reader() {
    let mut limits = Limits::client();
    limits.unread_request = 1000;
    let mut client = ClientConnection::new(ClientConfig { limits });
    let key = get(&mut client);
    let wire = [rec(STDOUT, 1, &[b'x'; 3000]), end(1, 0, 0)].concat();
    let fed = offer(&mut client, &wire);
    assert_eq!((fed.taken, fed.error), (wire.len(), None));
    client.handle_eof();
    assert_eq!(feed(&mut client, NOTHING), [], "not ended: bytes wait to be parsed");
    let mut got = 0;
    loop {
        let n = read_out(&mut client, key, Output::Stdout).0.len();
        assert!(n > 0 && n <= 1000);
        got += n;
        let events = feed(&mut client, NOTHING);
        if let [(_, outcome)] = finished(&events)[..] {
            assert_eq!(outcome, DONE);
            break;
        }
    }
    assert_eq!(got + read_out(&mut client, key, Output::Stdout).0.len(), 3000);
}

#[test]
fn h_12_unread_output_pauses_the_connection_and_loses_nothing() {
    let mut client = client();
    let key = get(&mut client);
    let body: Vec<u8> = (0..2_000_000_u32).map(|i| (i % 251) as u8).collect();
    let wire: Vec<u8> = body.chunks(65_535).flat_map(|chunk| rec(STDOUT, 1, chunk)).collect();
    let (mut at, mut read) = (0, Vec::new());
    while read.len() < body.len() {
        let fed = offer(&mut client, &wire[at..]);
        at += fed.taken;
        let (bytes, _) = read_out(&mut client, key, Output::Stdout);
        assert!(!bytes.is_empty() && bytes.len() <= Limits::client().unread_request);
        read.extend(bytes);
    }
    assert!(read == body);
}

#[test]
fn h_12_a_full_request_can_be_aborted_instead() {
    let mut limits = Limits::client();
    (limits.requests, limits.unread_request) = (2, 1000);
    limits.full_request = FullRequest::Abort;
    let mut client = ClientConnection::new(ClientConfig { limits });
    let (full, other) = (get(&mut client), get(&mut client));
    feed(&mut client, rec(STDOUT, full.id(), &[b'x'; 3000]));
    assert_eq!(brief(&sent(&mut client)), [(ABORT, full.id(), vec![])]);
    feed(&mut client, rec(STDOUT, other.id(), b"goes on"));
    assert_eq!(read_out(&mut client, other, Output::Stdout).0, b"goes on");
    let events = feed(&mut client, end(full.id(), 0, 0));
    assert_eq!(finished(&events), [(full, Outcome::Overrun)]);
}

#[test]
fn h_9_an_application_that_floods_is_cut_off() {
    let mut limits = Limits::client();
    (limits.idle_records, limits.tiny_records) = (100, 1000);
    for (record, expected) in [
        (rec(GET_VALUES_RESULT, 0, NOTHING), 100),
        (rec(STDOUT, 9, b"x"), 100),
        (rec(STDERR, 1, b"x"), 1000),
    ] {
        let mut client = ClientConnection::new(ClientConfig { limits });
        get(&mut client);
        let flood = record.repeat(expected as usize + 1);
        assert_eq!(feed_bad(&mut client, flood), Kind::RecordFlood(expected));
    }
}

#[test]
fn after_an_error_nothing_is_sent_and_what_came_can_be_read() {
    let mut client = client();
    let key = start(&mut client, Role::Responder);
    feed_bad(&mut client, [rec(STDOUT, 1, b"came"), vec![9; 8]].concat());
    assert!(client.is_closed() && client.active_requests() == 0 && !client.can_begin());
    let mut request = client.request(key).unwrap();
    let late = request.write(Input::Stdin, &mut Bytes::from_static(b"x"));
    assert_eq!(late, Err(UsageError::RequestEnded));
    let came = Bytes::from_static(b"came");
    assert_eq!(request.read(Output::Stdout, 10), Poll::Ready(Some(came)));
    assert_eq!(request.read(Output::Stdout, 10), Poll::Ready(None));
    assert!(client.poll_transmit().is_none());
    assert_eq!(client.query_values(), Err(UsageError::Closed));
}
