//! What each record means to an application.

use alloc::boxed::Box;

use super::{AbortReason, Ending, Event, ServerConnection, State, Whole};
use crate::{
    Input, Params, ProtocolErrorKind, Rejection, RequestKey, Role, Values,
    inbound::Inbound,
    pairs,
    receiver::{Span, Worth},
    record::{
        BODY_LEN, BeginRequestBody, FixedBody, HEADER_LEN, RecordHeader, RecordType, VERSION,
    },
    states::{ServerState, ServerTrigger},
};

/// The record that is being received.
#[derive(Clone, Copy, Debug)]
pub(super) struct Record {
    header: RecordHeader,
    sink: Sink,
}

/// What a record means for the application.
#[derive(Clone, Copy, Debug)]
pub(super) enum Found {
    Nothing,
    Request(RequestKey),
    Readable(RequestKey, Input),
}

/// Where a record's content goes.
#[derive(Clone, Copy, Debug)]
enum Sink {
    Skip,
    /// A stream that the role does not have. It is skipped, and counted.
    Stray,
    Begin(FixedBody),
    Abort(RequestKey),
    Params(RequestKey),
    Stream(RequestKey, Input),
    /// The connection holds its query.
    GetValues,
    Unknown,
}

impl Record {
    pub(super) fn skip() -> Self {
        Self { header: RecordHeader::new(RecordType::Other(0), 0, 0), sink: Sink::Skip }
    }

    /// The request whose stream the record carries.
    pub(super) fn stream(&self) -> Option<RequestKey> {
        match self.sink {
            Sink::Stream(key, _) => Some(key),
            _ => None,
        }
    }
}

impl ServerConnection {
    #[inline]
    pub(super) fn on_header(&mut self, header: RecordHeader) -> Result<Record, ProtocolErrorKind> {
        let sink = self.sink_for(&header)?;
        let worth = match sink {
            Sink::Skip => Worth::Nothing,
            Sink::Stray => Worth::Stray,
            Sink::Begin(_) | Sink::Params(_) => Worth::Start,
            Sink::Abort(key) if !self.is_known(key) => Worth::Nothing,
            Sink::Stream(..) => Worth::Stream,
            _ => Worth::Control,
        };
        self.recv.count(&header, worth, &self.config.limits)?;
        if let Sink::GetValues = sink {
            self.query = Some(Box::default());
        }
        Ok(Record { header, sink })
    }

    #[inline]
    fn sink_for(&self, header: &RecordHeader) -> Result<Sink, ProtocolErrorKind> {
        let &RecordHeader { record_type, request_id: id, content_length, .. } = header;
        match record_type {
            RecordType::EndRequest
            | RecordType::Stdout
            | RecordType::Stderr
            | RecordType::GetValuesResult
            | RecordType::UnknownType => Err(ProtocolErrorKind::WrongDirection(record_type)),
            RecordType::GetValues if id == 0 => Ok(Sink::GetValues),
            RecordType::Other(_) if id == 0 => Ok(Sink::Unknown),
            RecordType::GetValues | RecordType::Other(_) => Ok(Sink::Skip),
            _ if id == 0 => Err(ProtocolErrorKind::ZeroRequestId(record_type)),
            RecordType::BeginRequest if usize::from(content_length) != BODY_LEN => {
                Err(ProtocolErrorKind::ContentLength { record_type, length: content_length })
            }
            RecordType::BeginRequest if self.requests.key(id).is_some() => {
                Err(ProtocolErrorKind::DuplicateBegin(id))
            }
            RecordType::BeginRequest => Ok(Sink::Begin(FixedBody::default())),
            RecordType::AbortRequest => Ok(self.requests.key(id).map_or(Sink::Skip, Sink::Abort)),
            RecordType::Params => self.stream_sink(header, None),
            RecordType::Stdin => self.stream_sink(header, Some(Input::Stdin)),
            RecordType::Data => self.stream_sink(header, Some(Input::Data)),
        }
    }

    /// A record of PARAMS (`None`) or of an input stream.
    #[inline]
    fn stream_sink(
        &self,
        header: &RecordHeader,
        input: Option<Input>,
    ) -> Result<Sink, ProtocolErrorKind> {
        let &RecordHeader { record_type, request_id, content_length, .. } = header;
        let Some((key, request)) = self.requests.find(request_id) else {
            return Ok(Sink::Skip); // FC-3.3-6
        };
        let empty = content_length == 0;
        let (ended, sink) = match input {
            None => (request.state != ServerState::Params, Sink::Params(key)),
            Some(input) if !request.role.has_input(input) => {
                // Some web servers send an Authorizer the client's body too (FC-6.3-1).
                return Ok(if empty { Sink::Skip } else { Sink::Stray });
            }
            Some(Input::Stdin) => (request.stdin.is_ended(), Sink::Stream(key, Input::Stdin)),
            Some(Input::Data) => (request.is_data_ended(), Sink::Stream(key, Input::Data)),
        };
        match (ended, empty) {
            (false, _) => Ok(sink),
            (true, true) => Ok(Sink::Skip),
            (true, false) => Err(ProtocolErrorKind::DataAfterEnd { record_type, request_id }),
        }
    }

    #[inline]
    pub(super) fn on_content(&mut self, record: &mut Record, span: Span) -> Found {
        match &mut record.sink {
            Sink::Begin(body) => body.push(self.recv.bytes(span)),
            Sink::GetValues => {
                if let Some((pairs, asked)) = self.query.as_deref_mut() {
                    pairs.push(self.recv.bytes(span), |name, _| asked.note(name));
                }
            }
            &mut Sink::Params(key) => self.on_params(key, span),
            &mut Sink::Stream(key, input) => return self.on_input(key, input, span),
            Sink::Skip | Sink::Stray | Sink::Abort(_) | Sink::Unknown => {}
        }
        Found::Nothing
    }

    fn on_input(&mut self, key: RequestKey, input: Input, span: Span) -> Found {
        let Some(request) = self.requests.get_mut(key) else { return Found::Nothing };
        if request.state == ServerState::Aborted {
            return Found::Nothing;
        }
        self.unread += span.len();
        let announce = request.inbound(input).push(&mut self.recv, span);
        self.refuse_early(key);
        if announce { self.readable(key, input) } else { Found::Nothing }
    }

    #[inline]
    pub(super) fn on_end(&mut self, Record { header, sink }: Record) -> Found {
        match sink {
            Sink::Begin(body) => {
                self.begin(header.request_id, BeginRequestBody::decode(body.bytes()));
            }
            Sink::Abort(key) => self.abort(key, AbortReason::Requested),
            Sink::Params(key) if header.content_length == 0 => return self.params_end(key),
            Sink::Stream(key, input) if header.content_length == 0 => {
                return self.input_end(key, input);
            }
            Sink::GetValues => self.answer_query(),
            Sink::Unknown => {
                let body = [header.record_type.as_u8(), 0, 0, 0, 0, 0, 0, 0];
                self.send.reply(|send| send.record(RecordType::UnknownType, 0, &body));
            }
            Sink::Skip | Sink::Stray | Sink::Params(_) | Sink::Stream(..) => {}
        }
        Found::Nothing
    }

    #[cold]
    fn answer_query(&mut self) {
        let Some(query) = self.query.take() else { return };
        let values =
            Values { mpxs_conns: Some(self.config.limits.requests > 1), ..self.config.values };
        let answer = query.1.answer(&values);
        self.send.reply(|send| {
            if answer.is_empty() {
                send.empty_record(RecordType::GetValuesResult, 0);
            } else {
                send.record(RecordType::GetValuesResult, 0, &answer);
            }
        });
    }

    #[inline]
    fn begin(&mut self, id: u16, body: BeginRequestBody) {
        let limits = &self.config.limits;
        let role = Role::from_u16(body.role).filter(|role| self.config.roles.contains(*role));
        let rejection = if role.is_none() {
            Some(Rejection::UnknownRole)
        } else if self.closing {
            Some(Rejection::Overloaded)
        } else if self.requests.len() >= limits.requests {
            Some(if limits.requests == 1 { Rejection::CantMpxConn } else { Rejection::Overloaded })
        } else {
            None
        };
        match (role, rejection) {
            (Some(role), None) => {
                let key = self.requests.insert_with(id, || {
                    State::new(ServerState::Params, role, body.keep_conn, Inbound::default())
                });
                self.fresh = Some(key);
            }
            (_, rejection) => {
                self.input_pending = true;
                let ending = Ending::Rejected(rejection.unwrap_or(Rejection::UnknownRole));
                let role = Role::from_u16(body.role);
                self.send_ending(id, role, body.keep_conn, (false, false), ending);
            }
        }
    }

    fn on_params(&mut self, key: RequestKey, span: Span) {
        let limits = &self.config.limits;
        let Some(request) = self.requests.get_mut(key) else { return };
        // Takes bytes up to the limit and not one more. When several limits are close, the first
        // one to be reached decides, wherever the bytes are cut (H-13).
        let room = limits.params_bytes_connection.saturating_sub(self.params_bytes);
        let before = request.params.received();
        let input = self.recv.bytes(span);
        let result = request.params.push(&input[..input.len().min(room)], limits);
        self.params_bytes += request.params.received() - before;
        if result.is_err() {
            self.end(key, Ending::BadParams);
        } else if span.len() > room {
            self.end(key, Ending::Rejected(Rejection::Overloaded));
        }
    }

    #[inline]
    fn params_end(&mut self, key: RequestKey) -> Found {
        let Some(request) = self.requests.get_mut(key) else { return Found::Nothing };
        if !request.params.is_whole() {
            self.end(key, Ending::BadParams);
            return Found::Nothing;
        }
        self.params_bytes -= request.params.received();
        let last = request.role.last_input();
        request.on(last.map_or(ServerTrigger::ParamsEndAll, |_| ServerTrigger::ParamsEnd));
        // STDIN and DATA may have ended before PARAMS did.
        if request.is_whole() {
            request.on(ServerTrigger::InputEnd);
        }
        self.recv.request_started();
        Found::Request(key)
    }

    /// The fast path: takes the start of a request that has come in one piece, as most do:
    /// BEGIN_REQUEST, PARAMS in one record, and their end. Anything else is taken record by record,
    /// with the same result. The end of STDIN behind it is left to the next event, as it would be
    /// then; or, with `whole`, it is taken too, and a request that needs more input is left alone.
    #[inline]
    pub(super) fn whole_start(
        &mut self,
        whole: bool,
        memory: impl FnOnce() -> Params,
    ) -> Option<Whole> {
        const BEGIN: u8 = RecordType::BeginRequest.as_u8();
        const PARAMS: u8 = RecordType::Params.as_u8();
        const STDIN: u8 = RecordType::Stdin.as_u8();
        let limits = &self.config.limits;
        let (begin, rest) =
            self.recv.records()?.split_first_chunk::<{ HEADER_LEN + BODY_LEN }>()?;
        let &[VERSION, BEGIN, i, j, 0, 8, 0, _, r, s, flags, ..] = begin else { return None };
        let (head, rest) = rest.split_first_chunk::<HEADER_LEN>()?;
        let &[VERSION, PARAMS, k, l, m, n, padding, _] = head else { return None };
        let len = usize::from(u16::from_be_bytes([m, n]));
        let (content, rest) = rest.split_at_checked(len)?;
        let end = rest.get(usize::from(padding)..)?.first_chunk::<HEADER_LEN>()?;
        let &[VERSION, PARAMS, o, p, 0, 0, 0, _] = end else { return None };
        let id = u16::from_be_bytes([i, j]);
        let role = Role::from_u16(u16::from_be_bytes([r, s]))?;
        let plain = id != 0
            && [k, l] == [i, j]
            && [o, p] == [i, j]
            && len >= 8
            && len <= limits.params_bytes.min(limits.params_bytes_connection)
            && self.config.roles.contains(role)
            && !self.closing
            && limits.requests > 0;
        if !plain {
            return None;
        }
        let trigger = match role {
            Role::Responder | Role::Filter => ServerTrigger::ParamsEnd,
            Role::Authorizer => ServerTrigger::ParamsEndAll,
        };
        let mut state = ServerState::Params.on(trigger)?;
        // No body: the end of STDIN has come too.
        let behind = rest.get(usize::from(padding) + HEADER_LEN..).unwrap_or_default();
        let bodiless = role == Role::Responder
            && matches!(behind, &[VERSION, STDIN, o, p, 0, 0, 0, _, ..] if [o, p] == [i, j]);
        let ends = whole && bodiless;
        if ends {
            state = state.on(ServerTrigger::InputEnd)?;
        }
        if whole && state != ServerState::Complete {
            return None;
        }
        let count = pairs::count_whole(content).filter(|count| *count <= limits.params_pairs)?;
        let params = Params::copied(content, count, memory());
        self.recv.skip(3 * HEADER_LEN + BODY_LEN + len + usize::from(padding));
        self.recv.request_started();
        let keep_conn = flags & 1 != 0;
        let mut stdin = Inbound::default();
        if ends {
            self.recv.skip(HEADER_LEN);
            stdin.end();
        }
        let key = self.requests.insert_with(id, || State::new(state, role, keep_conn, stdin));
        self.bodiless = (bodiless && !ends).then_some(key);
        self.fresh = (!ends || self.recv.is_drained()).then_some(key);
        Some(Whole { key, role, keep_conn, params })
    }

    /// Takes the end of STDIN behind a request's [`whole_start`](Self::whole_start). In the
    /// meantime the application has heard of the request, and may have ended it.
    #[inline]
    pub(super) fn end_of_whole(&mut self) -> Option<Event> {
        let key = self.bodiless.take()?;
        self.requests.get(key).filter(|request| request.state == ServerState::Input)?;
        self.recv.skip(HEADER_LEN);
        self.recv.progress();
        match self.input_end(key, Input::Stdin) {
            Found::Readable(key, input) => Some(Event::Readable { key, input }),
            Found::Nothing | Found::Request(_) => None,
        }
    }

    /// The event for a request whose PARAMS have just ended.
    #[inline]
    pub(super) fn request_event(&mut self, key: RequestKey) -> Option<Event> {
        let request = self.requests.get_mut(key)?;
        let &mut State { role, keep_conn, .. } = request;
        let params = request.params.finish();
        Some(Event::Request { key, role, params, keep_conn })
    }

    #[inline]
    fn input_end(&mut self, key: RequestKey, input: Input) -> Found {
        let Some(request) = self.requests.get_mut(key) else { return Found::Nothing };
        let announce = request.inbound(input).end();
        if request.is_whole() {
            request.on(ServerTrigger::InputEnd);
            // A peer that has sent something behind it may send more.
            self.fresh = self.fresh.filter(|_| self.recv.is_drained());
        }
        if announce { self.readable(key, input) } else { Found::Nothing }
    }

    /// The event, unless the application does not know the request yet: then `Request` will be
    /// enough.
    #[inline]
    fn readable(&self, key: RequestKey, input: Input) -> Found {
        if self.is_known(key) { Found::Readable(key, input) } else { Found::Nothing }
    }

    /// Whether the request was reported to the application.
    fn is_known(&self, key: RequestKey) -> bool {
        self.requests.get(key).is_some_and(|request| request.state != ServerState::Params)
    }

    /// Refuses a request whose input fills a limit before its PARAMS have ended. Nobody could read
    /// it, so the connection would pause for ever.
    fn refuse_early(&mut self, key: RequestKey) {
        let limits = &self.config.limits;
        let full = self.unread >= limits.unread_connection
            || self.requests.get(key).is_some_and(|r| r.unread() >= limits.unread_request);
        if full && !self.is_known(key) {
            self.end(key, Ending::Rejected(Rejection::Overloaded));
        }
    }
}
