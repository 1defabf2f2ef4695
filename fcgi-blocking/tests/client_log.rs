//! What the log of a client says.

mod raw_app;

use std::time::Duration;

use fcgi::{Error, Phase, Pool, client::Connector};
use fcgi_blocking as fcgi;
use fcgi_testkit::logs;
use raw_app::*;

/// The limit of the whole request ends the wait for the connection.
#[test]
fn one_limit_that_passes_is_logged_once() {
    let (_folder, address, _listener, _waiting) = full_backlog();
    let connector = Connector::new().total_timeout(Duration::from_millis(50));
    let pool = Pool::builder(address).connector(connector).build().unwrap();
    let log = logs::of(|| {
        let error = pool.send(post(b"")).unwrap_err();
        let total = matches!(error, Error::Timeout { phase: Phase::Response, .. });
        assert!(total, "{error}");
    });
    assert_eq!(log.matches("WARN").count(), 1, "{log}");
}
