//! How the end of a client's request is logged: the same words in every adapter.
#![allow(missing_docs)]

use std::{
    io::{self, Read as _},
    sync::Arc,
    task::Poll,
    time::Instant,
};

use fcgi_engine::{
    Error, Phase,
    client::{Exchange, Session, Settings},
    pump::Socket,
};
use fcgi_proto::{BeginRequest, Params, ProtocolError, ProtocolErrorKind, Rejection, Role};
use fcgi_testkit::{
    logs,
    wire::{Type, end, record},
};

/// An application that says these bytes.
#[derive(Default)]
struct Answers(io::Cursor<Vec<u8>>);

impl Socket for Answers {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        match self.0.read(buf)? {
            0 => Err(io::ErrorKind::WouldBlock.into()),
            n => Ok(n),
        }
    }

    fn write_vectored(&mut self, slices: &[io::IoSlice<'_>]) -> io::Result<usize> {
        Ok(slices.iter().map(|slice| slice.len()).sum())
    }
}

fn begin() -> (Session<()>, Box<Exchange>) {
    let now = Instant::now();
    let mut session = Session::new("unix:/app".into(), Settings::new());
    let begin = BeginRequest { role: Role::Responder, keep_conn: true, params: Params::new() };
    let mut exchange = session.begin(&begin, true, now, now).unwrap();
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

/// A caller that knows the length of a body need not ask for the end.
#[test]
fn a_request_whose_response_was_read_whole_is_complete() {
    for (asks, word) in [(true, "request ended app_status=3"), (false, "outcome=Aborted")] {
        let log = logs::of(|| {
            let (mut session, mut exchange) = begin();
            session.write(&mut Answers::default(), Instant::now);
            exchange.handle_body(Ok(None)).unwrap();
            session.push(&mut exchange).unwrap();
            let said = [record(Type::Stdout, 1, b"hello"), end(1, 3, 0)].concat();
            session.read(&mut Answers(io::Cursor::new(said)));
            session.handle_events(|()| ());
            if asks {
                let polled = session.poll(&mut exchange, Instant::now);
                assert!(matches!(polled, Poll::Ready(Ok(Some(_)))));
            }
            session.leave(&mut exchange);
            exchange.give_up(Instant::now);
        });
        assert!(log.contains(word), "{log}");
    }
}
