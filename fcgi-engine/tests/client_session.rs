//! Single rules of a client's session, with the time passed in and without sockets.
#![allow(missing_docs)]

use std::{
    io::{self, IoSlice, Read as _},
    sync::Arc,
    task::Poll,
    time::{Duration, Instant},
};

use fcgi_engine::{
    Error, Phase,
    client::{Chunk, Session, Settings},
    pump::Socket,
};
use fcgi_proto::{BeginRequest, Params, Role};
use fcgi_testkit::wire::{Type, end, record};

/// An application that says these bytes, then closes or goes on.
struct Script {
    said: io::Cursor<Vec<u8>>,
    closes: bool,
}

impl Socket for Script {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        match self.said.read(buf)? {
            0 if !self.closes => Err(io::ErrorKind::WouldBlock.into()),
            n => Ok(n),
        }
    }

    fn write_vectored(&mut self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        Ok(slices.iter().map(|slice| slice.len()).sum())
    }
}

fn begin() -> BeginRequest {
    BeginRequest { role: Role::Responder, keep_conn: true, params: Params::new() }
}

fn session(settings: Settings) -> Session<()> {
    Session::new(Arc::from("app"), settings)
}

/// The total limit is for the application: a caller that reads late gets all that has come.
#[test]
fn a_whole_response_is_late_for_nobody() {
    let settings = Settings { total: Some(Duration::from_secs(1)), ..Settings::new() };
    let (mut session, start) = (session(settings), Instant::now());
    let mut exchange = session.begin(&begin(), true, start, start).unwrap();
    exchange.handle_body(Ok(None)).unwrap();
    session.push(&mut exchange).unwrap();
    let answer = [record(Type::Stdout, 1, b"hello"), end(1, 0, 0)].concat();
    let mut socket = Script { said: io::Cursor::new(answer), closes: false };
    session.write(&mut socket, || start);
    while session.read(&mut socket) {}
    session.handle_events(|()| ());
    let late = start + Duration::from_secs(10);
    let polled = session.poll(&mut exchange, || late);
    assert!(matches!(polled, Poll::Ready(Ok(Some(Chunk::Stdout(b)))) if b == "hello"));
    assert!(matches!(session.poll(&mut exchange, || late), Poll::Ready(Ok(None))));
}

/// A request that is whole at once can be taken for a part of the next one too.
#[test]
fn q_4_a_connection_is_not_kept_after_a_wrong_length() {
    let start = Instant::now();
    for (length, fits) in [("", true), ("0", true), ("5", false)] {
        let mut session = session(Settings::new());
        let params = Params::from_iter([("CONTENT_LENGTH", length)]).shared();
        let begin = BeginRequest { params, ..begin() };
        let mut exchange = session.begin(&begin, false, start, start).unwrap();
        assert!(!exchange.is_feeding() && exchange.wants_body().is_none());
        assert_eq!(exchange.is_mismatched(), !fits);
        let said = io::Cursor::new(end(1, 0, 0));
        let mut socket = Script { said, closes: false };
        session.write(&mut socket, || start);
        while session.read(&mut socket) {}
        session.handle_events(|()| ());
        assert!(matches!(session.poll(&mut exchange, || start), Poll::Ready(Ok(None))));
        session.forget(exchange.key());
        assert_eq!(session.is_reusable(), fits, "{length}");
    }
}

/// An application may send the head of its answer at once, and the rest when it has the whole body.
#[test]
fn an_upload_that_goes_on_is_not_late_after_the_first_byte() {
    let limit = Duration::from_secs(60);
    let settings = Settings { next_byte: Some(limit), total: None, ..Settings::new() };
    let (mut session, start) = (session(settings), Instant::now());
    let mut exchange = session.begin(&begin(), true, start, start).unwrap();
    let head = record(Type::Stdout, 1, b"head");
    let mut socket = Script { said: io::Cursor::new(head), closes: false };
    session.write(&mut socket, || start);
    while session.read(&mut socket) {}
    session.handle_events(|()| ());
    assert!(matches!(session.poll(&mut exchange, || start), Poll::Ready(Ok(Some(_)))));
    let chunk = exchange.hand_out(Ok(Some(Chunk::Stdout("head".into()))), || start);
    assert!(chunk.is_ok());
    assert_eq!(session.limit(&mut exchange, start).unwrap().at, start + limit);
    let later = start + Duration::from_secs(50);
    exchange.handle_body(Ok(Some("more".into()))).unwrap();
    session.push(&mut exchange).unwrap();
    session.write(&mut socket, || later);
    let next = session.limit(&mut exchange, later).unwrap();
    assert_eq!((next.phase, next.at), (Phase::NextByte, later + limit));
    // Nothing more is sent.
    let last = later + Duration::from_secs(30);
    assert_eq!(session.limit(&mut exchange, last).unwrap().at, later + limit);
}

/// The pool opens another connection for `Closed`; an error of misuse would reach its caller.
#[test]
fn a_connection_that_has_ended_unused_is_closed_to_requests() {
    let mut session = session(Settings::new());
    let mut socket = Script { said: io::Cursor::default(), closes: true };
    assert!(session.read(&mut socket));
    let now = Instant::now();
    assert!(matches!(session.begin(&begin(), true, now, now), Err(Error::Closed { .. })));
}

/// Nobody waits for such a connection once its last request has ended.
#[test]
fn a_connection_with_too_many_aborted_requests_settles_at_once() {
    let mut settings = Settings::new();
    settings.limits.tombstones = 0;
    let (mut session, start) = (session(settings), Instant::now());
    let mut exchange = session.begin(&begin(), true, start, start).unwrap();
    exchange.handle_body(Ok(None)).unwrap();
    session.push(&mut exchange).unwrap();
    let mut socket = Script { said: io::Cursor::default(), closes: false };
    session.write(&mut socket, || start);
    session.leave(&mut exchange);
    session.forget(exchange.key());
    session.write(&mut socket, || start);
    assert_eq!(session.settled(|| true), None, "its END_REQUEST is still to come");
    socket.said = io::Cursor::new(end(1, 1, 0));
    while session.read(&mut socket) {}
    session.handle_events(|()| ());
    assert_eq!(session.settled(|| true), Some(false));
}

/// Nobody waits for it any more: the application is not asked for it.
#[test]
fn a_request_that_is_late_already_does_not_begin() {
    let total = Duration::from_secs(1);
    let mut session = session(Settings { total: Some(total), ..Settings::new() });
    let start = Instant::now();
    let error = session.begin(&begin(), true, start, start + total).map(drop).unwrap_err();
    assert!(matches!(error, Error::Timeout { phase: Phase::Response, .. }), "{error:?}");
    assert!(!session.wants_write() && session.is_unused());
    // One in time does.
    session.begin(&begin(), true, start + total, start + total).unwrap();
    assert!(session.wants_write());
}

/// Nobody is there to give it up: it would have its place on a pool for ever.
#[test]
fn a_detached_request_has_a_limit() {
    let minutes = |n: u64| Duration::from_secs(60 * n);
    for (total, at) in [(None, minutes(15)), (Some(minutes(7)), minutes(7))] {
        let mut session = session(Settings { total, ..Settings::new() });
        let start = Instant::now();
        let mut exchange = session.begin(&begin(), true, start, start).unwrap();
        let now = start + minutes(5);
        exchange.detach(now);
        assert!(session.poll(&mut exchange, || start + at - Duration::from_secs(1)).is_pending());
        let Poll::Ready(Err(error)) = session.poll(&mut exchange, || start + at) else {
            panic!("it goes on")
        };
        assert!(matches!(error, Error::Timeout { phase: Phase::Response, .. }), "{error:?}");
    }
}

/// Reads what the system has, or says that it is code which may look at the buffer before.
struct Window {
    fills: bool,
    seen: Vec<u8>,
}

impl Socket for Window {
    fn fills(&self) -> bool {
        self.fills
    }

    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        self.seen = buf.to_vec();
        if self.fills {
            buf.fill(b'S');
        }
        Err(io::ErrorKind::WouldBlock.into())
    }

    fn write_vectored(&mut self, _: &[IoSlice<'_>]) -> io::Result<usize> {
        Err(io::ErrorKind::WouldBlock.into())
    }
}

/// Connections share a buffer. A stream that says more than it has read would pass them on as its
/// own bytes.
#[test]
fn no_stream_sees_what_another_connection_has_read() {
    let start = Instant::now();
    for fills in [true, false] {
        let mut session = session(Settings::new());
        session.begin(&begin(), true, start, start).unwrap();
        let mut window = Window { fills, seen: Vec::new() };
        session.read(&mut window);
        session.read(&mut window);
        assert!(!window.seen.is_empty());
        // The system fills it: there is no need to clear it.
        assert_eq!(window.seen.contains(&b'S'), fills);
    }
}

/// A socket that takes what there is room for, and can be given more.
struct Narrow {
    room: usize,
    asked: usize,
}

impl Socket for Narrow {
    fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
        Err(io::ErrorKind::WouldBlock.into())
    }

    fn write_vectored(&mut self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        let n = slices.iter().map(|slice| slice.len()).sum::<usize>().min(self.room);
        self.room -= n;
        if n > 0 { Ok(n) } else { Err(io::ErrorKind::WouldBlock.into()) }
    }

    fn widen(&mut self) -> bool {
        self.asked += 1;
        self.room += 1;
        true
    }
}

/// Its peer reads slowly, or the body is large. The memory is the system's, so it is asked once.
#[test]
fn a_full_socket_gets_more_room_once() {
    let start = Instant::now();
    let mut session = session(Settings::new());
    session.begin(&begin(), true, start, start).unwrap();
    let mut socket = Narrow { room: 3, asked: 0 };
    session.write(&mut socket, || start);
    assert_eq!((socket.room, socket.asked), (0, 1));
    assert!(session.is_blocked() && session.wants_write());
    socket.room = 2;
    session.write(&mut socket, || start);
    assert_eq!((socket.room, socket.asked), (0, 1));
    socket.room = 1 << 20;
    session.write(&mut socket, || start);
    assert!(!session.is_blocked() && !session.wants_write());
}

/// A socket with room that its runtime does not know of.
struct Unreported(usize);

impl Socket for Unreported {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        buf[0] = 1;
        Ok(1)
    }

    fn write_vectored(&mut self, _: &[IoSlice<'_>]) -> io::Result<usize> {
        Err(io::ErrorKind::WouldBlock.into())
    }

    fn write_at_once(&mut self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        let n = slices.iter().map(|slice| slice.len()).sum();
        self.0 += n;
        Ok(n)
    }
}

/// The time limits count from the last byte that could be sent: nothing else may send one.
#[test]
fn room_that_is_not_reported_is_looked_for_after_a_read() {
    let start = Instant::now();
    let mut session = session(Settings::new());
    session.begin(&begin(), true, start, start).unwrap();
    let mut socket = Unreported(0);
    session.write(&mut socket, || start);
    assert!(session.is_blocked() && socket.0 == 0);
    session.read(&mut socket);
    session.write(&mut socket, || start);
    assert!(!session.is_blocked() && socket.0 > 0);
}
