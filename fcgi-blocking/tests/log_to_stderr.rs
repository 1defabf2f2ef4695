//! A subscriber that writes to the STDERR of a request: the server logs nothing while it holds the
//! connection's lock. Where it did, this test would wait for itself.

use std::{
    io::{Read, Write},
    os::unix::net::{UnixListener, UnixStream},
    sync::{Arc, Mutex},
    thread,
    time::Duration,
};

use fcgi_blocking::{Error, Request, Server, server::OutputStream};
use fcgi_testkit::logs;

fn record(kind: u8, id: u8, content: &[u8]) -> Vec<u8> {
    let length = u8::try_from(content.len()).unwrap();
    [&[1, kind, 0, id, 0, length, 0, 0], content].concat()
}

/// A request without parameters whose input goes on.
fn begin(id: u8) -> Vec<u8> {
    [record(1, id, &[0, 1, 1, 0, 0, 0, 0, 0]), record(4, id, &[])].concat()
}

#[test]
fn a_subscriber_may_write_to_the_stderr_of_a_request() {
    let stderr: Arc<Mutex<Option<OutputStream>>> = Arc::default();
    let seen: Arc<Mutex<String>> = Arc::default();
    let (to, lines) = (Arc::clone(&stderr), Arc::clone(&seen));
    logs::forward(move |line| {
        lines.lock().unwrap().push_str(std::str::from_utf8(line).unwrap());
        if let Some(stderr) = &mut *to.lock().unwrap() {
            let _ = stderr.write_all(line);
            let _ = stderr.flush();
        }
    });
    let folder = tempfile::tempdir().unwrap();
    let connect = |name: &str, limit: Option<Duration>| {
        let path = folder.path().join(name);
        let (listener, first) = (UnixListener::bind(&path).unwrap(), Arc::clone(&stderr));
        thread::spawn(move || {
            let server = Server::new().threads(4).stdin_timeout(limit);
            server
                .serve(listener, move |request: Request| -> Result<(), Error> {
                    first.lock().unwrap().get_or_insert_with(|| request.stderr());
                    request.stdin().read_to_end(100)?;
                    request.stdout().write_all("read")
                })
                .run()
        });
        let old = stderr.lock().unwrap().take();
        drop(old);
        let web = UnixStream::connect(&path).unwrap();
        web.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
        web
    };
    let until = |what: &str, is_so: &dyn Fn() -> bool| {
        let mut waits = 0..6000;
        while !is_so() {
            assert!(waits.next().is_some(), "{what}: not in {}", seen.lock().unwrap());
            thread::sleep(Duration::from_millis(10));
        }
    };
    let logged = |lines: &[&str]| {
        for line in lines {
            until(line, &|| seen.lock().unwrap().contains(line));
        }
    };
    let mut web = connect("first", None);
    let mut all = Vec::new();
    let mut read = |web: &mut UnixStream, text: &str| {
        while !String::from_utf8_lossy(&all).contains(text) {
            let mut bytes = [0; 4096];
            let n = web.read(&mut bytes).expect("it waits for itself");
            assert_ne!(n, 0, "{}", String::from_utf8_lossy(&all));
            all.extend_from_slice(&bytes[..n]);
        }
    };
    web.write_all(&begin(1)).unwrap();
    // The stream of a request that ends would not take what is logged about its end.
    until("the first request's handler runs", &|| stderr.lock().unwrap().is_some());
    // Another request of the connection begins and ends.
    web.write_all(&[begin(2), record(5, 2, &[])].concat()).unwrap();
    read(&mut web, "request ended");
    // A connection breaks the protocol.
    web.write_all(&[7; 16]).unwrap();
    logged(&["fcgi_request", "connection closed"]);
    // A request waits too long.
    let mut web = connect("second", Some(Duration::from_millis(100)));
    web.write_all(&begin(1)).unwrap();
    logged(&["within 100ms", "outcome=TimedOut(Stdin)"]);
}
