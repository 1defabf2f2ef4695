//! tokio's IO traits on the streams of a request and on a client's bodies.

use std::{
    convert::Infallible,
    future::poll_fn,
    io::{Cursor, ErrorKind},
    pin::{Pin, pin},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Poll},
};

use fcgi_tokio::{
    self as fcgi, Client, Listener, Pool,
    client::{Body, Chunk, Request},
    http::HttpClient,
};
use http_body::Body as _;
use tokio::{
    io::{self, AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf},
    sync::Notify,
    task::yield_now,
};

/// More than is ever in transit at a time.
const BODY: usize = 300_000;

fn body(seed: usize) -> Vec<u8> {
    (0..BODY).map(|n| (n.wrapping_mul(seed) / 7) as u8).collect()
}

/// A client of a handler, over a stream in memory.
fn client<H: fcgi::Handler>(handler: H) -> Client {
    let (ours, theirs) = io::duplex(1024);
    tokio::spawn(fcgi::serve_connection(ours, handler));
    Client::over(theirs)
}

async fn echo(request: fcgi::Request) -> io::Result<()> {
    let copied = io::copy(&mut request.stdin(), &mut request.stdout()).await?;
    let text = format!("copied {copied} bytes\n");
    AsyncWriteExt::write_all(&mut request.stderr(), text.as_bytes()).await
}

#[tokio::test]
async fn copy_goes_both_ways() {
    let mut client = client(echo);
    for seed in [1, 2] {
        let sent = body(seed);
        let stdin = Body::from_tokio_reader(Cursor::new(sent.clone()));
        let request = Request::responder().stdin(stdin).keep_conn(true);
        let mut response = client.send(request).await.unwrap();
        let mut came = Vec::new();
        io::copy(&mut response, &mut came).await.unwrap();
        assert!(came == sent, "it came back changed: {} bytes", came.len());
        // The end stays the end, and the response is over.
        assert_eq!(response.read(&mut [0; 10]).await.unwrap(), 0);
        assert_eq!(response.app_status(), Some(0));
        assert!(response.chunk().await.unwrap().is_none());
    }
}

#[tokio::test]
async fn a_pool_s_response_is_read_and_its_connection_goes_back() {
    let folder = tempfile::tempdir().unwrap();
    let address = folder.path().join("app.sock");
    let server = fcgi::serve(Listener::bind(&address).unwrap(), echo);
    let server = tokio::spawn(server);
    let pool = Pool::builder(&address).max_connections(1).keep_conn(true).build().unwrap();
    for seed in [3, 4] {
        let sent = body(seed);
        let request =
            Request::responder().stdin(Body::from_tokio_reader(Cursor::new(sent.clone())));
        let mut response = pool.send(request).await.unwrap();
        let mut came = vec![0; sent.len()];
        AsyncReadExt::read_exact(&mut response, &mut came).await.unwrap();
        assert!(came == sent, "it came back changed");
        assert_eq!(response.read(&mut [0]).await.unwrap(), 0);
    }
    server.abort();
}

/// Reads and chunks take turns; STDERR in between is for those who take chunks.
#[tokio::test]
async fn what_a_reader_leaves_of_a_chunk_comes_next() {
    let mut client = client(async |request: fcgi::Request| {
        request.stdout().write_all("0123456789").await?;
        request.stderr().write_all("oh").await?;
        request.stdout().write_all("abc").await
    });
    let mut response = client.send(Request::responder().keep_conn(true)).await.unwrap();
    let mut four = [0; 4];
    AsyncReadExt::read_exact(&mut response, &mut four).await.unwrap();
    assert_eq!(&four, b"0123");
    assert_eq!(response.read(&mut []).await.unwrap(), 0);
    let mut rest = match response.chunk().await.unwrap() {
        Some(Chunk::Stdout(bytes)) => String::from_utf8(bytes.to_vec()).unwrap(),
        other => panic!("{other:?}"),
    };
    assert!(rest.starts_with("456789"), "{rest}");
    response.read_to_string(&mut rest).await.unwrap();
    assert_eq!(rest, "456789abc");
}

#[tokio::test]
async fn shutdown_ends_a_handle_behind_what_it_wrote() {
    let gate = Arc::new(Notify::new());
    let opened = Arc::clone(&gate);
    let mut client = client(move |request: fcgi::Request| {
        let gate = Arc::clone(&gate);
        async move {
            let mut stdout = request.stdout();
            AsyncWriteExt::write_all(&mut stdout, b"all of it").await?;
            stdout.shutdown().await?;
            let closed = AsyncWriteExt::write_all(&mut stdout, b"more").await.unwrap_err();
            assert_eq!(closed.kind(), ErrorKind::BrokenPipe);
            // What was written is with the peer before the handler ends.
            gate.notified().await;
            request.stdout().write_all(", and an afterword").await?;
            Ok::<_, io::Error>(())
        }
    });
    let mut response = client.send(Request::responder()).await.unwrap();
    let mut came = [0; 9];
    AsyncReadExt::read_exact(&mut response, &mut came).await.unwrap();
    assert_eq!(&came, b"all of it");
    opened.notify_one();
    let mut rest = Vec::new();
    AsyncReadExt::read_to_end(&mut response, &mut rest).await.unwrap();
    assert_eq!(rest, b", and an afterword");
    assert_eq!(response.app_status(), Some(0));
}

/// The end of a body that somebody else writes is the end of STDIN.
#[tokio::test]
async fn shutdown_of_a_pipe_ends_the_request_s_body() {
    let mut client = client(echo);
    let (reader, mut writer) = io::duplex(100);
    let writing = tokio::spawn(async move {
        for piece in 0..100 {
            writer.write_all(format!("piece {piece}\n").as_bytes()).await.unwrap();
            yield_now().await;
        }
        writer.shutdown().await.unwrap();
        writer
    });
    let request = Request::responder().stdin(Body::from_tokio_reader(reader));
    let answer = client.send(request).await.unwrap().collect(10_000).await.unwrap();
    assert!(answer.stdout.ends_with(b"piece 99\n"), "{:?}", answer.stdout);
    assert_eq!(answer.stderr, "copied 890 bytes\n");
    drop(writing.await.unwrap());
}

/// Reads and writes that are given up lose no byte, and double none.
#[tokio::test]
async fn cancelling_loses_no_byte() {
    let mut client = client(async |request: fcgi::Request| {
        let (mut stdin, mut stdout) = (request.stdin(), request.stdout());
        let mut buffer = [0; 777];
        loop {
            let read = loop {
                tokio::select! {
                    biased;
                    read = AsyncReadExt::read(&mut stdin, &mut buffer) => break read?,
                    () = yield_now() => {}
                }
            };
            if read == 0 {
                return Ok::<_, io::Error>(());
            }
            write_in_tries(&mut stdout, &buffer[..read]).await?;
        }
    });
    let sent = body(5);
    let stdin = Body::from_tokio_reader(Cursor::new(sent.clone()));
    let mut response = client.send(Request::responder().stdin(stdin)).await.unwrap();
    let (mut came, mut buffer) = (Vec::new(), [0; 555]);
    loop {
        tokio::select! {
            biased;
            read = AsyncReadExt::read(&mut response, &mut buffer) => match read.unwrap() {
                0 => break,
                read => came.extend_from_slice(&buffer[..read]),
            },
            () = yield_now() => {}
        }
    }
    assert!(came == sent, "it came back changed: {} bytes", came.len());
}

async fn write_in_tries(to: &mut (impl AsyncWrite + Unpin), mut bytes: &[u8]) -> io::Result<()> {
    while !bytes.is_empty() {
        tokio::select! {
            biased;
            wrote = to.write(bytes) => bytes = &bytes[wrote?..],
            () = yield_now() => {}
        }
    }
    Ok(())
}

/// The bodies of HTTP, at both ends: what a reader has left still counts as the body's.
#[tokio::test]
async fn http_bodies_are_readers() {
    let folder = tempfile::tempdir().unwrap();
    let address = folder.path().join("app.sock");
    let app = tower::service_fn(async |request: http::Request<fcgi::http::Body>| {
        let mut body = request.into_body();
        let length = body.size_hint().exact().unwrap();
        let mut line = [0; 6];
        AsyncReadExt::read_exact(&mut body, &mut line).await.unwrap();
        assert_eq!(&line, b"first\n");
        assert_eq!(body.size_hint().exact(), Some(length - 6));
        assert!(!body.is_end_stream());
        // The rest goes back as it comes.
        Ok::<_, Infallible>(http::Response::new(body))
    });
    let server = fcgi::serve_http(Listener::bind(&address).unwrap(), app);
    let server = tokio::spawn(server);
    let client = HttpClient::builder(&address).build().unwrap();
    let sent = [&b"first\n"[..], &body(6)].concat();
    let request = http::Request::post("/").body(fcgi::http::Body::from(sent.clone())).unwrap();
    let mut body = client.send(request).await.unwrap().into_body();
    let mut came = vec![0; 1000];
    AsyncReadExt::read_exact(&mut body, &mut came).await.unwrap();
    io::copy(&mut body, &mut came).await.unwrap();
    assert!(came == sent[6..], "it came back changed: {} bytes", came.len());
    assert!(body.is_end_stream());
    server.abort();
}

/// An application that always has another line of STDERR, and counts how many were read.
struct Chatter(Arc<AtomicUsize>);

/// More lines than one turn may take; without an end the test could not fail.
const LINES: usize = 10_000;

impl AsyncRead for Chatter {
    fn poll_read(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.0.fetch_add(1, Ordering::Relaxed) < LINES {
            buf.put_slice(&[1, 7, 0, 1, 0, 2, 0, 0, b'e', b'\n']);
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Chatter {
    fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, b: &[u8]) -> Poll<io::Result<usize>> {
        Poll::Ready(Ok(b.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

/// Else its task would never let others go on, not even its own time limit: a stream that is always
/// ready need not pause by itself.
#[tokio::test]
async fn who_skips_stderr_pauses_while_nothing_else_comes() {
    let lines = Arc::new(AtomicUsize::new(0));
    let mut client = Client::over(Chatter(Arc::clone(&lines)));
    let mut response = client.send(Request::responder()).await.unwrap();
    let mut buf = [0; 8];
    let mut read = pin!(response.read(&mut buf));
    for _ in 0..3 {
        let before = lines.load(Ordering::Relaxed);
        let paused = poll_fn(|cx| Poll::Ready(read.as_mut().poll(cx).is_pending())).await;
        assert!(paused, "there is no STDOUT to read");
        let polled = lines.load(Ordering::Relaxed) - before;
        assert!((1..1000).contains(&polled), "{polled} lines in one turn");
    }
    // It goes on by itself, up to the end of the connection.
    read.await.unwrap_err();
}
