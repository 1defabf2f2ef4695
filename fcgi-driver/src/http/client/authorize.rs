//! Asks an Authorizer whether a request is allowed (FC-6.3-1, FC-6.3-2).

use fcgi_engine::http::{Answered, Call};
use http::{Request, request::Parts};

use super::{HttpClient, HttpError, ResponseBody};
use crate::{client, http::Body, runtime::Runtime};

/// An Authorizer's answer about a request; see [`fcgi_engine::http::Authorized`].
pub type Authorized<B, R> = fcgi_engine::http::Authorized<B, ResponseBody<R>>;

impl<R: Runtime> HttpClient<R> {
    /// Asks the Authorizer that this client calls. It gets only the head of the request.
    ///
    /// ```no_run
    /// use fcgi_tokio as fcgi; // or any other adapter, with its feature `http`
    /// use fcgi::http::{Authorized, HttpClient};
    /// # async fn example(authorizer: HttpClient, app: HttpClient, request: http::Request<http_body_util::Empty<bytes::Bytes>>)
    /// #     -> Result<(), fcgi::http::HttpError> {
    /// let response = match authorizer.authorize(request).await? {
    ///     Authorized::Allowed(request) => app.send(request).await?,
    ///     Authorized::Denied(response) => response,
    /// };
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// See [`HttpError`]. An error does not allow the request: neither a bad answer does, nor an
    /// Authorizer that broke off or ended with a status other than 0.
    ///
    /// # Cancellation safety
    /// Dropping the future aborts the call.
    pub async fn authorize<B>(&self, request: Request<B>) -> Result<Authorized<B, R>, HttpError> {
        let (head, body) = request.into_parts();
        let answer = self.check(head.clone()).await?;
        Ok(Authorized::new(Request::from_parts(head, body), answer))
    }

    /// Asks the application, which is an Authorizer, about a request.
    pub(super) async fn check(&self, parts: Parts) -> Result<Answered<ResponseBody<R>>, HttpError> {
        // An Authorizer's client may have an Authorizer too, whose type is the same.
        let call = self.call(Call::authorizer(parts), None::<Body>, client::Body::empty());
        Box::pin(call).await
    }
}
