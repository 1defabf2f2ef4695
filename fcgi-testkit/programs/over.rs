//! A server and a client over an in-memory stream, in the adapter's own IO traits: `duplex` makes
//! the two ends.

use std::{
    io::{Read, Write},
    net::Shutdown,
    os::unix::net::UnixStream,
    time::Duration,
};

use fcgi::client::{Chunk, Request};
use fcgi_testkit::suite::Gate;

use crate::{fcgi, runtime};

/// More than is ever in transit at a time.
const BODY: usize = 300_000;

async fn echo(request: fcgi::Request) -> Result<(), fcgi::Error> {
    let mut stdin = request.stdin();
    let mut stdout = request.stdout();
    while let Some(chunk) = stdin.chunk().await? {
        stdout.write_chunk(chunk).await?;
    }
    Ok(())
}

fn body() -> Vec<u8> {
    (0..BODY).map(|n| (n / 7) as u8).collect()
}

/// Sends requests on one connection, which ends like a socket's.
pub(crate) fn serve_and_call<T>(duplex: impl FnOnce() -> (T, T))
where
    fcgi::Transport: From<T>,
    T: Send + 'static,
{
    runtime::block_on(async {
        let (ours, theirs) = duplex();
        let server = runtime::spawn(fcgi::serve_connection(ours, echo));
        let mut client = fcgi::Client::over(theirs);
        for keep_conn in [true, true, false] {
            let request = Request::responder().stdin(body()).keep_conn(keep_conn);
            let answer = client.send(request).await.unwrap().collect(2 * BODY).await.unwrap();
            assert!(answer.stdout == body(), "it came back changed");
            assert_eq!(client.is_reusable(), keep_conn);
        }
        let error = client.send(Request::responder()).await.map(drop).unwrap_err();
        assert!(error.to_string().contains("(stream)"), "{error}");
        // The connection was closed after the last answer.
        server.await.unwrap();
    })
    .unwrap();
}

/// When a client goes away, its connection and the request's handler end.
pub(crate) fn serve_until_the_client_is_gone<T>(duplex: impl FnOnce() -> (T, T))
where
    fcgi::Transport: From<T>,
    T: Send + 'static,
{
    runtime::block_on(async {
        let (ours, theirs) = duplex();
        let waits = async |request: fcgi::Request| {
            request.stdout().write_all(b"begun").await?;
            request.stdout().flush().await?;
            request.cancelled().await;
            Ok::<_, fcgi::Error>(())
        };
        let server = runtime::spawn(fcgi::serve_connection(ours, waits));
        let connector = fcgi::client::Connector::new().drain_timeout(Duration::ZERO);
        let mut client = connector.over(theirs);
        let response = client.send(Request::responder()).await.unwrap();
        drop(response);
        drop(client);
        server.await.unwrap();
    })
    .unwrap();
}

/// A signal lets the request under way finish, and its connection end, which the client wanted to keep;
/// a request that takes too long is cancelled.
pub(crate) fn leave_after_the_request_under_way<T>(duplex: impl Fn() -> (T, T))
where
    fcgi::Transport: From<T>,
    T: Send + 'static,
{
    runtime::block_on(async {
        for finishes in [true, false] {
            let (leave, go) = (Gate::default(), Gate::default());
            let (signal, gate) = (leave.clone(), go.clone());
            let handler = move |request: fcgi::Request| {
                let gate = gate.clone();
                async move {
                    request.stdout().write_all("begun").await?;
                    request.stdout().flush().await?;
                    gate.pass().await;
                    request.stdout().write_all(", done").await
                }
            };
            let patience = if finishes { Duration::from_secs(600) } else { Duration::ZERO };
            let (ours, theirs) = duplex();
            let serve = fcgi::Server::new()
                .shutdown_timeout(patience)
                .serve_connection(ours, handler)
                .with_graceful_shutdown(async move { signal.pass().await });
            let server = runtime::spawn(serve);
            let mut client = fcgi::Client::over(theirs);
            let request = Request::responder().keep_conn(true);
            let mut response = client.send(request).await.unwrap();
            assert_eq!(response.chunk().await.unwrap(), Some(Chunk::Stdout("begun".into())));
            leave.open();
            if finishes {
                // It has heard of the signal, most likely.
                runtime::sleep(Duration::from_millis(20)).await;
                go.open();
                let answer = response.collect(1000).await.unwrap();
                assert_eq!((&*answer.stdout, answer.app_status), (&b", done"[..], 0));
            } else {
                let cut = response.collect(1000).await;
                let whole = cut.is_ok_and(|answer| answer.app_status == 0);
                assert!(!whole, "a cancelled request looks well");
            }
            server.await.unwrap();
        }
    })
    .unwrap();
}

/// A signal ends a connection that has no request, though its client is there.
pub(crate) fn leave_without_a_request<T>(duplex: impl FnOnce() -> (T, T))
where
    fcgi::Transport: From<T>,
    T: Send + 'static,
{
    runtime::block_on(async {
        let (ours, theirs) = duplex();
        let serve = fcgi::serve_connection(ours, echo).with_graceful_shutdown(async {});
        serve.await.unwrap();
        drop(theirs);
    })
    .unwrap();
}

/// A client that half-closes after its request is answered, as over an accepted socket (FC-3.5-2).
/// `ours` is the other end of `theirs`, which blocks.
pub(crate) fn answer_a_half_closed_peer<T>(ours: impl FnOnce() -> T, mut theirs: UnixStream)
where
    fcgi::Transport: From<T>,
    T: Send + 'static,
{
    // BEGIN_REQUEST of a Responder, and empty PARAMS and STDIN.
    theirs.write_all(b"\x01\x01\0\x01\0\x08\0\0\0\x01\0\0\0\0\0\0").unwrap();
    theirs.write_all(b"\x01\x04\0\x01\0\0\0\0\x01\x05\0\x01\0\0\0\0").unwrap();
    theirs.shutdown(Shutdown::Write).unwrap();
    runtime::block_on(async {
        let late = async |request: fcgi::Request| {
            // The end of file is noticed before the answer.
            runtime::sleep(Duration::from_millis(50)).await;
            request.stdout().write_all(b"answered").await
        };
        fcgi::serve_connection(ours(), late).await.unwrap();
    })
    .unwrap();
    let mut answer = Vec::new();
    theirs.read_to_end(&mut answer).unwrap();
    assert!(answer.windows(8).any(|part| part == b"answered"), "{answer:?}");
}
