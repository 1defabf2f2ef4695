//! A request body whose chunks the test sends while the request is active.

use std::{
    collections::VecDeque,
    io::{self, Read},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use bytes::Bytes;
use futures_core::Stream;

use super::signal::Shared;

/// How many chunks can be sent before they are read; then the sender waits.
const AHEAD: usize = 4;

#[derive(Debug, Default)]
struct State {
    chunks: VecDeque<io::Result<Bytes>>,
    no_more: bool,
    let_go: bool,
}

/// The test's end of a body.
#[derive(Debug)]
pub struct Feeder(Arc<Shared<State>>);

/// The client's end of a body: a [`Stream`], an [`Iterator`] and a [`Read`].
#[derive(Debug)]
pub struct FeedBody {
    state: Arc<Shared<State>>,
    /// Bytes that `Read` took and has not handed out yet.
    rest: Bytes,
}

/// A body, and the end that feeds it.
#[must_use]
pub fn feed() -> (Feeder, FeedBody) {
    let state = Arc::<Shared<State>>::default();
    (Feeder(Arc::clone(&state)), FeedBody { state, rest: Bytes::new() })
}

impl Feeder {
    /// Sends the next chunk, or the failure of the body. Waits while the client is behind. Returns
    /// false once the client has dropped the body.
    pub fn send(&self, chunk: io::Result<Bytes>) -> bool {
        let mut chunk = Some(chunk);
        let sent = self.0.wait(|state| {
            if state.let_go {
                return Some(false);
            }
            if state.chunks.len() >= AHEAD {
                return None;
            }
            state.chunks.extend(chunk.take());
            Some(true)
        });
        self.0.change(|_| ());
        sent.unwrap_or(false)
    }

    /// Whether the client has dropped the body.
    #[must_use]
    pub fn is_let_go(&self) -> bool {
        self.0.change(|state| state.let_go)
    }
}

impl Drop for Feeder {
    fn drop(&mut self) {
        self.0.change(|state| state.no_more = true);
    }
}

impl State {
    fn next(&mut self) -> Option<Option<io::Result<Bytes>>> {
        match self.chunks.pop_front() {
            Some(chunk) => Some(Some(chunk)),
            None => self.no_more.then_some(None),
        }
    }
}

impl Stream for FeedBody {
    type Item = io::Result<Bytes>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let next = self.state.poll(cx, State::next);
        if next.is_ready() {
            self.state.change(|_| ());
        }
        next
    }
}

impl Iterator for FeedBody {
    type Item = io::Result<Bytes>;

    fn next(&mut self) -> Option<Self::Item> {
        let next = self.state.wait(State::next);
        self.state.change(|_| ());
        next.unwrap_or_else(|| Some(Err(io::ErrorKind::TimedOut.into())))
    }
}

impl Read for FeedBody {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        while self.rest.is_empty() {
            match self.next() {
                Some(chunk) => self.rest = chunk?,
                None => return Ok(0),
            }
        }
        let n = self.rest.len().min(buf.len());
        buf[..n].copy_from_slice(&self.rest.split_to(n));
        Ok(n)
    }
}

impl Drop for FeedBody {
    fn drop(&mut self) {
        self.state.change(|state| state.let_go = true);
    }
}
