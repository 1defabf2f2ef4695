//! Asks an Authorizer whether a request is allowed (FC-6.3-1, FC-6.3-2).

use fcgi_engine::http::{Answered, Call, Variables};
use http::{Request, Response, request::Parts};

use super::{HttpClient, HttpError, ResponseBody};
use crate::{client, http::Body};

/// An Authorizer's answer about a request. There is no third answer (FC-6.3-2).
#[derive(Debug)]
pub enum Authorized<B> {
    /// The request is allowed. The Authorizer's [`Variables`] are in its extensions.
    Allowed(Request<B>),
    /// Send this response to the client.
    Denied(Response<ResponseBody>),
}

impl HttpClient {
    /// Asks the Authorizer that this client calls. It gets only the head of the request.
    ///
    /// ```no_run
    /// use fcgi_blocking as fcgi;
    /// use fcgi::http::{Authorized, Body, HttpClient};
    /// # fn example(authorizer: HttpClient, app: HttpClient, request: http::Request<Body>)
    /// #     -> Result<(), fcgi::http::HttpError> {
    /// let response = match authorizer.authorize(request)? {
    ///     Authorized::Allowed(request) => app.send(request)?,
    ///     Authorized::Denied(response) => response,
    /// };
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// See [`HttpError`]. An error does not allow the request: neither a bad answer does, nor an
    /// Authorizer that broke off or ended with a status other than 0.
    pub fn authorize<B>(&self, request: Request<B>) -> Result<Authorized<B>, HttpError> {
        let (mut parts, body) = request.into_parts();
        Ok(match self.check(parts.clone())? {
            Answered::Allowed(variables) => {
                Variables::add(variables, &mut parts);
                Authorized::Allowed(Request::from_parts(parts, body))
            }
            Answered::Response(denied) => Authorized::Denied(denied),
        })
    }

    /// Asks the application, which is an Authorizer, about a request.
    pub(super) fn check(&self, parts: Parts) -> Result<Answered<ResponseBody>, HttpError> {
        self.call(Call::authorizer(parts), None::<Body>, client::Body::empty())
    }
}
