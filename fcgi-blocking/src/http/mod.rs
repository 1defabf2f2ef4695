//! HTTP over FastCGI: functions of HTTP requests behind a web server, and a client.
//!
//! `fcgi-http` says what a request's parameters and a response's head mean; this module moves them
//! over a [`Server`] and a [`Pool`](crate::Pool), with the bodies streamed both ways as readers.
//! What differs from the async adapters' module of the same name is that there is no tower.
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
//! `http::Request<`[`Body`]`>`, and among its extensions the [`MetaVariables`], which are every
//! parameter as it came, the [`Role`](fcgi_proto::Role), and [`Cancelled`]. The body is over
//! when as many bytes have come as CONTENT_LENGTH says, and ends with an error when there are fewer
//! or more (FC-6.2-2, W-16); without CONTENT_LENGTH it ends where STDIN does (W-10).
//!
//! # What a handler answers
//! `http::Response<B>` for any [`Read`], or a `Result` of one whose error says why there is none.
//! [`Body`] is made of strings and bytes, and knows its length.
//!
//! # What the web server gets
//! - Status always (W-2), no hop-by-hop field (W-3), and the whole head in one STDOUT record (W-1),
//!   with the first bytes that the body's reader gives. A small [`Body`] of bytes is one write.
//! - What a reader has given before it is asked for more, which may take its time.
//! - A Content-Length, if the response has none and its body is a [`Body`] that knows its length.
//! - No body after HEAD, nor with 204 and 304: the reader is not asked. A body too long for its
//!   Content-Length is cut (W-4).
//! - A page with status 500 and a non-zero app status after an error of the handler or of its body, a
//!   body shorter than its Content-Length, or a panic. Once the head was sent, the response is cut
//!   instead, so that the web server sees it (W-12).
//! - A page with status 400 for parameters that describe no HTTP request.
//! - Never a 1xx response: CGI has none. One from the handler is an error.
//!
//! When the web server gives the request up, its body fails, and the response's is asked no more.
//! A handler that reads nothing looks at [`Cancelled`].
//!
//! nginx sends no more of a request's body once it has the response's head: read the body first
//! where it matters. It gathers a response, too, before it passes it on: one that is to arrive bit
//! by bit, such as server-sent events, needs the field `X-Accel-Buffering: no`.

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

/// A Filter's file, in the extensions of its request; see [`fcgi_engine::http::FilterData`].
pub type FilterData = fcgi_engine::http::FilterData<Body>;

use std::io::Read;

use http::{Request, Response};

pub use crate::server::Cancelled;
use crate::{Listener, Server, server::Serve};

impl Server {
    /// Serves a function of HTTP requests, once [`run`](Serve::run) is called; see
    /// [`http`](crate::http). Several threads call it at once.
    ///
    /// Authorizer requests get UNKNOWN_ROLE; [`Responder::authorizer`] answers them too.
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
    /// Serves a function of HTTP requests as the process was started: one request as a CGI program, else
    /// FastCGI; see [`serve_auto`](Self::serve_auto).
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
