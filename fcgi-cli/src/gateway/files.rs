//! Files that are no scripts, sent as they are.

use std::{
    io::SeekFrom,
    path::Path,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use http::{
    HeaderMap, HeaderValue, Method, Response, StatusCode,
    header::{
        ACCEPT_RANGES, CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE, HeaderName, IF_MODIFIED_SINCE,
        IF_RANGE, LAST_MODIFIED, RANGE,
    },
    request::Parts,
};
use http_body::Frame;
use http_body_util::{BodyExt, StreamBody};
use tokio::{
    fs::File,
    io::{AsyncReadExt, AsyncSeekExt},
};
use tokio_util::io::ReaderStream;

use super::{
    body::{Body, BoxError, empty},
    failure::Failure,
};

const BLOCK: usize = 64 * 1024;

/// The file for GET, its head for HEAD; 304 when the client has it already, 206 for a part of it.
pub(super) async fn send(request: &Parts, path: &Path) -> Result<Response<Body>, Failure> {
    let is_head = request.method == Method::HEAD;
    if !is_head && request.method != Method::GET {
        let reason = format!("{} is not for a file", request.method);
        return Err(Failure::new(StatusCode::METHOD_NOT_ALLOWED, reason));
    }
    // It may be another's to read, or have gone since it was looked for.
    let not_found = |_| Failure::new(StatusCode::NOT_FOUND, "the file can't be read");
    let mut file = File::open(path).await.map_err(not_found)?;
    let metadata = file.metadata().await.map_err(not_found)?;
    let length = metadata.len();
    let modified = metadata.modified().ok().and_then(whole_seconds);

    let mut response = Response::new(empty());
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, content_type(path));
    headers.insert(ACCEPT_RANGES, HeaderValue::from_static("bytes"));
    let date = modified.and_then(|time| httpdate::fmt_http_date(time).try_into().ok());
    if let Some(date) = date {
        headers.insert(LAST_MODIFIED, date);
    }
    if is_known(&request.headers, modified) {
        *response.status_mut() = StatusCode::NOT_MODIFIED;
        return Ok(response);
    }
    let part = if is_head { Part::Whole } else { part(&request.headers, length, modified) };
    let (start, sent) = match part {
        Part::Whole => (0, length),
        Part::Bytes(first, last) => {
            *response.status_mut() = StatusCode::PARTIAL_CONTENT;
            let range = format!("bytes {first}-{last}/{length}");
            insert(response.headers_mut(), CONTENT_RANGE, range);
            (first, last - first + 1)
        }
        Part::Beyond => {
            let reason = format!("the file has {length} bytes");
            let failure = Failure::new(StatusCode::RANGE_NOT_SATISFIABLE, reason);
            let mut response = failure.into_response();
            insert(response.headers_mut(), CONTENT_RANGE, format!("bytes */{length}"));
            return Ok(response);
        }
    };
    insert(response.headers_mut(), CONTENT_LENGTH, sent.to_string());
    if is_head || sent == 0 {
        return Ok(response);
    }
    file.seek(SeekFrom::Start(start)).await.map_err(not_found)?;
    let blocks = ReaderStream::with_capacity(file.take(sent), BLOCK);
    Ok(response.map(|_| StreamBody::new(Frames(blocks)).boxed_unsync()))
}

fn insert(headers: &mut HeaderMap, name: HeaderName, value: String) {
    if let Ok(value) = HeaderValue::try_from(value) {
        headers.insert(name, value);
    }
}

fn content_type(path: &Path) -> HeaderValue {
    let guess = mime_guess::from_path(path).first_or_octet_stream();
    let text = match guess.type_() {
        mime_guess::mime::TEXT => format!("{}; charset=utf-8", guess.essence_str()),
        _ => guess.essence_str().to_owned(),
    };
    HeaderValue::try_from(text)
        .unwrap_or_else(|_| HeaderValue::from_static("application/octet-stream"))
}

/// HTTP's dates have no fractions.
fn whole_seconds(time: SystemTime) -> Option<SystemTime> {
    let seconds = time.duration_since(UNIX_EPOCH).ok()?.as_secs();
    UNIX_EPOCH.checked_add(Duration::from_secs(seconds))
}

fn date(headers: &HeaderMap, name: HeaderName) -> Option<SystemTime> {
    httpdate::parse_http_date(headers.get(name)?.to_str().ok()?).ok()
}

fn is_known(headers: &HeaderMap, modified: Option<SystemTime>) -> bool {
    match (date(headers, IF_MODIFIED_SINCE), modified) {
        (Some(since), Some(modified)) => modified <= since,
        _ => false,
    }
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Part {
    Whole,
    /// The first and the last byte.
    Bytes(u64, u64),
    Beyond,
}

/// What Range asks for (RFC 9110, 14.2): one range; a list gets the whole file.
fn part(headers: &HeaderMap, length: u64, modified: Option<SystemTime>) -> Part {
    if headers.contains_key(IF_RANGE) {
        let same = date(headers, IF_RANGE);
        if same.is_none() || same != modified {
            return Part::Whole;
        }
    }
    let range = headers.get(RANGE).and_then(|value| value.to_str().ok());
    range.and_then(|range| parse_range(range, length)).unwrap_or(Part::Whole)
}

fn parse_range(range: &str, length: u64) -> Option<Part> {
    let (first, last) = range.strip_prefix("bytes=")?.split_once('-')?;
    let number = |text: &str| -> Option<u64> {
        text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse().ok())?
    };
    let (first, last) = match (first, last) {
        ("", suffix) => match number(suffix)? {
            0 => return Some(Part::Beyond),
            n => (length.saturating_sub(n), u64::MAX),
        },
        (first, "") => (number(first)?, u64::MAX),
        (first, last) => (number(first)?, number(last)?),
    };
    if first > last {
        return None;
    }
    if first >= length {
        return Some(Part::Beyond);
    }
    Some(Part::Bytes(first, last.min(length - 1)))
}

/// Blocks as frames.
struct Frames<S>(S);

impl<S> futures_core::Stream for Frames<S>
where
    S: futures_core::Stream<Item = std::io::Result<bytes::Bytes>> + Unpin,
{
    type Item = Result<Frame<bytes::Bytes>, BoxError>;

    fn poll_next(
        mut self: std::pin::Pin<&mut Self>,
        cx: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<Self::Item>> {
        let next = std::pin::Pin::new(&mut self.0).poll_next(cx);
        next.map(|next| next.map(|block| block.map(Frame::data).map_err(Into::into)))
    }
}
