//! Reads a client's body.

use std::{
    future::Future,
    io,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll, Waker, ready},
    time::Duration,
};

use bytes::Bytes;
use http::{HeaderMap, header::EXPECT};
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use tokio::time::{Instant, Sleep};

use super::body::BoxError;

/// How many bytes of an unwanted body are read, at most, so that its connection can go on.
const DISCARD: usize = 256 * 1024;

/// A client's body. Each piece must come in time (H-16).
pub(super) struct RequestBody {
    body: Incoming,
    limit: Duration,
    /// Created when a piece is waited for.
    timer: Option<Pin<Box<Sleep>>>,
    waiting: bool,
    /// The client sends the body only when asked to.
    expects: bool,
    unread: Unread,
}

/// Whether part of a body is still to come, or to be read. `None` if there was no body.
#[derive(Clone, Debug)]
pub(super) struct Unread(Option<Arc<AtomicBool>>);

impl Unread {
    pub(super) fn is_unread(&self) -> bool {
        self.0.as_ref().is_some_and(|unread| unread.load(Ordering::Relaxed))
    }

    fn set_read(&self) {
        if let Some(unread) = &self.0 {
            unread.store(false, Ordering::Relaxed);
        }
    }
}

impl RequestBody {
    pub(super) fn new(body: Incoming, headers: &HeaderMap, limit: Duration) -> Self {
        let unread = Unread((!body.is_end_stream()).then(|| Arc::new(AtomicBool::new(true))));
        let expects = headers.contains_key(EXPECT);
        Self { body, limit, timer: None, waiting: false, expects, unread }
    }

    pub(super) fn unread(&self) -> Unread {
        self.unread.clone()
    }

    /// Reads what has come already. After that a small body is over, and its connection can go on.
    pub(super) fn discard(mut self) {
        if self.expects {
            return;
        }
        let mut cx = Context::from_waker(Waker::noop());
        let mut seen = 0;
        while seen < DISCARD {
            match Pin::new(&mut self).poll_frame(&mut cx) {
                Poll::Ready(Some(Ok(frame))) => seen += frame.data_ref().map_or(0, Bytes::len),
                Poll::Ready(Some(Err(_)) | None) | Poll::Pending => return,
            }
        }
    }
}

impl Body for RequestBody {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let this = &mut *self;
        if let Poll::Ready(frame) = Pin::new(&mut this.body).poll_frame(cx) {
            this.waiting = false;
            if frame.is_none() || this.body.is_end_stream() {
                this.unread.set_read();
            }
            return Poll::Ready(frame.map(|frame| frame.map_err(Into::into)));
        }
        if !this.waiting {
            this.waiting = true;
            // A time too far ahead to add never comes.
            if let Some(end) = Instant::now().checked_add(this.limit) {
                match &mut this.timer {
                    Some(timer) => timer.as_mut().reset(end),
                    None => this.timer = Some(Box::pin(tokio::time::sleep_until(end))),
                }
            }
        }
        let Some(timer) = &mut this.timer else { return Poll::Pending };
        ready!(timer.as_mut().poll(cx));
        let message = format!("no next byte from the client within {:?}", this.limit);
        Poll::Ready(Some(Err(io::Error::new(io::ErrorKind::TimedOut, message).into())))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
