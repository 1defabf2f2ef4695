//! Authorizers, both ends (FC-6.3-1, FC-6.3-2).

use std::io;

use fcgi::{
    FAILED, PANICKED, Pool, Server,
    http::{
        Authorized, Authorizer, Body, Decision, HttpClient, HttpError, MetaVariables, Mount,
        Responder, Variables,
    },
};
use fcgi_blocking as fcgi;
use http::{Request, Response, StatusCode};

use crate::{
    app::{AUTHORIZER, Answer, App, KEEP, begin, params, request, serve},
    kit::{answer, get, of_method, ok, text},
};

fn check(request: Request<()>) -> Result<Decision, &'static str> {
    match request.uri().path() {
        "/allow" => Ok(Decision::allow([("REMOTE_USER", "ann"), ("GROUP", "staff")])),
        "/deny" => Ok(Decision::Deny(answer(ok().status(401).header("X-Why", "y"), "no entry"))),
        "/deny-200" => Ok(Decision::Deny(answer(ok(), "a mistake"))),
        "/bad" => Ok(Decision::allow([("REMOTE_USER", "ann\r\nX: y")])),
        "/panic" => panic!("as asked"),
        _ => Err("no database"),
    }
}

fn asked(app: &App, path: &str) -> Answer {
    let mut peer = app.dial();
    peer.send([begin(1, AUTHORIZER, KEEP), params(1, &get(path))].concat());
    peer.answer(1)
}

#[test]
fn it_allows_with_variables_or_denies_with_a_response_fc_6_3_2() {
    let app = serve(Server::new().threads(2), Authorizer::new(check));
    let allowed = asked(&app, "/allow");
    let expected = "Status: 200 OK\r\nVariable-REMOTE_USER: ann\r\nVariable-GROUP: staff\r\n\r\n";
    assert_eq!((text(&allowed.stdout), allowed.app_status), (expected, 0));
    let denied = asked(&app, "/deny");
    let expected = "Status: 401 Unauthorized\r\nx-why: y\r\ncontent-length: 8\r\n\r\nno entry";
    assert_eq!((text(&denied.stdout), denied.app_status), (expected, 0));
}

#[test]
fn whatever_goes_wrong_denies() {
    let app = serve(Server::new().threads(2), Authorizer::new(check));
    for (path, app_status) in
        [("/fail", FAILED), ("/deny-200", FAILED), ("/bad", FAILED), ("/panic", PANICKED)]
    {
        let answered = asked(&app, path);
        assert!(text(&answered.stdout).starts_with("Status: 500 "), "{path}");
        assert_eq!(answered.app_status, app_status, "{path}");
    }
    let mut peer = app.dial();
    peer.send([begin(1, AUTHORIZER, KEEP), params(1, &[])].concat());
    assert!(text(&peer.answer(1).stdout).starts_with("Status: 400 "));
}

/// A server for both roles. Its Responder answers with the user that the Authorizer named.
fn both() -> App {
    let app = |request: Request<Body>| {
        let meta = request.extensions().get::<MetaVariables>().unwrap();
        let user = String::from_utf8(meta.remote_user().unwrap_or(b"nobody").to_vec());
        user.map(|user| answer(ok(), user))
    };
    serve(Server::new().threads(4), Responder::new(app).authorizer(check))
}

#[test]
fn one_server_answers_both_roles() {
    let app = both();
    assert!(text(&asked(&app, "/allow").stdout).contains("Variable-REMOTE_USER: ann"));
    let mut peer = app.dial();
    peer.send(request(1, KEEP, &of_method("GET", "/"), b""));
    assert!(text(&peer.answer(1).stdout).ends_with("nobody"));
}

fn client(app: &App) -> HttpClient {
    HttpClient::new(Pool::new(app.address.clone()).unwrap(), Mount::new("").unwrap())
}

fn to(path: &str) -> Request<Body> {
    Request::get(path).body(Body::empty()).unwrap()
}

fn page(response: Response<fcgi::http::ResponseBody>) -> String {
    io::read_to_string(response.into_body()).unwrap()
}

#[test]
fn the_client_asks_and_goes_on_with_its_variables_fc_6_3_1() {
    let app = both();
    let (authorizer, plain) = (client(&app), client(&app));
    let Authorized::Allowed(allowed) = authorizer.authorize(to("/allow")).unwrap() else {
        panic!("it was denied")
    };
    let variables = &allowed.extensions().get::<Variables>().unwrap().0;
    assert_eq!(variables.get_str("GROUP"), Some("staff"));
    assert_eq!(page(plain.send(allowed).unwrap()), "ann");
    let Authorized::Denied(denied) = authorizer.authorize(to("/deny")).unwrap() else {
        panic!("it was allowed")
    };
    assert_eq!((denied.status(), page(denied).as_str()), (StatusCode::UNAUTHORIZED, "no entry"));

    let pool = Pool::new(app.address.clone()).unwrap();
    let mount = Mount::new("").unwrap();
    let guarded =
        HttpClient::with_pool(pool).scripts(mount).authorizer(authorizer).build().unwrap();
    assert_eq!(page(guarded.send(to("/allow")).unwrap()), "ann");
    assert_eq!(guarded.send(to("/deny")).unwrap().status(), 401);
    // A page with status 500 is a denial too.
    assert_eq!(guarded.send(to("/fail")).unwrap().status(), 500);
}

#[test]
fn a_bad_answer_does_not_allow() {
    for (stdout, app_status) in
        [("Status: 200 OK\r\n\r\n", 1), ("Status: 200 OK\r\n", 0), ("nonsense\n\n", 0)]
    {
        let app = serve(Server::new().threads(1), move |request: fcgi::Request| {
            let _ = request.stdout().write_all(stdout);
            app_status
        });
        let error = client(&app).authorize(to("/allow")).unwrap_err();
        assert!(matches!(error, HttpError::Head { .. } | HttpError::AppStatus { .. }), "{error}");
        assert_eq!(error.status(), 502);
    }
}
