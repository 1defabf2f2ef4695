//! Requests whose responses are dropped or detached.

use std::{
    io::Write,
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use fcgi_engine::{Error, Phase, client::Chunk, pool::Settings};

use super::{
    MULTIPLEXES, aborted, answer_values, call, drained_within, give_up, multiplexing, next,
    numbered, serve_one, settings,
};
use crate::suite::{
    Case, Suite, TestPool, TestRequest, patient,
    signal::{Gate, background, pattern, until},
    wire::*,
};

pub(super) const CASES: &[(&str, Case)] = cases![
    "pool":
    a_dropped_response_leaves_nothing_to_the_next_h_11,
    a_dropped_response_is_drained_and_its_connection_used_again,
    a_detached_response_is_read_to_its_end_and_its_connection_used_again,
    an_application_that_ignores_an_abort_loses_its_connection_q_6,
    a_detached_response_goes_on_after_the_pool_was_closed,
    a_connection_that_is_not_kept_is_closed_with_its_dropped_response,
    a_request_that_timed_out_is_drained_too,
];

fn a_dropped_response_leaves_nothing_to_the_next_h_11(suite: &Suite) {
    let app = RawApp::new();
    let pool = suite.pool(&app.address, settings(1));
    thread::spawn(move || {
        loop {
            let mut peer = app.accept();
            while let Ok(Some(begin)) = peer.try_record() {
                if begin.kind == Type::AbortRequest {
                    // Late, and more of the same; it may have closed by now.
                    let late = [record(Type::Stdout, begin.id, b"old"), end(begin.id, 0, 0)];
                    let _ = peer.writer().write_all(&late.concat());
                    continue;
                }
                let params = peer.stream_of(Type::Params, begin.id);
                peer.stream_of(Type::Stdin, begin.id);
                let n = decode(&params)[0].1.clone();
                if n.ends_with(b"0") {
                    peer.send(record(Type::Stdout, begin.id, b"part"));
                } else {
                    peer.send(answer(begin.id, &n));
                }
            }
        }
    });
    for round in 0..20 {
        let mut response = pool.send(numbered(round * 10)).unwrap();
        assert_eq!(response.chunk().unwrap(), Some(Chunk::Stdout("part".into())));
        drop(response);
        let n = round * 10 + 1;
        assert_eq!(call(&*pool, numbered(n)).unwrap(), n.to_string().as_bytes());
    }
}

fn a_dropped_response_is_drained_and_its_connection_used_again(suite: &Suite) {
    let app = RawApp::new();
    let pool: Arc<dyn TestPool> = Arc::from(suite.pool(&app.address, settings(1)));
    let drains = Gate::default();
    let waits = drains.clone();
    let application = background(move || {
        let mut peer = app.accept();
        for round in 0..3 {
            let id = aborted(&mut peer);
            if round == 0 {
                waits.wait();
            }
            peer.send([record(Type::Stdout, id, b"late"), end(id, 1, 0)].concat());
            assert!(serve_one(&mut peer));
        }
    });
    give_up(&*pool, 0);
    assert_eq!(pool.stats().active, 1, "it is being drained");
    let next = Arc::clone(&pool);
    let next = background(move || call(&*next, numbered(1)));
    until("the next waits", || pool.stats().waiting == 1);
    drains.open();
    assert_eq!(next.join().unwrap(), b"1");
    for n in [2, 4] {
        give_up(&*pool, n);
        assert_eq!(call(&*pool, numbered(n + 1)).unwrap(), (n + 1).to_string().as_bytes());
    }
    application.join();
}

fn a_detached_response_is_read_to_its_end_and_its_connection_used_again(suite: &Suite) {
    for settings in [settings(1), multiplexing()] {
        let app = RawApp::new();
        let shared = settings.multiplex > 1;
        let pool: Arc<dyn TestPool> = Arc::from(suite.pool(&app.address, settings));
        let (goes_on, ended) = (Gate::default(), Gate::default());
        let (waits, ends) = (goes_on.clone(), ended.clone());
        let body = pattern(4 << 20, 1);
        let expected = body.clone();
        let application = background(move || {
            if shared {
                answer_values(&app, MULTIPLEXES);
            }
            let mut peer = app.accept();
            let begin = peer.record();
            peer.stream_of(Type::Params, begin.id);
            peer.send(record(Type::Stdout, begin.id, b"first"));
            waits.wait();
            assert!(peer.stream_of(Type::Stdin, begin.id) == expected);
            peer.send(answer(begin.id, &[b'x'; 30_000]));
            ends.open();
            assert!(serve_one(&mut peer), "on the same connection");
        });
        let request = TestRequest::responder().stdin(body);
        let mut response = pool.send(request).unwrap();
        assert_eq!(response.chunk().unwrap(), Some(Chunk::Stdout("first".into())));
        response.detach();
        assert_eq!(pool.stats().active, 1, "it goes on");
        goes_on.open();
        ended.wait();
        assert_eq!(call(&*pool, numbered(7)).unwrap(), b"7");
        application.join();
    }
}

fn an_application_that_ignores_an_abort_loses_its_connection_q_6(suite: &Suite) {
    let app = RawApp::new();
    let limit = Duration::from_millis(100);
    let pool = suite.adapter.pool(&app.address, drained_within(limit), settings(1));
    let application = background(move || {
        for _ in 0..2 {
            let mut deaf = app.accept();
            aborted(&mut deaf);
            deaf.expect_end();
        }
        assert!(serve_one(&mut app.accept()));
    });
    for n in 0..2 {
        let started = Instant::now();
        give_up(&*pool, n);
        until("the place is free", || pool.stats().active == 0);
        assert!(started.elapsed() >= limit);
        assert_eq!(pool.stats().connections, 0);
    }
    assert_eq!(call(&*pool, numbered(2)).unwrap(), b"2");
    application.join();
}

/// It is a request like any other that is under way.
fn a_detached_response_goes_on_after_the_pool_was_closed(suite: &Suite) {
    for settings in [settings(1), multiplexing()] {
        let app = RawApp::new();
        let shared = settings.multiplex > 1;
        let pool = suite.pool(&app.address, settings);
        let (goes_on, body) = (Gate::default(), pattern(4 << 20, 1));
        let (waits, expected) = (goes_on.clone(), body.clone());
        let application = background(move || {
            if shared {
                answer_values(&app, MULTIPLEXES);
            }
            let mut peer = app.accept();
            let begin = peer.record();
            peer.stream_of(Type::Params, begin.id);
            peer.send(record(Type::Stdout, begin.id, b"first"));
            waits.wait();
            assert!(peer.stream_of(Type::Stdin, begin.id) == expected);
            peer.send(answer(begin.id, &[b'x'; 30_000]));
            peer.expect_end();
        });
        let mut response = pool.send(TestRequest::responder().stdin(body)).unwrap();
        assert_eq!(response.chunk().unwrap(), Some(Chunk::Stdout("first".into())));
        response.detach();
        pool.close();
        assert!(matches!(call(&*pool, numbered(1)), Err(Error::PoolClosed { .. })));
        assert_eq!(pool.stats().active, 1, "it goes on");
        goes_on.open();
        application.join();
        until("it has ended", || pool.stats().connections == 0);
    }
}

/// There is nothing to drain it for. The application hears of the abort, and of the end.
fn a_connection_that_is_not_kept_is_closed_with_its_dropped_response(suite: &Suite) {
    for request_keeps in [true, false] {
        let app = RawApp::new();
        let settings = Settings { keep_conn: !request_keeps, ..settings(1) };
        let drain = drained_within(Duration::from_secs(600));
        let pool = suite.adapter.pool(&app.address, drain, settings);
        let application = background(move || {
            let mut peer = app.accept();
            aborted(&mut peer);
            // It never ends the request.
            peer.expect_end();
            assert!(serve_one(&mut app.accept()));
        });
        let mut response = pool.send(numbered(0).keep_conn(request_keeps)).unwrap();
        assert_eq!(response.chunk().unwrap(), Some(Chunk::Stdout("part".into())));
        drop(response);
        assert_eq!(pool.stats().connections, 0, "it takes no place");
        assert_eq!(call(&*pool, numbered(1)).unwrap(), b"1");
        application.join();
    }
}

fn a_request_that_timed_out_is_drained_too(suite: &Suite) {
    for settings in [settings(1), multiplexing()] {
        let app = RawApp::new();
        let mut connection = patient();
        // Long enough for an answer that needs no time, on any machine.
        connection.first_byte = Some(Duration::from_secs(3));
        let pool = suite.adapter.pool(&app.address, connection, settings);
        let application = background(move || {
            if settings.multiplex > 1 {
                answer_values(&app, MULTIPLEXES);
            }
            let mut peer = app.accept();
            let (id, _) = next(&mut peer).unwrap();
            assert_eq!(peer.record().kind, Type::AbortRequest);
            peer.send([record(Type::Stdout, id, b"late"), end(id, 1, 0)].concat());
            assert!(serve_one(&mut peer));
        });
        let error = call(&*pool, numbered(0)).unwrap_err();
        assert!(matches!(error, Error::Timeout { phase: Phase::FirstByte, .. }), "{error}");
        until("it is drained", || pool.stats().active == 0);
        assert_eq!(call(&*pool, numbered(1)).unwrap(), b"1");
        application.join();
    }
}
