//! The application behind the web servers, as tower services: what each path answers.

use std::{
    collections::HashMap,
    convert::Infallible,
    future::pending,
    path::PathBuf,
    pin::Pin,
    sync::{Arc, Condvar, Mutex, PoisonError},
    task::{Context, Poll},
    time::{Duration, Instant},
};

use bytes::Bytes;
use fcgi_testkit::http::pattern;
use fcgi_tokio::{
    self as fcgi, Handler, Rejection,
    http::{Body, BoxError, Decision, MetaVariables, Responder},
};
use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt, Full, combinators::UnsyncBoxBody};
use hyper::body::Frame;
use tokio::sync::{Barrier, Notify, mpsc};
use tower::service_fn;

use crate::run::LIMIT;

/// What the tests see of the handlers, beside the responses.
#[derive(Default)]
pub(crate) struct Seen {
    /// Of each handler that stays, whether it is still there.
    staying: Mutex<HashMap<String, bool>>,
    changed: Condvar,
    released: Mutex<HashMap<String, Arc<Notify>>>,
    meetings: Mutex<HashMap<String, Arc<Barrier>>>,
}

impl Seen {
    /// Waits until the handler `id` is there (`true`) or gone again; says whether it came to that.
    pub(crate) fn wait(&self, id: &str, there: bool, limit: Duration) -> bool {
        let until = Instant::now() + limit;
        let mut staying = self.staying.lock().unwrap_or_else(PoisonError::into_inner);
        while staying.get(id) != Some(&there) {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return false;
            }
            let waited = self.changed.wait_timeout(staying, left);
            staying = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
        true
    }

    /// Lets the handler `id` end.
    pub(crate) fn release(&self, id: &str) {
        self.gate(id).notify_one();
    }

    fn gate(&self, id: &str) -> Arc<Notify> {
        let mut released = self.released.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(released.entry(id.into()).or_default())
    }

    fn set(&self, id: &str, there: bool) {
        self.staying.lock().unwrap_or_else(PoisonError::into_inner).insert(id.into(), there);
        self.changed.notify_all();
    }

    fn meeting(&self, id: &str, size: usize) -> Arc<Barrier> {
        let mut meetings = self.meetings.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(meetings.entry(id.into()).or_insert_with(|| Arc::new(Barrier::new(size))))
    }
}

/// Says that a handler is there, and that it is gone, however it went.
struct Staying(Arc<Seen>, String);

impl Staying {
    fn new(seen: Arc<Seen>, id: String) -> Self {
        seen.set(&id, true);
        Self(seen, id)
    }
}

impl Drop for Staying {
    fn drop(&mut self) {
        self.0.set(&self.1, false);
    }
}

/// A slow response is given up after this: a web server that holds it back would wait for its end.
const SLOW: Duration = Duration::from_secs(8);

type Page = UnsyncBoxBody<Bytes, BoxError>;
type Piece = Result<Bytes, BoxError>;

/// The server's handler: the tower services below, and two ends that no service can express, a refusal
/// and a failure without any output.
pub(crate) fn handler(seen: Arc<Seen>) -> impl fcgi::Handler {
    let pages = service_fn(move |request| answer(request, Arc::clone(&seen)));
    let both = Responder::new(pages).authorizer(service_fn(authorize));
    move |request: fcgi::Request| {
        let both = both.clone();
        async move {
            let uri = request.param_str("REQUEST_URI").unwrap_or_default();
            match uri.rsplit('/').next() {
                Some("overloaded") => {
                    request.reject(Rejection::Overloaded);
                    Ok(0)
                }
                Some("nothing") => Err(fcgi::Failed),
                _ => both.call(request).await,
            }
        }
    }
}

/// Lets those in who say so.
async fn authorize(request: Request<()>) -> Result<Decision, Infallible> {
    Ok(match request.headers().get("x-token") {
        Some(token) if token == "sesame" => Decision::allow([("REMOTE_USER", "ada")]),
        _ => {
            let mut page = Response::new(Body::from("who are you?\n"));
            *page.status_mut() = StatusCode::FORBIDDEN;
            Decision::Deny(page)
        }
    })
}

/// Answers by the last part of the path, as the applications in other languages do, and by some
/// paths of its own.
async fn answer(request: Request<Body>, seen: Arc<Seen>) -> Result<Response<Page>, BoxError> {
    let route = request.uri().path().rsplit('/').next().unwrap_or_default().to_owned();
    let query = |name| query(&request, name);
    let text = Response::builder().header("Content-Type", "text/plain");
    Ok(match route.as_str() {
        "echo" => text.body(full(echo(request).await?))?,
        "download" => {
            let left = query("n").parse()?;
            let (page, sender) = stream();
            tokio::spawn(async move { download(sender, left).await });
            text.body(page)?
        }
        "slow" => {
            let gate = query("gate");
            let (page, sender) = stream();
            tokio::spawn(async move { slow(sender, &gate).await });
            text.body(page)?
        }
        "break" => {
            let (n, released) = (query("n").parse()?, seen.gate(&query("id")));
            let text = match query("length").as_str() {
                "" => text,
                length => text.header("Content-Length", length),
            };
            let (page, sender) = stream();
            tokio::spawn(async move {
                download(sender.clone(), n).await;
                released.notified().await;
                // A client that is gone has nothing to be told.
                let _ = sender.send(Err("it breaks".into())).await;
            });
            text.body(page)?
        }
        "sleep" => {
            tokio::time::sleep(Duration::from_millis(query("ms").parse()?)).await;
            text.body(full("slept\n"))?
        }
        "stay" => text.body(stay(request, seen).await?)?,
        "meet" => {
            let meeting = seen.meeting(&query("id"), query("size").parse()?);
            let met = tokio::time::timeout(LIMIT, meeting.wait()).await.is_ok();
            text.body(full(if met { "met\n" } else { "alone\n" }))?
        }
        "redirect" => Response::builder()
            .status(302)
            .header("Location", "http://www.example.org/elsewhere")
            .body(full(""))?,
        "cookies" => text
            .header("Set-Cookie", "a=1; Path=/")
            .header("Set-Cookie", "b=2; Path=/")
            .body(full("cookies\n"))?,
        "bigheaders" => {
            let text = text.header("X-Big", "x".repeat(7000));
            (0..40)
                .fold(text, |text, i| text.header(format!("X-Field-{i}"), format!("value {i}")))
                .body(full("big headers\n"))?
        }
        "hopbyhop" => text
            .header("Transfer-Encoding", "chunked")
            .header("Connection", "close")
            .header("Keep-Alive", "timeout=77")
            .body(full("no chunks\n"))?,
        "toolong" => text.header("Content-Length", "5").body(full("hello, and more"))?,
        _ => text.status(404).body(full("no such page\n"))?,
    })
}

fn full(page: impl Into<Bytes>) -> Page {
    Full::new(page.into()).map_err(Into::into).boxed_unsync()
}

fn query(request: &Request<Body>, name: &str) -> String {
    let mut pairs = request.uri().query().unwrap_or_default().split('&');
    let value = pairs.find_map(|pair| pair.strip_prefix(name)?.strip_prefix('='));
    value.unwrap_or_default().to_owned()
}

async fn echo(request: Request<Body>) -> Result<String, BoxError> {
    let (head, mut body) = request.into_parts();
    let (mut length, mut crc) = (0, Crc32::new());
    while let Some(frame) = body.frame().await {
        if let Some(bytes) = frame?.data_ref() {
            length += bytes.len();
            crc.update(bytes);
        }
    }
    let variables = head.extensions.get::<MetaVariables>().ok_or("no MetaVariables")?;
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let content_length = variables.params().get_str("CONTENT_LENGTH");
    Ok(format!(
        "method={}\nquery={}\nlength={length}\ncrc32={:08x}\nbig={}\nuser={}\n\
         content_length={}\nscript_filename={}\n",
        head.method,
        head.uri.query().unwrap_or_default(),
        crc.finish(),
        head.headers.get("x-big").map_or(0, |value| value.len()),
        text(variables.remote_user().unwrap_or_default()),
        content_length.map_or_else(|| "absent".into(), |value| format!("{value:?}")),
        text(variables.script_filename().unwrap_or_default()),
    ))
}

/// A handler that does not end by itself: it moves bytes one way, or none, until it is dropped or
/// released.
async fn stay(request: Request<Body>, seen: Arc<Seen>) -> Result<Page, BoxError> {
    let (id, how) = (query(&request, "id"), query(&request, "body"));
    let released = seen.gate(&id);
    let staying = Staying::new(seen, id);
    if how == "out" {
        let (page, sender) = stream();
        tokio::spawn(async move {
            let _staying = staying;
            tokio::select! {
                () = download(sender, u64::MAX) => {}
                () = released.notified() => {}
            }
        });
        return Ok(page);
    }
    let mut body = request.into_body();
    let reading = async {
        while how == "in" && body.frame().await.transpose()?.is_some() {}
        pending().await
    };
    tokio::select! {
        ended = reading => ended,
        () = released.notified() => Ok(full("released\n")),
    }
}

/// A page whose pieces are sent as they come. Whoever sends them learns when nobody wants them.
fn stream() -> (Page, mpsc::Sender<Piece>) {
    let (sender, receiver) = mpsc::channel(1);
    (Pieces(receiver).boxed_unsync(), sender)
}

struct Pieces(mpsc::Receiver<Piece>);

impl http_body::Body for Pieces {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        self.0.poll_recv(cx).map(|piece| piece.map(|piece| piece.map(Frame::data)))
    }
}

async fn download(sender: mpsc::Sender<Piece>, mut left: u64) {
    let block: Bytes = (0..256 * 251).map(pattern).collect();
    while left > 0 {
        let n = left.min(block.len() as u64);
        if sender.send(Ok(block.slice(..n as usize))).await.is_err() {
            return;
        }
        left -= n;
    }
}

/// Five lines. After each but the last it waits until the test has read it, and made a file.
async fn slow(sender: mpsc::Sender<Piece>, gate: &str) {
    for piece in 1..=5 {
        if sender.send(Ok(format!("piece {piece}\n").into())).await.is_err() {
            return;
        }
        let gate = PathBuf::from(format!("{gate}.{piece}"));
        let until = Instant::now() + SLOW;
        while piece < 5 && !gate.exists() {
            if Instant::now() > until {
                return;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
}

/// CRC-32 of IEEE 802.3, which every other language has in its library.
pub(crate) struct Crc32 {
    table: [u32; 256],
    value: u32,
}

impl Crc32 {
    pub(crate) fn new() -> Self {
        let mut table = [0; 256];
        for (i, entry) in (0..).zip(&mut table) {
            *entry = (0..8).fold(i, |value: u32, _| {
                if value & 1 == 1 { 0xEDB8_8320 ^ (value >> 1) } else { value >> 1 }
            });
        }
        Self { table, value: u32::MAX }
    }

    pub(crate) fn update(&mut self, bytes: &[u8]) {
        for byte in bytes {
            let entry = (self.value ^ u32::from(*byte)) & 0xFF;
            self.value = self.table[entry as usize] ^ (self.value >> 8);
        }
    }

    pub(crate) fn finish(&self) -> u32 {
        !self.value
    }
}
