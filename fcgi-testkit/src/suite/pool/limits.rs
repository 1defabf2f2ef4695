//! How many connections and callers there may be, and when a pool refuses.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
    time::Duration,
};

use fcgi_engine::{Error, Phase};

use super::{Call, call, next, numbered, serve_one, settings};
use crate::suite::{
    Case, Suite, TestPool,
    signal::{background, until},
    wire::*,
};

pub(super) const CASES: &[(&str, Case)] = cases![
    "pool":
    never_more_connections_than_it_may,
    waiting_has_a_time_limit,
    not_more_wait_than_may,
    a_closed_pool_refuses,
    no_application_is_an_error_and_costs_no_place,
];

fn never_more_connections_than_it_may(suite: &Suite) {
    let app = RawApp::new();
    let pool: Arc<dyn TestPool> = Arc::from(suite.pool(&app.address, settings(3)));
    let (open, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let seen = Arc::clone(&most);
    thread::spawn(move || {
        loop {
            let mut peer = app.accept();
            let now = open.fetch_add(1, Ordering::SeqCst) + 1;
            seen.fetch_max(now, Ordering::SeqCst);
            let open = Arc::clone(&open);
            thread::spawn(move || {
                let mut served = 0;
                // Some connections close after an answer.
                while serve_one(&mut peer) && served < 7 {
                    served += 1;
                }
                open.fetch_sub(1, Ordering::SeqCst);
            });
        }
    });
    let callers: Vec<_> = (0..20)
        .map(|caller| {
            let pool = Arc::clone(&pool);
            background(move || {
                for n in (0..20).map(|n| caller * 100 + n) {
                    assert_eq!(call(&*pool, numbered(n)).unwrap(), n.to_string().as_bytes());
                }
            })
        })
        .collect();
    callers.into_iter().for_each(|caller| caller.join());
    // One that closes by itself may be counted until its thread has noticed.
    let most = most.load(Ordering::SeqCst);
    assert!((1..=6).contains(&most), "{most}");
    assert!(pool.stats().connections <= 3);
}

fn waiting_has_a_time_limit(suite: &Suite) {
    let app = RawApp::new();
    let mut settings = settings(1);
    settings.limits.wait_timeout = Some(Duration::from_millis(200));
    let pool: Arc<dyn TestPool> = Arc::from(suite.pool(&app.address, settings));
    let (first, mut peer, reply) = busy(&app, &pool);
    let error = call(&*pool, numbered(2)).unwrap_err();
    assert!(matches!(error, Error::Timeout { phase: Phase::Acquire, .. }), "{error}");
    let address = app.address.to_string();
    assert_eq!(
        error.to_string(),
        format!("{address}: no free connection of the pool within 200ms")
    );
    peer.send(reply);
    assert_eq!(first.join().unwrap(), b"1");
}

fn not_more_wait_than_may(suite: &Suite) {
    let app = RawApp::new();
    let mut settings = settings(1);
    settings.limits.wait_timeout = None;
    settings.limits.waiting = 1;
    let pool: Arc<dyn TestPool> = Arc::from(suite.pool(&app.address, settings));
    let (first, mut peer, reply) = busy(&app, &pool);
    let waits = Arc::clone(&pool);
    let second = background(move || call(&*waits, numbered(2)));
    until("the second waits", || pool.stats().waiting == 1);
    let error = call(&*pool, numbered(3)).unwrap_err();
    assert!(matches!(error, Error::PoolFull { waiting: 1, .. }), "{error}");
    peer.send(reply);
    assert_eq!(first.join().unwrap(), b"1");
    assert!(serve_one(&mut peer));
    assert_eq!(second.join().unwrap(), b"2");
}

/// Starts request 1 on the pool's only connection. Returns the caller, the application's end of the
/// connection, and the reply to send.
fn busy(app: &RawApp, pool: &Arc<dyn TestPool>) -> (Call, Peer, Vec<u8>) {
    let pool = Arc::clone(pool);
    let first = background(move || call(&*pool, numbered(1)));
    let mut peer = app.accept();
    let (id, n) = next(&mut peer).unwrap();
    (first, peer, answer(id, &n))
}

fn a_closed_pool_refuses(suite: &Suite) {
    let app = RawApp::new();
    let pool = suite.pool(&app.address, settings(1));
    let application = background(move || {
        let mut peer = app.accept();
        assert!(serve_one(&mut peer));
        peer.expect_close();
    });
    assert_eq!(call(&*pool, numbered(1)).unwrap(), b"1");
    pool.close();
    application.join();
    let error = call(&*pool, numbered(2)).unwrap_err();
    assert!(matches!(error, Error::PoolClosed { .. }), "{error}");
}

fn no_application_is_an_error_and_costs_no_place(suite: &Suite) {
    let (_folder, _, address) = unix_address();
    let pool = suite.pool(&address, settings(1));
    for n in 0..5 {
        let error = call(&*pool, numbered(n)).unwrap_err();
        assert!(matches!(error, Error::Connect { .. }), "{error}");
        assert_eq!(error.to_string(), format!("connect to {address}"));
        assert!(error.report().to_string().starts_with(&format!("{error}: ")), "it has a cause");
    }
    assert_eq!(pool.stats().connections, 0);
}
