//! HTTP over FastCGI: a server for functions of HTTP requests, behind a web server, and a client.
//!
//! `fcgi-http` defines what a request's parameters and a response's head mean. This module sends
//! and receives them with a [`Server`] and a [`Pool`](crate::Pool), and streams the bodies in both
//! directions, as readers. Unlike the async adapters' module of the same name, it does not use
//! tower.
//!
//! ```no_run
//! use fcgi_blocking as fcgi;
//! use fcgi::http::Body;
//!
//! # fn main() -> Result<(), fcgi::Error> {
//! let listener = fcgi::Listener::from_env("unix:/run/app.sock")?;
//! let hello = |request: http::Request<Body>| {
//!     http::Response::new(Body::from(format!("Hello from {}\n", request.uri().path())))
//! };
//! fcgi::serve_http(listener, hello).run()
//! # }
//! ```
//!
//! # What a handler gets
//! The handler gets an `http::Request<`[`Body`]`>`. Its extensions contain the [`MetaVariables`],
//! which are all parameters as they were received, the [`Role`](fcgi_proto::Role), and
//! [`Cancelled`].
//!
//! The body ends after CONTENT_LENGTH bytes. If there are fewer or more, it ends with an error
//! (FC-6.2-2, W-16). Without CONTENT_LENGTH it ends where STDIN ends (W-10).
//!
//! # What a handler answers
//! An `http::Response<B>` for any [`Read`], or a `Result` of one, whose error says why there is no
//! response. A [`Body`] can be made from strings and bytes, and knows its length.
//!
//! # What the web server gets
//! - A Status in every response (W-2), no hop-by-hop fields (W-3), and the whole head in one STDOUT
//!   record (W-1), together with the first bytes of the body's reader. A small [`Body`] of bytes is
//!   one write.
//! - All bytes of a reader so far, before the reader is read again, since that may take time.
//! - A Content-Length, if the response has none and its body is a [`Body`] that knows its length.
//! - No body after HEAD, nor with 204 and 304; the reader is not read. A body that is longer than
//!   its Content-Length is cut off (W-4).
//! - A page with status 500 and a non-zero app status after an error of the handler or of its body,
//!   after a panic, or if the body is shorter than its Content-Length. If the head was already
//!   sent, the response is cut off instead, so that the web server notices (W-12).
//! - A page with status 400 if the parameters do not describe an HTTP request.
//! - Never a 1xx response, since CGI has none. If the handler returns one, that is an error.
//!
//! When the web server aborts the request, reads of its body fail, and the response's body is not
//! read any more. A handler that does not read can check [`Cancelled`].
//!
//! nginx sends no more of a request's body once it has the head of the response. If the handler
//! needs the whole body, it must read it before it responds. nginx also buffers a response before
//! it passes it on. A response that must arrive bit by bit, such as server-sent events, needs the
//! field `X-Accel-Buffering: no`.

mod answer;
mod authorizer;
mod body;
mod client;
mod reply;
mod responder;

pub use answer::{Decision, IntoAnswer};
pub use authorizer::Authorizer;
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

use std::io::Read;

use http::{Request, Response};

pub use crate::server::Cancelled;
use crate::{Listener, Server, server::Serve};

impl Server {
    /// Serves a function of HTTP requests; call [`run`](Serve::run) to start. See
    /// [`http`](crate::http). Several threads call it at once.
    ///
    /// Authorizer requests get UNKNOWN_ROLE; use [`Responder::authorizer`] to answer them too.
    pub fn serve_http<H, A, B>(
        self,
        listener: impl Into<Listener>,
        handler: H,
    ) -> Serve<Responder<H>>
    where
        H: Fn(Request<Body>) -> A + Send + Sync + 'static,
        A: IntoAnswer<Answer = Response<B>>,
        B: Read + 'static,
    {
        let path = self.settings.path;
        self.serve(listener, Responder::new(handler).path(path))
    }
    /// Serves a function of HTTP requests in the way in which the process was started: one request
    /// as a CGI program, otherwise FastCGI. See [`serve_auto`](Self::serve_auto).
    pub fn serve_http_auto<H, A, B>(self, handler: H) -> Serve<Responder<H>>
    where
        H: Fn(Request<Body>) -> A + Send + Sync + 'static,
        A: IntoAnswer<Answer = Response<B>>,
        B: Read + 'static,
    {
        let path = self.settings.path;
        self.serve_auto(Responder::new(handler).path(path))
    }
}
