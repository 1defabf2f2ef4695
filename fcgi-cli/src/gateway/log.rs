//! The access log on stdout, and the error log on stderr. What clients and applications send is
//! escaped in both (H-10).

use std::{
    fmt::{self, Write as _},
    net::SocketAddr,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::{Instant, SystemTime},
};

use bytes::{Buf, Bytes};
use fcgi_engine::text::escape;
use http::{
    HeaderMap, Request, Response, StatusCode, Version,
    header::{HeaderName, REFERER, USER_AGENT},
};
use http_body::{Frame, SizeHint};
use http_body_util::BodyExt;
use tracing::{
    Event, Level, Metadata, Subscriber,
    field::{Field, Visit},
    span::{Attributes, Id, Record},
};
use tracing_subscriber::{
    Layer,
    filter::dynamic_filter_fn,
    layer::{Context as Layered, SubscriberExt},
    registry::LookupSpan,
};

use super::{
    body::{Body, BoxError},
    client::{Client, UnderWay},
    sink::{ACCESS, ERRORS, complain},
};

/// The status logged when the client left before the response. It is never sent; nginx logs 499
/// too.
const CLIENT_CLOSED: u16 = 499;

/// One line on stderr.
pub(super) fn error(title: &str, message: &str) {
    complain(&format!("{title}: {}", escape(message.as_bytes(), b"")));
}

/// What a request is called in the error log.
pub(super) fn title<B>(request: &Request<B>) -> String {
    format!("{} {}", request.method(), escape(request.uri().path().as_bytes(), b""))
}

/// Sends what the library reports to the error log: STDERR of the application, and what is wrong on
/// a connection.
pub(super) fn install() {
    // One that is there already has it instead.
    let _ = tracing::subscriber::set_global_default(
        tracing_subscriber::registry()
            .with(ErrorLog.with_filter(dynamic_filter_fn(|metadata, _| is_logged(metadata)))),
    );
}

fn is_logged(metadata: &Metadata<'_>) -> bool {
    // An application that writes to STDERR without end costs nothing more once the log is full.
    metadata.is_span() || (*metadata.level() <= Level::WARN && ERRORS.has_room())
}

struct ErrorLog;

/// What a request is called: its method and script.
#[derive(Default)]
struct Title {
    method: String,
    script: String,
}

impl<S: Subscriber + for<'a> LookupSpan<'a>> Layer<S> for ErrorLog {
    fn on_new_span(&self, _: &Attributes<'_>, id: &Id, context: Layered<'_, S>) {
        if let Some(span) = context.span(id).filter(|span| span.name() == "fcgi_request") {
            span.extensions_mut().insert(Title::default());
        }
    }

    fn on_record(&self, id: &Id, values: &Record<'_>, context: Layered<'_, S>) {
        if let Some(span) = context.span(id) {
            if let Some(title) = span.extensions_mut().get_mut::<Title>() {
                values.record(title);
            }
        }
    }

    fn on_event(&self, event: &Event<'_>, context: Layered<'_, S>) {
        // Of a time limit that passed, the request's own line tells.
        if event.fields().any(|field| field.name() == "phase") {
            return;
        }
        let mut text = Text::default();
        event.record(&mut text);
        let scope = context.event_scope(event).into_iter().flatten();
        for span in scope {
            if let Some(Title { method, script }) = span.extensions().get() {
                return complain(&format!("{method} {script}: {}", text.0));
            }
        }
        complain(&text.0);
    }
}

impl Visit for Title {
    fn record_str(&mut self, field: &Field, value: &str) {
        match field.name() {
            "method" => value.clone_into(&mut self.method),
            "script" => value.clone_into(&mut self.script),
            _ => {}
        }
    }

    fn record_debug(&mut self, _: &Field, _: &dyn fmt::Debug) {}
}

/// The message and the fields of an event, in their order; the library has escaped them.
#[derive(Default)]
struct Text(String);

impl Text {
    fn push(&mut self, field: &Field, value: &dyn fmt::Display) {
        let separator = if self.0.is_empty() { "" } else { ": " };
        // Writing to a String can't fail.
        let _ = match field.name() {
            "message" => {
                let rest = std::mem::take(&mut self.0);
                let separator = if rest.is_empty() { "" } else { ": " };
                write!(self.0, "{value}{separator}{rest}")
            }
            "stderr" | "error" => write!(self.0, "{separator}{value}"),
            name => write!(self.0, "{separator}{name} {value}"),
        };
    }
}

impl Visit for Text {
    fn record_str(&mut self, field: &Field, value: &str) {
        self.push(field, &value);
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.push(field, &format_args!("{value:?}"));
    }
}

/// One request in the access log: written when it is dropped, which is when its answer was sent,
/// or given up.
#[derive(Debug)]
pub(super) struct Entry {
    /// `None` when nothing is to be logged.
    line: Option<Line>,
    _under_way: UnderWay,
    started: Instant,
    status: u16,
    bytes: u64,
}

#[derive(Debug)]
struct Line {
    remote: SocketAddr,
    time: SystemTime,
    request: String,
    referer: String,
    agent: String,
}

impl Entry {
    pub(super) fn new<B>(request: &Request<B>, client: &Arc<Client>, quiet: bool) -> Self {
        let line = (!quiet).then(|| {
            let target = request.uri().path_and_query().map_or("*", |target| target.as_str());
            let version = match request.version() {
                Version::HTTP_10 => "HTTP/1.0",
                Version::HTTP_2 => "HTTP/2.0",
                _ => "HTTP/1.1",
            };
            let line = format!("{} {target} {version}", request.method());
            Line {
                remote: client.ends.remote,
                time: SystemTime::now(),
                request: quoted(line.as_bytes()),
                referer: field(request.headers(), REFERER),
                agent: field(request.headers(), USER_AGENT),
            }
        });
        let _under_way = client.begin();
        Self { line, _under_way, started: Instant::now(), status: CLIENT_CLOSED, bytes: 0 }
    }

    /// Stays with an answer until it was sent.
    pub(super) fn follow(mut self, response: Response<Body>) -> Response<Body> {
        self.status = response.status().as_u16();
        response.map(|body| Followed { entry: self, body }.boxed_unsync())
    }
}

/// A line of the access log for what was no request.
pub(super) fn refused(client: &Client, status: StatusCode, bytes: usize) {
    let (remote, time) = (client.ends.remote.ip().to_canonical(), clf_time(SystemTime::now()));
    let status = status.as_u16();
    ACCESS.line(format!("{remote} - - [{time}] \"-\" {status} {bytes} \"-\" \"-\" 0.000"));
}

impl Drop for Entry {
    fn drop(&mut self) {
        let Some(line) = &self.line else { return };
        let text = format!(
            "{} - - [{}] {} {} {} {} {} {:.3}",
            line.remote.ip().to_canonical(),
            clf_time(line.time),
            line.request,
            self.status,
            self.bytes,
            line.referer,
            line.agent,
            self.started.elapsed().as_secs_f64()
        );
        ACCESS.line(text);
    }
}

fn field(headers: &HeaderMap, name: HeaderName) -> String {
    headers.get(name).map_or_else(|| "\"-\"".to_owned(), |value| quoted(value.as_bytes()))
}

/// In quotes, which nothing inside can end.
fn quoted(bytes: &[u8]) -> String {
    let mut marked = Vec::with_capacity(bytes.len() + 2);
    for &byte in bytes {
        if matches!(byte, b'"' | b'\\') {
            marked.push(b'\\');
        }
        marked.push(byte);
    }
    format!("\"{}\"", escape(&marked, b""))
}

/// `25/Nov/2026:15:28:14 +0000`, out of `Wed, 25 Nov 2026 15:28:14 GMT`.
fn clf_time(time: SystemTime) -> String {
    let date = httpdate::fmt_http_date(time);
    let mut words = date.split(' ').skip(1);
    let mut word = || words.next().unwrap_or_default();
    format!("{}/{}/{}:{} +0000", word(), word(), word(), word())
}

/// A body whose bytes are counted.
struct Followed {
    entry: Entry,
    body: Body,
}

impl http_body::Body for Followed {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let frame = ready!(Pin::new(&mut self.body).poll_frame(cx));
        if let Some(Ok(frame)) = &frame {
            self.entry.bytes += frame.data_ref().map_or(0, |data| data.remaining() as u64);
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
