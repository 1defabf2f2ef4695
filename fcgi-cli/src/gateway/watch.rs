//! Answers whose clients do not read them, over HTTP/2 (H-16).
//!
//! Over HTTP/1.1 the socket fills, and [`Socket`](super::socket::Socket) notices. An HTTP/2 client
//! has a window for each stream. On a socket that works, it can leave one answer unread for ever,
//! which occupies a connection to the application.

use std::{
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use http_body::{Frame, SizeHint};
use tokio::{
    task::AbortHandle,
    time::{Instant, sleep},
};

use super::{
    body::{Body, BoxError},
    log::{self, Title},
};

/// Drops the body, which aborts its request, if the client reads nothing of it for this long.
pub(super) fn watched(body: Body, limit: Duration, title: Title) -> Body {
    let shared =
        Arc::new(Shared(Mutex::new(State { body: Some(body), idle: Some(Instant::now()) })));
    let watch = tokio::spawn(watch(Arc::downgrade(&shared), limit, title)).abort_handle();
    Body::new(Watched { shared, watch })
}

struct Watched {
    shared: Arc<Shared>,
    watch: AbortHandle,
}

struct Shared(Mutex<State>);

struct State {
    /// `None` once it was aborted.
    body: Option<Body>,
    /// Since when nobody has asked for more; `None` while it waits for the application.
    idle: Option<Instant>,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn watch(shared: Weak<Shared>, limit: Duration, title: Title) {
    let mut pause = limit;
    loop {
        sleep(pause).await;
        let Some(shared) = shared.upgrade() else { return };
        let mut state = shared.lock();
        let idle = state.idle.map_or(Duration::ZERO, |since| since.elapsed());
        if let Some(left) = limit.checked_sub(idle).filter(|left| !left.is_zero()) {
            pause = left;
            continue;
        }
        let body = state.body.take();
        drop(state);
        drop(body);
        log::error(&title, &format!("the client took nothing of the answer for {limit:?}"));
        return;
    }
}

impl http_body::Body for Watched {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let state = &mut *self.shared.lock();
        let Some(body) = &mut state.body else {
            return Poll::Ready(Some(Err("the answer was given up".into())));
        };
        let frame = Pin::new(body).poll_frame(cx);
        state.idle = frame.is_ready().then(Instant::now);
        frame
    }

    fn is_end_stream(&self) -> bool {
        self.shared.lock().body.as_ref().is_some_and(|body| body.is_end_stream())
    }

    fn size_hint(&self) -> SizeHint {
        self.shared.lock().body.as_ref().map_or_else(SizeHint::default, |body| body.size_hint())
    }
}

impl Drop for Watched {
    fn drop(&mut self) {
        self.watch.abort();
    }
}
