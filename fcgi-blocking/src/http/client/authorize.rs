//! Asks an Authorizer whether a request may go on (FC-6.3-1, FC-6.3-2).

use fcgi_engine::http::Variables;
use fcgi_http::{
    HeadError, RequestBody,
    authorizer::{self, Answer, AnswerParser},
};
use fcgi_proto::{Params, Role};
use http::{Request, Response, request::Parts};

use super::{HttpClient, HttpError, Received, ResponseBody, Told, respond};
use crate::{
    client::{self, Chunk},
    pool,
};

/// What an Authorizer said of a request.
#[derive(Debug)]
pub enum Authorized<B> {
    /// It may go on. The Authorizer's [`Variables`] are in its extensions.
    Allowed(Request<B>),
    /// The client gets this.
    Denied(Response<ResponseBody>),
}

/// What was said of a request's head.
pub(super) enum Checked {
    Allowed(Params),
    Denied(Response<ResponseBody>),
}

impl HttpClient {
    /// Asks the Authorizer that this client calls. It gets the request's head only.
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
    /// See [`HttpError`]. The request must not go on then: a bad answer does not allow, nor does an
    /// Authorizer that broke off, or ended with a status other than 0.
    pub fn authorize<B>(&self, request: Request<B>) -> Result<Authorized<B>, HttpError> {
        let (mut parts, body) = request.into_parts();
        Ok(match self.check(&parts)? {
            Checked::Allowed(variables) => {
                Variables::add(variables, &mut parts);
                Authorized::Allowed(Request::from_parts(parts, body))
            }
            Checked::Denied(denied) => Authorized::Denied(denied),
        })
    }

    /// What this client's own Authorizer says, if it has one.
    pub(super) fn authorized(&self, parts: &Parts) -> Result<Checked, HttpError> {
        match &self.0.authorizer {
            Some(authorizer) => authorizer.check(parts),
            None => Ok(Checked::Allowed(Params::new())),
        }
    }

    fn check(&self, parts: &Parts) -> Result<Checked, HttpError> {
        let settings = &self.0.settings;
        let length = RequestBody::from_headers(&parts.headers)?;
        let script = settings.script(parts)?;
        let params = authorizer::params(&settings.tell(parts, &script, length)?);
        let (stdin, data) = (client::Body::empty(), client::Body::empty());
        let mut response = self.start(Role::Authorizer, Told { params, stdin, data })?;
        let mut parser = AnswerParser::new(settings.head);
        let failed = |response: &pool::Response, source| HttpError::Head {
            address: response.address(),
            source,
        };
        loop {
            match response.chunk()? {
                Some(Chunk::Stdout(mut bytes)) => match parser.push(&mut bytes) {
                    Ok(None) => {}
                    Ok(Some(Answer::Allow { variables })) => {
                        return finish(response).map(|()| Checked::Allowed(variables));
                    }
                    Ok(Some(Answer::Deny(head))) => {
                        let received = Received { head: *head, rest: bytes, response };
                        return respond(&parts.method, received).map(Checked::Denied);
                    }
                    Err(source) => return Err(failed(&response, source)),
                },
                Some(Chunk::Stderr(_)) => {}
                None => {
                    let cut = parser.finish().err().unwrap_or(HeadError::Truncated { bytes: 0 });
                    return Err(failed(&response, cut));
                }
            }
        }
    }
}

/// Waits for the good end of an answer that allows, whose body is dropped.
fn finish(mut response: pool::Response) -> Result<(), HttpError> {
    while response.chunk()?.is_some() {}
    match response.app_status() {
        Some(0) => Ok(()),
        status => Err(HttpError::AppStatus {
            address: response.address(),
            app_status: status.unwrap_or_default(),
        }),
    }
}
