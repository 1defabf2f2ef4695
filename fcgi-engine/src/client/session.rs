//! A connection to an application, with one request at a time or with several.

mod reuse;

use std::{
    collections::{HashMap, VecDeque},
    io,
    sync::Arc,
    task::Poll,
    time::{Duration, Instant},
};

use fcgi_proto::{
    BeginRequest, ClientConfig, ClientConnection, Connection, ProtocolError, RequestKey, Values,
    client::{Event, Outcome},
};
use tracing::Span;

pub use reuse::Settling;

use super::{Chunk, Exchange, Limit, Settings, is_close};
use crate::{
    Error, Phase,
    observe::{self, OpenConnection, Side},
    pump::{self, Broken, Read, Reader, Socket, Writer},
};

/// A connection. It decides what the socket's events mean for each request, and whether the
/// connection can carry another. The adapter brings the socket and the time, and waits. `W` is what
/// waits for a request: a task's waker, or a thread.
///
/// [`poll`](Self::poll) looks for a request, and [`turn`](Self::turn) moves bytes and wakes those who
/// should look again. If a turn finds nothing, wait for the socket, and until
/// [`limit`](Self::limit). A request that others move the bytes for [waits](Self::wait) to be woken.
#[derive(Debug)]
pub struct Session<W> {
    connection: ClientConnection,
    reader: Reader,
    writer: Writer,
    address: Arc<str>,
    settings: Settings,
    /// Shared, since the copy of a span runs the subscriber's code, and a session may be locked.
    span: Arc<Span>,
    /// Several callers may have requests on it.
    shared: bool,
    /// The first request needs no allocation.
    first: Option<(RequestKey, Slot<W>)>,
    rest: HashMap<RequestKey, Slot<W>>,
    /// Requests that are queued to their end, with the number of bytes sent by then, in order.
    next_flush: Option<(u64, RequestKey)>,
    flushes: VecDeque<(u64, RequestKey)>,
    /// The number of bytes so far.
    sent: u64,
    received: u64,
    wrote_at: Option<Instant>,
    /// The socket is full.
    blocked: bool,
    /// The application takes no more bytes, but what it sent before may still arrive.
    write_gone: Option<io::Error>,
    /// After `write_gone`: everything that had come was read.
    stranded: bool,
    failed: Option<Failure>,
    /// It takes no more requests.
    closing: bool,
    /// An abort was queued, or a request on a shared connection was forgotten.
    due: bool,
    /// Everybody should look again.
    wake_all: bool,
    /// There may be events that were not handled yet.
    unhandled: bool,
    /// A body may wait for room, which a write makes.
    starved: bool,
    /// Grows with everything that may matter to a request, so that those that have seen it all are
    /// not looked at.
    news: u64,
    values: Option<Values>,
    _open: OpenConnection,
}

/// One request, as the connection sees it.
#[derive(Debug)]
struct Slot<W> {
    who: Option<W>,
    outcome: Option<Outcome>,
    /// When its last byte was sent.
    flushed: Option<Instant>,
}

/// Why the connection ended under its requests, other than by its orderly end.
#[derive(Debug)]
enum Failure {
    Protocol(ProtocolError),
    Read(io::Error),
}

/// What [`Session::write`] did.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Wrote {
    /// Some bytes went out.
    pub any: bool,
    /// The socket is full.
    pub blocked: bool,
}

impl<W> Session<W> {
    /// The session of a new connection, for as many concurrent requests as the settings' limits
    /// allow.
    #[must_use]
    pub fn new(address: Arc<str>, settings: Settings) -> Self {
        Self {
            connection: ClientConnection::new(ClientConfig { limits: settings.limits }),
            reader: Reader::default(),
            writer: Writer::default(),
            span: Arc::new(observe::connection_span(Side::Client, &address)),
            address,
            settings,
            shared: false,
            first: None,
            rest: HashMap::new(),
            next_flush: None,
            flushes: VecDeque::new(),
            sent: 0,
            received: 0,
            wrote_at: None,
            blocked: false,
            write_gone: None,
            stranded: false,
            failed: None,
            closing: false,
            due: false,
            wake_all: false,
            unhandled: false,
            starved: false,
            news: 0,
            values: None,
            _open: OpenConnection::new(Side::Client),
        }
    }

    /// Like [`new`](Self::new), for a connection that `requests` callers may share.
    #[must_use]
    pub fn shared(address: Arc<str>, mut settings: Settings, requests: usize) -> Self {
        settings.limits.requests = requests;
        Self { shared: true, ..Self::new(address, settings) }
    }

    /// The address of the application.
    #[must_use]
    pub fn address(&self) -> &Arc<str> {
        &self.address
    }

    /// The connection's span.
    #[must_use]
    pub fn span(&self) -> &Arc<Span> {
        &self.span
    }

    /// The settings.
    #[must_use]
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    // ---- Its requests --------------------------------------------------------------------------

    /// Begins a request, whose time counts from `started`. [`Exchange::begin_log`] then makes it
    /// logged. Without a body nothing is left to send.
    ///
    /// # Errors
    /// [`Error::Closed`] when the connection takes no more requests; [`Error::Timeout`] when the
    /// request's total limit has already passed, which the caller must [log](observe::logged);
    /// [`Error::Usage`]. Nothing has changed then: the application never gets a request that nobody
    /// waits for.
    pub fn begin(
        &mut self,
        begin: &BeginRequest,
        has_body: bool,
        started: Instant,
        now: Instant,
    ) -> Result<Box<Exchange>, Error> {
        // Other requests may have taken the room.
        if self.is_closing() || !self.is_unused() && !self.connection.can_begin() {
            return Err(self.closed());
        }
        let has_passed = |limit: &Duration| now.saturating_duration_since(started) >= *limit;
        if let Some(limit) = self.settings.total.filter(has_passed) {
            let address = Arc::clone(&self.address);
            return Err(Error::Timeout { address, phase: Phase::Response, limit });
        }
        let begun_at = self.sent + self.queued();
        let key = if has_body {
            self.connection.begin(begin)?
        } else {
            self.connection.begin_without_body(begin)?
        };
        self.closing |= !begin.keep_conn;
        let slot = Slot { who: None, outcome: None, flushed: None };
        if self.first.is_none() {
            self.first = Some((key, slot));
        } else {
            self.rest.insert(key, slot);
        }
        let address = Arc::clone(&self.address);
        let (settings, times) = (&self.settings, [started, now]);
        // In a box, since it is large and moved often.
        let mut exchange = Box::new(Exchange::new(key, begin, has_body, address, settings, times));
        self.closing |= exchange.is_mismatched();
        (exchange.begun_at, exchange.received_before) = (begun_at, self.received);
        // Nothing of it can have come.
        exchange.seen = self.news;
        self.watch_flush(&mut exchange);
        Ok(exchange)
    }

    /// The next chunk of a response, or its end, if it has come. Everything that came before an
    /// error is returned before it. If nothing has come, this [queues](Self::push) what is
    /// available of the request's bodies.
    pub fn poll(
        &mut self,
        exchange: &mut Exchange,
        now: impl FnOnce() -> Instant,
    ) -> Poll<Result<Option<Chunk>, Error>> {
        let come = self.poll_come(exchange, now);
        if come.is_pending() && exchange.is_feeding() {
            self.push(exchange)?;
        }
        come
    }

    fn poll_come(
        &mut self,
        exchange: &mut Exchange,
        now: impl FnOnce() -> Instant,
    ) -> Poll<Result<Option<Chunk>, Error>> {
        exchange.touched =
            self.sent > exchange.begun_at && self.received != exchange.received_before;
        let seen_all = exchange.seen == self.news;
        // A response that is complete is not late.
        if seen_all || self.slot(exchange.key()).is_none_or(|slot| slot.outcome.is_none()) {
            exchange.check_total(now)?;
        }
        if seen_all {
            return Poll::Pending;
        }
        if let Some(chunk) = exchange.take_chunk(&mut self.connection) {
            // This made room for more.
            self.unhandled = true;
            let outcome = self.slot(exchange.key()).and_then(|slot| slot.outcome);
            let is_last =
                self.write_gone.is_none() && self.connection.request(exchange.key()).is_none();
            exchange.last = outcome.filter(|_| is_last);
            return Poll::Ready(Ok(Some(chunk)));
        }
        if let (Some(error), None) = (&self.write_gone, &exchange.unsent) {
            exchange.unsent = Some(again(error));
        }
        if let Some(slot) = self.slot(exchange.key()) {
            exchange.outcome = exchange.outcome.or(slot.outcome);
        }
        if let Some(outcome) = exchange.outcome {
            return Poll::Ready(exchange.end(outcome));
        }
        if let Some(failure) = &self.failed {
            return Poll::Ready(Err(self.error(failure)));
        }
        match &self.write_gone {
            // None of it was sent, and none will be.
            Some(error) if self.stranded && self.sent <= exchange.begun_at => {
                Poll::Ready(Err(self.io_error("write to", error)))
            }
            _ => {
                exchange.seen = self.news;
                Poll::Pending
            }
        }
    }

    /// The next limit of a request to pass, for a caller that waits from `now` on. Only bytes of
    /// the response that the caller was given count as progress, not records that belong to no
    /// response and not record headers. The limits for the first byte and for the next one
    /// also count from the last byte of the request that could be sent.
    pub fn limit(&mut self, exchange: &mut Exchange, now: Instant) -> Option<Limit> {
        let wrote_at = self.wrote_at;
        let flushed = self.slot(exchange.key()).and_then(|slot| slot.flushed);
        if let Some(at) = flushed.or(wrote_at) {
            exchange.handle_sent(at);
        }
        exchange.limit(now)
    }

    /// Queues what is available of a request's bodies, as far as there is room; true if it queued
    /// anything. A request that waits for room is woken later.
    ///
    /// # Errors
    /// [`Error::Usage`], which only a mistake of the adapter can cause.
    pub fn push(&mut self, exchange: &mut Exchange) -> Result<bool, Error> {
        let any = exchange.push(&mut self.connection)?;
        // The application would take another request for a part of this one.
        self.closing |= exchange.is_mismatched();
        self.starved = exchange.is_starved() || self.starved && !self.rest.is_empty();
        self.watch_flush(exchange);
        Ok(any)
    }

    /// Once the last byte of a request is queued, watches for it to be sent.
    fn watch_flush(&mut self, exchange: &mut Exchange) {
        if exchange.is_feeding() || std::mem::replace(&mut exchange.is_queued, true) {
            return;
        }
        let flush = (self.sent + self.queued(), exchange.key());
        if self.next_flush.is_none() {
            self.next_flush = Some(flush);
        } else {
            self.flushes.push_back(flush);
        }
    }

    /// Sets what waits for a request. It is woken once, when there may be something for it.
    pub fn wait(&mut self, key: RequestKey, set: impl FnOnce(&mut Option<W>)) {
        if let Some(slot) = self.slot(key) {
            set(&mut slot.who);
        }
    }

    /// Takes one of the waiting.
    pub fn take_waiting(&mut self) -> Option<W> {
        self.slots().find_map(|slot| slot.who.take())
    }

    /// The caller wants no more of a request: aborts it unless it has ended. True if writing at
    /// once is useful. Other requests go on. [`Exchange::give_up`] logs it, where no lock is held.
    pub fn leave(&mut self, exchange: &mut Exchange) -> bool {
        let key = exchange.key();
        if let Some(outcome) = self.slot(key).and_then(|slot| slot.outcome) {
            exchange.handle_outcome(outcome, &mut self.connection);
        }
        let Some(request) = self.connection.request(key) else { return false };
        request.abort();
        (self.unhandled, self.due) = (true, true);
        true
    }

    /// Whether to look at the connection at once: an abort is to be sent, or a request of a shared
    /// one is over.
    pub fn take_due(&mut self) -> bool {
        std::mem::take(&mut self.due)
    }

    /// Whether an aborted request has ended: `Some(true)` if the connection can still be used.
    #[must_use]
    pub fn ended(&mut self, key: RequestKey) -> Option<bool> {
        if self.is_closed() {
            return Some(false);
        }
        match self.slot(key) {
            Some(slot) if slot.outcome.is_none() => None,
            _ => Some(true),
        }
    }

    /// Forgets a request that has ended or was aborted. Gives who waited for it, to be dropped where
    /// no lock is held: the last waker of a task may take the task with it.
    pub fn forget(&mut self, key: RequestKey) -> Option<W> {
        let slot = match &self.first {
            Some((first, _)) if *first == key => self.first.take().map(|(_, slot)| slot),
            _ if self.rest.is_empty() => None,
            _ => self.rest.remove(&key),
        };
        self.due |= self.shared;
        slot?.who
    }

    /// Whether several callers may have requests on it.
    #[must_use]
    pub fn is_shared(&self) -> bool {
        self.shared
    }

    /// Whether it has no requests, not counting aborted ones that were forgotten.
    #[must_use]
    pub fn is_unused(&self) -> bool {
        self.first.is_none() && self.rest.is_empty()
    }

    fn slot(&mut self, key: RequestKey) -> Option<&mut Slot<W>> {
        match &mut self.first {
            Some((first, slot)) if *first == key => Some(slot),
            _ => self.rest.get_mut(&key),
        }
    }

    fn slots(&mut self) -> impl Iterator<Item = &mut Slot<W>> {
        self.first.iter_mut().map(|(_, slot)| slot).chain(self.rest.values_mut())
    }

    // ---- Its socket ----------------------------------------------------------------------------

    /// Moves bytes: writes what is queued, and then reads, if `reads` says that there may be
    /// something, or if what was to be sent can't be. True if a request should look again, or if
    /// another turn may move more.
    pub fn turn(
        &mut self,
        socket: &mut impl Socket,
        reads: bool,
        now: impl FnOnce() -> Instant,
        mut wake: impl FnMut(W),
    ) -> bool {
        let news = self.news;
        // A response that was read may have made room for more.
        if self.unhandled {
            self.handle_events(&mut wake);
        }
        let wrote = self.write(socket, now);
        // What waits for the room is sent first, since the other end may wait for that.
        let room = wrote.any && !wrote.blocked && self.starved;
        if !room && (reads || self.must_look()) {
            self.read(socket);
        }
        self.handle_events(wake);
        room || self.news != news
    }

    /// Writes queued bytes until the socket is full.
    pub fn write(&mut self, socket: &mut impl Socket, now: impl FnOnce() -> Instant) -> Wrote {
        if self.write_gone.is_some() {
            return Wrote { any: false, blocked: false };
        }
        let (bytes, blocked) = match self.writer.write(socket, &mut self.connection) {
            pump::Wrote::Done { bytes, blocked } => (bytes, blocked),
            pump::Wrote::Gone(Broken { bytes, error }) => {
                self.write_gone = Some(error);
                self.news += 1;
                (bytes, false)
            }
        };
        self.blocked = blocked;
        if bytes > 0 {
            self.unhandled |= self.starved;
            let now = now();
            self.sent += bytes as u64;
            self.wrote_at = Some(now);
            self.note_flushed(now);
        }
        Wrote { any: bytes > 0, blocked }
    }

    /// Reads what has come; true if there is anything new, including the end.
    pub fn read(&mut self, socket: &mut impl Socket) -> bool {
        match self.reader.read(socket, &mut self.connection) {
            Read::Nothing => {
                let stranded = self.must_look() && !socket.is_readable();
                if stranded {
                    self.stranded = true;
                    self.wake_all = true;
                    self.tell();
                }
                return stranded;
            }
            Read::Some { bytes, .. } => {
                self.received += bytes as u64;
                self.writer.handle_read();
            }
            Read::Eof => self.connection.handle_eof(),
            Read::Gone(error) if is_close(&error) => self.connection.handle_eof(),
            Read::Gone(error) => self.fail(Failure::Read(error)),
        }
        self.tell();
        true
    }

    /// Whether to read before any wait, because what was to be sent can't be.
    fn must_look(&self) -> bool {
        self.write_gone.is_some() && !self.stranded && self.wants_read()
    }

    /// Passes every event to its request, and wakes those who wait for it.
    pub fn handle_events(&mut self, mut wake: impl FnMut(W)) {
        if !std::mem::take(&mut self.unhandled) {
            return;
        }
        while self.failed.is_none() {
            let event = self.connection.poll_event();
            if !matches!(event, Ok(None)) {
                self.news += 1;
            }
            match event {
                Ok(None) => break,
                Ok(Some(Event::Readable { key, .. } | Event::Writable { key })) => {
                    if let Some(who) = self.slot(key).and_then(|slot| slot.who.take()) {
                        wake(who);
                    }
                }
                Ok(Some(Event::Finished { key, outcome })) => {
                    if let Some(slot) = self.slot(key) {
                        slot.outcome = Some(outcome);
                        slot.who.take().into_iter().for_each(&mut wake);
                    }
                }
                Ok(Some(Event::Values(values))) => self.values = Some(values),
                // GET_VALUES is the only management record that is sent.
                Ok(Some(Event::UnknownType(_))) => self.values = Some(Values::default()),
                Err(error) => self.fail(Failure::Protocol(error)),
            }
        }
        pump::reclaim(&mut self.connection);
        if std::mem::take(&mut self.wake_all) {
            self.slots().filter_map(|slot| slot.who.take()).for_each(wake);
        }
    }

    /// Whether the application takes bytes, as far as is known.
    #[must_use]
    pub fn is_writable(&self) -> bool {
        self.write_gone.is_none()
    }

    /// Whether there is anything to write.
    pub fn wants_write(&mut self) -> bool {
        self.write_gone.is_none() && self.connection.poll_transmit().is_some()
    }

    /// Whether there is room for what may come.
    #[must_use]
    pub fn wants_read(&self) -> bool {
        self.failed.is_none() && self.connection.wants_read()
    }

    /// Whether the last write filled the socket.
    #[must_use]
    pub fn is_blocked(&self) -> bool {
        self.blocked
    }

    fn queued(&mut self) -> u64 {
        self.connection.poll_transmit().map_or(0, |queued| bytes::Buf::remaining(&queued) as u64)
    }

    /// The limit for the first byte counts from the last byte of a request. Writing for another
    /// request may have sent it.
    fn note_flushed(&mut self, now: Instant) {
        while let Some((_, key)) = self.next_flush.take_if(|(at, _)| *at <= self.sent) {
            if let Some(slot) = self.slot(key) {
                slot.flushed = Some(now);
            }
            self.next_flush = self.flushes.pop_front();
        }
    }

    fn fail(&mut self, failure: Failure) {
        self.failed = Some(failure);
        self.wake_all = true;
        self.tell();
    }

    /// Something happened that the events and the requests have not seen yet.
    fn tell(&mut self) {
        self.unhandled = true;
        self.news += 1;
    }

    fn error(&self, failure: &Failure) -> Error {
        match failure {
            &Failure::Protocol(source) => {
                Error::Protocol { address: Arc::clone(&self.address), source }
            }
            Failure::Read(error) => self.io_error("read from", error),
        }
    }

    fn io_error(&self, doing: &'static str, error: &io::Error) -> Error {
        Error::Io { address: Arc::clone(&self.address), doing, source: again(error) }
    }
}

/// The same error once more.
fn again(error: &io::Error) -> io::Error {
    match error.raw_os_error() {
        Some(code) => io::Error::from_raw_os_error(code),
        None => error.kind().into(),
    }
}
