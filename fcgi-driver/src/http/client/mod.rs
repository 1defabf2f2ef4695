//! Calls an application with `http::Request`s.

mod authorize;
mod filter;
mod request_body;
mod response_body;

use std::{
    fmt,
    future::Future,
    mem,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use fcgi_engine::http::{Answered, Call, CallSettings, Received};
use fcgi_proto::Params;
use http::{Request, Response};
use tower_service::Service;

pub use authorize::Authorized;
pub use filter::FilterFile;
pub use response_body::ResponseBody;

use super::{BoxError, HttpError, Scripts};
use crate::{client, pool::Pool, runtime::Runtime};

/// Sends HTTP requests to a FastCGI application, over a [`Pool`]. It is a tower service of
/// `http::Request<B>` for any body, and cheap to clone.
///
/// ```no_run
/// use fcgi_tokio as fcgi; // or any other adapter, with its feature `http`
/// use fcgi::http::{HttpClient, ScriptMap};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let pool = fcgi::Pool::builder("unix:/run/php/php-fpm.sock".parse()?).max_connections(4).build();
/// let scripts = ScriptMap::builder("/srv/www").front_controller("/index.php").build()?;
/// let client = HttpClient::new(pool, scripts);
/// let request = http::Request::get("/shop.php?id=7").body(http_body_util::Empty::<bytes::Bytes>::new())?;
/// let response = client.send(request).await?;
/// println!("{}", response.status());
/// # Ok(())
/// # }
/// ```
///
/// # Requests
/// [`Scripts`] find the script of a request, a [`ParamsBuilder`](super::ParamsBuilder) makes its
/// parameters. A request may bring its own in its extensions, which take their place: a `Script`, or a
/// `ParamsBuilder`, for what a gateway knows of one connection, such as the client's address.
///
/// Bodies are streamed while the response is read (Q-15). What can be had of one at once, without
/// waiting, is sent as bytes, which the pool can send again (Q-10). A body of unknown length is
/// spooled, or streamed as [`UnknownLength`](super::UnknownLength) says (Q-4). One that is not as long as its
/// Content-Length fails the request.
///
/// # Responses
/// A local redirect (CGI-6.2.2-1) of a GET or HEAD is followed; of another method it is passed on,
/// as the 302 that it is to a client. STDERR goes to `tracing`, at warn level. What the application
/// said is checked: [`HttpError::status`] is what a gateway answers when it is no response.
pub struct HttpClient<R: Runtime>(Arc<Inner<R>>);

struct Inner<R: Runtime> {
    pool: Pool<R>,
    settings: CallSettings,
    authorizer: Option<HttpClient<R>>,
}

/// Settings of an [`HttpClient`], each with a default.
pub struct HttpClientBuilder<R: Runtime> {
    pool: Pool<R>,
    settings: CallSettings,
    authorizer: Option<HttpClient<R>>,
}

impl<R: Runtime> HttpClientBuilder<R> {
    fcgi_engine::http_client_setters!();

    /// Asks this Authorizer before each request and each local redirect: its variables are merged
    /// into the request, or the client gets its response. Default none.
    #[must_use]
    pub fn authorizer(mut self, authorizer: HttpClient<R>) -> Self {
        self.authorizer = Some(authorizer);
        self
    }

    /// The client.
    #[must_use]
    pub fn build(self) -> HttpClient<R> {
        let Self { pool, settings, authorizer } = self;
        HttpClient(Arc::new(Inner { pool, settings, authorizer }))
    }
}

impl<R: Runtime> HttpClient<R> {
    /// A client with the default settings.
    pub fn new(pool: Pool<R>, scripts: impl Scripts) -> Self {
        Self::builder(pool, scripts).build()
    }

    /// The settings of a client, to be changed.
    pub fn builder(pool: Pool<R>, scripts: impl Scripts) -> HttpClientBuilder<R> {
        HttpClientBuilder { pool, settings: CallSettings::new(scripts), authorizer: None }
    }

    /// Where the requests go.
    #[must_use]
    pub fn pool(&self) -> &Pool<R> {
        &self.0.pool
    }

    /// Sends a request to a Responder, and waits for the head of its response.
    ///
    /// # Errors
    /// See [`HttpError`].
    ///
    /// # Cancellation safety
    /// Dropping the future leaves the pool's queue, or aborts the request.
    pub async fn send<B>(&self, request: Request<B>) -> Result<Response<ResponseBody<R>>, HttpError>
    where
        B: http_body::Body<Data: Send, Error: Into<BoxError>> + Send + 'static,
    {
        let (parts, body) = request.into_parts();
        let call = Call::responder(parts);
        self.call(call, Some(body), client::Body::empty()).await?.into_response()
    }

    async fn call<B>(
        &self,
        mut call: Call,
        mut body: Option<B>,
        mut data: client::Body,
    ) -> Result<Answered<ResponseBody<R>>, HttpError>
    where
        B: http_body::Body<Data: Send, Error: Into<BoxError>> + Send + 'static,
    {
        let settings = &self.0.settings;
        loop {
            let script = settings.script(call.parts())?;
            let variables = match &self.0.authorizer {
                Some(authorizer) if call.asks() => {
                    match authorizer.check(call.parts().clone()).await? {
                        Answered::Allowed(variables) => variables,
                        denied => return Ok(denied),
                    }
                }
                _ => Params::new(),
            };
            let (length, stdin) = match body.take() {
                Some(body) => {
                    let headers = &call.parts().headers;
                    request_body::prepare(headers, body, settings.unknown_length).await?
                }
                None => (call.no_body()?, client::Body::empty()),
            };
            let mut request = client::Request::new(call.role());
            request.params = call.params(settings, &script, &variables, length)?;
            request.stdin = stdin;
            request.data = mem::replace(&mut data, client::Body::empty());
            let mut response = self.0.pool.send(request).await?;
            loop {
                let chunk = response.chunk().await;
                let status = response.app_status();
                match call.handle_chunk(settings, chunk, status, response.address())? {
                    None => {}
                    Some(Received::Again) => break,
                    Some(Received::Answered(answered)) => {
                        return Ok(answered.map(|body| ResponseBody::new(response, body)));
                    }
                }
            }
        }
    }
}

impl<R: Runtime, B> Service<Request<B>> for HttpClient<R>
where
    B: http_body::Body<Data: Send, Error: Into<BoxError>> + Send + 'static,
{
    type Response = Response<ResponseBody<R>>;
    type Error = HttpError;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, HttpError>> + Send>>;

    /// Always ready: the pool has a queue, with a limit of its own.
    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), HttpError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let client = self.clone();
        Box::pin(async move { client.send(request).await })
    }
}

impl<R: Runtime> Clone for HttpClient<R> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<R: Runtime> fmt::Debug for HttpClient<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HttpClient").field("pool", &self.0.pool).finish_non_exhaustive()
    }
}

impl<R: Runtime> fmt::Debug for HttpClientBuilder<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HttpClientBuilder").field("pool", &self.pool).finish_non_exhaustive()
    }
}
