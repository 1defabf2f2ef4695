//! One application at several addresses. Each request goes to the address with the least to do. One
//! that can't be reached rests, and a request that it did not take goes to another.

use std::{
    future::Future,
    pin::Pin,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use fcgi_tokio::{
    self as fcgi,
    http::{HttpClient, HttpError, ResponseBody},
};
use http::{Request, Response};
use tokio::time::Instant;

use super::{
    body::Body,
    log::{self, Title},
    replay::Replay,
};
use crate::causes;

/// How long an unreachable address rests first. Each time it rests twice as long, up to the last.
const FIRST_REST: Duration = Duration::from_secs(1);
const LAST_REST: Duration = Duration::from_secs(10);
const EXPLAIN_EVERY: Duration = Duration::from_secs(1);

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
    /// Its last rest, if it has not been reached since.
    pause: Option<Duration>,
    /// When the likely cause was last looked for.
    explained: Option<Instant>,
}

/// A request that failed without an answer.
pub(super) struct Failed {
    pub(super) error: HttpError,
    /// The likely cause, for the operator.
    pub(super) cause: Option<String>,
}

impl Backend {
    fn rest(&self) -> MutexGuard<'_, Rest> {
        self.rest.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn pool(&self) -> &fcgi::Pool {
        self.client.pool()
    }

    /// Whether it was reachable last time.
    pub(super) fn is_up(&self) -> bool {
        self.rest().pause.is_none()
    }

    /// The requests that it has, or that wait for it.
    fn load(&self) -> usize {
        let stats = self.pool().stats();
        stats.active + stats.waiting
    }

    pub(super) fn reached(&self) {
        let mut rest = self.rest();
        (rest.until, rest.pause) = (None, None);
    }

    /// Makes it rest. Returns for how long, unless it was resting already.
    pub(super) fn missed(&self) -> Option<Duration> {
        let now = Instant::now();
        let mut rest = self.rest();
        if rest.until.is_some_and(|until| until > now) {
            return None;
        }
        let pause = rest.pause.map_or(FIRST_REST, |pause| (pause * 2).min(LAST_REST));
        (rest.until, rest.pause) = (Some(now + pause), Some(pause));
        Some(pause)
    }

    fn is_to_explain(&self) -> bool {
        let (mut rest, now) = (self.rest(), Instant::now());
        let is_due = rest.explained.is_none_or(|at| now >= at + EXPLAIN_EVERY);
        if is_due {
            rest.explained = Some(now);
        }
        is_due
    }

    async fn send(&self, request: Request<Body>) -> Result<Response<ResponseBody>, Failed> {
        match self.client.send(request).await {
            Err(error) => {
                if error.is_connect() {
                    self.missed();
                } else {
                    self.reached();
                }
                Err(self.explain(error).await)
            }
            Ok(response) => {
                self.reached();
                Ok(response)
            }
        }
    }

    /// Finds the likely cause. This takes time, so it is done only once in a while.
    async fn explain(&self, error: HttpError) -> Failed {
        let HttpError::Call(call) = error else { return Failed { error, cause: None } };
        if !self.is_to_explain() {
            return Failed { error: call.into(), cause: None };
        }
        let address = self.pool().address().clone();
        let explain = move || {
            let cause = causes::of(&call, &address).map(|cause| cause.to_string());
            Failed { error: call.into(), cause }
        };
        match tokio::task::spawn_blocking(explain).await {
            Ok(failed) => failed,
            Err(error) => {
                Failed { error: HttpError::Spool(std::io::Error::other(error)), cause: None }
            }
        }
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

    /// Sends a request to one of them, and to another if that one has not taken it. The future is
    /// large, so it comes in a box.
    ///
    /// # Cancellation safety
    /// As [`HttpClient::send`].
    pub(super) fn send<'a>(
        &'a self,
        request: Request<Body>,
        title: &'a Title,
    ) -> Pin<Box<dyn Future<Output = Result<Response<ResponseBody>, Failed>> + Send + 'a>> {
        match &self.backends[..] {
            [only] => Box::pin(only.send(request)),
            _ => Box::pin(self.send_to_any(request, title)),
        }
    }

    async fn send_to_any(
        &self,
        request: Request<Body>,
        title: &Title,
    ) -> Result<Response<ResponseBody>, Failed> {
        let (head, body) = request.into_parts();
        let replay = Arc::new(Replay::new(body));
        let mut tried = Vec::new();
        loop {
            let at = self.choose(&tried);
            let backend = &self.backends[at];
            tried.push(at);
            let request = Request::from_parts(head.clone(), Body::new(replay.start()));
            let error = match backend.client.send(request).await {
                Err(error) => error,
                Ok(response) => {
                    backend.reached();
                    return Ok(response);
                }
            };
            let rests = if error.is_connect() { backend.missed() } else { None };
            if !error.is_connect() {
                backend.reached();
            }
            let is_last = tried.len() == self.backends.len();
            let failed = backend.explain(error).await;
            if let Some(pause) = rests {
                let cause = failed.cause.as_ref().map(|cause| format!(": {cause}"));
                let report = failed.error.report();
                let cause = cause.unwrap_or_default();
                log::error(title, &format!("it rests for {pause:?}: {report}{cause}"));
            }
            if !failed.error.is_unprocessed() || is_last || !replay.is_whole() {
                return Err(failed);
            }
        }
    }

    /// The one with the least to do among those that don't rest. If all rest, the one whose rest
    /// ends first.
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
        // Not reached: nobody calls this when all were tried.
        best.unwrap_or(0)
    }
}
