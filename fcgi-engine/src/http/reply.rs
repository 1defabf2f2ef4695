//! A server's answer to one request, step by step.

use bytes::Bytes;
use fcgi_http::{
    BodyLength, HeadBlock, MetaVariables, PathSource, authorizer,
    request::{self, RequestError},
    response::{self, HeadWriteError},
};
use fcgi_proto::{Input, Params, Rejection, Role};
use http::{
    Method, Request, Response, StatusCode, Uri, header::CONTENT_LENGTH,
    request::Parts as RequestParts, response::Parts as ResponseParts,
};

use super::{BoxError, FilterData};
use crate::{
    server::{FAILED, Failed},
    text::{chain, escape},
};

/// A server's answer to one request. It says what to do next, and the caller reports the result.
///
/// [`Reply::responder`] and [`Reply::authorizer`] return what to ask the service, if the parameters
/// describe an HTTP request at all. Report the service's answer with
/// [`handle_response`](Self::handle_response) or [`handle_decision`](Self::handle_decision). Then do
/// what [`step`](Self::step) says, until its end. A failure is [`Failed`]: the server turns it into a
/// page with status 500 if nothing was sent, and otherwise cuts the response off (W-12, W-15).
///
/// ```
/// use fcgi_engine::http::{Reply, ReplyStep};
/// use fcgi_http::PathSource;
/// use fcgi_proto::{Params, Role};
///
/// let params = Params::from_iter([("REQUEST_METHOD", "GET"), ("REQUEST_URI", "/")]);
/// let (mut reply, asked) = Reply::responder(Role::Responder, params, PathSource::RequestUri);
/// assert_eq!(asked.unwrap().into_request(|_, _| ()).uri(), "/");
/// let body = reply.handle_response(Ok(http::Response::new("ok")), |body| Some(body.len() as u64));
/// assert_eq!(body, Some("ok"));
/// assert!(matches!(reply.step(), ReplyStep::Look));
/// reply.handle_body(Ok(Some("ok".into())));
/// let ReplyStep::Record(head) = reply.step() else { panic!("the head comes first") };
/// assert_eq!(head, "Status: 200 OK\r\ncontent-length: 2\r\n\r\n");
/// assert!(matches!(reply.step(), ReplyStep::Write(body) if body == "ok"));
/// assert!(matches!(reply.step(), ReplyStep::Read));
/// reply.handle_body(Ok(None));
/// assert!(matches!(reply.step(), ReplyStep::End));
/// assert_eq!(reply.end(), Ok(0));
/// ```
#[derive(Debug)]
pub struct Reply {
    method: Method,
    /// For the log.
    uri: Uri,
    rejection: Option<Rejection>,
    /// Kept until it is sent.
    head: Option<HeadBlock>,
    /// The body was asked for its first bytes.
    looked: bool,
    data: Bytes,
    length: BodyLength,
    end: Option<Result<u32, Failed>>,
}

/// What to do next for a [`Reply`].
#[derive(Debug)]
pub enum ReplyStep {
    /// End the request with this status instead of REQUEST_COMPLETE.
    Reject(Rejection),
    /// Write these bytes in one record (W-1). If that fails, call [`Reply::handle_gone`].
    Record(Bytes),
    /// Write these bytes. If that fails, call [`Reply::handle_gone`].
    Write(Bytes),
    /// Pass the body's first bytes to [`Reply::handle_body`] if they are available at once: the
    /// head is sent together with them. Otherwise call [`Reply::handle_pending`].
    Look,
    /// Wait for the body's next bytes, and pass them to [`Reply::handle_body`].
    Read,
    /// Nothing: the handler returns [`Reply::end`].
    End,
}

/// What to ask a service.
#[derive(Debug)]
pub struct Asked {
    parts: RequestParts,
    role: Role,
    content_length: Option<u64>,
}

impl Asked {
    /// The head, to which an adapter can add extensions.
    pub fn head(&mut self) -> &mut RequestParts {
        &mut self.parts
    }

    /// The request, with the body that the given function makes of a stream and its declared
    /// length. A Filter's request has [`FilterData`] in its extensions.
    pub fn into_request<B: Send + 'static>(
        self,
        body: impl Fn(Input, Option<u64>) -> B,
    ) -> Request<B> {
        let Self { mut parts, role, content_length } = self;
        if role == Role::Filter {
            let length = parts.extensions.get().and_then(MetaVariables::data_length);
            parts.extensions.insert(FilterData::new(body(Input::Data, length)));
        }
        Request::from_parts(parts, body(Input::Stdin, content_length))
    }
}

impl Reply {
    /// The reply to a Responder's or Filter's request; `path` says where its path is. An
    /// Authorizer's request gets UNKNOWN_ROLE.
    #[must_use]
    pub fn responder(role: Role, params: Params, path: PathSource) -> (Self, Option<Asked>) {
        if role == Role::Authorizer { Self::rejected() } else { Self::new(role, params, path) }
    }

    /// The reply to an Authorizer's request, which has no body. Other roles get UNKNOWN_ROLE.
    #[must_use]
    pub fn authorizer(role: Role, params: Params) -> (Self, Option<Asked>) {
        if role == Role::Authorizer {
            Self::new(role, params, PathSource::RequestUri)
        } else {
            Self::rejected()
        }
    }

    fn new(role: Role, params: Params, path: PathSource) -> (Self, Option<Asked>) {
        match asked(role, params, path) {
            Ok(asked) => {
                let reply = Self::to(asked.parts.method.clone(), asked.parts.uri.clone());
                (reply, Some(asked))
            }
            Err(error) => {
                tracing::warn!(error = %chain(&error), "request refused");
                let mut reply = Self::to(Method::GET, Uri::default());
                let (parts, text) = response::page(StatusCode::BAD_REQUEST).into_parts();
                reply.head = HeadBlock::new(&parts).ok();
                reply.data = text.into();
                reply.end = Some(Ok(FAILED));
                (reply, None)
            }
        }
    }

    fn rejected() -> (Self, Option<Asked>) {
        let mut reply = Self::to(Method::GET, Uri::default());
        reply.rejection = Some(Rejection::UnknownRole);
        reply.end = Some(Ok(FAILED));
        (reply, None)
    }

    fn to(method: Method, uri: Uri) -> Self {
        Self {
            method,
            uri,
            rejection: None,
            head: None,
            looked: false,
            data: Bytes::new(),
            length: BodyLength::dropped(),
            end: None,
        }
    }

    /// Takes the service's response, or why there is none. Returns the body to send, whose length
    /// `known` says, if it is known.
    pub fn handle_response<B>(
        &mut self,
        answer: Result<Response<B>, BoxError>,
        known: impl FnOnce(&B) -> Option<u64>,
    ) -> Option<B> {
        match answer {
            Ok(response) => Some(self.start(response, known, HeadBlock::new)),
            Err(error) => {
                self.fail(error);
                None
            }
        }
    }

    /// Takes an Authorizer's decision, or why there is none (FC-6.3-2): it allows the request with
    /// these variables, or else denies it with a response, whose body is returned.
    pub fn handle_decision<B>(
        &mut self,
        decision: Result<Result<Params, Response<B>>, BoxError>,
        known: impl FnOnce(&B) -> Option<u64>,
    ) -> Option<B> {
        match decision {
            Ok(Err(denied)) => return Some(self.start(denied, known, authorizer::deny)),
            Ok(Ok(variables)) => match authorizer::allow(&variables) {
                Ok(head) => {
                    self.head = Some(head);
                    self.end = Some(Ok(0));
                }
                Err(error) => self.fail(error),
            },
            Err(error) => self.fail(error),
        }
        None
    }

    fn start<B>(
        &mut self,
        response: Response<B>,
        known: impl FnOnce(&B) -> Option<u64>,
        block: fn(&ResponseParts) -> Result<HeadBlock, HeadWriteError>,
    ) -> B {
        let (mut parts, body) = response.into_parts();
        let known = known(&body);
        let length = BodyLength::to_send(&mut parts, &self.method, known);
        let sized = length.map_err(HeadWriteError::from);
        match sized.and_then(|length| Ok((length, block(&parts)?))) {
            Ok((length, head)) => {
                self.head = Some(head);
                self.length = length;
                if length.is_dropped() {
                    self.end = Some(Ok(0));
                }
            }
            Err(error) => self.fail(error),
        }
        body
    }

    /// The service failed, or the body of its response did.
    fn fail(&mut self, error: impl Into<BoxError>) {
        self.log(&*error.into());
        self.handle_gone();
    }

    fn log(&self, error: &(dyn std::error::Error + 'static)) {
        let path = escape(self.uri.path().as_bytes(), b"");
        let error = chain(error);
        tracing::warn!(%error, method = %self.method, %path, "the service failed");
    }

    /// What to do next.
    pub fn step(&mut self) -> ReplyStep {
        if let Some(rejection) = self.rejection.take() {
            return ReplyStep::Reject(rejection);
        }
        if self.looked || self.end.is_some() {
            if let Some(head) = self.head.take() {
                return ReplyStep::Record(head.into_bytes());
            }
        }
        if !self.data.is_empty() {
            return ReplyStep::Write(std::mem::take(&mut self.data));
        }
        match self.end {
            Some(_) => ReplyStep::End,
            None if self.looked => ReplyStep::Read,
            None => ReplyStep::Look,
        }
    }

    /// The app status, or that the response is incomplete.
    ///
    /// # Errors
    /// [`Failed`] if the response was cut off, was not begun, or has no reader.
    pub fn end(&self) -> Result<u32, Failed> {
        self.end.unwrap_or(Err(Failed))
    }

    /// Takes the next bytes of the body, its end, or its error. Bytes past its Content-Length are
    /// dropped (W-4).
    pub fn handle_body(&mut self, chunk: Result<Option<Bytes>, BoxError>) {
        match chunk {
            Ok(Some(mut bytes)) => {
                self.looked = true;
                let counted = self.length.cut(&mut bytes);
                self.data = bytes;
                if let Err(error) = counted {
                    // All declared bytes are sent.
                    self.log(&error);
                    self.end = Some(Ok(FAILED));
                }
            }
            Ok(None) => match self.length.finish() {
                Ok(()) => self.end = Some(Ok(0)),
                Err(error) => self.fail(error),
            },
            Err(error) => self.fail(error),
        }
    }

    /// The body has no bytes yet, so the head is sent without it.
    pub fn handle_pending(&mut self) {
        self.looked = true;
    }

    /// Nobody reads the response any more, or no more of it is needed.
    pub fn handle_gone(&mut self) {
        self.head = None;
        self.data = Bytes::new();
        self.end = Some(Err(Failed));
    }
}

fn asked(role: Role, params: Params, path: PathSource) -> Result<Asked, RequestError> {
    let mut parts = request::from_params_by(params, path)?;
    // It was checked, and is a number.
    let declared = parts.headers.get(CONTENT_LENGTH).and_then(|value| value.to_str().ok());
    let content_length =
        declared.filter(|_| role != Role::Authorizer).and_then(|length| length.parse().ok());
    parts.extensions.insert(role);
    Ok(Asked { parts, role, content_length })
}
