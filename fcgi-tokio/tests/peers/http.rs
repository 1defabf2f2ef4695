//! HTTP: nginx calls an axum `Router`, and our `HttpClient` calls php-fpm.

use std::process::Command;

use axum::{
    Extension, Router,
    http::StatusCode,
    routing::{get, post},
};
use bytes::Bytes;
use fcgi_testkit::{
    examples::Examples,
    harness::Case,
    http::HttpConnection,
    peers::{Nginx, NginxOptions, Peer, PhpFpm, PhpFpmOptions},
};
use fcgi_tokio::{
    self as fcgi,
    http::{HttpClient, MetaVariables, ParamsBuilder, Responder, ScriptMap},
    php_fpm,
};
use http::{Request, header};
use http_body_util::{BodyExt, Empty, Full};

use crate::{
    app::App,
    support::{Kind, Outcome, block_on, text},
};

const UPLOAD: u64 = 5 << 20;

pub(crate) fn cases() -> Vec<Case> {
    let nginx = |name: &str, run: fn() -> Outcome| {
        Case::new(format!("nginx_axum_{name}"), run).needs(&[Peer::Nginx])
    };
    let php = |name: &str, run: fn() -> Outcome| {
        Case::new(format!("php_fpm_http_{name}"), run).needs(&[Peer::PhpFpm])
    };
    vec![
        nginx("pages_w1_w2_w3", pages),
        nginx("upload", upload),
        php("pages", php_pages),
        php("bodies_of_unknown_length_q4", php_unknown_length),
        php("ping_and_status", php_status),
        php("example_programs", php_examples),
    ]
}

async fn page(Extension(meta): Extension<MetaVariables>) -> String {
    format!("{} {:?}", text(meta.script_name()), meta.remote_addr())
}

fn router() -> Router {
    Router::new()
        .route("/kept/page", get(page))
        .route("/kept/gone", get(async || StatusCode::NO_CONTENT))
        .route("/kept/moved", get(async || (StatusCode::FOUND, [(header::LOCATION, "/else")])))
        .route("/kept/panic", get(async || -> &'static str { panic!("as asked") }))
        .route("/kept/length", post(async |body: Bytes| body.len().to_string()))
        .layer(axum::extract::DefaultBodyLimit::disable())
}

fn pages() -> Outcome {
    let app = App::start(Kind::Unix, Responder::new(router()))?;
    let nginx = Nginx::start(NginxOptions::new(app.address().to_string()))?;
    let mut http = HttpConnection::connect(("127.0.0.1", nginx.port()))?;
    for _ in 0..3 {
        let reply = http.get("/kept/page?a=b")?;
        assert_eq!(reply.head.status, 200);
        assert_eq!(text(&reply.body), "/page Some(127.0.0.1)");
        assert_eq!(reply.head.field("content-length"), Some("21"));
        assert_eq!(http.get("/kept/gone")?.head.status, 204);
        let moved = http.get("/kept/moved")?;
        assert_eq!((moved.head.status, moved.head.field("location")), (302, Some("/else")));
        assert_eq!(http.get("/kept/panic")?.head.status, 500);
        assert_eq!(http.get("/kept/nothing")?.head.status, 404);
    }
    drop(nginx);
    app.stop()
}

fn upload() -> Outcome {
    let app = App::start(Kind::Unix, Responder::new(router()))?;
    let nginx = Nginx::start(NginxOptions::new(app.address().to_string()))?;
    let mut http = HttpConnection::connect(("127.0.0.1", nginx.port()))?;
    let reply = http.post("/kept/length", UPLOAD)?;
    assert_eq!((reply.head.status, text(&reply.body)), (200, UPLOAD.to_string()));
    drop(nginx);
    app.stop()
}

/// A php-fpm, and a client of its scripts.
fn php() -> Result<(PhpFpm, HttpClient), fcgi_testkit::harness::Failed> {
    let fpm = PhpFpm::start(PhpFpmOptions::default())?;
    let pool = fcgi::Pool::new(fpm.unix_address())?;
    let root = fpm.document_root();
    let scripts = ScriptMap::builder(root.as_os_str().as_encoded_bytes()).build()?;
    let params = ParamsBuilder::new().remote_addr("192.0.2.7:4711".parse()?);
    Ok((fpm, HttpClient::with_pool(pool).scripts(scripts).params(params).build()?))
}

fn php_pages() -> Outcome {
    let (_fpm, client) = php()?;
    block_on(async {
        for _ in 0..10 {
            let request = Request::get("/env.php/info?a=b").body(Empty::<Bytes>::new())?;
            let response = client.send(request).await?;
            assert_eq!(response.status(), 200);
            let page = text(&response.into_body().collect().await?.to_bytes());
            for line in ["QUERY_STRING=a=b", "PATH_INFO=/info", "REMOTE_ADDR=192.0.2.7"] {
                assert!(page.lines().any(|given| given == line), "no {line} in {page}");
            }
        }
        let request = Request::get("/err.php").body(Empty::<Bytes>::new())?;
        assert_eq!(client.send(request).await?.status(), 418);
        let request = Request::get("/missing.php").body(Empty::<Bytes>::new())?;
        assert_eq!(client.send(request).await?.status(), 404);
        let head = Request::head("/hello.php").body(Empty::<Bytes>::new())?;
        let response = client.send(head).await?;
        assert!(response.into_body().collect().await?.to_bytes().is_empty());
        Ok(())
    })
}

fn php_unknown_length() -> Outcome {
    let (_fpm, client) = php()?;
    block_on(async {
        let bytes = Bytes::from(vec![b'x'; UPLOAD as usize]);
        let (send, receive) = tokio::sync::mpsc::channel(1);
        let mut left = bytes.clone();
        tokio::spawn(async move {
            while !left.is_empty() {
                let piece = left.split_to(left.len().min(100_000));
                if send.send(piece).await.is_err() {
                    return;
                }
            }
        });
        let unknown = Chunks(receive).boxed_unsync();
        let known = Full::new(bytes.clone()).boxed_unsync();
        for body in [unknown, known] {
            let request = Request::post("/echo.php").body(body)?;
            let answered = client.send(request).await?.into_body().collect().await?.to_bytes();
            assert!(answered == bytes, "{} bytes came back", answered.len());
        }
        Ok(())
    })
}

struct Chunks(tokio::sync::mpsc::Receiver<Bytes>);

impl http_body::Body for Chunks {
    type Data = Bytes;
    type Error = std::convert::Infallible;

    fn poll_frame(
        mut self: std::pin::Pin<&mut Self>,
        cx: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<Result<http_body::Frame<Bytes>, Self::Error>>> {
        self.0.poll_recv(cx).map(|chunk| chunk.map(|bytes| Ok(http_body::Frame::data(bytes))))
    }
}

fn php_status() -> Outcome {
    let (_fpm, client) = php()?;
    block_on(async {
        let pool = client.pool();
        assert_eq!(php_fpm::ping(pool, "/ping").await?, "pong");
        let status = php_fpm::status(pool, "/status").await?;
        assert!(status.total_processes > 0 && status.processes.is_empty(), "{status:?}");
        let full = php_fpm::full_status(pool, "/status").await?;
        // Those that do not run yet are listed, and not counted.
        assert!(full.processes.len() as u64 >= full.total_processes, "{full:?}");
        assert!(full.processes.iter().any(|process| process.request_uri.contains("/status")));
        assert!(full.accepted_conn > 0 && full.start_time > 1_600_000_000, "{full:?}");
        let error = php_fpm::ping(pool, "/no-such-page").await.unwrap_err();
        assert!(matches!(error, fcgi::http::HttpError::PageStatus { .. }), "{error}");
        Ok(())
    })
}

/// What the examples `php` and `get` print, and their exit statuses.
fn php_examples() -> Outcome {
    let examples = Examples::build("fcgi-tokio", &["php", "get"])?;
    let fpm = PhpFpm::start(PhpFpmOptions::default())?;
    let run = |name: &str, args: &[&str]| -> anyhow::Result<(Option<i32>, String, String)> {
        let output = Command::new(examples.path(name)).args(args).output()?;
        Ok((output.status.code(), text(&output.stdout), text(&output.stderr)))
    };
    let (address, root) = (fpm.unix_address(), fpm.document_root().display().to_string());
    let (status, page, said) = run("php", &[&address, &format!("{root}/hello.php")])?;
    assert!(status == Some(0) && page.contains("\r\n\r\n"), "{page}{said}");
    let (status, page, said) = run("php", &[&address, "--status", "/status"])?;
    assert!(status == Some(0) && page.contains(" workers are busy"), "{page}{said}");
    let (status, page, said) = run("get", &[&address, &root, "/hello.php"])?;
    assert!(status == Some(0) && page.starts_with("200 OK\n"), "{page}{said}");
    let (status, _, said) = run("php", &["/no/such.sock", "/x.php"])?;
    assert_eq!(status, Some(5), "{said}");
    assert!(said.starts_with("php: connect to unix:/no/such.sock: "), "{said}");
    let (status, _, said) = run("php", &["9000", "/x.php"])?;
    assert!(status == Some(4) && said.contains("HOST:PORT"), "{said}");
    Ok(())
}
