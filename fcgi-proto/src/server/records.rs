//! What each record means to an application.

use alloc::boxed::Box;

use super::{AbortReason, Ending, Event, ServerConnection, State};
use crate::{
    Input, ProtocolErrorKind, Rejection, RequestKey, Role, Values,
    inbound::Inbound,
    params::ParamsDecoder,
    receiver::{Span, Worth},
    record::{BODY_LEN, BeginRequestBody, FixedBody, RecordHeader, RecordType},
    states::{ServerState, ServerTrigger},
    values::{Asked, SmallPairs},
};

/// The record that is being received.
#[derive(Debug)]
pub(super) struct Record {
    header: RecordHeader,
    sink: Sink,
}

/// Where a record's content goes.
#[derive(Debug)]
enum Sink {
    Skip,
    Begin(FixedBody),
    Abort(RequestKey),
    Params(RequestKey),
    Stream(RequestKey, Input),
    GetValues(Box<(SmallPairs, Asked)>),
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
    pub(super) fn on_header(&mut self, header: RecordHeader) -> Result<(), ProtocolErrorKind> {
        let sink = self.sink_for(&header)?;
        let worth = match sink {
            Sink::Skip => Worth::Nothing,
            Sink::Begin(_) | Sink::Params(_) => Worth::Start,
            Sink::Abort(key) if !self.is_known(key) => Worth::Nothing,
            Sink::Stream(..) => Worth::Stream,
            _ => Worth::Control,
        };
        self.recv.count(&header, worth, &self.config.limits)?;
        self.record = Record { header, sink };
        Ok(())
    }

    fn sink_for(&self, header: &RecordHeader) -> Result<Sink, ProtocolErrorKind> {
        let &RecordHeader { record_type, request_id: id, content_length, .. } = header;
        match record_type {
            RecordType::EndRequest
            | RecordType::Stdout
            | RecordType::Stderr
            | RecordType::GetValuesResult
            | RecordType::UnknownType => Err(ProtocolErrorKind::WrongDirection(record_type)),
            RecordType::GetValues if id == 0 => Ok(Sink::GetValues(Box::default())),
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
    fn stream_sink(
        &self,
        header: &RecordHeader,
        input: Option<Input>,
    ) -> Result<Sink, ProtocolErrorKind> {
        let &RecordHeader { record_type, request_id, content_length, .. } = header;
        let key = self.requests.key(request_id);
        let Some((key, request)) = key.and_then(|key| Some((key, self.requests.get(key)?))) else {
            return Ok(Sink::Skip); // FC-3.3-6
        };
        let empty = content_length == 0;
        let (ended, sink) = match input {
            None => (request.state != ServerState::Params, Sink::Params(key)),
            Some(input) if !request.role.has_input(input) => {
                // An Authorizer may get an empty STDIN (FC-6.3-1).
                return if empty {
                    Ok(Sink::Skip)
                } else {
                    Err(ProtocolErrorKind::StreamNotInRole { record_type, request_id })
                };
            }
            Some(Input::Stdin) => (request.stdin.is_ended(), Sink::Stream(key, Input::Stdin)),
            Some(Input::Data) => (request.data.is_ended(), Sink::Stream(key, Input::Data)),
        };
        match (ended, empty) {
            (false, _) => Ok(sink),
            (true, true) => Ok(Sink::Skip),
            (true, false) => Err(ProtocolErrorKind::DataAfterEnd { record_type, request_id }),
        }
    }

    pub(super) fn on_content(&mut self, span: Span) -> Result<Option<Event>, ProtocolErrorKind> {
        match &mut self.record.sink {
            Sink::Begin(body) => body.push(self.recv.bytes(span)),
            Sink::GetValues(query) => {
                let (pairs, asked) = &mut **query;
                pairs.push(self.recv.bytes(span), |name, _| asked.note(name));
            }
            &mut Sink::Params(key) => self.on_params(key, span),
            &mut Sink::Stream(key, input) => {
                if let Some(request) = self.requests.get_mut(key) {
                    if request.state != ServerState::Aborted {
                        self.unread += span.len();
                        let announce = request.inbound(input).push(&mut self.recv, span);
                        self.refuse_early(key);
                        return Ok(if announce { self.readable(key, input) } else { None });
                    }
                }
            }
            Sink::Skip | Sink::Abort(_) | Sink::Unknown => {}
        }
        Ok(None)
    }

    pub(super) fn on_end(&mut self) -> Result<Option<Event>, ProtocolErrorKind> {
        let Record { header, sink } = core::mem::replace(&mut self.record, Record::skip());
        match sink {
            Sink::Begin(body) => {
                self.begin(header.request_id, BeginRequestBody::decode(body.bytes()));
            }
            Sink::Abort(key) => self.abort(key, AbortReason::Requested),
            Sink::Params(key) if header.content_length == 0 => return Ok(self.params_end(key)),
            Sink::Stream(key, input) if header.content_length == 0 => {
                return Ok(self.input_end(key, input));
            }
            Sink::GetValues(query) => {
                let values = Values {
                    mpxs_conns: Some(self.config.limits.requests > 1),
                    ..self.config.values
                };
                let answer = query.1.answer(&values);
                self.send.reply(|send| {
                    if answer.is_empty() {
                        send.empty_record(RecordType::GetValuesResult, 0);
                    } else {
                        send.record(RecordType::GetValuesResult, 0, &answer);
                    }
                });
            }
            Sink::Unknown => {
                let body = [header.record_type.as_u8(), 0, 0, 0, 0, 0, 0, 0];
                self.send.reply(|send| send.record(RecordType::UnknownType, 0, &body));
            }
            Sink::Skip | Sink::Params(_) | Sink::Stream(..) => {}
        }
        Ok(None)
    }

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
                self.requests.insert(
                    id,
                    State {
                        state: ServerState::Params,
                        role,
                        keep_conn: body.keep_conn,
                        params: ParamsDecoder::default(),
                        stdin: Inbound::default(),
                        data: Inbound::default(),
                        stdout_used: false,
                        stderr_used: false,
                        blocked: false,
                    },
                );
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
        // Up to the limit and not one byte more, so that of several limits the one that counts is
        // the one whose byte comes first, wherever the bytes are cut (H-13).
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

    fn params_end(&mut self, key: RequestKey) -> Option<Event> {
        let request = self.requests.get_mut(key)?;
        if !request.params.is_whole() {
            self.end(key, Ending::BadParams);
            return None;
        }
        self.params_bytes -= request.params.received();
        let params = core::mem::take(&mut request.params).finish();
        let last = request.role.last_input();
        request.on(last.map_or(ServerTrigger::ParamsEndAll, |_| ServerTrigger::ParamsEnd));
        // STDIN and DATA may have ended before PARAMS did.
        if request.is_whole() {
            request.on(ServerTrigger::InputEnd);
        }
        self.recv.progress();
        let &mut State { role, keep_conn, .. } = request;
        Some(Event::Request { key, role, params, keep_conn })
    }

    fn input_end(&mut self, key: RequestKey, input: Input) -> Option<Event> {
        let request = self.requests.get_mut(key)?;
        let announce = request.inbound(input).end();
        if request.is_whole() {
            request.on(ServerTrigger::InputEnd);
        }
        if announce { self.readable(key, input) } else { None }
    }

    /// The event, unless the application does not know the request yet: `Request` says it all.
    fn readable(&self, key: RequestKey, input: Input) -> Option<Event> {
        self.is_known(key).then_some(Event::Readable { key, input })
    }

    /// Whether the application was told of the request.
    fn is_known(&self, key: RequestKey) -> bool {
        self.requests.get(key).is_some_and(|request| request.state != ServerState::Params)
    }

    /// Refuses a request whose input fills a limit before its PARAMS have ended: nobody could
    /// read it, so that the connection would pause for ever.
    fn refuse_early(&mut self, key: RequestKey) {
        let limits = &self.config.limits;
        let full = self.unread >= limits.unread_connection
            || self.requests.get(key).is_some_and(|r| r.unread() >= limits.unread_request);
        if full && !self.is_known(key) {
            self.end(key, Ending::Rejected(Rejection::Overloaded));
        }
    }
}
