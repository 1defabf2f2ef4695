//! A small exchange is one read and one write at each end, counted at the transport.

mod common;

use std::{
    io::{self, IoSlice},
    os::fd::BorrowedFd,
    sync::atomic::{AtomicUsize, Ordering},
    task::{Context, Poll},
    time::Instant,
};

use common::within;
use fcgi::{Address, Tokio};
use fcgi_driver::{
    Listener, StdListener,
    client::{Client, Request},
    runtime::{Runtime, Transport},
    server::Server,
};
use fcgi_engine::socket::{HangUp, Peer};
use fcgi_tokio as fcgi;
use tokio::sync::{Mutex, MutexGuard};

/// Calls on the sockets of one end that came back with a result.
#[derive(Debug)]
struct Calls {
    reads: AtomicUsize,
    writes: AtomicUsize,
    /// How often the sending side was shut down, for a peer that may still send.
    shutdowns: AtomicUsize,
}

impl Calls {
    const fn new() -> Self {
        let [reads, writes, shutdowns] = [const { AtomicUsize::new(0) }; 3];
        Self { reads, writes, shutdowns }
    }

    /// Reads and writes since the last time.
    fn take(&self) -> (usize, usize) {
        (self.reads.swap(0, Ordering::SeqCst), self.writes.swap(0, Ordering::SeqCst))
    }
}

static ACCEPTED: Calls = Calls::new();
static CONNECTED: Calls = Calls::new();

/// The counters are the process's: one test at a time.
async fn alone() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::const_new(());
    let guard = ALONE.lock().await;
    ACCEPTED.take();
    CONNECTED.take();
    ACCEPTED.shutdowns.store(0, Ordering::SeqCst);
    guard
}

/// tokio with counters.
#[derive(Clone, Copy, Debug)]
enum Counting {}

#[derive(Debug)]
struct Counted {
    inner: fcgi::Transport,
    calls: &'static Calls,
}

impl Transport for Counted {
    fn poll_read_ready(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.inner.poll_read_ready(cx)
    }

    fn poll_read(&mut self, cx: &mut Context<'_>, buf: &mut [u8]) -> Poll<io::Result<usize>> {
        let polled = self.inner.poll_read(cx, buf);
        if polled.is_ready() {
            self.calls.reads.fetch_add(1, Ordering::SeqCst);
        }
        polled
    }

    fn poll_write(
        &mut self,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let polled = self.inner.poll_write(cx, slices);
        if polled.is_ready() {
            self.calls.writes.fetch_add(1, Ordering::SeqCst);
        }
        polled
    }

    fn is_readable(&self) -> bool {
        self.inner.is_readable()
    }

    fn hang_up(&self) -> HangUp {
        self.inner.hang_up()
    }

    fn fills(&self) -> bool {
        self.inner.fills()
    }

    fn peer(&self) -> Peer {
        self.inner.peer()
    }

    fn shutdown_write(&self) {
        self.calls.shutdowns.fetch_add(1, Ordering::SeqCst);
        self.inner.shutdown_write();
    }
}

impl Runtime for Counting {
    type Transport = Counted;
    type Listener = fcgi::TransportListener;
    type Timer = fcgi::Timer;

    async fn connect(address: &Address) -> io::Result<Counted> {
        Ok(Counted { inner: Tokio::connect(address).await?, calls: &CONNECTED })
    }

    fn listen(listener: StdListener) -> io::Result<Self::Listener> {
        Tokio::listen(listener)
    }

    fn poll_accept(
        listener: &mut Self::Listener,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<(Counted, Peer)>> {
        Tokio::poll_accept(listener, cx)
            .map_ok(|(inner, peer)| (Counted { inner, calls: &ACCEPTED }, peer))
    }

    fn listener_fd(listener: &Self::Listener) -> Option<BorrowedFd<'_>> {
        Tokio::listener_fd(listener)
    }

    fn timer() -> Self::Timer {
        Tokio::timer()
    }

    fn now() -> Instant {
        Tokio::now()
    }

    fn spawn(future: impl Future<Output = ()> + Send + 'static) -> io::Result<()> {
        Tokio::spawn(future)
    }
}

async fn echo(request: fcgi::Request) -> Result<(), fcgi::Error> {
    let body = request.stdin().read_to_end(1 << 20).await?;
    let mut out = request.stdout();
    // Written bit by bit: it leaves at once all the same.
    out.write_all("Content-Type: text/plain\r\n").await?;
    out.write_all("\r\n").await?;
    request.stderr().write_all("a note").await?;
    out.write_all(body).await
}

/// A client and a server of the counting runtime.
async fn connect(
    address: &str,
) -> (Client<Counting>, tokio::task::JoinHandle<Result<(), fcgi::Error>>) {
    let listener = Listener::bind(address).unwrap();
    let address = listener.local_addr().clone();
    let task = tokio::spawn(Server::<Counting>::new().serve(listener, echo));
    (Client::connect(&address).await.unwrap(), task)
}

fn request(body: &str) -> Request {
    let params = (0..26).map(|n| (format!("PARAMETER_{n}"), format!("value of parameter {n}")));
    Request::responder()
        .param("CONTENT_LENGTH", body.len().to_string())
        .params(params)
        .stdin(body.to_owned())
}

async fn one_read_and_one_write(address: &str) {
    let (mut client, _server) = connect(address).await;
    for round in 0..100 {
        let body = format!("the body of request {round}");
        let response = within(client.send(request(&body))).await.unwrap();
        let answer = within(response.collect(1000)).await.unwrap();
        assert_eq!(answer.stdout, format!("Content-Type: text/plain\r\n\r\n{body}"));
        assert_eq!(answer.stderr, "a note");
        assert_eq!(CONNECTED.take(), (1, 1), "reads and writes of the client, request {round}");
        assert_eq!(ACCEPTED.take(), (1, 1), "reads and writes of the server, request {round}");
    }
}

#[tokio::test]
async fn a_small_exchange_is_one_read_and_one_write_at_each_end() {
    let _alone = alone().await;
    let folder = tempfile::tempdir().unwrap();
    one_read_and_one_write(&format!("unix:{}/app.sock", folder.path().display())).await;
}

#[tokio::test]
async fn a_small_exchange_is_one_read_and_one_write_at_each_end_over_tcp() {
    let _alone = alone().await;
    one_read_and_one_write("tcp:127.0.0.1:0").await;
}

#[tokio::test]
async fn a_connection_that_is_not_kept_costs_no_more() {
    let _alone = alone().await;
    let folder = tempfile::tempdir().unwrap();
    let address = format!("unix:{}/app.sock", folder.path().display());
    let (mut client, _server) = connect(&address).await;
    let response = within(client.send(request("body").keep_conn(false))).await.unwrap();
    within(response.collect(1000)).await.unwrap();
    assert_eq!(CONNECTED.take(), (1, 1));
    assert_eq!(ACCEPTED.take(), (1, 1));
}

#[tokio::test]
async fn a_request_that_came_alone_ends_its_connection_at_once() {
    let _alone = alone().await;
    let folder = tempfile::tempdir().unwrap();
    let address = format!("unix:{}/app.sock", folder.path().display());
    let (_, _server) = connect(&address).await;
    let lingers = async |request: Request| {
        let mut client = Client::<Counting>::connect(&*address).await.unwrap();
        let response = within(client.send(request.keep_conn(false))).await.unwrap();
        within(response.collect(100_000)).await.unwrap();
        drop(client);
        ACCEPTED.shutdowns.swap(0, Ordering::SeqCst)
    };
    assert_eq!(lingers(Request::responder().param("REQUEST_METHOD", "GET")).await, 0);
    assert_eq!(lingers(request("body")).await, 0);
    assert_eq!(lingers(request(&"long body".repeat(1000))).await, 1);
}

#[tokio::test]
async fn a_small_http_exchange_is_one_read_and_one_write() {
    use fcgi::http::Body;
    let _alone = alone().await;
    let folder = tempfile::tempdir().unwrap();
    let address: Address = format!("unix:{}/app.sock", folder.path().display()).parse().unwrap();
    let listener = Listener::bind(&address).unwrap();
    let app = tower::service_fn(async |request: http::Request<Body>| {
        let page = format!("the page {}", request.uri());
        Ok::<_, std::convert::Infallible>(http::Response::new(Body::from(page)))
    });
    let _server = tokio::spawn(Server::<Counting>::new().serve_http(listener, app));
    let mut client = Client::<Counting>::connect(&address).await.unwrap();
    for round in 0..100 {
        let request = Request::responder()
            .param("REQUEST_METHOD", "GET")
            .param("REQUEST_URI", format!("/{round}"));
        let response = within(client.send(request)).await.unwrap();
        let answer = within(response.collect(1000)).await.unwrap();
        assert!(answer.stdout.ends_with(format!("the page /{round}").as_bytes()));
        assert_eq!(ACCEPTED.take(), (1, 1), "reads and writes of the server, request {round}");
    }
}
