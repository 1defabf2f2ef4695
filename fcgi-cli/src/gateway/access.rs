//! The access log, on stdout.

use std::{
    borrow::Cow,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::{Instant, SystemTime},
};

use bytes::{Buf, Bytes};
use fcgi_engine::text::escape;
use http::{
    HeaderMap, Request, Response, StatusCode, Version,
    header::{HOST, HeaderName, REFERER, USER_AGENT},
};
use http_body::{Frame, SizeHint};
use serde::Serialize;

use super::{
    body::{Body, BoxError, Left},
    client::{Client, UnderWay},
    log::{self, Format, Id, clf_time, iso_time, to_json},
    metrics::METER,
    origin::Origin,
    sendfile::Answer,
    sink::ACCESS,
};

/// The status logged when the client left before the response. It is never sent; nginx logs 499
/// too.
pub(super) const CLIENT_CLOSED: u16 = 499;

/// One request in the access log. The line is written when this is dropped, that is, when the
/// answer was sent or aborted.
#[derive(Debug)]
pub(super) struct Entry {
    /// `None` if nothing should be logged.
    line: Option<Box<Line>>,
    under_way: UnderWay,
    started: Instant,
    status: u16,
    bytes: u64,
}

#[derive(Debug)]
struct Line {
    id: Id,
    origin: Origin,
    time: SystemTime,
    method: http::Method,
    target: http::Uri,
    version: Version,
    host: Option<Vec<u8>>,
    referer: Option<Vec<u8>>,
    agent: Option<Vec<u8>>,
}

/// The JSON form of a line. The field names must not change.
#[derive(Serialize)]
struct Json<'a> {
    time: String,
    id: String,
    remote: String,
    method: Option<&'a str>,
    target: Option<&'a str>,
    protocol: Option<&'a str>,
    host: Option<String>,
    status: u16,
    bytes: u64,
    seconds: f64,
    referer: Option<String>,
    user_agent: Option<String>,
}

impl Entry {
    pub(super) fn new<B>(
        request: &Request<B>,
        client: &Arc<Client>,
        id: Id,
        origin: &Origin,
        quiet: bool,
    ) -> Self {
        let line = (!quiet).then(|| {
            let headers = request.headers();
            Box::new(Line {
                id,
                origin: origin.clone(),
                time: SystemTime::now(),
                method: request.method().clone(),
                target: request.uri().clone(),
                version: request.version(),
                host: field(headers, HOST),
                referer: field(headers, REFERER),
                agent: field(headers, USER_AGENT),
            })
        });
        let under_way = client.begin();
        METER.begin();
        Self { line, under_way, started: Instant::now(), status: CLIENT_CLOSED, bytes: 0 }
    }

    /// Keeps the entry with an answer until that was sent.
    pub(super) fn follow(mut self, response: Response<Body>) -> Response<Body> {
        self.status = match response.extensions().get() {
            Some(Left) => CLIENT_CLOSED,
            None => response.status().as_u16(),
        };
        response.map(|body| Body::new(Followed { entry: Some(self), body }))
    }
}

impl Answer for Entry {
    fn lose(&mut self, bytes: u64) {
        self.bytes = self.bytes.saturating_sub(bytes);
    }
}

impl Drop for Entry {
    fn drop(&mut self) {
        let took = self.started.elapsed();
        METER.end(self.status, self.bytes, took);
        if let Some(line) = &self.line {
            let text = line.to_text(self.status, self.bytes, took.as_secs_f64());
            ACCESS.line(text);
        }
    }
}

impl Line {
    fn target(&self) -> Cow<'_, str> {
        match (self.target.path_and_query(), self.target.authority()) {
            // This adds the slash of an empty path.
            (Some(target), _) if target.as_str().starts_with('?') => target.to_string().into(),
            (Some(target), _) => target.as_str().into(),
            (None, Some(authority)) => authority.as_str().into(),
            (None, None) => "*".into(),
        }
    }

    fn to_text(&self, status: u16, bytes: u64, seconds: f64) -> String {
        let protocol = match self.version {
            Version::HTTP_10 => "HTTP/1.0",
            Version::HTTP_2 => "HTTP/2.0",
            _ => "HTTP/1.1",
        };
        let text = |bytes: &Option<Vec<u8>>| {
            bytes.as_ref().map(|bytes| String::from_utf8_lossy(bytes).into_owned())
        };
        match log::format() {
            Format::Combined => {
                let request = format!("{} {} {protocol}", self.method, self.target());
                format!(
                    "{} - - [{}] {} {status} {bytes} {} {} {seconds:.3} {}",
                    self.origin,
                    clf_time(self.time),
                    quoted(Some(request.as_bytes())),
                    quoted(self.referer.as_deref()),
                    quoted(self.agent.as_deref()),
                    self.id,
                )
            }
            Format::Json => to_json(&Json {
                time: iso_time(self.time),
                id: self.id.to_string(),
                remote: self.origin.to_string(),
                method: Some(self.method.as_str()),
                target: Some(&self.target()),
                protocol: Some(protocol),
                host: self.target.authority().map(ToString::to_string).or(text(&self.host)),
                status,
                bytes,
                seconds: (seconds * 1e6).round() / 1e6,
                referer: text(&self.referer),
                user_agent: text(&self.agent),
            }),
        }
    }
}

/// A line of the access log for something that was not a valid request.
pub(super) fn refused(client: &Client, id: Id, status: StatusCode, bytes: usize) {
    let remote = client.ends.remote;
    let remote = remote.map_or("unix:".to_owned(), |remote| remote.ip().to_canonical().to_string());
    let (time, status) = (SystemTime::now(), status.as_u16());
    ACCESS.line(match log::format() {
        Format::Combined => {
            let time = clf_time(time);
            format!("{remote} - - [{time}] \"-\" {status} {bytes} \"-\" \"-\" 0.000 {id}")
        }
        Format::Json => to_json(&Json {
            time: iso_time(time),
            id: id.to_string(),
            remote,
            method: None,
            target: None,
            protocol: None,
            host: None,
            status,
            bytes: bytes as u64,
            seconds: 0.0,
            referer: None,
            user_agent: None,
        }),
    });
}

fn field(headers: &HeaderMap, name: HeaderName) -> Option<Vec<u8>> {
    headers.get(name).map(|value| value.as_bytes().to_vec())
}

/// In quotes, which nothing inside can close.
fn quoted(bytes: Option<&[u8]>) -> String {
    let Some(bytes) = bytes else { return "\"-\"".to_owned() };
    let mut marked = Vec::with_capacity(bytes.len() + 2);
    for &byte in bytes {
        if matches!(byte, b'"' | b'\\') {
            marked.push(b'\\');
        }
        marked.push(byte);
    }
    format!("\"{}\"", escape(&marked, b""))
}

/// A body whose bytes are counted.
struct Followed {
    /// `None` while this is being dropped.
    entry: Option<Entry>,
    body: Body,
}

impl Drop for Followed {
    fn drop(&mut self) {
        // hyper drops a body when it has its last bytes; parts of a file may still have to be sent.
        if let Some(entry) = self.entry.take() {
            let client = Arc::clone(entry.under_way.client());
            client.sending.hold(entry);
        }
    }
}

impl http_body::Body for Followed {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let frame = ready!(Pin::new(&mut self.body).poll_frame(cx));
        if let (Some(Ok(frame)), Some(entry)) = (&frame, &mut self.entry) {
            entry.bytes += frame.data_ref().map_or(0, |data| data.remaining() as u64);
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
