//! A server's answer to one request, step by step.

use bytes::Bytes;
use fcgi_http::{
    BodyLength, HeadBlock, MetaVariables, PathSource, authorizer,
    request::{self, RequestError},
    response::{self, HeadWriteError},
};
use fcgi_proto::{Input, Params, Rejection, Role};
use http::{
    Method, Request, StatusCode, Uri, request::Parts as RequestParts,
    response::Parts as ResponseParts,
};

use super::{BoxError, FilterData};
use crate::{
    server::{FAILED, Failed},
    text::{chain, escape},
};

/// What a web server gets for one request: says what to do next, and is told what came of it.
///
/// [`Reply::responder`] and [`Reply::authorizer`] say what the service is asked, if the parameters
/// describe an HTTP request at all. What the service says goes to one of [`respond`](Self::respond),
/// [`deny`](Self::deny), [`allow`](Self::allow) and [`fail`](Self::fail); then the caller does what
/// [`step`](Self::step) says, until its end. What goes wrong is [`Failed`]: the server makes a page
/// with status 500 of it if nothing was sent, and cuts the response otherwise (W-12, W-15).
///
/// ```
/// use fcgi_engine::http::{Reply, ReplyStep};
/// use fcgi_http::PathSource;
/// use fcgi_proto::{Params, Role};
///
/// let params = Params::from_iter([("REQUEST_METHOD", "GET"), ("REQUEST_URI", "/")]);
/// let (mut reply, asked) = Reply::responder(Role::Responder, params, PathSource::RequestUri);
/// assert_eq!(asked.unwrap().into_request(|_, _| ()).uri(), "/");
/// let (parts, ()) = http::Response::new(()).into_parts();
/// reply.respond(parts, Some(2));
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
    /// Until it is sent.
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
    /// Have the request end with this instead of REQUEST_COMPLETE.
    Reject(Rejection),
    /// Write these bytes in one record (W-1). If that fails: [`Reply::handle_gone`].
    Record(Bytes),
    /// Write these bytes. If that fails: [`Reply::handle_gone`].
    Write(Bytes),
    /// Give [`Reply::handle_body`] the body's first bytes, if they can be had at once: the head goes
    /// out with them. Otherwise call [`Reply::handle_pending`].
    Look,
    /// Wait for the body's next bytes, and give them to [`Reply::handle_body`].
    Read,
    /// Nothing: the handler returns [`Reply::end`].
    End,
}

/// What a service is asked.
#[derive(Debug)]
pub struct Asked {
    parts: RequestParts,
    role: Role,
    content_length: Option<u64>,
}

impl Asked {
    /// The head alone, with what an adapter adds to its extensions.
    pub fn head(&mut self) -> &mut RequestParts {
        &mut self.parts
    }

    /// The request, with the body that is made for a stream and its declared length; and with
    /// [`FilterData`] in its extensions, if it is a Filter's.
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
    /// To a Responder's or Filter's request, with the path from where `path` says; an Authorizer's
    /// gets UNKNOWN_ROLE.
    #[must_use]
    pub fn responder(role: Role, params: Params, path: PathSource) -> (Self, Option<Asked>) {
        if role == Role::Authorizer { Self::rejected() } else { Self::new(role, params, path) }
    }

    /// To an Authorizer's request, which has no body; others get UNKNOWN_ROLE.
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

    /// The service answers with this head and a body of `known` length or not.
    pub fn respond(&mut self, parts: ResponseParts, known: Option<u64>) {
        self.start(parts, known, HeadBlock::new);
    }

    /// An Authorizer's service denies with this (FC-6.3-2).
    pub fn deny(&mut self, parts: ResponseParts, known: Option<u64>) {
        self.start(parts, known, authorizer::deny);
    }

    fn start(
        &mut self,
        mut parts: ResponseParts,
        known: Option<u64>,
        block: fn(&ResponseParts) -> Result<HeadBlock, HeadWriteError>,
    ) {
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
    }

    /// An Authorizer's service allows, with these variables (FC-6.3-2).
    pub fn allow(&mut self, variables: &Params) {
        match authorizer::allow(variables) {
            Ok(head) => {
                self.head = Some(head);
                self.end = Some(Ok(0));
            }
            Err(error) => self.fail(error),
        }
    }

    /// The service failed, or its response's body.
    pub fn fail(&mut self, error: impl Into<BoxError>) {
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

    /// The app status; or that the response is not whole.
    ///
    /// # Errors
    /// [`Failed`]: it is cut, or was not begun, or nobody reads it.
    pub fn end(&self) -> Result<u32, Failed> {
        self.end.unwrap_or(Err(Failed))
    }

    /// The next bytes of the body, its end, or its error. What is too much for its Content-Length is
    /// cut (W-4).
    pub fn handle_body(&mut self, chunk: Result<Option<Bytes>, BoxError>) {
        match chunk {
            Ok(Some(mut bytes)) => {
                self.looked = true;
                let counted = self.length.cut(&mut bytes);
                self.data = bytes;
                if let Err(error) = counted {
                    // What is sent is whole.
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

    /// The body has no bytes yet: the head goes out without it.
    pub fn handle_pending(&mut self) {
        self.looked = true;
    }

    /// Nobody reads the response any more, or there is no more of it.
    pub fn handle_gone(&mut self) {
        self.head = None;
        self.data = Bytes::new();
        self.end = Some(Err(Failed));
    }
}

fn asked(role: Role, params: Params, path: PathSource) -> Result<Asked, RequestError> {
    let mut parts = request::from_params_by(params, path)?;
    let meta = parts.extensions.get::<MetaVariables>();
    let content_length = match role {
        Role::Authorizer => None,
        _ => meta.map_or(Ok(None), MetaVariables::content_length)?,
    };
    parts.extensions.insert(role);
    Ok(Asked { parts, role, content_length })
}
