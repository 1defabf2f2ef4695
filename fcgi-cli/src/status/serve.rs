//! `--serve`: an exporter for Prometheus.

use std::{
    convert::Infallible,
    io,
    net::{Ipv4Addr, Ipv6Addr, SocketAddr},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use bytes::Bytes;
use http::{Method, Request, Response, StatusCode, header};
use http_body_util::Full;
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::{net::TcpListener, sync::Semaphore, task::JoinSet, time::timeout};

use super::{
    look::{Look, Pool},
    prometheus::{self, Scrape},
};
use crate::budget::Budget;

/// The most scrapers at once; others wait.
const CONNECTIONS: usize = 64;
/// The time limits for a request's head, and for a whole connection.
const HEAD: Duration = Duration::from_secs(10);
const CONNECTION: Duration = Duration::from_secs(300);
/// The pause after an accept that failed because there were no descriptors or memory.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// The pools, and what earlier scrapes found.
#[derive(Debug)]
pub(crate) struct Exporter {
    pools: Vec<Pool>,
    limit: Duration,
    known: Mutex<Vec<Known>>,
}

#[derive(Clone, Default, Debug)]
struct Known {
    name: String,
    failures: u64,
}

impl Exporter {
    /// A scrape takes at most `limit` for each pool.
    pub(crate) fn new(pools: Vec<Pool>, limit: Duration) -> Self {
        let known = Mutex::new(vec![Known::default(); pools.len()]);
        Self { pools, limit, known }
    }

    /// Queries all pools at the same time, so a pool that does not answer does not delay the
    /// others. The results are in the order of the pools.
    pub(crate) async fn scrape(&self) -> Vec<Scrape> {
        let looks = looks(&self.pools, true, self.limit).await;
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        looks
            .into_iter()
            .zip(known.iter_mut())
            .map(|(look, known)| {
                match look.name() {
                    Some(name) => known.name = name,
                    None => known.failures += 1,
                }
                Scrape { look, name: known.name.clone(), failures: known.failures }
            })
            .collect()
    }
}

/// Queries all pools at the same time. The results are in the order of the pools.
pub(crate) async fn looks(pools: &[Pool], full: bool, limit: Duration) -> Vec<Look> {
    let mut tasks = JoinSet::new();
    for (n, pool) in pools.iter().cloned().enumerate() {
        let budget = Budget::new(Some(limit));
        tasks.spawn(async move { (n, Look::take(pool, full, budget).await) });
    }
    let mut looks = tasks.join_all().await;
    looks.sort_by_key(|(n, _)| *n);
    looks.into_iter().map(|(_, look)| look).collect()
}

/// A place to listen at, `HOST:PORT` or `:PORT`.
pub(crate) fn place(text: &str) -> Result<String, &'static str> {
    match text.rsplit_once(':') {
        Some((host, port)) if port.parse::<u16>().is_ok() && !host.ends_with(':') => {
            Ok(text.to_owned())
        }
        _ => Err("expected HOST:PORT or :PORT"),
    }
}

/// Opens the address on which `--serve` listens. `:PORT` means every address of this machine.
pub(crate) async fn bind(address: &str) -> io::Result<TcpListener> {
    let Some(port) = address.strip_prefix(':').and_then(|port| port.parse().ok()) else {
        return TcpListener::bind(address).await;
    };
    let all = SocketAddr::from((Ipv6Addr::UNSPECIFIED, port));
    match TcpListener::bind(all).await {
        // This machine has no IPv6.
        Err(error)
            if error.raw_os_error() == Some(rustix::io::Errno::AFNOSUPPORT.raw_os_error()) =>
        {
            TcpListener::bind((Ipv4Addr::UNSPECIFIED, port)).await
        }
        bound => bound,
    }
}

/// Serves until the future is dropped.
pub(crate) async fn serve(listener: TcpListener, exporter: Arc<Exporter>) -> Infallible {
    let slots = Arc::new(Semaphore::new(CONNECTIONS));
    loop {
        // Nobody closes the semaphore.
        let Ok(slot) = Arc::clone(&slots).acquire_owned().await else { continue };
        let Ok((stream, _)) = listener.accept().await else {
            tokio::time::sleep(ACCEPT_PAUSE).await;
            continue;
        };
        let exporter = Arc::clone(&exporter);
        tokio::spawn(async move {
            let service = service_fn(|request| answer(&exporter, request));
            let connection = http1::Builder::new()
                .timer(TokioTimer::new())
                .header_read_timeout(HEAD)
                .serve_connection(TokioIo::new(stream), service);
            // If a scraper leaves, that is not an error.
            let _ = timeout(CONNECTION, connection).await;
            drop(slot);
        });
    }
}

async fn answer(
    exporter: &Exporter,
    request: Request<Incoming>,
) -> Result<Response<Full<Bytes>>, Infallible> {
    let page = |status: StatusCode, kind: &'static str, text: String| {
        let mut response = Response::new(Full::from(text));
        *response.status_mut() = status;
        response.headers_mut().insert(header::CONTENT_TYPE, header::HeaderValue::from_static(kind));
        response
    };
    let plain = "text/plain; charset=utf-8";
    Ok(match (request.method(), request.uri().path()) {
        (&Method::GET | &Method::HEAD, "/metrics") => {
            let text = prometheus::text(&exporter.scrape().await);
            page(StatusCode::OK, "text/plain; version=0.0.4; charset=utf-8", text)
        }
        (&Method::GET | &Method::HEAD, "/") => {
            page(StatusCode::OK, plain, "The metrics are at /metrics.\n".to_owned())
        }
        (&Method::GET | &Method::HEAD, _) => {
            page(StatusCode::NOT_FOUND, plain, "Only /metrics is here.\n".to_owned())
        }
        _ => {
            let mut response =
                page(StatusCode::METHOD_NOT_ALLOWED, plain, "Only GET and HEAD.\n".to_owned());
            response
                .headers_mut()
                .insert(header::ALLOW, header::HeaderValue::from_static("GET, HEAD"));
            response
        }
    })
}
