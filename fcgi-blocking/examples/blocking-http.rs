//! Answers HTTP requests with a description of the request. `http ADDR`, where ADDR is `unix:PATH`,
//! `tcp:HOST:PORT`, or `-` for descriptor 0. A POST gets its own body back, as it comes.

use fcgi::http::{Body, MetaVariables};
use fcgi_blocking as fcgi;
use http::{Method, Request, Response, StatusCode};

fn main() -> anyhow::Result<()> {
    let Some(address) = std::env::args().nth(1) else { anyhow::bail!("usage: http ADDR") };
    let listener = fcgi::Listener::bind(address)?;
    let serve = fcgi::serve_http(listener, answer);
    Ok(serve.with_graceful_shutdown(fcgi::shutdown_signal()).run()?)
}

fn answer(request: Request<Body>) -> http::Result<Response<Body>> {
    let response = Response::builder().header("Content-Type", "text/plain");
    match *request.method() {
        Method::GET | Method::HEAD => {
            let meta = request.extensions().get::<MetaVariables>();
            let client = meta.and_then(MetaVariables::remote_addr);
            let page = match client {
                Some(client) => format!("{client} asks for {}\n", request.uri()),
                None => format!("Somebody asks for {}\n", request.uri()),
            };
            response.body(page.into())
        }
        Method::POST => response.body(request.into_body()),
        _ => response.status(StatusCode::METHOD_NOT_ALLOWED).body(Body::empty()),
    }
}
