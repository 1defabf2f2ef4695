//! One application at several addresses: each request goes to the one with the least to do. One that
//! can't be reached rests, and a request that it has not taken goes to another.

use std::{
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use fcgi_engine::Error;
use fcgi_tokio::{
    self as fcgi, Phase,
    http::{HttpClient, HttpError, ResponseBody},
};
use http::{Request, Response};
use http_body_util::BodyExt;
use tokio::time::Instant;

use super::{
    body::Body,
    log::{self, Title},
    replay::Replay,
};

/// How long one rests that could not be reached; each time twice as long, up to the last.
const FIRST_REST: Duration = Duration::from_secs(1);
const LAST_REST: Duration = Duration::from_secs(10);

#[derive(Debug)]
pub(super) struct Balance {
    backends: Vec<Backend>,
    /// Whose turn it is among equals.
    turn: AtomicUsize,
}

#[derive(Debug)]
pub(super) struct Backend {
    client: HttpClient,
    rest: Mutex<Rest>,
}

#[derive(Debug, Default)]
struct Rest {
    until: Option<Instant>,
    /// The last that there was, since it was reached.
    pause: Option<Duration>,
}

impl Backend {
    fn rest(&self) -> MutexGuard<'_, Rest> {
        self.rest.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn pool(&self) -> &fcgi::Pool {
        self.client.pool()
    }

    /// Whether it was reached last.
    pub(super) fn is_up(&self) -> bool {
        self.rest().pause.is_none()
    }

    /// Requests that it has, or that wait for it.
    fn load(&self) -> usize {
        let stats = self.pool().stats();
        stats.active + stats.waiting
    }

    pub(super) fn reached(&self) {
        *self.rest() = Rest::default();
    }

    /// Lets it rest; says for how long, if it did not rest already.
    pub(super) fn missed(&self) -> Option<Duration> {
        let now = Instant::now();
        let mut rest = self.rest();
        if rest.until.is_some_and(|until| until > now) {
            return None;
        }
        let pause = rest.pause.map_or(FIRST_REST, |pause| (pause * 2).min(LAST_REST));
        *rest = Rest { until: Some(now + pause), pause: Some(pause) };
        Some(pause)
    }
}

impl Balance {
    pub(super) fn new(clients: impl IntoIterator<Item = HttpClient>) -> Self {
        let backend = |client| Backend { client, rest: Mutex::default() };
        let backends = clients.into_iter().map(backend).collect();
        Self { backends, turn: AtomicUsize::new(0) }
    }

    pub(super) fn backends(&self) -> &[Backend] {
        &self.backends
    }

    /// Sends a request to one of them, and to another if that has not taken it.
    ///
    /// # Cancellation safety
    /// As [`HttpClient::send`].
    pub(super) async fn send(
        &self,
        request: Request<Body>,
        title: &Title,
    ) -> Result<Response<ResponseBody>, HttpError> {
        if let [only] = &self.backends[..] {
            let sent = only.client.send(request).await;
            match &sent {
                Err(error) if is_missed(error) => drop(only.missed()),
                _ => only.reached(),
            }
            return sent;
        }
        let (head, body) = request.into_parts();
        let replay = Arc::new(Replay::new(body));
        let mut tried = Vec::new();
        loop {
            let at = self.choose(&tried);
            let backend = &self.backends[at];
            tried.push(at);
            let request = Request::from_parts(head.clone(), replay.start().boxed_unsync());
            let error = match backend.client.send(request).await {
                Err(error) => error,
                sent => {
                    backend.reached();
                    return sent;
                }
            };
            if is_missed(&error) {
                if let Some(pause) = backend.missed() {
                    log::error(title, &format!("{error}; it rests for {pause:?}"));
                }
            } else {
                backend.reached();
            }
            if !is_unprocessed(&error) || tried.len() == self.backends.len() || !replay.is_whole() {
                return Err(error);
            }
        }
    }

    /// The one with the least to do among those that do not rest; if all do, the one that is up
    /// soonest.
    fn choose(&self, tried: &[usize]) -> usize {
        let now = Instant::now();
        let turn = self.turn.fetch_add(1, Ordering::Relaxed);
        let number = self.backends.len();
        let order = (0..number).map(|at| (at + turn) % number).filter(|at| !tried.contains(at));
        let best = order.min_by_key(|at| {
            let backend = &self.backends[*at];
            let until = backend.rest().until.filter(|until| *until > now);
            (until, backend.load())
        });
        // All were tried: nobody asks then.
        best.unwrap_or(0)
    }
}

/// Whether nobody was there.
fn is_missed(error: &HttpError) -> bool {
    matches!(
        error,
        HttpError::Call(Error::Connect { .. } | Error::Timeout { phase: Phase::Connect, .. })
    )
}

/// Whether the application has done nothing about the request.
fn is_unprocessed(error: &HttpError) -> bool {
    let is_refused = matches!(
        error,
        HttpError::Call(
            Error::Rejected { .. }
                | Error::PoolFull { .. }
                | Error::Timeout { phase: Phase::Acquire, .. }
        )
    );
    is_refused || is_missed(error)
}
