//! Files that are not scripts, sent as they are.

use std::{
    collections::{HashMap, VecDeque},
    fs::File,
    future::Future,
    io::{self, IoSliceMut},
    os::unix::{ffi::OsStrExt, fs::FileExt},
    path::{Path, PathBuf},
    pin::Pin,
    str::FromStr,
    sync::{Arc, Mutex, PoisonError},
    task::{Context, Poll, ready},
    time::SystemTime,
};

use bytes::Bytes;
use http::{
    HeaderMap, HeaderValue, Method, Response, StatusCode, Version,
    header::{
        ACCEPT_RANGES, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE, ETAG,
        HeaderName, LAST_MODIFIED, VARY,
    },
    request::Parts,
};
use http_body::{Frame, SizeHint};
use tokio::{
    sync::Semaphore,
    task::{JoinHandle, spawn_blocking},
};

use super::{
    body::{Body, BoxError, empty, full},
    client::Client,
    coding::Coding,
    conditions::{Validators, Verdict},
    failure::Failure,
    log::{self, Title},
    media::type_of,
    ranges::{Wanted, wanted},
    root::Opened,
    sendfile::OpenFile,
};

/// How much of a file is read at once, in bytes.
const BLOCK: usize = 64 * 1024;
/// How much is sent in one piece with the head, in bytes.
const SMALL: usize = 32 * 1024;

/// A file to send.
#[derive(Debug)]
pub(super) struct Sent {
    /// The name that determines its type.
    pub(super) path: PathBuf,
    /// `None` if we may not read it.
    pub(super) opened: Option<Opened>,
    /// Its coding, if it is precompressed.
    pub(super) coding: Option<Coding>,
    /// Another client may get it in another coding.
    pub(super) varies: bool,
}

impl Sent {
    /// A file without a precompressed version.
    pub(super) fn plain(path: PathBuf, opened: Opened) -> Self {
        Self { path, opened: Some(opened), coding: None, varies: false }
    }
}

/// The declared encoding of text files.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Charset {
    /// UTF-8 for files that can't declare it themselves; HTML, XML and CSS can.
    Default,
    /// This one for all text files.
    Named(String),
    /// Nothing is declared.
    Off,
}

impl FromStr for Charset {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.:+".contains(&byte);
        match text {
            "off" => Ok(Self::Off),
            "auto" => Ok(Self::Default),
            name if !name.is_empty() && name.bytes().all(is_plain) => {
                Ok(Self::Named(name.to_owned()))
            }
            _ => Err("expected the name of an encoding such as utf-8, or auto, or off"),
        }
    }
}

/// How many endings of names are remembered with their types, and how long one may be.
const ENDINGS: usize = 256;
const LONG_ENDING: usize = 16;

/// Sends files. No more are open at once than there are permits.
#[derive(Debug)]
pub(super) struct Files {
    permits: Arc<Semaphore>,
    charset: Charset,
    /// The types that were looked for, by the endings of the names.
    types: Mutex<HashMap<Vec<u8>, HeaderValue>>,
}

impl Files {
    pub(super) fn new(open: usize, charset: Charset) -> Self {
        let permits = Arc::new(Semaphore::new(open.min(Semaphore::MAX_PERMITS)));
        Self { permits, charset, types: Mutex::default() }
    }

    /// The value of Content-Type.
    fn type_of(&self, path: &Path) -> HeaderValue {
        let ending = path.extension().unwrap_or_default().as_bytes();
        let mut types = self.types.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = types.get(ending) {
            return known.clone();
        }
        let kind = content_type(path, &self.charset);
        if types.len() < ENDINGS && ending.len() <= LONG_ENDING {
            types.insert(ending.to_owned(), kind.clone());
        }
        kind
    }

    /// The file for GET, its head for HEAD; 304 if the client has it already, 206 for a part.
    pub(super) fn send(
        &self,
        request: &Parts,
        sent: Sent,
        client: &Arc<Client>,
        title: &Title,
    ) -> Result<Response<Body>, Failure> {
        let is_head = request.method == Method::HEAD;
        if !is_head && request.method != Method::GET {
            let reason = format!("{} is not for a file", request.method);
            return Err(Failure::new(StatusCode::METHOD_NOT_ALLOWED, reason));
        }
        let unreadable = || Failure::new(StatusCode::NOT_FOUND, "the file can't be read");
        let Opened { file, metadata } = sent.opened.ok_or_else(unreadable)?;
        let length = metadata.len();
        let coding = sent.coding.map(Coding::name);
        let validators = Validators::of(&metadata, coding, SystemTime::now());

        let mut response = Response::new(empty());
        let headers = response.headers_mut();
        headers.extend(validators.tag().map(|tag| (ETAG, tag)));
        headers.extend(validators.date().map(|date| (LAST_MODIFIED, date)));
        if sent.varies {
            headers.insert(VARY, HeaderValue::from_static("Accept-Encoding"));
        }
        match validators.weigh(&request.headers) {
            Verdict::Send => {}
            Verdict::NotModified => {
                *response.status_mut() = StatusCode::NOT_MODIFIED;
                return Ok(response);
            }
            Verdict::Failed => {
                let reason = "the file is not the version that the request names";
                return Err(Failure::new(StatusCode::PRECONDITION_FAILED, reason));
            }
        }
        let kind = self.type_of(&sent.path);
        headers.insert(CONTENT_TYPE, kind.clone());
        headers.extend(coding.map(|name| (CONTENT_ENCODING, HeaderValue::from_static(name))));
        headers.insert(ACCEPT_RANGES, HeaderValue::from_static("bytes"));
        let wanted = match !is_head && validators.allow_range(&request.headers) {
            true => wanted(&request.headers, length),
            false => Wanted::Whole,
        };
        let mut parts = Vec::new();
        let (start, amount) = match wanted {
            Wanted::Whole => (0, length),
            Wanted::Part(first, last) => {
                *response.status_mut() = StatusCode::PARTIAL_CONTENT;
                insert(response.headers_mut(), CONTENT_RANGE, content_range(first, last, length));
                (first, last - first + 1)
            }
            Wanted::Parts(wanted) => {
                *response.status_mut() = StatusCode::PARTIAL_CONTENT;
                let boundary = format!("part-{}", title.id());
                let of = format!("multipart/byteranges; boundary={boundary}");
                insert(response.headers_mut(), CONTENT_TYPE, of);
                parts = multipart(&wanted, length, &kind, &boundary);
                (0, parts.iter().map(Piece::len).sum())
            }
            Wanted::Beyond => {
                let reason = format!("the file has {length} bytes");
                let failure = Failure::new(StatusCode::RANGE_NOT_SATISFIABLE, reason);
                let mut response = failure.into_response(title.id());
                insert(response.headers_mut(), CONTENT_RANGE, format!("bytes */{length}"));
                return Ok(response);
            }
        };
        insert(response.headers_mut(), CONTENT_LENGTH, amount.to_string());
        if is_head || amount == 0 {
            return Ok(response);
        }
        if parts.is_empty() {
            if let Some(bytes) = at_once(&file, start, amount) {
                return Ok(response.map(|_| full(bytes)));
            }
            parts.push(Piece::File(start, amount));
        }
        let Ok(permit) = Arc::clone(&self.permits).try_acquire_owned() else {
            let reason = "as many files as may be open are being sent";
            return Err(Failure::new(StatusCode::SERVICE_UNAVAILABLE, reason));
        };
        let file = Arc::new(OpenFile { file, title: title.clone(), _permit: permit });
        let is_http_1 = cfg!(target_os = "linux") && request.version < Version::HTTP_2;
        let client = is_http_1.then(|| Arc::clone(client));
        let pieces = parts.into();
        let body = FileBody { file, at: 0, left: 0, total: amount, pieces, client, reading: None };
        Ok(response.map(|_| Body::new(body)))
    }
}

fn insert(headers: &mut HeaderMap, name: HeaderName, value: String) {
    if let Ok(value) = HeaderValue::try_from(value) {
        headers.insert(name, value);
    }
}

fn content_type(path: &Path, charset: &Charset) -> HeaderValue {
    let guess = type_of(path).unwrap_or("application/octet-stream");
    let text = guess.strip_prefix("text/");
    let charset = match charset {
        Charset::Named(name) => Some(&**name),
        // These declare it themselves; a charset in the header field would override that.
        Charset::Default if matches!(text, Some("html" | "xml" | "css")) => None,
        Charset::Default => Some("utf-8"),
        Charset::Off => None,
    };
    match (text, charset) {
        (Some(_), Some(charset)) => HeaderValue::try_from(format!("{guess}; charset={charset}"))
            .unwrap_or_else(|_| HeaderValue::from_static(guess)),
        _ => HeaderValue::from_static(guess),
    }
}

fn content_range(first: u64, last: u64, length: u64) -> String {
    format!("bytes {first}-{last}/{length}")
}

/// A piece of a body.
enum Piece {
    /// Where it starts in the file, and how long it is.
    File(u64, u64),
    Text(Bytes),
}

impl Piece {
    fn len(&self) -> u64 {
        match self {
            Self::File(_, length) => *length,
            Self::Text(text) => text.len() as u64,
        }
    }
}

/// Several parts of a file in one body (RFC 9110, 14.6).
fn multipart(parts: &[(u64, u64)], length: u64, kind: &HeaderValue, boundary: &str) -> Vec<Piece> {
    let mut pieces = Vec::new();
    for &(first, last) in parts {
        let mut head = format!("\r\n--{boundary}\r\nContent-Type: ").into_bytes();
        head.extend(kind.as_bytes());
        let range = content_range(first, last, length);
        head.extend(format!("\r\nContent-Range: {range}\r\n\r\n").bytes());
        pieces.extend([Piece::Text(head.into()), Piece::File(first, last - first + 1)]);
    }
    pieces.push(Piece::Text(format!("\r\n--{boundary}--\r\n").into()));
    pieces
}

/// Parts of a file. The socket sends them directly if they are in memory; otherwise they are read
/// block by block.
struct FileBody {
    file: Arc<OpenFile>,
    /// The current part.
    at: u64,
    left: u64,
    /// What is left of the whole body.
    total: u64,
    /// What comes after the current part.
    pieces: VecDeque<Piece>,
    /// The client, if its socket can send files.
    client: Option<Arc<Client>>,
    reading: Option<JoinHandle<io::Result<Bytes>>>,
}

impl FileBody {
    /// The marker of a part that the socket will send.
    fn handed_over(&self) -> Option<Bytes> {
        let client = self.client.as_ref()?;
        // The rest is looked at when it is sent.
        self.file.is_cached_at(self.at).then(|| client.sending.push(&self.file, self.at, self.left))
    }

    /// Passes on bytes of the file.
    fn pass(&mut self, block: Bytes) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        self.at += block.len() as u64;
        self.left -= block.len() as u64;
        self.total -= block.len() as u64;
        Poll::Ready(Some(Ok(Frame::data(block))))
    }
}

impl http_body::Body for FileBody {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let this = self.get_mut();
        while this.left == 0 {
            match this.pieces.pop_front() {
                None => return Poll::Ready(None),
                Some(Piece::File(at, left)) => (this.at, this.left) = (at, left),
                Some(Piece::Text(text)) => {
                    this.total -= text.len() as u64;
                    return Poll::Ready(Some(Ok(Frame::data(text))));
                }
            }
        }
        let (at, length) = (this.at, this.left.min(BLOCK as u64) as usize);
        // Usually everything is in memory.
        if this.reading.is_none() {
            let block = this.handed_over().or_else(|| read_cached(&this.file.file, at, length));
            if let Some(block) = block {
                return this.pass(block);
            }
        }
        let file = &this.file;
        let reading = this.reading.get_or_insert_with(|| {
            let file = Arc::clone(file);
            spawn_blocking(move || read(&file.file, at, length))
        });
        let read = ready!(Pin::new(reading).poll(cx));
        this.reading = None;
        match read.map_err(io::Error::other).and_then(|read| read) {
            Ok(block) => this.pass(block),
            Err(error) => {
                log::error(&this.file.title, &format!("read the file: {error}"));
                Poll::Ready(Some(Err(error.into())))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.total == 0
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.total)
    }
}

/// A part of a file that is small and in memory.
fn at_once(file: &File, start: u64, amount: u64) -> Option<Bytes> {
    let amount = usize::try_from(amount).ok().filter(|amount| *amount <= SMALL)?;
    read_cached(file, start, amount)
}

/// Reads what the kernel has in memory; `None` if that would wait for a disk.
#[cfg(target_os = "linux")]
fn read_cached(file: &File, at: u64, length: usize) -> Option<Bytes> {
    use rustix::io::{ReadWriteFlags, preadv2};
    let mut block = vec![0; length];
    let slices = &mut [IoSliceMut::new(&mut block)];
    let read = preadv2(file, slices, at, ReadWriteFlags::NOWAIT);
    (read == Ok(length)).then(|| block.into())
}

#[cfg(not(target_os = "linux"))]
fn read_cached(_: &File, _: u64, _: usize) -> Option<Bytes> {
    None
}

/// Fails if the file has become shorter.
fn read(file: &File, at: u64, length: usize) -> io::Result<Bytes> {
    let mut block = vec![0; length];
    file.read_exact_at(&mut block, at)?;
    Ok(block.into())
}
