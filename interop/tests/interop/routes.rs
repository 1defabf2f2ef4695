//! The application behind the web servers: what each path answers.

use std::{
    collections::HashMap,
    future::pending,
    path::PathBuf,
    sync::{Arc, Condvar, Mutex, PoisonError},
    time::{Duration, Instant},
};

use bytes::Bytes;
use fcgi_testkit::http::pattern;
use fcgi_tokio::{self as fcgi, Rejection, Role};
use tokio::sync::{Barrier, Notify};

use crate::run::LIMIT;

const TEXT: &str = "Content-Type: text/plain\r\n\r\n";

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

/// Says that a handler is gone, however it went.
struct Staying<'a>(&'a Seen, String);

impl Drop for Staying<'_> {
    fn drop(&mut self) {
        self.0.set(&self.1, false);
    }
}

/// A slow response is given up after this: a web server that holds it back would wait for its end.
const SLOW: Duration = Duration::from_secs(8);

/// Answers a request by the last part of its path, as the applications in other languages do, and
/// by some paths of its own.
pub(crate) async fn answer(request: fcgi::Request, seen: Arc<Seen>) -> Result<(), fcgi::Error> {
    let mut out = request.stdout();
    if request.param_str("REQUEST_METHOD") == Some("HEAD") {
        // Without a body (RFC 3875, 4.3.3), which HAProxy makes a 502 of.
        return out.write_all(TEXT).await;
    }
    if request.role() == Role::Authorizer {
        return out.write_all(authorize(&request)).await;
    }
    let uri = request.param_str("REQUEST_URI").unwrap_or_default();
    let path = uri.split('?').next().unwrap_or_default();
    let route = path.rsplit('/').next().unwrap_or_default();
    match route {
        "echo" => {
            let page = echo(&request).await?;
            out.write_all(page).await
        }
        "download" => {
            out.write_all("Content-Type: application/octet-stream\r\n\r\n").await?;
            download(out, query(&request, "n").parse().unwrap_or(0)).await
        }
        "slow" => slow(out, query(&request, "gate")).await,
        "stay" => {
            let id = query(&request, "id").to_owned();
            let _staying = Staying(&seen, id.clone());
            let released = seen.gate(&id);
            seen.set(&id, true);
            tokio::select! {
                ended = stay(&request) => ended,
                () = released.notified() => out.write_all(TEXT).await,
            }
        }
        "meet" => {
            let size = query(&request, "size").parse().unwrap_or(1);
            let meeting = seen.meeting(query(&request, "id"), size);
            let met = tokio::time::timeout(LIMIT, meeting.wait()).await.is_ok();
            out.write_all(format!("{TEXT}{}\n", if met { "met" } else { "alone" })).await
        }
        "overloaded" => {
            request.reject(Rejection::Overloaded);
            Ok(())
        }
        _ => out.write_all(page(route)).await,
    }
}

/// The pages that are the same for every request.
fn page(route: &str) -> Bytes {
    let page = match route {
        "redirect" => {
            "Status: 302 Found\r\nLocation: http://www.example.org/elsewhere\r\n\r\n".to_owned()
        }
        "cookies" => {
            format!("Set-Cookie: a=1; Path=/\r\nSet-Cookie: b=2; Path=/\r\n{TEXT}cookies\n")
        }
        "bigheaders" => {
            let fields: String = (0..40).map(|i| format!("X-Field-{i}: value {i}\r\n")).collect();
            format!("X-Big: {}\r\n{fields}{TEXT}big headers\n", "x".repeat(7000))
        }
        _ => format!("Status: 404 Not Found\r\n{TEXT}no such page\n"),
    };
    page.into()
}

fn query<'a>(request: &'a fcgi::Request, name: &str) -> &'a str {
    let query = request.param_str("QUERY_STRING").unwrap_or_default();
    let mut pairs = query.split('&').filter_map(|pair| pair.split_once('='));
    pairs.find(|(given, _)| *given == name).map_or("", |(_, value)| value)
}

/// Lets those in who say so.
fn authorize(request: &fcgi::Request) -> &'static str {
    match request.param_str("HTTP_X_TOKEN") {
        Some("sesame") => "Status: 200 OK\r\nVariable-REMOTE_USER: ada\r\n\r\n",
        _ => "Status: 403 Forbidden\r\nContent-Type: text/plain\r\n\r\nwho are you?\n",
    }
}

async fn echo(request: &fcgi::Request) -> Result<String, fcgi::Error> {
    let (mut stdin, mut length, mut crc) = (request.stdin(), 0, Crc32::new());
    while let Some(chunk) = stdin.chunk().await? {
        length += chunk.len();
        crc.update(&chunk);
    }
    let param = |name| request.param_str(name);
    let text = |name| param(name).unwrap_or_default();
    Ok(format!(
        "{TEXT}method={}\nquery={}\nlength={length}\ncrc32={:08x}\nbig={}\nuser={}\n\
         content_length={}\nprotocol={}\n",
        text("REQUEST_METHOD"),
        text("QUERY_STRING"),
        crc.finish(),
        text("HTTP_X_BIG").len(),
        text("REMOTE_USER"),
        param("CONTENT_LENGTH").map_or_else(|| "absent".into(), |value| format!("{value:?}")),
        text("SERVER_PROTOCOL"),
    ))
}

/// Moves bytes, or does nothing, and does not end by itself.
async fn stay(request: &fcgi::Request) -> Result<(), fcgi::Error> {
    match query(request, "body") {
        "in" => while request.stdin().chunk().await?.is_some() {},
        "out" => {
            let mut out = request.stdout();
            out.write_all(TEXT).await?;
            download(out, u64::MAX).await?;
        }
        _ => {}
    }
    pending().await
}

async fn download(mut out: fcgi::OutputStream, mut left: u64) -> Result<(), fcgi::Error> {
    let block: Bytes = (0..256 * 251).map(pattern).collect();
    while left > 0 {
        let n = left.min(block.len() as u64);
        out.write_all(block.slice(..n as usize)).await?;
        left -= n;
    }
    Ok(())
}

/// Five lines. After each but the last it waits until the test has read it, and made a file.
async fn slow(mut out: fcgi::OutputStream, gate: &str) -> Result<(), fcgi::Error> {
    out.write_all(TEXT).await?;
    for piece in 1..=5 {
        out.write_all(format!("piece {piece}\n")).await?;
        let gate = PathBuf::from(format!("{gate}.{piece}"));
        let until = Instant::now() + SLOW;
        while piece < 5 && !gate.exists() {
            if Instant::now() > until {
                return Ok(());
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
    Ok(())
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
