//! Parameters become requests.

use fcgi_http::{
    BodyLength, BodyLengthError, MetaVariables,
    request::{RequestError, from_params, redirected},
};
use fcgi_proto::Params;
use http::{Method, Version, header::HeaderName, request::Parts};

use crate::with_headers;

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
