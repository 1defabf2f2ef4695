//! How the end of a client's request is logged: the same words in every adapter.
#![allow(missing_docs)]

use std::{io, sync::Arc, task::Poll, time::Instant};

use fcgi_engine::{
    Error, Phase,
    client::{Exchange, Session, Settings},
};
use fcgi_proto::{BeginRequest, Params, ProtocolError, ProtocolErrorKind, Rejection, Role};
use fcgi_testkit::logs;

fn begin() -> (Session<()>, Exchange) {
    let now = Instant::now();
    let mut session = Session::new("unix:/app".into(), Settings::new());
    let begin = BeginRequest { role: Role::Responder, keep_conn: true, params: Params::new() };
    let mut exchange = session.begin(&begin, now, now).unwrap();
    exchange.begin_log(&begin, session.span(), || now);
    (session, exchange)
}

#[test]
fn each_end_of_a_request_has_its_word() {
    let address: Arc<str> = "unix:/app".into();
    let a = || Arc::clone(&address);
    let broken = || io::Error::from(io::ErrorKind::BrokenPipe);
    let limit = std::time::Duration::from_secs(1);
    let source = ProtocolError { kind: ProtocolErrorKind::Version(7), offset: 0 };
    let rejection = Rejection::Overloaded;
    let cases = [
        // Given up on this side.
        (Error::Body { address: a(), source: broken() }, "outcome=Aborted"),
        (Error::Overrun { address: a() }, "outcome=Aborted"),
        (Error::Cancelled { address: a() }, "outcome=Aborted"),
        // The application's doing.
        (Error::Protocol { address: a(), source }, "outcome=Failed"),
        (Error::Truncated { address: a() }, "outcome=Failed"),
        (Error::Io { address: a(), doing: "read from", source: broken() }, "outcome=Failed"),
        (Error::Rejected { address: a(), rejection }, "rejection=OVERLOADED"),
        (
            Error::Timeout { address: a(), phase: Phase::FirstByte, limit },
            "outcome=TimedOut(FirstByte)",
        ),
    ];
    for (error, word) in cases {
        let text = error.to_string();
        let log = logs::of(|| {
            let (_session, mut exchange) = begin();
            exchange.hand_out(Err(error), Instant::now).unwrap_err();
            assert!(exchange.is_over());
            // Once.
            exchange.give_up(Instant::now);
        });
        let ends: Vec<_> = log.lines().filter(|line| line.contains("request ")).collect();
        let ends: Vec<_> = ends.iter().filter(|line| line.contains("DEBUG")).collect();
        assert_eq!(ends.len(), 1, "{text}: {log}");
        assert!(ends[0].contains(word), "{text}: {log}");
        // Inside the spans of its connection and itself.
        assert!(ends[0].contains("fcgi_client_connection{address=unix:/app}"), "{log}");
        assert!(ends[0].contains("fcgi_request{side=\"client\""), "{log}");
    }
}

#[test]
fn a_request_that_nobody_wants_any_more_is_aborted() {
    let log = logs::of(|| {
        let (mut session, mut exchange) = begin();
        assert!(matches!(session.poll(&mut exchange, Instant::now), Poll::Pending));
        exchange.give_up(Instant::now);
    });
    assert!(log.contains("outcome=Aborted"), "{log}");
}
