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

use fcgi_engine::http::{Answered, Call, CallSettings, Received, ScriptsBuilder};
use fcgi_proto::{BeginRequest, Params};
use http::{Request, Response, Uri};
use tower_service::Service;

pub use authorize::Authorized;
pub use filter::FilterFile;
pub use response_body::ResponseBody;

use super::{Body, BoxError, HttpError, Scripts};
use crate::{Address, Error, client, pool::Pool, runtime::Runtime};

/// Sends HTTP requests to a FastCGI application, over a [`Pool`]. It is a tower service of
/// `http::Request<B>` for any body, and cheap to clone.
///
/// ```no_run
/// use fcgi_tokio as fcgi; // or any other adapter, with its feature `http`
/// use fcgi::http::HttpClient;
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let client = HttpClient::builder("/run/php/php-fpm.sock")
///     .root("/srv/www")
///     .front("index.php")
///     .build()?;
/// let response = client.get("/articles?page=2").await?;
/// println!("{}", response.status());
/// # Ok(())
/// # }
/// ```
///
/// # Requests
/// [`Scripts`] find the script of a request, a [`ParamsBuilder`](super::ParamsBuilder) makes its
/// parameters. A request may bring its own in its extensions, which take their place: a `Script`, or a
/// `ParamsBuilder`, or an `Arc` of one, for what a gateway knows of one connection, such as the
/// client's address.
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
    pool: Result<Pool<R>, Error>,
    scripts: ScriptsBuilder,
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
    ///
    /// # Errors
    /// [`HttpError::Config`] for a root or a front controller that can't be meant;
    /// [`Error::Address`] in [`HttpError::Call`] for a text that is no address.
    pub fn build(self) -> Result<HttpClient<R>, HttpError> {
        let Self { pool, scripts, mut settings, authorizer } = self;
        settings.set_scripts(scripts.build()?);
        Ok(HttpClient(Arc::new(Inner { pool: pool?, settings, authorizer })))
    }
}

impl<R: Runtime> HttpClient<R> {
    /// A client over this pool, with the default settings.
    pub fn new(pool: Pool<R>, scripts: impl Scripts) -> Self {
        let settings = CallSettings::new(scripts);
        Self(Arc::new(Inner { pool, settings, authorizer: None }))
    }

    /// The settings of a client, to be changed, for the application at an [`Address`], or what becomes
    /// one, such as `/run/app.sock` or `host:9000`. It has a pool of its own, with the default
    /// settings.
    pub fn builder(address: impl TryInto<Address, Error: Into<Error>>) -> HttpClientBuilder<R> {
        Self::builder_of(Pool::new(address))
    }

    /// The settings of a client, to be changed, over this pool.
    pub fn with_pool(pool: Pool<R>) -> HttpClientBuilder<R> {
        Self::builder_of(Ok(pool))
    }

    fn builder_of(pool: Result<Pool<R>, Error>) -> HttpClientBuilder<R> {
        let (scripts, settings) = (ScriptsBuilder::default(), CallSettings::default());
        HttpClientBuilder { pool, scripts, settings, authorizer: None }
    }

    /// Where the requests go.
    #[must_use]
    pub fn pool(&self) -> &Pool<R> {
        &self.0.pool
    }

    /// Where the application is.
    #[must_use]
    pub fn address(&self) -> &Address {
        self.0.pool.address()
    }

    /// Asks with GET for a path, such as `/articles?page=2`, or a whole URL, and waits for the head of
    /// the response.
    ///
    /// # Errors
    /// [`HttpError::Uri`] for a text that is no URL; else as for [`send`](Self::send).
    ///
    /// # Cancellation safety
    /// Dropping the future leaves the pool's queue, or aborts the request.
    pub async fn get(&self, url: impl AsRef<str>) -> Result<Response<ResponseBody<R>>, HttpError> {
        let url = url.as_ref();
        let uri: Uri =
            url.parse().map_err(|source| HttpError::Uri { uri: url.to_owned(), source })?;
        let mut request = Request::new(Body::empty());
        *request.uri_mut() = uri;
        self.send(request).await
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
                    let checked = authorizer.check(call.parts().clone()).await;
                    match checked.map_err(|error| call.failed(error))? {
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
            let params = call.params(settings, &script, &variables, length)?;
            let begin = BeginRequest { role: call.role(), keep_conn: true, params };
            let data = mem::replace(&mut data, client::Body::empty());
            let request = client::Request::from_parts(begin, [stdin, data]);
            let sent = self.0.pool.send(request).await;
            let mut response = sent.map_err(|error| call.failed(error.into()))?;
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
