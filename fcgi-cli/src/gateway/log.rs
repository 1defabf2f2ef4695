//! The error log, on stderr, and the shared parts of both logs. What clients and applications send
//! is escaped in both (H-10).

use std::{
    cell::{Cell, RefCell},
    fmt::{self, Write as _},
    hash::{BuildHasher, Hasher, RandomState},
    io::{self, Write},
    sync::{
        Arc, LazyLock, OnceLock,
        atomic::{AtomicU64, Ordering},
    },
    thread,
    time::{SystemTime, UNIX_EPOCH},
};

use clap::ValueEnum;
use fcgi_engine::text::escape;
use fcgi_http::script::Script;
use http::{Method, Request, Uri};
use serde::Serialize;
use tracing::{
    Event, Level, Metadata, Subscriber,
    field::{Field, Visit},
};
use tracing_subscriber::{
    Layer,
    filter::{LevelFilter, dynamic_filter_fn},
    layer::{Context as Layered, SubscriberExt},
};

use super::sink::{ACCESS, ERRORS};
use crate::sink::Sink;

/// The format of the lines.
#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
pub(super) enum Format {
    Combined,
    Json,
}

static FORMAT: OnceLock<Format> = OnceLock::new();

/// Starts the threads that write.
///
/// # Errors
/// The system's error if it allows no more threads.
pub(super) fn start() -> io::Result<()> {
    fn write(sink: &Sink, name: &str, mut out: impl Write) {
        let mut is_failing = false;
        let write = |line: &[u8]| {
            let written = out.write_all(line).and_then(|()| out.flush());
            let has_failed = written.is_err();
            // There is nobody to tell about the error log.
            if let (Err(error), false, "access") = (written, is_failing, name) {
                complain(&format!("lines of the access log are lost: write it: {error}"));
            }
            is_failing = has_failed;
            !has_failed
        };
        sink.run(write, |dropped| {
            complain(&format!(
                "{dropped} lines of the {name} log were dropped: it was not read fast enough"
            ));
        });
    }
    let named = |name: &str| thread::Builder::new().name(format!("{name} log"));
    named("access").spawn(|| write(&ACCESS, "access", io::stdout()))?;
    named("error").spawn(|| write(&ERRORS, "error", io::stderr()))?;
    Ok(())
}

/// Writes what the gateway serves to the access log.
pub(super) fn announce(line: &str) {
    ACCESS.line(match format() {
        Format::Combined => line.to_owned(),
        Format::Json => info_json(line),
    });
}

/// Writes one line to the error log.
pub(super) fn complain(line: &str) {
    ERRORS.line(match format() {
        Format::Combined => format!("fcgi gateway: {line}"),
        Format::Json => error_json(None, None, line),
    });
}

pub(super) fn format() -> Format {
    *FORMAT.get().unwrap_or(&Format::Combined)
}

/// A request's name, which is in every line about it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Id(u64);

impl Id {
    pub(super) fn next() -> Self {
        static LAST: AtomicU64 = AtomicU64::new(0);
        Self(LAST.fetch_add(1, Ordering::Relaxed) + 1)
    }
}

impl fmt::Display for Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        /// Distinguishes this run of the gateway from others.
        static RUN: LazyLock<u32> =
            LazyLock::new(|| RandomState::new().build_hasher().finish() as u32);
        write!(f, "{:08x}-{:x}", *RUN, self.0)
    }
}

/// The name of a request in the error log: its method and path, or in lines of the application its
/// method and script.
#[derive(Clone, Debug)]
pub(super) struct Title(Arc<Named>);

#[derive(Debug)]
struct Named {
    id: Id,
    method: Method,
    uri: Uri,
    script: OnceLock<Vec<u8>>,
}

impl Title {
    pub(super) fn new<B>(request: &Request<B>, id: Id) -> Self {
        let (method, uri) = (request.method().clone(), request.uri().clone());
        Self(Arc::new(Named { id, method, uri, script: OnceLock::new() }))
    }

    pub(super) fn id(&self) -> Id {
        self.0.id
    }

    /// Notes the first script of the request. An application that is no file has one name for all
    /// paths; the path says more.
    pub(super) fn set_script(&self, script: &Script) {
        if let Some(name) = &script.script_filename {
            let _ = self.0.script.set(name.clone());
        }
    }

    fn of_script(&self) -> String {
        match self.0.script.get() {
            Some(script) => format!("{} {}", self.0.method, escape(script, b"")),
            None => self.to_string(),
        }
    }
}

impl fmt::Display for Title {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.0.method, escape(self.0.uri.path().as_bytes(), b""))
    }
}

/// The JSON form of a line of the error log, and of the line that says what is served. The field
/// names must not change.
#[derive(Serialize)]
struct Json<'a> {
    time: String,
    level: &'a str,
    id: Option<String>,
    /// The request that it is about.
    #[serde(skip_serializing_if = "Option::is_none")]
    request: Option<&'a str>,
    message: &'a str,
}

/// Writes one line on stderr about a request.
pub(super) fn error(title: &Title, message: &str) {
    write(Some(title.id()), &title.to_string(), message);
}

/// Writes one line on stderr about something else that has a name.
pub(super) fn event(name: &str, id: Option<Id>, message: &str) {
    write(id, name, message);
}

fn write(id: Option<Id>, name: &str, message: &str) {
    write_escaped(id, name, &escape(message.as_bytes(), b"").to_string());
}

fn write_escaped(id: Option<Id>, name: &str, message: &str) {
    ERRORS.line(match (format(), id) {
        (Format::Combined, Some(id)) => format!("fcgi gateway: {name}: {message} [{id}]"),
        (Format::Combined, None) => format!("fcgi gateway: {name}: {message}"),
        (Format::Json, id) => error_json(id, Some(name), message),
    });
}

/// A line of the error log as JSON.
pub(super) fn error_json(id: Option<Id>, request: Option<&str>, message: &str) -> String {
    level_json("error", id, request, message)
}

/// A line as JSON that reports no error.
pub(super) fn info_json(message: &str) -> String {
    level_json("info", None, None, message)
}

fn level_json(level: &str, id: Option<Id>, request: Option<&str>, message: &str) -> String {
    let (time, id) = (iso_time(SystemTime::now()), id.map(|id| id.to_string()));
    to_json(&Json { time, level, id, request, message })
}

pub(super) fn to_json(line: &impl Serialize) -> String {
    // Can't fail: it holds only strings and numbers.
    serde_json::to_string(line).unwrap_or_default()
}

thread_local! {
    /// The request whose application is being polled.
    static CURRENT: RefCell<Option<Title>> = const { RefCell::new(None) };
    /// How much that application has written to STDERR meanwhile, in bytes.
    static STDERR: Cell<usize> = const { Cell::new(0) };
}

/// How many bytes a line of STDERR counts if the log had no room for it.
const LOST: usize = 64 * 1024;

/// Does something on behalf of a request, whose name then marks all that the library reports. Also
/// returns how many bytes of STDERR there were.
pub(super) fn on_behalf<T>(title: &Title, what: impl FnOnce() -> T) -> (T, usize) {
    CURRENT.with(|current| {
        STDERR.with(|stderr| {
            drop(current.replace(Some(title.clone())));
            stderr.set(0);
            let done = what();
            drop(current.replace(None));
            (done, stderr.take())
        })
    })
}

/// Sends the library's events to the error log: the application's STDERR, and problems of
/// connections.
pub(super) fn install(format: Format) {
    let _ = FORMAT.set(format);
    let filter = dynamic_filter_fn(|metadata, _| is_logged(metadata));
    // Everything below that level, such as the library's span for each request, then costs nothing.
    let filter = filter.with_max_level_hint(LevelFilter::WARN);
    // If there is a subscriber already, it gets the events instead.
    let _ = tracing::subscriber::set_global_default(
        tracing_subscriber::registry().with(ErrorLog.with_filter(filter)),
    );
}

fn is_logged(metadata: &Metadata<'_>) -> bool {
    // Once the log is full, an application that writes to STDERR without end costs nothing more.
    let is_wanted = *metadata.level() <= Level::WARN;
    if is_wanted && !ERRORS.has_room() {
        STDERR.set(STDERR.get() + LOST);
        return false;
    }
    is_wanted
}

struct ErrorLog;

impl<S: Subscriber> Layer<S> for ErrorLog {
    fn on_event(&self, event: &Event<'_>, _: Layered<'_, S>) {
        // The request's own line reports a time limit that has passed.
        if event.fields().any(|field| field.name() == "phase") {
            return;
        }
        let mut text = Text::default();
        event.record(&mut text);
        STDERR.set(STDERR.get() + text.0.len());
        let title = CURRENT.with_borrow(Clone::clone);
        match title {
            Some(title) => write_escaped(Some(title.id()), &title.of_script(), &text.0),
            None => complain(&text.0),
        }
    }
}

/// The message and the fields of an event, in order. The library has escaped them.
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

/// `25/Nov/2026:15:28:14 +0000`, from `Wed, 25 Nov 2026 15:28:14 GMT`.
pub(super) fn clf_time(time: SystemTime) -> String {
    let date = httpdate::fmt_http_date(time);
    let mut words = date.split(' ').skip(1);
    let mut word = || words.next().unwrap_or_default();
    format!("{}/{}/{}:{} +0000", word(), word(), word(), word())
}

/// `2026-11-25T15:28:14.123Z` (RFC 3339).
pub(super) fn iso_time(time: SystemTime) -> String {
    const MONTHS: [&str; 12] =
        ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
    let milliseconds = time.duration_since(UNIX_EPOCH).map_or(0, |since| since.subsec_millis());
    let date = httpdate::fmt_http_date(time);
    let mut words = date.split(' ').skip(1);
    let mut word = || words.next().unwrap_or_default();
    let (day, month, year, clock) = (word(), word(), word(), word());
    let month = MONTHS.iter().position(|name| *name == month).map_or(1, |at| at + 1);
    format!("{year}-{month:02}-{day}T{clock}.{milliseconds:03}Z")
}
