//! The server's time limits.

use std::time::Duration;

use bytes::Bytes;
use fcgi::{Error, Request, Server};
use fcgi_tokio as fcgi;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::{LATER, LIMIT, assert_took, common::*};

async fn hello(request: Request) -> Result<(), Error> {
    request.stdout().write_all("hello").await
}

fn complete(stdout: impl AsRef<[u8]>) -> Answer {
    Answer { stdout: stdout.as_ref().to_vec(), stdout_closed: true, ..Answer::default() }
}

/// A handler that waits for ever after it has said `started`.
fn stuck(dropped: &Flag) -> impl Fn(Request) -> BoxFuture + Send + Sync + 'static {
    let dropped = dropped.clone();
    move |request: Request| {
        let guard = dropped.on_drop();
        Box::pin(async move {
            let _guard = guard;
            request.stdout().write_all("started").await?;
            std::future::pending::<()>().await;
            Ok(5)
        })
    }
}

type BoxFuture = std::pin::Pin<Box<dyn Future<Output = Result<u32, Error>> + Send>>;

#[tokio::test(start_paused = true)]
async fn abort_grace_ends() {
    tick();
    let dropped = Flag::default();
    let server = Server::new().abort_grace(Duration::from_secs(5));
    let app = serve(server, stuck(&dropped));
    let mut peer = app.dial().await;
    peer.send(request(1, KEEP, &[], b"")).await;
    assert_eq!(peer.record().await.content, b"started");
    let start = tokio::time::Instant::now();
    peer.send(abort(1)).await;
    assert_eq!(peer.answer(1).await.app_status, fcgi::CANCELLED);
    assert_took(start, Duration::from_secs(5));
    dropped.wait().await;
}

#[tokio::test(start_paused = true)]
async fn shutdown_cancels_what_takes_too_long() {
    tick();
    let dropped = Flag::default();
    let server = Server::new().shutdown_timeout(Duration::from_secs(7));
    let mut app = serve(server, stuck(&dropped));
    let mut peer = app.dial().await;
    peer.send(request(1, KEEP, &[], b"")).await;
    assert_eq!(peer.record().await.content, b"started");
    let start = tokio::time::Instant::now();
    app.stop();
    peer.expect_close().await;
    drop(peer);
    app.stopped().await;
    assert_took(start, Duration::from_secs(7));
    assert!(dropped.is_set());
}

/// A server with one limit nearer than the others.
fn limited(set: impl FnOnce(Server, Option<Duration>) -> Server) -> Server {
    let server = Server::new()
        .first_record_timeout(Some(LATER))
        .params_timeout(Some(LATER))
        .idle_timeout(Some(LATER))
        .write_timeout(Some(LATER))
        .handler_timeout(Some(LATER));
    set(server, Some(LIMIT))
}

#[tokio::test(start_paused = true)]
async fn first_record_limit_h_16() {
    tick();
    let app = serve(limited(Server::first_record_timeout), hello);
    for begun in [b"".as_slice(), &begin(1, RESPONDER, KEEP)[..7]] {
        let start = tokio::time::Instant::now();
        let mut peer = app.dial().await;
        peer.send(begun).await;
        peer.expect_close().await;
        assert_took(start, LIMIT);
    }
    // It is for the first record only.
    let mut peer = app.dial().await;
    peer.send(request(1, KEEP, &[], b"")).await;
    assert_eq!(peer.answer(1).await, complete("hello"));
    tokio::time::sleep(LIMIT * 2).await;
    peer.send(request(1, KEEP, &[], b"")).await;
    assert_eq!(peer.answer(1).await, complete("hello"));
}

#[tokio::test(start_paused = true)]
async fn params_limit_h_16() {
    tick();
    let app = serve(limited(Server::params_timeout), hello);
    let mut peer = app.dial().await;
    peer.send(request(1, KEEP, &[], b"")).await;
    assert_eq!(peer.answer(1).await, complete("hello"));
    // Slow, not silent: a byte each second does not prolong it.
    let start = tokio::time::Instant::now();
    peer.send(begin(1, RESPONDER, KEEP)).await;
    let slow = record(Type::Params, 1, &encode(&[("NAME", "a value of some length")]));
    let (mut from, mut to) = peer.io.into_split();
    let dripping = tokio::spawn(async move {
        for byte in slow {
            tokio::time::sleep(Duration::from_secs(1)).await;
            if to.write_all(&[byte]).await.is_err() {
                break;
            }
        }
    });
    let mut rest = Vec::new();
    let _ = within(from.read_to_end(&mut rest)).await;
    assert_eq!(rest, b"");
    assert_took(start, LIMIT);
    within(dripping).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn idle_limit() {
    tick();
    let app = serve(limited(Server::idle_timeout), hello);
    let mut peer = app.dial().await;
    for _ in 0..3 {
        peer.send(request(1, KEEP, &[], b"")).await;
        assert_eq!(peer.answer(1).await, complete("hello"));
        tokio::time::sleep(LIMIT - Duration::from_secs(1)).await;
    }
    peer.send(request(1, KEEP, &[], b"")).await;
    assert_eq!(peer.answer(1).await, complete("hello"));
    let start = tokio::time::Instant::now();
    peer.expect_close().await;
    assert_took(start, LIMIT);
}

#[tokio::test(start_paused = true)]
async fn write_limit_is_for_a_peer_that_reads_nothing() {
    tick();
    let dropped = Flag::default();
    let server = limited(Server::write_timeout).handler_timeout(None);
    let app = serve(server, {
        let dropped = dropped.clone();
        move |request: Request| {
            let guard = dropped.on_drop();
            async move {
                let _guard = guard;
                let block = Bytes::from(vec![b'x'; 64 * 1024]);
                for _ in 0..128 {
                    request.stdout().write_all(block.clone()).await?;
                }
                Ok::<_, Error>(())
            }
        }
    });
    // Slow for much longer than the limit, but never for so long without a read.
    let mut peer = app.dial().await;
    peer.send(request(1, CLOSE, &[], b"")).await;
    for _ in 0..10 {
        tokio::time::sleep(LIMIT - Duration::from_secs(1)).await;
        // More than the sockets hold, so that there was something to write again.
        let mut read = 0;
        while read < 512 * 1024 {
            read += peer.record().await.content.len();
        }
    }
    assert!(!dropped.is_set());
    let start = tokio::time::Instant::now();
    dropped.wait().await;
    assert_took(start, LIMIT);
}

#[tokio::test(start_paused = true)]
async fn no_other_limit_ends_a_handler_that_runs() {
    tick();
    let server = limited(|server, _| server.handler_timeout(None)).idle_timeout(Some(LIMIT));
    let app = serve(server, async |request: Request| -> Result<(), Error> {
        tokio::time::sleep(LATER * 2).await;
        // More than the sockets take: the write waits for its reader, and is done in time.
        request.stdout().write_all(vec![b'x'; 1 << 20]).await?;
        request.stdout().flush().await?;
        tokio::time::sleep(LATER * 2).await;
        request.stdout().write_all("end").await
    });
    let mut peer = app.dial().await;
    for _ in 0..2 {
        peer.send(request(1, KEEP, &[], b"")).await;
        let answer = peer.answer(1).await;
        assert_eq!(answer.stdout.len(), (1 << 20) + 3);
        assert_eq!(answer.app_status, 0);
    }
}

#[tokio::test(start_paused = true)]
async fn handler_limit() {
    tick();
    let dropped = Flag::default();
    let app = serve(limited(Server::handler_timeout), {
        let stuck = stuck(&dropped);
        move |request: Request| -> BoxFuture {
            if request.param("STUCK").is_some() {
                return stuck(request);
            }
            Box::pin(async move {
                tokio::time::sleep(LIMIT - Duration::from_secs(1)).await;
                Ok(3)
            })
        }
    });
    let mut peer = app.dial().await;
    let start = tokio::time::Instant::now();
    peer.send(request(1, KEEP, &[("STUCK", "")], b"")).await;
    peer.send(request(2, KEEP, &[], b"")).await;
    assert_eq!(peer.record().await.content, b"started");
    assert_eq!(peer.answer(2).await.app_status, 3);
    // Cut, since it has begun to answer and is alone now (W-12).
    peer.expect_close().await;
    assert_took(start, LIMIT);
    assert!(dropped.is_set());
}
