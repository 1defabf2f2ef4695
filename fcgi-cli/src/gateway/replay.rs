//! A request's body that can be sent again, as long as it is small.

use std::{
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use http_body::{Body as _, Frame, SizeHint};

use super::body::{Body, BoxError};

/// How many bytes of a body are kept.
const KEPT: usize = 128 * 1024;

pub(super) struct Replay {
    state: Mutex<State>,
    size: SizeHint,
}

struct State {
    body: Body,
    pieces: Vec<Bytes>,
    kept: usize,
    /// The pieces hold all bytes that were taken of the body so far.
    is_whole: bool,
}

/// One attempt.
pub(super) struct Try {
    replay: Arc<Replay>,
    at: usize,
}

impl Replay {
    pub(super) fn new(body: Body) -> Self {
        let size = body.size_hint();
        let state = State { body, pieces: Vec::new(), kept: 0, is_whole: true };
        Self { state: Mutex::new(state), size }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The body from its start, while it [`is_whole`](Self::is_whole).
    pub(super) fn start(self: &Arc<Self>) -> Try {
        Try { replay: Arc::clone(self), at: 0 }
    }

    pub(super) fn is_whole(&self) -> bool {
        self.lock().is_whole
    }
}

impl http_body::Body for Try {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let this = self.get_mut();
        let state = &mut *this.replay.lock();
        if let Some(piece) = state.pieces.get(this.at) {
            this.at += 1;
            return Poll::Ready(Some(Ok(Frame::data(piece.clone()))));
        }
        let frame = ready!(Pin::new(&mut state.body).poll_frame(cx));
        match &frame {
            Some(Ok(frame)) => {
                let piece = frame.data_ref().cloned().unwrap_or_default();
                state.kept += piece.len();
                state.is_whole &= state.kept <= KEPT;
                if state.is_whole {
                    state.pieces.push(piece);
                    this.at += 1;
                } else {
                    state.pieces = Vec::new();
                    this.at = 0;
                }
            }
            Some(Err(_)) => state.is_whole = false,
            None => {}
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        let state = self.replay.lock();
        self.at >= state.pieces.len() && state.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        match self.at {
            0 => self.replay.size,
            _ => SizeHint::default(),
        }
    }
}
