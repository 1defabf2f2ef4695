//! nginx calls our server, on a unix socket.

use std::{
    future::pending,
    sync::mpsc,
    thread,
    time::{Duration, Instant},
};

use fcgi_testkit::{
    harness::{Case, Failed},
    http::HttpConnection,
    peers::{Nginx, NginxOptions, Peer},
};
use fcgi_tokio as fcgi;

use crate::{
    app::{App, HEAD, download, echo},
    relay::Relay,
    support::{Kind, LIMIT, MOST, Outcome, is_pattern, text},
};

const UPLOAD: u64 = 20 << 20;
const DOWNLOAD: u64 = 100 << 20;
const COMPLAINT: &str = "a complaint of the handler";

pub(crate) fn cases() -> Vec<Case> {
    vec![
        case("get", get),
        case("upload_20_mb_w7", upload),
        case("download_100_mb", download_100_mb),
        case("keeps_one_connection_for_100_requests", keep_alive),
        case("client_leaves_a_silent_handler_w8", leave_silent),
        case("client_leaves_a_download_w8", leave_download),
        case("client_leaves_an_upload_w8", leave_upload),
        case("logs_stderr", stderr),
    ]
}

const LOCATIONS: [&str; 3] = ["/kept", "/plain", "/unbuffered"];

fn case(name: &str, run: fn() -> Outcome) -> Case {
    Case::new(format!("nginx_{name}"), run).needs(&[Peer::Nginx])
}

fn nginx(upstream: impl Into<String>) -> Result<Nginx, Failed> {
    Ok(Nginx::start(NginxOptions::new(upstream))?)
}

fn connect(nginx: &Nginx) -> Result<HttpConnection, Failed> {
    Ok(HttpConnection::connect(("127.0.0.1", nginx.port()))?)
}

fn get() -> Outcome {
    let app = App::start(Kind::Unix, echo)?;
    let nginx = nginx(app.address().to_string())?;
    let mut http = connect(&nginx)?;
    for location in LOCATIONS {
        let reply = http.get(&format!("{location}/page?a=b"))?;
        let page = text(&reply.body);
        assert_eq!(reply.head.status, 200, "{page}");
        assert_eq!(reply.head.field("content-type"), Some("text/plain"));
        for line in ["REQUEST_METHOD=GET", "QUERY_STRING=a=b", "SCRIPT_NAME=/page"] {
            assert!(page.lines().any(|given| given == line), "{location}: no {line} in {page}");
        }
    }
    drop(nginx);
    app.stop()
}

/// Once the head of the response is there, nginx sends no more of STDIN, in any location: the
/// handler reads all of it before it answers, or both would wait for each other.
async fn echo_body(request: fcgi::Request) -> Result<(), fcgi::Error> {
    let body = request.stdin().read_to_end(MOST).await?;
    let mut out = request.stdout();
    out.write_all(HEAD).await?;
    out.write_all(body).await
}

fn upload() -> Outcome {
    let app = App::start(Kind::Unix, echo_body)?;
    let nginx = nginx(app.address().to_string())?;
    let mut http = connect(&nginx)?;
    for location in LOCATIONS {
        let reply = http
            .post(&format!("{location}/upload"), UPLOAD)
            .map_err(|error| format!("{location}: {error}; nginx's log:\n{}", nginx.log()))?;
        assert_eq!(reply.body.len() as u64, UPLOAD, "{location}: {}", nginx.log());
        assert!(is_pattern(0, &reply.body), "{location}: the echo differs from what was sent");
    }
    drop(nginx);
    app.stop()
}

fn download_100_mb() -> Outcome {
    let app =
        App::start(Kind::Unix, async |request: fcgi::Request| download(&request, DOWNLOAD).await)?;
    let nginx = nginx(app.address().to_string())?;
    let mut http = connect(&nginx)?;
    for location in LOCATIONS {
        http.send_head("GET", &format!("{location}/download"), &[])?;
        assert_eq!(http.read_head()?.status, 200, "{}", nginx.log());
        let (mut at, mut buffer) = (0, vec![0; 256 * 1024]);
        loop {
            match http.read_body(&mut buffer)? {
                0 => break,
                n => {
                    assert!(is_pattern(at, &buffer[..n]), "{location}: differs after {at} bytes");
                    at += n as u64;
                }
            }
        }
        assert_eq!(at, DOWNLOAD, "{location}: {}", nginx.log());
    }
    drop(nginx);
    app.stop()
}

fn keep_alive() -> Outcome {
    let app = App::start(Kind::Unix, echo)?;
    let address = app.address().clone();
    app.block_on(async {
        let relay = Relay::start(address, |_| {})?;
        let calls = tokio::task::spawn_blocking({
            let upstream = relay.address();
            move || -> Result<(), String> {
                requests(&upstream).map_err(|failed| format!("{:?}", failed.message()))
            }
        });
        calls.await??;
        assert_eq!(relay.connections(), 1);
        Ok(())
    })?;
    app.stop()
}

fn requests(upstream: &str) -> Outcome {
    let nginx = nginx(upstream)?;
    let mut http = connect(&nginx)?;
    for n in 0..100 {
        let reply = http.get(&format!("/kept/page?n={n}"))?;
        let page = text(&reply.body);
        assert!(page.contains(&format!("\nQUERY_STRING=n={n}\n")), "{page}");
    }
    Ok(())
}

/// Tells when a handler starts and when it is dropped.
struct Seen(mpsc::Sender<&'static str>);

impl Seen {
    fn start(to: &mpsc::Sender<&'static str>) -> Self {
        // A case that failed does not listen any more; so below.
        let _ = to.send("started");
        Self(to.clone())
    }
}

impl Drop for Seen {
    fn drop(&mut self) {
        let _ = self.0.send("gone");
    }
}

/// Answers `/page`; otherwise does not end by itself.
async fn stay(request: fcgi::Request, seen: mpsc::Sender<&'static str>) -> Result<(), fcgi::Error> {
    let script = request.param_str("SCRIPT_NAME").unwrap_or_default();
    if script == "/page" {
        return echo(request).await;
    }
    let _seen = Seen::start(&seen);
    match script {
        "/download" => download(&request, u64::MAX).await,
        "/upload" => {
            while request.stdin().chunk().await?.is_some() {}
            pending().await
        }
        _ => pending().await,
    }
}

/// The handler of a client that leaves is dropped, and the next request is answered.
fn leave(location: &str, script: &str, half: fn(&mut HttpConnection, &str) -> Outcome) -> Outcome {
    let (sender, seen) = mpsc::channel();
    let app = App::start(Kind::Unix, move |request| stay(request, sender.clone()))?;
    let nginx = nginx(app.address().to_string())?;
    let mut http = connect(&nginx)?;
    half(&mut http, &format!("{location}{script}"))?;
    assert_eq!(seen.recv_timeout(LIMIT)?, "started");
    assert!(seen.try_recv().is_err(), "the handler ended before its client left");
    drop(http);
    assert_eq!(seen.recv_timeout(LIMIT)?, "gone");
    let reply = connect(&nginx)?.get(&format!("{location}/page"))?;
    assert_eq!(reply.head.status, 200, "{location}: {}", nginx.log());
    drop(nginx);
    app.stop()
}

fn leave_silent() -> Outcome {
    for location in LOCATIONS {
        leave(location, "/silent", |http, target| Ok(http.send_head("GET", target, &[])?))?;
    }
    Ok(())
}

fn leave_download() -> Outcome {
    for location in LOCATIONS {
        leave(location, "/download", |http, target| {
            http.send_head("GET", target, &[])?;
            assert_eq!(http.read_head()?.status, 200);
            assert!(http.read_body(&mut [0; 1000])? > 0);
            Ok(())
        })?;
    }
    Ok(())
}

fn leave_upload() -> Outcome {
    leave("/unbuffered", "/upload", |http, target| {
        http.send_head("POST", target, &[("Content-Length", "1000000")])?;
        Ok(http.send(&[b'x'; 500_000])?)
    })
}

fn stderr() -> Outcome {
    let app = App::start(Kind::Unix, async |request: fcgi::Request| {
        request.stderr().write_all(COMPLAINT).await?;
        request.stdout().write_all(HEAD).await
    })?;
    let nginx = nginx(app.address().to_string())?;
    let reply = connect(&nginx)?.get("/kept/page")?;
    assert_eq!((reply.head.status, reply.body.len()), (200, 0));
    let started = Instant::now();
    while !nginx.log().contains(COMPLAINT) {
        assert!(started.elapsed() < LIMIT, "{}", nginx.log());
        thread::sleep(Duration::from_millis(10));
    }
    drop(nginx);
    app.stop()
}
