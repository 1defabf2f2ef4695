//! Shutdown, and connections that end early.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use fcgi::{AbortReason, Error, Handler, Rejection, Request, Server};
use fcgi_blocking as fcgi;

use crate::{
    app::*,
    many::{gated, hello},
};

#[test]
fn shutdown_closes_idle_connections_and_finishes_requests_fc_7_1() {
    for threads in [1, 4] {
        let gate = Gate::default();
        let mut app = serve(Server::new().threads(threads), gated(&gate));
        let (mut silent, mut idle, mut busy) = (app.dial(), app.dial(), app.dial());
        gate.open();
        idle.send(request(1, KEEP, &[], b""));
        assert_eq!(idle.answer(1), complete("starteddone"));
        busy.send(request(1, KEEP, &[], b""));
        busy.expect_stdout(1, b"started");
        app.stop();
        silent.expect_close();
        idle.expect_close();
        until("it takes no more connections", || !app.path().exists());
        if threads == 1 {
            busy.send(request(2, KEEP, &[], b""));
            assert_eq!(busy.answer(2), rejected(Rejection::CantMpxConn));
        }
        assert!(!app.is_finished());
        gate.open();
        assert_eq!(busy.answer(1), complete("done"));
        busy.expect_close();
        app.stopped();
    }
}

#[test]
fn shutdown_of_an_idle_server_and_of_one_that_starts_too_late() {
    let mut app = serve(Server::new(), hello);
    let mut peer = app.dial();
    peer.send(request(1, CLOSE, &[], b""));
    assert_eq!(peer.answer(1), complete("hello"));
    app.stop();
    app.stopped();
    let shutdown = fcgi::Shutdown::new();
    shutdown.trigger();
    let listener = fcgi::Listener::bind("tcp:127.0.0.1:0").unwrap();
    Server::new().serve(listener, hello).with_graceful_shutdown(&shutdown).run().unwrap();
}

#[test]
fn shutdown_cancels_what_takes_too_long() {
    let limit = Duration::from_millis(200);
    let told = Arc::new(AtomicUsize::new(0));
    let mut app = serve(Server::new().shutdown_timeout(limit), {
        let told = Arc::clone(&told);
        move |request: Request| {
            request.stdout().write_all("started")?;
            assert_eq!(request.cancelled(), AbortReason::Disconnected);
            told.fetch_add(1, Ordering::SeqCst);
            Ok::<_, Error>(())
        }
    });
    let mut peer = app.dial();
    peer.send(request(1, KEEP, &[], b""));
    peer.expect_stdout(1, b"started");
    let start = Instant::now();
    app.stop();
    peer.expect_close();
    app.stopped();
    assert!(start.elapsed() >= limit);
    assert_eq!(told.load(Ordering::SeqCst), 1);
}

#[test]
fn shutdown_leaves_a_handler_behind_that_never_returns() {
    let limit = Duration::from_millis(100);
    let gate = Gate::default();
    let server = Server::new().shutdown_timeout(limit).abort_grace(limit);
    let mut app = serve(server, gated(&gate));
    let mut peer = app.dial();
    peer.send(request(1, KEEP, &[], b""));
    peer.expect_stdout(1, b"started");
    let start = Instant::now();
    app.stop();
    app.stopped();
    assert!(start.elapsed() >= limit * 2);
    peer.expect_close();
    gate.open();
}

/// The answer is there, whole, though the peer is still busy sending what nobody reads.
#[test]
fn one_thread_loses_no_answer_before_the_end_of_a_big_upload_fc_6_2_1() {
    let app = serve_tcp(Server::new().threads(1), hello);
    let mut wire = [begin(1, RESPONDER, CLOSE), params(1, &[])].concat();
    wire.extend(stream(Type::Stdin, 1, &pattern(8 << 20, 3)));
    wire.extend(close(Type::Stdin, 1));
    let mut peer = app.dial();
    // All of it first: a reset in between would fail this, or lose the answer.
    peer.send(wire);
    assert_eq!(peer.answer(1), complete("hello"));
    peer.expect_close();
}

/// A handle that outlives its handler does nothing, and does not hold the connection open.
#[test]
fn a_handle_that_outlives_its_handler_does_nothing() {
    let (sender, handles) = std::sync::mpsc::channel();
    let sender = std::sync::Mutex::new(sender);
    let app = serve(Server::new(), move |request: Request| {
        request.stdout().write_all("hello")?;
        sender.lock().unwrap().send(request).unwrap();
        Ok::<_, Error>(())
    });
    let mut peer = app.dial();
    peer.send(request(1, CLOSE, &[], b""));
    assert_eq!(peer.answer(1), complete("hello"));
    peer.expect_close();
    let late = handles.recv().unwrap();
    assert!(late.is_cancelled());
    assert!(matches!(late.stdout().write_all("x"), Err(Error::Usage(_))));
    assert!(matches!(late.stdin().chunk(), Err(Error::Usage(_))));
    assert_eq!(late.cancelled(), AbortReason::Disconnected);
}

/// Whether the handler has dropped its request when it fails, or not.
#[test]
fn a_failed_handler_is_logged_with_method_and_path() {
    let (said, log) = std::sync::mpsc::channel();
    let fails = |request: fcgi::Request| {
        if request.param_str("HOW") == Some("early") {
            drop(request);
        }
        Err::<(), _>("no database")
    };
    // The log is that of the thread which runs the handler.
    let app = serve(Server::new().threads(1), move |request| {
        let line = fcgi_testkit::logs::of(|| {
            Handler::call(&fails, request).unwrap_err();
        });
        said.send(line).unwrap();
    });
    for how in ["early", "late"] {
        let params = [("REQUEST_METHOD", "PUT"), ("REQUEST_URI", "/news?q=secret"), ("HOW", how)];
        let mut peer = Peer::dial(&app.address);
        peer.send(request(1, CLOSE, &params, b""));
        peer.answer(1);
        let line = log.recv().unwrap();
        assert!(line.contains("no database"), "{line}");
        assert!(line.contains("method=PUT") && line.contains("path=/news"), "{line}");
        assert!(!line.contains("secret"), "{line}");
    }
}
