//! One request of a client, from its head to its answer.

use std::{net::SocketAddr, sync::Arc};

use bytes::Bytes;
use http::{
    HeaderValue, Method, Request, Response, StatusCode, Uri, Version,
    header::{HOST, LOCATION},
    request::Parts,
};
use http_body_util::{BodyExt, Empty, combinators::UnsyncBoxBody};
use hyper::body::Incoming;

use super::{
    failure::Failure,
    files,
    log::{self, Entry},
    site::{Found, Site},
    upstream::{Answer, Upstream},
};

pub(super) type BoxError = Box<dyn std::error::Error + Send + Sync>;
/// The body of an answer.
pub(super) type Body = UnsyncBoxBody<Bytes, BoxError>;

pub(super) fn empty() -> Body {
    Empty::new().map_err(|never| match never {}).boxed_unsync()
}

/// What all connections share.
#[derive(Debug)]
pub(super) struct Service {
    pub(super) site: Arc<Site>,
    pub(super) upstream: Upstream,
    pub(super) quiet: bool,
}

/// The two ends of a client's connection.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ends {
    pub(super) remote: SocketAddr,
    pub(super) local: SocketAddr,
}

impl Service {
    /// Answers a request, and logs it once the answer has been sent.
    ///
    /// # Cancellation safety
    /// Dropping the future, as when the client has left, aborts the request.
    pub(super) async fn call(&self, request: Request<Incoming>, ends: Ends) -> Response<Body> {
        let entry = Entry::new(&request, ends.remote, self.quiet);
        let title = log::title(&request);
        let response = match self.answer(request, ends, &title).await {
            Ok(response) => response,
            Err(failure) => {
                if failure.status.is_server_error() {
                    log::error(&title, &failure.reason);
                }
                failure.into_response()
            }
        };
        entry.follow(response)
    }

    async fn answer(
        &self,
        request: Request<Incoming>,
        ends: Ends,
        title: &str,
    ) -> Result<Response<Body>, Failure> {
        let (mut head, body) = request.into_parts();
        check(&head)?;
        let mut found = self.find(head.uri.path()).await?;
        if let Found::Script(script) = found {
            let mut asked = head.clone();
            asked.extensions.insert(script);
            found = match self.upstream.ask(asked, body, ends, title).await? {
                Answer::Response(response) => return Ok(response),
                Answer::Elsewhere(found) => found,
            };
            // What the client asked for is no longer what it gets.
            head.uri = Uri::default();
        }
        match found {
            Found::File(path) => files::send(&head, &path).await,
            Found::Redirect(location) => moved(location, &head.uri),
            Found::Script(_) => {
                let reason = "the application redirected in a way that can't be followed";
                Err(Failure::new(StatusCode::BAD_GATEWAY, reason))
            }
        }
    }

    async fn find(&self, path: &str) -> Result<Found, Failure> {
        let (site, path) = (Arc::clone(&self.site), path.to_owned());
        // A slow disk must not hold up other requests.
        let found = tokio::task::spawn_blocking(move || site.find(&path)).await;
        let found = found.map_err(|error| {
            Failure::new(StatusCode::INTERNAL_SERVER_ERROR, format!("find the file: {error}"))
        })?;
        Ok(found?)
    }
}

fn check(head: &Parts) -> Result<(), Failure> {
    if head.method == Method::CONNECT {
        let reason = "CONNECT asks for a tunnel, which this server is not";
        return Err(Failure::new(StatusCode::METHOD_NOT_ALLOWED, reason));
    }
    // RFC 9112, 3.2; HTTP/2 has :authority instead.
    if head.version == Version::HTTP_11 && !head.headers.contains_key(HOST) {
        return Err(Failure::new(StatusCode::BAD_REQUEST, "the request has no Host"));
    }
    Ok(())
}

fn moved(mut location: String, asked: &Uri) -> Result<Response<Body>, Failure> {
    if let Some(query) = asked.query() {
        location.push('?');
        location.push_str(query);
    }
    let location = HeaderValue::try_from(location)
        .map_err(|error| Failure::new(StatusCode::BAD_REQUEST, error))?;
    let mut response = Response::new(empty());
    *response.status_mut() = StatusCode::MOVED_PERMANENTLY;
    response.headers_mut().insert(LOCATION, location);
    Ok(response)
}
