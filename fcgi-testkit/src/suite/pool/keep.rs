//! Which connections are kept, and for how long.

use std::time::Duration;

use fcgi_engine::{Error, pool::Settings};
use fcgi_proto::Rejection;

use super::{call, next, numbered, serve_one, serve_one_kept, settings};
use crate::suite::{
    Case, Suite, patient,
    signal::{background, until},
    wire::*,
};

pub(super) const CASES: &[(&str, Case)] = cases![
    "pool":
    by_default_each_request_has_a_connection_of_its_own_q_16,
    requests_one_after_the_other_share_a_connection,
    a_request_may_ask_for_a_connection_that_is_not_kept_fc_3_5_1,
    without_a_request_nothing_is_kept_by_default_q_5,
    a_connection_closed_while_idle_costs_no_request,
    an_idle_connection_is_closed_in_time_q_5,
    a_refusal_leaves_the_connection_fit_q_13,
];

fn by_default_each_request_has_a_connection_of_its_own_q_16(suite: &Suite) {
    let app = RawApp::new();
    let pool = suite.pool(&app.address, Settings::new());
    let application = background(move || {
        for _ in 0..5 {
            let mut peer = app.accept();
            assert!(!serve_one_kept(&mut peer), "FCGI_KEEP_CONN");
            // This side does not wait for the application's close.
            peer.expect_end();
        }
    });
    for n in 0..5 {
        assert_eq!(call(&*pool, numbered(n)).unwrap(), n.to_string().as_bytes());
        assert_eq!(pool.stats().connections, 0);
    }
    application.join();
}

fn requests_one_after_the_other_share_a_connection(suite: &Suite) {
    let app = RawApp::new();
    let pool = suite.pool(&app.address, settings(4));
    let application = background(move || {
        let mut peer = app.accept();
        (0..100).for_each(|_| assert!(serve_one(&mut peer)));
        peer
    });
    for n in 0..100 {
        assert_eq!(call(&*pool, numbered(n)).unwrap(), n.to_string().as_bytes());
    }
    let stats = pool.stats();
    assert_eq!((stats.connections, stats.idle, stats.active, stats.waiting), (1, 1, 0, 0));
    application.join();
}

fn a_request_may_ask_for_a_connection_that_is_not_kept_fc_3_5_1(suite: &Suite) {
    let app = RawApp::new();
    let pool = suite.pool(&app.address, settings(1));
    let application = background(move || {
        let mut peer = app.accept();
        assert!(serve_one_kept(&mut peer));
        assert!(!serve_one_kept(&mut peer));
        peer.expect_end();
        assert!(serve_one_kept(&mut app.accept()));
    });
    for n in 0..3 {
        let request = numbered(n).keep_conn(n != 1);
        assert_eq!(call(&*pool, request).unwrap(), n.to_string().as_bytes());
    }
    application.join();
}

fn without_a_request_nothing_is_kept_by_default_q_5(suite: &Suite) {
    let app = RawApp::new();
    let mut connection = patient();
    connection.limits.requests = 0;
    let pool = suite.adapter.pool(&app.address, connection, Settings::new());
    let application = background(move || app.accept().expect_end());
    // The limit of requests is checked when the connection is there.
    let error = call(&*pool, numbered(1)).unwrap_err();
    assert!(matches!(error, Error::Closed { .. } | Error::Usage(_)), "{error}");
    assert_eq!(pool.stats().connections, 0);
    application.join();
}

fn a_connection_closed_while_idle_costs_no_request(suite: &Suite) {
    let app = RawApp::new();
    let pool = suite.pool(&app.address, settings(1));
    let application = background(move || {
        for _ in 0..5 {
            assert!(serve_one(&mut app.accept()));
        }
    });
    for n in 0..5 {
        assert_eq!(call(&*pool, numbered(n)).unwrap(), n.to_string().as_bytes());
    }
    application.join();
}

fn an_idle_connection_is_closed_in_time_q_5(suite: &Suite) {
    let app = RawApp::new();
    let mut settings = settings(1);
    settings.limits.idle_timeout = Duration::from_millis(100);
    let pool = suite.pool(&app.address, settings);
    let application = background(move || {
        let mut peer = app.accept();
        assert!(serve_one(&mut peer));
        peer.expect_close();
    });
    assert_eq!(call(&*pool, numbered(1)).unwrap(), b"1");
    application.join();
    until("it is counted no more", || pool.stats().connections == 0);
}

fn a_refusal_leaves_the_connection_fit_q_13(suite: &Suite) {
    let app = RawApp::new();
    let pool = suite.pool(&app.address, settings(1));
    let application = background(move || {
        let mut peer = app.accept();
        let (id, _) = next(&mut peer).unwrap();
        peer.send(end(id, 0, Rejection::Overloaded.as_u8()));
        assert!(serve_one(&mut peer));
    });
    let error = call(&*pool, numbered(1)).unwrap_err();
    assert!(matches!(error, Error::Rejected { rejection: Rejection::Overloaded, .. }), "{error}");
    assert_eq!(call(&*pool, numbered(2)).unwrap(), b"2");
    application.join();
}
