//! Calls an application with `http::Request`s.

mod authorize;
mod filter;
mod request_body;
mod response_body;

use std::{
    fmt,
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use fcgi_engine::http::{Answered, Call, CallSettings, Received, ScriptsBuilder, get};
use http::{Request, Response};
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
/// [`Scripts`] find the script of a request, and a [`ParamsBuilder`](super::ParamsBuilder) creates
/// its parameters. A request can replace either with one in its extensions: a `Script`; or a
/// `ParamsBuilder` or an `Arc` of one, for what a gateway knows about one connection, such as the
/// client's address.
///
/// Bodies are streamed while the response is read (Q-15). If the whole body is available without
/// waiting, it is sent as bytes; the pool can send these again (Q-10). A body of unknown length is
/// spooled or streamed, as [`UnknownLength`](super::UnknownLength) says (Q-4). If a body's length
/// differs from its Content-Length, the request fails.
///
/// # Responses
/// A local redirect (CGI-6.2.2-1) after GET or HEAD is followed. After other methods it is returned
/// with status 302. STDERR is logged with `tracing`, at warn level. The application's answer is
/// checked; if it is not a response, [`HttpError::status`] is the status that a gateway answers
/// with.
pub struct HttpClient<R: Runtime>(Arc<Inner<R>>);

struct Inner<R: Runtime> {
    pool: Pool<R>,
    settings: CallSettings,
    authorizer: Option<HttpClient<R>>,
}

/// Settings for an [`HttpClient`], each with a default.
pub struct HttpClientBuilder<R: Runtime> {
    pool: Result<Pool<R>, Error>,
    scripts: ScriptsBuilder,
    settings: CallSettings,
    authorizer: Option<HttpClient<R>>,
}

impl<R: Runtime> HttpClientBuilder<R> {
    fcgi_engine::http_client_setters!(HttpClient<R>);
}

impl<R: Runtime> HttpClient<R> {
    fcgi_engine::http_client_methods!(Pool<R>, HttpClientBuilder<R>);

    /// Sends a GET request for a path, such as `/articles?page=2`, or a whole URL, and waits for
    /// the head of the response.
    ///
    /// # Errors
    /// [`HttpError::Uri`] if the text is not a URL; otherwise those of [`send`](Self::send).
    ///
    /// # Cancellation safety
    /// Dropping the future leaves the pool's queue, or aborts the request.
    pub async fn get(&self, url: impl AsRef<str>) -> Result<Response<ResponseBody<R>>, HttpError> {
        self.send(get(url.as_ref(), Body::empty())?).await
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

    #[allow(clippy::manual_async_fn, reason = "that would hold its parameters, a kilobyte, twice")]
    fn call<B>(
        &self,
        mut call: Call,
        mut body: Option<B>,
        mut data: client::Body,
    ) -> impl Future<Output = Result<Answered<ResponseBody<R>>, HttpError>> + Send
    where
        B: http_body::Body<Data: Send, Error: Into<BoxError>> + Send + 'static,
    {
        async move {
            let settings = &self.0.settings;
            loop {
                if let Some((authorizer, head)) =
                    call.start(settings, self.0.authorizer.as_ref())?
                {
                    let answer = authorizer.check(head).await;
                    if let Some(denied) = call.handle_authorizer(answer)? {
                        return Ok(denied);
                    }
                }
                let stdin = match body.take() {
                    Some(body) => {
                        let headers = &call.parts().headers;
                        Some(request_body::prepare(headers, body, settings.unknown_length).await?)
                    }
                    None => None,
                };
                let request = call.request(settings, stdin, &mut data)?;
                let mut response = call.handle_sent(self.0.pool.send(request).await)?;
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
}

impl<R: Runtime, B> Service<Request<B>> for HttpClient<R>
where
    B: http_body::Body<Data: Send, Error: Into<BoxError>> + Send + 'static,
{
    type Response = Response<ResponseBody<R>>;
    type Error = HttpError;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, HttpError>> + Send>>;

    /// Always ready: the pool has a queue with its own limit.
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
