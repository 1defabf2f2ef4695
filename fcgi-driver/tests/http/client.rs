//! What an `HttpClient` sends, and what it makes of what comes back.

use std::sync::Arc;

use bytes::Bytes;
use fcgi_driver::{
    Error, Phase,
    client::Connector,
    http::{
        HttpClient, HttpError, Mount, ParamsBuilder, Responder, Script, ScriptError, UnknownLength,
    },
    pool::Builder,
    server::{self, FAILED, Handler, Server},
};
use fcgi_testkit::sim::{self, Sim};
use http::{Method, Request, Response, StatusCode, request::Parts};
use http_body_util::{BodyExt, Empty, Full};

use crate::{
    kit::{AnyBody, Step, full, service, steps},
    support::{Gauge, address, builder, echo, ms, serve},
};

type Client = HttpClient<Sim>;

pub(crate) fn client() -> Client {
    client_of(builder())
}

fn client_of(pool: Builder<Sim>) -> Client {
    HttpClient::new(pool.build().unwrap(), mount())
}

pub(crate) fn mount() -> Mount {
    Mount::new("/app").unwrap()
}

pub(crate) fn get(uri: &str) -> Request<Empty<Bytes>> {
    Request::get(uri).body(Empty::new()).unwrap()
}

/// Answers with these bytes on STDOUT and this status.
pub(crate) fn raw(stdout: impl Into<Bytes>, app_status: u32) -> impl Handler {
    let stdout = stdout.into();
    move |request: server::Request| {
        let stdout = stdout.clone();
        async move {
            let _ = request.stdout().write_all(stdout).await;
            app_status
        }
    }
}

/// Answers with the parameters that it got, and STDIN.
async fn show(request: server::Request) -> Result<(), Error> {
    let mut page = b"Content-Type: text/plain\n\n".to_vec();
    for (name, value) in request.params() {
        page.extend([name, b"=", value, b"\n"].concat());
    }
    page.extend(b"\n");
    page.extend(request.stdin().read_to_end(1 << 20).await?);
    request.stdout().write_all(page).await
}

pub(crate) async fn body<B>(response: Response<B>) -> Result<String, HttpError>
where
    B: http_body::Body<Data = Bytes, Error = HttpError>,
{
    let bytes = response.into_body().collect().await?.to_bytes();
    Ok(String::from_utf8(bytes.to_vec()).unwrap())
}

#[test]
fn a_request_is_told_and_its_response_read() {
    sim::run(1, async {
        serve(Server::new(), show);
        let params = ParamsBuilder::new().server_name("example.org").param("MINE", "1");
        let client = HttpClient::with_pool(builder().build().unwrap())
            .scripts(mount())
            .params(params)
            .build()
            .unwrap();
        let request = Request::post("/app/users?id=7")
            .header("Cookie", "a=1")
            .header("Proxy", "evil")
            .body(Full::new(Bytes::from("name=x")))
            .unwrap();
        let response = client.send(request).await.unwrap();
        assert_eq!(response.status(), 200);
        assert_eq!(response.headers()["content-type"], "text/plain");
        let page = body(response).await.unwrap();
        for line in [
            "REQUEST_METHOD=POST\n",
            "SCRIPT_NAME=/app\n",
            "PATH_INFO=/users\n",
            "QUERY_STRING=id=7\n",
            "CONTENT_LENGTH=6\n",
            "HTTP_COOKIE=a=1\n",
            "SERVER_NAME=example.org\n",
            "MINE=1\n",
        ] {
            assert!(page.contains(line), "{line}{page}");
        }
        assert!(!page.contains("HTTP_PROXY"));
        assert!(page.ends_with("\n\nname=x"), "{page}");
    });
}

#[test]
fn a_request_may_bring_its_own_script_and_parameters() {
    sim::run(1, async {
        serve(Server::new(), show);
        let mut request = get("/anything");
        request.extensions_mut().insert(Script::new("/mine", ""));
        let own = ParamsBuilder::new().remote_addr("192.0.2.7:4711".parse().unwrap());
        request.extensions_mut().insert(own);
        let page = body(client().send(request).await.unwrap()).await.unwrap();
        assert!(page.contains("SCRIPT_NAME=/mine\n"), "{page}");
        assert!(page.contains("REMOTE_ADDR=192.0.2.7\n"), "{page}");
        let scripts = |parts: &Parts| match parts.uri.path() {
            "/closure" => Ok(Script::new("/c", "")),
            _ => Err(ScriptError::NotFound),
        };
        let client: Client = HttpClient::new(builder().build().unwrap(), scripts);
        let page = body(client.send(get("/closure")).await.unwrap()).await.unwrap();
        assert!(page.contains("SCRIPT_NAME=/c\n"), "{page}");
        assert_eq!(client.send(get("/else")).await.unwrap_err().status(), 404);
    });
}

/// What CONTENT_LENGTH said, and how many bytes came.
async fn sent(unknown: UnknownLength, request: Request<AnyBody>) -> (Option<String>, usize) {
    let client = HttpClient::with_pool(builder().build().unwrap())
        .scripts(mount())
        .unknown_length(unknown)
        .build()
        .unwrap();
    let response = client.send(request).await.unwrap();
    let page = body(response).await.unwrap();
    let (params, stdin) = page.split_once("\n\n").unwrap();
    let length = params.lines().find_map(|line| line.strip_prefix("CONTENT_LENGTH="));
    (length.map(str::to_owned), stdin.len())
}

fn post(body: AnyBody) -> Request<AnyBody> {
    Request::post("/app/").body(body).unwrap()
}

/// So many times 100 bytes, with a pause before each.
fn slow(times: usize) -> AnyBody {
    const HUNDRED: &str = "0123456789012345678901234567890123456789012345678901234567890123456789\
                           012345678901234567890123456789";
    steps((0..times).flat_map(|_| [Step::Sleep(1), Step::Data(HUNDRED)]))
}

#[test]
fn a_body_of_unknown_length_is_spooled_or_streamed_q_4() {
    sim::run(1, async {
        serve(Server::new(), show);
        let memory = UnknownLength::Spool { memory: 10_000, limit: 100_000 };
        let file = UnknownLength::Spool { memory: 150, limit: 100_000 };
        for spool in [memory, file, UnknownLength::default()] {
            assert_eq!(sent(spool, post(slow(50))).await, (Some("5000".into()), 5000));
        }
        assert_eq!(sent(UnknownLength::Stream, post(slow(50))).await, (None, 5000));
        // What is whole at once has a length.
        let at_hand = || post(steps([Step::Data("two"), Step::Data("parts")]));
        for unknown in [memory, UnknownLength::Stream] {
            assert_eq!(sent(unknown, at_hand()).await, (Some("8".into()), 8));
            assert_eq!(sent(unknown, post(steps([]))).await, (None, 0));
        }
    });
}

#[test]
fn more_than_is_spooled_is_413() {
    sim::run(1, async {
        serve(Server::new(), show);
        for memory in [100, 1 << 20] {
            let unknown = UnknownLength::Spool { memory, limit: 4999 };
            let pool = builder().build().unwrap();
            let client = HttpClient::with_pool(pool)
                .scripts(mount())
                .unknown_length(unknown)
                .build()
                .unwrap();
            let error = client.send(post(slow(50))).await.unwrap_err();
            assert!(matches!(error, HttpError::RequestTooLarge { limit: 4999 }), "{error}");
            assert_eq!(error.status(), StatusCode::PAYLOAD_TOO_LARGE);
        }
        assert_eq!(sim::connections(&address()), 0, "no worker is taken for it");
    });
}

#[test]
fn a_body_is_held_against_its_content_length_q_4() {
    sim::run(1, async {
        serve(Server::new(), show);
        for (length, good) in [("500", true), ("499", false), ("501", false)] {
            let mut request = post(slow(5));
            request.headers_mut().insert("content-length", length.parse().unwrap());
            let sent = client().send(request).await;
            match sent {
                Ok(response) => assert!(good && response.status() == 200, "{length}"),
                Err(error) => {
                    assert!(!good, "{length}: {error}");
                    assert_eq!(error.status(), 400, "{error}");
                }
            }
        }
        let mut request = Request::post("/app/").body(Full::new(Bytes::from("abc"))).unwrap();
        request.headers_mut().insert("content-length", "4".parse().unwrap());
        assert_eq!(client().send(request).await.unwrap_err().status(), 400);
    });
}

#[test]
fn a_body_that_fails_is_400() {
    sim::run(1, async {
        serve(Server::new(), show);
        let at_once = steps([Step::Data("x"), Step::Fail]);
        let later = steps([Step::Sleep(1), Step::Data("x"), Step::Sleep(1), Step::Fail]);
        let mut streamed =
            post(steps([Step::Sleep(1), Step::Data("x"), Step::Sleep(1), Step::Fail]));
        streamed.headers_mut().insert("content-length", "9".parse().unwrap());
        for request in [post(at_once), post(later), streamed] {
            let error = client().send(request).await.unwrap_err();
            assert_eq!(error.status(), 400, "{error}");
            assert!(error.report().to_string().contains("the body failed"), "{error}");
        }
    });
}

#[test]
fn a_small_body_is_sent_again_on_a_fresh_connection_q_10() {
    sim::run(1, async {
        // The application closes a kept connection as soon as it is used again.
        let mut backlog = sim::backlog(&address());
        sim::spawn(async move {
            loop {
                let io = backlog.accept().await;
                let mut peer = crate::support::Peer::new(io, Default::default());
                let (key, _) = peer.request().await.unwrap();
                peer.write(key, "Status: 200 OK\r\n\r\n");
                peer.finish(key);
                peer.send().await;
                sim::spawn(async move {
                    peer.request().await;
                });
            }
        });
        let client = client();
        for _ in 0..3 {
            let response = client.send(post(full("body"))).await.unwrap();
            assert_eq!(body(response).await.unwrap(), "");
        }
    });
}

#[test]
fn a_local_redirect_of_a_get_is_followed_cgi_6_2_2_1() {
    async fn app(request: server::Request) -> Result<(), Error> {
        let page = match request.param_str("PATH_INFO") {
            Some("/again") => "Location: /app/again\n\n".to_owned(),
            Some("/busy") => {
                request.reject(fcgi_proto::Rejection::Overloaded);
                return Ok(());
            }
            Some("/to-busy") => "Location: /app/busy\n\n".to_owned(),
            Some("/there") => format!(
                "Content-Type: text/plain\n\n{} {}",
                request.param_str("REQUEST_URI").unwrap_or_default(),
                request.param_str("REQUEST_METHOD").unwrap_or_default(),
            ),
            _ => "Location: /app/there?from=here\n\n".to_owned(),
        };
        request.stdout().write_all(page).await
    }
    sim::run(1, async {
        serve(Server::new(), app);
        let client = client();
        let response = client.send(get("/app/here")).await.unwrap();
        assert_eq!(body(response).await.unwrap(), "/app/there?from=here GET");
        assert_eq!(sim::connections(&address()), 1, "the connection was kept");
        let posted = client.send(post(full("x"))).await.unwrap();
        assert_eq!(posted.status(), 302);
        assert_eq!(posted.headers()["location"], "/app/there?from=here");
        let error = client.send(get("/app/again")).await.unwrap_err();
        assert!(matches!(error, HttpError::Redirects { limit: 10, .. }), "{error}");
        assert_eq!(error.status(), 502);
        for (path, unprocessed) in [("/app/busy", true), ("/app/to-busy", false)] {
            let error = client.send(get(path)).await.unwrap_err();
            assert!(error.is_rejected() && error.status() == 503, "{error}");
            assert_eq!(error.is_unprocessed(), unprocessed, "a script that redirects was run");
            assert!(error.to_string().starts_with("unix:/app"), "{error}");
        }
        let none = HttpClient::with_pool(builder().build().unwrap())
            .scripts(mount())
            .redirect_limit(0)
            .build()
            .unwrap();
        assert_eq!(none.send(get("/app/here")).await.unwrap().status(), 302);
    });
}

#[test]
fn each_failure_has_its_status() {
    sim::run(1, async {
        let error = client().send(get("/app")).await.unwrap_err();
        assert!(matches!(error, HttpError::Call(Error::Connect { .. })), "{error}");
        assert_eq!((error.status().as_u16(), error.is_unprocessed()), (502, true));
    });
    // With a page before the refusal, which some web servers need (W-2), and without.
    for (page, seed) in [(true, 1), (true, 2), (true, 3), (false, 1)] {
        sim::run(seed, async move {
            serve(Server::new().max_requests(0).rejection_body(page), echo);
            let error = client().send(get("/app")).await.unwrap_err();
            assert_eq!((error.status().as_u16(), error.is_unprocessed()), (503, true), "{error}");
        });
    }
    sim::run(1, async {
        serve(Server::new(), async |_: server::Request| sim::sleep(ms(100_000)).await);
        let connector = Connector::new().first_byte_timeout(Some(ms(500)));
        let client = client_of(builder().connector(connector).max_connections(1).max_waiting(0));
        let (busy, other) = (Gauge::default(), client.clone());
        let inside = busy.enter();
        sim::spawn(async move {
            let error = other.send(get("/app")).await.unwrap_err();
            assert!(
                matches!(error, HttpError::Call(Error::Timeout { phase: Phase::FirstByte, .. })),
                "{error}"
            );
            assert_eq!((error.status().as_u16(), error.is_unprocessed()), (504, false));
            drop(inside);
        });
        sim::sleep(ms(10)).await;
        let error = client.send(get("/app")).await.unwrap_err();
        assert!(matches!(error, HttpError::Call(Error::PoolFull { .. })), "{error}");
        assert_eq!((error.status().as_u16(), error.is_unprocessed()), (503, true));
        while busy.now() > 0 {
            sim::sleep(ms(10)).await;
        }
    });
    sim::run(1, async {
        serve(Server::new(), echo);
        for (uri, status) in [("/elsewhere", 404), ("/app/%00", 400), ("/app/../..", 400)] {
            assert_eq!(client().send(get(uri)).await.unwrap_err().status(), status, "{uri}");
        }
        let connect =
            Request::builder().method(Method::CONNECT).uri("/app").body(full("")).unwrap();
        assert_eq!(client().send(connect).await.unwrap_err().status(), 405);
        let mut two = post(full("x"));
        two.headers_mut().insert("content-length", "1".parse().unwrap());
        two.headers_mut().insert("transfer-encoding", "chunked".parse().unwrap());
        assert_eq!(client().send(two).await.unwrap_err().status(), 400);
    });
}

#[test]
fn bodies_go_both_ways_at_once_q_15() {
    const SIZE: usize = 3 << 20;
    for seed in 0..3 {
        sim::run(seed, async {
            let app = service(|request: Request<fcgi_driver::http::Body>| async move {
                Response::new(request.into_body())
            });
            serve(Server::new(), Responder::new(app));
            let request =
                Request::post("/app").body(Full::new(Bytes::from(vec![b'x'; SIZE]))).unwrap();
            let response = client().send(request).await.unwrap();
            assert_eq!(response.headers()["content-length"], SIZE.to_string().as_str());
            assert_eq!(body(response).await.unwrap().len(), SIZE);
            // A body that waits for the response: it is streamed.
            let mut request = post(slow(3));
            request.headers_mut().insert("content-length", "300".parse().unwrap());
            let response = client().send(request).await.unwrap();
            assert_eq!(body(response).await.unwrap().len(), 300);
        });
    }
}

#[test]
fn it_is_a_service_and_can_be_cloned() {
    sim::run(1, async {
        serve(Server::new(), raw("X: y\n\n", FAILED));
        let service = tower::ServiceBuilder::new().service(client());
        let response = tower::ServiceExt::oneshot(service, get("/app")).await.unwrap();
        assert_eq!(response.status(), 200);
        let shared = Arc::new(client());
        assert_eq!(shared.pool().address(), &address());
    });
}
