//! Handlers that are types of their own.

#[path = "support/mod.rs"]
mod support;

use std::future::Future;

use fcgi_driver::server::{Failed, Handler, PANICKED, Request, Server};
use fcgi_driver::{Error, Phase, runtime::Runtime};
use fcgi_testkit::sim::{self, Pipe, Sim};

use support::{Gauge, address, ask, builder, call, ms, numbered};

/// Panics before it returns a future, if the request asks for that.
struct Hasty;

impl Handler for Hasty {
    fn call(&self, request: Request) -> impl Future<Output = Result<u32, Failed>> + Send {
        assert!(request.param("PANIC").is_none(), "PANIC");
        async move {
            support::echo(request).await.expect("the client is in order");
            Ok(0)
        }
    }
}

/// The limit does not end a handler that has stopped waiting for STDIN. It ends one that asks again.
#[test]
fn the_limit_for_silent_input_is_for_those_who_wait() {
    for again in [false, true] {
        sim::run(1, async move {
            let handler = move |request: Request| async move {
                let mut stdin = request.stdin();
                assert!(sim::poll_some(stdin.chunk(), 1).await.is_none(), "there is nothing");
                sim::sleep(ms(10_000)).await;
                if again {
                    let error = stdin.chunk().await.unwrap_err();
                    assert!(matches!(error, Error::Timeout { phase: Phase::Stdin, .. }), "{error}");
                }
                request.stdout().write_all("done").await
            };
            support::serve(Server::new().stdin_timeout(Some(ms(1000))), handler);
            let mut web = Sim::connect(&address()).await.unwrap();
            web.write_all(&[&BEGIN[..], &END_PARAMS].concat()).await.unwrap();
            let mut came = Vec::new();
            while !came.ends_with(&[0; 3]) || came.len() < 40 {
                came.extend(web.read().await.unwrap());
            }
            let whole = came.windows(4).any(|bytes| bytes == b"done");
            assert_eq!(whole, !again, "{came:?}");
        });
    }
}

/// A Responder request with the id 1, kept.
const BEGIN: [u8; 16] = [1, 1, 0, 1, 0, 8, 0, 0, 0, 1, 1, 0, 0, 0, 0, 0];
const END_PARAMS: [u8; 8] = [1, 4, 0, 1, 0, 0, 0, 0];

#[test]
fn a_panic_before_there_is_a_future_ends_its_request_and_nothing_else() {
    sim::run(1, async {
        support::serve(Server::new(), Hasty);
        let pool = builder().max_connections(1).multiplex(2).build().unwrap();
        let panicked = call(&pool, numbered(1).param("PANIC", "1")).await.unwrap();
        assert_eq!(panicked.app_status, PANICKED);
        let slow = pool.clone();
        sim::spawn(async move {
            let answer = call(&slow, numbered(2).param("SLEEP", "50")).await.unwrap();
            assert_eq!(answer.stdout, "2");
        });
        sim::sleep(ms(1)).await;
        // Beside another one it has a task of its own.
        let panicked = call(&pool, numbered(3).param("PANIC", "1")).await.unwrap();
        assert_eq!(panicked.app_status, PANICKED);
        sim::sleep(ms(100)).await;
        ask(&pool, 4).await;
        assert_eq!(sim::connections(&address()), 2, "one of them for GET_VALUES (Q-7)");
    });
}

/// Dropping the server of one connection drops all of its handlers: the one that ran inline, and those
/// with their own tasks. Nobody is left who would end one after its grace.
#[test]
fn a_dropped_connection_drops_all_of_its_handlers() {
    for grace in [ms(0), ms(60_000)] {
        sim::run(1, async move {
            let running = Gauge::default();
            let inside = running.clone();
            let handler = move |_: Request| {
                let inside = inside.enter();
                async move {
                    let _inside = inside;
                    std::future::pending::<()>().await;
                }
            };
            let (mut web, ours) = Pipe::pair();
            let server = Server::<Sim>::new().abort_grace(grace);
            let mut serving = Box::pin(server.serve_connection(ours, handler));
            for id in 1..=3 {
                let request = [&begin(id)[..], &[1, 4, 0, id, 0, 0, 0, 0]].concat();
                web.write_all(&request).await.unwrap();
            }
            while running.now() < 3 {
                assert!(sim::poll_some(&mut serving, 1).await.is_none(), "the web server is there");
                sim::pass().await;
            }
            drop(serving);
            assert!(web.read().await.unwrap().is_empty(), "it is closed without an answer");
            sim::sleep(ms(1)).await;
            assert_eq!(running.now(), 0, "dropped at once");
        });
    }
}

/// A Responder request that is kept.
fn begin(id: u8) -> [u8; 16] {
    let mut begin = BEGIN;
    begin[3] = id;
    begin
}
