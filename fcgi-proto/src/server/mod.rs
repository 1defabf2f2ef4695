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

mod records;
mod request;

use alloc::{boxed::Box, collections::VecDeque};
use core::fmt;

use bytes::{Bytes, BytesMut};

pub use request::Request;

use crate::{
    Connection, FullRequest, Input, Limits, Params, ProtocolError, ProtocolErrorKind, Rejection,
    RequestKey, Role, Transmit, UsageError, Values,
    connection::sealed::Sealed,
    inbound::Inbound,
    params::ParamsDecoder,
    receiver::Receiver,
    record::{EndRequestBody, RecordType},
    requests::Requests,
    sender::SendQueue,
    states::{ServerState, ServerTrigger},
    values::{Asked, SmallPairs},
};
use records::{Found, Record};

// Each page has a Content-Length. Otherwise a gateway could not know that it is complete, given the
// status that its request ends with.
/// The answer to a Responder whose PARAMS are malformed (FC-3.4-5).
const BAD_REQUEST: &[u8] = b"Status: 400 Bad Request\r\nContent-Type: text/plain\r\n\
    Content-Length: 12\r\n\r\nBad Request\n";
/// The answer to a Responder whose request is refused (W-2).
const UNAVAILABLE: &[u8] = b"Status: 503 Service Unavailable\r\nContent-Type: text/plain\r\n\
    Content-Length: 20\r\n\r\nService Unavailable\n";
/// The answer to a request that failed before anything was written (W-15). From an Authorizer it
/// means "denied".
const INTERNAL_ERROR: &[u8] = b"Status: 500 Internal Server Error\r\nContent-Type: text/plain\r\n\
    Content-Length: 22\r\n\r\nInternal Server Error\n";
/// The app status of a request that ends before the application has seen it.
const NOT_RUN: u32 = 1;

/// The roles that an application supports.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Roles(u8);

impl Roles {
    /// Responder, Authorizer and Filter.
    pub const ALL: Self = Self(0b111);
    /// Responder only.
    pub const RESPONDER: Self = Self::of(Role::Responder);

    /// One role; join several with [`and`](Self::and).
    #[must_use]
    pub const fn of(role: Role) -> Self {
        Self(1 << (role.as_u16() - 1))
    }

    /// These roles and one more.
    #[must_use]
    pub const fn and(self, role: Role) -> Self {
        Self(self.0 | Self::of(role).0)
    }

    /// Whether the role is among them.
    #[must_use]
    pub const fn contains(self, role: Role) -> bool {
        self.0 & Self::of(role).0 != 0
    }
}

/// How a [`ServerConnection`] behaves.
#[derive(Clone, Copy, Debug)]
pub struct ServerConfig {
    /// Default [`Limits::server`].
    pub limits: Limits,
    /// The roles offered; other requests get UNKNOWN_ROLE (FC-5.1-2). Default all three.
    pub roles: Roles,
    /// The values of FCGI_MAX_CONNS and FCGI_MAX_REQS with which GET_VALUES is answered; the code
    /// that accepts connections knows them (FC-4.1-2). `None`, the default, omits a name.
    /// FCGI_MPXS_CONNS always follows [`Limits::requests`].
    pub values: Values,
    /// Whether a Responder's rejection comes with a short `Status: 503` on STDOUT. Some web servers
    /// turn a bare OVERLOADED into an empty 200 (W-2). Default true.
    pub rejection_body: bool,
    /// Whether a request that [fails](Request::fail) before anything was written gets a short
    /// `Status: 500` on STDOUT. Some web servers turn such an end into an empty 200 (W-15). Default
    /// true.
    pub failure_body: bool,
}

impl Default for ServerConfig {
    fn default() -> Self {
        Self {
            limits: Limits::server(),
            roles: Roles::ALL,
            values: Values::default(),
            rejection_body: true,
            failure_body: true,
        }
    }
}

/// What a [`ServerConnection`] reports.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// A request whose PARAMS are complete. [`ServerConnection::request`] gives access to its
    /// streams.
    Request {
        /// Identifies the request from now on.
        key: RequestKey,
        /// The role that it asks for.
        role: Role,
        /// Its parameters.
        params: Params,
        /// Whether the connection stays open afterwards (FC-3.5-1).
        keep_conn: bool,
    },
    /// A stream without unread bytes now has some, or has ended.
    Readable {
        /// The request.
        key: RequestKey,
        /// The stream.
        input: Input,
    },
    /// A request whose `write` did not take everything can write again.
    Writable {
        /// The request.
        key: RequestKey,
    },
    /// The web server aborted a request. The application should end it as soon as it can, with a
    /// status of its choice (FC-5.4-1).
    Aborted {
        /// The request.
        key: RequestKey,
        /// Why it was aborted.
        reason: AbortReason,
    },
}

/// Why a request was aborted.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum AbortReason {
    /// ABORT_REQUEST.
    Requested,
    /// The connection ended before the request's input did, or in both directions.
    Disconnected,
    /// More unread input than [`Limits::unread_request`], under [`FullRequest::Abort`].
    Overrun,
}

/// The application's end of a connection, without IO. See the [module](self).
///
/// Beside the methods of [`Connection`]: **commands** `request`, `shutdown`, `fail_all`;
/// **`handle_*`** `handle_disconnect`; **getters** `queued`, `is_cut`, `is_input_pending`,
/// `is_between_records`.
pub struct ServerConnection {
    config: ServerConfig,
    recv: Receiver,
    send: SendQueue,
    requests: Requests<State>,
    record: Record,
    /// A GET_VALUES that is being received.
    query: Option<Box<(SmallPairs, Asked)>>,
    /// Unread bytes of all requests, and bytes of all PARAMS that have not ended.
    unread: usize,
    params_bytes: usize,
    /// A request to report as readable: its STDIN ended together with its start.
    readable: Option<RequestKey>,
    /// Aborts to report.
    aborts: VecDeque<(RequestKey, AbortReason)>,
    closing: bool,
    input_pending: bool,
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

/// How a request ends.
#[derive(Clone, Copy, Debug)]
enum Ending {
    /// The application's own status.
    Complete(u32),
    Rejected(Rejection),
    /// It failed before anything was written.
    Failed(u32),
    /// Malformed PARAMS (FC-3.4-5).
    BadParams,
    /// Aborted before the application saw it.
    NotRun,
}

impl State {
    #[inline]
    fn new(state: ServerState, role: Role, keep_conn: bool, params: ParamsDecoder) -> Self {
        Self {
            state,
            role,
            keep_conn,
            params,
            stdin: Inbound::default(),
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
    /// The state machine for a newly accepted connection.
    #[must_use]
    pub fn new(mut config: ServerConfig) -> Self {
        config.limits = config.limits.usable();
        Self {
            recv: Receiver::new(&config.limits),
            config,
            send: SendQueue::default(),
            requests: Requests::new(),
            record: Record::skip(),
            query: None,
            unread: 0,
            params_bytes: 0,
            readable: None,
            aborts: VecDeque::new(),
            closing: false,
            input_pending: false,
            cut: false,
            eof: false,
            eof_seen: false,
            gone: false,
            error: None,
        }
    }

    /// An active request that was reported. `None` once it has ended, and after a protocol error.
    pub fn request(&mut self, key: RequestKey) -> Option<Request<'_>> {
        if self.error.is_some() {
            return None;
        }
        let state = self.requests.get(key)?.state;
        (state != ServerState::Params).then_some(Request { connection: self, key })
    }

    /// Refuses new requests and closes the connection once the active ones end, immediately if there
    /// are none (FC-7-1). A request that begins meanwhile gets OVERLOADED.
    pub fn shutdown(&mut self) {
        self.closing = true;
        self.drop_unheard();
    }

    /// Ends every request as [failed](Request::fail), and then the connection. Requests without
    /// output get their page and END_REQUEST; responses that have begun are cut off.
    pub fn fail_all(&mut self, app_status: u32) {
        // A peer that broke the protocol gets nothing more.
        if self.error.is_some() {
            return;
        }
        let requests = self.requests.iter_mut();
        let all: alloc::vec::Vec<_> =
            requests.map(|(key, r)| (key, r.state == ServerState::Params, r.stdout_used)).collect();
        for &(key, unheard, begun) in &all {
            match (unheard, begun) {
                (true, _) => self.end(key, Ending::NotRun),
                (false, false) => self.end(key, Ending::Failed(app_status)),
                (false, true) => false,
            };
        }
        for (key, ..) in all {
            self.cut |= self.remove(key);
        }
        self.close_early();
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

    /// Whether the bytes so far end at the end of a record. If not, the peer owes the rest of one.
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

    /// Drops what arrives after the last request can have begun: nobody needs it.
    fn drop_unheard(&mut self) {
        if self.closing && self.requests.is_empty() {
            self.input_pending |= !self.recv.is_at_boundary();
            self.recv.close();
        }
    }

    /// Whether there is certainly no event: nothing to report and nothing to parse.
    #[must_use]
    #[inline]
    pub fn is_quiet(&self) -> bool {
        self.recv.is_drained()
            && self.aborts.is_empty()
            && self.readable.is_none()
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
                if let Some(key) = self.whole_start() {
                    return Ok(self.request_event(key));
                }
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
        if let Some(key) = self.readable.take() {
            if self.requests.get(key).is_some_and(|r| r.state == ServerState::Complete) {
                return Some(Event::Readable { key, input: Input::Stdin });
            }
        }
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

    /// Under [`FullRequest::Abort`], aborts the request that pauses the connection.
    fn abort_full(&mut self) -> bool {
        let Some(key) = self.record.stream() else { return false };
        let full = self.requests.get(key).is_some_and(|request| {
            request.state == ServerState::Input
                && request.unread() >= self.config.limits.unread_request
        });
        let abort = full && self.config.limits.full_request == FullRequest::Abort;
        if abort {
            self.abort(key, AbortReason::Overrun);
        }
        abort
    }

    /// Reports an abort and drops the request's input.
    fn abort(&mut self, key: RequestKey, reason: AbortReason) {
        let Some(request) = self.requests.get_mut(key) else { return };
        match request.on(ServerTrigger::Abort) {
            Some(ServerState::Aborted) => {
                self.unread -= request.unread();
                request.stdin.discard();
                if let Some(data) = &mut request.data {
                    data.discard();
                }
                self.aborts.push_back((key, reason));
            }
            Some(_) if reason == AbortReason::Requested => {
                self.end(key, Ending::NotRun);
            }
            Some(_) => {
                self.remove(key);
            }
            None => {}
        }
    }

    /// The peer sends no more: incomplete requests fail, and with `all` the complete ones too.
    fn abort_all(&mut self, all: bool) {
        let keys: alloc::vec::Vec<_> = self
            .requests
            .iter_mut()
            .filter(|(_, request)| all || request.state != ServerState::Complete)
            .map(|(key, _)| key)
            .collect();
        for key in keys {
            self.abort(key, AbortReason::Disconnected);
        }
        self.closing = true;
        self.drop_unheard();
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

    /// Ends an active request.
    #[inline]
    fn end(&mut self, key: RequestKey, ending: Ending) -> bool {
        let Some(request) = self.requests.get(key) else { return false };
        self.input_pending |= match request.state {
            ServerState::Complete => false,
            ServerState::Aborted => !request.is_whole(),
            _ => true,
        };
        let &State { role, keep_conn, stdout_used, stderr_used, .. } = request;
        self.unread -= request.unread();
        self.params_bytes -= request.params.received();
        self.requests.forget(key);
        self.send_ending(key.id, Some(role), keep_conn, (stdout_used, stderr_used), ending);
        true
    }

    /// Queues the end of a request: a page if it needs one, the ends of its streams, END_REQUEST.
    fn send_ending(
        &mut self,
        id: u16,
        role: Option<Role>,
        keep_conn: bool,
        (stdout_used, stderr_used): (bool, bool),
        ending: Ending,
    ) {
        let (page, app_status, rejection) = match ending {
            Ending::Complete(app_status) => (None, app_status, None),
            Ending::Failed(app_status) => (Some(INTERNAL_ERROR), app_status, None),
            Ending::Rejected(rejection) => (Some(UNAVAILABLE), 0, Some(rejection)),
            Ending::BadParams => (Some(BAD_REQUEST), NOT_RUN, None),
            Ending::NotRun => (None, NOT_RUN, None),
        };
        self.closing |= !keep_conn;
        self.input_pending |= self.closing;
        if self.gone {
            return self.drop_unheard();
        }
        let page = page.filter(|_| match ending {
            Ending::Failed(_) => self.config.failure_body,
            Ending::Rejected(_) if !self.config.rejection_body => false,
            _ => role == Some(Role::Responder) && !stdout_used,
        });
        let queue = |send: &mut SendQueue| {
            if let Some(page) = page {
                send.stream(RecordType::Stdout, id, &mut Bytes::from_static(page), usize::MAX);
            }
            let protocol_status = rejection.map_or(0, Rejection::as_u8);
            let body = EndRequestBody { app_status, protocol_status };
            let stdout = rejection.is_none() || page.is_some() || stdout_used;
            send.end_request(id, stdout, stderr_used, body);
        };
        match ending {
            Ending::Complete(_) | Ending::Failed(_) => queue(&mut self.send),
            _ => self.send.reply(queue),
        }
        self.drop_unheard();
        self.rest();
    }

    /// Closes the connection once the queue is sent, whatever the peer still sends.
    fn close_early(&mut self) {
        self.closing = true;
        self.input_pending = true;
        self.drop_unheard();
    }

    /// Drops a request in place; false if it is not active.
    fn remove(&mut self, key: RequestKey) -> bool {
        let Some(request) = self.requests.get(key) else { return false };
        self.unread -= request.unread();
        self.params_bytes -= request.params.received();
        self.requests.forget(key);
        true
    }

    #[cold]
    fn fail(&mut self, kind: ProtocolErrorKind) -> ProtocolError {
        let error = ProtocolError { kind, offset: self.recv.record_start() };
        self.error = Some(error);
        self.recv.close();
        self.aborts.clear();
        self.readable = None;
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
    fn handle_recv(&mut self, n: usize) -> Result<(), UsageError> {
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
