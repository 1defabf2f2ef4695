//! Our client and our server, over both kinds of socket.

use fcgi_testkit::harness::Case;
use fcgi_tokio::{self as fcgi, client::Request};

use crate::{
    app::{App, echo},
    support::{Kind, Outcome, after, body, call, pattern_bytes, text},
};

const UPLOAD: usize = 20 << 20;

pub(crate) fn cases() -> Vec<Case> {
    let cases = Kind::ALL.map(|kind| {
        [
            case(kind, "get", get),
            case(kind, "echo_20_mb_q15", echo_20_mb),
            case(kind, "authorizer", authorizer),
            case(kind, "filter", filter),
        ]
    });
    cases.into_iter().flatten().collect()
}

fn case(
    kind: Kind,
    name: &str,
    run: impl AsyncFnOnce(&fcgi::Address) -> Outcome + Send + 'static,
) -> Case {
    Case::new(format!("ours_{kind}_{name}"), move || {
        let app = App::start(kind, echo)?;
        app.block_on(run(app.address()))?;
        app.stop()
    })
}

async fn get(address: &fcgi::Address) -> Outcome {
    let request = Request::responder().param("REQUEST_METHOD", "GET").param("EMPTY", "");
    let answer = call(address, request).await?;
    assert_eq!(text(body(&answer.stdout)), "REQUEST_METHOD=GET\nEMPTY=\n\n");
    assert_eq!((answer.app_status, answer.stderr.len()), (0, 0));
    Ok(())
}

async fn echo_20_mb(address: &fcgi::Address) -> Outcome {
    let sent = pattern_bytes(UPLOAD);
    let request = Request::responder()
        .param("REQUEST_METHOD", "POST")
        .param("CONTENT_LENGTH", UPLOAD.to_string())
        .stdin(sent.clone());
    let answer = call(address, request).await?;
    let echoed = after(&answer.stdout, b"\n\n");
    assert_eq!(echoed.len(), sent.len());
    assert!(echoed == sent, "the echo differs from what was sent");
    Ok(())
}

async fn authorizer(address: &fcgi::Address) -> Outcome {
    let answer = call(address, Request::authorizer().param("HTTP_AUTHORIZATION", "x")).await?;
    assert_eq!(text(&answer.stdout), "Status: 200 OK\r\nVariable-REMOTE_USER: ada\r\n\r\n");
    Ok(())
}

async fn filter(address: &fcgi::Address) -> Outcome {
    let request = Request::filter()
        .param("CONTENT_LENGTH", "5")
        .param("FCGI_DATA_LENGTH", "4")
        .param("FCGI_DATA_LAST_MOD", "0")
        .stdin("stdin")
        .data("data");
    let answer = call(address, request).await?;
    assert_eq!(text(after(&answer.stdout, b"\n\n")), "stdindata");
    Ok(())
}
