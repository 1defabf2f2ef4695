//! Calls an application with `http::Request`s.

mod filter;
mod request_body;
mod response_body;

use std::{io::Read, sync::Arc};

use fcgi_engine::http::{Answered, Call, CallSettings, ScriptsBuilder};
use http::request::Parts;

pub use filter::FilterFile;
use request_body::prepare;
pub use response_body::ResponseBody;

use super::{Body, HttpError, Scripts};
use crate::{Address, Error, Pool, client};

/// Sends HTTP requests to a FastCGI application, over a [`Pool`]. It is cheap to clone, and several
/// threads may use it at once.
///
/// ```no_run
/// use fcgi_blocking as fcgi;
/// use fcgi::http::HttpClient;
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let client = HttpClient::builder("/run/php/php-fpm.sock")
///     .root("/srv/www")
///     .front("index.php")
///     .build()?;
/// let response = client.get("/articles?page=2")?;
/// println!("{}", std::io::read_to_string(response.into_body())?);
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
/// A body is any reader. A [`Body`](super::Body) may have a known length. Bodies are streamed while
/// the response is read (Q-15). Bodies in memory, and bodies of a known length up to 64 KiB, which
/// are read before a connection is taken, are sent as bytes; the pool can send these again (Q-10).
/// A body of unknown length is spooled or streamed, as [`UnknownLength`](super::UnknownLength) says
/// (Q-4). If a body's length differs from its Content-Length, the request fails.
///
/// # Responses
/// A local redirect (CGI-6.2.2-1) after GET or HEAD is followed. After other methods it is returned
/// with status 302. STDERR is logged with `tracing`, at warn level. The application's answer is
/// checked; if it is not a response, [`HttpError::status`] is the status that a gateway answers
/// with.
#[derive(Clone, Debug)]
pub struct HttpClient(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    pool: Pool,
    settings: CallSettings,
    authorizer: Option<HttpClient>,
}

/// An Authorizer's answer about a request; see [`fcgi_engine::http::Authorized`].
pub type Authorized<B> = fcgi_engine::http::Authorized<B, ResponseBody>;

/// Settings for an [`HttpClient`], each with a default.
#[derive(Debug)]
pub struct HttpClientBuilder {
    pool: Result<Pool, Error>,
    scripts: ScriptsBuilder,
    settings: CallSettings,
    authorizer: Option<HttpClient>,
}

impl HttpClientBuilder {
    fcgi_engine::http_client_setters!(HttpClient);
}

impl HttpClient {
    fcgi_engine::http_client_methods!(Pool, HttpClientBuilder);

    fcgi_engine::http_client_calls! {
        [;], response: ResponseBody, authorized: Authorized<B>, body: [Read];
        /// ```no_run
        /// use fcgi_blocking as fcgi;
        /// use fcgi::http::{Authorized, Body, HttpClient};
        /// # fn example(authorizer: HttpClient, app: HttpClient, request: http::Request<Body>)
        /// #     -> Result<(), fcgi::http::HttpError> {
        /// let response = match authorizer.authorize(request)? {
        ///     Authorized::Allowed(request) => app.send(request)?,
        ///     Authorized::Denied(response) => response,
        /// };
        /// # Ok(())
        /// # }
        /// ```
    }

    /// Asks the application, which is an Authorizer, about a request.
    fn check(&self, parts: Parts) -> Result<Answered<ResponseBody>, HttpError> {
        self.call(Call::authorizer(parts), None::<Body>, client::Body::empty())
    }

    fn call<B: Read + Send + 'static>(
        &self,
        mut call: Call,
        mut body: Option<B>,
        mut data: client::Body,
    ) -> Result<Answered<ResponseBody>, HttpError> {
        fcgi_engine::http_call!([], self.0, call, body, data)
    }
}
