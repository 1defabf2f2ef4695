//! An Authorizer as a service (FC-6.3-2).

use fcgi_driver::{
    client::{Collected, Request},
    http::{Authorizer, Body, Decision, MetaVariables, Responder},
    server::{FAILED, PANICKED, Server},
};
use fcgi_testkit::sim;
use http::{Response, StatusCode};

use crate::{
    kit::{answer, get, service, text},
    support::{builder, call, serve},
};

/// Says what the path asks for.
async fn check(request: http::Request<()>) -> Result<Decision, &'static str> {
    assert!(request.extensions().get::<MetaVariables>().is_some());
    match request.uri().path() {
        "/allow" => Ok(Decision::allow([("REMOTE_USER", "ann"), ("Plan_b", "2")])),
        "/bad-variable" => Ok(Decision::allow([("A", "1\r\nB: 2")])),
        "/deny" => Ok(Decision::Deny(
            Response::builder()
                .status(401)
                .header("WWW-Authenticate", "Basic")
                .body(Body::from("who are you?\n"))
                .unwrap(),
        )),
        "/deny-with-200" => Ok(Decision::deny(StatusCode::OK)),
        "/panic" => panic!("as asked"),
        _ => Err("no database"),
    }
}

fn ask(request: Request) -> Collected {
    sim::run(1, async {
        serve(Server::new(), Authorizer::new(tower::service_fn(check)));
        call(&builder().build().unwrap(), request).await.unwrap()
    })
}

fn asking(path: &str) -> Request {
    Request::authorizer().param("REQUEST_METHOD", "GET").param("REQUEST_URI", path)
}

#[test]
fn allowing_carries_variables_and_no_body_fc_6_3_2() {
    let answered = ask(asking("/allow"));
    assert_eq!(
        text(&answered.stdout),
        "Status: 200 OK\r\nVariable-REMOTE_USER: ann\r\nVariable-Plan_b: 2\r\n\r\n"
    );
    assert_eq!(answered.app_status, 0);
}

#[test]
fn denying_carries_a_response_fc_6_3_2() {
    let answered = ask(asking("/deny"));
    assert_eq!(
        text(&answered.stdout),
        "Status: 401 Unauthorized\r\nwww-authenticate: Basic\r\ncontent-length: 13\r\n\r\n\
         who are you?\n"
    );
    assert_eq!(answered.app_status, 0);
}

#[test]
fn whatever_goes_wrong_denies() {
    let cases = [
        ("/error", 500, FAILED),
        ("/bad-variable", 500, FAILED),
        ("/deny-with-200", 500, FAILED),
        ("/panic", 500, PANICKED),
    ];
    for (path, status, app_status) in cases {
        let answered = ask(asking(path));
        let line = format!("Status: {status} ");
        assert!(text(&answered.stdout).starts_with(&line), "{path}");
        assert_eq!(answered.app_status, app_status, "{path}");
    }
    let answered = ask(Request::authorizer().param("HTTP_AUTHORIZATION", "Basic YTpi"));
    assert!(text(&answered.stdout).starts_with("Status: 400 "));
}

#[test]
fn one_server_answers_both_roles() {
    sim::run(1, async {
        let app = service(|_| async { answer(Response::builder(), "the page") });
        serve(Server::new(), Responder::new(app).authorizer(tower::service_fn(check)));
        let pool = builder().build().unwrap();
        let page = call(&pool, get("/")).await.unwrap();
        assert!(text(&page.stdout).ends_with("\r\n\r\nthe page"));
        let allowed = call(&pool, asking("/allow")).await.unwrap();
        assert!(text(&allowed.stdout).contains("Variable-REMOTE_USER: ann\r\n"));
    });
}

#[test]
fn an_authorizer_alone_refuses_other_roles() {
    sim::run(1, async {
        serve(Server::new(), Authorizer::new(tower::service_fn(check)));
        let error = call(&builder().build().unwrap(), get("/allow")).await.unwrap_err();
        assert!(error.to_string().contains("UNKNOWN_ROLE"), "{error}");
    });
}
