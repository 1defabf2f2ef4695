//! Uses every name and every setting of an async adapter once. A program changes its runtime by
//! changing `use fcgi_tokio as fcgi`, and this file is compiled with each adapter to prove it.
//!
//! It holds a conversation of each kind: all roles, bodies that are streamed both ways, a time
//! limit, an aborted request, and a shutdown that lets a request finish.

use std::{
    future::{Future, poll_fn},
    io,
    net::TcpListener,
    os::{
        fd::{AsFd, OwnedFd},
        unix::net::UnixListener,
    },
    path::Path,
    pin::{Pin, pin},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use fcgi::client::{Body, Chunk, Client, Collected, Connector, Request, Response};
use futures_core::Stream;

use crate::{fcgi, runtime};

/// Longer than any successful step takes.
const LONG: Option<Duration> = Some(Duration::from_secs(60));
const BODY: usize = 3 << 20;

fn named<T: ?Sized>() {}

/// Names that no conversation needs.
pub(crate) fn names() {
    fn clone_and_debug<T: Clone + std::fmt::Debug>() {}
    fn debug<T: std::fmt::Debug + Send>() {}
    fn handler(_: impl fcgi::Handler) {}
    fn descriptors(
        listener: &fcgi::TransportListener,
        transport: &fcgi::Transport,
    ) -> (impl AsFd, Option<impl AsFd>) {
        (listener.as_fd(), transport.as_socket())
    }
    clone_and_debug::<fcgi::Server>();
    clone_and_debug::<Connector>();
    debug::<fcgi::Listener>();
    debug::<fcgi::Client>();
    debug::<Response<'_>>();
    clone_and_debug::<fcgi::Pool>();
    debug::<fcgi::pool::Builder>();
    debug::<fcgi::pool::Response>();
    named::<fcgi::pool::PoolStats>();
    debug::<fcgi::Transport>();
    debug::<fcgi::TransportListener>();
    debug::<fcgi::Timer>();
    handler(async |_: fcgi::Request| {});
    named::<fcgi::AddressError>();
    named::<fcgi::ProtocolError>();
    named::<fcgi::proto::RequestKey>();
    let _ = descriptors;
    let _: fn(fcgi::TransportListener, fcgi::Address) -> fcgi::Acceptor =
        fcgi::Acceptor::from_runtime;
    let _: fn(UnixListener) -> fcgi::Acceptor = fcgi::Acceptor::from;
    let _: fn(TcpListener) -> fcgi::Acceptor = fcgi::Acceptor::from;
    debug::<fcgi::Acceptor>();
    debug::<fcgi::ListenerBuilder>();
    named::<fcgi::Account>();
    let _ = (fcgi::Server::builder(), fcgi::Server::from_env());
    drop(fcgi::shutdown_signal());
    let _: fn() -> bool = fcgi::is_fastcgi;
    assert!(fcgi::IntoAppStatus::into_app_status(Err::<(), _>("why")).is_err());
    named::<fcgi::Failed>();
    assert_ne!(fcgi::FAILED, 0);
    assert_ne!(fcgi::CANCELLED, fcgi::PANICKED);
}

/// A server with every setting.
fn server() -> fcgi::Server {
    let mut limits = fcgi::Limits::server();
    limits.full_request = fcgi::FullRequest::Pause;
    fcgi::Server::new()
        .roles(fcgi::Roles::ALL)
        .limits(limits)
        .rejection_body(false)
        .max_connections(100)
        .max_requests(100)
        .web_server_addrs(None)
        .cancel_on_disconnect(true)
        .end_of_file(fcgi::EndOfFile::HalfClosed)
        .first_record_timeout(LONG)
        .params_timeout(LONG)
        .idle_timeout(LONG)
        .write_timeout(LONG)
        .handler_timeout(LONG)
        .abort_grace(None)
        .shutdown_timeout(None)
        .shutdown_grace(None)
}

/// A client with every setting.
fn connector() -> Connector {
    Connector::new()
        .limits(fcgi::Limits::client())
        .connect_timeout(LONG)
        .first_byte_timeout(LONG)
        .next_byte_timeout(LONG)
        .total_timeout(Duration::from_secs(60))
        .drain_timeout(Duration::from_secs(60))
        .values_timeout(Duration::from_secs(60))
}

/// How many requests have begun, and how many were aborted while their handlers ran.
#[derive(Debug, Default)]
struct Seen {
    begun: AtomicUsize,
    given_up: AtomicUsize,
}

impl Seen {
    async fn until(&self, counter: impl Fn(&Self) -> &AtomicUsize, n: usize) {
        while counter(self).load(Ordering::SeqCst) < n {
            runtime::sleep(Duration::from_millis(2)).await;
        }
    }
}

fn handler(seen: &Arc<Seen>) -> impl fcgi::Handler + use<> {
    let seen = Arc::clone(seen);
    move |request: fcgi::Request| {
        let seen = Arc::clone(&seen);
        async move { answer(request, &seen).await }
    }
}

async fn answer(request: fcgi::Request, seen: &Seen) -> Result<u32, fcgi::Error> {
    seen.begun.fetch_add(1, Ordering::SeqCst);
    match request.param_str("DO") {
        Some("wait") => {
            let _: fcgi::AbortReason = request.cancelled().await;
            seen.given_up.fetch_add(1, Ordering::SeqCst);
            return Ok(fcgi::CANCELLED);
        }
        Some("sleep") => runtime::sleep(Duration::from_millis(200)).await,
        Some("reject") => {
            request.reject(fcgi::Rejection::Overloaded);
            return Ok(0);
        }
        Some("panic") => panic!("as asked"),
        _ => {}
    }
    let params: &fcgi::Params = request.params();
    assert_eq!(request.param("DO").is_some(), params.iter().any(|(name, _)| name == b"DO"));
    let mut out: fcgi::OutputStream = request.stdout();
    out.write_all(format!("{:?} {}\n", request.role(), request.keep_conn())).await?;
    out.flush().await?;
    request.stderr().write_all("noted").await?;
    let mut stdin: fcgi::InputStream = request.stdin();
    while let Some(chunk) = stdin.chunk().await? {
        out.write_chunk(chunk).await?;
    }
    out.write_all(request.data().read_to_end(BODY).await?).await?;
    Ok(7)
}

/// Serves at a unix or TCP address, for as long as the conversation takes.
pub(crate) fn serve_and_talk(address: &str) {
    let address: fcgi::Address = address.parse().unwrap();
    runtime::block_on(async {
        let seen = Arc::new(Seen::default());
        let listener = fcgi::Listener::bind(&address).unwrap();
        let address = listener.local_addr().clone();
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let until = async move {
            while !stopped.load(Ordering::SeqCst) {
                runtime::sleep(Duration::from_millis(2)).await;
            }
        };
        let serve: fcgi::Serve<_, _> =
            server().serve(listener, handler(&seen)).with_graceful_shutdown(until);
        let server = runtime::spawn(serve);
        let last = talk(&address, &seen).await;
        stop.store(true, Ordering::SeqCst);
        server.await.unwrap();
        // The server finished its active request.
        let answer = last.await;
        assert_eq!((&answer.stdout[..], answer.app_status), (&b"Responder false\n"[..], 7));
        if let fcgi::Target::Unix(path) = address.target() {
            assert!(!path.exists(), "the socket's file is removed");
        }
    })
    .unwrap();
}

/// Leaves one request active and returns it.
async fn talk(address: &fcgi::Address, seen: &Seen) -> impl Future<Output = Collected> + use<> {
    let values: fcgi::Values = connector().query_values(address).await.unwrap();
    assert_eq!((values.max_conns, values.mpxs_conns), (Some(100), Some(true)));

    let mut client: fcgi::Client = connector().connect(address).await.unwrap();
    assert_eq!(client.address(), address);
    let authorizer = Request::authorizer().keep_conn(true);
    let answer = client.send(authorizer).await.unwrap().collect(1000).await.unwrap();
    assert_eq!(
        (&answer.stdout[..], &answer.stderr[..]),
        (&b"Authorizer true\n"[..], &b"noted"[..])
    );
    assert_eq!(answer.app_status, 7);

    streams_bodies(&mut client).await;
    assert!(client.is_reusable());
    gives_up(&mut client, seen).await;
    fails(&mut client, address).await;
    pools(address).await;

    let mut client = Client::connect(address).await.unwrap();
    let sleeps = Request::responder().param("DO", "sleep").keep_conn(false);
    let begun = seen.begun.load(Ordering::SeqCst);
    let task = runtime::spawn(async move {
        let response = client.send(sleeps).await.unwrap();
        response.collect(1000).await.unwrap()
    });
    seen.until(|seen| &seen.begun, begun + 1).await;
    task
}

/// A pool with every setting.
async fn pools(address: &fcgi::Address) {
    let pool = fcgi::Pool::builder(address.clone())
        .connector(connector())
        .max_connections(2)
        .max_idle(1)
        .idle_timeout(Duration::from_secs(1))
        .max_requests_per_connection(100)
        .max_age(LONG)
        .max_waiting(10)
        .wait_timeout(LONG)
        .multiplex(4)
        .keep_conn(true)
        .build()
        .unwrap();
    assert_eq!(pool.address(), address);
    assert_eq!(pool.values().await.unwrap().mpxs_conns, Some(true));
    let request = Request::responder;
    let mut response: fcgi::pool::Response = pool.send(request()).await.unwrap();
    let mut stdout = 0;
    while let Some(chunk) = response.chunk().await.unwrap() {
        if let Chunk::Stdout(bytes) = chunk {
            stdout += bytes.len();
        }
    }
    assert_eq!((stdout, response.app_status()), ("Responder true\n".len(), Some(7)));
    let answer: Collected = pool.send(request()).await.unwrap().collect(1000).await.unwrap();
    assert_eq!(&answer.stdout[..], b"Responder true\n");
    assert_eq!(pool.stats().active, 0);
    pool.close();
    assert!(matches!(pool.send(request()).await, Err(fcgi::Error::PoolClosed { .. })));
    pool_of_text(address).await;
}

/// Uses text as an address, and detaches a request.
async fn pool_of_text(address: &fcgi::Address) {
    assert!(matches!(fcgi::Pool::new("9000"), Err(fcgi::Error::Address(_))));
    assert!(matches!(fcgi::Pool::new("-"), Err(fcgi::Error::NotCallable { .. })));
    assert!(matches!(Client::connect("9000").await.map(drop), Err(fcgi::Error::Address(_))));
    let pool = fcgi::Pool::new(address.to_string()).unwrap();
    pool.send(Request::responder()).await.unwrap().detach();
    let mut client = connector().connect(address.to_string()).await.unwrap();
    client.send(Request::responder().keep_conn(true)).await.unwrap().detach();
    let next = client.send(Request::responder()).await.unwrap().collect(1000).await.unwrap();
    assert_eq!(next.app_status, 7);
    pool.close();
}

async fn streams_bodies(client: &mut Client) {
    let (stdin, data) = (pattern(BODY, 1), pattern(BODY, 2));
    let request = Request::new(fcgi::Role::Filter)
        .params([("A", "1"), ("B", "2")])
        .stdin(Body::from_stream(Chunks(stdin.clone())))
        .data(Body::from_reader(reader(&data)))
        .keep_conn(true);
    let mut response: Response<'_> = client.send(request).await.unwrap();
    let (mut stdout, mut stderr) = (Vec::new(), Vec::new());
    while let Some(chunk) = response.chunk().await.unwrap() {
        match chunk {
            Chunk::Stdout(bytes) => stdout.extend_from_slice(&bytes),
            Chunk::Stderr(bytes) => stderr.extend_from_slice(&bytes),
        }
    }
    assert_eq!(response.app_status(), Some(7));
    assert_eq!(stderr, b"noted");
    assert!(stdout == [b"Filter true\n", &stdin[..], &data[..]].concat(), "it came back changed");
}

async fn gives_up(client: &mut Client, seen: &Seen) {
    let waits = || Request::responder().param("DO", "wait").keep_conn(true);
    // By its time limit, on a separate connection: long enough for its handler to begin.
    let limit = Duration::from_secs(3);
    let address = client.address().clone();
    let hasty = connector().first_byte_timeout(Some(limit));
    let mut other = hasty.connect(&address).await.unwrap();
    match other.send(waits()).await.map(drop) {
        Err(fcgi::Error::Timeout { phase: fcgi::Phase::FirstByte, limit: of, .. }) => {
            assert_eq!(of, limit);
        }
        other => panic!("{other:?}"),
    }
    drop(other);
    seen.until(|seen| &seen.given_up, 1).await;
    // By dropping it once its handler runs; the connection then carries the next request.
    let begun = seen.begun.load(Ordering::SeqCst);
    {
        let mut send = pin!(client.send(waits()));
        let mut runs = pin!(seen.until(|seen| &seen.begun, begun + 1));
        poll_fn(|cx| {
            assert!(send.as_mut().poll(cx).is_pending(), "it waits");
            runs.as_mut().poll(cx)
        })
        .await;
    }
    let next = Request::responder().keep_conn(true);
    let answer = client.send(next).await.unwrap().collect(1000).await.unwrap();
    assert_eq!(answer.stdout, "Responder true\n");
    assert_eq!(seen.given_up.load(Ordering::SeqCst), 2, "the handler learned of it");
}

async fn fails(client: &mut Client, address: &fcgi::Address) {
    let name = address.to_string();
    let panics = Request::responder().param("DO", "panic").keep_conn(true);
    let answer = client.send(panics).await.unwrap().collect(1000).await.unwrap();
    assert_eq!(answer.app_status, fcgi::PANICKED);
    let rejected = Request::responder().param("DO", "reject").keep_conn(false);
    match client.send(rejected).await.map(drop) {
        Err(fcgi::Error::Rejected { address, rejection: fcgi::Rejection::Overloaded }) => {
            assert_eq!(*address, name);
        }
        other => panic!("{other:?}"),
    }
    match client.send(Request::filter()).await.map(drop) {
        Err(fcgi::Error::Closed { address }) => assert_eq!(*address, name),
        other => panic!("{other:?}"),
    }
    match Client::connect(&fcgi::Address::STDIN).await.map(drop) {
        Err(fcgi::Error::NotCallable { address }) => assert_eq!(&*address, "-"),
        other => panic!("{other:?}"),
    }
    match Client::connect("unix:/no/such/socket").await.map(drop) {
        Err(fcgi::Error::Connect { address, source }) => {
            assert_eq!(&*address, "unix:/no/such/socket");
            assert_eq!(source.kind(), io::ErrorKind::NotFound);
        }
        other => panic!("{other:?}"),
    }
}

/// Serves an inherited socket, until the future is dropped.
pub(crate) fn serve_a_given_socket(folder: &Path) {
    let path = folder.join("given.sock");
    let given = OwnedFd::from(UnixListener::bind(&path).unwrap());
    runtime::block_on(async {
        let listener = fcgi::Listener::from_fd(given).unwrap();
        let serve = server().serve(listener, handler(&Arc::default()));
        let task = async move {
            let mut client = Client::connect(&fcgi::Address::unix(path)).await.unwrap();
            let answer = client.send(Request::responder()).await.unwrap();
            answer.collect(1000).await.unwrap()
        };
        let (mut serve, mut task) = (pin!(serve), pin!(task));
        let answer = poll_fn(|cx| {
            assert!(serve.as_mut().poll(cx).is_pending());
            task.as_mut().poll(cx)
        })
        .await;
        assert_eq!(answer.app_status, 7);
    })
    .unwrap();
}

fn pattern(n: usize, seed: usize) -> Vec<u8> {
    (0..n).map(|i| (i.wrapping_mul(seed + 6) >> 3) as u8).collect()
}

/// A reader that owns its bytes: futures-io has one over a slice.
fn reader(bytes: &[u8]) -> &'static [u8] {
    bytes.to_vec().leak()
}

/// A stream of bytes in pieces of uneven sizes.
struct Chunks(Vec<u8>);

impl Stream for Chunks {
    type Item = io::Result<Bytes>;

    fn poll_next(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if self.0.is_empty() {
            return Poll::Ready(None);
        }
        let n = self.0.len().min(self.0.len() / 7 + 1000);
        let rest = self.0.split_off(n);
        Poll::Ready(Some(Ok(Bytes::from(std::mem::replace(&mut self.0, rest)))))
    }
}
