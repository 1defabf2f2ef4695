//! An HTTP application that works wherever a site's owner puts it. Started as a CGI program, it
//! answers one request; otherwise it serves FastCGI on systemd's sockets, descriptor 0, or the
//! address in FCGI_ADDR.
//!
//! A GET is answered with the requested method and path, any other request with its own body, as it
//! comes. `/fail` makes the handler fail. What the program prints goes into the web server's log.

use std::io::Write;

use fcgi::http::Body;
use fcgi_blocking as fcgi;
use http::{Method, Request, Response};

fn main() -> anyhow::Result<()> {
    let serve = fcgi::serve_http_auto(answer);
    Ok(serve.with_graceful_shutdown(fcgi::shutdown_signal()).run()?)
}

fn answer(request: Request<Body>) -> anyhow::Result<Response<Body>> {
    writeln!(std::io::stdout(), "asked for {}", request.uri())?;
    if request.uri().path().ends_with("/fail") {
        anyhow::bail!("it was asked to");
    }
    if request.method() != Method::GET {
        return Ok(Response::new(request.into_body()));
    }
    let page = format!("{} {}\n", request.method(), request.uri());
    let response = Response::builder().header("Content-Type", "text/plain");
    Ok(response.body(Body::from(page))?)
}
