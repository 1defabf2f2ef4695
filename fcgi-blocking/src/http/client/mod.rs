//! Calls an application with `http::Request`s.

mod authorize;
mod filter;
mod request_body;
mod response_body;

use std::{fmt, io::Read, sync::Arc};

use fcgi_engine::http::{Answered, Call, CallSettings, Received, ScriptsBuilder, get};
use http::{Request, Response};

pub use authorize::Authorized;
pub use filter::FilterFile;
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
#[derive(Clone)]
pub struct HttpClient(Arc<Inner>);

struct Inner {
    pool: Pool,
    settings: CallSettings,
    authorizer: Option<HttpClient>,
}

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

    /// Sends a GET request for a path, such as `/articles?page=2`, or a whole URL, and waits for
    /// the head of the response.
    ///
    /// # Errors
    /// [`HttpError::Uri`] if the text is not a URL; otherwise those of [`send`](Self::send).
    pub fn get(&self, url: impl AsRef<str>) -> Result<Response<ResponseBody>, HttpError> {
        self.send(get(url.as_ref(), Body::empty())?)
    }

    /// Sends a request to a Responder, and waits for the head of its response.
    ///
    /// # Errors
    /// See [`HttpError`].
    pub fn send<B: Read + Send + 'static>(
        &self,
        request: Request<B>,
    ) -> Result<Response<ResponseBody>, HttpError> {
        let (parts, body) = request.into_parts();
        let call = Call::responder(parts);
        self.call(call, Some(body), client::Body::empty())?.into_response()
    }

    fn call<B: Read + Send + 'static>(
        &self,
        mut call: Call,
        mut body: Option<B>,
        mut data: client::Body,
    ) -> Result<Answered<ResponseBody>, HttpError> {
        let settings = &self.0.settings;
        loop {
            if let Some((authorizer, head)) = call.start(settings, self.0.authorizer.as_ref())? {
                let answer = authorizer.check(head);
                if let Some(denied) = call.handle_authorizer(answer)? {
                    return Ok(denied);
                }
            }
            let stdin = match body.take() {
                Some(body) => {
                    let headers = &call.parts().headers;
                    Some(request_body::prepare(headers, body, settings.unknown_length)?)
                }
                None => None,
            };
            let request = call.request(settings, stdin, &mut data)?;
            let mut response = call.handle_sent(self.0.pool.send(request))?;
            loop {
                let chunk = response.chunk();
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

impl fmt::Debug for HttpClient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HttpClient").field("pool", &self.0.pool).finish_non_exhaustive()
    }
}
