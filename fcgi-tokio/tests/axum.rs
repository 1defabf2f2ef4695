//! An axum `Router`, as it is, behind our server on a unix socket, and called by our `HttpClient`.

use std::{
    convert::Infallible,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};

use axum::{
    Extension, Router,
    body::Body,
    extract::{Path, Query, State},
    http::{HeaderMap, Request, Response, StatusCode, header},
    response::{AppendHeaders, IntoResponse},
    routing::{get, post},
};
use bytes::Bytes;
use fcgi::{
    Address, Listener, Pool, Role, Server,
    http::{HttpClient, HttpError, MetaVariables, Mount, ParamsBuilder, RemoteAddr, ResponseBody},
};
use fcgi_tokio as fcgi;
use http_body::Frame;
use http_body_util::{BodyExt, Empty, Full};
use tempfile::TempDir;
use tokio::sync::{Notify, mpsc};

const UPLOAD: usize = 20 << 20;

/// Lets waiting requests go on, and counts the bodies of responses.
#[derive(Clone, Default)]
struct Shared {
    events: Arc<Notify>,
    running: Arc<AtomicUsize>,
}

/// Counts a response's body for as long as it lives.
struct Running(Arc<AtomicUsize>);

impl Running {
    fn new(count: &Arc<AtomicUsize>) -> Self {
        count.fetch_add(1, Ordering::SeqCst);
        Self(Arc::clone(count))
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

/// A body whose chunks come from elsewhere.
struct Channel(mpsc::Receiver<Bytes>, #[expect(dead_code, reason = "counted")] Option<Running>);

impl http_body::Body for Channel {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        self.0.poll_recv(cx).map(|chunk| chunk.map(|bytes| Ok(Frame::data(bytes))))
    }
}

/// Three events, each after the first one once it was asked for.
async fn events(State(shared): State<Shared>) -> impl IntoResponse {
    let (send, receive) = mpsc::channel(1);
    let running = Running::new(&shared.running);
    tokio::spawn(async move {
        for n in 0..3 {
            if n > 0 {
                shared.events.notified().await;
            }
            if send.send(format!("data: {n}\n\n").into()).await.is_err() {
                return;
            }
        }
    });
    ([(header::CONTENT_TYPE, "text/event-stream")], Body::new(Channel(receive, Some(running))))
}

async fn user(
    Path(id): Path<u32>,
    Query(query): Query<Vec<(String, String)>>,
    Extension(meta): Extension<MetaVariables>,
    Extension(role): Extension<Role>,
    headers: HeaderMap,
) -> String {
    let agent = headers[header::USER_AGENT].to_str().unwrap().to_owned();
    let (remote, name) = (meta.remote_addr().unwrap(), meta.params().get_str("SCRIPT_NAME"));
    format!("{id} {query:?} {agent} {remote} {} {role}", name.unwrap())
}

async fn count(body: Body) -> Result<String, StatusCode> {
    let mut body = body;
    let mut count = 0;
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|_| StatusCode::BAD_REQUEST)?;
        count += frame.into_data().map_or(0, |data| data.len());
    }
    Ok(count.to_string())
}

fn router(shared: Shared) -> Router {
    Router::new()
        .route("/users/{id}", get(user))
        .route("/count", post(count))
        .route("/echo", post(async |body: Body| body))
        .route("/page", get(async || "the page"))
        .route("/not-modified", get(async || (StatusCode::NOT_MODIFIED, [("etag", "\"1\"")])))
        .route("/gone", get(async || StatusCode::NO_CONTENT))
        .route(
            "/cookies",
            get(async || AppendHeaders([(header::SET_COOKIE, "a=1"), (header::SET_COOKIE, "b=2")])),
        )
        .route("/panic", get(async || -> &'static str { panic!("as asked") }))
        .route("/events", get(events))
        .with_state(shared)
}

/// A router behind our server, and a client of it.
struct Site {
    client: HttpClient,
    shared: Shared,
    _folder: TempDir,
}

impl Site {
    fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let address: Address =
            format!("unix:{}/app.sock", folder.path().display()).parse().unwrap();
        let listener = Listener::bind(&address).unwrap();
        let shared = Shared::default();
        tokio::spawn(Server::new().serve_http(listener, router(shared.clone())));
        let params = ParamsBuilder::new().remote_addr("192.0.2.7:4711".parse().unwrap());
        let client = HttpClient::with_pool(Pool::new(address).unwrap())
            .scripts(Mount::new("").unwrap())
            .params(params)
            .build()
            .unwrap();
        Self { client, shared, _folder: folder }
    }

    async fn get(&self, uri: &str) -> Response<ResponseBody> {
        self.client.send(Request::get(uri).body(Empty::<Bytes>::new()).unwrap()).await.unwrap()
    }
}

async fn text(response: Response<ResponseBody>) -> String {
    let body = response.into_body().collect().await.unwrap().to_bytes();
    String::from_utf8(body.to_vec()).unwrap()
}

/// Fails instead of waiting for ever. No test depends on how long it is.
async fn within<F: Future>(future: F) -> F::Output {
    tokio::time::timeout(Duration::from_secs(120), future).await.expect("nothing happened")
}

#[tokio::test]
async fn extractors_find_what_they_look_for() {
    let site = Site::start();
    let request = Request::get("/users/7?a=1&b=%20")
        .header("User-Agent", "firefox")
        .body(Empty::<Bytes>::new())
        .unwrap();
    let response = within(site.client.send(request)).await.unwrap();
    assert_eq!(response.status(), 200);
    let page = text(response).await;
    assert_eq!(page, r#"7 [("a", "1"), ("b", " ")] firefox 192.0.2.7  Responder"#);
    assert_eq!(within(site.get("/users/x?")).await.status(), 400);
    assert_eq!(within(site.get("/nothing")).await.status(), 404);
    let post = Request::post("/page").body(Empty::<Bytes>::new()).unwrap();
    let refused = within(site.client.send(post)).await.unwrap();
    assert_eq!(refused.status(), 405);
    assert_eq!(refused.headers()["allow"], "GET,HEAD");
}

#[tokio::test]
async fn events_come_one_by_one() {
    let site = Site::start();
    let response = within(site.get("/events")).await;
    assert_eq!(response.headers()["content-type"], "text/event-stream");
    let mut body = response.into_body();
    for n in 0..3 {
        // The next one is not sent before this one has come.
        let event = within(body.frame()).await.unwrap().unwrap().into_data().unwrap();
        assert_eq!(event, format!("data: {n}\n\n"));
        site.shared.events.notify_one();
    }
    assert!(within(body.frame()).await.is_none());
}

#[tokio::test]
async fn a_client_that_leaves_drops_the_response_body() {
    let site = Site::start();
    let response = within(site.get("/events")).await;
    assert_eq!(site.shared.running.load(Ordering::SeqCst), 1);
    drop(response);
    within(async {
        while site.shared.running.load(Ordering::SeqCst) > 0 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
}

#[tokio::test]
async fn twenty_megabytes_go_up_and_come_back_q_15() {
    let site = Site::start();
    let bytes = Bytes::from(vec![b'x'; UPLOAD]);
    for uri in ["/count", "/echo"] {
        let request = Request::post(uri).body(Full::new(bytes.clone())).unwrap();
        let response = within(site.client.send(request)).await.unwrap();
        let body = within(response.into_body().collect()).await.unwrap().to_bytes();
        match uri {
            "/count" => assert_eq!(body, UPLOAD.to_string()),
            _ => assert!(body == bytes),
        }
    }
}

#[tokio::test]
async fn a_body_of_unknown_length_goes_up_too_q_4() {
    let site = Site::start();
    let (send, receive) = mpsc::channel(1);
    tokio::spawn(async move {
        for _ in 0..100 {
            send.send(Bytes::from(vec![b'x'; 100_000])).await.unwrap();
        }
    });
    let request = Request::post("/count").body(Channel(receive, None)).unwrap();
    let response = within(site.client.send(request)).await.unwrap();
    assert_eq!(text(response).await, "10000000");
}

#[tokio::test]
async fn responses_without_a_body_have_none() {
    let site = Site::start();
    for _ in 0..3 {
        let head = Request::head("/page").body(Empty::<Bytes>::new()).unwrap();
        let response = within(site.client.send(head)).await.unwrap();
        assert_eq!(response.headers()["content-length"], "8");
        assert_eq!(text(response).await, "");
        let response = within(site.get("/not-modified")).await;
        assert_eq!(
            (response.status(), response.headers()["etag"].as_bytes()),
            (StatusCode::NOT_MODIFIED, &b"\"1\""[..])
        );
        assert_eq!(text(response).await, "");
        let response = within(site.get("/gone")).await;
        assert_eq!(response.status(), 204);
        assert!(!response.headers().contains_key("content-length"));
        assert_eq!(text(response).await, "");
        assert_eq!(text(within(site.get("/page")).await).await, "the page");
    }
}

#[tokio::test]
async fn cookies_are_kept_apart() {
    let site = Site::start();
    let response = within(site.get("/cookies")).await;
    let cookies: Vec<_> = response.headers().get_all(header::SET_COOKIE).iter().collect();
    assert_eq!(cookies, ["a=1", "b=2"]);
}

#[tokio::test]
async fn a_handler_that_panics_is_a_500_and_nothing_else() {
    let site = Site::start();
    for _ in 0..3 {
        assert_eq!(within(site.get("/panic")).await.status(), 500);
        assert_eq!(text(within(site.get("/page")).await).await, "the page");
    }
}

#[tokio::test]
async fn many_at_once_get_their_own_answers() {
    let site = Site::start();
    let mut calls = Vec::new();
    for n in 0..200 {
        let client = site.client.clone();
        calls.push(tokio::spawn(async move {
            let body = Full::new(Bytes::from(format!("request {n}")));
            let request = Request::post("/echo").body(body).unwrap();
            let response = client.send(request).await?;
            assert_eq!(text(response).await, format!("request {n}"));
            Ok::<_, HttpError>(())
        }));
    }
    for call in calls {
        within(call).await.unwrap().unwrap();
    }
}

/// What the web server gets for `/who` with these parameters beside the usual ones.
async fn who(router: Router, params: &[(&str, &str)]) -> String {
    let folder = tempfile::tempdir().unwrap();
    let address = Address::unix(folder.path().join("app.sock"));
    let listener = Listener::bind(&address).unwrap();
    tokio::spawn(Server::new().serve_http(listener, router));
    let request = fcgi::client::Request::responder()
        .param("REQUEST_METHOD", "GET")
        .param("REQUEST_URI", "/who")
        .params(params.iter().copied());
    let answer =
        Pool::new(address).unwrap().send(request).await.unwrap().collect(1 << 20).await.unwrap();
    String::from_utf8(answer.stdout.to_vec()).unwrap()
}

#[tokio::test]
async fn an_extractor_says_what_is_missing() {
    let router = || {
        let named = async |client: RemoteAddr, meta: MetaVariables| {
            format!("{client} {:?} {:?}", client.port(), meta.params().get_str("REQUEST_URI"))
        };
        Router::new().route("/who", get(named))
    };
    let known = within(who(router(), &[("REMOTE_ADDR", "192.0.2.7")])).await;
    assert!(known.ends_with("192.0.2.7 None Some(\"/who\")"), "{known}");
    for params in [&[][..], &[("REMOTE_ADDR", "unix:")]] {
        let missing = within(who(router(), params)).await;
        assert!(missing.starts_with("Status: 500 "), "{missing}");
        assert!(missing.contains("content-type: text/plain"), "{missing}");
        assert!(missing.contains("REMOTE_ADDR"), "{missing}");
        let maybe = async |client: Option<RemoteAddr>| format!("{client:?}");
        let goes_on = within(who(Router::new().route("/who", get(maybe)), params)).await;
        assert!(goes_on.ends_with("None"), "{goes_on}");
    }
}
