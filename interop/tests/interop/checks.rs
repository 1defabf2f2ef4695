//! The checks of every pair, and what is observed of our server on the wire.

use std::{collections::HashMap, fs::File, io::ErrorKind, thread, time::Duration};

use anyhow::{Context, Result, bail, ensure};
use fcgi_testkit::http::{HttpConnection, Reply, Upload, pattern};

use crate::{
    pairs::{Pair, Side},
    routes::Crc32,
    run::{LIMIT, Started, expect},
};

const DOWNLOAD: u64 = 100 << 20;
/// More than lighttpd reads in one turn, 256 KiB: it refuses only what has not come yet.
const CHUNKED: u64 = 1_000_000;
const AT_ONCE: usize = 50;
/// More than one connection takes, and than Apache has threads.
const SLOW_AT_ONCE: usize = 110;
/// What is sent before a response breaks: more than web servers hold back.
const BROKEN: u64 = 1 << 20;
/// How long to wait for something that is known not to happen.
const TOLD: Duration = Duration::from_secs(2);
/// What the table says if the handler runs on after its client left.
const NOBODY: &str = "nobody";
/// What it says if the web server never called the handler.
const NOT_CALLED: &str = "not called";

/// A check, the same for every pair that it applies to.
pub(crate) struct Check {
    /// The end of the test's name.
    pub(crate) id: &'static str,
    /// What the table calls it.
    pub(crate) title: &'static str,
    pub(crate) applies: fn(&Pair) -> bool,
    /// Passes with nothing or with a value for the table.
    pub(crate) run: fn(&Started) -> Result<Option<String>>,
}

pub(crate) const CHECKS: &[Check] = &[
    all("get", "GET", get),
    all("head", "HEAD", head),
    all("post_0", "POST 0 B", |started| post(started, Upload::Length(0))),
    all("post_1", "POST 1 B", |started| post(started, Upload::Length(1))),
    all("post_100_kb", "POST 100 KB", |started| post(started, Upload::Length(100_000))),
    all("post_20_mb", "POST 20 MB", |started| post(started, Upload::Length(20 << 20))),
    all("chunked", "chunked upload (W-10)", |started| post(started, Upload::Chunked(CHUNKED))),
    all("download", "100 MB download", download),
    all("slow", "slow stream", slow),
    all("redirect", "redirect", redirect),
    all("cookies", "Set-Cookie twice", cookies),
    all("missing", "404 with a body", missing),
    all("leave", "client disconnects half way", leave),
    all("keep_200", "200 requests kept alive", |started| keep_200(started).map(|()| None)),
    all("at_once_50", "50 at once", at_once),
    all("big_headers", "big headers", big_headers),
    server("head_in_one_record", "head in one STDOUT record (W-1)", head_in_one_record),
    server("hop_by_hop", "hop-by-hop fields of the application dropped (W-3)", hop_by_hop),
    server("too_long", "body cut off at Content-Length (W-4)", too_long),
    server("script_filename", "SCRIPT_FILENAME is a path (W-5)", script_filename),
    server("overloaded", "status for OVERLOADED (W-2)", overloaded),
    server("nothing", "status if a handler fails before it sends anything (W-15)", nothing),
    server("breaks", "client notices a truncated response (W-12)", |started| breaks(started, "")),
    server("breaks_length", "the same with Content-Length (W-12)", |started| {
        breaks(started, &(2 * BROKEN).to_string())
    }),
    server("at_once_110", "110 slow requests at once (W-14)", at_once_slow),
    server("leave_download", "client leaves a download: reported by (W-8)", leave_download),
    server("leave_upload", "client leaves an upload: reported by (W-8)", leave_upload),
    server("leave_silent", "client leaves a silent handler: reported by (W-8)", leave_silent),
    server("connections", "FastCGI connections for 200 requests", connections),
    server("multiplexes", "several requests on one connection (W-9)", multiplexes),
    server("values", "sends GET_VALUES (W-9)", values),
    server("content_length", "CONTENT_LENGTH of a chunked upload (W-10)", content_length),
    authorizer("allow", "allowed", allow),
    authorizer("deny", "denied", deny),
    authorizer("user", "user from the application", user),
    authorizer("not_asked", "not asked elsewhere", not_asked),
];

type Run = fn(&Started) -> Result<Option<String>>;

const fn all(id: &'static str, title: &'static str, run: Run) -> Check {
    Check { id, title, applies: |pair| pair.side != Side::Authorizer, run }
}

const fn server(id: &'static str, title: &'static str, run: Run) -> Check {
    Check { id, title, applies: |pair| pair.side == Side::Server, run }
}

const fn authorizer(id: &'static str, title: &'static str, run: Run) -> Check {
    Check { id, title, applies: |pair| pair.side == Side::Authorizer, run }
}

/// A page of `name=value` lines.
fn lines(reply: &Reply) -> HashMap<String, String> {
    let page = String::from_utf8_lossy(&reply.body).into_owned();
    let pairs = page.lines().filter_map(|line| line.split_once('='));
    pairs.map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
}

fn has(reply: &Reply, expected: &[(&str, &str)]) -> Result<()> {
    let lines = lines(reply);
    for (name, value) in expected {
        let got = lines.get(*name).map(String::as_str);
        ensure!(got == Some(value), "{name} is {got:?}, not {value:?}, in {lines:?}");
    }
    Ok(())
}

fn get(started: &Started) -> Result<Option<String>> {
    let reply = started.get("echo?a=b&c", 200)?;
    has(&reply, &[("method", "GET"), ("query", "a=b&c"), ("length", "0")])?;
    let kind = reply.head.field("content-type").unwrap_or_default();
    ensure!(kind.starts_with("text/plain"), "Content-Type is {kind:?}");
    Ok(None)
}

/// The reply has no body, and the connection goes on.
fn head(started: &Started) -> Result<Option<String>> {
    let mut http = started.connect()?;
    let reply = expect(http.head(&started.path("echo?head"))?, 200)?;
    ensure!(reply.body.is_empty());
    has(&expect(http.get(&started.path("echo?after"))?, 200)?, &[("query", "after")])?;
    Ok(None)
}

fn post(started: &Started, upload: Upload) -> Result<Option<String>> {
    let (Upload::Length(n) | Upload::Chunked(n)) = upload;
    let mut crc = Crc32::new();
    let period: Vec<u8> = (0..251).map(pattern).collect();
    for at in (0..n).step_by(251) {
        crc.update(&period[..251.min(n - at) as usize]);
    }
    let mut http = started.connect()?;
    let reply = expect(http.upload(&started.path("echo"), upload)?, 200)?;
    let crc = format!("{:08x}", crc.finish());
    has(&reply, &[("method", "POST"), ("length", &n.to_string()), ("crc32", &crc)])?;
    Ok(None)
}

fn download(started: &Started) -> Result<Option<String>> {
    let mut http = started.connect()?;
    http.send_head("GET", &started.path(format_args!("download?n={DOWNLOAD}")), &[])?;
    let head = http.read_head()?;
    ensure!(head.status == 200, "status {}", head.status);
    let block: Vec<u8> = (0..251 * 1024).map(pattern).collect();
    let (mut at, mut buffer) = (0, vec![0; 250 * 1024]);
    loop {
        let n = http.read_body(&mut buffer).with_context(|| format!("after {at} bytes"))?;
        if n == 0 {
            break;
        }
        let start = (at % 251) as usize;
        ensure!(buffer[..n] == block[start..start + n], "other bytes after {at}");
        at += n as u64;
    }
    ensure!(at == DOWNLOAD, "{at} bytes, not {DOWNLOAD}");
    Ok(None)
}

/// Each piece arrives before the application goes on to the next, for it waits for that.
fn slow(started: &Started) -> Result<Option<String>> {
    let gate = started.gates.path().join("gate");
    let mut http = started.connect()?;
    http.send_head("GET", &started.path(format_args!("slow?gate={}", gate.display())), &[])?;
    let head = http.read_head()?;
    ensure!(head.status == 200, "status {}", head.status);
    let mut page = Vec::new();
    for piece in 1..=5 {
        let line = format!("piece {piece}\n");
        while !page.ends_with(line.as_bytes()) {
            let mut buffer = [0; 1000];
            let n = http.read_body(&mut buffer)?;
            ensure!(n > 0, "ended after {:?}", String::from_utf8_lossy(&page));
            page.extend_from_slice(&buffer[..n]);
        }
        File::create(gate.with_extension(piece.to_string()))?;
    }
    ensure!(http.read_body(&mut [0; 10])? == 0, "bytes after the last piece");
    let page = String::from_utf8_lossy(&page).into_owned();
    ensure!(page.lines().count() == 5, "{page:?}");
    Ok(None)
}

fn redirect(started: &Started) -> Result<Option<String>> {
    let reply = started.get("redirect", 302)?;
    let location = reply.head.field("location");
    ensure!(location == Some("http://www.example.org/elsewhere"), "Location is {location:?}");
    Ok(None)
}

fn cookies(started: &Started) -> Result<Option<String>> {
    let reply = started.get("cookies", 200)?;
    let cookies: Vec<&str> = reply.head.all("set-cookie").collect();
    ensure!(cookies == ["a=1; Path=/", "b=2; Path=/"], "Set-Cookie is {cookies:?}");
    Ok(None)
}

fn missing(started: &Started) -> Result<Option<String>> {
    let reply = started.get("missing", 404)?;
    let page = String::from_utf8_lossy(&reply.body);
    ensure!(page == "no such page\n", "the page is {page:?}");
    Ok(None)
}

/// The bytes that [`begin_download`] reads.
const FIRST: usize = 1000;

/// Starts a download that is too large for any buffer on its way, and reads its first bytes.
fn begin_download(started: &Started, route: &str) -> Result<HttpConnection> {
    let mut http = started.connect()?;
    http.send_head("GET", &started.path(route), &[])?;
    let head = http.read_head()?;
    ensure!(head.status == 200, "status {}", head.status);
    let (mut first, mut at) = ([0; FIRST], 0);
    while at < FIRST {
        let n = http.read_body(&mut first[at..])?;
        ensure!(n > 0, "ended after {at} bytes");
        at += n;
    }
    Ok(http)
}

/// Nothing of the rest reaches the next requests (H-11).
fn leave(started: &Started) -> Result<Option<String>> {
    for n in 0..4 {
        drop(begin_download(started, "download?n=1000000000")?);
        let reply = started.get(format_args!("echo?after={n}"), 200)?;
        has(&reply, &[("query", &format!("after={n}")), ("length", "0")])?;
    }
    Ok(None)
}

fn keep_200(started: &Started) -> Result<()> {
    let mut http = started.connect()?;
    for n in 0..200 {
        let reply = http.get(&started.path(format_args!("echo?n={n}")));
        let reply = expect(reply.with_context(|| format!("request {n}"))?, 200)?;
        has(&reply, &[("query", &format!("n={n}"))])?;
    }
    Ok(())
}

/// Runs `one` in so many threads.
fn in_threads(all: usize, one: impl Fn(usize) -> Result<()> + Sync) -> Result<()> {
    let outcomes = thread::scope(|scope| {
        let one = &one;
        let threads: Vec<_> = (0..all).map(|n| scope.spawn(move || one(n))).collect();
        threads.into_iter().map(|thread| thread.join()).collect::<Vec<_>>()
    });
    for (n, outcome) in outcomes.into_iter().enumerate() {
        let Ok(outcome) = outcome else { bail!("caller {n} panicked") };
        outcome.with_context(|| format!("caller {n} of {all}"))?;
    }
    Ok(())
}

/// Each caller gets its own answers.
fn at_once(started: &Started) -> Result<Option<String>> {
    in_threads(AT_ONCE, |caller| {
        let mut http = started.connect()?;
        for n in 0..4 {
            let route = format!("echo?caller={caller}&n={n}");
            let reply = expect(http.get(&started.path(&route))?, 200)?;
            has(&reply, &[("query", &format!("caller={caller}&n={n}"))])?;
        }
        Ok(())
    })?;
    Ok(None)
}

fn big_headers(started: &Started) -> Result<Option<String>> {
    let mut http = started.connect()?;
    http.send_head("GET", &started.path("echo"), &[("X-Big", &"y".repeat(7000))])?;
    has(&expect(http.read_reply()?, 200)?, &[("big", "7000")])?;
    let reply = expect(http.get(&started.path("bigheaders"))?, 200)?;
    let big = reply.head.field("x-big").unwrap_or_default();
    ensure!(big.len() == 7000, "X-Big has {} bytes", big.len());
    for n in 0..40 {
        let value = reply.head.field(&format!("x-field-{n}"));
        ensure!(value == Some(&format!("value {n}")), "X-Field-{n} is {value:?}");
    }
    ensure!(reply.body == b"big headers\n");
    Ok(None)
}

fn head_in_one_record(started: &Started) -> Result<Option<String>> {
    let app = started.app()?;
    app.wire.reset();
    for route in ["bigheaders", "cookies", "download?n=1000000"] {
        started.get(route, 200)?;
    }
    let traffic = app.wire.traffic();
    ensure!(traffic.requests == 3 && traffic.split_heads == 0, "{traffic:?}");
    Ok(None)
}

fn hop_by_hop(started: &Started) -> Result<Option<String>> {
    let mut http = started.connect()?;
    let reply = expect(http.get(&started.path("hopbyhop"))?, 200)?;
    let page = String::from_utf8_lossy(&reply.body);
    ensure!(page == "no chunks\n", "the page is {page:?}");
    let keep_alive = reply.head.field("keep-alive").unwrap_or_default();
    ensure!(!keep_alive.contains("77"), "Keep-Alive is {keep_alive:?}");
    has(&expect(http.get(&started.path("echo?after"))?, 200)?, &[("query", "after")])?;
    Ok(None)
}

fn too_long(started: &Started) -> Result<Option<String>> {
    let reply = started.get("toolong", 200)?;
    let page = String::from_utf8_lossy(&reply.body);
    ensure!(page == "hello", "the page is {page:?}");
    has(&started.get("echo?after", 200)?, &[("query", "after")])?;
    Ok(None)
}

fn script_filename(started: &Started) -> Result<Option<String>> {
    let path = &lines(&started.get("echo", 200)?)["script_filename"];
    ensure!(path.is_empty() || path.starts_with('/'), "{path:?}");
    Ok(None)
}

fn overloaded(started: &Started) -> Result<Option<String>> {
    let reply = started.connect()?.get(&started.path("overloaded"))?;
    Ok(Some(reply.head.status.to_string()))
}

fn nothing(started: &Started) -> Result<Option<String>> {
    let reply = started.connect()?.get(&started.path("nothing"))?;
    Ok(Some(reply.head.status.to_string()))
}

/// The handler fails when its client has read the first bytes. None is lost of those before the
/// break, and the client can see it.
fn breaks(started: &Started, length: &str) -> Result<Option<String>> {
    let id = format!("break{length}");
    let route = format!("break?id={id}&n={BROKEN}&length={length}");
    let mut http = begin_download(started, &route)?;
    started.app()?.seen.release(&id);
    let (mut at, mut buffer) = (FIRST as u64, vec![0; 64 << 10]);
    loop {
        match http.read_body(&mut buffer) {
            Ok(0) => bail!("it looks whole, with {at} bytes"),
            Ok(n) => {
                let whole = (at..).zip(&buffer[..n]).all(|(at, byte)| *byte == pattern(at));
                ensure!(whole, "other bytes after {at}");
                at += n as u64;
            }
            Err(error) if error.kind() == ErrorKind::UnexpectedEof => break,
            Err(error) => return Err(error).with_context(|| format!("after {at} bytes")),
        }
    }
    ensure!(at == BROKEN, "{at} bytes, not {BROKEN}");
    has(&started.get("echo?after", 200)?, &[("query", "after")])?;
    Ok(None)
}

/// HAProxy closes a connection, with all its requests, when one on it is refused.
fn at_once_slow(started: &Started) -> Result<Option<String>> {
    in_threads(SLOW_AT_ONCE, |_| started.get("sleep?ms=1500", 200).map(drop))?;
    Ok(None)
}

fn leave_download(started: &Started) -> Result<Option<String>> {
    beside_another(started, || {
        let http = begin_download(started, "stay?id=download&body=out")?;
        leave_handler(started, "leave_download", "download", http)
    })
}

fn leave_upload(started: &Started) -> Result<Option<String>> {
    beside_another(started, || {
        let mut http = started.connect()?;
        let target = started.path("stay?id=upload&body=in");
        http.send_head("POST", &target, &[("Content-Length", "1000000")])?;
        http.send(&[b'x'; 500_000])?;
        leave_handler(started, "leave_upload", "upload", http)
    })
}

fn leave_silent(started: &Started) -> Result<Option<String>> {
    beside_another(started, || {
        let mut http = started.connect()?;
        http.send_head("GET", &started.path("stay?id=silent"), &[])?;
        leave_handler(started, "leave_silent", "silent", http)
    })
}

/// Another request is in progress, maybe on the same connection, and goes on.
fn beside_another(
    started: &Started,
    leave: impl FnOnce() -> Result<String>,
) -> Result<Option<String>> {
    let app = started.app()?;
    let mut other = started.connect()?;
    other.send_head("GET", &started.path("stay?id=other"), &[])?;
    ensure!(app.seen.wait("other", true, LIMIT), "the other handler does not start");
    let told = leave()?;
    ensure!(!app.seen.wait("other", false, Duration::ZERO), "the other handler was ended too");
    app.seen.release("other");
    expect(other.read_reply()?, 200)?;
    // Before the next check asks whether it is there.
    ensure!(app.seen.wait("other", false, LIMIT), "the other handler does not end");
    Ok(Some(told))
}

/// The client goes. Says who has the handler `id` ended: the web server, in one way or the other,
/// or nobody.
fn leave_handler(started: &Started, check: &str, id: &str, http: HttpConnection) -> Result<String> {
    let app = started.app()?;
    // There is no use in waiting long for an event that is known not to come.
    let limit = |instead| if started.expects(check, instead) { TOLD } else { LIMIT };
    if !app.seen.wait(id, true, limit(NOT_CALLED)) {
        return Ok(NOT_CALLED.into());
    }
    app.wire.reset();
    drop(http);
    if !app.seen.wait(id, false, limit(NOBODY)) {
        app.seen.release(id);
        ensure!(app.seen.wait(id, false, LIMIT), "the handler does not end");
        return Ok(NOBODY.into());
    }
    Ok(if app.wire.traffic().aborts > 0 { "ABORT_REQUEST" } else { "closing" }.into())
}

fn connections(started: &Started) -> Result<Option<String>> {
    let app = started.app()?;
    // A connection that another check left may be used first; those after it count.
    app.wire.reset();
    keep_200(started)?;
    let traffic = app.wire.traffic();
    ensure!(traffic.requests == 200, "{traffic:?}");
    Ok(Some(match traffic.connections {
        0..=10 => "few".into(),
        n => n.to_string(),
    }))
}

/// All are in their handlers at the same time: each waits for the others.
fn multiplexes(started: &Started) -> Result<Option<String>> {
    let app = started.app()?;
    app.wire.reset();
    in_threads(AT_ONCE, |_| {
        let reply = started.get(format_args!("meet?id=all&size={AT_ONCE}"), 200)?;
        ensure!(reply.body == b"met\n", "not all came");
        Ok(())
    })?;
    let traffic = app.wire.traffic();
    ensure!(traffic.requests == AT_ONCE, "{traffic:?}");
    Ok(Some(if traffic.most_at_once > 1 { "yes" } else { "no" }.into()))
}

fn values(started: &Started) -> Result<Option<String>> {
    started.get("echo", 200)?;
    let asked = started.app()?.wire.traffic().get_values > 0;
    Ok(Some(if asked { "yes" } else { "no" }.into()))
}

fn content_length(started: &Started) -> Result<Option<String>> {
    let upload = Upload::Chunked(CHUNKED);
    let reply = started.connect()?.upload(&started.path("echo"), upload)?;
    if reply.head.status != 200 {
        return Ok(Some(format!("refused, {}", reply.head.status)));
    }
    let lines = lines(&reply);
    let length = CHUNKED.to_string();
    ensure!(lines["length"] == length, "{lines:?}");
    Ok(Some(match lines["content_length"].trim_matches('"') {
        "" => "empty".into(),
        told if told == length => "the length".into(),
        told => told.into(),
    }))
}

fn guarded(started: &Started, token: &str) -> Result<Reply> {
    let mut http = started.connect()?;
    http.send_head("GET", &started.path("guarded/echo?x"), &[("X-Token", token)])?;
    Ok(http.read_reply()?)
}

fn allow(started: &Started) -> Result<Option<String>> {
    has(&expect(guarded(started, "sesame")?, 200)?, &[("query", "x")])?;
    Ok(None)
}

fn deny(started: &Started) -> Result<Option<String>> {
    let reply = guarded(started, "barley")?;
    let page = String::from_utf8_lossy(&reply.body).into_owned();
    ensure!(!page.contains("method="), "let in: {page}");
    let own = page == "who are you?\n";
    let page = if own { "the application's page" } else { "a page of its own" };
    Ok(Some(format!("{}, {page}", reply.head.status)))
}

fn user(started: &Started) -> Result<Option<String>> {
    has(&expect(guarded(started, "sesame")?, 200)?, &[("user", "ada")])?;
    Ok(None)
}

fn not_asked(started: &Started) -> Result<Option<String>> {
    has(&started.get("echo?open", 200)?, &[("query", "open"), ("user", "")])?;
    Ok(None)
}
