//! GET_VALUES and unknown management records.

use fcgi_engine::server::Settings;

use super::{gated, hello, settings};
use crate::suite::{Case, Gate, Suite, wire::*};

pub(super) const CASES: &[(&str, Case)] = cases![
    "server":
    get_values_tells_the_configuration_fc_4_1_1_fc_4_1_2_w_9,
    unknown_management_types_are_answered_fc_4_2_1,
];

fn get_values_tells_the_configuration_fc_4_1_1_fc_4_1_2_w_9(suite: &Suite) {
    let names = [("FCGI_MAX_CONNS", ""), ("FCGI_MAX_REQS", ""), ("FCGI_MPXS_CONNS", "")];
    for (requests, mpxs) in [(100, "1"), (1, "0")] {
        let gate = Gate::default();
        let mut settings = Settings { max_connections: 12, max_requests: 345, ..settings() };
        settings.config.limits.requests = requests;
        let app = suite.app(settings, gated(&gate));
        let mut peer = app.dial();
        let expected =
            [("FCGI_MAX_CONNS", "12"), ("FCGI_MAX_REQS", "345"), ("FCGI_MPXS_CONNS", mpxs)];
        peer.send(record(Type::GetValues, 0, &encode(&names)));
        let result = peer.record();
        assert_eq!((result.kind, result.id), (Type::GetValuesResult, 0));
        assert_eq!(result.content, encode(&expected));
        // In the middle of a request too, and in another one's PARAMS.
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
