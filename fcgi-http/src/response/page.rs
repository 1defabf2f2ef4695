//! The page to send if there is no response.

use http::{
    Response, StatusCode,
    header::{CONTENT_LENGTH, CONTENT_TYPE, HeaderValue},
};

/// A page that shows only its status. The reason for a failure belongs in the log. A page is needed
/// since Apache turns an empty 200 into no response at all (W-2).
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
