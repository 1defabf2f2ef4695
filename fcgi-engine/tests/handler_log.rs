//! How a handler's error is logged: the same words in every adapter.
#![allow(missing_docs)]

use std::{error, io};

use fcgi_engine::{
    Error,
    server::{HandlerEnd, IntoAppStatus, catch_panic, log_failure},
};
use fcgi_proto::Params;
use fcgi_testkit::logs;

type Boxed = Box<dyn error::Error + Send + Sync>;

fn error() -> Error {
    let source = io::Error::new(io::ErrorKind::NotFound, "no such file");
    Error::Connect { address: "unix:/app".into(), source }
}

/// The line that is logged for what a handler returned.
fn line(returned: impl IntoAppStatus, params: &[(&str, &str)]) -> String {
    let error = returned.into_app_status().unwrap_err();
    let params: Params = params.iter().copied().collect();
    logs::of(|| {
        log_failure(&*error, &params);
    })
}

#[test]
fn all_that_caused_it_is_said_once() {
    let lines = [
        line(Err::<(), _>(error()), &[]),
        line(Err::<u32, _>(Boxed::from(error())), &[]),
        line(Err::<(), _>(io::Error::from(error())), &[]),
        line(Ok::<_, Boxed>(Err::<(), _>(error())), &[]),
    ];
    for line in lines {
        assert!(line.contains("connect to unix:/app: no such file"), "{line}");
        assert_eq!(line.matches("no such file").count(), 1, "{line}");
        assert!(!line.contains("method") && !line.contains("path"), "{line}");
    }
    assert!(line(Err::<(), _>("no database"), &[]).contains("no database"));
}

#[test]
fn method_and_path_are_named_and_no_query_h_10() {
    let uri = [("REQUEST_METHOD", "GET"), ("REQUEST_URI", "/news\x1b?token=secret")];
    let script = [("REQUEST_METHOD", "GET"), ("SCRIPT_NAME", "/ne"), ("PATH_INFO", "ws\x1b")];
    for params in [&uri[..], &script[..]] {
        let line = line(Err::<(), _>("no database"), params);
        assert!(line.contains("GET") && line.contains("/news\\x1b"), "{line}");
        assert!(!line.contains("secret") && !line.contains('\x1b'), "{line}");
    }
    let params: Params = uri.into_iter().collect();
    let line = logs::of(|| {
        let end = catch_panic(7, || params, || panic!("this is a test")).unwrap_err();
        assert_eq!(end, HandlerEnd::Panicked);
    });
    assert!(line.contains("GET") && line.contains("/news"), "{line}");
    assert!(line.contains("request_id=7"), "{line}");
}
