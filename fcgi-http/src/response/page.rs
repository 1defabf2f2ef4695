//! What is sent when there is no response to send.

use http::{
    Response, StatusCode,
    header::{CONTENT_LENGTH, CONTENT_TYPE, HeaderValue},
};

/// A page that says no more than its status: Apache takes no response at all for an empty 200
/// (W-2), and why a request failed is for the log.
///
/// ```
/// let page = fcgi_http::response::page(http::StatusCode::BAD_REQUEST);
/// assert_eq!(page.status(), 400);
/// assert_eq!(page.body(), "Bad Request\n");
/// ```
#[must_use]
pub fn page(status: StatusCode) -> Response<String> {
    let text = format!("{}\n", status.canonical_reason().unwrap_or("Error"));
    let length = text.len();
    let mut page = Response::new(text);
    *page.status_mut() = status;
    page.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/plain"));
    page.headers_mut().insert(CONTENT_LENGTH, length.into());
    page
}
