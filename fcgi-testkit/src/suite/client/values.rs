//! GET_VALUES.

use std::{
    io::Write,
    time::{Duration, Instant},
};

use fcgi_engine::{Error, client::Settings, server};
use fcgi_proto::Values;

use super::server_settings;
use crate::suite::{Case, Suite, patient, signal::background, wire::*};

pub(super) const CASES: &[(&str, Case)] = cases![
    "client":
    query_values_takes_every_kind_of_answer_q_7_q_9,
    query_values_of_our_server_fc_4_1_2,
    query_values_of_an_application_that_never_stops_q_21,
];

/// The result of a query, and how long it took. The application answers with these bytes and closes;
/// with `None` it says nothing.
fn query(
    suite: &Suite,
    bytes: Option<Vec<u8>>,
    limit: Duration,
) -> (Result<Values, Error>, Duration) {
    let app = RawApp::new();
    let address = app.address.clone();
    let application = background(move || {
        let mut peer = app.accept();
        let asked = peer.record();
        assert_eq!((asked.kind, asked.id), (Type::GetValues, 0));
        let names = [("FCGI_MAX_CONNS", ""), ("FCGI_MAX_REQS", ""), ("FCGI_MPXS_CONNS", "")];
        assert_eq!(asked.content, encode(&names));
        match bytes {
            Some(bytes) => peer.send(&bytes),
            // Until the query gives up.
            None => assert_eq!(peer.rest(), b""),
        }
    });
    let start = Instant::now();
    let settings = Settings { values: limit, ..patient() };
    let values = suite.adapter.query_values(&address, settings);
    let took = start.elapsed();
    application.join();
    (values, took)
}

fn query_values_takes_every_kind_of_answer_q_7_q_9(suite: &Suite) {
    let long = Duration::from_secs(3600);
    let pairs = [("FCGI_MAX_CONNS", "10"), ("FCGI_MPXS_CONNS", "1"), ("OTHER", "x")];
    let answer = record(Type::GetValuesResult, 0, &encode(&pairs));
    let expected = Values { max_conns: Some(10), max_reqs: None, mpxs_conns: Some(true) };
    assert_eq!(query(suite, Some(answer), long).0.unwrap(), expected);
    let php = record(Type::GetValuesResult, 0, &encode(&[("FCGI_MPXS_CONNS", "0")]));
    let expected = Values { mpxs_conns: Some(false), ..Values::default() };
    assert_eq!(query(suite, Some(php), long).0.unwrap(), expected);
    let unknown = record(Type::UnknownType, 0, &[9, 0, 0, 0, 0, 0, 0, 0]);
    assert_eq!(query(suite, Some(unknown), long).0.unwrap(), Values::default());
    // It closes.
    assert_eq!(query(suite, Some(Vec::new()), long).0.unwrap(), Values::default());
    // It says nothing.
    let short = Duration::from_millis(200);
    let (values, took) = query(suite, None, short);
    assert_eq!(values.unwrap(), Values::default());
    assert!(took >= short);
    let error = query(suite, Some(b"not FastCGI".to_vec()), long).0.unwrap_err();
    assert!(matches!(error, Error::Protocol { .. }), "{error}");
}

fn query_values_of_our_server_fc_4_1_2(suite: &Suite) {
    let settings = server::Settings { max_connections: 7, max_requests: 8, ..server_settings() };
    let app = suite.echo(settings);
    let values = suite.adapter.query_values(app.address(), patient()).unwrap();
    let expected = Values { max_conns: Some(7), max_reqs: Some(8), mpxs_conns: Some(true) };
    assert_eq!(values, expected);
}

fn query_values_of_an_application_that_never_stops_q_21(suite: &Suite) {
    let app = RawApp::new();
    let address = app.address.clone();
    let flood = background(move || {
        let mut to = app.accept().writer();
        let unknown = record(Type::UnknownType, 0, &[99, 0, 0, 0, 0, 0, 0, 0]).repeat(1000);
        while to.write_all(&unknown).is_ok() {}
    });
    let settings = Settings { values: Duration::from_secs(3600), ..patient() };
    match suite.adapter.query_values(&address, settings) {
        Ok(values) => assert_eq!(values, Values::default()),
        Err(error) => assert!(matches!(error, Error::Protocol { .. }), "{error}"),
    }
    flood.join();
}
