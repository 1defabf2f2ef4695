//! The client's calls to an Authorizer and to a Filter (FC-6.3-1, FC-6.3-2, FC-6.4-1).

use std::{
    io::{Seek, SeekFrom, Write},
    time::{Duration, UNIX_EPOCH},
};

use bytes::Bytes;
use fcgi_driver::{
    Address,
    http::{
        Authorized, Authorizer, Body, Decision, FilterData, FilterFile, HttpClient, HttpError,
        MetaVariables, Mount, Responder,
    },
    pool::Pool,
    server::{self, Server},
};
use fcgi_testkit::sim::{self, Sim};
use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt, Full};

use crate::{
    kit::{answer, full, read, service},
    support::{builder, serve},
};

fn guard() -> Address {
    "unix:/guard".parse().unwrap()
}

fn client_of(pool: Pool<Sim>) -> HttpClient<Sim> {
    HttpClient::new(pool, Mount::new("").unwrap())
}

/// The application at its address, and at another an Authorizer that knows Ann.
fn start() {
    let app = service(|request: Request<Body>| async move {
        let meta = request.extensions().get::<MetaVariables>().unwrap();
        let user = meta.remote_user().unwrap_or(b"nobody").to_vec();
        let agent = meta.params().get("HTTP_USER_AGENT").unwrap_or(b"none").to_vec();
        let body = read(request.into_body()).await.unwrap();
        answer(Response::builder(), [&user[..], b" ", &agent, b" ", &body].concat())
    });
    serve(Server::new(), Responder::new(app));
    let check = tower::service_fn(async |request: Request<()>| {
        let params = request.extensions().get::<MetaVariables>().unwrap().params();
        for name in ["CONTENT_LENGTH", "PATH_INFO", "PATH_TRANSLATED", "SCRIPT_NAME"] {
            assert_eq!(params.get(name), None, "FC-6.3-1");
        }
        match request.headers().get("authorization").map(|value| value.as_bytes()) {
            Some(b"ann") => Ok(Decision::allow([("REMOTE_USER", "ann"), ("HTTP_USER_AGENT", "-")])),
            Some(b"fail") => Err("no database"),
            _ => {
                let mut denied = Response::new(Body::from("who?"));
                *denied.status_mut() = StatusCode::UNAUTHORIZED;
                Ok(Decision::Deny(denied))
            }
        }
    });
    let listener = sim::listen(&guard());
    sim::spawn(async move {
        Server::new().serve(listener, Authorizer::new(check)).await.unwrap();
    });
}

fn asking(authorization: &str) -> Request<Full<Bytes>> {
    Request::post("/page")
        .header("Authorization", authorization)
        .header("User-Agent", "firefox")
        .body(Full::new("body".into()))
        .unwrap()
}

async fn text(response: Response<fcgi_driver::http::ResponseBody<Sim>>) -> String {
    let bytes = response.into_body().collect().await.unwrap().to_bytes();
    String::from_utf8(bytes.to_vec()).unwrap()
}

#[test]
fn what_an_authorizer_says_is_merged_into_the_request_fc_6_3_2() {
    sim::run(1, async {
        start();
        let (app, authorizer) =
            (client_of(builder().build().unwrap()), client_of(Pool::new(guard()).unwrap()));
        let Authorized::Allowed(request) = authorizer.authorize(asking("ann")).await.unwrap()
        else {
            panic!("she is known");
        };
        assert_eq!(text(app.send(request).await.unwrap()).await, "ann - body");
        let Authorized::Denied(response) = authorizer.authorize(asking("bob")).await.unwrap()
        else {
            panic!("he is not");
        };
        assert_eq!(response.status(), 401);
        assert_eq!(text(response).await, "who?");
        assert_eq!(text(app.send(asking("bob")).await.unwrap()).await, "nobody firefox body");
    });
}

#[test]
fn a_client_asks_its_authorizer_first() {
    sim::run(1, async {
        start();
        let app = HttpClient::with_pool(builder().build().unwrap())
            .scripts(Mount::new("").unwrap())
            .authorizer(client_of(Pool::new(guard()).unwrap()))
            .build()
            .unwrap();
        assert_eq!(text(app.send(asking("ann")).await.unwrap()).await, "ann - body");
        assert_eq!(app.send(asking("bob")).await.unwrap().status(), 401);
        assert_eq!(app.send(asking("fail")).await.unwrap().status(), 500);
    });
}

#[test]
fn an_authorizer_is_asked_about_a_local_redirect_too() {
    sim::run(1, async {
        serve(Server::new(), |request: server::Request| async move {
            let page = match request.param_str("PATH_INFO") {
                Some("/open") => "Location: /secret\n\n",
                _ => "Content-Type: text/plain\n\nthe secret",
            };
            request.stdout().write_all(page).await
        });
        let check = tower::service_fn(async |request: Request<()>| {
            Ok::<_, std::convert::Infallible>(match request.uri().path() {
                "/open" => Decision::allow([("REMOTE_USER", "anybody")]),
                _ => Decision::deny(StatusCode::FORBIDDEN),
            })
        });
        let listener = sim::listen(&guard());
        sim::spawn(async move {
            Server::new().serve(listener, Authorizer::new(check)).await.unwrap();
        });
        let app = HttpClient::with_pool(builder().build().unwrap())
            .scripts(Mount::new("").unwrap())
            .authorizer(client_of(Pool::new(guard()).unwrap()))
            .build()
            .unwrap();
        let request = Request::get("/open").body(Full::<Bytes>::default()).unwrap();
        assert_eq!(app.send(request).await.unwrap().status(), StatusCode::FORBIDDEN);
    });
}

#[test]
fn a_bad_answer_does_not_allow() {
    let answers = [("Status: 200 OK\n", 0), ("Status: 200 OK\n\n", 3), ("what?\n\n", 0)];
    for (stdout, app_status) in answers {
        sim::run(1, async move {
            serve(Server::new(), move |request: server::Request| async move {
                request.stdout().write_all(stdout).await.unwrap();
                app_status
            });
            let asked = client_of(builder().build().unwrap()).authorize(asking("ann")).await;
            let error = asked.expect_err(stdout);
            assert!(
                matches!(error, HttpError::Head { .. } | HttpError::AppStatus { .. }),
                "{error}"
            );
            assert_eq!(error.status(), 502);
        });
    }
}

#[test]
fn a_filter_gets_its_file_fc_6_4_1() {
    let app = || {
        service(|request: Request<Body>| async move {
            let params = request.extensions().get::<MetaVariables>().unwrap().params().clone();
            let data = request.extensions().get::<FilterData>().cloned().unwrap().take().unwrap();
            let body = read(request.into_body()).await.unwrap();
            let data = read(data).await.unwrap();
            let number = |name| params.get(name).unwrap();
            let about = [number("FCGI_DATA_LENGTH"), b" ", number("FCGI_DATA_LAST_MOD"), b" "];
            Response::new(full([&about.concat()[..], &body, b" ", &data].concat()))
        })
    };
    sim::run(1, async {
        serve(Server::new(), Responder::new(app()));
        let client = client_of(builder().build().unwrap());
        let modified = UNIX_EPOCH + Duration::from_secs(1_700_000_000);
        let request = || Request::post("/page").body(Full::new(Bytes::from("body"))).unwrap();
        let file = FilterFile::from_bytes("file", modified);
        let response = client.filter(request(), file).await.unwrap();
        assert_eq!(text(response).await, "4 1700000000 body file");

        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(&[b'x'; 200_000]).unwrap();
        file.as_file().set_modified(modified).unwrap();
        let whole = FilterFile::from_file(file.reopen().unwrap()).unwrap();
        let filtered = text(client.filter(request(), whole).await.unwrap()).await;
        assert!(filtered.starts_with("200000 1700000000 body xxx"), "{}", &filtered[..30]);
        assert_eq!(filtered.len(), "200000 1700000000 body ".len() + 200_000);

        // From its current position.
        let mut open = file.reopen().unwrap();
        open.seek(SeekFrom::End(-4)).unwrap();
        let file = FilterFile::from_file(open).unwrap();
        let response = client.filter(request(), file).await.unwrap();
        assert_eq!(text(response).await, "4 1700000000 body xxxx");
    });
}
