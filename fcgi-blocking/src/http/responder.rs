//! A handler made from a function of HTTP requests.

use std::io::Read;

use fcgi_engine::http::{ByRole, Reply};
use fcgi_http::PathSource;
use http::{Request, Response};

use super::{
    Authorizer, Body, IntoAnswer,
    body::{Source, size_hint},
    reply,
};
use crate::server::{self, Failed, Handler};

/// The [`Handler`] that [`Server::serve_http`](server::Server::serve_http) makes from a function.
///
/// It answers Responder requests, and Filter requests, which have [`FilterData`](super::FilterData)
/// among their extensions. An Authorizer request gets UNKNOWN_ROLE.
#[derive(Clone, Debug)]
pub struct Responder<H> {
    handler: H,
    path: PathSource,
}

impl<H> Responder<H> {
    /// Creates a handler that calls this function for each request.
    pub const fn new<A>(handler: H) -> Self
    where
        H: Fn(Request<Body>) -> A,
    {
        Self { handler, path: PathSource::RequestUri }
    }

    /// Sets where the path comes from that the service uses for routing. The default is
    /// REQUEST_URI, the whole path.
    ///
    /// ```
    /// use fcgi_blocking as fcgi;
    /// use fcgi::http::{PathSource, Responder};
    ///
    /// # let app = |_: http::Request<fcgi::http::Body>| http::Response::new(fcgi::http::Body::empty());
    /// let below_a_path = Responder::new(app).path(PathSource::PathInfo);
    /// ```
    #[must_use]
    pub const fn path(mut self, source: PathSource) -> Self {
        self.path = source;
        self
    }

    /// Uses this handler for Responder and Filter requests, and an [`Authorizer`] for Authorizer
    /// requests, in one server.
    ///
    /// ```no_run
    /// use fcgi_blocking as fcgi;
    /// use fcgi::http::{Body, Decision, Responder};
    /// use http::{Request, Response, StatusCode};
    ///
    /// # fn main() -> Result<(), fcgi::Error> {
    /// let app = |_: Request<Body>| Response::new(Body::from("for members only\n"));
    /// let check = |request: Request<()>| match request.headers().get("authorization") {
    ///     Some(token) if token == "Bearer secret" => Decision::allow([("REMOTE_USER", "ann")]),
    ///     _ => Decision::deny(StatusCode::UNAUTHORIZED),
    /// };
    /// let listener = fcgi::Listener::from_env("unix:/run/app.sock")?;
    /// fcgi::serve(listener, Responder::new(app).authorizer(check)).run()
    /// # }
    /// ```
    pub fn authorizer<F, A>(self, authorizer: F) -> ByRole<Self, Authorizer<F>>
    where
        F: Fn(Request<()>) -> A,
    {
        ByRole::new(self, Authorizer::new(authorizer))
    }
}

impl<H, A, B> Handler for Responder<H>
where
    H: Fn(Request<Body>) -> A + Send + Sync + 'static,
    A: IntoAnswer<Answer = Response<B>>,
    B: Read + 'static,
{
    fn call(&self, mut request: server::Request) -> Result<u32, Failed> {
        let (mut reply, asked) = Reply::responder(request.role(), request.take_params(), self.path);
        let mut body = None;
        if let Some(mut asked) = asked {
            asked.head().extensions.insert(request.cancellation());
            let input = |input, length| Body::from_input(request.input(input), length);
            let answer = (self.handler)(asked.into_request(input)).into_answer();
            body = reply.handle_response(answer, size_hint).map(Source::new);
        }
        reply::send(reply, &request, body)
    }
}
