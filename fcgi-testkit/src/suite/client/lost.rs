//! Applications that half-close, and records that belong to no response. The results are the same
//! for a request with its own connection and for one on a shared connection.

use std::{net::Shutdown, os::unix::net::UnixStream, time::Duration};

use fcgi_engine::{
    Error, Phase,
    client::{Chunk, Settings},
    pool,
    socket::{HangUp, hang_up},
};
use fcgi_proto::ProtocolErrorKind;

use super::post;
use crate::suite::{
    Case, Suite, TestClient, TestPool, TestRequest, TestResponse, patient,
    signal::{background, until},
    wire::*,
};

pub(super) const CASES: &[(&str, Case)] = cases![
    "client":
    an_application_that_goes_away_by_halves_gets_no_other_request,
    an_application_that_reads_no_more_may_still_answer,
    every_byte_that_came_is_handed_on_before_the_failure_q_20,
    stray_records_are_no_progress_q_21,
    a_record_that_stalls_is_no_progress_q_21,
    stray_records_have_a_budget_q_21,
];

/// The limit that a case waits for.
const LIMIT: Duration = Duration::from_millis(400);
/// Limits that none of these cases reaches.
const NEVER: Option<Duration> = Some(Duration::from_secs(3600));

fn unlimited() -> Settings {
    // After a response that failed, its rest is only read for a moment.
    let drain = LIMIT;
    Settings { connect: NEVER, first_byte: NEVER, next_byte: NEVER, drain, ..patient() }
}

/// A way to send requests.
pub(super) enum Way {
    Alone(Box<dyn TestClient>),
    Shared(Box<dyn TestPool>),
}

impl Way {
    fn send<'a>(&'a mut self, request: TestRequest) -> Result<Box<dyn TestResponse + 'a>, Error> {
        match self {
            Self::Alone(client) => client.send(request),
            Self::Shared(pool) => Ok(pool.send(request)?),
        }
    }

    fn call(&mut self, request: TestRequest) -> Result<Vec<u8>, Error> {
        Ok(self.send(request)?.collect(64 << 20)?.stdout.to_vec())
    }

    /// What is handed out of a response that fails, and the error.
    pub(super) fn fails(&mut self, request: TestRequest) -> (Vec<u8>, Error) {
        let mut out = Vec::new();
        let mut response = match self.send(request) {
            Ok(response) => response,
            Err(error) => return (out, error),
        };
        loop {
            match response.chunk() {
                Ok(Some(Chunk::Stdout(bytes) | Chunk::Stderr(bytes))) => out.extend(bytes),
                Ok(None) => panic!("a success after {} bytes", out.len()),
                Err(error) => return (out, error),
            }
        }
    }
}

/// Answers GET_VALUES, so that the following connections are shared.
fn offer_to_share(app: &RawApp) {
    let mut peer = app.accept();
    assert_eq!(peer.record().kind, Type::GetValues);
    peer.send(record(Type::GetValuesResult, 0, &encode(&[("FCGI_MPXS_CONNS", "1")])));
}

/// What an application does with its first connection for requests. The flag says whether requests
/// share that connection.
pub(super) type Serve = fn(&RawApp, Peer, bool);

/// Whether an error is the one that a case expects.
type Expected = fn(&Error) -> bool;

/// Runs a case twice: with a connection of its own, and with a shared one. `serve` runs in a thread.
pub(super) fn both_ways(suite: &Suite, settings: Settings, serve: Serve, call: impl Fn(&mut Way)) {
    for shared in [false, true] {
        let app = RawApp::new();
        let address = app.address.clone();
        let application = background(move || {
            if shared {
                offer_to_share(&app);
            }
            let peer = app.accept();
            serve(&app, peer, shared);
        });
        let mut way = if shared {
            let mut pool = pool::Settings { multiplex: 4, ..pool::Settings::new() };
            pool.limits.age = None;
            Way::Shared(suite.adapter.pool(&address, settings, pool))
        } else {
            Way::Alone(suite.adapter.connect(&address, settings).unwrap())
        };
        call(&mut way);
        drop(way);
        application.join();
    }
}

fn shut(peer: &Peer, how: Shutdown) {
    UnixStream::from(peer.socket()).shutdown(how).unwrap();
}

/// Takes a request and answers with its body.
fn echo_one(peer: &mut Peer) {
    let (id, _, body) = peer.request();
    peer.send(answer(id, &body));
}

/// Answers the next request. A pool opens another connection for it, while the first stays open; a
/// client has only the first.
fn serve_on(app: &RawApp, peer: &Peer, shared: bool) {
    if shared {
        echo_one(&mut app.accept());
    }
    let socket = peer.socket();
    until("the client is gone", || hang_up(&socket) == HangUp::Gone);
}

fn an_application_that_goes_away_by_halves_gets_no_other_request(suite: &Suite) {
    let serves: [(Serve, Expected); 3] = [
        (
            |app, mut peer, shared| {
                let (id, _, body) = peer.request();
                shut(&peer, Shutdown::Read);
                peer.send(answer(id, &body));
                serve_on(app, &peer, shared);
            },
            |error| matches!(error, Error::Io { doing: "write to", .. }),
        ),
        (
            |app, mut peer, shared| {
                echo_one(&mut peer);
                shut(&peer, Shutdown::Write);
                serve_on(app, &peer, shared);
            },
            |error| matches!(error, Error::Closed { .. } | Error::Truncated { .. }),
        ),
        (
            |app, mut peer, shared| {
                let (id, _, body) = peer.request();
                peer.send([answer(id, &body), b"not FastCGI".to_vec()].concat());
                serve_on(app, &peer, shared);
            },
            |error| matches!(error, Error::Closed { .. } | Error::Protocol { .. }),
        ),
    ];
    for (serve, expected) in serves {
        // No limit is waited for.
        both_ways(suite, unlimited(), serve, |way| {
            assert_eq!(way.call(post(b"one")).unwrap(), b"one");
            match (way.call(post(b"two")), &way) {
                (Ok(answer), Way::Shared(_)) => assert_eq!(answer, b"two"),
                (Err(error), Way::Alone(client)) => {
                    assert!(expected(&error), "{error}");
                    assert!(!client.is_reusable());
                }
                (other, _) => panic!("{other:?}"),
            }
        });
    }
}

fn an_application_that_reads_no_more_may_still_answer(suite: &Suite) {
    let serve = |_: &RawApp, mut peer: Peer, _: bool| {
        let begin = peer.record();
        peer.record_of(Type::Stdin);
        shut(&peer, Shutdown::Read);
        // The rest of its body can't be sent any more.
        std::thread::sleep(Duration::from_millis(50));
        peer.send(answer(begin.id, b"enough"));
    };
    both_ways(suite, unlimited(), serve, |way| {
        let body = vec![b'x'; 8 << 20];
        assert_eq!(way.call(post(&body)).unwrap(), b"enough");
    });
}

fn every_byte_that_came_is_handed_on_before_the_failure_q_20(suite: &Suite) {
    const BODY: usize = 200_000;
    fn begin_answer(peer: &mut Peer) -> (u16, Vec<u8>) {
        let (id, ..) = peer.request();
        (id, record(Type::Stdout, id, &[b'y'; BODY / 4]).repeat(4))
    }
    // All of it is there, with the failure behind it, before it is read.
    let failures: [(Serve, Expected); 4] = [
        (
            |_, mut peer, _| {
                let (_, bytes) = begin_answer(&mut peer);
                peer.send(bytes);
            },
            |error| matches!(error, Error::Truncated { .. }),
        ),
        (
            |_, mut peer, _| {
                let (_, bytes) = begin_answer(&mut peer);
                peer.send([bytes, b"not FastCGI".to_vec()].concat());
            },
            |error| matches!(error, Error::Protocol { .. }),
        ),
        (
            |_, mut peer, _| {
                let (id, bytes) = begin_answer(&mut peer);
                peer.send([bytes, end(id, 0, 2)].concat());
            },
            |error| matches!(error, Error::Rejected { .. }),
        ),
        (
            |_, mut peer, _| {
                let (id, bytes) = begin_answer(&mut peer);
                peer.send([bytes, record(Type::Stdout, id, b"z")[..8].to_vec()].concat());
                peer.shutdown_write();
            },
            |error| matches!(error, Error::Truncated { .. }),
        ),
    ];
    for (serve, expected) in failures {
        both_ways(suite, unlimited(), serve, |way| {
            let (out, error) = way.fails(post(b"body"));
            assert!(expected(&error), "{error}");
            assert_eq!(out.len(), BODY, "before {error}");
        });
    }
}

/// Records that are not part of the response under this id.
fn stray(id: u16) -> Vec<u8> {
    let unknown = record(Type::UnknownType, 0, &[99, 0, 0, 0, 0, 0, 0, 0]);
    let others = [record(Type::Stdout, id + 1, b"another's"), end(id + 1, 0, 0)];
    [unknown, others.concat(), close(Type::Stderr, id)].concat()
}

/// Sends these bytes again and again until nobody takes them.
fn trickle(peer: &mut Peer, bytes: &[u8]) {
    while peer.try_send(bytes).is_ok() {
        std::thread::sleep(LIMIT / 10);
    }
}

fn assert_phase(error: &Error, expected: Phase) {
    assert!(matches!(error, Error::Timeout { phase, .. } if *phase == expected), "{error}");
}

fn stray_records_are_no_progress_q_21(suite: &Suite) {
    let first = Settings { first_byte: Some(LIMIT), ..unlimited() };
    let serve = |_: &RawApp, mut peer: Peer, _: bool| {
        let (id, ..) = peer.request();
        trickle(&mut peer, &stray(id));
    };
    both_ways(suite, first, serve, |way| {
        let (_, error) = way.fails(post(b"body"));
        assert_phase(&error, Phase::FirstByte);
    });
    let next = Settings { next_byte: Some(LIMIT), ..unlimited() };
    let serve = |_: &RawApp, mut peer: Peer, _: bool| {
        let (id, ..) = peer.request();
        peer.send(record(Type::Stdout, id, b"first"));
        trickle(&mut peer, &stray(id));
    };
    both_ways(suite, next, serve, |way| {
        let (out, error) = way.fails(post(b"body"));
        assert_phase(&error, Phase::NextByte);
        assert_eq!(out, b"first");
    });
}

fn a_record_that_stalls_is_no_progress_q_21(suite: &Suite) {
    // Inside of a header, and inside of an END_REQUEST. The client may have given up by then.
    let serves: [Serve; 2] = [
        |_, mut peer, _| {
            let (id, ..) = peer.request();
            let _ = peer.try_send(&record(Type::Stdout, id, b"never")[..5]);
            peer.rest();
        },
        |_, mut peer, _| {
            let (id, ..) = peer.request();
            let _ = peer.try_send(&end(id, 0, 0)[..12]);
            peer.rest();
        },
    ];
    let settings = Settings { first_byte: Some(LIMIT), ..unlimited() };
    for serve in serves {
        both_ways(suite, settings, serve, |way| {
            let (_, error) = way.fails(post(b"body"));
            assert_phase(&error, Phase::FirstByte);
        });
    }
}

fn stray_records_have_a_budget_q_21(suite: &Suite) {
    let serve = |_: &RawApp, mut peer: Peer, _: bool| {
        let (id, ..) = peer.request();
        peer.send(record(Type::Stdout, id, b"first"));
        let flood = record(Type::Stdout, id + 1, &[b'x'; 60_000]);
        while peer.try_send(&flood).is_ok() {}
    };
    both_ways(suite, unlimited(), serve, |way| {
        let (out, error) = way.fails(post(b"body"));
        let Error::Protocol { source, .. } = &error else { panic!("{error}") };
        assert!(matches!(source.kind, ProtocolErrorKind::StrayBytes(_)), "{error}");
        assert_eq!(out, b"first");
    });
}
