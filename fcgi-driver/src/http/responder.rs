//! A handler made from a tower service.

use fcgi_engine::http::{ByRole, Reply};
use fcgi_http::PathSource;
use http::{Request, Response};
use tower_service::Service;

use super::{Authorizer, Body, BoxError, reply};
use crate::server::{self, Failed, Handler};

/// The [`Handler`] that [`Server::serve_http`](server::Server::serve_http) makes from a tower
/// service.
///
/// It answers Responder requests, and Filter requests, which have [`FilterData`](super::FilterData)
/// among their extensions. An Authorizer request gets UNKNOWN_ROLE.
#[derive(Clone, Debug)]
pub struct Responder<S> {
    service: S,
    path: PathSource,
}

impl<S> Responder<S> {
    /// Creates a handler that clones the service for each request.
    pub const fn new(service: S) -> Self {
        Self { service, path: PathSource::RequestUri }
    }

    /// Sets where the path comes from that the service uses for routing. The default is
    /// REQUEST_URI, the whole path.
    ///
    /// ```
    /// use fcgi_tokio as fcgi; // or any other adapter, with its feature `http`
    /// use fcgi::http::{PathSource, Responder};
    ///
    /// # let app = tower::service_fn(async |_: http::Request<fcgi::http::Body>| {
    /// #     Ok::<_, std::convert::Infallible>(http::Response::new(fcgi::http::Body::empty()))
    /// # });
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
    /// use fcgi_tokio as fcgi; // or any other adapter, with its feature `http`
    /// use fcgi::http::{Body, Decision, Responder};
    /// use http::{Request, Response, StatusCode};
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), fcgi::Error> {
    /// let app = tower::service_fn(async |_: Request<Body>| {
    ///     Ok::<_, std::convert::Infallible>(Response::new(Body::from("for members only\n")))
    /// });
    /// let check = tower::service_fn(async |request: Request<()>| {
    ///     Ok::<_, std::convert::Infallible>(match request.headers().get("authorization") {
    ///         Some(token) if token == "Bearer secret" => Decision::allow([("REMOTE_USER", "ann")]),
    ///         _ => Decision::deny(StatusCode::UNAUTHORIZED),
    ///     })
    /// });
    /// let listener = fcgi::Listener::from_env("unix:/run/app.sock")?;
    /// fcgi::serve(listener, Responder::new(app).authorizer(check)).await
    /// # }
    /// ```
    pub fn authorizer<A>(self, authorizer: A) -> ByRole<Self, Authorizer<A>> {
        ByRole::new(self, Authorizer::new(authorizer))
    }
}

impl<S, B> Handler for Responder<S>
where
    S: Service<Request<Body>, Response = Response<B>, Error: Into<BoxError>>,
    S: Clone + Send + Sync + 'static,
    S::Future: Send,
    B: http_body::Body<Data: Send, Error: Into<BoxError>> + Send + 'static,
{
    async fn call(&self, mut request: server::Request) -> Result<u32, Failed> {
        let (mut reply, asked) = Reply::responder(request.role(), request.take_params(), self.path);
        let mut body = None;
        if let Some(asked) = asked {
            let input = |input, length| Body::from_input(request.input(input), length);
            let answer = reply::ask(&self.service, asked.into_request(input)).await;
            body = reply.handle_response(answer, |body| body.size_hint().exact());
        }
        reply::send(reply, &request, body).await
    }
}
