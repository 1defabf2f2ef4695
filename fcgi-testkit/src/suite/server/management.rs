//! GET_VALUES and unknown management records.

use fcgi_engine::server::Settings;
use fcgi_proto::Rejection;

use super::{gated, hello, settings};
use crate::suite::{Case, Gate, Suite, wire::*};

pub(super) const CASES: &[(&str, Case)] = cases![
    "server":
    get_values_tells_the_configuration_fc_4_1_1_fc_4_1_2_w_9,
    max_reqs_is_what_one_connection_takes_fc_4_1_2_w_14,
    unknown_management_types_are_answered_fc_4_2_1,
];

fn get_values_tells_the_configuration_fc_4_1_1_fc_4_1_2_w_9(suite: &Suite) {
    let names = [("FCGI_MAX_CONNS", ""), ("FCGI_MAX_REQS", ""), ("FCGI_MPXS_CONNS", "")];
    for (requests, most, mpxs) in [(100, "100", "1"), (1, "1", "0")] {
        let gate = Gate::default();
        let mut settings = Settings { max_connections: 12, max_requests: 345, ..settings() };
        settings.config.limits.requests = requests;
        let app = suite.app(settings, gated(&gate));
        let mut peer = app.dial();
        let expected =
            [("FCGI_MAX_CONNS", "12"), ("FCGI_MAX_REQS", most), ("FCGI_MPXS_CONNS", mpxs)];
        peer.send(record(Type::GetValues, 0, &encode(&names)));
        let result = peer.record();
        assert_eq!((result.kind, result.id), (Type::GetValuesResult, 0));
        assert_eq!(result.content, encode(&expected));
        // This also works in the middle of a request, and in the PARAMS of another one.
        peer.send(request(1, KEEP, &[], b""));
        peer.expect_stdout(1, "started");
        peer.send(record(Type::GetValues, 0, &encode(&names[2..])));
        assert_eq!(peer.record().content, encode(&expected[2..]));
        peer.send(record(Type::GetValues, 0, &encode(&[("NO_SUCH_NAME", "x")])));
        let result = peer.record();
        assert_eq!((result.kind, result.content), (Type::GetValuesResult, Vec::new()));
        gate.open();
        assert_eq!(peer.answer(1), complete("done"));
    }
}

fn max_reqs_is_what_one_connection_takes_fc_4_1_2_w_14(suite: &Suite) {
    for (on_all, on_one, most) in [(345, 8, 8), (5, 8, 5)] {
        let gate = Gate::default();
        let mut settings = Settings { max_requests: on_all, ..settings() };
        settings.config.limits.requests = on_one;
        let app = suite.app(settings, gated(&gate));
        let mut peer = app.dial();
        peer.send(record(Type::GetValues, 0, &encode(&[("FCGI_MAX_REQS", "")])));
        let expected = encode(&[("FCGI_MAX_REQS", &most.to_string())]);
        assert_eq!(peer.record().content, expected);
        // It takes exactly as many as it reported.
        for id in 1..=most {
            peer.send(request(id, KEEP, &[], b""));
            peer.expect_stdout(id, "started");
        }
        peer.send(request(most + 1, KEEP, &[], b""));
        assert_eq!(peer.answer(most + 1), rejected(Rejection::Overloaded));
        (1..=most).for_each(|_| gate.open());
        let mut answers = vec![Answer::default(); usize::from(most)];
        let mut open = most;
        while open > 0 {
            let record = peer.record();
            if answers[usize::from(record.id) - 1].take(&record) {
                open -= 1;
            }
        }
        assert_eq!(answers, vec![complete("done"); usize::from(most)]);
    }
}

fn unknown_management_types_are_answered_fc_4_2_1(suite: &Suite) {
    let app = suite.app(settings(), hello());
    let mut peer = app.dial();
    peer.send(record(Type::Other(77), 0, b"whatever"));
    let answer = peer.record();
    assert_eq!((answer.kind, answer.id), (Type::UnknownType, 0));
    assert_eq!(answer.content, [77, 0, 0, 0, 0, 0, 0, 0]);
    peer.send(request(1, KEEP, &[], b""));
    assert_eq!(peer.answer(1), complete("hello"));
}
