//! Which requests are sent again.

use fcgi_engine::Error;

use super::{call, next, numbered, serve_one, settings};
use crate::suite::{Case, Suite, signal::background, wire::*};

pub(super) const CASES: &[(&str, Case)] = cases![
    "pool":
    a_kept_connection_that_fails_before_the_first_byte_is_tried_once_more_q_10,
    a_fresh_connection_is_not_tried_again,
    nothing_is_tried_again_after_the_first_byte,
];

fn a_kept_connection_that_fails_before_the_first_byte_is_tried_once_more_q_10(suite: &Suite) {
    let app = RawApp::new();
    let pool = suite.pool(&app.address, settings(1));
    let application = background(move || {
        let mut first = app.accept();
        assert!(serve_one(&mut first));
        let seen = next(&mut first).unwrap();
        drop(first);
        let mut second = app.accept();
        let again = next(&mut second).unwrap();
        assert_eq!(seen, again);
        second.send(answer(again.0, &again.1));
        // It is seen twice, and no more.
        next(&mut second)
    });
    for n in 0..2 {
        let request = numbered(n).param("CONTENT_LENGTH", "5").stdin("bytes");
        assert_eq!(call(&*pool, request).unwrap(), n.to_string().as_bytes());
    }
    drop(pool);
    assert_eq!(application.join(), None);
}

fn a_fresh_connection_is_not_tried_again(suite: &Suite) {
    let app = RawApp::new();
    let pool = suite.pool(&app.address, settings(1));
    let application = background(move || {
        let mut first = app.accept();
        next(&mut first).unwrap();
        drop(first);
        assert!(serve_one(&mut app.accept()));
    });
    let error = call(&*pool, numbered(1)).unwrap_err();
    assert!(matches!(error, Error::Truncated { .. }), "{error}");
    assert_eq!(call(&*pool, numbered(2)).unwrap(), b"2");
    application.join();
}

fn nothing_is_tried_again_after_the_first_byte(suite: &Suite) {
    let app = RawApp::new();
    let pool = suite.pool(&app.address, settings(1));
    let application = background(move || {
        let mut first = app.accept();
        assert!(serve_one(&mut first));
        let (id, _) = next(&mut first).unwrap();
        first.send(record(Type::Stdout, id, b"some"));
        drop(first);
        let mut second = app.accept();
        let (id, n) = next(&mut second).unwrap();
        assert_eq!(n, b"3");
        second.send(answer(id, &n));
    });
    assert_eq!(call(&*pool, numbered(1)).unwrap(), b"1");
    let error = call(&*pool, numbered(2)).unwrap_err();
    assert!(matches!(error, Error::Truncated { .. }), "{error}");
    assert_eq!(call(&*pool, numbered(3)).unwrap(), b"3");
    application.join();
}
