//! A server and a client over an in-memory stream, in the adapter's own IO traits: `duplex` makes
//! the two ends.

use std::{
    io::{Read, Write},
    net::Shutdown,
    os::unix::net::UnixStream,
    time::Duration,
};

use fcgi::client::Request;

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
        server.await;
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
        server.await;
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
        fcgi::serve_connection(ours(), late).await;
    })
    .unwrap();
    let mut answer = Vec::new();
    theirs.read_to_end(&mut answer).unwrap();
    assert!(answer.windows(8).any(|part| part == b"answered"), "{answer:?}");
}
