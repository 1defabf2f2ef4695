//! Applications for the simulated runtime: ours with a handler, and one made by hand.
#![allow(dead_code, unreachable_pub, reason = "each test program uses a part of it")]

use std::{
    collections::VecDeque,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use bytes::{Buf, Bytes};
use fcgi_driver::{
    Address, Error,
    client::{Collected, Request},
    pool::{self, Builder},
    server::{self, Handler, Server},
};
use fcgi_proto::{
    Connection, Input, Output, Params, RequestKey, ServerConfig, ServerConnection, server::Event,
};
use fcgi_testkit::sim::{self, Pipe, Sim};

pub type Pool = pool::Pool<Sim>;

pub const LIMIT: usize = 1 << 20;

pub fn address() -> Address {
    "unix:/app".parse().unwrap()
}

pub fn ms(n: u64) -> Duration {
    Duration::from_millis(n)
}

/// Our server, at [`address`].
pub fn serve(server: Server<Sim>, handler: impl Handler) {
    let listener = sim::listen(&address());
    sim::spawn(async move { server.serve(listener, handler).await.unwrap() });
}

/// Answers with the parameter N and STDIN, after SLEEP milliseconds.
pub async fn echo(request: server::Request) -> Result<(), Error> {
    if let Some(sleep) = request.param_str("SLEEP").and_then(|ms| ms.parse().ok()) {
        sim::sleep(ms(sleep)).await;
    }
    let mut out = request.stdout();
    out.write_all(request.param("N").unwrap_or_default()).await?;
    let mut stdin = request.stdin();
    while let Some(chunk) = stdin.chunk().await? {
        out.write_all(chunk).await?;
    }
    Ok(())
}

/// A pool that keeps its connections.
pub fn builder() -> Builder<Sim> {
    Pool::builder(address()).keep_conn(true)
}

/// A request that [`echo`] answers with its number.
pub fn numbered(n: usize) -> Request {
    Request::responder().param("N", n.to_string())
}

pub async fn call(pool: &Pool, request: Request) -> Result<Collected, Error> {
    pool.send(request).await?.collect(LIMIT).await
}

/// The answer to [`numbered`].
pub async fn ask(pool: &Pool, n: usize) {
    let answer = call(pool, numbered(n)).await.unwrap();
    assert_eq!(answer.stdout, n.to_string().as_bytes());
}

/// Counts what is going on at once, and the most of it.
#[derive(Clone, Debug, Default)]
pub struct Gauge(Arc<(AtomicUsize, AtomicUsize)>);

impl Gauge {
    pub fn enter(&self) -> Inside {
        let now = self.0.0.fetch_add(1, Ordering::SeqCst) + 1;
        self.0.1.fetch_max(now, Ordering::SeqCst);
        Inside(self.clone())
    }

    pub fn now(&self) -> usize {
        self.0.0.load(Ordering::SeqCst)
    }

    pub fn most(&self) -> usize {
        self.0.1.load(Ordering::SeqCst)
    }
}

#[derive(Debug)]
pub struct Inside(Gauge);

impl Drop for Inside {
    fn drop(&mut self) {
        self.0.0.0.fetch_sub(1, Ordering::SeqCst);
    }
}

/// An application's end of a connection, driven by the test step by step.
pub struct Peer {
    pub io: Pipe,
    pub connection: ServerConnection,
    events: VecDeque<Event>,
    ended: bool,
}

impl Peer {
    pub fn new(io: Pipe, config: ServerConfig) -> Self {
        Self {
            io,
            connection: ServerConnection::new(config),
            events: VecDeque::new(),
            ended: false,
        }
    }

    /// The next event; `None` at the end of the connection.
    pub async fn event(&mut self) -> Option<Event> {
        loop {
            while let Some(event) = self.connection.poll_event().expect("a client in order") {
                self.events.push_back(event);
            }
            self.send().await;
            if let Some(event) = self.events.pop_front() {
                return Some(event);
            }
            if self.connection.is_closed() {
                return None;
            }
            let bytes = self.io.read().await.unwrap();
            if bytes.is_empty() {
                if std::mem::replace(&mut self.ended, true) {
                    return None;
                }
                self.connection.handle_eof();
            }
            let mut rest = &bytes[..];
            while !rest.is_empty() {
                let window = self.connection.recv_buffer();
                let n = window.len().min(rest.len());
                assert!(n > 0, "the test reads more than the connection takes");
                window[..n].copy_from_slice(&rest[..n]);
                self.connection.handle_recv(n).unwrap();
                rest = &rest[n..];
                while let Some(event) = self.connection.poll_event().expect("a client in order") {
                    self.events.push_back(event);
                }
            }
        }
    }

    /// The next request; `None` at the end of the connection.
    pub async fn request(&mut self) -> Option<(RequestKey, Params)> {
        loop {
            if let Event::Request { key, params, .. } = self.event().await? {
                return Some((key, params));
            }
        }
    }

    /// The next abort.
    pub async fn abort(&mut self) -> RequestKey {
        loop {
            match self.event().await {
                Some(Event::Aborted { key, .. }) => return key,
                Some(_) => {}
                None => panic!("the connection ended before ABORT_REQUEST"),
            }
        }
    }

    /// Queues bytes of STDOUT.
    pub fn write(&mut self, key: RequestKey, bytes: impl Into<Bytes>) {
        let mut bytes = bytes.into();
        self.connection.request(key).unwrap().write(Output::Stdout, &mut bytes).unwrap();
        assert!(bytes.is_empty());
    }

    pub fn finish(&mut self, key: RequestKey) {
        self.connection.request(key).unwrap().finish(0).unwrap();
    }

    /// Sends what is queued.
    pub async fn send(&mut self) {
        while let Some(mut queued) = self.connection.poll_transmit() {
            let bytes = queued.copy_to_bytes(queued.remaining());
            if self.io.write_all(&bytes).await.is_err() {
                return;
            }
        }
    }

    /// Answers a request with the parameter N.
    pub async fn answer(&mut self, key: RequestKey, params: &Params) {
        self.write(key, params.get("N").unwrap_or_default().to_vec());
        self.finish(key);
        self.send().await;
    }

    /// Drops what has come of STDIN.
    pub fn skip_input(&mut self, key: RequestKey) {
        if let Some(mut request) = self.connection.request(key) {
            while let std::task::Poll::Ready(Some(_)) = request.read(Input::Stdin, usize::MAX) {}
        }
    }
}

/// What happened, in order.
#[derive(Clone, Debug, Default)]
pub struct Log(Arc<Mutex<Vec<String>>>);

impl Log {
    pub fn note(&self, what: impl Into<String>) {
        self.0.lock().unwrap().push(what.into());
    }

    pub fn all(&self) -> Vec<String> {
        self.0.lock().unwrap().clone()
    }
}
