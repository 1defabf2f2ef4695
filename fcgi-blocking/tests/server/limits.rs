//! Time limits. Each is short here and the others long; that one of the others passed instead
//! would show in how long the test takes, or in what it sees.

use std::{
    io::Write,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use fcgi::{Error, Phase, Request, Server};
use fcgi_blocking as fcgi;

use crate::{app::*, many::hello};

/// Long enough for what needs no time, on any machine.
const LIMIT: Duration = Duration::from_secs(2);

/// A server with one limit.
fn limited(set: impl FnOnce(Server, Option<Duration>) -> Server) -> Server {
    let server = Server::new()
        .first_record_timeout(None)
        .params_timeout(None)
        .idle_timeout(None)
        .write_timeout(None)
        .handler_timeout(None);
    set(server, Some(LIMIT))
}

#[test]
fn first_record_limit_is_for_the_first_record_only_h_16() {
    let app = serve(limited(Server::first_record_timeout), hello);
    let mut peer = app.dial();
    for _ in 0..2 {
        peer.send(request(1, KEEP, &[], b""));
        assert_eq!(peer.answer(1), complete("hello"));
        std::thread::sleep(LIMIT * 5 / 4);
    }
}

#[test]
fn params_limit_h_16() {
    let app = serve(limited(Server::params_timeout), hello);
    let mut peer = app.dial();
    peer.send(request(1, KEEP, &[], b""));
    assert_eq!(peer.answer(1), complete("hello"));
    // Slow, not silent: a byte now and then does not prolong it.
    let start = Instant::now();
    peer.send(begin(1, RESPONDER, KEEP));
    let mut to = peer.writer();
    let dripping = std::thread::spawn(move || {
        let endless = record(Type::Params, 1, &[b'x'; 65_000]);
        for byte in endless {
            std::thread::sleep(LIMIT / 50);
            if to.write_all(&[byte]).is_err() {
                return true;
            }
        }
        false
    });
    assert!(peer.rest().is_empty() && start.elapsed() >= LIMIT);
    assert!(dripping.join().unwrap(), "the connection was closed");
}

#[test]
fn write_limit_is_for_a_peer_that_reads_nothing() {
    let failed = Arc::new(AtomicBool::new(false));
    let app = serve(limited(Server::write_timeout), {
        let failed = Arc::clone(&failed);
        move |request: Request| {
            loop {
                if let Err(error) = request.stdout().write_all(vec![b'x'; 64 * 1024]) {
                    assert!(matches!(error, Error::Aborted(_)), "{error}");
                    failed.store(true, Ordering::SeqCst);
                    return;
                }
            }
        }
    });
    let mut peer = app.dial();
    peer.send(request(1, CLOSE, &[], b""));
    // Slow for longer than the limit in all, never for so long without a read.
    let mut start = Instant::now();
    for _ in 0..8 {
        std::thread::sleep(LIMIT / 6);
        start = Instant::now();
        // More than the sockets hold, so that there was something to write again.
        let mut read = 0;
        while read < 512 * 1024 {
            read += peer.record().content.len();
        }
    }
    assert!(!failed.load(Ordering::SeqCst));
    until("the handler is told", || failed.load(Ordering::SeqCst));
    assert!(start.elapsed() >= LIMIT);
}

#[test]
fn handler_limit_is_told_and_its_request_ended() {
    for way in ["read", "write", "wait", "ignore"] {
        let (gate, told) = (Gate::default(), Arc::new(AtomicBool::new(false)));
        let app = serve(limited(Server::handler_timeout).threads(2), {
            let (gate, told) = (gate.clone(), Arc::clone(&told));
            move |request: Request| -> Result<u32, Error> {
                request.stdout().write_all("started")?;
                request.stdout().flush()?;
                match request.param_str("WAY") {
                    Some("read") => while request.stdin().chunk().is_ok_and(|end| end.is_some()) {},
                    Some("write") => while request.stdout().write_all(vec![0; 100_000]).is_ok() {},
                    Some("wait") => drop(request.cancelled()),
                    Some("ignore") => gate.wait(),
                    _ => return Ok(3),
                }
                let error = request.stdout().write_all("x").unwrap_err();
                assert!(
                    matches!(error, Error::Timeout { phase: Phase::Handler, limit: LIMIT, .. }),
                    "{error}"
                );
                assert!(request.is_cancelled());
                told.store(true, Ordering::SeqCst);
                Ok(5)
            }
        });
        let mut peer = app.dial();
        let start = Instant::now();
        peer.send([begin(1, RESPONDER, KEEP), params(1, &[("WAY", way)])].concat());
        peer.expect_stdout(1, b"started");
        let rest = loop {
            match peer.try_record().unwrap() {
                Some(record) => assert_eq!(record.kind, Type::Stdout, "{way}"),
                None => break start.elapsed(),
            }
        };
        assert!(rest >= LIMIT);
        // The server goes on, whether or not the handler does.
        let mut peer = app.dial();
        peer.send(request(1, KEEP, &[], b""));
        assert_eq!(peer.answer(1), Answer { app_status: 3, ..complete("started") });
        gate.open();
        until("the handler is told", || told.load(Ordering::SeqCst));
    }
}

#[test]
fn handler_limit_counts_the_wait_for_a_thread() {
    let gate = Gate::default();
    let app = serve(limited(Server::handler_timeout).threads(1), {
        let gate = gate.clone();
        move |_: Request| gate.wait()
    });
    let (mut one, mut two) = (app.dial(), app.dial());
    one.send(request(1, KEEP, &[], b""));
    assert_eq!(one.answer(1).app_status, fcgi::CANCELLED);
    // The only thread is stuck: this one never gets it.
    two.send(request(1, KEEP, &[], b""));
    assert_eq!(two.answer(1).app_status, fcgi::CANCELLED);
    gate.open();
}

#[test]
fn no_other_limit_ends_a_handler_that_runs() {
    let server = Server::new()
        .first_record_timeout(Some(LIMIT))
        .params_timeout(Some(LIMIT))
        .idle_timeout(Some(LIMIT))
        .write_timeout(Some(Duration::from_secs(60)));
    let app = serve(server, |request: Request| -> Result<(), Error> {
        std::thread::sleep(LIMIT * 5 / 4);
        request.stdout().write_all(vec![b'x'; 1 << 20])?;
        request.stdout().flush()?;
        std::thread::sleep(LIMIT * 5 / 4);
        request.stdout().write_all("end")
    });
    let mut peer = app.dial();
    peer.send(request(1, KEEP, &[], b""));
    let answer = peer.answer(1);
    assert_eq!((answer.stdout.len(), answer.app_status), ((1 << 20) + 3, 0));
}
