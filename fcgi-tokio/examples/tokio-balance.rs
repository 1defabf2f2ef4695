//! `balance REQUESTS ADDR…` sends this many GET requests to the applications at these addresses,
//! and spreads them with tower. If an application fails, it gets no requests for a while, and its
//! requests go to the others.
//!
//! These layers are around each [`HttpClient`], from the inside out. The first reads the whole
//! response, so that a response that breaks off can be requested from another application. The next
//! limits the requests at once. The next pauses after a failure. The last counts the requests in
//! progress, which `Balance` compares. Around all applications are a queue, which makes the service
//! cloneable; load-shed, which refuses requests that don't fit into the queue; and retry.

#![allow(clippy::print_stdout, clippy::print_stderr, reason = "it is a program")]

use std::{
    env,
    future::Future,
    pin::Pin,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Poll, ready},
    time::{Duration, Instant},
};

use anyhow::Context as _;
use bytes::Bytes;
use fcgi::http::{BoxError, HttpClient, HttpError, Mount, ResponseBody};
use fcgi_tokio as fcgi;
use http::{Request, Response};
use http_body_util::{BodyExt, Empty};
use tokio::time::Sleep;
use tower::{
    Service, ServiceBuilder, ServiceExt,
    balance::p2c::Balance,
    discover::ServiceList,
    limit::ConcurrencyLimit,
    load::{CompleteOnResponse, PendingRequests},
    retry::Policy,
};

/// The most requests at once to one application.
const PER_APPLICATION: usize = 16;
/// How many requests may wait for an application to be ready; more are refused.
const QUEUE: usize = 256;
/// How often a request is sent at most.
const TRIES: usize = 4;
/// How long an application gets no requests after it failed.
const REST: Duration = Duration::from_millis(50);

pub(crate) type Get = Request<Empty<Bytes>>;
pub(crate) type Page = Response<Bytes>;

/// One service in front of all the applications.
pub(crate) fn balanced(
    addresses: Vec<fcgi::Address>,
) -> anyhow::Result<impl Service<Get, Response = Page, Error = BoxError, Future: Send> + Clone + Send>
{
    let mount = Mount::new("")?;
    let applications = addresses
        .into_iter()
        .map(|address| {
            let pool = fcgi::Pool::builder(address).max_connections(PER_APPLICATION).build()?;
            let client = HttpClient::new(pool, mount.clone());
            let whole = ServiceExt::<Get>::and_then(client, collect);
            let limited = ConcurrencyLimit::new(whole, PER_APPLICATION);
            let resting = Resting::new(limited, REST);
            Ok(PendingRequests::new(resting, CompleteOnResponse::default()))
        })
        .collect::<Result<Vec<_>, fcgi::Error>>()?;
    let balance = Balance::new(ServiceList::new::<Get>(applications));
    Ok(ServiceBuilder::new().retry(Again(TRIES)).load_shed().buffer(QUEUE).service(balance))
}

/// Reads a whole response.
async fn collect(response: Response<ResponseBody>) -> Result<Page, HttpError> {
    let (parts, body) = response.into_parts();
    Ok(Response::from_parts(parts, body.collect().await?.to_bytes()))
}

/// An application that is not ready for a while after it failed, so that `Balance` avoids it.
/// Otherwise an application that refuses at once would look like the least busy one.
struct Resting<S> {
    inner: S,
    rest: Duration,
    until: Arc<Mutex<Option<Instant>>>,
    sleep: Option<Pin<Box<Sleep>>>,
}

impl<S> Resting<S> {
    fn new(inner: S, rest: Duration) -> Self {
        Self { inner, rest, until: Arc::default(), sleep: None }
    }
}

impl<S> Service<Get> for Resting<S>
where
    S: Service<Get, Response = Page, Error = HttpError, Future: Send + 'static>,
{
    type Response = Page;
    type Error = HttpError;
    type Future = Pin<Box<dyn Future<Output = Result<Page, HttpError>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), HttpError>> {
        let until = *self.until.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(until) = until.filter(|until| Instant::now() < *until) {
            let mut sleep = Box::pin(tokio::time::sleep_until(until.into()));
            let slept = sleep.as_mut().poll(cx);
            self.sleep = Some(sleep);
            ready!(slept);
        }
        self.sleep = None;
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Get) -> Self::Future {
        let (called, until) = (self.inner.call(request), Arc::clone(&self.until));
        let rest = self.rest;
        Box::pin(async move {
            let answered = called.await;
            if answered.as_ref().is_err_and(|error| error.status().is_server_error()) {
                *until.lock().unwrap_or_else(PoisonError::into_inner) = Some(Instant::now() + rest);
            }
            answered
        })
    }
}

/// Sends a request again, up to this many times in all, if it is idempotent or was not started.
#[derive(Clone)]
struct Again(usize);

impl Policy<Get, Page, BoxError> for Again {
    type Future = std::future::Ready<()>;

    fn retry(
        &mut self,
        request: &mut Get,
        result: &mut Result<Page, BoxError>,
    ) -> Option<Self::Future> {
        let error = result.as_ref().err()?.downcast_ref::<HttpError>()?;
        let may = error.status().is_server_error()
            && (request.method().is_idempotent() || error.is_unprocessed());
        self.0 -= 1;
        (may && self.0 > 0).then(|| std::future::ready(()))
    }

    fn clone_request(&mut self, request: &Get) -> Option<Get> {
        Some(request.clone())
    }
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let mut arguments = env::args().skip(1);
    let requests: usize = arguments.next().context("usage: balance REQUESTS ADDR…")?.parse()?;
    let addresses: Vec<fcgi::Address> =
        arguments.map(|address| address.parse()).collect::<Result<_, _>>()?;
    anyhow::ensure!(!addresses.is_empty(), "usage: balance REQUESTS ADDR…");
    let service = balanced(addresses)?;
    let (left, failed) = (Arc::new(AtomicUsize::new(requests)), Arc::new(AtomicUsize::new(0)));
    let started = Instant::now();
    let workers: Vec<_> = (0..32)
        .map(|_| {
            let (service, left, failed) = (service.clone(), Arc::clone(&left), Arc::clone(&failed));
            tokio::spawn(async move {
                let one_less = |n: usize| n.checked_sub(1);
                while left.fetch_update(Ordering::SeqCst, Ordering::SeqCst, one_less).is_ok() {
                    let request = Request::get("/").body(Empty::new()).unwrap_or_default();
                    if let Err(error) = service.clone().oneshot(request).await {
                        failed.fetch_add(1, Ordering::SeqCst);
                        eprintln!("{error}");
                    }
                }
            })
        })
        .collect();
    for worker in workers {
        worker.await?;
    }
    let (failed, seconds) = (failed.load(Ordering::SeqCst), started.elapsed().as_secs_f64());
    println!("requests={requests} failed={failed} seconds={seconds:.3}");
    Ok(())
}
