//! One call of an HTTP client: what it sends, and how it reads the response.

use std::{
    fs::File,
    io::{self, Seek as _},
    mem,
    sync::Arc,
    time::{SystemTime, UNIX_EPOCH},
};

use bytes::Bytes;
use fcgi_http::{
    BodyLength, Head, RequestBody, Script,
    authorizer::{self, Answer, AnswerParser},
    request,
};
use fcgi_proto::{BeginRequest, Params, Role, UsageError};
use http::{Request, Response, Uri, request::Parts, uri::PathAndQuery};

use super::{CallSettings, HeadReader, HttpError, Incoming, Variables, head};
use crate::{
    Error,
    client::{self, Chunk},
};

/// How many bytes of an unwanted body are read, at most, to keep the connection.
const DRAINED: usize = 64 * 1024;

/// A call of an `HttpClient`: what to send, and what the response is.
///
/// The caller repeats these steps for each request of the call: [`start`](Self::start) it, and ask
/// its own Authorizer if that returns one; the first time, prepare the body with a
/// [`Gather`](super::Gather); send the [`request`](Self::request); and pass each chunk of the
/// response to [`handle_chunk`](Self::handle_chunk), until that returns what the response is.
///
/// ```
/// use bytes::Bytes;
/// use fcgi_engine::{client::Chunk, http::{Answered, Call, CallSettings, Received}};
/// use fcgi_http::Mount;
/// # use fcgi_engine::client::Replay;
///
/// # #[derive(Default)]
/// # struct NoBody;
/// # impl Replay for NoBody {
/// #     fn replay(&self) -> Option<Self> { Some(Self) }
/// #     fn is_empty(&self) -> bool { true }
/// # }
/// let settings = CallSettings::new(Mount::new("/app")?);
/// let (parts, ()) = http::Request::get("/app/users").body(())?.into_parts();
/// let mut call = Call::responder(parts);
/// let authorizer = None::<&()>;
/// assert!(call.start(&settings, authorizer)?.is_none());
/// let request = call.request(&settings, None, &mut NoBody)?;
/// assert_eq!(request.begin().params.get_str("PATH_INFO"), Some("/users"));
/// let chunk = Chunk::Stdout(Bytes::from_static(b"Status: 404 Not Found\n\nnothing"));
/// let received = call.handle_chunk(&settings, Ok(Some(chunk)), None, "unix:/app".into())?;
/// let Some(Received::Answered(answered)) = received else { panic!("the head is whole") };
/// assert_eq!(answered.into_response()?.status(), 404);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct Call {
    role: Role,
    parts: Parts,
    /// Only for a Filter.
    file: Option<FileInfo>,
    /// For the next request.
    script: Option<Script>,
    /// From the client's own Authorizer, for the next request.
    variables: Params,
    redirects: usize,
    state: State,
}

/// What is being read of the response.
#[derive(Debug)]
enum State {
    /// Nothing: no request was sent yet, or the response is known.
    Idle,
    Head(HeadReader),
    Answer(AnswerParser),
    /// An Authorizer's body is dropped; these are its variables.
    Finish(Params),
    /// The rest of a response that redirects is dropped, up to this many bytes.
    Drain(usize),
}

/// What a response turned out to be.
#[derive(Debug)]
#[expect(clippy::large_enum_variant, reason = "it is taken apart where it is made")]
pub enum Received {
    /// The call is over.
    Answered(Answered<Incoming>),
    /// It was a local redirect: the call continues with another request.
    Again,
}

/// The result of a call.
#[derive(Debug)]
pub enum Answered<B> {
    /// An Authorizer allows the request, with these variables.
    Allowed(Params),
    /// This response goes to the caller.
    Response(Response<B>),
}

impl<B> Answered<B> {
    /// The same answer with another type of body.
    pub fn map<T>(self, body: impl FnOnce(B) -> T) -> Answered<T> {
        match self {
            Self::Allowed(variables) => Answered::Allowed(variables),
            Self::Response(response) => Answered::Response(response.map(body)),
        }
    }

    /// The response of a call to a Responder or a Filter.
    ///
    /// # Errors
    /// The call was to an Authorizer.
    pub fn into_response(self) -> Result<Response<B>, HttpError> {
        match self {
            Self::Response(response) => Ok(response),
            Self::Allowed(_) => Err(Error::Usage(UsageError::RequestEnded).into()),
        }
    }
}

/// An Authorizer's answer about a request. There is no third answer (FC-6.3-2).
#[derive(Debug)]
pub enum Authorized<B, T> {
    /// The request is allowed. The Authorizer's [`Variables`] are in its extensions.
    Allowed(Request<B>),
    /// Send this response to the client.
    Denied(Response<T>),
}

impl<B, T> Authorized<B, T> {
    /// What an Authorizer's answer means for the request.
    pub fn new(mut request: Request<B>, answer: Answered<T>) -> Self {
        match answer {
            Answered::Allowed(variables) => {
                Variables::add(variables, request.extensions_mut());
                Self::Allowed(request)
            }
            Answered::Response(denied) => Self::Denied(denied),
        }
    }
}

/// A GET request for a path, such as `/articles?page=2`, or a whole URL.
///
/// # Errors
/// [`HttpError::Uri`].
pub fn get<B>(url: &str, body: B) -> Result<Request<B>, HttpError> {
    let uri: Uri = url.parse().map_err(|source| HttpError::Uri { uri: url.to_owned(), source })?;
    let mut request = Request::new(body);
    *request.uri_mut() = uri;
    Ok(request)
}

/// What the application of a Filter learns about its file (FC-6.4-1).
#[derive(Clone, Copy, Debug)]
pub struct FileInfo {
    length: u64,
    /// In seconds since 1970; 0 for an earlier time.
    last_modified: u64,
}

impl FileInfo {
    /// The information for a file with this many bytes.
    #[must_use]
    pub fn new(length: u64, last_modified: SystemTime) -> Self {
        let last_modified =
            last_modified.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
        Self { length, last_modified }
    }

    /// The information for an open file, from its current position to its end.
    ///
    /// # Errors
    /// Any error of the system when it is asked for the file's position, length and time.
    pub fn of(mut file: &File) -> io::Result<Self> {
        let metadata = file.metadata()?;
        let length = metadata.len().saturating_sub(file.stream_position()?);
        Ok(Self::new(length, metadata.modified()?))
    }

    /// The file's length in bytes.
    #[must_use]
    pub const fn length(&self) -> u64 {
        self.length
    }

    fn add_to(self, params: &Params) -> Params {
        let about_it = [
            ("FCGI_DATA_LENGTH", self.length.to_string()),
            ("FCGI_DATA_LAST_MOD", self.last_modified.to_string()),
        ];
        authorizer::merge(params, &about_it.into_iter().collect())
    }
}

impl Call {
    /// A request to a Responder.
    #[must_use]
    pub const fn responder(parts: Parts) -> Self {
        Self::new(Role::Responder, parts, None)
    }

    /// A request to a Filter, with its file.
    #[must_use]
    pub const fn filter(parts: Parts, file: FileInfo) -> Self {
        Self::new(Role::Filter, parts, Some(file))
    }

    /// A request whose head goes to an Authorizer (FC-6.3-1).
    #[must_use]
    pub const fn authorizer(parts: Parts) -> Self {
        Self::new(Role::Authorizer, parts, None)
    }

    const fn new(role: Role, parts: Parts, file: Option<FileInfo>) -> Self {
        let variables = Params::new();
        Self { role, parts, file, script: None, variables, redirects: 0, state: State::Idle }
    }

    /// The head of the request that is sent next.
    #[must_use]
    pub const fn parts(&self) -> &Parts {
        &self.parts
    }

    /// Starts the next request of the call: finds its script. Returns the client's own Authorizer
    /// and the head to ask it about, if it has one and does not call an Authorizer itself.
    ///
    /// # Errors
    /// No script serves the request.
    pub fn start<'a, A>(
        &mut self,
        settings: &CallSettings,
        authorizer: Option<&'a A>,
    ) -> Result<Option<(&'a A, Parts)>, HttpError> {
        let asked = authorizer.filter(|_| self.role != Role::Authorizer);
        // Only the Authorizer's own call looks at it again.
        let given = match asked {
            Some(_) => None,
            None => self.parts.extensions.remove(),
        };
        self.script = Some(match given {
            Some(script) => script,
            None => settings.script(&self.parts)?,
        });
        Ok(asked.map(|authorizer| (authorizer, self.parts.clone())))
    }

    /// Takes the Authorizer's answer. Returns it if it denies the request: the call is over then.
    ///
    /// # Errors
    /// Those of the Authorizer's call.
    pub fn handle_authorizer<B>(
        &mut self,
        answer: Result<Answered<B>, HttpError>,
    ) -> Result<Option<Answered<B>>, HttpError> {
        match answer.map_err(|error| self.failed(error))? {
            Answered::Allowed(variables) => {
                self.variables = variables;
                Ok(None)
            }
            denied @ Answered::Response(_) => Ok(Some(denied)),
        }
    }

    /// The request to send, with its prepared body, which only the first request of a call to a
    /// Responder or a Filter has; and with a Filter's file.
    ///
    /// # Errors
    /// The request can't be expressed as parameters; its fields contradict each other.
    pub fn request<B: client::Replay>(
        &mut self,
        settings: &CallSettings,
        body: Option<(RequestBody, B)>,
        file: &mut B,
    ) -> Result<client::Request<B>, HttpError> {
        let (length, stdin) = match (body, self.role) {
            (Some(body), _) => body,
            // An Authorizer learns of the body that it does not get (FC-6.3-1).
            (None, Role::Authorizer) => {
                (RequestBody::from_headers(&self.parts.headers)?, B::default())
            }
            (None, _) => (RequestBody::None, B::default()),
        };
        let params = self.params(settings, length)?;
        let begin = BeginRequest { role: self.role, keep_conn: true, params };
        Ok(client::Request::from_parts(begin, [stdin, mem::take(file)]))
    }

    /// The parameters, including those that the client's own Authorizer adds.
    fn params(
        &mut self,
        settings: &CallSettings,
        length: RequestBody,
    ) -> Result<Params, HttpError> {
        let script = match self.script.take() {
            Some(script) => script,
            None => settings.script(&self.parts)?,
        };
        let told = settings.tell(&self.parts, &script, length)?;
        if self.role == Role::Authorizer {
            self.state = State::Answer(AnswerParser::new(settings.head));
            return Ok(authorizer::params(&told));
        }
        self.state = State::Head(HeadReader::new(settings.head));
        let variables = mem::take(&mut self.variables);
        let params = if variables.is_empty() { told } else { authorizer::merge(&told, &variables) };
        Ok(match self.file {
            Some(file) => file.add_to(&params),
            None => params,
        })
    }

    /// Takes the response to the request, or the error of a call that failed before one came.
    ///
    /// # Errors
    /// That error.
    pub fn handle_sent<R>(&self, sent: Result<R, Error>) -> Result<R, HttpError> {
        sent.map_err(|error| self.failed(error.into()))
    }

    /// After a redirect an error is no reason to send the request again: a script has run.
    fn failed(&self, error: HttpError) -> HttpError {
        if self.redirects > 0 && error.is_unprocessed() {
            return HttpError::AfterRedirect(Box::new(error));
        }
        error
    }

    /// Takes the next chunk of the response, its end with the app status, or the error that ended
    /// it; and the application's address. Returns what the response is once that is known.
    ///
    /// # Errors
    /// It is not a response; or the call failed before its head was complete.
    pub fn handle_chunk(
        &mut self,
        settings: &CallSettings,
        chunk: Result<Option<Chunk>, Error>,
        app_status: Option<u32>,
        address: Arc<str>,
    ) -> Result<Option<Received>, HttpError> {
        if let State::Drain(left) = &mut self.state {
            let rest = match &chunk {
                Ok(Some(Chunk::Stdout(bytes) | Chunk::Stderr(bytes))) => {
                    left.checked_sub(bytes.len())
                }
                _ => None,
            };
            if let Some(rest) = rest {
                *left = rest;
                return Ok(None);
            }
            self.state = State::Idle;
            return Ok(Some(Received::Again));
        }
        let stdout = match chunk {
            // STDERR is in the log.
            Ok(Some(Chunk::Stderr(_))) => return Ok(None),
            Ok(Some(Chunk::Stdout(bytes))) => Ok(Some(bytes)),
            Ok(None) => Ok(None),
            Err(error) => Err(error),
        };
        match &mut self.state {
            State::Head(reader) => {
                let (pushed, failed) = match stdout {
                    Ok(stdout) => (reader.push(stdout), None),
                    // What came is handed on first, and then the error (Q-20).
                    Err(error) => match reader.give_up(&error) {
                        Some(held) => (Ok(Some(held)), Some(error)),
                        None => return Err(self.failed(error.into())),
                    },
                };
                match pushed {
                    Ok(None) => Ok(None),
                    Ok(Some((head, rest))) => {
                        match settings.local_redirect(&self.parts.method, &head) {
                            Some(location) if self.role == Role::Responder => {
                                self.redirect(settings, &location, address)
                            }
                            _ => self.respond(head, rest, failed, address).map(Some),
                        }
                    }
                    Err(source) => Err(HttpError::Head { address, source }),
                }
            }
            State::Answer(parser) => {
                let Some(mut bytes) = stdout? else {
                    return Err(HttpError::Head { address, source: head::cut(parser.finish()) });
                };
                match parser.push(&mut bytes) {
                    Ok(None) => Ok(None),
                    Ok(Some(Answer::Allow { variables })) => {
                        self.state = State::Finish(variables);
                        Ok(None)
                    }
                    Ok(Some(Answer::Deny(head))) => {
                        self.respond(*head, bytes, None, address).map(Some)
                    }
                    Err(source) => Err(HttpError::Head { address, source }),
                }
            }
            // Only an answer with a good end allows the request.
            State::Finish(variables) => match (stdout?, app_status.unwrap_or_default()) {
                (Some(_), _) => Ok(None),
                (None, 0) => Ok(Some(Received::Answered(Answered::Allowed(mem::take(variables))))),
                (None, app_status) => Err(HttpError::AppStatus { address, app_status }),
            },
            State::Idle | State::Drain(_) => Ok(None),
        }
    }

    fn redirect(
        &mut self,
        settings: &CallSettings,
        location: &PathAndQuery,
        address: Arc<str>,
    ) -> Result<Option<Received>, HttpError> {
        self.redirects += 1;
        if self.redirects > settings.redirects {
            return Err(HttpError::Redirects { address, limit: settings.redirects });
        }
        self.parts = request::redirected(&self.parts, location);
        self.parts.extensions.remove::<Script>();
        self.state = State::Drain(DRAINED);
        Ok(None)
    }

    fn respond(
        &mut self,
        head: Head,
        rest: Bytes,
        failed: Option<Error>,
        address: Arc<str>,
    ) -> Result<Received, HttpError> {
        self.state = State::Idle;
        match BodyLength::of_response(&head.parts, &self.parts.method) {
            Ok(length) => {
                let mut body = Incoming::new(address, length, rest);
                if let Some(error) = failed {
                    body.handle_chunk(Err(error), None);
                }
                let response = Response::from_parts(head.parts, body);
                Ok(Received::Answered(Answered::Response(response)))
            }
            Err(source) => Err(HttpError::Body { address, source }),
        }
    }
}
