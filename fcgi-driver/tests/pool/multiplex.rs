//! Requests that share a connection.

use bytes::Bytes;
use fcgi_driver::{
    Error,
    client::{Body, Connector},
    server::Server,
};
use fcgi_proto::{Limits, Rejection, ServerConfig, Values, server::Event};
use fcgi_testkit::sim;

use crate::{
    at_rest,
    support::{Gauge, LIMIT, Log, Peer, address, ask, builder, call, echo, ms, numbered, serve},
};

#[test]
fn requests_share_a_connection_when_the_application_says_so() {
    for seed in 0..20 {
        sim::run(seed, async {
            let inside = Gauge::default();
            let gauge = inside.clone();
            serve(Server::new(), move |request| {
                let inside = gauge.enter();
                async move {
                    let answered = echo(request).await;
                    drop(inside);
                    answered
                }
            });
            let pool = builder().max_connections(1).multiplex(10).build().unwrap();
            ask(&pool, 0).await;
            assert_eq!(sim::connections(&address()), 2, "one of them for GET_VALUES (Q-7)");
            let done = Log::default();
            for n in 0..30 {
                let (pool, log) = (pool.clone(), done.clone());
                sim::spawn(async move {
                    let body = vec![b'z'; 100_000];
                    let request = numbered(n)
                        .param("SLEEP", "20")
                        .param("CONTENT_LENGTH", body.len().to_string())
                        .stdin(body.clone());
                    let answer = call(&pool, request).await.unwrap();
                    let head = n.to_string();
                    assert_eq!(&answer.stdout[..head.len()], head.as_bytes());
                    assert_eq!(&answer.stdout[head.len()..], &body[..]);
                    log.note("done");
                });
            }
            while done.all().len() < 30 {
                sim::sleep(ms(1)).await;
            }
            assert_eq!(inside.most(), 10);
            at_rest(&pool).await;
        });
    }
}

/// An application by hand that answers GET_VALUES with its limits.
fn config() -> ServerConfig {
    ServerConfig {
        values: Values { max_conns: Some(5), max_reqs: Some(50), mpxs_conns: None },
        rejection_body: false,
        ..ServerConfig::default()
    }
}

/// Takes the connection on which GET_VALUES is asked, and answers it.
async fn answer_values(backlog: &mut sim::Backlog) {
    let mut values = Peer::new(backlog.accept().await, config());
    assert!(values.event().await.is_none(), "it carries no request (Q-7)");
}

#[test]
fn an_abort_leaves_the_others_alone_and_ids_stay_small() {
    sim::run(1, async {
        let mut backlog = sim::backlog(&address());
        let ids = Log::default();
        let log = ids.clone();
        sim::spawn(async move {
            answer_values(&mut backlog).await;
            let mut peer = Peer::new(backlog.accept().await, config());
            loop {
                match peer.event().await {
                    Some(Event::Request { key, params, .. }) => {
                        log.note(format!("{}:{}", key.id(), params.get_str("N").unwrap()));
                        if params.get_str("N") == Some("1") {
                            peer.write(key, "part of 1");
                            peer.send().await;
                        } else {
                            peer.answer(key, &params).await;
                        }
                    }
                    Some(Event::Aborted { key, .. }) => {
                        log.note(format!("abort {}", key.id()));
                        peer.finish(key);
                        peer.send().await;
                    }
                    Some(_) => {}
                    None => return,
                }
            }
        });
        let pool = builder().max_connections(1).multiplex(10).max_age(None).build().unwrap();
        let first = pool.send(numbered(1)).await.unwrap();
        ask(&pool, 2).await;
        ask(&pool, 3).await;
        drop(first);
        ask(&pool, 4).await;
        sim::sleep(ms(1)).await;
        ask(&pool, 5).await;
        let all = ids.all();
        assert_eq!(all[..3], ["1:1", "2:2", "2:3"]);
        assert!(all.contains(&"abort 1".to_owned()), "{all:?}");
        // Id 1 is set aside: a second END_REQUEST of it may come.
        assert_eq!(all.last().unwrap(), "2:5", "{all:?}");
        at_rest(&pool).await;
    });
}

#[test]
fn cant_mpx_conn_makes_the_pool_fall_back_and_repeat_q_11() {
    for seed in 0..20 {
        sim::run(seed, async {
            let mut backlog = sim::backlog(&address());
            let seen = Log::default();
            let log = seen.clone();
            sim::spawn(async move {
                answer_values(&mut backlog).await;
                loop {
                    let io = backlog.accept().await;
                    let log = log.clone();
                    sim::spawn(async move {
                        // It said that it multiplexes, and does not.
                        let mut peer = Peer::new(io, config());
                        let mut active = None;
                        while let Some(event) = peer.event().await {
                            let Event::Request { key, params, .. } = event else { continue };
                            log.note(params.get_str("N").unwrap());
                            if let Some((first, params)) = active.take() {
                                let refused = peer.connection.request(key).unwrap();
                                refused.reject(Rejection::CantMpxConn).unwrap();
                                peer.send().await;
                                sim::sleep(ms(50)).await;
                                peer.answer(first, &params).await;
                            } else if params.get("SLOW").is_some() {
                                active = Some((key, params));
                            } else {
                                peer.answer(key, &params).await;
                            }
                        }
                    });
                }
            });
            let pool = builder().max_connections(2).multiplex(10).build().unwrap();
            let slow = pool.clone();
            sim::spawn(async move {
                let answer = call(&slow, numbered(1).param("SLOW", "1")).await.unwrap();
                assert_eq!(&answer.stdout[..], b"1");
            });
            sim::sleep(ms(10)).await;
            ask(&pool, 2).await;
            assert_eq!(seen.all(), ["1", "2", "2"], "refused, so it was safe to repeat");
            // From now on one request has a connection to itself.
            let both = (pool.clone(), Log::default());
            for n in [3, 4] {
                let (pool, log) = both.clone();
                sim::spawn(async move {
                    ask(&pool, n).await;
                    log.note("done");
                });
            }
            while both.1.all().len() < 2 {
                sim::sleep(ms(1)).await;
            }
            assert_eq!(pool.values().await.unwrap().mpxs_conns, Some(false));
        });
    }
}

#[test]
fn an_application_that_does_not_answer_get_values_is_asked_once_q_7_q_9() {
    sim::run(1, async {
        let mut backlog = sim::backlog(&address());
        sim::spawn(async move {
            let _silent = backlog.accept().await;
            loop {
                let io = backlog.accept().await;
                sim::spawn(async move {
                    let mut limits = Limits::server();
                    limits.requests = 1;
                    let config = ServerConfig { limits, ..ServerConfig::default() };
                    let mut peer = Peer::new(io, config);
                    while let Some((key, params)) = peer.request().await {
                        peer.answer(key, &params).await;
                    }
                });
            }
        });
        let connector = Connector::new().values_timeout(ms(250));
        let pool = builder().multiplex(10).connector(connector).build().unwrap();
        ask(&pool, 1).await;
        assert_eq!(sim::elapsed(), ms(250));
        ask(&pool, 2).await;
        assert_eq!(pool.values().await.unwrap(), Values::default());
        assert_eq!((sim::connections(&address()), sim::elapsed()), (2, ms(250)));
    });
}

#[test]
fn a_lost_connection_fails_all_its_requests_and_the_next_opens_another() {
    sim::run(1, async {
        let mut backlog = sim::backlog(&address());
        sim::spawn(async move {
            answer_values(&mut backlog).await;
            for garbage in [false, true] {
                let mut peer = Peer::new(backlog.accept().await, config());
                for _ in 0..3 {
                    let (key, _) = peer.request().await.unwrap();
                    peer.write(key, "part");
                }
                peer.send().await;
                sim::sleep(ms(10)).await;
                if garbage {
                    peer.io.write_all(b"HTTP/1.1 200").await.unwrap();
                    sim::sleep(ms(10)).await;
                }
            }
            let mut peer = Peer::new(backlog.accept().await, config());
            while let Some((key, params)) = peer.request().await {
                peer.answer(key, &params).await;
            }
        });
        let pool = builder().max_connections(1).multiplex(10).build().unwrap();
        for garbage in [false, true] {
            let errors = Log::default();
            for n in 0..3 {
                let (pool, log) = (pool.clone(), errors.clone());
                sim::spawn(async move {
                    let mut response = pool.send(numbered(n)).await.unwrap();
                    while let Ok(Some(_)) = response.chunk().await {}
                    let error = match response.app_status() {
                        None => "failed",
                        Some(_) => "complete",
                    };
                    log.note(error);
                });
                sim::sleep(ms(1)).await;
            }
            sim::sleep(ms(100)).await;
            assert_eq!(errors.all(), ["failed"; 3], "garbage: {garbage}");
        }
        ask(&pool, 9).await;
    });
}

#[test]
fn a_response_may_be_the_body_of_another_request_on_the_same_connection() {
    sim::run(1, async {
        serve(Server::new(), echo);
        let pool = builder().max_connections(1).multiplex(4).build().unwrap();
        let body = vec![b'q'; 300_000];
        let first = numbered(1).param("CONTENT_LENGTH", "300000").stdin(body);
        let first = pool.send(first).await.unwrap();
        struct Stdout(fcgi_driver::pool::Response<sim::Sim>);
        impl futures_core::Stream for Stdout {
            type Item = std::io::Result<Bytes>;
            fn poll_next(
                mut self: std::pin::Pin<&mut Self>,
                cx: &mut std::task::Context<'_>,
            ) -> std::task::Poll<Option<Self::Item>> {
                std::pin::Pin::new(&mut self.0).poll_next(cx).map(|chunk| {
                    chunk.map(|chunk| match chunk {
                        Ok(fcgi_driver::client::Chunk::Stdout(bytes)) => Ok(bytes),
                        Ok(other) => panic!("{other:?}"),
                        Err(error) => Err(error.into()),
                    })
                })
            }
        }
        let second = numbered(2).stdin(Body::from_stream(Stdout(first)));
        let answer = pool.send(second).await.unwrap().collect(LIMIT).await.unwrap();
        assert_eq!(answer.stdout.len(), 300_002);
    });
}

#[test]
fn an_overloaded_request_leaves_a_shared_connection_alone() {
    sim::run(1, async {
        let mut limits = Limits::server();
        limits.requests = 2;
        serve(Server::new().limits(limits).max_requests(1), echo);
        let pool = builder().max_connections(1).multiplex(2).build().unwrap();
        // FCGI_MAX_REQS says 1, which the pool keeps to.
        let slow = pool.clone();
        sim::spawn(async move {
            call(&slow, numbered(1).param("SLEEP", "50")).await.unwrap();
        });
        sim::sleep(ms(1)).await;
        ask(&pool, 2).await;
        let direct = builder().build().unwrap();
        let slow = pool.clone();
        sim::spawn(async move {
            call(&slow, numbered(1).param("SLEEP", "50")).await.unwrap();
        });
        sim::sleep(ms(1)).await;
        let error = call(&direct, numbered(3)).await.unwrap_err();
        assert!(
            matches!(error, Error::Rejected { rejection: Rejection::Overloaded, .. }),
            "{error}"
        );
        ask(&pool, 4).await;
    });
}

#[test]
fn an_upload_goes_on_after_a_write_that_emptied_the_queue() {
    sim::run(1, async {
        serve(Server::new(), |request: fcgi_driver::server::Request| async move {
            let body = request.stdin().read_to_end(LIMIT).await?;
            request.stdout().write_all(body.len().to_string()).await
        });
        let mut limits = Limits::client();
        // Far less than the transport takes at once: it never says that it is full.
        limits.send_high_water = 4096;
        let connector = Connector::new().limits(limits);
        let pool = builder().max_connections(1).multiplex(2).connector(connector).build().unwrap();
        let request = numbered(1).param("CONTENT_LENGTH", "300000").stdin(vec![b'u'; 300_000]);
        let answer = call(&pool, request).await.unwrap();
        assert_eq!(answer.stdout, "300000");
        assert_eq!(sim::elapsed(), ms(0), "it waited for a timer");
    });
}
