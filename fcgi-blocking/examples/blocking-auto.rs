//! An HTTP application for wherever a site's owner may put it: started as a CGI program it answers one
//! request, else it serves FastCGI at systemd's sockets, descriptor 0, or the address in FCGI_ADDR.
//!
//! A GET gets the method and path that were asked for; any other request its own body back, as it
//! comes. `/fail` is a handler that fails. What it prints goes into the web server's log.

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
