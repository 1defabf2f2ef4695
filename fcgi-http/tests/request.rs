//! Requests to parameters and back: the rules, the quirks, the hostile lines.

use std::collections::BTreeMap;

use fcgi_http::{
    BodyLength, BodyLengthError, MetaVariables, MountPoint, ParamsBuilder, PathSource, RemoteAddr,
    RequestBody, Script,
    request::{self, HeaderPolicy, ParamsError, RequestError, from_params, redirected},
};
use fcgi_proto::Params;
use http::{Method, Request, Version, header::HeaderName, request::Parts};

fn get(uri: &str) -> Parts {
    with_headers(uri, &[])
}

fn with_headers(uri: &str, headers: &[(&str, &str)]) -> Parts {
    let mut request = Request::get(uri);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    request.body(()).unwrap().into_parts().0
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

fn build(request: &Parts, body: RequestBody) -> Result<Params, ParamsError> {
    ParamsBuilder::new().build(request, &Script::default(), body)
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
    // An empty path is the same as `/`.
    let params = build(&with_headers("http://b.example?y", &[]), RequestBody::None).unwrap();
    assert_eq!(params.get_str("REQUEST_URI"), Some("/?y"));
    for bad in ["a b", "u@h", "a/b", ":80", "a\u{fc}"] {
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
    // Q-4: what the client declared and what is sent must agree.
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

// ---- The application's side --------------------------------------------------------------------

fn read(params: &[(&str, &str)]) -> Result<Parts, RequestError> {
    from_params(Params::from_iter(params.iter().copied()))
}

/// A request with these parameters and what else is needed.
fn read_with(params: &[(&str, &str)]) -> Result<Parts, RequestError> {
    read(&[&[("REQUEST_METHOD", "GET"), ("REQUEST_URI", "/")], params].concat())
}

fn invalid<T>(name: &'static str, value: &str) -> Result<T, RequestError> {
    Err(RequestError::Invalid { name, value: value.into() })
}

#[test]
fn method_and_version_are_read() {
    for (method, expected) in [("GET", Method::GET), ("PROPFIND", "PROPFIND".parse().unwrap())] {
        let request = read(&[("REQUEST_METHOD", method), ("REQUEST_URI", "/")]).unwrap();
        assert_eq!(request.method, expected);
    }
    assert_eq!(
        read(&[("REQUEST_URI", "/")]).map(drop),
        Err(RequestError::Missing("REQUEST_METHOD"))
    );
    for (bad, shown) in [("", ""), ("G T", "G T"), ("GET\n", "GET\\n")] {
        let result = read(&[("REQUEST_METHOD", bad), ("REQUEST_URI", "/")]);
        assert_eq!(result.map(drop), invalid("REQUEST_METHOD", shown));
    }
    for (text, version) in [
        ("HTTP/1.1", Version::HTTP_11),
        ("http/1.0", Version::HTTP_10),
        ("HTTP/2.0", Version::HTTP_2),
        ("HTTP/2", Version::HTTP_2),
        ("HTTP/3.0", Version::HTTP_3),
        ("HTTP/0.9", Version::HTTP_09),
        ("INCLUDED", Version::HTTP_10),
        ("", Version::HTTP_10),
    ] {
        assert_eq!(read_with(&[("SERVER_PROTOCOL", text)]).unwrap().version, version, "{text}");
    }
    assert_eq!(read_with(&[]).unwrap().version, Version::HTTP_10);
    let bad = read_with(&[("SERVER_PROTOCOL", "HTTP/9")]);
    assert_eq!(bad.map(drop), invalid("SERVER_PROTOCOL", "HTTP/9"));
}

#[test]
fn the_uri_is_what_the_client_asked_for_or_what_the_script_is_called() {
    let uri = |params: &[(&str, &str)]| {
        read(&[&[("REQUEST_METHOD", "GET")], params].concat()).map(|r| r.uri.to_string())
    };
    for (params, expected) in [
        (&[("REQUEST_URI", "/a%20b?c=d"), ("SCRIPT_NAME", "/x")][..], "/a%20b?c=d"),
        (&[("REQUEST_URI", "/rewritten"), ("QUERY_STRING", "q=1")], "/rewritten"),
        (&[("REQUEST_URI", "//evil.example/x")], "//evil.example/x"),
        (&[("REQUEST_URI", "http://a.example/x?y")], "http://a.example/x?y"),
        (&[("REQUEST_URI", "*")], "*"),
        (&[("REQUEST_URI", "/a b\"\u{fc}|#f")], "/a%20b%22%C3%BC%7C"),
        (&[("REQUEST_URI", ""), ("SCRIPT_NAME", "/s")], "/s"),
        (&[("SCRIPT_NAME", "/s"), ("PATH_INFO", "/a b?#%\u{fc}")], "/s/a%20b%3F%23%25%C3%BC"),
        (&[("SCRIPT_NAME", ""), ("PATH_INFO", ""), ("QUERY_STRING", "")], "/"),
        (&[("SCRIPT_NAME", "/s"), ("QUERY_STRING", "a=%20 b")], "/s?a=%20%20b"),
        (&[("PATH_INFO", "/i")], "/i"),
    ] {
        assert_eq!(uri(params), Ok(expected.into()), "{params:?}");
    }
    assert_eq!(uri(&[]), Err(RequestError::Missing("REQUEST_URI")));
    for (params, name, shown) in [
        (&[("REQUEST_URI", "/a\nb")][..], "REQUEST_URI", "/a\\nb"),
        (&[("REQUEST_URI", "/a\0")], "REQUEST_URI", "/a\\x00"),
        (&[("REQUEST_URI", "a")], "REQUEST_URI", "a"),
        (&[("REQUEST_URI", "file:///etc/passwd")], "REQUEST_URI", "file:///etc/passwd"),
        (&[("REQUEST_URI", "a.example:443")], "REQUEST_URI", "a.example:443"),
        (&[("REQUEST_URI", "?q")], "REQUEST_URI", "?q"),
        // H-14.
        (&[("SCRIPT_NAME", "/s"), ("PATH_INFO", "/\n")], "SCRIPT_NAME and PATH_INFO", "/s/\\n"),
        (&[("SCRIPT_NAME", "/\0")], "SCRIPT_NAME and PATH_INFO", "/\\x00"),
        (&[("SCRIPT_NAME", "s")], "SCRIPT_NAME and PATH_INFO", "s"),
        (&[("SCRIPT_NAME", "/s"), ("QUERY_STRING", "\r")], "QUERY_STRING", "\\r"),
    ] {
        assert_eq!(uri(params), invalid(name, shown), "{params:?}");
    }
    let long = format!("/{}", "a".repeat(65_533));
    assert_eq!(uri(&[("REQUEST_URI", &long)]).map(|uri| uri.len()), Ok(65_534));
    for params in [[("REQUEST_URI", &*(long.clone() + "?"))], [("PATH_INFO", &*(long + "b"))]] {
        assert!(matches!(uri(&params), Err(RequestError::Invalid { .. })));
    }
}

#[test]
fn header_fields_are_read() {
    let request = read_with(&[
        ("HTTP_HOST", "h"),
        ("HTTP_ACCEPT_LANGUAGE", "de"),
        ("HTTP_X_TWICE", "1"),
        ("HTTP_X_TWICE", "2"),
        ("HTTP_COOKIE", "a=1; b=2"),
        ("CONTENT_TYPE", "a/b"),
        ("CONTENT_LENGTH", "007"),
        // nginx repeats them; other servers pass what belongs to one hop.
        ("HTTP_CONTENT_TYPE", "c/d"),
        ("HTTP_CONTENT_LENGTH", "8"),
        ("HTTP_CONNECTION", "close, X-Twice"),
        ("HTTP_TRANSFER_ENCODING", "chunked"),
        ("HTTP_UPGRADE", "x"),
        ("HTTP_PROXY", "http://evil.example/"),
        ("REMOTE_USER", "alice"),
    ])
    .unwrap();
    let mut fields: Vec<_> =
        request.headers.iter().map(|(n, v)| (n.as_str(), v.to_str().unwrap())).collect();
    fields.sort_unstable();
    assert_eq!(
        fields,
        [
            ("accept-language", "de"),
            ("content-length", "7"),
            ("content-type", "a/b"),
            ("cookie", "a=1; b=2"),
            ("host", "h"),
            ("x-twice", "1"),
            ("x-twice", "2"),
        ]
    );
    let none = read_with(&[("CONTENT_TYPE", "")]).unwrap();
    assert!(none.headers.is_empty());
}

#[test]
fn h_7_bytes_that_are_not_utf_8_lose_nothing() {
    let mut params = Params::from_iter([("REQUEST_METHOD", "GET"), ("REQUEST_URI", "/")]);
    params.push("HTTP_X_LATIN", b"\xfcber");
    params.push(b"\xff\0", b"\xff\0");
    params.push("PATH_INFO", b"/\0\n\xff");
    params.push("HTTP_X_LAST", "here");
    let request = from_params(params.clone()).unwrap();
    assert_eq!(request.headers["x-latin"].as_bytes(), b"\xfcber");
    assert_eq!(request.headers["x-last"], "here");
    let meta = request.extensions.get::<MetaVariables>().unwrap();
    assert_eq!(meta.params(), &params);
    assert_eq!(meta.path_info(), b"/\0\n\xff");

    params.push("REQUEST_URI", b"/\xff?\xfe");
    assert_eq!(from_params(params).unwrap().uri, "/%FF?%FE");
}

#[test]
fn hostile_parameters_are_errors() {
    for (name, value) in [("HTTP_X", "a\nb"), ("HTTP_X", "a\rb"), ("HTTP_X", "\0")] {
        let error = RequestError::FieldValue {
            name: name.into(),
            value: value.escape_default().to_string().replace("\\u{0}", "\\x00"),
        };
        assert_eq!(read_with(&[(name, value)]).map(drop), Err(error));
    }
    for name in ["HTTP_", "HTTP_A B", "HTTP_A:", "HTTP_\u{fc}"] {
        let result = read_with(&[(name, "x")]).map(drop);
        assert!(matches!(result, Err(RequestError::FieldName(_))), "{name}: {result:?}");
    }
    assert_eq!(read_with(&[("CONTENT_TYPE", "a\n")]).map(drop), invalid("CONTENT_TYPE", "a\\n"));
    let flood: Params = [("REQUEST_METHOD".into(), "GET"), ("REQUEST_URI".into(), "/")]
        .into_iter()
        .chain((0..40_000).map(|n| (format!("HTTP_X_{n}"), "1")))
        .collect();
    let error = from_params(flood).map(drop).unwrap_err();
    assert_eq!((error.status().as_u16(), error), (400, RequestError::TooManyFields));
}

#[test]
fn w_10_the_content_length_may_be_unknown() {
    for (value, expected) in [
        (None, Ok(None)),
        (Some(""), Ok(None)),
        (Some("-1"), Ok(None)),
        (Some("0"), Ok(Some(0))),
        (Some("18446744073709551615"), Ok(Some(u64::MAX))),
        (Some("18446744073709551616"), invalid("CONTENT_LENGTH", "18446744073709551616")),
        (Some("-2"), invalid("CONTENT_LENGTH", "-2")),
        (Some("+1"), invalid("CONTENT_LENGTH", "+1")),
        (Some(" 1"), invalid("CONTENT_LENGTH", " 1")),
        (Some("1\n"), invalid("CONTENT_LENGTH", "1\\n")),
        (Some("1,1"), invalid("CONTENT_LENGTH", "1,1")),
    ] {
        let params: Vec<_> = value.map(|value| ("CONTENT_LENGTH", value)).into_iter().collect();
        let meta = MetaVariables::new(Params::from_iter(params.iter().copied()));
        assert_eq!(meta.content_length(), expected);
        let field = read_with(&params).map(|request| {
            let field = request.headers.get("content-length")?;
            Some(field.to_str().unwrap().parse::<u64>().unwrap())
        });
        assert_eq!(field, expected);
    }
}

#[test]
fn fc_6_2_2_a_request_body_is_held_against_its_length() {
    let meta = MetaVariables::new(Params::from_iter([("CONTENT_LENGTH", "3")]));
    let mut body = BodyLength::new(meta.content_length().unwrap());
    assert_eq!(body.accept(2), Ok(2));
    assert_eq!(body.finish(), Err(BodyLengthError::TooShort { declared: 3, seen: 2 }));
    assert_eq!(body.accept(2), Err(BodyLengthError::TooLong { declared: 3, seen: 4 }));
}

#[test]
fn w_5_apaches_prefix_is_removed_from_script_filename() {
    for (value, expected) in [
        ("proxy:fcgi://127.0.0.1:9000/srv/a.php", "/srv/a.php"),
        ("proxy:fcgi://[::1]:9000/srv/a.php?q=/x", "/srv/a.php"),
        ("proxy:fcgi://localhost/srv/a.php", "/srv/a.php"),
        ("proxy:balancer://pool/srv/a.php", "/srv/a.php"),
        ("proxy:fcgi://127.0.0.1:9000", ""),
        ("/srv/a.php?b", "/srv/a.php?b"),
        ("/proxy:fcgi://h/a", "/proxy:fcgi://h/a"),
        ("", ""),
    ] {
        let meta = MetaVariables::new(Params::from_iter([("SCRIPT_FILENAME", value)]));
        assert_eq!(meta.script_filename(), Some(expected.as_bytes()), "{value}");
    }
    assert_eq!(MetaVariables::new(Params::new()).script_filename(), None);
}

#[test]
fn w_6_meta_variables_are_told_as_they_came() {
    let meta = MetaVariables::new(Params::from_iter([
        ("REMOTE_ADDR", "192.0.2.7"),
        ("REMOTE_PORT", "4711"),
        ("SERVER_ADDR", "::1"),
        ("SERVER_PORT", "443"),
        ("SERVER_NAME", "a.example"),
        ("REMOTE_USER", "alice"),
        ("AUTH_TYPE", ""),
        ("SCRIPT_NAME", "/s"),
        ("QUERY_STRING", "q"),
        ("DOCUMENT_ROOT", "/srv"),
    ]));
    assert_eq!(meta.remote_addr(), Some("192.0.2.7".parse().unwrap()));
    assert_eq!(meta.remote_port(), Some(4711));
    assert_eq!(meta.server_addr(), Some("::1".parse().unwrap()));
    assert_eq!(meta.server_port(), Some(443));
    assert_eq!(meta.server_name(), Some("a.example"));
    assert_eq!((meta.remote_user(), meta.auth_type()), (Some(&b"alice"[..]), None));
    assert_eq!((meta.script_name(), meta.path_info()), (&b"/s"[..], &b""[..]));
    assert_eq!((meta.query_string(), meta.document_root()), (&b"q"[..], Some(&b"/srv"[..])));

    let nothing = MetaVariables::new(Params::from_iter([("REMOTE_ADDR", "unix:")]));
    assert_eq!((nothing.remote_addr(), nothing.remote_user()), (None, None));
    for (name, value, https) in [
        ("HTTPS", "on", true),
        ("HTTPS", "1", true),
        ("HTTPS", "off", false),
        ("HTTPS", "", false),
        ("REQUEST_SCHEME", "https", true),
        ("REQUEST_SCHEME", "http", false),
        ("HTTP_HTTPS", "on", false),
    ] {
        let meta = MetaVariables::new(Params::from_iter([(name, value)]));
        assert_eq!(meta.is_https(), https, "{name}={value}");
    }
}

#[test]
fn cgi_6_2_2_1_a_local_redirect_is_a_request_of_its_own() {
    let headers = [
        ("Host", "h"),
        ("Cookie", "a=1"),
        ("Content-Type", "a/b"),
        ("Content-Length", "5"),
        ("Content-Encoding", "gzip"),
        ("Transfer-Encoding", "chunked"),
        ("Expect", "100-continue"),
    ];
    for (method, uri, expected_method, expected_uri) in [
        (Method::POST, "/old?x", Method::GET, "/new?y=1"),
        (Method::HEAD, "/old", Method::HEAD, "/new?y=1"),
        (Method::GET, "https://h.example/old", Method::GET, "https://h.example/new?y=1"),
    ] {
        let mut request = with_headers(uri, &headers);
        request.method = method;
        let new = redirected(&request, &"/new?y=1".parse().unwrap());
        assert_eq!((new.method, new.uri.to_string()), (expected_method, expected_uri.into()));
        let names: Vec<_> = new.headers.keys().map(HeaderName::as_str).collect();
        assert_eq!(names, ["host", "cookie"]);
    }
}

// ---- Below a path -----------------------------------------------------------------------------

/// The URI and the mount of a request with these parameters, by SCRIPT_NAME and PATH_INFO.
fn below(pairs: &[(&str, &str)]) -> (String, String) {
    let method = [("REQUEST_METHOD", "GET")];
    let params = Params::from_iter(method.iter().chain(pairs).copied());
    let parts = request::from_params_by(params, PathSource::PathInfo).unwrap();
    let mount = parts.extensions.get::<MountPoint>().unwrap();
    (parts.uri.to_string(), mount.to_string())
}

#[test]
fn the_path_below_the_application_is_path_info() {
    for (name, info, uri, mount) in [
        ("/shop", "/cart", "/cart", "/shop"),
        ("", "/cart", "/cart", ""),
        // Rack's and flup's name for the top.
        ("/", "/cart", "/cart", ""),
        ("/shop", "/", "/", "/shop"),
        ("/shop", "", "/", "/shop"),
        ("/a b/\u{e9}", "/J\u{fc}rgen 7%", "/J%C3%BCrgen%207%25", "/a%20b/%C3%A9"),
        ("/shop.fcgi", "//x", "//x", "/shop.fcgi"),
    ] {
        // What the client asked for before a rewrite does not count.
        let pairs = [("SCRIPT_NAME", name), ("PATH_INFO", info), ("REQUEST_URI", "/else?q")];
        assert_eq!(below(&pairs), (uri.to_owned(), mount.to_owned()), "{name} {info}");
        let query = [&pairs[..], &[("QUERY_STRING", "id=7")]].concat();
        assert_eq!(below(&query).0, format!("{uri}?id=7"));
    }
    assert_eq!(below(&[("PATH_INFO", "/cart")]), ("/cart".into(), String::new()));
    let options = [("REQUEST_METHOD", "OPTIONS"), ("REQUEST_URI", "*")];
    let parts = request::from_params_by(Params::from_iter(options), PathSource::PathInfo).unwrap();
    assert_eq!(parts.uri, "*");
    let bad = [("REQUEST_METHOD", "GET"), ("PATH_INFO", "/a\nb")];
    assert!(request::from_params_by(Params::from_iter(bad), PathSource::PathInfo).is_err());
}

#[test]
fn a_path_info_that_is_left_out_is_found_where_the_web_server_has_it() {
    let nginx = ("SERVER_SOFTWARE", "nginx/1.22.1");
    let haproxy = ("SERVER_SOFTWARE", "HAProxy 2.6.12");
    let apache = ("SERVER_SOFTWARE", "Apache/2.4");
    let proxied = |path| ("SCRIPT_FILENAME", path);
    let name = |name| ("SCRIPT_NAME", name);
    for (pairs, uri, mount) in [
        // nginx, with and without fastcgi_split_path_info.
        (vec![nginx, name("/shop/cart"), ("DOCUMENT_URI", "/shop/cart")], "/shop/cart", ""),
        (vec![nginx, name("/shop"), ("DOCUMENT_URI", "/shop/cart")], "/cart", "/shop"),
        (vec![nginx, name("/shop"), ("DOCUMENT_URI", "/shopping")], "/", "/shop"),
        // HAProxy without path-info.
        (vec![haproxy, name("/shop/cart")], "/shop/cart", ""),
        // Apache leaves out what is empty.
        (vec![apache, name("/shop.fcgi")], "/", "/shop.fcgi"),
        // ProxyPass "/shop/" "fcgi://HOST/" (W-5).
        (vec![apache, name("/shop/cart"), proxied("proxy:fcgi://h:9/cart")], "/cart", "/shop"),
        (vec![apache, name("/shop/cart"), proxied("proxy:balancer://b/cart?x")], "/cart", "/shop"),
        (vec![apache, name("/s/a b"), proxied("proxy:fcgi://h/a%20b")], "/a%20b", "/s"),
        (vec![apache, name("/s/a%b"), proxied("proxy:fcgi://h/a%b")], "/a%25b", "/s"),
        (vec![apache, name("/shop/"), proxied("proxy:fcgi://h/")], "/", "/shop"),
        // Of a target with a path of its own.
        (vec![apache, name("/shop"), proxied("proxy:fcgi://h/srv/shop")], "/", "/shop"),
    ] {
        assert_eq!(below(&pairs), (uri.to_owned(), mount.to_owned()), "{pairs:?}");
    }
}

#[test]
fn an_empty_host_is_no_host() {
    let params = [("REQUEST_METHOD", "GET"), ("REQUEST_URI", "/"), ("HTTP_HOST", "")];
    let parts = request::from_params(Params::from_iter(params)).unwrap();
    assert!(!parts.headers.contains_key("host"));
    let sent = build(&with_headers("/", &[("Host", "")]), RequestBody::None).unwrap();
    assert_eq!((sent.get("HTTP_HOST"), sent.get_str("SERVER_NAME")), (None, Some("localhost")));
}

#[test]
fn a_client_without_an_address_is_said_to_be_so() {
    let of = |pairs: &[(&str, &str)]| {
        RemoteAddr::of(&MetaVariables::new(Params::from_iter(pairs.iter().copied())))
    };
    let client = of(&[("REMOTE_ADDR", "2001:db8::7"), ("REMOTE_PORT", "x")]).unwrap();
    assert_eq!((client.to_string(), client.port()), ("2001:db8::7".into(), None));
    let missing = of(&[]).unwrap_err();
    assert_eq!(of(&[("REMOTE_ADDR", "")]), Err(missing.clone()));
    assert!(missing.to_string().contains("REMOTE_ADDR"), "{missing}");
    // nginx, listening on a unix socket.
    let invalid = of(&[("REMOTE_ADDR", "unix:")]).unwrap_err().to_string();
    assert!(invalid.contains("REMOTE_ADDR is \"unix:\""), "{invalid}");
}
