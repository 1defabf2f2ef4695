//! `fcgi tap --web`: its page in headless Chromium, and who gets it.

mod common;

use std::{
    fs,
    process::{Command, ExitCode},
};

use common::{fcgi, gateway::until, tap::Tap, webdriver::Browser};
use fcgi_testkit::{
    harness::{self, Case, Failed},
    http::{HttpConnection, Reply},
    peers::Peer,
    wire::{KEEP, RawApp, Type, answer, complete, record, request},
};
use serde_json::{Value, json};

type Result = std::result::Result<(), Failed>;
type Test = (&'static str, fn() -> Result, &'static [Peer]);

fn main() -> ExitCode {
    let cases: [Test; 7] = [
        ("requests_appear_as_they_come", requests_appear_as_they_come, &[Peer::Chromium]),
        ("a_request_is_shown_whole", a_request_is_shown_whole, &[Peer::Chromium]),
        ("the_command_does_the_same_again", the_command_does_the_same_again, &[]),
        ("keys_do_what_the_mouse_does", keys_do_what_the_mouse_does, &[Peer::Chromium]),
        ("it_fits_a_phone_and_the_night", it_fits_a_phone_and_the_night, &[Peer::Chromium]),
        ("only_who_may_sees_it", only_who_may_sees_it, &[]),
        ("who_may_not_see_it_stops_nothing", who_may_not_see_it_stops_nothing, &[]),
    ];
    harness::run(cases.map(|(name, run, peers)| Case::new(name, run).needs(peers)))
}

const PAGE: &[u8] = b"Status: 404 Not Found\r\nSet-Cookie: id=hidden\r\n\r\n<b>nothing</b> here\n";

/// A tap with a page, and the page's URL.
fn start() -> (Tap, String) {
    let application = RawApp::new().serve(|mut peer| {
        while let Some((id, _, _)) = peer.try_request() {
            let stderr = record(Type::Stderr, id, b"PHP Warning: <i>oh</i>\n");
            if peer.try_send([stderr, answer(id, PAGE)].concat()).is_err() {
                return;
            }
        }
    });
    let tap = Tap::start(application, &["--web", "127.0.0.1:0"]);
    let url = url(&tap);
    (tap, url)
}

fn url(tap: &Tap) -> String {
    let mut url = None;
    until("it says where the page is", || {
        let said = tap.stderr();
        url = said
            .lines()
            .find_map(|line| line.strip_prefix("fcgi tap: the page is at "))
            .map(str::to_owned);
        url.is_some()
    });
    url.expect("it was said")
}

/// One request of a client's for each path.
fn ask(tap: &Tap, paths: &[&str]) {
    let mut web = tap.connect();
    for path in paths {
        let pairs = [
            ("REQUEST_METHOD", "POST"),
            ("REQUEST_URI", path),
            ("SCRIPT_FILENAME", "/srv/it's here.php"),
            ("HTTP_COOKIE", "session=hidden"),
            ("CONTENT_LENGTH", "12"),
        ];
        web.send(request(1, KEEP, &pairs, b"a body's 100"));
        web.answer(1);
    }
}

/// The texts of all elements that a selector finds, as soon as there are this many.
fn texts(
    browser: &mut Browser,
    selector: &str,
    count: usize,
) -> std::result::Result<Vec<String>, Failed> {
    let mut texts = Vec::new();
    until(selector, || {
        let found = browser.texts(selector).unwrap_or_default();
        let found = found.as_array().cloned().unwrap_or_default();
        texts = found.iter().filter_map(Value::as_str).map(str::to_owned).collect();
        texts.len() == count && texts.iter().all(|text| !text.is_empty())
    });
    Ok(texts)
}

fn requests_appear_as_they_come() -> Result {
    let (tap, url) = start();
    ask(&tap, &["/before"]);
    let mut browser = Browser::start(&Peer::Chromium.find()?)?;
    browser.go(&url)?;
    assert_eq!(texts(&mut browser, "#list .path", 1)?, ["POST /before"]);
    ask(&tap, &["/one?<b>", "/two"]);
    let paths = texts(&mut browser, "#list .path", 3)?;
    assert_eq!(paths, ["POST /two", "POST /one?<b>", "POST /before"]);
    until("each has ended", || {
        let shown = browser.texts("#list strong").unwrap_or_default();
        shown == json!(["404", "404", "404"])
    });
    browser.type_into("#filter", "one")?;
    assert_eq!(texts(&mut browser, "#list li:not([hidden]) .path", 1)?, ["POST /one?<b>"]);
    assert_eq!(browser.complaints()?, Vec::<Value>::new());
    Ok(())
}

fn a_request_is_shown_whole() -> Result {
    let (tap, url) = start();
    ask(&tap, &["/a"]);
    let mut browser = Browser::start(&Peer::Chromium.find()?)?;
    browser.emulate(1200, "light")?;
    browser.go(&url)?;
    texts(&mut browser, "#list .path", 1)?;
    browser.click("#list li")?;
    texts(&mut browser, "#title", 1)?;
    let rows = texts(&mut browser, "#params tr", 5)?;
    assert!(rows.contains(&"HTTP_COOKIE **************".to_owned()), "{rows:?}");
    browser.type_into("#search", "script")?;
    assert_eq!(texts(&mut browser, "#params tr", 1)?, ["SCRIPT_FILENAME /srv/it's here.php"]);
    let kinds = texts(&mut browser, "#records tbody td:nth-child(3)", 9)?;
    let expected = [
        "BEGIN_REQUEST",
        "PARAMS",
        "PARAMS",
        "STDIN",
        "STDIN",
        "STDERR",
        "STDOUT",
        "STDOUT",
        "END_REQUEST",
    ];
    assert_eq!(kinds, expected);
    let bars = "return ['.up', '.down', '.stderr'].map(kind => document.querySelectorAll('#line ' + kind).length)";
    assert_eq!(browser.run(bars, &[])?, json!([5, 3, 1]));
    // Text, whatever it looks like.
    assert_eq!(texts(&mut browser, "#stderr", 1)?, ["PHP Warning: <i>oh</i>"]);
    let stdout = &texts(&mut browser, "#stdout", 1)?[0];
    assert!(
        stdout.contains("<b>nothing</b> here") && stdout.contains("Set-Cookie: *********"),
        "{stdout}"
    );
    assert_eq!(browser.complaints()?, Vec::<Value>::new());
    Ok(())
}

/// The answer to a GET at `host`, which the browser calls `named`.
fn get(host: &str, named: &str, path: &str) -> std::result::Result<Reply, Failed> {
    let mut connection = HttpConnection::connect(host)?;
    connection.send(format!("GET {path} HTTP/1.1\r\nHost: {named}\r\n\r\n").as_bytes())?;
    Ok(connection.read_reply()?)
}

/// The JSON of a request, once that has ended.
fn detail(url: &str, number: u64) -> std::result::Result<Value, Failed> {
    let mut detail = Value::Null;
    let host = url.trim_start_matches("http://").trim_end_matches('/').to_owned();
    until("the request is there", || {
        let reply = get(&host, &host, &format!("/requests/{number}")).expect("the page answers");
        detail = serde_json::from_slice(&reply.body).unwrap_or_default();
        detail["done"] == true
    });
    Ok(detail)
}

fn the_command_does_the_same_again() -> Result {
    let (tap, url) = start();
    ask(&tap, &["/again?a=1&b"]);
    let detail = detail(&url, 1)?;
    let command = detail["command"].as_str().ok_or("a command")?;
    assert!(command.starts_with("printf %s 'a body'\\''s 100' | fcgi call unix:"), "{command}");
    // Run by a shell, through the tap: the same parameters and body.
    let (_, rest) = command.split_once("| fcgi call ").ok_or("a call")?;
    let (_, arguments) = rest.split_once(' ').ok_or("an address")?;
    let script = format!(
        "printf %s 'a body'\\''s 100' | '{}' call '{}' {arguments}",
        env!("CARGO_BIN_EXE_fcgi"),
        tap.address,
    );
    let output = Command::new("sh").args(["-c", &script]).output()?;
    assert!(String::from_utf8_lossy(&output.stdout).contains("nothing"), "{output:?}");
    let again = self::detail(&url, 2)?;
    for part in ["params", "stdin_bytes", "status", "method", "path"] {
        assert_eq!(detail[part], again[part], "{part}");
    }
    Ok(())
}

fn keys_do_what_the_mouse_does() -> Result {
    let (tap, url) = start();
    ask(&tap, &["/one", "/two"]);
    let mut browser = Browser::start(&Peer::Chromium.find()?)?;
    browser.emulate(1200, "light")?;
    browser.go(&url)?;
    texts(&mut browser, "#list .path", 2)?;
    let mut press =
        |key: &str| browser.type_into("body", key).and_then(|()| browser.texts("#title"));
    press("j")?;
    press("j")?;
    until("the second is shown", || {
        browser.texts("#title").is_ok_and(|title| title == json!(["1 POST /one"]))
    });
    browser.type_into("body", "/")?;
    let focused = browser.run("return document.activeElement.id", &[])?;
    assert_eq!(focused, "search");
    browser.run("document.activeElement.blur()", &[])?;
    browser.type_into("body", "k")?;
    until("the first is shown", || {
        browser.texts("#title").is_ok_and(|title| title == json!(["2 POST /two"]))
    });
    Ok(())
}

fn it_fits_a_phone_and_the_night() -> Result {
    let (tap, url) = start();
    ask(&tap, &["/a/rather/long/path/that/does/not/fit/a/phone?with=a&long=query", "/b"]);
    let mut browser = Browser::start(&Peer::Chromium.find()?)?;
    browser.go(&url)?;
    let mut backgrounds = Vec::new();
    for (width, scheme) in [(360, "light"), (360, "dark"), (1280, "light"), (1280, "dark")] {
        browser.emulate(width, scheme)?;
        browser.reload()?;
        texts(&mut browser, "#list .path", 2)?;
        let fits = "return document.documentElement.scrollWidth";
        assert_eq!(browser.run(fits, &[])?, width, "no scrolling sideways");
        save(&mut browser, &format!("list-{width}-{scheme}"))?;
        browser.click("#list li")?;
        texts(&mut browser, "#title", 1)?;
        assert_eq!(browser.run(fits, &[])?, width, "no scrolling sideways");
        // What a record holds is within the page, not beside it.
        let right = "return Math.max(...[...document.querySelectorAll('#records td.value')]
            .map(cell => cell.getBoundingClientRect().right)) <= innerWidth";
        assert_eq!(browser.run(right, &[])?, true, "{width}");
        let background = "return getComputedStyle(document.body).backgroundColor";
        backgrounds.push(browser.run(background, &[])?);
        save(&mut browser, &format!("detail-{width}-{scheme}"))?;
        let back =
            browser.run("return getComputedStyle(document.querySelector('#back')).display", &[])?;
        assert_eq!(back == "none", width > 760, "a way back where the list is hidden");
    }
    assert_ne!(backgrounds[0], backgrounds[1]);
    Ok(())
}

/// A picture, for those who want to look: `FCGI_SCREENSHOTS` names a folder.
fn save(browser: &mut Browser, name: &str) -> Result {
    if let Some(folder) = std::env::var_os("FCGI_SCREENSHOTS") {
        fs::write(
            std::path::Path::new(&folder).join(format!("{name}.png")),
            browser.screenshot()?,
        )?;
    }
    Ok(())
}

fn only_who_may_sees_it() -> Result {
    let (_tap, url) = start();
    let host = url.trim_start_matches("http://").trim_end_matches('/');
    assert_eq!(get(host, host, "/")?.head.status, 200);
    let port = host.rsplit(':').next().ok_or("a port")?;
    assert_eq!(get(host, &format!("localhost:{port}"), "/")?.head.status, 200);
    // A name that somebody has pointed at this machine.
    assert_eq!(get(host, &format!("evil.example:{port}"), "/")?.head.status, 403);
    assert_eq!(get(host, host, "/requests/7")?.head.status, 404);
    for (method, status, allowed) in [("HEAD", 200, None), ("POST", 405, Some("GET, HEAD"))] {
        let mut connection = HttpConnection::connect(host)?;
        connection.send(format!("{method} / HTTP/1.1\r\nHost: {host}\r\n\r\n").as_bytes())?;
        let head = connection.read_head()?;
        assert_eq!((head.status, head.field("allow")), (status, allowed), "{method}");
    }

    // A page that others can reach must be allowed with an option, and needs a token.
    let application = RawApp::new();
    let address = application.address.to_string();
    let output =
        fcgi().args(["tap", "--listen", "127.0.0.1:0", &address, "--web", "0.0.0.0:0"]).output()?;
    assert_eq!(output.status.code(), Some(2));
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(said.contains("--web-remote"), "{said}");
    let tap = Tap::start(&address, &["--web", "0.0.0.0:0", "--web-remote"]);
    let url = self::url(&tap);
    let (place, token) = url.split_once("/?token=").ok_or("a token")?;
    assert_eq!(token.len(), 32, "{url}");
    let host = format!("127.0.0.1:{}", place.rsplit(':').next().ok_or("a port")?);
    for path in
        ["/", "/events", "/requests/1", "/?token=", "/?token=0123456789abcdef0123456789abcdef"]
    {
        assert_eq!(get(&host, "any.example", path)?.head.status, 403, "{path}");
    }
    assert_eq!(get(&host, "any.example", &format!("/?token={token}"))?.head.status, 200);
    Ok(())
}

fn who_may_not_see_it_stops_nothing() -> Result {
    let application = RawApp::new().serve(|mut peer| peer.echo());
    let args = ["--web", "0.0.0.0:0", "--web-remote"];
    let tap = Tap::start_within("n 128", application, &args);
    let url = url(&tap);
    let port = url.split(['/', ':']).nth(4).ok_or("a port")?.to_owned();
    let host = format!("127.0.0.1:{port}");
    // Connections that say nothing, more than the tap may have descriptors.
    let idle = (0..300)
        .map(|_| std::net::TcpStream::connect(&host))
        .collect::<std::result::Result<Vec<_>, _>>()?;
    for _ in 0..50 {
        let mut web = tap.connect();
        web.send(request(1, KEEP, &[("REQUEST_METHOD", "POST")], b"body"));
        assert_eq!(web.answer(1), complete(b"body"));
    }
    assert!(!tap.stderr().contains("accept a connection"), "{}", tap.stderr());
    drop(idle);
    let token = url.split_once("/?").ok_or("a token")?.1;
    assert_eq!(get(&host, "any.example", &format!("/?{token}"))?.head.status, 200);
    // A refused client keeps no connection.
    let refused = get(&host, "any.example", "/")?;
    assert_eq!(refused.head.status, 403);
    assert_eq!(refused.head.field("connection"), Some("close"));
    Ok(())
}
