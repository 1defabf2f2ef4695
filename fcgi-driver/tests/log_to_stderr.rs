//! A subscriber that writes to the STDERR of a request: the server logs nothing while it holds the
//! connection's lock. Where it did, this test would wait for itself.

#[path = "support/mod.rs"]
mod support;

use std::{
    sync::{Arc, Mutex, mpsc},
    task::{Context, Waker},
    thread,
    time::Duration,
};

use fcgi_driver::{
    Error,
    runtime::Runtime,
    server::{self, OutputStream, Server},
};
use fcgi_testkit::{
    logs,
    sim::{self, Pipe, Sim},
};
use futures_io::AsyncWrite;
use support::{address, ms, serve};

fn record(kind: u8, id: u8, content: &[u8]) -> Vec<u8> {
    let length = u8::try_from(content.len()).unwrap();
    [&[1, kind, 0, id, 0, length, 0, 0], content].concat()
}

/// A request without parameters whose input goes on.
fn begin(id: u8) -> Vec<u8> {
    [record(1, id, &[0, 1, 1, 0, 0, 0, 0, 0]), record(4, id, &[])].concat()
}

async fn read(pipe: &mut Pipe, all: &mut Vec<u8>, text: &str) {
    while !String::from_utf8_lossy(all).contains(text) {
        let bytes = pipe.read().await.unwrap();
        assert!(!bytes.is_empty(), "{}", String::from_utf8_lossy(all));
        all.extend_from_slice(&bytes);
    }
}

#[test]
fn a_subscriber_may_write_to_the_stderr_of_a_request() {
    let (done, ended) = mpsc::channel();
    let stderr: Arc<Mutex<Option<OutputStream>>> = Arc::default();
    let seen: Arc<Mutex<String>> = Arc::default();
    let (to, lines) = (Arc::clone(&stderr), Arc::clone(&seen));
    logs::forward(move |line| {
        lines.lock().unwrap().push_str(std::str::from_utf8(line).unwrap());
        if let Some(stderr) = &mut *to.lock().unwrap() {
            let mut cx = Context::from_waker(Waker::noop());
            let _ = std::pin::Pin::new(stderr).poll_write(&mut cx, line);
        }
    });
    let test = thread::spawn(move || {
        sim::run(1, async move {
            let first = Arc::clone(&stderr);
            let server = Server::new().stdin_timeout(Some(ms(1_000)));
            serve(server, move |request: server::Request| {
                first.lock().unwrap().get_or_insert_with(|| request.stderr());
                async move {
                    request.stdin().read_to_end(100).await?;
                    request.stdout().write_all("read").await?;
                    Ok::<_, Error>(())
                }
            });
            let (mut pipe, mut all) = (Sim::connect(&address()).await.unwrap(), Vec::new());
            pipe.write_all(&begin(1)).await.unwrap();
            // Another request of the connection begins and ends.
            pipe.write_all(&[begin(2), record(5, 2, &[])].concat()).await.unwrap();
            read(&mut pipe, &mut all, "request ended").await;
            // One is aborted before its handler runs, and one while it runs.
            pipe.write_all(&[begin(3), record(2, 3, &[])].concat()).await.unwrap();
            read(&mut pipe, &mut all, "outcome=Aborted").await;
            // The first waits too long. Its answer is cut off, so the connection closes.
            sim::sleep(ms(2_000)).await;
            drop(pipe);
            let old = stderr.lock().unwrap().take();
            drop(old);
            // A connection breaks the protocol.
            let mut pipe = Sim::connect(&address()).await.unwrap();
            pipe.write_all(&begin(1)).await.unwrap();
            sim::sleep(ms(10)).await;
            pipe.write_all(&[7; 16]).await.unwrap();
            sim::sleep(ms(10)).await;
        });
        let _ = done.send(());
    });
    if ended.recv_timeout(Duration::from_secs(60)) == Err(mpsc::RecvTimeoutError::Timeout) {
        panic!("it waits for itself");
    }
    test.join().unwrap();
    let seen = seen.lock().unwrap();
    for line in ["fcgi_request", "within 1s", "outcome=TimedOut(Stdin)", "connection closed"] {
        assert!(seen.contains(line), "{line} is not in {seen}");
    }
}
