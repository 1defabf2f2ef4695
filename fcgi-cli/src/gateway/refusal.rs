//! What hyper refuses by itself: requests that are no HTTP. It answers them with a head alone and
//! tells nobody. Here that head is known again on its way out, and becomes a page with a reason, and
//! a line in the logs.

use std::error::Error;

use http::StatusCode;

/// hyper's own answers, byte for byte. It adds no Date where it is not asked to; the gateway's
/// answers all have one.
const OWN: [(StatusCode, &[u8]); 3] = [
    (
        StatusCode::BAD_REQUEST,
        b"HTTP/1.1 400 Bad Request\r\nconnection: close\r\ncontent-length: 0\r\n\r\n",
    ),
    (
        StatusCode::URI_TOO_LONG,
        b"HTTP/1.1 414 URI Too Long\r\nconnection: close\r\ncontent-length: 0\r\n\r\n",
    ),
    (
        StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
        b"HTTP/1.1 431 Request Header Fields Too Large\r\nconnection: close\r\ncontent-length: 0\r\n\r\n",
    ),
];

/// The status, if this is an answer of hyper's own.
pub(super) fn own_answer(bytes: &[u8]) -> Option<StatusCode> {
    OWN.iter().find(|(_, own)| *own == bytes).map(|(status, _)| *status)
}

/// Why hyper refused a request, with all that it knows.
pub(super) fn reason(error: &(dyn Error + 'static)) -> String {
    let causes = std::iter::successors(Some(error), |error| (*error).source());
    causes.map(ToString::to_string).collect::<Vec<_>>().join(": ")
}
