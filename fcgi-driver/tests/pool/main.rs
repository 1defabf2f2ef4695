//! The pool on the simulated runtime: many callers, few connections, no sleeping.

mod cancel;
mod multiplex;
mod retry;
mod shared_end;
#[path = "../support/mod.rs"]
mod support;

use fcgi_driver::{Error, Phase, client::Connector, server::Server};
use fcgi_testkit::sim;
use support::{Gauge, LIMIT, Log, Pool, address, ask, builder, call, echo, ms, numbered, serve};

/// Waits until nobody has or wants a connection.
async fn at_rest(pool: &Pool) {
    sim::sleep(ms(60_000)).await;
    let stats = pool.stats();
    assert_eq!((stats.connections, stats.active, stats.waiting), (0, 0, 0));
}

#[test]
fn requests_one_after_the_other_share_a_kept_connection() {
    sim::run(1, async {
        serve(Server::new(), echo);
        let pool = builder().build().unwrap();
        assert_eq!(sim::connections(&address()), 0, "no pre-connecting (Q-5)");
        for n in 0..20 {
            ask(&pool, n).await;
        }
        assert_eq!(sim::connections(&address()), 1);
        at_rest(&pool).await;
    });
}

#[test]
fn fifty_callers_share_three_connections_in_their_order() {
    for seed in 0..20 {
        sim::run(seed, async {
            let (inside, served) = (Gauge::default(), Log::default());
            let (gauge, log) = (inside.clone(), served.clone());
            serve(Server::new(), move |request: fcgi_driver::server::Request| {
                let inside = gauge.enter();
                log.note(request.param_str("N").unwrap_or_default());
                async move {
                    sim::sleep(ms(10)).await;
                    let answered = echo(request).await;
                    drop(inside);
                    answered
                }
            });
            let pool = builder().max_connections(3).max_age(None).build().unwrap();
            let callers: Vec<_> = (0..50)
                .map(|n| {
                    // Polled once, so that all are in the queue in this order.
                    let mut caller = Box::pin({
                        let pool = pool.clone();
                        async move { ask(&pool, n).await }
                    });
                    let waker = std::task::Waker::noop();
                    let _ = caller.as_mut().poll(&mut std::task::Context::from_waker(waker));
                    caller
                })
                .collect();
            assert_eq!(pool.stats().waiting, 47);
            let (done, finished) = (Gauge::default(), Log::default());
            for caller in callers {
                let (inside, log) = (done.enter(), finished.clone());
                sim::spawn(async move {
                    caller.await;
                    log.note("done");
                    drop(inside);
                });
            }
            while done.now() > 0 {
                sim::sleep(ms(1)).await;
            }
            assert_eq!(finished.all().len(), 50);
            assert_eq!(inside.most(), 3);
            assert_eq!(sim::connections(&address()), 3);
            let order: Vec<usize> = served.all().iter().map(|n| n.parse().unwrap()).collect();
            // Three run at once: who is served is never more than two ahead of its turn.
            assert!(order.iter().enumerate().all(|(at, n)| n.abs_diff(at) <= 2), "{order:?}");
            at_rest(&pool).await;
        });
    }
}

#[test]
fn an_idle_connection_is_closed_when_its_time_is_up_q_5() {
    sim::run(1, async {
        serve(Server::new(), echo);
        let pool = builder().idle_timeout(ms(1500)).max_age(None).build().unwrap();
        ask(&pool, 1).await;
        sim::sleep(ms(1400)).await;
        assert_eq!(pool.stats().idle, 1);
        ask(&pool, 2).await;
        sim::sleep(ms(1400)).await;
        assert_eq!((pool.stats().idle, sim::connections(&address())), (1, 1));
        sim::sleep(ms(200)).await;
        assert_eq!(pool.stats().connections, 0);
    });
}

#[test]
fn age_and_number_of_requests_end_a_connection() {
    sim::run(1, async {
        serve(Server::new(), echo);
        let aged = builder().max_age(Some(ms(1000))).build().unwrap();
        for n in 0..10 {
            ask(&aged, n).await;
            sim::sleep(ms(400)).await;
        }
        assert_eq!(sim::connections(&address()), 4);
        at_rest(&aged).await;
        let worn = builder().max_requests_per_connection(Some(3)).build().unwrap();
        for n in 0..9 {
            ask(&worn, n).await;
        }
        assert_eq!(sim::connections(&address()), 4 + 3);
        at_rest(&worn).await;
    });
}

#[test]
fn a_busy_pool_lets_go_of_its_connections_by_default() {
    sim::run(1, async {
        serve(Server::new(), echo);
        let pool = builder().max_connections(1).build().unwrap();
        while sim::elapsed() < ms(10_000) {
            let slow = numbered(1).param("SLEEP", "100");
            call(&pool, slow).await.unwrap();
        }
        assert!(sim::connections(&address()) >= 9, "{}", sim::connections(&address()));
    });
}

#[test]
fn waiting_has_a_limit_in_time_and_in_number() {
    sim::run(1, async {
        serve(Server::new(), echo);
        let pool = builder()
            .max_connections(1)
            .max_waiting(1)
            .wait_timeout(Some(ms(500)))
            .build()
            .unwrap();
        let held = pool.send(numbered(1).param("SLEEP", "10000")).await;
        // It sleeps: the first byte has come only when it is over.
        held.unwrap().collect(LIMIT).await.unwrap();
        let slow = pool.clone();
        sim::spawn(async move {
            call(&slow, numbered(1).param("SLEEP", "10000")).await.unwrap();
        });
        sim::pass().await;
        let started = sim::elapsed();
        let (second, third) = (pool.clone(), pool.clone());
        sim::spawn(async move {
            sim::sleep(ms(100)).await;
            let error = call(&third, numbered(3)).await.unwrap_err();
            assert!(matches!(error, Error::PoolFull { waiting: 1, .. }), "{error}");
        });
        let error = call(&second, numbered(2)).await.unwrap_err();
        assert!(
            matches!(error, Error::Timeout { phase: Phase::Acquire, limit, .. } if limit == ms(500)),
            "{error}"
        );
        assert_eq!(error.to_string(), "unix:/app: no free connection of the pool within 500ms");
        assert_eq!(sim::elapsed() - started, ms(500));
        at_rest(&pool).await;
    });
}

#[test]
fn the_limit_of_the_whole_request_counts_the_wait() {
    sim::run(1, async {
        serve(Server::new(), echo);
        let connector = Connector::new().total_timeout(Some(ms(300)));
        let pool = builder().max_connections(1).connector(connector).build().unwrap();
        let slow = builder().max_connections(1).build().unwrap();
        ask(&slow, 0).await;
        let busy = pool.clone();
        sim::spawn(async move {
            let error = call(&busy, numbered(1).param("SLEEP", "10000")).await.unwrap_err();
            assert!(matches!(error, Error::Timeout { phase: Phase::Response, .. }), "{error}");
        });
        sim::sleep(ms(100)).await;
        let started = sim::elapsed();
        let slow = numbered(2).param("SLEEP", "250");
        let error = call(&pool, slow).await.unwrap_err();
        assert!(matches!(error, Error::Timeout { phase: Phase::Response, .. }), "{error}");
        assert_eq!(sim::elapsed() - started, ms(300));
        at_rest(&pool).await;
    });
}

#[test]
fn a_closed_pool_refuses_and_closes() {
    sim::run(1, async {
        serve(Server::new(), echo);
        let pool = builder().max_connections(2).max_age(None).build().unwrap();
        ask(&pool, 1).await;
        let busy = pool.clone();
        sim::spawn(async move {
            call(&busy, numbered(1).param("SLEEP", "100")).await.unwrap();
        });
        sim::sleep(ms(10)).await;
        pool.close();
        let error = call(&pool, numbered(2)).await.unwrap_err();
        assert!(matches!(error, Error::PoolClosed { .. }), "{error}");
        sim::sleep(ms(200)).await;
        assert_eq!(pool.stats().connections, 0);
    });
}

#[test]
fn no_application_is_an_error_that_names_the_address_and_frees_the_place() {
    sim::run(1, async {
        let pool = builder().max_connections(1).build().unwrap();
        for _ in 0..3 {
            let error = call(&pool, numbered(1)).await.unwrap_err();
            assert!(matches!(error, Error::Connect { .. }), "{error}");
            assert_eq!(error.to_string(), "connect to unix:/app");
        }
        serve(Server::new(), echo);
        ask(&pool, 4).await;
    });
}

#[test]
fn the_last_handle_of_a_pool_closes_its_idle_connections() {
    sim::run(1, async {
        let (open, gauge) = (Gauge::default(), Gauge::default());
        let mut backlog = sim::backlog(&address());
        let inside = open.clone();
        sim::spawn(async move {
            loop {
                let io = backlog.accept().await;
                let inside = inside.enter();
                sim::spawn(async move {
                    let mut peer = support::Peer::new(io, fcgi_proto::ServerConfig::default());
                    while let Some((key, params)) = peer.request().await {
                        peer.answer(key, &params).await;
                    }
                    drop(inside);
                });
            }
        });
        let pool = builder().idle_timeout(ms(60_000)).max_age(None).build().unwrap();
        ask(&pool, 1).await;
        assert_eq!((open.now(), gauge.now()), (1, 0));
        drop(pool);
        sim::sleep(ms(1)).await;
        assert_eq!(open.now(), 0);
    });
}
