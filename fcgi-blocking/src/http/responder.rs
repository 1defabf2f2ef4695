//! A function of HTTP requests as a handler.

use std::io::Read;

use fcgi_http::{HeadBlock, MetaVariables, request};
use fcgi_proto::{Rejection, Role};
use http::{Method, Request, Response, StatusCode, request::Parts};

use super::{Authorizer, Body, ByRole, FilterData, IntoAnswer, reply::Reply};
use crate::server::{self, FAILED, Failed, Handler};

/// The [`Handler`] that [`Server::serve_http`](server::Server::serve_http) makes of a function.
///
/// It answers Responder requests, and Filter requests with [`FilterData`] among their extensions;
/// an Authorizer request gets UNKNOWN_ROLE.
#[derive(Clone, Debug)]
pub struct Responder<H> {
    handler: H,
}

impl<H> Responder<H> {
    /// A handler that calls this function for each request.
    pub const fn new<A>(handler: H) -> Self
    where
        H: Fn(Request<Body>) -> A,
    {
        Self { handler }
    }

    /// This for Responder and Filter requests, and an [`Authorizer`] for those of its role: one
    /// server for both.
    ///
    /// ```no_run
    /// use fcgi_blocking as fcgi;
    /// use fcgi::http::{Body, Decision, Responder};
    /// use http::{Request, Response, StatusCode};
    ///
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let app = |_: Request<Body>| Response::new(Body::from("for members only\n"));
    /// let check = |request: Request<()>| match request.headers().get("authorization") {
    ///     Some(token) if token == "Bearer secret" => Decision::allow([("REMOTE_USER", "ann")]),
    ///     _ => Decision::deny(StatusCode::UNAUTHORIZED),
    /// };
    /// let listener = fcgi::Listener::bind(&"unix:/run/app.sock".parse()?)?;
    /// fcgi::Server::new().serve(listener, Responder::new(app).authorizer(check))?;
    /// # Ok(())
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
        if request.role() == Role::Authorizer {
            request.reject(Rejection::UnknownRole);
            return Err(Failed);
        }
        let (head, mut reply) = match head(&mut request) {
            Ok(head) => head,
            Err(end) => return end,
        };
        let declared = match content_length(&head) {
            Ok(declared) => declared,
            Err(error) => return bad_request(&mut reply, &error),
        };
        let mut http = Request::from_parts(head, Body::from_input(request.stdin(), declared));
        if request.role() == Role::Filter {
            let declared =
                http.extensions().get::<MetaVariables>().and_then(MetaVariables::data_length);
            http.extensions_mut()
                .insert(FilterData::new(Body::from_input(request.data(), declared)));
        }
        reply.answer(|reply| match (self.handler)(http).into_answer() {
            Ok(response) => reply.send(response, HeadBlock::new),
            Err(error) => reply.fail(error),
        })
    }
}

/// The head of the HTTP request, and where its response goes; or how the request ends, when
/// there is none.
pub(super) fn head(request: &mut server::Request) -> Result<(Parts, Reply), Result<u32, Failed>> {
    match request::from_params(request.take_params()) {
        Ok(mut head) => {
            head.extensions.insert(request.role());
            head.extensions.insert(request.cancellation());
            let reply = Reply::new(request.stdout(), head.method.clone());
            Ok((head, reply))
        }
        Err(error) => {
            let mut reply = Reply::new(request.stdout(), Method::GET);
            Err(bad_request(&mut reply, &error))
        }
    }
}

fn bad_request(reply: &mut Reply, error: &request::RequestError) -> Result<u32, Failed> {
    tracing::warn!(%error, "request refused");
    reply.page(StatusCode::BAD_REQUEST, FAILED)
}

fn content_length(head: &Parts) -> Result<Option<u64>, request::RequestError> {
    head.extensions.get().map_or(Ok(None), MetaVariables::content_length)
}
