//! Our client calls an application on libfcgi; libfcgi's cgi-fcgi calls our server.

use std::{
    process::{Command, Stdio},
    time::Duration,
};

use fcgi_testkit::{
    harness::Case,
    peers::{LibfcgiApp, Peer, cgi_fcgi},
};
use fcgi_tokio::{
    self as fcgi,
    client::{Connector, Request},
};

use crate::{
    app::{App, echo},
    support::{Kind, MOST, Outcome, block_on, body, call, text},
};

pub(crate) fn cases() -> Vec<Case> {
    vec![
        case("get", get),
        case("post", post),
        case("stderr_and_app_status", stderr_and_app_status),
        case("two_requests_on_one_connection_q2", two_requests),
        case("values_when_padded_q9", values),
        Case::new("cgi_fcgi_get", cgi_fcgi_get).needs(&[Peer::CgiFcgi]),
    ]
}

fn case(name: &str, run: impl AsyncFnOnce(&fcgi::Address) -> Outcome + Send + 'static) -> Case {
    Case::new(format!("libfcgi_{name}"), move || {
        let app = LibfcgiApp::start()?;
        let address = app.address().parse()?;
        block_on(run(&address))
    })
    .needs(&[Peer::Gcc, Peer::Libfcgi])
}

fn post_of(content: &'static str) -> Request {
    Request::responder()
        .param("REQUEST_METHOD", "POST")
        .param("CONTENT_LENGTH", content.len().to_string())
        .stdin(content)
}

async fn get(address: &fcgi::Address) -> Outcome {
    let request = Request::responder().param("REQUEST_METHOD", "GET").keep_conn(false);
    let answer = call(address, request).await?;
    assert_eq!(text(&answer.stdout), "Content-Type: text/plain\r\n\r\nGET\n");
    assert_eq!((answer.app_status, answer.stderr.len()), (0, 0));
    Ok(())
}

async fn post(address: &fcgi::Address) -> Outcome {
    let answer = call(address, post_of("small")).await?;
    assert_eq!(text(body(&answer.stdout)), "POST\nsmall");
    Ok(())
}

async fn stderr_and_app_status(address: &fcgi::Address) -> Outcome {
    let request = Request::responder().param("STDERR", "a complaint").param("EXIT", "7");
    let answer = call(address, request).await?;
    assert_eq!(text(&answer.stderr), "a complaint");
    assert_eq!(answer.app_status, 7);
    Ok(())
}

async fn two_requests(address: &fcgi::Address) -> Outcome {
    let mut client = fcgi::Client::connect(address).await?;
    for content in ["first", "second"] {
        let answer = client.send(post_of(content)).await?.collect(MOST).await?;
        assert_eq!(text(body(&answer.stdout)), format!("POST\n{content}"));
        assert!(client.is_reusable());
    }
    Ok(())
}

/// It answers a GET_VALUES that has no padding only once more bytes come: the limit is so long
/// that an answer shows ours had some.
async fn values(address: &fcgi::Address) -> Outcome {
    let limit = Duration::from_secs(20);
    let values = Connector::new().values_timeout(limit).query_values(address).await?;
    assert_eq!(values.mpxs_conns, Some(false));
    assert!(values.max_conns.is_some() && values.max_reqs.is_some(), "{values:?}");
    Ok(())
}

fn cgi_fcgi_get() -> Outcome {
    let app = App::start(Kind::Unix, echo)?;
    let address = app.address().to_string();
    let output = Command::new(cgi_fcgi()?)
        .args(["-bind", "-connect", address.trim_start_matches("unix:")])
        .env_clear()
        .envs([("REQUEST_METHOD", "GET"), ("QUERY_STRING", "a=b")])
        .stdin(Stdio::null())
        .output()?;
    let page = text(&output.stdout);
    assert!(output.status.success(), "{output:?}");
    assert!(page.starts_with("Content-Type: text/plain\r\n\r\n"), "{page}");
    assert!(page.contains("REQUEST_METHOD=GET\n") && page.contains("QUERY_STRING=a=b\n"), "{page}");
    app.stop()
}
