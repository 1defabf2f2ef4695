//! Uses each name of an async adapter's module `http` once, as `parity.rs` does for the others.
//! Code that serves and calls HTTP with one adapter works with all of them.

use std::{
    convert::Infallible,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, UNIX_EPOCH},
};

use bytes::Bytes;
use fcgi::http::{
    Authorized, Authorizer, Body, Decision, FilterData, FilterFile, HttpClient, HttpClientBuilder,
    HttpError, MetaVariables, Mount, ParamsBuilder, Responder, ResponseBody, Scripts,
    UnknownLength, Variables,
};
use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt, Full};

use crate::{
    fcgi::{self, php_fpm},
    runtime,
};

fn named<T: ?Sized>() {}

/// Names that the conversation does not need.
fn names() {
    named::<Authorizer<()>>();
    named::<HttpClientBuilder>();
    named::<Variables>();
    named::<dyn Scripts>();
    named::<fcgi::http::BoxError>();
    named::<fcgi::http::HeadLimits>();
    named::<fcgi::http::HeaderPolicy>();
    named::<fcgi::http::ScriptMap>();
    named::<fcgi::http::ScriptError>();
    named::<fcgi::http::ByRole<(), ()>>();
    named::<fcgi::http::MissingMeta>();
    named::<fcgi::http::MountPoint>();
    named::<fcgi::http::PathSource>();
    named::<fcgi::http::ReasonPhrase>();
    named::<fcgi::http::RemoteAddr>();
    named::<fcgi::http::RemoteAddrError>();
    named::<fcgi::http::RequestError>();
    named::<fcgi::http::ParamsError>();
    named::<fcgi::http::BodyLengthError>();
    named::<fcgi::http::HeadError>();
    named::<fcgi::http::EncodedSlashes>();
    named::<fcgi::http::FileKind>();
    named::<fcgi::http::Script>();
    named::<fcgi::http::Target>();
    named::<php_fpm::Status>();
    named::<php_fpm::Process>();
}

/// Answers with the client, what was sent, and a Filter's file.
async fn page(request: Request<Body>) -> Result<Response<Body>, Infallible> {
    let meta = request.extensions().get::<MetaVariables>().cloned().expect("always there");
    let user = meta.remote_user().unwrap_or(b"nobody").to_vec();
    let file = request.extensions().get::<FilterData>().and_then(FilterData::take);
    let mut page = user;
    page.push(b' ');
    page.extend(request.into_body().collect().await.expect("a whole body").to_bytes());
    if let Some(file) = file {
        page.push(b' ');
        page.extend(file.collect().await.expect("a whole file").to_bytes());
    }
    Ok(Response::new(page.into()))
}

async fn check(request: Request<()>) -> Result<Decision, Infallible> {
    Ok(match request.headers().get("authorization") {
        Some(_) => Decision::allow([("REMOTE_USER", "ann")]),
        None => Decision::deny(StatusCode::UNAUTHORIZED),
    })
}

fn request(body: &'static str) -> http::request::Builder {
    Request::post("/page").header("content-length", body.len())
}

async fn text(response: Response<ResponseBody>) -> Result<String, HttpError> {
    let body = response.into_body().collect().await?.to_bytes();
    Ok(String::from_utf8_lossy(&body).into_owned())
}

/// Serves at an address, and calls it in every way.
pub(crate) fn serve_and_call(address: &str) {
    names();
    let address: fcgi::Address = address.parse().expect("an address");
    runtime::block_on(async {
        let listener = fcgi::Listener::bind(&address).expect("a listener");
        let address = listener.local_addr().clone();
        let app = Responder::new(tower::service_fn(page)).authorizer(tower::service_fn(check));
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let until = async move {
            while !stopped.load(Ordering::SeqCst) {
                runtime::sleep(Duration::from_millis(5)).await;
            }
        };
        let serve = fcgi::serve(listener, app).with_graceful_shutdown(until);
        let server = runtime::spawn(serve);
        let client = HttpClient::with_pool(fcgi::Pool::new(address).expect("a pool"))
            .scripts(Mount::new("").expect("the whole site"))
            .params(ParamsBuilder::new().server_name("example.org"))
            .unknown_length(UnknownLength::Stream)
            .build()
            .expect("a client");
        call(&client).await.expect("answers");
        stop.store(true, Ordering::SeqCst);
        server.await.expect("a shutdown");
    })
    .expect("a runtime");
}

async fn call(client: &HttpClient) -> Result<(), HttpError> {
    let full = |body: &'static str| Full::new(Bytes::from(body));
    let plain = request("body").body(full("body")).expect("a request");
    assert_eq!(text(client.send(plain.clone()).await?).await?, "nobody body");
    let Authorized::Denied(denied) = client.authorize(plain).await? else { panic!("allowed") };
    assert_eq!(denied.status(), StatusCode::UNAUTHORIZED);
    let known = request("body").header("authorization", "yes").body(full("body"));
    let Authorized::Allowed(known) = client.authorize(known.expect("a request")).await? else {
        panic!("denied")
    };
    let file = FilterFile::from_bytes("file", UNIX_EPOCH);
    assert_eq!(text(client.filter(known, file).await?).await?, "ann body file");
    let below = HttpClient::builder(client.address()).root("/srv").front("index.php").build()?;
    assert_eq!(below.get("/page?x").await?.status(), 200);
    assert!(matches!(below.get("/ /").await, Err(HttpError::Uri { .. })));
    below.get("/page").await?.into_body().detach();
    let nowhere = HttpClient::builder("9000").build().expect_err("no address");
    assert!(matches!(nowhere, HttpError::Call(fcgi::Error::Address(_))), "{nowhere}");
    let rootless = HttpClient::builder(client.address()).front("index.php").build();
    assert!(matches!(rootless, Err(HttpError::Config(_))));
    // The page is not a status page, which gives an error.
    let error = php_fpm::status(client.pool(), "/status").await.expect_err("no JSON");
    assert!(matches!(error, HttpError::NoStatusPage { .. }), "{error}");
    Ok(())
}
