//! HTTP over FastCGI: a server for any tower service, behind a web server, and a client that is a
//! tower service.
//!
//! `fcgi-http` defines what a request's parameters and a response's head mean. This module sends
//! and receives them with a [`Server`] and a [`Pool`](crate::pool::Pool), and streams the bodies in
//! both directions. [`Server::serve_http`] takes any tower service of HTTP requests, such as an
//! axum `Router`. [`HttpClient`] is such a service, so tower's balance, limits and retry work with
//! it.
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
//! The service gets an `http::Request<`[`Body`]`>`. Its extensions contain the [`MetaVariables`],
//! which are all parameters as they were received, and the [`Role`](fcgi_proto::Role).
//!
//! The body ends after CONTENT_LENGTH bytes. If there are fewer or more, it ends with an error
//! (FC-6.2-2, W-16). Without CONTENT_LENGTH it ends where STDIN ends (W-10).
//!
//! # What the web server gets
//! - A Status in every response (W-2), no hop-by-hop fields (W-3), and the whole head in one STDOUT
//!   record (W-1), together with the part of the body that is available. A small response is one
//!   write.
//! - A Content-Length, if the response has none and its body knows its length.
//! - No body after HEAD, nor with 204 and 304. A body that is longer than its Content-Length is cut
//!   off (W-4).
//! - A page with status 500 and a non-zero app status after an error of the service or of its body,
//!   after a panic, or if the body is shorter than its Content-Length. If the head was already
//!   sent, the response is cut off instead, so that the web server notices (W-12).
//! - A page with status 400 if the parameters do not describe an HTTP request.
//! - Never a 1xx response, since CGI has none. If the service returns one, that is an error.
//!
//! When the web server aborts the request, the service's future or the response's body is dropped.
//!
//! nginx sends no more of a request's body once it has the head of the response. If the service
//! needs the whole body, it must read it before it responds. nginx also buffers a response before
//! it passes it on. A response that must arrive bit by bit, such as server-sent events, needs the
//! field `X-Accel-Buffering: no`.

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

/// A Filter's file, in the extensions of the request; see [`fcgi_engine::http::FilterData`].
pub type FilterData = fcgi_engine::http::FilterData<Body>;

use tower_service::Service;

use crate::{
    Acceptor,
    runtime::Runtime,
    server::{Serve, Server},
};

impl<R: Runtime> Server<R> {
    /// Serves a tower service; await the result to run it. See [`http`](crate::http).
    ///
    /// The service is cloned for each request, and the clone is then asked whether it is ready. So
    /// anything that limits requests must be shared by the clones, as tower's `ConcurrencyLimit`
    /// is. Wrap a service that is not `Sync` in tower's `BoxCloneSyncService` or `Buffer`.
    ///
    /// Authorizer requests get UNKNOWN_ROLE; use [`Responder::authorizer`] to answer them too.
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
    /// Serves a tower service in the way in which the process was started: one request as a CGI
    /// program, otherwise FastCGI. See [`serve_auto`](Self::serve_auto) and
    /// [`serve_http`](Self::serve_http).
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
