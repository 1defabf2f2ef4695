//! How a handler's error is logged: the same words in every adapter.
#![allow(missing_docs)]

use std::{error, io};

use fcgi_engine::{Error, server::IntoAppStatus};
use fcgi_testkit::logs;

fn error() -> Error {
    let source = io::Error::new(io::ErrorKind::NotFound, "no such file");
    Error::Connect { address: "unix:/app".into(), source }
}

#[test]
fn all_that_caused_it_is_said_once() {
    type Boxed = Box<dyn error::Error + Send + Sync>;
    let failures: [fn(); 3] = [
        || assert!(Err::<(), _>(error()).into_app_status().is_err()),
        || assert!(Err::<u32, _>(Boxed::from(error())).into_app_status().is_err()),
        || assert!(Err::<(), _>(io::Error::from(error())).into_app_status().is_err()),
    ];
    for failure in failures {
        let log = logs::of(failure);
        let line = log.lines().find(|line| line.contains("handler")).expect("it is logged");
        assert!(line.contains("connect to unix:/app: no such file"), "{line}");
        assert_eq!(line.matches("no such file").count(), 1, "{line}");
    }
    let log = logs::of(|| assert!(Err::<(), _>("no database").into_app_status().is_err()));
    assert!(log.contains("no database"), "{log}");
}
