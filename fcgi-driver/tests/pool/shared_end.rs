//! Shared connections are closed as surely as others.

use fcgi_driver::{client::Connector, runtime::Transport};
use fcgi_engine::socket::HangUp;
use fcgi_proto::{ServerConfig, Values, server::Event};
use fcgi_testkit::sim::{self, Pipe};

use crate::{
    at_rest,
    support::{Log, Peer, Pool, address, ask, builder, call, ms, numbered},
};

/// An application that multiplexes: it answers each request but those with SILENT, and aborts
/// never, and notes when a connection that carried requests is closed.
fn application(log: &Log) {
    let mut backlog = sim::backlog(&address());
    let log = log.clone();
    sim::spawn(async move {
        loop {
            let (io, log) = (backlog.accept().await, log.clone());
            sim::spawn(async move {
                let values = Values { mpxs_conns: Some(true), ..Values::default() };
                let config = ServerConfig { values, ..ServerConfig::default() };
                let mut peer = Peer::new(io, config);
                let mut carried = false;
                while let Some(event) = peer.event().await {
                    let Event::Request { key, params, .. } = event else { continue };
                    carried = true;
                    if params.get("SILENT").is_some() {
                        peer.write(key, "part");
                        peer.send().await;
                    } else {
                        peer.answer(key, &params).await;
                    }
                }
                if carried {
                    log.note("closed");
                }
            });
        }
    });
}

fn shared() -> Pool {
    let connector = Connector::new().drain_timeout(ms(100));
    builder().max_connections(1).multiplex(8).max_age(None).connector(connector).build().unwrap()
}

#[test]
fn one_that_was_drained_in_vain_is_closed_q_6() {
    for seed in 0..20 {
        sim::run(seed, async {
            let log = Log::default();
            application(&log);
            let pool = shared();
            drop(pool.send(numbered(1).param("SILENT", "1")).await.unwrap());
            sim::sleep(ms(200)).await;
            assert_eq!(log.all(), ["closed"]);
            ask(&pool, 2).await;
            at_rest(&pool).await;
        });
    }
}

#[test]
fn one_whose_request_was_not_as_long_as_it_said_is_closed_q_4() {
    sim::run(1, async {
        let log = Log::default();
        application(&log);
        let pool = shared();
        call(&pool, numbered(1).param("CONTENT_LENGTH", "7").stdin("short")).await.unwrap();
        sim::sleep(ms(1)).await;
        assert_eq!(log.all(), ["closed"]);
        at_rest(&pool).await;
    });
}

#[test]
fn an_idle_one_is_closed_with_the_pool() {
    sim::run(1, async {
        let log = Log::default();
        application(&log);
        let pool = shared();
        ask(&pool, 1).await;
        drop(pool);
        sim::sleep(ms(1)).await;
        assert_eq!(log.all(), ["closed"]);
    });
}

#[test]
fn a_retired_one_is_closed_before_another_is_opened() {
    for seed in 0..100 {
        sim::run(seed, async {
            let mut backlog = sim::backlog(&address());
            sim::spawn(async move {
                let mut before: Vec<Pipe> = Vec::new();
                loop {
                    let io = backlog.accept().await;
                    assert!(before.iter().all(|io| io.hang_up() == HangUp::Gone), "two at once");
                    let values = Values { mpxs_conns: Some(true), ..Values::default() };
                    let config = ServerConfig { values, ..ServerConfig::default() };
                    let mut peer = Peer::new(io, config);
                    // One request each, or the question for the values.
                    if let Some((key, params)) = peer.request().await {
                        peer.answer(key, &params).await;
                    }
                    before.push(peer.io);
                }
            });
            let pool = builder()
                .max_connections(1)
                .multiplex(8)
                .max_requests_per_connection(Some(1))
                .build()
                .unwrap();
            for n in 0..5 {
                ask(&pool, n).await;
            }
        });
    }
}
