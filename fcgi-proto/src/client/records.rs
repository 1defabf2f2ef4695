//! What each record means to a web server.

use super::{ClientConnection, Event, Outcome};
use crate::{
    Output, ProtocolErrorKind, Rejection, RequestKey, Values,
    receiver::{Span, Worth},
    record::{BODY_LEN, EndRequestBody, FixedBody, RecordHeader, RecordType},
    states::{ClientState, ClientTrigger},
    values::SmallPairs,
};

/// The record that is being received.
#[derive(Clone, Copy, Debug)]
pub(super) struct Record {
    header: RecordHeader,
    sink: Sink,
}

/// Where a record's content goes.
#[derive(Clone, Copy, Debug)]
enum Sink {
    Skip,
    Body(FixedBody),
    Stream(RequestKey, Output),
    Values,
}

/// A GET_VALUES that this end sent.
#[derive(Debug)]
pub(super) enum Query {
    None,
    Pending(SmallPairs, Values),
}

impl Query {
    pub(super) fn asked() -> Self {
        Self::Pending(SmallPairs::default(), Values::default())
    }
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

impl ClientConnection {
    /// Takes a record of the usual answer in one step, if all of it has come: one of STDOUT, or an
    /// END_REQUEST that completes its request. Returns its event, if it has one. `None` leaves
    /// everything as it was, and the record loop takes the same bytes with the same event.
    #[inline]
    pub(super) fn whole_record(&mut self) -> Option<Option<Event>> {
        let (header, rest) = self.recv.records()?.split_first_chunk()?;
        let header = RecordHeader::decode(*header).ok()?;
        let len = usize::from(header.content_length);
        if rest.len() < len + usize::from(header.padding_length) {
            return None;
        }
        let (key, request) = self.requests.find(header.request_id)?;
        if !matches!(request.state, ClientState::Sending | ClientState::Waiting) {
            return None;
        }
        match header.record_type {
            RecordType::Stdout => {
                let is_tiny = (1..8).contains(&len);
                if is_tiny || request.stdout.is_ended() || self.room_for(request) < len {
                    return None;
                }
                let span = self.recv.take(&header, Worth::Stream);
                self.unread += len;
                let stdout = &mut self.requests.get_mut(key)?.stdout;
                let is_new = if len > 0 { stdout.push(&mut self.recv, span) } else { stdout.end() };
                Some(is_new.then_some(Event::Readable { key, output: Output::Stdout }))
            }
            RecordType::EndRequest if len == BODY_LEN => {
                let body = EndRequestBody::decode(*rest.first_chunk()?);
                let EndRequestBody { app_status, protocol_status: 0 } = body else { return None };
                self.recv.take(&header, Worth::Control);
                let outcome = Outcome::Complete { app_status };
                Some(self.finish(key, ClientTrigger::EndRequest, outcome))
            }
            _ => None,
        }
    }

    #[inline]
    pub(super) fn on_header(&mut self, header: RecordHeader) -> Result<Record, ProtocolErrorKind> {
        let sink = self.sink_for(&header)?;
        let worth = match sink {
            Sink::Stream(..) => Worth::Stream,
            Sink::Values => Worth::Control,
            Sink::Body(_) if self.is_awaited_end(&header) => Worth::Control,
            // Not part of a response, or the one UNKNOWN_TYPE that GET_VALUES may get.
            Sink::Skip | Sink::Body(_) => Worth::Stray,
        };
        self.recv.count(&header, worth, &self.config.limits)?;
        Ok(Record { header, sink })
    }

    /// Whether this is the END_REQUEST of a request that has not ended.
    #[inline]
    fn is_awaited_end(&self, header: &RecordHeader) -> bool {
        let request = self.requests.find(header.request_id);
        header.record_type == RecordType::EndRequest
            && request.is_some_and(|(_, request)| request.state != ClientState::Ended)
    }

    #[inline]
    fn sink_for(&self, header: &RecordHeader) -> Result<Sink, ProtocolErrorKind> {
        let &RecordHeader { record_type, request_id: id, content_length, .. } = header;
        let body = || {
            if usize::from(content_length) == BODY_LEN {
                Ok(Sink::Body(FixedBody::default()))
            } else {
                Err(ProtocolErrorKind::ContentLength { record_type, length: content_length })
            }
        };
        match record_type {
            RecordType::BeginRequest
            | RecordType::AbortRequest
            | RecordType::Params
            | RecordType::Stdin
            | RecordType::Data
            | RecordType::GetValues => Err(ProtocolErrorKind::WrongDirection(record_type)),
            RecordType::UnknownType if id == 0 => body(),
            // An answer that nobody asked for is skipped.
            RecordType::GetValuesResult if id == 0 => match self.query {
                Query::Pending(..) => Ok(Sink::Values),
                Query::None => Ok(Sink::Skip),
            },
            RecordType::UnknownType | RecordType::GetValuesResult | RecordType::Other(_) => {
                Ok(Sink::Skip)
            }
            _ if id == 0 => Err(ProtocolErrorKind::ZeroRequestId(record_type)),
            RecordType::EndRequest => body(),
            RecordType::Stdout => self.stream_sink(header, Output::Stdout),
            RecordType::Stderr => self.stream_sink(header, Output::Stderr),
        }
    }

    #[inline]
    fn stream_sink(
        &self,
        header: &RecordHeader,
        output: Output,
    ) -> Result<Sink, ProtocolErrorKind> {
        let &RecordHeader { record_type, request_id, content_length, .. } = header;
        let Some((key, request)) = self.requests.find(request_id) else {
            return Ok(Sink::Skip); // FC-3.3-6, Q-12
        };
        if request.state == ClientState::Ended {
            return Ok(Sink::Skip);
        }
        let ended = match output {
            Output::Stdout => request.stdout.is_ended(),
            Output::Stderr => request.stderr.is_ended(),
        };
        match (ended, content_length) {
            (false, _) => Ok(Sink::Stream(key, output)),
            (true, 0) => Ok(Sink::Skip),
            (true, _) => Err(ProtocolErrorKind::DataAfterEnd { record_type, request_id }),
        }
    }

    #[inline]
    pub(super) fn on_content(&mut self, record: &mut Record, span: Span) -> Option<Event> {
        match &mut record.sink {
            Sink::Skip => {}
            Sink::Body(body) => body.push(self.recv.bytes(span)),
            Sink::Values => {
                if let Query::Pending(pairs, values) = &mut self.query {
                    pairs.push(self.recv.bytes(span), |name, value| values.learn(name, value));
                }
            }
            &mut Sink::Stream(key, output) => {
                let request = self.requests.get_mut(key)?;
                if request.state == ClientState::Aborting {
                    return None;
                }
                self.unread += span.len();
                if request.inbound(output).push(&mut self.recv, span) {
                    return Some(Event::Readable { key, output });
                }
            }
        }
        None
    }

    #[inline]
    pub(super) fn on_end(&mut self, record: Record) -> Result<Option<Event>, ProtocolErrorKind> {
        let Record { header, sink } = record;
        match sink {
            Sink::Body(body) if header.record_type == RecordType::EndRequest => {
                self.end_request(header.request_id, EndRequestBody::decode(body.bytes()))
            }
            Sink::Body(body) => Ok(Some(self.unknown_type(body.bytes()[0]))),
            Sink::Stream(key, output) if header.content_length == 0 => {
                let ended = self.requests.get_mut(key).is_some_and(|r| r.inbound(output).end());
                Ok(ended.then_some(Event::Readable { key, output }))
            }
            Sink::Values => match core::mem::replace(&mut self.query, Query::None) {
                Query::Pending(_, values) => Ok(Some(Event::Values(values))),
                Query::None => Ok(None),
            },
            Sink::Skip | Sink::Stream(..) => Ok(None),
        }
    }

    #[inline]
    fn end_request(
        &mut self,
        id: u16,
        body: EndRequestBody,
    ) -> Result<Option<Event>, ProtocolErrorKind> {
        let EndRequestBody { app_status, protocol_status } = body;
        let outcome = match (protocol_status, Rejection::from_u8(protocol_status)) {
            (0, _) => Outcome::Complete { app_status },
            (_, Some(rejection)) => Outcome::Rejected(rejection),
            (status, None) => {
                return Err(ProtocolErrorKind::ProtocolStatus { request_id: id, status });
            }
        };
        match self.requests.key(id) {
            Some(key) => Ok(self.finish(key, ClientTrigger::EndRequest, outcome)),
            None => {
                self.free_tombstone(id);
                Ok(None)
            }
        }
    }

    /// An application that does not know GET_VALUES will give no other answer to it.
    fn unknown_type(&mut self, record_type: u8) -> Event {
        if record_type == RecordType::GetValues.as_u8() {
            self.query = Query::None;
        }
        Event::UnknownType(record_type)
    }
}
