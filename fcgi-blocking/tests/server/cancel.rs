//! Aborts, lost peers, half-closed connections, broken ones.

use std::sync::{
    Arc,
    atomic::{AtomicBool, AtomicUsize, Ordering},
};
use std::time::Duration;

use fcgi::{AbortReason, EndOfFile, Error, Request, Server};
use fcgi_blocking as fcgi;

use crate::{app::*, streams::echo};

const NEVER: Duration = Duration::from_secs(3600);

/// How a handler waits for its end.
#[derive(Clone, Copy, Debug)]
enum Way {
    Reading,
    Writing,
    Waiting,
    Computing,
}

const WAYS: [Way; 4] = [Way::Reading, Way::Writing, Way::Waiting, Way::Computing];

/// Says `started`, waits until it is told to stop, and returns 42; counts the handlers that were
/// told `reason`.
fn told(
    way: Way,
    reason: AbortReason,
    count: &Arc<AtomicUsize>,
) -> impl Fn(Request) -> Result<u32, Error> + Send + Sync + 'static {
    let count = Arc::clone(count);
    move |request: Request| {
        let mut stdout = request.stdout();
        // The peer may leave as soon as it has seen this, while the flush still waits.
        let started = stdout.write_all("started").and_then(|()| stdout.flush());
        let error = match way {
            _ if started.is_err() => started.unwrap_err(),
            Way::Reading => loop {
                match request.stdin().chunk() {
                    Ok(Some(_)) => {}
                    Ok(None) => panic!("STDIN was not to end"),
                    Err(error) => break error,
                }
            },
            Way::Writing => loop {
                if let Err(error) = request.stdout().write_all(vec![b'x'; 100_000]) {
                    break error;
                }
            },
            Way::Waiting => Error::Aborted(request.cancelled()),
            Way::Computing => {
                while !request.is_cancelled() {
                    std::thread::yield_now();
                }
                Error::Aborted(request.cancelled())
            }
        };
        let told = |error: &Error| matches!(error, Error::Aborted(told) if *told == reason);
        assert!(told(&error), "{error}");
        // All of its streams say so, and so does its signal.
        assert!(request.stdin().chunk().is_err_and(|error| told(&error)));
        assert!(request.stdout().write_all("x").is_err_and(|error| told(&error)));
        assert!(request.stdout().flush().is_err_and(|error| told(&error)));
        assert_eq!(request.cancelled_within(NEVER), Some(reason));
        assert!(request.is_cancelled());
        count.fetch_add(1, Ordering::SeqCst);
        Ok(42)
    }
}

#[test]
fn abort_is_told_and_the_handlers_status_sent_fc_5_4_1() {
    for (way, threads) in WAYS.into_iter().flat_map(|way| [(way, 1), (way, 4)]) {
        let count = Arc::default();
        let server = Server::new().threads(threads).abort_grace(NEVER);
        let app = serve(server, told(way, AbortReason::Requested, &count));
        let mut peer = app.dial();
        for _ in 0..3 {
            peer.send([begin(1, RESPONDER, KEEP), params(1, &[])].concat());
            peer.expect_stdout(1, b"started");
            peer.send(abort(1));
            let answer = peer.answer(1);
            assert_eq!((answer.app_status, answer.protocol_status), (42, 0), "{way:?}");
        }
        assert_eq!(count.load(Ordering::SeqCst), 3);
    }
}

#[test]
fn a_handler_that_ignores_an_abort_is_answered_for_fc_5_4_1() {
    let gate = Gate::default();
    let server = Server::new().threads(1).abort_grace(Duration::from_millis(50));
    let app = serve(server, {
        let gate = gate.clone();
        move |request: Request| {
            if request.param("IGNORE").is_some() {
                gate.wait();
            }
            request.stdout().write_all("fine")
        }
    });
    let mut peer = app.dial();
    peer.send(request(1, KEEP, &[("IGNORE", "")], b""));
    peer.send(abort(1));
    let stopped = Answer { app_status: fcgi::CANCELLED, ..complete("") };
    assert_eq!(peer.answer(1), stopped);
    // Its thread is not free yet: the next request waits for it, and may be aborted meanwhile.
    peer.send([request(1, KEEP, &[], b""), abort(1)].concat());
    assert_eq!(peer.answer(1), stopped);
    peer.send(request(1, KEEP, &[], b""));
    gate.open();
    assert_eq!(peer.answer(1), complete("fine"));
}

#[test]
fn a_lost_peer_is_told_to_every_handler_w_8() {
    for way in WAYS {
        let count: Arc<AtomicUsize> = Arc::default();
        let mut app = serve(Server::new().threads(4), told(way, AbortReason::Disconnected, &count));
        let mut peer = app.dial();
        // STDIN is open, and for one of them much of it unread.
        for id in [1, 2] {
            peer.send([begin(id, RESPONDER, KEEP), params(id, &[])].concat());
        }
        let mut started = 0;
        while started < 2 {
            started += usize::from(peer.record().content == b"started");
        }
        drop(peer);
        until("both handlers are told", || count.load(Ordering::SeqCst) == 2);
        // It does not delay the shutdown.
        app.stop();
        app.stopped();
    }
}

/// A connection that is not read, since its request is not, notices too.
#[test]
fn a_lost_peer_is_noticed_while_the_connection_is_paused_w_8() {
    let count: Arc<AtomicUsize> = Arc::default();
    let app = serve(Server::new(), told(Way::Waiting, AbortReason::Disconnected, &count));
    let mut peer = app.dial();
    peer.send([begin(1, RESPONDER, KEEP), params(1, &[])].concat());
    peer.expect_stdout(1, b"started");
    let mut sender = peer.writer();
    let body = stream(Type::Stdin, 1, &pattern(8 << 20, 1));
    let sending = std::thread::spawn(move || std::io::Write::write_all(&mut sender, &body));
    // It stands still once the server takes no more: the time only gives it room to get there.
    std::thread::sleep(Duration::from_millis(300));
    peer.shutdown();
    until("the handler is told", || count.load(Ordering::SeqCst) == 1);
    sending.join().unwrap().unwrap_err();
}

#[test]
fn a_lost_peer_cancels_nothing_where_that_is_wanted_w_8() {
    let (gate, done) = (Gate::default(), Arc::new(AtomicBool::new(false)));
    let app = serve(Server::new().cancel_on_disconnect(false), {
        let (gate, done) = (gate.clone(), Arc::clone(&done));
        move |request: Request| {
            request.stdout().write_all("started")?;
            request.stdout().flush()?;
            gate.wait();
            // Nobody reads it: it is dropped.
            for _ in 0..100 {
                request.stdout().write_all(vec![b'x'; 100_000])?;
            }
            assert_eq!(request.stdin().read_to_end(100)?, "body");
            done.store(true, Ordering::SeqCst);
            Ok::<_, Error>(())
        }
    });
    let mut peer = app.dial();
    peer.send(request(1, KEEP, &[], b"body"));
    peer.expect_stdout(1, b"started");
    drop(peer);
    gate.open();
    until("the handler is done", || done.load(Ordering::SeqCst));
}

#[test]
fn half_close_after_the_last_byte_over_tcp_still_gets_the_response_fc_3_5_2_w_8() {
    let gate = Gate::default();
    let app = serve_tcp(Server::new().end_of_file(EndOfFile::HalfClosed), {
        let gate = gate.clone();
        move |request: Request| {
            request.stdout().write_all("started")?;
            request.stdout().flush()?;
            gate.wait();
            echo(request)
        }
    });
    let mut peer = app.dial();
    peer.send(request(1, KEEP, &[], b"body"));
    peer.shutdown_write();
    peer.expect_stdout(1, b"started");
    gate.open();
    assert_eq!(peer.answer(1), complete("body"));
    peer.expect_close();
}

#[test]
fn half_close_inside_the_body_cancels() {
    let count: Arc<AtomicUsize> = Arc::default();
    let app = serve(Server::new(), told(Way::Reading, AbortReason::Disconnected, &count));
    let mut peer = app.dial();
    peer.send([begin(1, RESPONDER, KEEP), params(1, &[]), stream(Type::Stdin, 1, b"ha")].concat());
    peer.expect_stdout(1, b"started");
    peer.shutdown_write();
    until("the handler is told", || count.load(Ordering::SeqCst) == 1);
}

#[test]
fn protocol_errors_close_the_connection_and_cancel_its_requests() {
    for garbage in [
        b"GET / HTTP/1.1\r\n\r\n".to_vec(),       // FC-3.3-4
        record(Type::Stdin, 0, b"x"),             // FC-3.3-5, H-8
        record(Type::BeginRequest, 2, b"short"),  // FC-5.1-1, H-5
        begin(1, RESPONDER, KEEP),                // FC-3.3-10
        record(Type::GetValuesResult, 0, b""),    // FC-3.3-11, W-11
        stream(Type::Stdin, 1, b"after its end"), // FC-3.3-12
    ] {
        let count: Arc<AtomicUsize> = Arc::default();
        let app = serve(Server::new(), told(Way::Waiting, AbortReason::Disconnected, &count));
        let mut peer = app.dial();
        peer.send(request(1, KEEP, &[], b""));
        peer.expect_stdout(1, b"started");
        peer.send(garbage);
        // A reset is as good, where bytes of the peer's were left unread.
        let _ = peer.try_record().map(|record| assert_eq!(record, None));
        until("the handler is told", || count.load(Ordering::SeqCst) == 1);
    }
}

/// What waits for a thread when its connection breaks never gets one.
#[test]
fn requests_of_a_broken_connection_are_not_run() {
    let (gate, ran) = (Gate::default(), Arc::new(AtomicUsize::new(0)));
    let app = serve(Server::new().threads(2), {
        let (gate, ran) = (gate.clone(), Arc::clone(&ran));
        move |_: Request| {
            ran.fetch_add(1, Ordering::SeqCst);
            gate.wait();
        }
    });
    let mut busy = app.dial();
    busy.send([request(1, KEEP, &[], b""), request(2, KEEP, &[], b"")].concat());
    until("both run", || ran.load(Ordering::SeqCst) == 2);
    for last in [b"GET / HTTP/1.1\r\n\r\n".as_slice(), b""] {
        let mut peer = app.dial();
        peer.send(request(1, KEEP, &[], b""));
        peer.send(record(Type::GetValues, 0, &[]));
        assert_eq!(peer.record().kind, Type::GetValuesResult);
        peer.send(last);
        if last.is_empty() {
            drop(peer);
        } else {
            peer.expect_close();
        }
    }
    // The server has seen both ends when it has answered these: it may read a new connection, and
    // then answer it, before it has looked at all others.
    let mut late = app.dial();
    for _ in 0..3 {
        late.send(record(Type::GetValues, 0, &[]));
        assert_eq!(late.record().kind, Type::GetValuesResult);
    }
    late.send(request(1, KEEP, &[], b""));
    (0..3).for_each(|_| gate.open());
    assert_eq!(late.answer(1), failed(0));
    assert_eq!(ran.load(Ordering::SeqCst), 3);
}
