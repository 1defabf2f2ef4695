//! HTTP over FastCGI: any tower service behind a web server, and a client that is a tower service.
//!
//! `fcgi-http` says what a request's parameters and a response's head mean; this module moves them
//! over a [`Server`] and a [`Pool`](crate::pool::Pool), with the bodies streamed both ways.
//! [`Server::serve_http`] takes any tower service of HTTP requests, an axum `Router` for example;
//! [`HttpClient`] is one, so that tower's balance, limits and retry go around it.
//!
//! ```no_run
//! use fcgi_tokio as fcgi; // or any other adapter, with its feature `http`
//! use fcgi::http::Body;
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), fcgi::Error> {
//! let listener = fcgi::Listener::from_env("unix:/run/app.sock")?;
//! let hello = tower::service_fn(async |request: http::Request<Body>| {
//!     let page = format!("Hello from {}\n", request.uri().path());
//!     Ok::<_, std::convert::Infallible>(http::Response::new(Body::from(page)))
//! });
//! fcgi::serve_http(listener, hello).await
//! # }
//! ```
//!
//! # What a service gets
//! `http::Request<`[`Body`]`>`, and among its extensions the [`MetaVariables`], which are every
//! parameter as it came, and the [`Role`](fcgi_proto::Role). The body is over when as many
//! bytes have come as CONTENT_LENGTH says, and ends with an error when there are fewer or more
//! (FC-6.2-2, W-16); without CONTENT_LENGTH it ends where STDIN does (W-10).
//!
//! # What the web server gets
//! - Status always (W-2), no hop-by-hop field (W-3), and the whole head in one STDOUT record (W-1),
//!   with as much of the body as is there. A small response is one write.
//! - A Content-Length, if the response has none and its body knows its length.
//! - No body after HEAD, nor with 204 and 304. A body too long for its Content-Length is cut (W-4).
//! - A page with status 500 and a non-zero app status after an error of the service or of its body, a
//!   body shorter than its Content-Length, or a panic. Once the head was sent, the response is cut
//!   instead, so that the web server sees it (W-12).
//! - A page with status 400 for parameters that describe no HTTP request.
//! - Never a 1xx response: CGI has none. One from the service is an error.
//!
//! When the web server gives the request up, the service's future is dropped, or the response's
//! body.
//!
//! nginx sends no more of a request's body once it has the response's head: read the body first
//! where it matters. It gathers a response, too, before it passes it on: one that is to arrive bit
//! by bit, such as server-sent events, needs the field `X-Accel-Buffering: no`.

mod authorizer;
mod body;
mod client;
mod frames;
mod reply;
mod responder;

pub use authorizer::{Authorizer, Decision};
pub use body::Body;
pub use client::{Authorized, FilterFile, HttpClient, HttpClientBuilder, ResponseBody};
pub use fcgi_engine::http::{BoxError, ByRole, HttpError, Scripts, UnknownLength, Variables};
pub use fcgi_http::{
    BodyLengthError, HeadError, HeadLimits, MetaVariables, Mount, MountPoint, ParamsBuilder,
    PathSource, ReasonPhrase, RemoteAddr, Script, ScriptMap,
    request::{HeaderPolicy, MissingMeta, ParamsError, RemoteAddrError, RequestError},
    script::{EncodedSlashes, FileKind, ScriptError, Target},
};
pub use responder::Responder;

/// A Filter's file, in the extensions of its request; see [`fcgi_engine::http::FilterData`].
pub type FilterData = fcgi_engine::http::FilterData<Body>;

use tower_service::Service;

use crate::{
    Acceptor,
    runtime::Runtime,
    server::{Serve, Server},
};

impl<R: Runtime> Server<R> {
    /// Serves a tower service, once what this gives is awaited; see [`http`](crate::http).
    ///
    /// The service is cloned for each request and then asked whether it is ready, so that what
    /// limits requests has to be shared by its clones, as tower's `ConcurrencyLimit` is. One that
    /// is not `Sync` goes into tower's `BoxCloneSyncService` or `Buffer`.
    ///
    /// Authorizer requests get UNKNOWN_ROLE; [`Responder::authorizer`] answers them too.
    pub fn serve_http<S, B>(
        self,
        listener: impl Into<Acceptor<R>>,
        service: S,
    ) -> Serve<R, Responder<S>>
    where
        S: Service<http::Request<Body>, Response = http::Response<B>, Error: Into<BoxError>>,
        S: Clone + Send + Sync + 'static,
        S::Future: Send,
        B: http_body::Body<Data: Send, Error: Into<BoxError>> + Send + 'static,
    {
        let path = self.settings.path;
        self.serve(listener, Responder::new(service).path(path))
    }
    /// Serves a tower service as the process was started: one request as a CGI program, else FastCGI;
    /// see [`serve_auto`](Self::serve_auto) and [`serve_http`](Self::serve_http).
    pub fn serve_http_auto<S, B>(self, service: S) -> Serve<R, Responder<S>>
    where
        S: Service<http::Request<Body>, Response = http::Response<B>, Error: Into<BoxError>>,
        S: Clone + Send + Sync + 'static,
        S::Future: Send,
        B: http_body::Body<Data: Send, Error: Into<BoxError>> + Send + 'static,
    {
        let path = self.settings.path;
        self.serve_auto(Responder::new(service).path(path))
    }
}
