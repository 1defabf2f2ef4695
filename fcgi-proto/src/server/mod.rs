//! The application's end of a connection.
//!
//! A web server connects, sends requests, and reads the answers. [`ServerConnection`] takes its
//! bytes, reports each request when its PARAMS are complete, and lets the application read and
//! write the streams through [`ServerConnection::request`]. It answers GET_VALUES, unknown
//! management types, unknown roles and requests past its limits by itself.
//!
//! ```
//! use bytes::{Buf, Bytes};
//! use fcgi_proto::{
//!     BeginRequest, ClientConfig, ClientConnection, Connection, Input, Output, Params, Role,
//!     ServerConfig, ServerConnection, server::Event,
//! };
//!
//! // A web server's request, as bytes.
//! let mut client = ClientConnection::new(ClientConfig::default());
//! let params = Params::from_iter([("REQUEST_METHOD", "GET")]);
//! let key = client.begin(BeginRequest { role: Role::Responder, keep_conn: false, params })?;
//! client.request(key).unwrap().finish(Input::Stdin)?;
//! let mut wire = client.poll_transmit().unwrap();
//! let bytes = wire.copy_to_bytes(wire.remaining());
//!
//! let mut server = ServerConnection::new(ServerConfig::default());
//! server.recv_buffer()[..bytes.len()].copy_from_slice(&bytes);
//! server.handle_recv(bytes.len())?;
//! while let Some(event) = server.poll_event()? {
//!     if let Event::Request { key, params, .. } = event {
//!         assert_eq!(params.get_str("REQUEST_METHOD"), Some("GET"));
//!         let mut request = server.request(key).unwrap();
//!         let mut body = Bytes::from_static(b"Content-Type: text/plain\r\n\r\nhello\n");
//!         request.write(Output::Stdout, &mut body)?;
//!         request.finish(0)?;
//!     }
//! }
//! let answer = server.poll_transmit().unwrap();
//! assert_eq!(answer.remaining() % 8, 0);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod config;
mod ending;
mod event;
mod records;
mod request;

use alloc::{boxed::Box, collections::VecDeque, sync::Arc};
use core::fmt;

use bytes::{Bytes, BytesMut};

pub use config::{Roles, ServerConfig};
pub use event::{AbortReason, Event, Whole};
pub use request::Request;

use crate::{
    Connection, Input, Params, ProtocolError, ProtocolErrorKind, RequestKey, Role, Transmit,
    UsageError,
    connection::sealed::Sealed,
    inbound::Inbound,
    params::ParamsDecoder,
    receiver::Receiver,
    requests::Requests,
    sender::SendQueue,
    states::{ServerState, ServerTrigger},
    values::{Asked, SmallPairs},
};
use ending::Ending;
use records::{Found, Record};

/// The application's end of a connection, without IO. See the [module](self).
///
/// Beside the methods of [`Connection`]: **commands** `request`, `take_end`, `shutdown`, `fail_all`;
/// **`handle_*`** `handle_disconnect`; **getters** `queued`, `is_cut`, `is_input_pending`, `is_peer_done`,
/// `is_between_records`.
pub struct ServerConnection {
    config: Arc<ServerConfig>,
    recv: Receiver,
    send: SendQueue,
    requests: Requests<State>,
    record: Record,
    /// A GET_VALUES that is being received.
    query: Option<Box<(SmallPairs, Asked)>>,
    /// Unread bytes of all requests, and bytes of all PARAMS that have not ended.
    unread: usize,
    params_bytes: usize,
    /// A request that came in one piece up to the end of its STDIN, which is the next record.
    bodiless: Option<RequestKey>,
    /// The last request that began in the last read, unless something came behind its end.
    fresh: Option<RequestKey>,
    /// Aborts to report.
    aborts: VecDeque<(RequestKey, AbortReason)>,
    closing: bool,
    input_pending: bool,
    /// The last request of a connection that closes came whole in the last read, and nothing behind it.
    peer_done: bool,
    cut: bool,
    /// The peer's end of file was reported and handled.
    eof: bool,
    eof_seen: bool,
    /// Nothing can be sent any more.
    gone: bool,
    error: Option<ProtocolError>,
}

/// Leaves out the bytes in transit, which are many and may be secret.
impl fmt::Debug for ServerConnection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ServerConnection")
            .field("requests", &self.requests.len())
            .field("unread", &self.unread)
            .field("queued", &self.send.len())
            .field("closing", &self.closing)
            .field("error", &self.error)
            .finish_non_exhaustive()
    }
}

/// One active request.
#[derive(Debug)]
struct State {
    state: ServerState,
    role: Role,
    keep_conn: bool,
    params: ParamsDecoder,
    stdin: Inbound,
    /// Only for a Filter.
    data: Option<Box<Inbound>>,
    stdout_used: bool,
    stderr_used: bool,
    blocked: bool,
}

impl State {
    #[inline]
    fn new(state: ServerState, role: Role, keep_conn: bool, stdin: Inbound) -> Self {
        Self {
            state,
            role,
            keep_conn,
            params: ParamsDecoder::default(),
            stdin,
            data: None,
            stdout_used: false,
            stderr_used: false,
            blocked: false,
        }
    }

    fn inbound(&mut self, input: Input) -> &mut Inbound {
        match input {
            Input::Stdin => &mut self.stdin,
            Input::Data => self.data.get_or_insert_default(),
        }
    }

    #[inline]
    fn unread(&self) -> usize {
        self.stdin.len() + self.data.as_ref().map_or(0, |data| data.len())
    }

    #[inline]
    fn is_data_ended(&self) -> bool {
        self.data.as_ref().is_some_and(|data| data.is_ended())
    }

    /// Whether every input stream of the role has ended, in whatever order.
    fn is_whole(&self) -> bool {
        (self.stdin.is_ended() || !self.role.has_input(Input::Stdin))
            && (self.is_data_ended() || !self.role.has_input(Input::Data))
    }

    /// Makes the move of the table and returns the new state; `None` if there is no such move.
    fn on(&mut self, trigger: ServerTrigger) -> Option<ServerState> {
        let next = self.state.on(trigger)?;
        self.state = next;
        Some(next)
    }
}

impl ServerConnection {
    /// The state machine for a newly accepted connection. The connections of a server may share one
    /// configuration.
    #[must_use]
    pub fn new(config: impl Into<Arc<ServerConfig>>) -> Self {
        let mut config = config.into();
        let limits = config.limits.usable();
        if limits != config.limits {
            Arc::make_mut(&mut config).limits = limits;
        }
        Self {
            recv: Receiver::new(&config.limits),
            config,
            send: SendQueue::default(),
            requests: Requests::new(),
            record: Record::skip(),
            query: None,
            unread: 0,
            params_bytes: 0,
            bodiless: None,
            fresh: None,
            aborts: VecDeque::new(),
            closing: false,
            input_pending: false,
            peer_done: false,
            cut: false,
            eof: false,
            eof_seen: false,
            gone: false,
            error: None,
        }
    }

    /// An active request that was reported. `None` once it has ended, and after a protocol error.
    #[inline]
    pub fn request(&mut self, key: RequestKey) -> Option<Request<'_>> {
        if self.error.is_some() {
            return None;
        }
        let state = self.requests.get(key)?.state;
        (state != ServerState::Params).then_some(Request { connection: self, key })
    }

    /// A request that came whole, with all of its input, if that is what comes next and no other
    /// request is active. Otherwise this returns `None` and changes nothing. It is a shorter way to
    /// what [`poll_event`](Connection::poll_event) and [`take_end`](Self::take_end) report, for the
    /// request that nearly every web server sends. `memory` is called for parameters whose memory
    /// the request's may use; [`Params::new`] has none.
    #[inline]
    pub fn poll_whole(&mut self, memory: impl FnOnce() -> Params) -> Option<Whole> {
        let first = !self.recv.is_drained()
            && self.error.is_none()
            && self.requests.is_empty()
            && self.aborts.is_empty()
            && !self.send.has_blocked()
            && !self.closing
            && !self.send.is_behind(&self.config.limits);
        if first { self.whole_start(true, memory) } else { None }
    }

    /// Acts on the end of a request's STDIN now, if it came in one piece with the request's start.
    /// Otherwise that waits for the next event. No [`Readable`](Event::Readable) is reported for it
    /// then: this is for an application that has just been told of the request, and has not read
    /// from it.
    #[inline]
    pub fn take_end(&mut self, key: RequestKey) {
        if self.bodiless == Some(key) && self.error.is_none() {
            self.end_of_whole();
        }
    }

    /// Refuses new requests and closes the connection once the active ones end, immediately if there
    /// are none (FC-7-1). A request that begins meanwhile gets OVERLOADED.
    pub fn shutdown(&mut self) {
        self.closing = true;
        self.drop_unheard();
    }

    /// Reports that the peer is gone in both directions, so nothing more can be sent. Every request
    /// is reported as aborted, even if its input is complete.
    pub fn handle_disconnect(&mut self) {
        self.gone = true;
        self.eof = true;
        self.recv.close();
        self.send.clear();
        self.abort_all(true);
    }

    /// Bytes that wait to be sent. Unlike [`poll_transmit`](Connection::poll_transmit), this call
    /// does not close the record that the next write may still share.
    #[must_use]
    pub fn queued(&self) -> usize {
        self.send.len()
    }

    /// Whether the connection closes without an END_REQUEST, to show that a response is incomplete
    /// (W-12).
    #[must_use]
    pub fn is_cut(&self) -> bool {
        self.cut
    }

    /// Whether the bytes so far end at the end of a record. If not, the peer must still send the rest of one.
    #[must_use]
    pub fn is_between_records(&self) -> bool {
        self.recv.is_at_boundary()
    }

    /// Whether the peer may still be sending: the rest of the input of a request that has ended, or
    /// anything after the last request of a connection that closes. Do not close the socket at once
    /// then, because the peer could lose the response: shut down the sending side and read on for a
    /// while.
    #[must_use]
    pub fn is_input_pending(&self) -> bool {
        self.input_pending && !self.eof
    }

    /// Whether nothing more is expected from the peer, although it could send something: the
    /// connection closes, and its last request came whole in the last read, which ended with it and
    /// did not fill its buffer. If the system did that read, the socket is empty, so that it can be
    /// closed at once in spite of [`is_input_pending`](Self::is_input_pending).
    #[must_use]
    pub fn is_peer_done(&self) -> bool {
        self.peer_done
    }

    /// Whether there is certainly no event: nothing to report and nothing to parse.
    #[must_use]
    #[inline]
    pub fn is_quiet(&self) -> bool {
        self.recv.is_drained()
            && self.aborts.is_empty()
            && !self.send.has_blocked()
            && self.recv.is_eof() == self.eof_seen
            && self.error.is_none()
            && !(self.recv.has_own_buffer() && self.requests.is_empty())
    }

    fn next_event(&mut self) -> Result<Option<Event>, ProtocolError> {
        if let Some(error) = self.error {
            return Err(error);
        }
        if let Some(event) = self.next_queued() {
            return Ok(Some(event));
        }
        if let Some(key) = self.next_writable() {
            return Ok(Some(Event::Writable { key }));
        }
        loop {
            if self.is_mute() || self.send.is_behind(&self.config.limits) {
                return Ok(None);
            }
            if self.requests.is_empty() {
                let whole = self.whole_start(false, Params::new);
                if let Some(Whole { key, role, keep_conn, params }) = whole {
                    return Ok(Some(Event::Request { key, role, params, keep_conn }));
                }
            }
            if let Some(event) = self.end_of_whole() {
                return Ok(Some(event));
            }
            // The record's state is stored only if the record is not complete.
            let mut record = if self.recv.is_in_record() {
                self.record
            } else {
                let header = match self.recv.header() {
                    Ok(Some(header)) => header,
                    Ok(None) => {
                        if !self.at_end_of_input() {
                            return Ok(None);
                        }
                        if let Some(event) = self.next_queued() {
                            return Ok(Some(event));
                        }
                        continue;
                    }
                    Err(kind) => return Err(self.fail(kind)),
                };
                match self.on_header(header) {
                    Ok(record) => record,
                    Err(kind) => return Err(self.fail(kind)),
                }
            };
            let (span, ended) = self.recv.content(self.room(&record));
            let mut found = Found::Nothing;
            if span.len() > 0 {
                found = self.on_content(&mut record, span);
            }
            if ended {
                // A record whose content gave an event gives none at its end.
                if let end @ (Found::Request(_) | Found::Readable(..)) = self.on_end(record) {
                    found = end;
                }
            } else {
                self.record = record;
                if span.len() == 0 {
                    let drained = self.recv.is_drained();
                    if !(if drained { self.at_end_of_input() } else { self.abort_full() }) {
                        return Ok(None);
                    }
                }
            }
            match found {
                Found::Nothing => {}
                Found::Request(key) => return Ok(self.request_event(key)),
                Found::Readable(key, input) => return Ok(Some(Event::Readable { key, input })),
            }
            if let Some(event) = self.next_queued() {
                return Ok(Some(event));
            }
        }
    }

    /// Every byte so far was parsed: acts on the end of file. True if there is more to look at
    /// afterwards.
    fn at_end_of_input(&mut self) -> bool {
        if self.recv.is_eof() && !self.eof_seen {
            self.eof_seen = true;
            self.abort_all(false);
            return true;
        }
        self.rest();
        false
    }

    /// The next queued event, skipping those whose request has ended meanwhile.
    fn next_queued(&mut self) -> Option<Event> {
        loop {
            let (key, reason) = self.aborts.pop_front()?;
            if self.requests.get(key).is_some() {
                return Some(Event::Aborted { key, reason });
            }
        }
    }

    /// An idle connection holds no buffer.
    #[inline]
    fn rest(&mut self) {
        if self.requests.is_empty() && self.recv.is_drained() {
            self.recv.release();
            self.send.release();
            if self.aborts.capacity() > 0 {
                self.aborts = VecDeque::new();
            }
        }
    }

    /// Closing, with no active request: no further record can matter.
    fn is_mute(&self) -> bool {
        self.closing && self.requests.is_empty()
    }

    /// How many bytes of the current record may be taken into its stream.
    #[inline]
    fn room(&self, record: &Record) -> usize {
        let Some(key) = record.stream() else { return usize::MAX };
        match self.requests.get(key) {
            Some(request) if request.state != ServerState::Aborted => {
                let limits = &self.config.limits;
                limits
                    .unread_request
                    .saturating_sub(request.unread())
                    .min(limits.unread_connection.saturating_sub(self.unread))
            }
            _ => usize::MAX,
        }
    }

    fn next_writable(&mut self) -> Option<RequestKey> {
        loop {
            let key = self.send.unblock(&self.config.limits)?;
            if let Some(request) = self.requests.get_mut(key) {
                request.blocked = false;
                return Some(key);
            }
        }
    }

    #[cold]
    fn fail(&mut self, kind: ProtocolErrorKind) -> ProtocolError {
        let error = ProtocolError { kind, offset: self.recv.record_start() };
        self.error = Some(error);
        self.recv.close();
        self.aborts.clear();
        self.bodiless = None;
        error
    }
}

impl Sealed for ServerConnection {}

impl Connection for ServerConnection {
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
        (self.fresh, self.peer_done) = (None, false);
        self.recv.filled(n)
    }

    fn handle_eof(&mut self) {
        self.eof = true;
        self.recv.set_eof();
    }

    #[inline]
    fn poll_event(&mut self) -> Result<Option<Event>, ProtocolError> {
        if self.is_quiet() { Ok(None) } else { self.next_event() }
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
            && !self.send.is_behind(&self.config.limits)
    }

    fn is_reusable(&self) -> bool {
        self.error.is_none()
            && !self.closing
            && !self.recv.is_eof()
            && self.requests.is_empty()
            && self.recv.is_at_boundary()
            && self.send.is_empty()
    }

    #[inline]
    fn is_closed(&self) -> bool {
        self.send.is_empty() && (self.error.is_some() || self.is_mute())
    }

    #[inline]
    fn active_requests(&self) -> usize {
        self.requests.len()
    }

    fn error(&self) -> Option<ProtocolError> {
        self.error
    }
}
