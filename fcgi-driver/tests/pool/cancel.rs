//! Callers that give up, at any point: nothing of their requests reaches another (H-11).

use fcgi_driver::{client::Connector, server::Server};
use fcgi_proto::ServerConfig;
use fcgi_testkit::sim;

use crate::{
    at_rest,
    support::{Log, Peer, address, ask, builder, call, echo, ms, numbered, serve},
};

#[test]
fn a_request_cancelled_anywhere_leaves_nothing_to_the_next_h_11() {
    for seed in 0..400 {
        sim::run(seed, async move {
            serve(Server::new(), echo);
            let multiplex = 1 + (seed as usize % 3) * 4;
            let pool = builder().max_connections(2).multiplex(multiplex).build().unwrap();
            for n in 0..12 {
                let polls = (seed as u32 * 7 + n as u32 * 3) % 9;
                let body = vec![b'a' + n as u8; 5000];
                let request = numbered(1000 + n)
                    .param("CONTENT_LENGTH", body.len().to_string())
                    .param("SLEEP", (n % 3).to_string())
                    .stdin(body);
                sim::poll_some(call(&pool, request), polls).await;
                if n % 2 == 0 {
                    ask(&pool, n).await;
                }
            }
            at_rest(&pool).await;
        });
    }
}

#[test]
fn many_callers_of_whom_some_give_up_and_no_place_is_lost() {
    for seed in 0..100 {
        sim::run(seed, async move {
            serve(Server::new(), echo);
            let multiplex = 1 + (seed as usize % 2) * 4;
            let pool = builder().max_connections(3).multiplex(multiplex).build().unwrap();
            let done = Log::default();
            for n in 0..60 {
                let (pool, log) = (pool.clone(), done.clone());
                sim::spawn(async move {
                    let slow = numbered(n).param("SLEEP", (n * 7 % 5).to_string());
                    if n % 3 == 0 {
                        sim::poll_some(call(&pool, slow), n as u32 % 8).await;
                    } else {
                        let answer = call(&pool, slow).await.unwrap();
                        assert_eq!(answer.stdout, n.to_string().as_bytes());
                    }
                    log.note("done");
                });
            }
            while done.all().len() < 60 {
                sim::sleep(ms(1)).await;
            }
            at_rest(&pool).await;
        });
    }
}

#[test]
fn a_dropped_response_is_aborted_drained_and_its_connection_used_again() {
    sim::run(1, async {
        let mut backlog = sim::backlog(&address());
        sim::spawn(async move {
            let mut peer = Peer::new(backlog.accept().await, ServerConfig::default());
            let (key, _) = peer.request().await.unwrap();
            peer.write(key, "of the first");
            peer.send().await;
            assert_eq!(peer.abort().await, key);
            sim::sleep(ms(100)).await;
            peer.write(key, "more of the first");
            peer.finish(key);
            let (key, params) = peer.request().await.unwrap();
            peer.answer(key, &params).await;
            std::future::pending::<()>().await;
        });
        let pool = builder().max_connections(1).build().unwrap();
        let response = pool.send(numbered(1)).await.unwrap();
        drop(response);
        assert_eq!(pool.stats().active, 1, "it is being drained");
        ask(&pool, 2).await;
        assert_eq!((sim::connections(&address()), sim::elapsed()), (1, ms(100)));
    });
}

#[test]
fn an_application_that_ignores_an_abort_loses_its_connection_q_6() {
    sim::run(1, async {
        let mut backlog = sim::backlog(&address());
        sim::spawn(async move {
            let mut deaf = Peer::new(backlog.accept().await, ServerConfig::default());
            let (key, _) = deaf.request().await.unwrap();
            deaf.write(key, "something");
            deaf.send().await;
            let mut peer = Peer::new(backlog.accept().await, ServerConfig::default());
            let (key, params) = peer.request().await.unwrap();
            peer.answer(key, &params).await;
            std::future::pending::<()>().await;
        });
        let connector = Connector::new().drain_timeout(ms(700));
        let pool = builder().max_connections(1).connector(connector).build().unwrap();
        drop(pool.send(numbered(1)).await.unwrap());
        ask(&pool, 2).await;
        assert_eq!((sim::connections(&address()), sim::elapsed()), (2, ms(700)));
    });
}

#[test]
fn a_caller_that_leaves_the_queue_is_passed_over() {
    sim::run(1, async {
        serve(Server::new(), echo);
        let pool = builder().max_connections(1).build().unwrap();
        let busy = pool.clone();
        sim::spawn(async move {
            call(&busy, numbered(1).param("SLEEP", "100")).await.unwrap();
        });
        sim::sleep(ms(1)).await;
        let leaves = pool.clone();
        let left = sim::poll_some(call(&leaves, numbered(2)), 1).await;
        assert!(left.is_none());
        ask(&pool, 3).await;
        at_rest(&pool).await;
    });
}
