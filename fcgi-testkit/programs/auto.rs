//! An HTTP application that works wherever a site's owner puts it. Started as a CGI program, it
//! answers one request; otherwise it serves FastCGI on systemd's sockets, descriptor 0, or the
//! address in FCGI_ADDR.
//!
//! A GET is answered with the requested method and path, any other request with its own body, as it
//! comes. `/fail` makes the service fail. What the program prints goes into the web server's log.
//!
//! The example of this name of every async adapter is this file, with the adapter's `fcgi` and
//! `runtime`.

use std::io::Write;

use fcgi::http::Body;
use http::{Method, Request, Response};

use crate::{fcgi, runtime};

pub(crate) fn main() -> anyhow::Result<()> {
    let served = runtime::block_on(async {
        let app = tower::service_fn(answer);
        fcgi::serve_http_auto(app).with_graceful_shutdown(fcgi::shutdown_signal()).await
    })?;
    Ok(served?)
}

async fn answer(request: Request<Body>) -> Result<Response<Body>, String> {
    writeln!(std::io::stdout(), "asked for {}", request.uri()).map_err(|e| e.to_string())?;
    if request.uri().path().ends_with("/fail") {
        return Err("it was asked to".to_owned());
    }
    if request.method() != Method::GET {
        return Ok(Response::new(request.into_body()));
    }
    let page = format!("{} {}\n", request.method(), request.uri());
    let response = Response::builder().header("Content-Type", "text/plain");
    response.body(Body::from(page)).map_err(|error| error.to_string())
}
