//! Requests that hyper refuses by itself because they are not valid HTTP. It answers them with a
//! bare head and does not report them. This module recognises that head on its way out, and turns
//! it into a page with a reason and a line in the logs.

use std::error::Error;

use http::StatusCode;

use super::raw_head::RawHead;

/// hyper's own answers, byte for byte. They have no Date; the gateway's answers always have one.
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

/// The status, if this is one of hyper's own answers.
pub(super) fn own_answer(bytes: &[u8]) -> Option<StatusCode> {
    OWN.iter().find(|(_, own)| *own == bytes).map(|(status, _)| *status)
}

/// What hyper's status leaves open, as far as the head shows it: a body that is too large
/// (whatever its length is, RFC 9110, 8.6), or a URL that is longer than a head may be.
pub(super) fn in_particular(
    status: StatusCode,
    head: &RawHead,
    max_body: u64,
) -> Option<(StatusCode, String)> {
    if status != StatusCode::BAD_REQUEST && head.is_within_first_line() {
        return Some((StatusCode::URI_TOO_LONG, "the URL is longer than a head may be".to_owned()));
    }
    if !head.values(b"transfer-encoding").is_empty() {
        return None;
    }
    let [length] = head.values(b"content-length")[..] else { return None };
    let is_number = !length.is_empty() && length.iter().all(u8::is_ascii_digit);
    let number = std::str::from_utf8(length).ok()?.parse::<u64>();
    // A number may be too large for its type.
    (is_number && number.map_or(true, |number| number > max_body)).then(|| {
        let reason = format!("the body of the request has more than {max_body} bytes");
        (StatusCode::PAYLOAD_TOO_LARGE, reason)
    })
}

/// Why hyper refused a request, as far as it says.
pub(super) fn reason(error: &(dyn Error + 'static)) -> String {
    let causes = std::iter::successors(Some(error), |error| (*error).source());
    causes.map(ToString::to_string).collect::<Vec<_>>().join(": ")
}
