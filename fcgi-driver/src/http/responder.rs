//! A tower service as a handler of requests.

use fcgi_http::{HeadBlock, MetaVariables, request};
use fcgi_proto::{Rejection, Role};
use http::{Method, Request, Response, StatusCode, request::Parts};
use tower_service::Service;

use super::{
    Authorizer, Body, BoxError, ByRole, FilterData,
    reply::{Reply, ask, catch},
};
use crate::server::{self, FAILED, Failed, Handler};

/// The [`Handler`] that [`Server::serve_http`](server::Server::serve_http) makes of a tower
/// service.
///
/// It answers Responder requests, and Filter requests with [`FilterData`] among their extensions;
/// an Authorizer request gets UNKNOWN_ROLE.
#[derive(Clone, Debug)]
pub struct Responder<S> {
    service: S,
}

impl<S> Responder<S> {
    /// A handler that clones the service for each request.
    pub const fn new(service: S) -> Self {
        Self { service }
    }

    /// This for Responder and Filter requests, and an [`Authorizer`] for those of its role: one
    /// server for both.
    ///
    /// ```no_run
    /// use fcgi_tokio as fcgi; // or any other adapter, with its feature `http`
    /// use fcgi::http::{Body, Decision, Responder};
    /// use http::{Request, Response, StatusCode};
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let app = tower::service_fn(async |_: Request<Body>| {
    ///     Ok::<_, std::convert::Infallible>(Response::new(Body::from("for members only\n")))
    /// });
    /// let check = tower::service_fn(async |request: Request<()>| {
    ///     Ok::<_, std::convert::Infallible>(match request.headers().get("authorization") {
    ///         Some(token) if token == "Bearer secret" => Decision::allow([("REMOTE_USER", "ann")]),
    ///         _ => Decision::deny(StatusCode::UNAUTHORIZED),
    ///     })
    /// });
    /// let listener = fcgi::Listener::bind(&"unix:/run/app.sock".parse()?)?;
    /// fcgi::Server::new().serve(listener, Responder::new(app).authorizer(check)).await?;
    /// # Ok(())
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
        if request.role() == Role::Authorizer {
            request.reject(Rejection::UnknownRole);
            return Err(Failed);
        }
        let (head, mut reply) = match head(&mut request).await {
            Ok(head) => head,
            Err(end) => return end,
        };
        let (declared, body) = match content_length(&head) {
            Ok(declared) => (declared, request.stdin()),
            Err(error) => return bad_request(&mut reply, &error).await,
        };
        let mut http = Request::from_parts(head, Body::from_input(body, declared));
        if request.role() == Role::Filter {
            let declared =
                http.extensions().get::<MetaVariables>().and_then(MetaVariables::data_length);
            http.extensions_mut()
                .insert(FilterData::new(Body::from_input(request.data(), declared)));
        }
        let answered = catch(self.answer(http, &mut reply)).await;
        reply.end(answered).await
    }
}

impl<S> Responder<S> {
    async fn answer<B>(&self, request: Request<Body>, reply: &mut Reply) -> Result<u32, Failed>
    where
        S: Service<Request<Body>, Response = Response<B>, Error: Into<BoxError>> + Clone,
        B: http_body::Body<Data: Send, Error: Into<BoxError>>,
    {
        match ask(&self.service, request).await {
            Ok(response) => reply.send(response, HeadBlock::new).await,
            Err(error) => reply.fail(error).await,
        }
    }
}

/// The head of the HTTP request, and where its response goes; or how the request ends, when
/// there is none.
pub(super) async fn head(
    request: &mut server::Request,
) -> Result<(Parts, Reply), Result<u32, Failed>> {
    match request::from_params(request.take_params()) {
        Ok(mut head) => {
            head.extensions.insert(request.role());
            let reply = Reply::new(request.stdout(), head.method.clone());
            Ok((head, reply))
        }
        Err(error) => {
            let mut reply = Reply::new(request.stdout(), Method::GET);
            Err(bad_request(&mut reply, &error).await)
        }
    }
}

async fn bad_request(reply: &mut Reply, error: &request::RequestError) -> Result<u32, Failed> {
    tracing::warn!(%error, "request refused");
    reply.page(StatusCode::BAD_REQUEST, FAILED).await
}

fn content_length(head: &Parts) -> Result<Option<u64>, request::RequestError> {
    head.extensions.get().map_or(Ok(None), MetaVariables::content_length)
}
