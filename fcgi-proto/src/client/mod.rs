//! The web server's end of a connection.
//!
//! [`ClientConnection`] starts requests and sends their streams. It hands out the application's
//! answer: STDOUT and STDERR as they come, and the [`Outcome`] when END_REQUEST does.
//!
//! ```
//! use bytes::{Buf, Bytes};
//! use fcgi_proto::{
//!     BeginRequest, ClientConfig, ClientConnection, Connection, Input, Output, Params, Role,
//!     client::{Event, Outcome},
//!     record::{EndRequestBody, RecordHeader, RecordType},
//! };
//!
//! let mut client = ClientConnection::new(ClientConfig::default());
//! let params = Params::from_iter([("REQUEST_METHOD", "POST"), ("CONTENT_LENGTH", "2")]);
//! let key = client.begin(BeginRequest { role: Role::Responder, keep_conn: true, params })?;
//! let mut request = client.request(key).unwrap();
//! request.write(Input::Stdin, &mut Bytes::from_static(b"hi"))?;
//! request.finish(Input::Stdin)?;
//! assert!(client.poll_transmit().is_some(), "send this");
//!
//! // What an application answers.
//! let mut wire = RecordHeader::new(RecordType::Stdout, key.id(), 8).encode().to_vec();
//! wire.extend_from_slice(b"\r\n\r\nhi!\n");
//! wire.extend_from_slice(&RecordHeader::new(RecordType::EndRequest, key.id(), 8).encode());
//! wire.extend_from_slice(&EndRequestBody { app_status: 0, protocol_status: 0 }.encode());
//! client.recv_buffer()[..wire.len()].copy_from_slice(&wire);
//! client.handle_recv(wire.len())?;
//!
//! let mut answer = Vec::new();
//! while let Some(event) = client.poll_event()? {
//!     match event {
//!         Event::Readable { key, output: Output::Stdout } => {
//!             let chunk = client.request(key).unwrap().read(Output::Stdout, usize::MAX);
//!             if let std::task::Poll::Ready(Some(bytes)) = chunk {
//!                 answer.extend_from_slice(&bytes);
//!             }
//!         }
//!         Event::Finished { outcome, .. } => assert_eq!(outcome, Outcome::Complete { app_status: 0 }),
//!         _ => {}
//!     }
//! }
//! assert_eq!(answer, b"\r\n\r\nhi!\n");
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod ending;
mod event;
mod records;
mod request;

use alloc::collections::{BTreeSet, BinaryHeap, VecDeque};
use core::{borrow::Borrow, cmp::Reverse, fmt};

use bytes::{Bytes, BytesMut};

pub use event::{BeginRequest, ClientConfig, Event, Outcome};
pub use request::Request;

use crate::{
    Connection, Input, Output, ProtocolError, ProtocolErrorKind, RequestKey, Role, Transmit,
    UsageError, Values,
    connection::sealed::Sealed,
    inbound::Inbound,
    receiver::Receiver,
    record::{BeginRequestBody, RecordType},
    requests::Requests,
    sender::SendQueue,
    states::{ClientState, ClientTrigger},
};
use records::{Query, Record};

/// The web server's end of a connection, without IO. See the [module](self).
///
/// Beside the methods of [`Connection`]: **commands** `begin`, `query_values`, `request`;
/// **getter** `can_begin`.
pub struct ClientConnection {
    config: ClientConfig,
    recv: Receiver,
    send: SendQueue,
    requests: Requests<State>,
    record: Record,
    unread: usize,
    events: VecDeque<Event>,
    free_ids: BinaryHeap<Reverse<u16>>,
    /// Every id from here on is free and not in `free_ids`, unless it is a tombstone.
    fresh_id: u32,
    tombstones: BTreeSet<u16>,
    query: Query,
    /// The number of requests that have begun and not ended.
    active: usize,
    /// Takes no more requests: one was sent without keep_conn, or left the connection unfit (Q-10).
    closing: bool,
    eof_seen: bool,
    error: Option<ProtocolError>,
}

/// Leaves out the bytes in transit, which are many and may be secret.
impl fmt::Debug for ClientConnection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClientConnection")
            .field("active", &self.active)
            .field("unread", &self.unread)
            .field("queued", &self.send.len())
            .field("closing", &self.closing)
            .field("error", &self.error)
            .finish_non_exhaustive()
    }
}

/// One request, from `begin` until it has ended and its output was read or dropped.
#[derive(Debug)]
struct State {
    state: ClientState,
    role: Role,
    stdin_finished: bool,
    data_finished: bool,
    stdout: Inbound,
    stderr: Inbound,
    overrun: bool,
    blocked: bool,
}

impl State {
    #[inline]
    fn inbound(&mut self, output: Output) -> &mut Inbound {
        match output {
            Output::Stdout => &mut self.stdout,
            Output::Stderr => &mut self.stderr,
        }
    }

    fn is_input_finished(&self) -> bool {
        match self.role.last_input() {
            None => true,
            Some(Input::Stdin) => self.stdin_finished,
            Some(Input::Data) => self.data_finished,
        }
    }

    fn unread(&self) -> usize {
        self.stdout.len() + self.stderr.len()
    }

    /// Makes the move of the table and returns the new state; `None` if there is no such move.
    fn on(&mut self, trigger: ClientTrigger) -> Option<ClientState> {
        let next = self.state.on(trigger)?;
        self.state = next;
        Some(next)
    }
}

impl ClientConnection {
    /// The state machine for a new connection.
    #[must_use]
    pub fn new(mut config: ClientConfig) -> Self {
        config.limits = config.limits.usable();
        Self {
            recv: Receiver::new(&config.limits),
            config,
            send: SendQueue::default(),
            requests: Requests::new(),
            record: Record::skip(),
            unread: 0,
            events: VecDeque::new(),
            free_ids: BinaryHeap::new(),
            fresh_id: 1,
            tombstones: BTreeSet::new(),
            query: Query::None,
            active: 0,
            closing: false,
            eof_seen: false,
            error: None,
        }
    }

    /// Starts a request under the smallest free id (FC-3.3-7). Queues BEGIN_REQUEST and PARAMS, in
    /// records of whole pairs (Q-1).
    ///
    /// # Errors
    /// [`UsageError::Closed`], [`UsageError::TooManyRequests`], [`UsageError::NoFreeId`],
    /// [`UsageError::PairTooLong`].
    pub fn begin(&mut self, request: impl Borrow<BeginRequest>) -> Result<RequestKey, UsageError> {
        self.start(request.borrow(), true)
    }

    /// Like [`begin`](Self::begin), for a request without a body: its STDIN and DATA, as far as its
    /// role has them, are ended at once, as if by [`Request::finish`].
    ///
    /// # Errors
    /// As for [`begin`](Self::begin).
    pub fn begin_without_body(
        &mut self,
        request: impl Borrow<BeginRequest>,
    ) -> Result<RequestKey, UsageError> {
        self.start(request.borrow(), false)
    }

    fn start(&mut self, request: &BeginRequest, has_body: bool) -> Result<RequestKey, UsageError> {
        let &BeginRequest { role, keep_conn, ref params } = request;
        self.check_begin()?;
        params.check()?;
        let id = match self.free_ids.pop() {
            Some(Reverse(id)) => id,
            None => {
                let id = self.fresh_id as u16;
                self.fresh_id += 1;
                self.skip_tombstones();
                id
            }
        };
        let ended: &[_] = match role {
            Role::Responder if !has_body => &[RecordType::Stdin],
            Role::Filter if !has_body => &[RecordType::Stdin, RecordType::Data],
            _ => &[],
        };
        self.send.begin_request(id, BeginRequestBody::new(role, keep_conn), params, ended);
        let trigger = role.last_input().map_or(ClientTrigger::BeginAll, |_| ClientTrigger::Begin);
        let begun = ClientState::Idle.on(trigger).unwrap_or(ClientState::Sending);
        let finished = if ended.is_empty() { None } else { begun.on(ClientTrigger::FinishInput) };
        self.active += 1;
        self.closing |= !keep_conn;
        Ok(self.requests.insert(
            id,
            State {
                state: finished.unwrap_or(begun),
                role,
                stdin_finished: !has_body,
                data_finished: !has_body,
                stdout: Inbound::default(),
                stderr: Inbound::default(),
                overrun: false,
                blocked: false,
            },
        ))
    }

    /// Whether [`begin`](Self::begin) would take a request now.
    #[must_use]
    pub fn can_begin(&self) -> bool {
        self.check_begin().is_ok()
    }

    #[inline]
    fn check_begin(&self) -> Result<(), UsageError> {
        let limits = &self.config.limits;
        if self.error.is_some()
            || self.closing
            || self.recv.is_eof()
            || self.tombstones.len() > limits.tombstones
        {
            return Err(UsageError::Closed);
        }
        if self.active >= limits.requests {
            return Err(UsageError::TooManyRequests(self.active));
        }
        if self.free_ids.is_empty() && self.fresh_id > u32::from(u16::MAX) {
            return Err(UsageError::NoFreeId);
        }
        Ok(())
    }

    /// Asks the application for its capacity. [`Event::Values`] brings the answer. Some
    /// applications don't answer, and some close the connection, so use a separate connection and a
    /// time limit (Q-7, Q-9).
    ///
    /// # Errors
    /// [`UsageError::Closed`], [`UsageError::QueryPending`].
    pub fn query_values(&mut self) -> Result<(), UsageError> {
        // `is_closed` may still be false: received bytes may wait to be parsed.
        if self.is_closed() || self.is_mute() || self.recv.is_eof() {
            return Err(UsageError::Closed);
        }
        if !matches!(self.query, Query::None) {
            return Err(UsageError::QueryPending);
        }
        self.send.padded_record(RecordType::GetValues, &Values::query());
        self.query = Query::asked();
        Ok(())
    }

    /// A request that has not ended, or whose output was not read to its end.
    pub fn request(&mut self, key: RequestKey) -> Option<Request<'_>> {
        self.requests.get(key)?;
        Some(Request { connection: self, key })
    }

    /// Whether there is certainly no event, and nothing to free.
    #[inline]
    fn is_quiet(&self) -> bool {
        self.recv.is_drained()
            && self.events.is_empty()
            && !self.send.has_blocked()
            && self.recv.is_eof() == self.eof_seen
            && !self.requests.is_empty()
    }

    fn next_event(&mut self) -> Result<Option<Event>, ProtocolErrorKind> {
        loop {
            if let Some(event) = self.events.pop_front() {
                return Ok(Some(event));
            }
            if let Some(key) = self.next_writable() {
                return Ok(Some(Event::Writable { key }));
            }
            if self.is_mute() {
                self.recv.discard();
                self.rest();
                return Ok(None);
            }
            if let Some(event) = self.whole_record() {
                if event.is_some() {
                    return Ok(event);
                }
                continue;
            }
            // The record's state is stored only if the record is not complete.
            let mut record = if self.recv.is_in_record() {
                self.record
            } else {
                match self.recv.header()? {
                    Some(header) => self.on_header(header)?,
                    None if self.at_end_of_input() => continue,
                    None => return Ok(None),
                }
            };
            let (span, ended) = self.recv.content(self.room(&record));
            let mut event = None;
            if span.len() > 0 {
                event = self.on_content(&mut record, span);
            }
            if ended {
                // A record whose content gave an event gives none at its end.
                event = self.on_end(record)?.or(event);
            } else {
                self.record = record;
                if span.len() == 0 {
                    let drained = self.recv.is_drained();
                    if !(if drained { self.at_end_of_input() } else { self.abort_full() }) {
                        return Ok(None);
                    }
                }
            }
            if event.is_some() {
                return Ok(event);
            }
        }
    }

    /// Every byte so far was parsed: acts on the end of file. True if there is more to look at
    /// afterwards.
    fn at_end_of_input(&mut self) -> bool {
        if self.recv.is_eof() && !self.eof_seen {
            self.eof_seen = true;
            self.lose_all();
            return true;
        }
        self.rest();
        false
    }

    /// An idle connection holds no buffer.
    fn rest(&mut self) {
        if self.requests.is_empty() {
            self.recv.release();
            self.send.release();
            self.events = VecDeque::new();
            if self.free_ids.len() > 64 {
                self.forget_ids();
            }
        }
    }

    /// With nothing active, every id but a tombstone is free: start afresh.
    fn forget_ids(&mut self) {
        self.free_ids = BinaryHeap::new();
        self.fresh_id = 1;
        self.skip_tombstones();
    }

    /// Moves `fresh_id` past the tombstones, which are above it after [`Self::forget_ids`].
    fn skip_tombstones(&mut self) {
        while u16::try_from(self.fresh_id).is_ok_and(|id| self.tombstones.contains(&id)) {
            self.fresh_id += 1;
        }
    }

    /// The second END_REQUEST that a tombstone waited for (Q-12).
    fn free_tombstone(&mut self, id: u16) {
        if self.tombstones.remove(&id) && u32::from(id) < self.fresh_id {
            self.free_ids.push(Reverse(id));
        }
    }

    /// Takes no more requests, has none, and waits for no answer to GET_VALUES. No further record
    /// can matter, wherever the bytes are cut.
    #[inline]
    fn is_mute(&self) -> bool {
        self.closing && self.active == 0 && matches!(self.query, Query::None)
    }

    /// How many bytes of the current record may be taken into its stream.
    #[inline]
    fn room(&self, record: &Record) -> usize {
        let Some(key) = record.stream() else { return usize::MAX };
        match self.requests.get(key) {
            Some(request) if request.state != ClientState::Aborting => self.room_for(request),
            _ => usize::MAX,
        }
    }

    #[inline]
    fn room_for(&self, request: &State) -> usize {
        let limits = &self.config.limits;
        let room = limits.unread_request.saturating_sub(request.unread());
        room.min(limits.unread_connection.saturating_sub(self.unread))
    }

    /// The next request that waits for room and can still use it.
    #[inline]
    fn next_writable(&mut self) -> Option<RequestKey> {
        loop {
            let key = self.send.unblock(&self.config.limits)?;
            if let Some(request) = self.requests.get_mut(key) {
                request.blocked = false;
                if request.state == ClientState::Sending {
                    return Some(key);
                }
            }
        }
    }

    fn fail(&mut self, kind: ProtocolErrorKind) -> ProtocolError {
        let error = ProtocolError { kind, offset: self.recv.record_start() };
        self.error = Some(error);
        self.recv.close();
        self.lose_all();
        self.events.clear();
        self.send.clear();
        error
    }
}

impl Sealed for ClientConnection {}

impl Connection for ClientConnection {
    type Event = Event;

    #[inline]
    fn recv_buffer(&mut self) -> &mut [u8] {
        if self.wants_read() { self.recv.buffer() } else { &mut [] }
    }

    #[inline]
    fn wants_buffer(&self) -> Option<usize> {
        if self.wants_read() { self.recv.wants_buffer() } else { None }
    }

    #[inline]
    fn lend(&mut self, buffer: BytesMut) -> Result<(), BytesMut> {
        self.recv.lend(buffer)
    }

    #[inline]
    fn reclaim(&mut self) -> Option<BytesMut> {
        self.recv.reclaim()
    }

    #[inline]
    fn retire(&mut self) -> Option<Bytes> {
        self.recv.retire()
    }

    #[inline]
    fn handle_recv(&mut self, n: usize) -> Result<(), UsageError> {
        self.recv.filled(n)
    }

    fn handle_eof(&mut self) {
        self.recv.set_eof();
    }

    #[inline]
    fn poll_event(&mut self) -> Result<Option<Event>, ProtocolError> {
        match self.error {
            Some(error) => Err(error),
            None if self.is_quiet() => Ok(None),
            None => self.next_event().map_err(|kind| self.fail(kind)),
        }
    }

    #[inline]
    fn poll_transmit(&mut self) -> Option<Transmit<'_>> {
        self.send.transmit()
    }

    #[inline]
    fn wants_read(&self) -> bool {
        self.error.is_none()
            && !self.is_mute()
            && self.recv.wants_read()
            && self.unread < self.config.limits.unread_connection
    }

    #[inline]
    fn is_reusable(&self) -> bool {
        self.requests.is_empty()
            && self.can_begin()
            && matches!(self.query, Query::None)
            && self.recv.is_at_boundary()
            && self.send.is_empty()
    }

    fn is_closed(&self) -> bool {
        self.error.is_some()
            || (self.active == 0 && self.recv.is_eof())
            || (self.is_mute() && self.send.is_empty())
    }

    fn active_requests(&self) -> usize {
        self.active
    }

    fn error(&self) -> Option<ProtocolError> {
        self.error
    }
}
