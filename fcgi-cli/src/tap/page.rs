//! `fcgi tap --web`: the page that shows requests as they come. It has its own thread and runtime,
//! so the proxy pays nothing for browsers but a full queue.

use std::{
    collections::VecDeque,
    convert::Infallible,
    fs::File,
    io::{self, Read},
    net::{IpAddr, SocketAddr, TcpListener},
    pin::Pin,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    task::{Context, Poll},
    thread,
    time::Duration,
};

use bytes::Bytes;
use fcgi_tokio::Address;
use http::{Request, Response, StatusCode, header};
use http_body::{Body, Frame};
use http_body_util::{Either, Full};
use hyper::{body::Incoming, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use serde_json::{Value, json};
use tokio::{
    runtime::Builder,
    sync::{Semaphore, broadcast, mpsc},
};

use crate::stream::BREATH;

use super::{
    exchange::{Exchange, Kept, Outcome, Time},
    report::request_json,
};

const PAGE: &str = include_str!("page.html");
/// Allows the page's own style and script, and this server, and nothing else.
const POLICY: &str = "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; \
                      connect-src 'self'; img-src data:; base-uri 'none'; form-action 'none'; \
                      frame-ancestors 'none'";
/// How many requests may wait for the page. Further ones are not shown, and the page says so.
const WAITING: usize = 256;
/// How many requests are kept, and how many bytes of them.
const REQUESTS: usize = 500;
const BYTES: usize = 64 << 20;
/// Concurrent connections. Others wait, and use none of the proxy's descriptors.
const CONNECTIONS: usize = 64;
/// The time limit for a request's head.
const HEAD: Duration = Duration::from_secs(10);
/// How many lines may wait for one browser. One that reads too slowly misses some.
const LINES: usize = 1024;

/// A request in the page's form.
struct Entry {
    number: u64,
    /// The line of the list, as an event.
    event: Bytes,
    detail: String,
}

/// The proxy's end, which takes requests.
pub(crate) struct Feed {
    to: mpsc::Sender<Entry>,
    dropped: Arc<AtomicU64>,
    address: Address,
}

impl Feed {
    /// Takes a request whose parameters are complete, or that has ended. This never waits.
    pub(crate) fn request(&self, exchange: &Exchange, outcome: Option<Outcome>, time: Time) {
        let Some(kept) = &exchange.kept else { return };
        let Ok(permit) = self.to.try_reserve() else {
            self.dropped.fetch_add(1, Ordering::Relaxed);
            return;
        };
        let mut line = request_json(exchange, outcome.unwrap_or(Outcome::Open), time);
        line["done"] = outcome.is_some().into();
        line["shown"] = outcome.map_or_else(|| "…".to_owned(), |end| exchange.status(end)).into();
        line["bad"] = outcome.is_some_and(|end| exchange.note(end).is_some()).into();
        let event = Bytes::from(format!("event: request\ndata: {line}\n\n"));
        let detail = detail(line, exchange, kept, &self.address);
        permit.send(Entry { number: exchange.number, event, detail });
    }
}

fn detail(mut line: Value, exchange: &Exchange, kept: &Kept, address: &Address) -> String {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let params: Vec<Value> =
        exchange.params.iter().map(|(name, value)| json!([text(name), text(value)])).collect();
    line["params"] = params.into();
    line["records"] = kept.records.clone().into();
    line["records_cut"] = kept.records_cut.into();
    line["stdout"] = text(&kept.stdout).into();
    line["stdout_cut"] = (exchange.stdout > kept.stdout.len() as u64).into();
    line["stderr"] = text(&kept.stderr).into();
    line["stderr_cut"] = (exchange.stderr > kept.stderr.len() as u64).into();
    line["command"] = command(exchange, kept, address).into();
    line.to_string()
}

/// The request as a shell command.
fn command(exchange: &Exchange, kept: &Kept, address: &Address) -> String {
    let mut words = vec!["fcgi call".to_owned(), quoted(address.to_string().as_bytes())];
    match exchange.role {
        2 => words.push("--role authorizer".to_owned()),
        3 => words.push("--role filter".to_owned()),
        _ => {}
    }
    for (name, value) in exchange.params.iter() {
        words.push(format!("--param {}", quoted(&[name, &b"="[..], value].concat())));
    }
    if exchange.stdin == 0 {
        return words.join(" ");
    }
    words.push("--stdin -".to_owned());
    let body = if exchange.stdin == kept.stdin.len() as u64 {
        format!("printf %s {}", quoted(&kept.stdin))
    } else {
        "cat BODY".to_owned()
    };
    // printf can't print NUL, and bytes that are not text do not survive a clipboard.
    let body = if kept.stdin.contains(&0) || std::str::from_utf8(&kept.stdin).is_err() {
        "cat BODY".to_owned()
    } else {
        body
    };
    format!("{body} | {}", words.join(" "))
}

/// A word that a shell takes literally.
fn quoted(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(bytes);
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "_-./:=,@%+".contains(c);
    if !text.is_empty() && text.chars().all(is_plain) {
        return text.into_owned();
    }
    format!("'{}'", text.replace('\'', r"'\''"))
}

/// The data that the page shows.
struct Store {
    entries: VecDeque<Arc<Entry>>,
    bytes: usize,
}

struct Web {
    store: Mutex<Store>,
    news: broadcast::Sender<Bytes>,
    token: Option<String>,
    local: SocketAddr,
}

/// Starts the page; returns the end that takes requests, and the page's URL.
///
/// # Errors
/// It can't listen there, or can't start a thread.
pub(crate) fn start(local: SocketAddr, address: Address) -> io::Result<(Feed, String)> {
    let listener = TcpListener::bind(local)?;
    listener.set_nonblocking(true)?;
    let local = listener.local_addr()?;
    // Whoever can reach a loopback address could read this traffic anyway; others need a token.
    let token = if local.ip().is_loopback() { None } else { Some(token()?) };
    let url = match &token {
        None => format!("http://{local}/"),
        Some(token) => format!("http://{local}/?token={token}"),
    };
    let (to, from) = mpsc::channel(WAITING);
    let dropped = Arc::new(AtomicU64::new(0));
    let web = Arc::new(Web {
        store: Mutex::new(Store { entries: VecDeque::new(), bytes: 0 }),
        news: broadcast::Sender::new(LINES),
        token,
        local,
    });
    let runtime = Builder::new_current_thread().enable_all().build()?;
    let counted = Arc::clone(&dropped);
    thread::Builder::new()
        .name("page".to_owned())
        .spawn(move || runtime.block_on(serve(listener, web, from, counted)))?;
    Ok((Feed { to, dropped, address }, url))
}

fn token() -> io::Result<String> {
    let mut bytes = [0; 16];
    File::open("/dev/urandom")?.read_exact(&mut bytes)?;
    Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}

async fn serve(
    listener: TcpListener,
    web: Arc<Web>,
    mut from: mpsc::Receiver<Entry>,
    dropped: Arc<AtomicU64>,
) {
    let Ok(listener) = tokio::net::TcpListener::from_std(listener) else { return };
    let fill = async {
        while let Some(entry) = from.recv().await {
            web.take(entry);
            let dropped = dropped.swap(0, Ordering::Relaxed);
            if dropped > 0 {
                // Nobody may be looking.
                let _ = web.news.send(format!("event: dropped\ndata: {dropped}\n\n").into());
            }
        }
    };
    let accept = async {
        let slots = Arc::new(Semaphore::new(CONNECTIONS));
        loop {
            // Nobody closes the semaphore.
            let Ok(slot) = Arc::clone(&slots).acquire_owned().await else { return };
            let Ok((stream, _)) = listener.accept().await else {
                tokio::time::sleep(BREATH).await;
                continue;
            };
            let web = Arc::clone(&web);
            tokio::spawn(async move {
                let service = service_fn(|request| {
                    let answer = web.answer(&request);
                    async move { Ok::<_, Infallible>(answer) }
                });
                // A browser may leave at any time.
                let _ = hyper::server::conn::http1::Builder::new()
                    .timer(TokioTimer::new())
                    .header_read_timeout(HEAD)
                    .serve_connection(TokioIo::new(stream), service)
                    .await;
                drop(slot);
            });
        }
    };
    tokio::join!(fill, accept);
}

type Answer = Response<Either<Full<Bytes>, Events>>;

impl Web {
    fn lock(&self) -> MutexGuard<'_, Store> {
        self.store.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn take(&self, entry: Entry) {
        let entry = Arc::new(entry);
        let mut store = self.lock();
        store.entries.retain(|old| old.number != entry.number);
        store.entries.push_back(Arc::clone(&entry));
        store.bytes = store.entries.iter().map(|entry| entry.detail.len()).sum();
        while store.entries.len() > REQUESTS || (store.bytes > BYTES && store.entries.len() > 1) {
            if let Some(oldest) = store.entries.pop_front() {
                store.bytes -= oldest.detail.len();
            }
        }
        // Sent under the lock, so that a new listener misses nothing and gets nothing twice.
        let _ = self.news.send(entry.event.clone());
    }

    fn answer(&self, request: &Request<Incoming>) -> Answer {
        let plain = |status: StatusCode, text: &'static str| {
            let mut answer = Response::new(Either::Left(Full::from(text)));
            *answer.status_mut() = status;
            answer
        };
        let mut answer = match self.refusal(request) {
            Some((status, text)) => {
                let mut refused = plain(status, text);
                let close = header::HeaderValue::from_static("close");
                refused.headers_mut().insert(header::CONNECTION, close);
                if status == StatusCode::METHOD_NOT_ALLOWED {
                    let allowed = header::HeaderValue::from_static("GET, HEAD");
                    refused.headers_mut().insert(header::ALLOW, allowed);
                }
                refused
            }
            None => match request.uri().path() {
                "/" => typed("text/html; charset=utf-8", Either::Left(Full::from(PAGE))),
                "/events" => typed("text/event-stream", Either::Right(self.events())),
                path => {
                    let number = path.strip_prefix("/requests/").and_then(|rest| rest.parse().ok());
                    let store = self.lock();
                    let found = number
                        .and_then(|number: u64| store.entries.iter().find(|e| e.number == number));
                    match found {
                        Some(entry) => {
                            let body = Full::from(entry.detail.clone());
                            typed("application/json", Either::Left(body))
                        }
                        None => plain(StatusCode::NOT_FOUND, "not found\n"),
                    }
                }
            },
        };
        let headers = answer.headers_mut();
        for (name, value) in [
            (header::CONTENT_SECURITY_POLICY, POLICY),
            (header::CACHE_CONTROL, "no-store"),
            (header::REFERRER_POLICY, "no-referrer"),
            (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        ] {
            headers.insert(name, header::HeaderValue::from_static(value));
        }
        answer
    }

    /// Why a request is refused.
    fn refusal(&self, request: &Request<Incoming>) -> Option<(StatusCode, &'static str)> {
        if request.method() != http::Method::GET && request.method() != http::Method::HEAD {
            return Some((StatusCode::METHOD_NOT_ALLOWED, "only GET and HEAD\n"));
        }
        match &self.token {
            Some(token) => {
                let query = request.uri().query().unwrap_or_default();
                let given = query.split('&').find_map(|pair| pair.strip_prefix("token="));
                let is_right = given.is_some_and(|given| same(given, token));
                (!is_right).then_some((StatusCode::FORBIDDEN, "the token of the URL is missing\n"))
            }
            None => {
                // Another site's name may have been pointed here (DNS rebinding).
                let host = request.headers().get(header::HOST).and_then(|host| host.to_str().ok());
                let is_ours = host.is_some_and(|host| is_local(host, self.local));
                (!is_ours).then_some((StatusCode::FORBIDDEN, "this page has another name\n"))
            }
        }
    }

    /// Everything that is kept, and then what comes.
    fn events(&self) -> Events {
        let (to, from) = mpsc::channel(16);
        let store = self.lock();
        let kept: Vec<Bytes> = store.entries.iter().map(|entry| entry.event.clone()).collect();
        let mut news = self.news.subscribe();
        drop(store);
        tokio::spawn(async move {
            for event in kept {
                if to.send(event).await.is_err() {
                    return;
                }
            }
            loop {
                let event = tokio::select! {
                    event = news.recv() => event,
                    () = to.closed() => return,
                };
                let event = match event {
                    Ok(event) => event,
                    Err(broadcast::error::RecvError::Lagged(missed)) => {
                        format!("event: dropped\ndata: {missed}\n\n").into()
                    }
                    Err(broadcast::error::RecvError::Closed) => return,
                };
                if to.send(event).await.is_err() {
                    return;
                }
            }
        });
        Events(from)
    }
}

fn typed(kind: &'static str, body: Either<Full<Bytes>, Events>) -> Answer {
    let mut answer = Response::new(body);
    answer.headers_mut().insert(header::CONTENT_TYPE, header::HeaderValue::from_static(kind));
    answer
}

/// Whether a `Host` names this machine's loopback, as an address or as localhost.
fn is_local(host: &str, local: SocketAddr) -> bool {
    let (name, port) = match host.rsplit_once(':') {
        Some((name, port)) if !port.ends_with(']') => (name, port),
        _ => (host, "80"),
    };
    let ip = name.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>();
    let is_loopback = name == "localhost" || ip.is_ok_and(|ip| ip.is_loopback());
    is_loopback && port == local.port().to_string()
}

/// Compares two texts in a time that does not reveal where they differ.
fn same(a: &str, b: &str) -> bool {
    a.len() == b.len() && a.bytes().zip(b.bytes()).fold(0, |sum, (a, b)| sum | (a ^ b)) == 0
}

/// Server-sent events.
struct Events(mpsc::Receiver<Bytes>);

impl Body for Events {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        self.0.poll_recv(cx).map(|event| event.map(|event| Ok(Frame::data(event))))
    }
}
