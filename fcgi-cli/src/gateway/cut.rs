//! Answers that fail midway: what came before reaches the client, and then it sees the truncation.
//!
//! hyper drops unwritten bytes when a body fails. So the failure waits until everything is written.

use std::{
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::Bytes;
use http::Version;
use http_body::{Body as _, Frame, SizeHint};
use tokio::time::{Sleep, sleep};

use super::{
    body::{Body, BoxError},
    client::Client,
};

/// How long HTTP/2's connection, a separate task, may take to write what its stream was given.
const STREAM: Duration = Duration::from_millis(500);

/// Delays a failure of the body until the bytes before it were written.
pub(super) fn visibly(body: Body, version: Version, client: &Arc<Client>) -> Body {
    if matches!(body, Body::Full(_)) {
        return body;
    }
    let is_open = body.size_hint().exact().is_none();
    let client = Arc::clone(client);
    Body::new(Cut { body, client, version, is_open, failed: None })
}

struct Cut {
    body: Body,
    client: Arc<Client>,
    version: Version,
    /// The body has no declared length.
    is_open: bool,
    failed: Option<Failed>,
}

struct Failed {
    error: Option<BoxError>,
    until: Until,
}

/// When everything has been written.
enum Until {
    /// After this many flushes of an HTTP/1 connection, whose single task does everything in turn.
    Flush(u64),
    Time(Pin<Box<Sleep>>),
}

impl Cut {
    fn poll_failure(&mut self, cx: &mut Context<'_>) -> Poll<BoxError> {
        let Some(failed) = &mut self.failed else { return Poll::Pending };
        match &mut failed.until {
            Until::Flush(count) => {
                if self.client.flushes(cx.waker()) < *count {
                    return Poll::Pending;
                }
            }
            Until::Time(timer) => {
                ready!(timer.as_mut().poll(cx));
                if self.client.is_blocked(cx.waker()) {
                    return Poll::Pending;
                }
            }
        }
        if self.version == Version::HTTP_10 && self.is_open {
            self.client.must_reset();
        }
        Poll::Ready(failed.error.take().unwrap_or_else(|| "the answer has failed".into()))
    }
}

impl http_body::Body for Cut {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let this = &mut *self;
        if this.failed.is_none() {
            match ready!(Pin::new(&mut this.body).poll_frame(cx)) {
                Some(Err(error)) => {
                    let until = match this.version {
                        Version::HTTP_2 => Until::Time(Box::pin(sleep(STREAM))),
                        _ => Until::Flush(this.client.flushes(cx.waker()) + 1),
                    };
                    this.failed = Some(Failed { error: Some(error), until });
                }
                frame => return Poll::Ready(frame),
            }
        }
        this.poll_failure(cx).map(|error| Some(Err(error)))
    }

    fn is_end_stream(&self) -> bool {
        self.failed.is_none() && self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
