//! The request that a local redirect asks for.

use http::{
    Method, Uri,
    header::{EXPECT, HeaderName, TRANSFER_ENCODING},
    request::Parts,
    uri::PathAndQuery,
};

/// The request to run for a response that is [`Kind::LocalRedirect`](crate::Kind::LocalRedirect)
/// (CGI-6.2.2-1): the client's own request, but for `location`, without a body, and with GET unless
/// it was HEAD.
///
/// The caller resolves the new path as if it came from the client, and limits how often one request
/// is redirected. Most servers allow 10 times.
#[must_use]
pub fn redirected(request: &Parts, location: &PathAndQuery) -> Parts {
    let mut request = request.clone();
    let mut uri = request.uri.clone().into_parts();
    uri.path_and_query = Some(location.clone());
    // An authority without a scheme, as in CONNECT, leaves no room for a path.
    request.uri = Uri::from_parts(uri).unwrap_or_else(|_| Uri::from(location.clone()));
    if request.method != Method::HEAD {
        request.method = Method::GET;
    }
    let bodies: Vec<HeaderName> = request
        .headers
        .keys()
        .filter(|name| {
            [TRANSFER_ENCODING, EXPECT].contains(name) || name.as_str().starts_with("content-")
        })
        .cloned()
        .collect();
    for name in bodies {
        request.headers.remove(name);
    }
    request
}
