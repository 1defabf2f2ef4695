//! Calls an application with `http::Request`s.

mod authorize;
mod filter;
mod request_body;
mod response_body;

use std::{fmt, io::Read, sync::Arc};

use bytes::Bytes;
use fcgi_engine::http::{CallSettings, DRAINED, HeadReader};
use fcgi_http::{BodyLength, Head, RequestBody, Script, authorizer, request};
use fcgi_proto::{Params, Role};
use http::{Method, Request, Response};

pub use authorize::Authorized;
use authorize::Checked;
pub use filter::FilterFile;
pub use response_body::ResponseBody;

use super::{HttpError, Scripts};
use crate::{
    Pool,
    client::{self, Chunk},
    pool,
};

/// Sends HTTP requests to a FastCGI application, over a [`Pool`]. It is cheap to clone, and several
/// threads may use it at once.
///
/// ```no_run
/// use fcgi_blocking as fcgi;
/// use fcgi::http::{Body, HttpClient, ScriptMap};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let pool = fcgi::Pool::builder("unix:/run/php/php-fpm.sock".parse()?).max_connections(4).build();
/// let scripts = ScriptMap::builder("/srv/www").front_controller("/index.php").build()?;
/// let client = HttpClient::new(pool, scripts);
/// let request = http::Request::get("/shop.php?id=7").body(Body::empty())?;
/// let response = client.send(request)?;
/// println!("{}", std::io::read_to_string(response.into_body())?);
/// # Ok(())
/// # }
/// ```
///
/// # Requests
/// [`Scripts`] say which script serves a request, a [`ParamsBuilder`](super::ParamsBuilder) what
/// else it is told. A request may bring its own in its extensions, which take their place: a
/// `Script`, or a `ParamsBuilder`, for what a gateway knows of one connection, such as the client's
/// address.
///
/// Bodies are any reader; those of a [`Body`](super::Body) may have a known length. They are
/// streamed while the response is read (Q-15). What is at hand, and up to 64 KiB of known length,
/// which is read before a connection is taken, is sent as bytes, which the pool can send again
/// (Q-10). A body of unknown length is spooled, or streamed as
/// [`UnknownLength`](super::UnknownLength) says (Q-4). One that is not as long as its
/// Content-Length fails the request.
///
/// # Responses
/// A local redirect (CGI-6.2.2-1) of a GET or HEAD is followed; of another method it is passed on,
/// as the 302 that it is to a client. STDERR goes to `tracing`, at warn level. What the application
/// said is checked: [`HttpError::status`] is what a gateway answers when it is no response.
#[derive(Clone)]
pub struct HttpClient(Arc<Inner>);

struct Inner {
    pool: Pool,
    settings: CallSettings,
    authorizer: Option<HttpClient>,
}

/// Settings of an [`HttpClient`], each with a default.
#[derive(Debug)]
pub struct HttpClientBuilder {
    pool: Pool,
    settings: CallSettings,
    authorizer: Option<HttpClient>,
}

impl HttpClientBuilder {
    fcgi_engine::http_client_setters!();

    /// Asks this Authorizer before each request and each local redirect: its variables are merged
    /// into the request, or the client gets its response. Default none.
    #[must_use]
    pub fn authorizer(mut self, authorizer: HttpClient) -> Self {
        self.authorizer = Some(authorizer);
        self
    }

    /// The client.
    #[must_use]
    pub fn build(self) -> HttpClient {
        let Self { pool, settings, authorizer } = self;
        HttpClient(Arc::new(Inner { pool, settings, authorizer }))
    }
}

/// What came of a request: its response's head, and the start of its body.
struct Received {
    head: Head,
    rest: Bytes,
    response: pool::Response,
}

/// A request's head, told and ready to be sent.
struct Told {
    params: Params,
    stdin: client::Body,
    data: client::Body,
}

impl HttpClient {
    /// A client with the default settings.
    pub fn new(pool: Pool, scripts: impl Scripts) -> Self {
        Self::builder(pool, scripts).build()
    }

    /// The settings of a client, to be changed.
    pub fn builder(pool: Pool, scripts: impl Scripts) -> HttpClientBuilder {
        HttpClientBuilder { pool, settings: CallSettings::new(scripts), authorizer: None }
    }

    /// Where the requests go.
    #[must_use]
    pub fn pool(&self) -> &Pool {
        &self.0.pool
    }

    /// Sends a request to a Responder, and waits for the head of its response.
    ///
    /// # Errors
    /// See [`HttpError`].
    pub fn send<B: Read + Send + 'static>(
        &self,
        request: Request<B>,
    ) -> Result<Response<ResponseBody>, HttpError> {
        let settings = &self.0.settings;
        let (mut parts, body) = request.into_parts();
        let mut body = Some(body);
        let mut redirects = 0;
        loop {
            let script = settings.script(&parts)?;
            let variables = match self.authorized(&parts)? {
                Checked::Allowed(variables) => variables,
                Checked::Denied(denied) => return Ok(denied),
            };
            let (length, stdin) = match body.take() {
                Some(body) => request_body::prepare(&parts.headers, body, settings.unknown_length)?,
                None => (RequestBody::None, client::Body::empty()),
            };
            let params = authorizer::merge(&settings.tell(&parts, &script, length)?, &variables);
            let told = Told { params, stdin, data: client::Body::empty() };
            let received = self.receive(Role::Responder, told)?;
            let Some(location) = settings.local_redirect(&parts.method, &received.head) else {
                return respond(&parts.method, received);
            };
            redirects += 1;
            if redirects > settings.redirects {
                let (address, limit) = (received.response.address(), settings.redirects);
                return Err(HttpError::Redirects { address, limit });
            }
            parts = request::redirected(&parts, &location);
            parts.extensions.remove::<Script>();
            drain(received.response);
        }
    }

    fn start(&self, role: Role, told: Told) -> Result<pool::Response, HttpError> {
        let mut request = client::Request::new(role);
        request.params = told.params;
        request.stdin = told.stdin;
        request.data = told.data;
        Ok(self.0.pool.send(request)?)
    }

    /// Sends a request and reads the head of its response.
    fn receive(&self, role: Role, told: Told) -> Result<Received, HttpError> {
        let mut response = self.start(role, told)?;
        let mut reader = HeadReader::new(self.0.settings.head);
        loop {
            let stdout = match response.chunk()? {
                Some(Chunk::Stdout(bytes)) => Some(bytes),
                // It is in the log.
                Some(Chunk::Stderr(_)) => continue,
                None => None,
            };
            match reader.push(stdout) {
                Ok(None) => {}
                Ok(Some((head, rest))) => return Ok(Received { head, rest, response }),
                Err(source) => {
                    return Err(HttpError::Head { address: response.address(), source });
                }
            }
        }
    }
}

fn respond(method: &Method, received: Received) -> Result<Response<ResponseBody>, HttpError> {
    let Received { head, rest, response } = received;
    match BodyLength::of_response(&head.parts, method) {
        Ok(length) => {
            Ok(Response::from_parts(head.parts, ResponseBody::new(response, rest, length)))
        }
        Err(source) => Err(HttpError::Body { address: response.address(), source }),
    }
}

/// Reads what is left of a response that nobody wants, so that its connection can be kept.
fn drain(mut response: pool::Response) {
    let mut left = DRAINED;
    while let Ok(Some(Chunk::Stdout(bytes) | Chunk::Stderr(bytes))) = response.chunk() {
        match left.checked_sub(bytes.len()) {
            Some(rest) => left = rest,
            None => return,
        }
    }
}

impl fmt::Debug for HttpClient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HttpClient").field("pool", &self.0.pool).finish_non_exhaustive()
    }
}
