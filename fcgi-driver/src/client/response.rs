//! A response as it comes, while the request's body still goes out.

use std::{
    future::poll_fn,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::{Duration, Instant},
};

use bytes::{Bytes, BytesMut};
use fcgi_proto::{
    Connection, Input, Output, RequestKey, Role,
    client::{Event, Outcome},
};

use super::{Body, Chunk, Client, Collected};
use crate::{
    Error, Phase,
    pump::{self, Read},
    runtime::Runtime,
};
use fcgi_net::client::is_close;

/// The most that one chunk holds, in bytes.
const CHUNK: usize = 64 * 1024;

/// A response in progress. It borrows the connection until it is read to its end or dropped;
/// dropping it early aborts the request, of which nothing reaches a later one (H-11).
///
/// It is a [`Stream`](futures_core::Stream) of chunks too.
#[derive(Debug)]
pub struct Response<'a, R: Runtime> {
    client: &'a mut Client<R>,
    key: RequestKey,
    /// What is still to be sent, first things first.
    feeds: [Option<Feed>; 2],
    content_length: Option<u64>,
    /// Handed out next.
    first: Option<Chunk>,
    outcome: Option<Outcome>,
    /// The end, or an error, was handed out.
    over: bool,
    /// A byte of the response has come.
    answered: bool,
    started: Instant,
    progress: Instant,
}

/// A stream on its way out.
#[derive(Debug)]
struct Feed {
    input: Input,
    body: Body,
    chunk: Bytes,
    sent: u64,
}

impl<'a, R: Runtime> Response<'a, R> {
    pub(super) fn new(
        client: &'a mut Client<R>,
        key: RequestKey,
        role: Role,
        [stdin, data]: [Body; 2],
        content_length: Option<u64>,
    ) -> Self {
        let feed = |input, body| {
            role.has_input(input).then_some(Feed { input, body, chunk: Bytes::new(), sent: 0 })
        };
        let now = R::now();
        Self {
            client,
            key,
            feeds: [feed(Input::Stdin, stdin), feed(Input::Data, data)],
            content_length,
            first: None,
            outcome: None,
            over: false,
            answered: false,
            started: now,
            progress: now,
        }
    }

    /// Waits for something to hand out.
    pub(super) async fn first(&mut self) -> Result<(), Error> {
        self.first = poll_fn(|cx| self.poll_chunk(cx)).await?;
        Ok(())
    }

    /// The next bytes, as soon as there are any; `None` once the application has done the
    /// request, when [`app_status`](Self::app_status) is known.
    ///
    /// # Errors
    /// [`Error::Rejected`], [`Error::Truncated`], [`Error::Protocol`], [`Error::Io`],
    /// [`Error::Body`], [`Error::Timeout`]; after one, `None`.
    ///
    /// # Cancellation safety
    /// Dropping the future loses nothing.
    pub async fn chunk(&mut self) -> Result<Option<Chunk>, Error> {
        poll_fn(|cx| self.poll_chunk(cx)).await
    }

    /// The application's status, once the response was read to its end.
    #[must_use]
    pub fn app_status(&self) -> Option<u32> {
        match self.outcome {
            Some(Outcome::Complete { app_status }) if self.over => Some(app_status),
            _ => None,
        }
    }

    /// The whole response, of at most `limit` bytes of STDOUT and as many of STDERR.
    ///
    /// # Errors
    /// As for [`chunk`](Self::chunk); [`Error::TooLarge`].
    ///
    /// # Cancellation safety
    /// Dropping the future aborts the request.
    pub async fn collect(mut self, limit: usize) -> Result<Collected, Error> {
        let (mut stdout, mut stderr) = (BytesMut::new(), BytesMut::new());
        while let Some(chunk) = self.chunk().await? {
            let (to, bytes) = match chunk {
                Chunk::Stdout(bytes) => (&mut stdout, bytes),
                Chunk::Stderr(bytes) => (&mut stderr, bytes),
            };
            if to.len().saturating_add(bytes.len()) > limit {
                return Err(Error::TooLarge { address: self.address(), limit });
            }
            to.extend_from_slice(&bytes);
        }
        let app_status = self.app_status().unwrap_or_default();
        Ok(Collected { stdout: stdout.freeze(), stderr: stderr.freeze(), app_status })
    }

    fn poll_chunk(&mut self, cx: &mut Context<'_>) -> Poll<Result<Option<Chunk>, Error>> {
        if let Some(first) = self.first.take() {
            return Poll::Ready(Ok(Some(first)));
        }
        if self.over {
            return Poll::Ready(Ok(None));
        }
        let polled = ready!(self.poll_io(cx));
        if !matches!(polled, Ok(Some(_))) {
            self.over = true;
        }
        Poll::Ready(polled)
    }

    fn poll_io(&mut self, cx: &mut Context<'_>) -> Poll<Result<Option<Chunk>, Error>> {
        for _ in 0..pump::MAX_ROUNDS {
            let failed = self.drain_events().err();
            self.check_total()?;
            if let Some(chunk) = self.take_chunk() {
                self.answered = true;
                return Poll::Ready(Ok(Some(chunk)));
            }
            if let Some(error) = failed {
                return Poll::Ready(Err(error));
            }
            if let Some(outcome) = self.outcome {
                return Poll::Ready(self.end(outcome));
            }
            let fed = self.feed(cx)?;
            let wrote = self.client.write(cx);
            if wrote && !self.answered {
                self.progress = R::now();
            }
            if wrote && (fed || self.feeds.iter().any(Option::is_some)) {
                continue;
            }
            match pump::read(&mut self.client.io, &mut self.client.connection, cx) {
                Read::Some => self.progress = R::now(),
                Read::Nothing => return self.poll_limits(cx),
                Read::Eof => self.client.connection.handle_eof(),
                Read::Gone(error) if is_close(&error) => self.client.connection.handle_eof(),
                Read::Gone(source) => {
                    self.client.closed = true;
                    let address = self.address();
                    return Poll::Ready(Err(Error::Io { address, doing: "read from", source }));
                }
            }
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    fn drain_events(&mut self) -> Result<(), Error> {
        loop {
            match self.client.connection.poll_event() {
                Ok(None) => return Ok(()),
                Ok(Some(Event::Finished { key, outcome })) if key == self.key => {
                    self.outcome = Some(outcome);
                }
                Ok(Some(_)) => {}
                Err(source) => {
                    return Err(Error::Protocol { address: self.address(), source });
                }
            }
        }
    }

    fn take_chunk(&mut self) -> Option<Chunk> {
        let mut request = self.client.connection.request(self.key)?;
        if let Poll::Ready(Some(bytes)) = request.read(Output::Stdout, CHUNK) {
            return Some(Chunk::Stdout(bytes));
        }
        let mut request = self.client.connection.request(self.key)?;
        match request.read(Output::Stderr, CHUNK) {
            Poll::Ready(Some(bytes)) => Some(Chunk::Stderr(bytes)),
            _ => None,
        }
    }

    /// Queues what there is of the bodies and what there is room for; says whether it did any.
    fn feed(&mut self, cx: &mut Context<'_>) -> Result<bool, Error> {
        let mut any = false;
        while let Some(feed) = self.feeds.iter_mut().find_map(Option::as_mut) {
            let Some(mut request) = self.client.connection.request(self.key) else { break };
            if feed.chunk.is_empty() {
                match feed.body.poll_chunk(cx) {
                    Poll::Pending => break,
                    Poll::Ready(Some(Ok(chunk))) => feed.chunk = chunk,
                    Poll::Ready(Some(Err(source))) => {
                        return Err(Error::Body { address: self.address(), source });
                    }
                    Poll::Ready(None) => {
                        request.finish(feed.input)?;
                        any = true;
                        if feed.input == Input::Stdin {
                            let sent = feed.sent;
                            // Some applications wait for the rest, or take it for the next
                            // request.
                            self.client.closed |=
                                self.content_length.is_some_and(|length| length != sent);
                        }
                        self.finish_feed();
                        continue;
                    }
                }
            }
            let taken = request.write(feed.input, &mut feed.chunk)?;
            feed.sent += taken as u64;
            any |= taken > 0;
            if !feed.chunk.is_empty() {
                break;
            }
        }
        Ok(any)
    }

    fn finish_feed(&mut self) {
        if let Some(feed) = self.feeds.iter_mut().find(|feed| feed.is_some()) {
            *feed = None;
        }
    }

    fn end(&mut self, outcome: Outcome) -> Result<Option<Chunk>, Error> {
        let address = self.address();
        match outcome {
            Outcome::Complete { .. } => Ok(None),
            Outcome::Rejected(rejection) => Err(Error::Rejected { address, rejection }),
            Outcome::Truncated => Err(Error::Truncated { address }),
            Outcome::Overrun => Err(Error::Overrun { address }),
        }
    }

    /// An application that always has something to say does not outlast the limit.
    fn check_total(&self) -> Result<(), Error> {
        match self.client.settings.total {
            Some(limit) if self.outcome.is_none() && R::now() - self.started >= limit => {
                Err(Error::Timeout { address: self.address(), phase: Phase::Response, limit })
            }
            _ => Ok(()),
        }
    }

    fn poll_limits(&mut self, cx: &mut Context<'_>) -> Poll<Result<Option<Chunk>, Error>> {
        let settings = &self.client.settings;
        let (phase, pause) = if self.answered {
            (Phase::NextByte, settings.next_byte)
        } else {
            (Phase::FirstByte, settings.first_byte)
        };
        let at = |from: Instant, phase, limit: Option<Duration>| {
            limit.and_then(|limit| Some((from.checked_add(limit)?, phase, limit)))
        };
        let pause = at(self.progress, phase, pause);
        let total = at(self.started, Phase::Response, settings.total);
        let next = match (pause, total) {
            (Some(a), Some(b)) => Some(if a.0 <= b.0 { a } else { b }),
            (a, b) => a.or(b),
        };
        let Some((until, phase, limit)) = next else { return Poll::Pending };
        ready!(self.client.deadline.poll(cx, Some(until), R::now()));
        Poll::Ready(Err(Error::Timeout { address: self.address(), phase, limit }))
    }

    fn address(&self) -> Arc<str> {
        Arc::clone(&self.client.address)
    }
}

impl<R: Runtime> futures_core::Stream for Response<'_, R> {
    type Item = Result<Chunk, Error>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.get_mut().poll_chunk(cx).map(Result::transpose)
    }
}

impl<R: Runtime> Drop for Response<'_, R> {
    fn drop(&mut self) {
        if let Some(request) = self.client.connection.request(self.key) {
            request.abort();
            self.client.write_now();
        }
    }
}
