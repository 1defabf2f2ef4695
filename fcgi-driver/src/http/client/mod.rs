//! Calls an application with `http::Request`s.

mod filter;
mod request_body;
mod response_body;

use std::{
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use fcgi_engine::http::{Answered, Call, CallSettings, ScriptsBuilder};
use http::{Request, Response, request::Parts};
use tower_service::Service;

pub use filter::FilterFile;
use request_body::prepare;
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
#[derive(Clone, Debug)]
pub struct HttpClient<R: Runtime>(Arc<Inner<R>>);

#[derive(Debug)]
struct Inner<R: Runtime> {
    pool: Pool<R>,
    settings: CallSettings,
    authorizer: Option<HttpClient<R>>,
}

/// An Authorizer's answer about a request; see [`fcgi_engine::http::Authorized`].
pub type Authorized<B, R> = fcgi_engine::http::Authorized<B, ResponseBody<R>>;

/// Settings for an [`HttpClient`], each with a default.
#[derive(Debug)]
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

    fcgi_engine::http_client_calls! {
        [async; .await], response: ResponseBody<R>, authorized: Authorized<B, R>,
        body: [http_body::Body<Data: Send, Error: Into<BoxError>>];
        /// ```no_run
        /// use fcgi_tokio as fcgi; // or any other adapter, with its feature `http`
        /// use fcgi::http::{Authorized, HttpClient};
        /// # async fn example(authorizer: HttpClient, app: HttpClient, request: http::Request<http_body_util::Empty<bytes::Bytes>>)
        /// #     -> Result<(), fcgi::http::HttpError> {
        /// let response = match authorizer.authorize(request).await? {
        ///     Authorized::Allowed(request) => app.send(request).await?,
        ///     Authorized::Denied(response) => response,
        /// };
        /// # Ok(())
        /// # }
        /// ```
    }

    /// Asks the application, which is an Authorizer, about a request.
    async fn check(&self, parts: Parts) -> Result<Answered<ResponseBody<R>>, HttpError> {
        // An Authorizer's client may have an Authorizer too, whose type is the same.
        Box::pin(self.call(Call::authorizer(parts), None::<Body>, client::Body::empty())).await
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
        async move { fcgi_engine::http_call!([.await], self.0, call, body, data) }
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
