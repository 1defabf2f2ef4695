//! Asks an Authorizer whether a request is allowed (FC-6.3-1, FC-6.3-2).

use fcgi_engine::http::{Answered, Call};
use http::{Request, request::Parts};

use super::{HttpClient, HttpError, ResponseBody};
use crate::{client, http::Body};

/// An Authorizer's answer about a request; see [`fcgi_engine::http::Authorized`].
pub type Authorized<B> = fcgi_engine::http::Authorized<B, ResponseBody>;

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
        let (head, body) = request.into_parts();
        let answer = self.check(head.clone())?;
        Ok(Authorized::new(Request::from_parts(head, body), answer))
    }

    /// Asks the application, which is an Authorizer, about a request.
    pub(super) fn check(&self, parts: Parts) -> Result<Answered<ResponseBody>, HttpError> {
        self.call(Call::authorizer(parts), None::<Body>, client::Body::empty())
    }
}
