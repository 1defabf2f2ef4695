//! An Authorizer as a tower service.

use fcgi_engine::http::{ByRole, Reply};
use fcgi_proto::Role;
use http::Request;
use tower_service::Service;

use super::{Body, BoxError, reply};
use crate::server::{self, Failed, Handler};

/// A [`Handler`] that asks a tower service whether to allow a request (FC-6.3-2).
///
/// The service gets an `http::Request<()>`, since an Authorizer's request has no body. SCRIPT_NAME
/// and PATH_INFO are not among its parameters (FC-6.3-1). Its URI is REQUEST_URI, and its
/// extensions contain the [`MetaVariables`](super::MetaVariables). The service answers with a
/// [`Decision`].
///
/// Any failure denies the request. If the service fails, panics, or denies with status 200, the
/// client gets a page with status 500; if the parameters do not describe an HTTP request, one with
/// status 400. Requests of other roles get UNKNOWN_ROLE; use
/// [`Responder::authorizer`](super::Responder::authorizer) for both roles.
#[derive(Clone, Debug)]
pub struct Authorizer<S> {
    service: S,
}

impl<S> Authorizer<S> {
    /// Creates a handler that clones the service for each request.
    pub const fn new(service: S) -> Self {
        Self { service }
    }
}

fcgi_engine::http_decision!(Body);

impl<S, B> Handler for Authorizer<S>
where
    S: Service<Request<()>, Response = Decision<B>, Error: Into<BoxError>>,
    S: Clone + Send + Sync + 'static,
    S::Future: Send,
    B: http_body::Body<Data: Send, Error: Into<BoxError>> + Send + 'static,
{
    async fn call(&self, mut request: server::Request) -> Result<u32, Failed> {
        let (mut reply, asked) = Reply::authorizer(request.role(), request.take_params());
        let mut body = None;
        if let Some(asked) = asked {
            let answer = reply::ask(&self.service, asked.into_request(|_, _| ())).await;
            let decision = answer.map(Decision::allowed);
            body = reply.handle_decision(decision, |body| body.size_hint().exact());
        }
        reply::send(reply, &request, body).await
    }
}

impl<R: Handler, A: Handler> Handler for ByRole<R, A> {
    async fn call(&self, request: server::Request) -> Result<u32, Failed> {
        match request.role() {
            Role::Authorizer => self.authorizer.call(request).await,
            _ => self.responder.call(request).await,
        }
    }
}
