//! An Authorizer as a function of requests' heads.

use std::io::Read;

use fcgi_http::authorizer;
use fcgi_proto::{Params, Rejection, Role};
use http::{Request, Response, StatusCode};

use super::{Body, IntoAnswer, responder::head};
use crate::server::{self, Failed, Handler};

/// A [`Handler`] that asks a function whether requests may go on (FC-6.3-2).
///
/// The function gets `http::Request<()>`: an Authorizer's request has no body. SCRIPT_NAME and
/// PATH_INFO are not among its parameters (FC-6.3-1); its URI is REQUEST_URI, and
/// [`MetaVariables`](super::MetaVariables) are in its extensions. It answers with a [`Decision`], or
/// a `Result` of one.
///
/// Whatever goes wrong denies: a function that fails, panics, or denies with status 200 gives a
/// page with status 500, parameters that describe no HTTP request one with 400. Requests of other
/// roles get UNKNOWN_ROLE; [`Responder::authorizer`](super::Responder::authorizer) is for both.
#[derive(Clone, Debug)]
pub struct Authorizer<H> {
    handler: H,
}

impl<H> Authorizer<H> {
    /// A handler that calls this function for each request.
    pub const fn new<A>(handler: H) -> Self
    where
        H: Fn(Request<()>) -> A,
    {
        Self { handler }
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

impl<H, A, B> Handler for Authorizer<H>
where
    H: Fn(Request<()>) -> A + Send + Sync + 'static,
    A: IntoAnswer<Answer = Decision<B>>,
    B: Read + 'static,
{
    fn call(&self, mut request: server::Request) -> Result<u32, Failed> {
        if request.role() != Role::Authorizer {
            request.reject(Rejection::UnknownRole);
            return Err(Failed);
        }
        let (head, mut reply) = match head(&mut request) {
            Ok(head) => head,
            Err(end) => return end,
        };
        let http = Request::from_parts(head, ());
        reply.answer(|reply| match (self.handler)(http).into_answer() {
            Ok(Decision::Deny(response)) => reply.send(response, authorizer::deny),
            Ok(Decision::Allow { variables }) => match authorizer::allow(&variables) {
                Ok(head) => reply.begin(head).map(|()| 0).map_err(|_| Failed),
                Err(error) => reply.fail(error),
            },
            Err(error) => reply.fail(error),
        })
    }
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
    fn call(&self, request: server::Request) -> Result<u32, Failed> {
        match request.role() {
            Role::Authorizer => self.authorizer.call(request),
            _ => self.responder.call(request),
        }
    }
}
