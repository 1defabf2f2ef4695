//! One request and its response, whoever moves the bytes.

use std::{
    fmt,
    sync::{Arc, OnceLock},
    task::Poll,
    time::{Duration, Instant},
};

use bytes::{Buf, Bytes, BytesMut};
use fcgi_engine::{
    client::{Chunk, Collected, Settings, is_close},
    observe::{self, RequestLog, Side},
    pump::Read,
};
use fcgi_proto::{
    BeginRequest, ClientConnection, Connection, Input, Output, RequestKey, UsageError,
    client::{Event, Outcome},
};
use rustix::event::PollFlags;

use super::{Body, CancelHandle, body::Next, link::Link, wait::Waited};
use crate::{Error, Phase};

/// The most that one chunk holds, in bytes.
const CHUNK: usize = 64 * 1024;

/// A request that was begun.
#[derive(Debug)]
pub(crate) struct Exchange {
    pub(crate) key: RequestKey,
    pub(crate) address: Arc<str>,
    pub(crate) settings: Settings,
    /// What is still to be sent, first things first.
    feeds: [Option<Feed>; 2],
    content_length: Option<u64>,
    /// Handed out next.
    pub(crate) pending: Option<Chunk>,
    pub(crate) outcome: Option<Outcome>,
    /// The end, or an error, was handed out.
    pub(crate) over: bool,
    /// A byte of the response has come.
    pub(crate) answered: bool,
    started: Instant,
    pub(crate) progress: Instant,
    /// What had come over the connection when it was begun.
    pub(crate) received: u64,
    /// What will have been sent over a shared connection with the last byte of it, and whether it
    /// was.
    pub(crate) flushed_at: Option<u64>,
    pub(crate) flushed: bool,
    pub(crate) cancel: OnceLock<CancelHandle>,
    log: Option<RequestLog>,
}

/// A stream on its way out.
struct Feed {
    input: Input,
    body: Body,
    chunk: Bytes,
    sent: u64,
}

/// Without the bytes, which are many and may be secret.
impl fmt::Debug for Feed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Feed").field("input", &self.input).field("sent", &self.sent).finish()
    }
}

/// What [`Exchange::feed`] left.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Fed {
    /// Nothing: all is queued, or the application wants no more.
    All,
    /// What there was no room for.
    Full,
    /// What a reader is to be asked for, outside of any lock.
    Reader,
}

impl Exchange {
    /// Begins a request, whose time counts from `started`.
    pub(crate) fn begin(
        link: &mut Link,
        begin: &BeginRequest,
        [stdin, data]: [Body; 2],
        started: Instant,
        cancel: Option<CancelHandle>,
    ) -> Result<Self, UsageError> {
        let (key, log) = link.begin(begin)?;
        let feed = |input, body| {
            let chunk = Bytes::new();
            begin.role.has_input(input).then_some(Feed { input, body, chunk, sent: 0 })
        };
        let length = begin.params.get_str("CONTENT_LENGTH");
        Ok(Self {
            key,
            address: Arc::clone(&link.address),
            settings: link.settings,
            feeds: [feed(Input::Stdin, stdin), feed(Input::Data, data)],
            content_length: length.and_then(|length| length.parse().ok()),
            pending: None,
            outcome: None,
            over: false,
            answered: false,
            started,
            progress: Instant::now(),
            received: link.received,
            flushed_at: None,
            flushed: false,
            cancel: cancel.map_or_else(OnceLock::new, OnceLock::from),
            log: Some(log),
        })
    }

    // ---- Of the response -----------------------------------------------------------------------

    /// The next bytes or the end, over a connection that nobody else uses.
    pub(crate) fn chunk(&mut self, link: &mut Link) -> Result<Option<Chunk>, Error> {
        if let Some(pending) = self.pending.take() {
            return Ok(Some(pending));
        }
        if self.over {
            return Ok(None);
        }
        let next = self.next(link);
        self.note(&next);
        if next.is_err() {
            self.abort(link);
        }
        next
    }

    fn next(&mut self, link: &mut Link) -> Result<Option<Chunk>, Error> {
        loop {
            let failed = self.drain_events(link).err();
            self.check_cancelled()?;
            self.check_total()?;
            if let Some(chunk) = self.take_chunk(&mut link.connection) {
                return Ok(Some(chunk));
            }
            if let Some(error) = failed {
                return Err(error);
            }
            if let Some(outcome) = self.outcome {
                return self.end(outcome);
            }
            let fed = self.feed(link)?;
            let wrote = link.write();
            if wrote.any && !self.answered {
                self.progress = Instant::now();
            }
            match fed {
                Fed::Full if wrote.any && !wrote.blocked => continue,
                // What has come is taken in before the reader may block.
                Fed::Reader if !wrote.blocked && !link.write_gone => {
                    if !self.read(link)? {
                        self.read_body()?;
                    }
                    continue;
                }
                Fed::All | Fed::Full | Fed::Reader => {}
            }
            let limit = self.limit();
            let until = limit.map(|(until, ..)| until);
            match link.wait(wrote.blocked, until, self.cancel.get())? {
                Waited::Ready(ready) if ready == PollFlags::OUT => {}
                Waited::Ready(_) => {
                    self.read(link)?;
                }
                Waited::TimedOut => self.check_limit(limit)?,
                Waited::Woken => {}
            }
        }
    }

    /// Takes in what has come; says whether it was anything, be it the end.
    fn read(&mut self, link: &mut Link) -> Result<bool, Error> {
        match link.read() {
            Read::Nothing => return Ok(false),
            Read::Some { .. } => self.progress = Instant::now(),
            Read::Eof => link.connection.handle_eof(),
            Read::Gone(error) if is_close(&error) => link.connection.handle_eof(),
            Read::Gone(source) => {
                link.closed = true;
                let address = Arc::clone(&self.address);
                return Err(Error::Io { address, doing: "read from", source });
            }
        }
        Ok(true)
    }

    fn drain_events(&mut self, link: &mut Link) -> Result<(), Error> {
        loop {
            match link.connection.poll_event() {
                Ok(None) => return Ok(()),
                Ok(Some(Event::Finished { key, outcome })) if key == self.key => {
                    self.outcome = Some(outcome);
                }
                Ok(Some(_)) => {}
                Err(source) => {
                    return Err(Error::Protocol { address: Arc::clone(&self.address), source });
                }
            }
        }
    }

    pub(crate) fn take_chunk(&mut self, connection: &mut ClientConnection) -> Option<Chunk> {
        let mut request = connection.request(self.key)?;
        let chunk = match request.read(Output::Stdout, CHUNK) {
            Poll::Ready(Some(bytes)) => Some(Chunk::Stdout(bytes)),
            // It may have ended with its last byte.
            _ => match connection.request(self.key)?.read(Output::Stderr, CHUNK) {
                Poll::Ready(Some(bytes)) => Some(Chunk::Stderr(bytes)),
                _ => None,
            },
        };
        self.answered |= chunk.is_some();
        chunk
    }

    pub(crate) fn end(&self, outcome: Outcome) -> Result<Option<Chunk>, Error> {
        let address = Arc::clone(&self.address);
        match outcome {
            Outcome::Complete { .. } => Ok(None),
            Outcome::Rejected(rejection) => Err(Error::Rejected { address, rejection }),
            Outcome::Truncated => Err(Error::Truncated { address }),
            Outcome::Overrun => Err(Error::Overrun { address }),
        }
    }

    /// The application's status, once the response was read to its end.
    pub(crate) fn app_status(&self) -> Option<u32> {
        match self.outcome {
            Some(Outcome::Complete { app_status }) if self.over && self.pending.is_none() => {
                Some(app_status)
            }
            _ => None,
        }
    }

    pub(crate) fn cancel_handle(&self) -> CancelHandle {
        self.cancel.get_or_init(CancelHandle::new).clone()
    }

    /// Gives the request up, over a connection that nobody else uses, and sends what can be sent
    /// of that without waiting.
    pub(crate) fn abort(&mut self, link: &mut Link) {
        self.give_up();
        if let Some(request) = link.connection.request(self.key) {
            request.abort();
            link.write();
        }
    }

    /// Counts and logs what is handed out, and whether it is the last.
    pub(crate) fn note(&mut self, next: &Result<Option<Chunk>, Error>) {
        let outcome = match next {
            Ok(Some(chunk)) => {
                if let Some(log) = &mut self.log {
                    let (Chunk::Stdout(bytes) | Chunk::Stderr(bytes)) = chunk;
                    log.received(bytes.len());
                    if matches!(chunk, Chunk::Stderr(_)) {
                        log.stderr(bytes);
                    }
                }
                return;
            }
            Ok(None) => {
                let app_status = match self.outcome {
                    Some(Outcome::Complete { app_status }) => app_status,
                    _ => 0,
                };
                observe::Outcome::Complete { app_status }
            }
            Err(Error::Rejected { rejection, .. }) => observe::Outcome::Rejected(*rejection),
            Err(Error::Timeout { phase, limit, .. }) => {
                observe::timed_out(Side::Client, *phase, *limit, &self.address);
                observe::Outcome::TimedOut(*phase)
            }
            Err(Error::Cancelled { .. } | Error::Body { .. } | Error::Overrun { .. }) => {
                observe::Outcome::Aborted
            }
            Err(_) => observe::Outcome::Failed,
        };
        self.over = true;
        self.log_end(outcome);
    }

    /// Nobody wants the rest.
    pub(crate) fn give_up(&mut self) {
        self.over = true;
        self.log_end(observe::Outcome::Aborted);
    }

    fn log_end(&mut self, outcome: observe::Outcome) {
        if let Some(log) = self.log.take() {
            log.end(outcome, Instant::now);
        }
    }

    // ---- Of the request ------------------------------------------------------------------------

    /// Queues what there is of the bodies and room for.
    pub(crate) fn feed(&mut self, link: &mut Link) -> Result<Fed, UsageError> {
        while let Some(feed) = self.feeds.iter_mut().find_map(Option::as_mut) {
            let Some(mut request) = link.connection.request(self.key) else { break };
            if feed.chunk.is_empty() {
                match feed.body.next() {
                    Next::Bytes(bytes) => feed.chunk = bytes,
                    Next::Reader => return Ok(Fed::Reader),
                    Next::End => {
                        request.finish(feed.input)?;
                        let (input, sent) = (feed.input, feed.sent);
                        if let Some(done) = self.feeds.iter_mut().find(|feed| feed.is_some()) {
                            *done = None;
                        }
                        // Some applications wait for the rest, or take it for the next request
                        //
                        link.closed |= input == Input::Stdin
                            && self.content_length.is_some_and(|length| length != sent);
                        continue;
                    }
                }
            }
            let taken = request.write(feed.input, &mut feed.chunk)?;
            feed.sent += taken as u64;
            if let Some(log) = &mut self.log {
                log.sent(taken);
            }
            if !feed.chunk.is_empty() {
                return Ok(Fed::Full);
            }
        }
        Ok(Fed::All)
    }

    /// Asks the reader that [`Fed::Reader`] told of. It may block.
    pub(crate) fn read_body(&mut self) -> Result<(), Error> {
        let Some(feed) = self.feeds.iter_mut().find_map(Option::as_mut) else { return Ok(()) };
        match feed.body.read() {
            Ok(bytes) => feed.chunk = bytes,
            Err(source) => {
                return Err(Error::Body { address: Arc::clone(&self.address), source });
            }
        }
        Ok(())
    }

    // ---- Of its limits -------------------------------------------------------------------------

    pub(crate) fn check_cancelled(&self) -> Result<(), Error> {
        match self.cancel.get() {
            Some(cancel) if cancel.is_cancelled() => {
                Err(Error::Cancelled { address: Arc::clone(&self.address) })
            }
            _ => Ok(()),
        }
    }

    /// An application that always has something to say does not outlast the limit.
    pub(crate) fn check_total(&self) -> Result<(), Error> {
        match self.settings.total {
            Some(limit) if self.outcome.is_none() && self.started.elapsed() >= limit => {
                Err(self.timeout(Phase::Response, limit))
            }
            _ => Ok(()),
        }
    }

    /// The next limit to pass: when, what for, and how long it is.
    pub(crate) fn limit(&self) -> Option<(Instant, Phase, Duration)> {
        let (phase, pause) = if self.answered {
            (Phase::NextByte, self.settings.next_byte)
        } else {
            (Phase::FirstByte, self.settings.first_byte)
        };
        // A limit that is too long to add never ends.
        let at = |from: Instant, phase, limit: Option<Duration>| {
            limit.and_then(|limit| Some((from.checked_add(limit)?, phase, limit)))
        };
        let pause = at(self.progress, phase, pause);
        let total = at(self.started, Phase::Response, self.settings.total);
        match (pause, total) {
            (Some(a), Some(b)) => Some(if a.0 <= b.0 { a } else { b }),
            (a, b) => a.or(b),
        }
    }

    pub(crate) fn check_limit(
        &self,
        limit: Option<(Instant, Phase, Duration)>,
    ) -> Result<(), Error> {
        match limit {
            Some((until, phase, limit)) if Instant::now() >= until => {
                Err(self.timeout(phase, limit))
            }
            _ => Ok(()),
        }
    }

    fn timeout(&self, phase: Phase, limit: Duration) -> Error {
        Error::Timeout { address: Arc::clone(&self.address), phase, limit }
    }
}

/// Whatever gives chunks.
pub(crate) trait Chunks {
    fn next_chunk(&mut self) -> Result<Option<Chunk>, Error>;
    fn exchange(&mut self) -> &mut Exchange;

    /// The whole response.
    fn collect_all(&mut self, limit: usize) -> Result<Collected, Error> {
        let (mut stdout, mut stderr) = (Joined::default(), Joined::default());
        while let Some(chunk) = self.next_chunk()? {
            let (to, bytes) = match chunk {
                Chunk::Stdout(bytes) => (&mut stdout, bytes),
                Chunk::Stderr(bytes) => (&mut stderr, bytes),
            };
            if to.len().saturating_add(bytes.len()) > limit {
                return Err(Error::TooLarge {
                    address: Arc::clone(&self.exchange().address),
                    limit,
                });
            }
            to.push(bytes);
        }
        let app_status = self.exchange().app_status().unwrap_or_default();
        Ok(Collected { stdout: stdout.bytes(), stderr: stderr.bytes(), app_status })
    }

    /// STDOUT alone, as a reader gives it.
    fn read_stdout(&mut self, buf: &mut [u8]) -> std::io::Result<usize> {
        if buf.is_empty() {
            return Ok(0);
        }
        loop {
            match self.next_chunk()? {
                None => return Ok(0),
                Some(Chunk::Stderr(_)) => {}
                Some(Chunk::Stdout(mut bytes)) => {
                    let n = bytes.len().min(buf.len());
                    buf[..n].copy_from_slice(&bytes[..n]);
                    bytes.advance(n);
                    if !bytes.is_empty() {
                        self.exchange().pending = Some(Chunk::Stdout(bytes));
                    }
                    return Ok(n);
                }
            }
        }
    }
}

/// Chunks put together; a single one is not copied.
#[derive(Default)]
struct Joined {
    first: Bytes,
    all: BytesMut,
}

impl Joined {
    fn len(&self) -> usize {
        self.first.len() + self.all.len()
    }

    fn push(&mut self, bytes: Bytes) {
        if self.len() == 0 {
            self.first = bytes;
            return;
        }
        if self.all.is_empty() {
            self.all.extend_from_slice(&std::mem::take(&mut self.first));
        }
        self.all.extend_from_slice(&bytes);
    }

    fn bytes(self) -> Bytes {
        if self.all.is_empty() { self.first } else { self.all.freeze() }
    }
}
