//! An Authorizer as a function of HTTP requests.

use std::io::Read;

use fcgi_engine::http::{ByRole, Reply};
use fcgi_proto::Role;
use http::Request;

use super::{
    Decision, IntoAnswer,
    body::{Source, size_hint},
    reply,
};
use crate::server::{self, Failed, Handler};

/// A [`Handler`] that asks a function whether to allow a request (FC-6.3-2).
///
/// The function gets an `http::Request<()>`, since an Authorizer's request has no body. SCRIPT_NAME
/// and PATH_INFO are not among its parameters (FC-6.3-1). Its URI is REQUEST_URI, and its
/// extensions contain the [`MetaVariables`](super::MetaVariables). The function answers with a
/// [`Decision`], or a `Result` of one.
///
/// Any failure denies the request. If the function fails, panics, or denies with status 200, the
/// client gets a page with status 500; if the parameters do not describe an HTTP request, one with
/// status 400. Requests of other roles get UNKNOWN_ROLE; use
/// [`Responder::authorizer`](super::Responder::authorizer) for both roles.
#[derive(Clone, Debug)]
pub struct Authorizer<H> {
    handler: H,
}

impl<H> Authorizer<H> {
    /// Creates a handler that calls this function for each request.
    pub const fn new<A>(handler: H) -> Self
    where
        H: Fn(Request<()>) -> A,
    {
        Self { handler }
    }
}

impl<H, A, B> Handler for Authorizer<H>
where
    H: Fn(Request<()>) -> A + Send + Sync + 'static,
    A: IntoAnswer<Answer = Decision<B>>,
    B: Read + 'static,
{
    fn call(&self, mut request: server::Request) -> Result<u32, Failed> {
        let (mut reply, asked) = Reply::authorizer(request.role(), request.take_params());
        let mut body = None;
        if let Some(mut asked) = asked {
            asked.head().extensions.insert(request.cancellation());
            let answer = (self.handler)(asked.into_request(|_, _| ())).into_answer();
            body = reply.handle_decision(answer.map(Decision::allowed), size_hint).map(Source::new);
        }
        reply::send(reply, &request, body)
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
