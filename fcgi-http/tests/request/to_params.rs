//! Requests become parameters.

use std::collections::BTreeMap;

use fcgi_http::{
    BodyLength, BodyLengthError, ParamsBuilder, RequestBody, Script,
    request::{HeaderPolicy, ParamsError},
};
use fcgi_proto::Params;
use http::{Method, Request, header::HeaderName, request::Parts};

use crate::{build, with_headers};

fn get(uri: &str) -> Parts {
    with_headers(uri, &[])
}

/// The parameters by name; each name comes once.
fn map(params: &Params) -> BTreeMap<String, String> {
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
    let map: BTreeMap<_, _> = params.iter().map(|(n, v)| (text(n), text(v))).collect();
    assert_eq!(map.len(), params.len(), "a name came twice: {params:?}");
    map
}

fn pairs(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    pairs.iter().map(|(n, v)| ((*n).into(), (*v).into())).collect()
}

/// The HTTP_* parameters that come of these fields.
fn passed(policy: HeaderPolicy, headers: &[(&str, &str)]) -> BTreeMap<String, String> {
    let params = ParamsBuilder::new()
        .headers(policy)
        .build(&with_headers("/", headers), &Script::default(), RequestBody::None)
        .unwrap();
    let mut map = map(&params);
    map.retain(|name, _| name.starts_with("HTTP_"));
    map
}

#[test]
fn cgi_4_1_1_every_meta_variable_is_there() {
    let (request, ()) = Request::post("/a.php/in%66o?x=1&y=%20")
        .header("Host", "www.example.org:8443")
        .header("Content-Type", "text/plain")
        .header("Accept", "*/*")
        .body(())
        .unwrap()
        .into_parts();
    let mut script = Script::new("/a.php", "/info");
    script.script_filename = Some("/srv/a.php".into());
    script.document_root = Some("/srv".into());
    let builder = ParamsBuilder::new()
        .server_software("example/1.0")
        .server_addr("[::ffff:192.0.2.1]:8080".parse().unwrap())
        .remote_addr("[2001:db8::7]:4711".parse().unwrap())
        .remote_host("client.example")
        .remote_ident("ident")
        .authenticated("Basic", "alice")
        .https(true)
        .param("FCGI_EXTRA", "e")
        .param("SERVER_ADMIN", "old")
        .param("SERVER_ADMIN", "new");
    let params = builder.build(&request, &script, RequestBody::Length(7)).unwrap();
    let expected = [
        ("AUTH_TYPE", "Basic"),
        ("CONTENT_LENGTH", "7"),
        ("CONTENT_TYPE", "text/plain"),
        ("DOCUMENT_ROOT", "/srv"),
        ("DOCUMENT_URI", "/a.php/info"),
        ("FCGI_EXTRA", "e"),
        ("GATEWAY_INTERFACE", "CGI/1.1"),
        ("HTTPS", "on"),
        ("HTTP_ACCEPT", "*/*"),
        ("HTTP_HOST", "www.example.org:8443"),
        ("PATH_INFO", "/info"),
        ("PATH_TRANSLATED", "/srv/info"),
        ("QUERY_STRING", "x=1&y=%20"),
        ("REDIRECT_STATUS", "200"),
        ("REMOTE_ADDR", "2001:db8::7"),
        ("REMOTE_HOST", "client.example"),
        ("REMOTE_IDENT", "ident"),
        ("REMOTE_PORT", "4711"),
        ("REMOTE_USER", "alice"),
        ("REQUEST_METHOD", "POST"),
        ("REQUEST_SCHEME", "https"),
        ("REQUEST_URI", "/a.php/in%66o?x=1&y=%20"),
        ("SCRIPT_FILENAME", "/srv/a.php"),
        ("SCRIPT_NAME", "/a.php"),
        ("SERVER_ADDR", "192.0.2.1"),
        ("SERVER_ADMIN", "new"),
        ("SERVER_NAME", "www.example.org"),
        ("SERVER_PORT", "8080"),
        ("SERVER_PROTOCOL", "HTTP/1.1"),
        ("SERVER_SOFTWARE", "example/1.0"),
    ];
    assert_eq!(map(&params), pairs(&expected));
}

#[test]
fn cgi_4_1_1_what_is_not_told_is_left_out() {
    let software = concat!("fcgi-http/", env!("CARGO_PKG_VERSION"));
    let params = build(&get("/"), RequestBody::None).unwrap();
    let expected = [
        ("DOCUMENT_URI", ""),
        ("GATEWAY_INTERFACE", "CGI/1.1"),
        ("QUERY_STRING", ""),
        ("REDIRECT_STATUS", "200"),
        ("REQUEST_METHOD", "GET"),
        ("REQUEST_SCHEME", "http"),
        ("REQUEST_URI", "/"),
        ("SCRIPT_NAME", ""),
        ("SERVER_NAME", "localhost"),
        ("SERVER_PORT", "80"),
        ("SERVER_PROTOCOL", "HTTP/1.1"),
        ("SERVER_SOFTWARE", software),
    ];
    assert_eq!(map(&params), pairs(&expected));
}

#[test]
fn cgi_4_1_1_server_name_and_port_come_from_what_is_known() {
    let plain = ParamsBuilder::new;
    let v6 = || plain().server_addr("[::1]:81".parse().unwrap());
    let host = |host| with_headers("/", &[("Host", host)]);
    for (builder, request, name, port) in [
        (plain(), host("a.example"), "a.example", "80"),
        (plain().https(true), host("a.example"), "a.example", "443"),
        (plain(), host("a.example:8080"), "a.example", "8080"),
        (plain(), host("[2001:db8::1]:82"), "[2001:db8::1]", "82"),
        (plain(), host(""), "localhost", "80"),
        (v6(), host(""), "[::1]", "81"),
        (v6(), host("a.example:9"), "a.example", "81"),
        (v6().server_name("me"), host("a.example"), "me", "81"),
        (plain(), get("http://u:p@b.example:83/x"), "b.example", "83"),
    ] {
        let params = builder.build(&request, &Script::default(), RequestBody::None).unwrap();
        assert_eq!(params.get_str("SERVER_NAME"), Some(name));
        assert_eq!(params.get_str("SERVER_PORT"), Some(port));
    }
    let params = plain()
        .remote_addr("[::ffff:192.0.2.7]:1".parse().unwrap())
        .build(&get("/"), &Script::default(), RequestBody::None)
        .unwrap();
    assert_eq!(params.get_str("REMOTE_ADDR"), Some("192.0.2.7"));
    // The target's host takes Host's place, without the password.
    let request = with_headers("http://u:p@b.example:83/x?y", &[("Host", "other")]);
    let params = build(&request, RequestBody::None).unwrap();
    assert_eq!(params.get_str("HTTP_HOST"), Some("b.example:83"));
    assert_eq!(params.get_str("REQUEST_URI"), Some("/x?y"));
    let bad = with_headers("http://b.example:port/", &[("Host", "other")]);
    assert!(
        matches!(build(&bad, RequestBody::None), Err(ParamsError::Host(host)) if host == "b.example:port")
    );
    // An empty path is the same as `/`.
    let params = build(&with_headers("http://b.example?y", &[]), RequestBody::None).unwrap();
    assert_eq!(params.get_str("REQUEST_URI"), Some("/?y"));
    for bad in [
        "a b", "u@h", "a/b", ":80", "a\u{fc}", "a:b", "a:+1", "a:65536", "a:1:2", "a_b:http",
        "[::1]x", "[::1]:x", "[1]",
    ] {
        assert_eq!(
            build(&host(bad), RequestBody::None).map(drop).map_err(|e| e.status().as_u16()),
            Err(400),
            "{bad}"
        );
    }
}

#[test]
fn cgi_4_1_2_content_length_is_there_with_a_body_and_exact() {
    for (body, expected) in [
        (RequestBody::None, None),
        (RequestBody::Length(0), Some("0")),
        (RequestBody::Length(u64::MAX), Some("18446744073709551615")),
        (RequestBody::Unknown, None),
    ] {
        let params = build(&get("/"), body).unwrap();
        assert_eq!(params.get_str("CONTENT_LENGTH"), expected, "{body:?}");
    }
    // what the client declared and what is sent must agree.
    let declared = |value| with_headers("/", &[("Content-Length", value)]);
    assert!(build(&declared("5"), RequestBody::Length(5)).is_ok());
    assert!(build(&declared("0"), RequestBody::None).is_ok());
    for (body, length) in [
        (RequestBody::Length(4), Some(4)),
        (RequestBody::None, Some(0)),
        (RequestBody::Unknown, None),
    ] {
        let error = ParamsError::LengthMismatch { field: 5, length };
        assert_eq!(build(&declared("5"), body), Err(error));
    }
    for bad in ["-5", "+5", "5, 5", "", "0x5", "18446744073709551616"] {
        let error = ParamsError::ContentLength(BodyLengthError::Invalid(bad.into()));
        assert_eq!(build(&declared(bad), RequestBody::Length(5)), Err(error));
    }
}

#[test]
fn cgi_4_1_2_a_body_is_what_the_fields_say() {
    let body = |headers: &[_]| RequestBody::from_headers(&with_headers("/", headers).headers);
    assert_eq!(body(&[]), Ok(RequestBody::None));
    assert_eq!(body(&[("Content-Length", "5")]), Ok(RequestBody::Length(5)));
    assert_eq!(body(&[("Transfer-Encoding", "chunked")]), Ok(RequestBody::Unknown));
    let both = body(&[("Transfer-Encoding", "chunked"), ("Content-Length", "5")]);
    assert_eq!(both, Err(ParamsError::TwoLengths), "smuggling");
    let twice = body(&[("Content-Length", "5"), ("Content-Length", "5")]);
    assert_eq!(twice, Err(ParamsError::ContentLength(BodyLengthError::Invalid("5, 5".into()))));

    for (body, bytes, result) in [
        (RequestBody::None, 1, Err(BodyLengthError::TooLong { declared: 0, seen: 1 })),
        (RequestBody::Length(2), 2, Ok(2)),
        (RequestBody::Length(2), 3, Err(BodyLengthError::TooLong { declared: 2, seen: 3 })),
        (RequestBody::Unknown, usize::MAX, Ok(usize::MAX)),
    ] {
        assert_eq!(BodyLength::from(body).accept(bytes), result);
    }
}

#[test]
fn cgi_4_1_18_1_fields_become_parameters() {
    let headers = [
        ("Accept-Language", "de"),
        ("X-Many", "1"),
        ("X-Many", ""),
        ("X-Many", "3"),
        ("Cookie", "a=1"),
        ("Cookie", "b=2"),
        ("Empty", ""),
        ("Authorization", "Basic x"),
        ("Proxy-Authorization", "Basic y"),
        ("Content-Type", "a/b"),
        ("Content-Length", "0"),
        ("Connection", "close, X-Hop"),
        ("X-Hop", "1"),
        ("Keep-Alive", "1"),
        ("Proxy-Connection", "1"),
        ("TE", "trailers"),
        ("Trailer", "x"),
        ("Transfer-Encoding", "chunked"),
        ("Upgrade", "websocket"),
        ("Host", "h"),
    ];
    let mut expected = pairs(&[
        ("HTTP_ACCEPT_LANGUAGE", "de"),
        ("HTTP_X_MANY", "1, , 3"),
        ("HTTP_COOKIE", "a=1; b=2"),
        ("HTTP_EMPTY", ""),
        ("HTTP_AUTHORIZATION", "Basic x"),
        ("HTTP_HOST", "h"),
    ]);
    assert_eq!(passed(HeaderPolicy::new(), &headers), expected);

    let policy = HeaderPolicy::new()
        .authorization(false)
        .proxy_authorization(true)
        .drop_field(HeaderName::from_static("cookie"));
    for name in ["HTTP_AUTHORIZATION", "HTTP_COOKIE"] {
        expected.remove(name);
    }
    expected.insert("HTTP_PROXY_AUTHORIZATION".into(), "Basic y".into());
    assert_eq!(passed(policy, &headers), expected);
}

#[test]
fn cgi_4_1_18_1_fields_that_may_come_once_are_not_guessed_at() {
    for name in ["Host", "Content-Type", "Authorization"] {
        let request = with_headers("/", &[(name, "a"), (name, "b")]);
        let error = ParamsError::Repeated(name.parse().unwrap());
        assert_eq!(build(&request, RequestBody::None), Err(error));
    }
    let mut connect = get("/");
    connect.method = Method::CONNECT;
    let error = build(&connect, RequestBody::None).unwrap_err();
    assert_eq!((error.status().as_u16(), error), (405, ParamsError::Connect));
}

#[test]
fn cgi_4_1_18_2_h_15_spoofed_fields_are_dropped() {
    let headers = [
        ("Proxy", "http://evil.example/"),
        ("Remote_User", "root"),
        ("X_Forwarded-For", "1"),
        ("Proxy_Authorization", "x"),
        ("Connection", "Hop-By"),
        ("Hop_By", "x"),
        ("X.Dot", "x"),
        ("X$`id`", "x"),
        ("Both-Ways", "hyphen"),
        ("Both_Ways", "underscore"),
        ("Drop_Me", "x"),
    ];
    let both = ("HTTP_BOTH_WAYS", "hyphen");
    assert_eq!(passed(HeaderPolicy::new(), &headers), pairs(&[both]));
    let policy =
        HeaderPolicy::new().underscores(true).drop_field(HeaderName::from_static("drop-me"));
    assert_eq!(
        passed(policy, &headers),
        pairs(&[both, ("HTTP_REMOTE_USER", "root"), ("HTTP_X_FORWARDED_FOR", "1")]),
        "what no policy passes is not passed under another spelling"
    );
    // The operator's own word stands in the place of a field.
    let params = ParamsBuilder::new()
        .param("HTTP_PROXY", "")
        .param("HTTP_BOTH_WAYS", "mine")
        .build(&with_headers("/", &headers), &Script::default(), RequestBody::None)
        .unwrap();
    let map = map(&params);
    assert_eq!((&map["HTTP_PROXY"][..], &map["HTTP_BOTH_WAYS"][..]), ("", "mine"));
}

/// What a builder has kept of one request must not outlive a change of its settings.
#[test]
fn a_setting_changed_after_a_request_counts_for_the_next() {
    type Change = fn(ParamsBuilder) -> ParamsBuilder;
    let changes: [(Change, &str, &str); 10] = [
        (|b| b.server_software("s/1"), "SERVER_SOFTWARE", "s/1"),
        (|b| b.server_name("name"), "SERVER_NAME", "name"),
        (|b| b.server_addr("192.0.2.1:81".parse().unwrap()), "SERVER_PORT", "81"),
        (|b| b.remote_addr("192.0.2.8:2".parse().unwrap()), "REMOTE_ADDR", "192.0.2.8"),
        (|b| b.remote_host("host"), "REMOTE_HOST", "host"),
        (|b| b.remote_ident("ident"), "REMOTE_IDENT", "ident"),
        (|b| b.authenticated("Basic", "ann"), "REMOTE_USER", "ann"),
        (|b| b.https(true), "HTTPS", "on"),
        (|b| b.param("REDIRECT_STATUS", "404"), "REDIRECT_STATUS", "404"),
        (|b| b.param("REMOTE_PORT", "3"), "REMOTE_PORT", "3"),
    ];
    let first = ParamsBuilder::new().remote_addr("192.0.2.7:1".parse().unwrap()).param("A", "1");
    let request = get("/");
    let build = |builder: &ParamsBuilder| {
        map(&builder.build(&request, &Script::default(), RequestBody::None).unwrap())
    };
    let before = build(&first);
    for (change, name, value) in changes {
        let changed = change(first.clone());
        assert_eq!(build(&changed).get(name).map(String::as_str), Some(value), "{name}");
        assert_eq!(build(&changed), build(&changed), "{name}, again");
        assert_ne!(build(&changed), before, "{name}");
    }
    assert_eq!(build(&first), before);
}
