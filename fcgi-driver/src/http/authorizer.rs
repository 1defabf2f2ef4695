//! An Authorizer as a tower service.

use fcgi_http::{HeadBlock, authorizer};
use fcgi_proto::{Params, Rejection, Role};
use http::{Request, Response, StatusCode};
use tower_service::Service;

use super::{
    Body, BoxError,
    reply::{Reply, ask, catch},
    responder::head,
};
use crate::server::{self, Failed, Handler};

/// A [`Handler`] that asks a tower service whether requests may go on (FC-6.3-2).
///
/// The service gets `http::Request<()>`: an Authorizer's request has no body. SCRIPT_NAME and
/// PATH_INFO are not among its parameters (FC-6.3-1); its URI is REQUEST_URI, and
/// [`MetaVariables`](super::MetaVariables) are in its extensions. It answers with a [`Decision`].
///
/// Whatever goes wrong denies: a service that fails, panics, or denies with status 200 gives a page
/// with status 500, parameters that describe no HTTP request one with 400. Requests of other roles
/// get UNKNOWN_ROLE; [`Responder::authorizer`](super::Responder::authorizer) is for both.
#[derive(Clone, Debug)]
pub struct Authorizer<S> {
    service: S,
}

impl<S> Authorizer<S> {
    /// A handler that clones the service for each request.
    pub const fn new(service: S) -> Self {
        Self { service }
    }
}

/// What an Authorizer says.
#[derive(Debug)]
pub enum Decision<B = Body> {
    /// The request may go on.
    Allow {
        /// Parameters for the web server to add to the request, in place of those of the same
        /// names. A name has to be a header field's, a value one line without spaces at its ends.
        variables: Params,
    },
    /// The client gets this response, whose status must not be 200.
    Deny(Response<B>),
}

impl Decision {
    /// Allows, with these variables.
    pub fn allow<N: AsRef<[u8]>, V: AsRef<[u8]>>(
        variables: impl IntoIterator<Item = (N, V)>,
    ) -> Self {
        Self::Allow { variables: variables.into_iter().collect() }
    }

    /// Denies, with a response that has no field and no body.
    #[must_use]
    pub fn deny(status: StatusCode) -> Self {
        let mut response = Response::new(Body::empty());
        *response.status_mut() = status;
        Self::Deny(response)
    }
}

impl<S, B> Handler for Authorizer<S>
where
    S: Service<Request<()>, Response = Decision<B>, Error: Into<BoxError>>,
    S: Clone + Send + Sync + 'static,
    S::Future: Send,
    B: http_body::Body<Data: Send, Error: Into<BoxError>> + Send + 'static,
{
    async fn call(&self, mut request: server::Request) -> Result<u32, Failed> {
        if request.role() != Role::Authorizer {
            request.reject(Rejection::UnknownRole);
            return Err(Failed);
        }
        let (head, mut reply) = match head(&mut request).await {
            Ok(head) => head,
            Err(end) => return end,
        };
        let answered = catch(self.answer(Request::from_parts(head, ()), &mut reply)).await;
        reply.end(answered).await
    }
}

impl<S> Authorizer<S> {
    async fn answer<B>(&self, request: Request<()>, reply: &mut Reply) -> Result<u32, Failed>
    where
        S: Service<Request<()>, Response = Decision<B>, Error: Into<BoxError>> + Clone,
        B: http_body::Body<Data: Send, Error: Into<BoxError>>,
    {
        match ask(&self.service, request).await {
            Ok(Decision::Deny(response)) => reply.send(response, authorizer::deny).await,
            Ok(Decision::Allow { variables }) => match authorizer::allow(&variables) {
                Ok(head) => allow(reply, head).await,
                Err(error) => reply.fail(error.into()).await,
            },
            Err(error) => reply.fail(error).await,
        }
    }
}

async fn allow(reply: &mut Reply, head: HeadBlock) -> Result<u32, Failed> {
    reply.begin(head).await.map(|()| 0).map_err(|_| Failed)
}

/// One handler for Authorizer requests, another for the others.
#[derive(Clone, Debug)]
pub struct ByRole<R, A> {
    responder: R,
    authorizer: A,
}

impl<R, A> ByRole<R, A> {
    /// Two handlers as one.
    pub const fn new(responder: R, authorizer: A) -> Self {
        Self { responder, authorizer }
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
