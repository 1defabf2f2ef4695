//! Handlers that are types of their own.

#[path = "support/mod.rs"]
mod support;

use std::future::Future;

use fcgi_driver::server::{Failed, Handler, PANICKED, Request, Server};
use fcgi_testkit::sim;

use support::{address, ask, builder, call, ms, numbered};

/// Panics before it gives a future, if it is told to.
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

#[test]
fn a_panic_before_there_is_a_future_ends_its_request_and_nothing_else() {
    sim::run(1, async {
        support::serve(Server::new(), Hasty);
        let pool = builder().max_connections(1).multiplex(2).build();
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
