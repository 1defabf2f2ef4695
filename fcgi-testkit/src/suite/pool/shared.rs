//! Connections that several requests share.

use std::{collections::HashMap, sync::Arc, time::Duration};

use fcgi_engine::{client::Chunk, pool::Settings};
use fcgi_proto::{Rejection, Values};

use super::{
    MULTIPLEXES, aborted, answer_values, call, drained_within, give_up, multiplexing, next,
    next_of, numbered, serve_one, serve_one_kept, settings,
};
use crate::suite::{
    Case, Suite, TestPool, patient,
    signal::{Gate, background, until},
    wire::*,
};

pub(super) const CASES: &[(&str, Case)] = cases![
    "pool":
    requests_share_a_connection_where_it_is_offered,
    a_shared_connection_is_always_to_be_kept_fc_3_5_1,
    who_is_to_open_a_connection_waits_for_the_answer_to_get_values,
    multiplexing_that_is_not_offered_keeps_nothing_q_7,
    an_abort_leaves_the_others_on_its_connection_alone,
    a_shared_connection_is_drained_and_used_again,
    an_abort_that_is_ignored_costs_a_shared_connection_its_next_requests_q_6,
    cant_mpx_conn_makes_it_fall_back_q_11,
    a_silent_get_values_is_given_up_q_9,
    a_get_values_that_is_closed_means_defaults_q_7,
];

fn requests_share_a_connection_where_it_is_offered(suite: &Suite) {
    let app = RawApp::new();
    let pool: Arc<dyn TestPool> = Arc::from(suite.pool(&app.address, multiplexing()));
    let application = background(move || {
        answer_values(&app, MULTIPLEXES);
        let mut peer = app.accept();
        let mut params = HashMap::new();
        let requests: Vec<_> = (0..5).map(|_| next_of(&mut peer, &mut params).unwrap()).collect();
        let mut ids: Vec<_> = requests.iter().map(|(id, _)| *id).collect();
        ids.sort_unstable();
        assert_eq!(ids, [1, 2, 3, 4, 5], "FC-3.3-7");
        // The last first, and in pieces.
        for (id, n) in requests.iter().rev() {
            peer.send(record(Type::Stdout, *id, n));
        }
        for (id, n) in &requests {
            peer.send([record(Type::Stdout, *id, n), end(*id, 0, 0)].concat());
        }
        peer
    });
    let callers: Vec<_> = (0..5)
        .map(|n| {
            let pool = Arc::clone(&pool);
            background(move || (n, call(&*pool, numbered(n)).unwrap()))
        })
        .collect();
    for caller in callers {
        let (n, stdout) = caller.join();
        assert_eq!(stdout, format!("{n}{n}").as_bytes());
    }
    application.join();
    assert_eq!(pool.values().unwrap().mpxs_conns, Some(true));
}

fn a_shared_connection_is_always_to_be_kept_fc_3_5_1(suite: &Suite) {
    let app = RawApp::new();
    let settings = Settings { keep_conn: false, ..multiplexing() };
    let pool = suite.pool(&app.address, settings);
    let application = background(move || {
        answer_values(&app, MULTIPLEXES);
        let mut peer = app.accept();
        (0..4).for_each(|_| assert!(serve_one_kept(&mut peer)));
        peer
    });
    for n in 0..4 {
        let request = numbered(n).keep_conn(n % 2 == 0);
        assert_eq!(call(&*pool, request).unwrap(), n.to_string().as_bytes());
    }
    application.join();
}

fn who_is_to_open_a_connection_waits_for_the_answer_to_get_values(suite: &Suite) {
    let app = RawApp::new();
    let settings = Settings { multiplex: 10, ..settings(3) };
    let pool: Arc<dyn TestPool> = Arc::from(suite.pool(&app.address, settings));
    let asked = Gate::default();
    let asks = asked.clone();
    let all_wait = Gate::default();
    let waits = all_wait.clone();
    let application = background(move || {
        let mut peer = app.accept();
        assert_eq!(peer.record().kind, Type::GetValues);
        asks.open();
        waits.wait();
        peer.send(record(Type::GetValuesResult, 0, &encode(MULTIPLEXES)));
        peer.expect_end();
        // Those that have waited know now that they can share.
        let mut peers: Vec<_> = (0..3).map(|_| app.accept()).collect();
        peers.iter_mut().for_each(|peer| assert!(serve_one_kept(peer)));
        peers
    });
    let caller = |n| {
        let pool = Arc::clone(&pool);
        background(move || assert_eq!(call(&*pool, numbered(n)).unwrap(), n.to_string().as_bytes()))
    };
    let mut callers = vec![caller(0)];
    asked.wait();
    callers.extend([caller(1), caller(2)]);
    until("all have a place", || pool.stats().active == 3);
    all_wait.open();
    callers.into_iter().for_each(|caller| caller.join());
    application.join();
}

fn multiplexing_that_is_not_offered_keeps_nothing_q_7(suite: &Suite) {
    let app = RawApp::new();
    let settings = Settings { keep_conn: false, ..multiplexing() };
    let pool = suite.pool(&app.address, settings);
    let application = background(move || {
        answer_values(&app, &[("FCGI_MPXS_CONNS", "0")]);
        for _ in 0..2 {
            let mut peer = app.accept();
            assert!(!serve_one_kept(&mut peer));
            peer.expect_end();
        }
    });
    for n in 0..2 {
        assert_eq!(call(&*pool, numbered(n)).unwrap(), n.to_string().as_bytes());
    }
    application.join();
}

fn an_abort_leaves_the_others_on_its_connection_alone(suite: &Suite) {
    let app = RawApp::new();
    let pool: Arc<dyn TestPool> = Arc::from(suite.pool(&app.address, multiplexing()));
    let application = background(move || {
        answer_values(&app, MULTIPLEXES);
        let mut peer = app.accept();
        let (first, _) = next(&mut peer).unwrap();
        peer.send(record(Type::Stdout, first, b"part"));
        let (second, n) = next(&mut peer).unwrap();
        peer.send(record(Type::Stdout, second, &n));
        let aborted = peer.record();
        assert_eq!((aborted.kind, aborted.id), (Type::AbortRequest, first));
        peer.send([record(Type::Stdout, first, b"late"), end(first, 0, 0)].concat());
        peer.send([record(Type::Stdout, second, &n), end(second, 0, 0)].concat());
        peer
    });
    let mut first = pool.send(numbered(1)).unwrap();
    assert_eq!(first.chunk().unwrap(), Some(Chunk::Stdout("part".into())));
    let mut second = pool.send(numbered(2)).unwrap();
    assert_eq!(second.chunk().unwrap(), Some(Chunk::Stdout("2".into())));
    drop(first);
    assert_eq!(second.chunk().unwrap(), Some(Chunk::Stdout("2".into())));
    assert_eq!(second.chunk().unwrap(), None);
    assert_eq!(second.app_status(), Some(0));
    application.join();
}

fn a_shared_connection_is_drained_and_used_again(suite: &Suite) {
    let app = RawApp::new();
    let pool = suite.pool(&app.address, multiplexing());
    let application = background(move || {
        answer_values(&app, MULTIPLEXES);
        let mut peer = app.accept();
        for _ in 0..3 {
            let id = aborted(&mut peer);
            peer.send([record(Type::Stdout, id, b"late"), end(id, 1, 0)].concat());
            assert!(serve_one(&mut peer));
        }
    });
    for n in [0, 2, 4] {
        give_up(&*pool, n);
        // Nobody else reads the connection.
        until("it is drained", || pool.stats().active == 0);
        assert_eq!(call(&*pool, numbered(n + 1)).unwrap(), (n + 1).to_string().as_bytes());
    }
    application.join();
}

fn an_abort_that_is_ignored_costs_a_shared_connection_its_next_requests_q_6(suite: &Suite) {
    let app = RawApp::new();
    let limit = Duration::from_millis(100);
    let settings = Settings { multiplex: 10, ..settings(2) };
    let pool: Arc<dyn TestPool> =
        Arc::from(suite.adapter.pool(&app.address, drained_within(limit), settings));
    let goes_on = Gate::default();
    let waits = goes_on.clone();
    let application = background(move || {
        answer_values(&app, MULTIPLEXES);
        let mut peer = app.accept();
        let (stays, n) = next(&mut peer).unwrap();
        peer.send(record(Type::Stdout, stays, &n));
        aborted(&mut peer);
        // It goes on with what it has, and gets nothing new.
        let mut fresh = app.accept();
        assert!(serve_one(&mut fresh));
        waits.wait();
        peer.send(answer(stays, b" and more"));
        peer.expect_end();
        fresh
    });
    let mut stays = pool.send(numbered(0)).unwrap();
    assert_eq!(stays.chunk().unwrap(), Some(Chunk::Stdout("0".into())));
    give_up(&*pool, 1);
    until("it was drained in vain", || pool.stats().active == 1);
    assert_eq!(call(&*pool, numbered(2)).unwrap(), b"2");
    goes_on.open();
    assert_eq!(stays.chunk().unwrap(), Some(Chunk::Stdout(" and more".into())));
    assert_eq!(stays.chunk().unwrap(), None);
    application.join();
}

fn cant_mpx_conn_makes_it_fall_back_q_11(suite: &Suite) {
    let app = RawApp::new();
    let settings = Settings { multiplex: 10, ..settings(2) };
    let pool: Arc<dyn TestPool> = Arc::from(suite.pool(&app.address, settings));
    let begun = Gate::default();
    let first_begun = begun.clone();
    let application = background(move || {
        answer_values(&app, MULTIPLEXES);
        let mut peer = app.accept();
        let first = next(&mut peer).unwrap();
        first_begun.open();
        let second = next(&mut peer).unwrap();
        peer.send(end(second.0, 0, Rejection::CantMpxConn.as_u8()));
        // It comes again, alone.
        let mut other = app.accept();
        let again = next(&mut other).unwrap();
        assert_eq!(again.1, second.1);
        other.send(answer(again.0, &again.1));
        peer.send(answer(first.0, &first.1));
        (peer, other)
    });
    let busy = Arc::clone(&pool);
    let first = background(move || call(&*busy, numbered(1)));
    begun.wait();
    let second = call(&*pool, numbered(2)).unwrap();
    assert_eq!((second, first.join().unwrap()), (b"2".to_vec(), b"1".to_vec()));
    application.join();
    assert_eq!(pool.values().unwrap().mpxs_conns, Some(false));
}

fn a_silent_get_values_is_given_up_q_9(suite: &Suite) {
    let app = RawApp::new();
    let mut limits = patient();
    limits.values = Duration::from_millis(100);
    let pool = suite.adapter.pool(&app.address, limits, multiplexing());
    let application = background(move || {
        let mut silent = app.accept();
        assert_eq!(silent.record().kind, Type::GetValues);
        let mut peer = app.accept();
        (0..2).for_each(|_| assert!(serve_one(&mut peer)));
    });
    assert_eq!(call(&*pool, numbered(1)).unwrap(), b"1");
    assert_eq!(call(&*pool, numbered(2)).unwrap(), b"2");
    assert_eq!(pool.values().unwrap(), Values::default());
    application.join();
}

fn a_get_values_that_is_closed_means_defaults_q_7(suite: &Suite) {
    let app = RawApp::new();
    let pool = suite.pool(&app.address, multiplexing());
    let application = background(move || {
        assert_eq!(app.accept().record().kind, Type::GetValues);
        assert!(serve_one(&mut app.accept()));
    });
    assert_eq!(call(&*pool, numbered(1)).unwrap(), b"1");
    assert_eq!(pool.values().unwrap(), Values::default());
    application.join();
}
