//! Properties: what one end writes the other reads, any cut gives the same, and nothing panics.

use std::net::Ipv6Addr;

use bytes::Bytes;
use fcgi_http::{
    HeadBlock, HeadError, HeadLimits, HeadParser, Kind, Mount, ParamsBuilder, RequestBody, Script,
    ScriptMap,
    authorizer::{self, Answer, AnswerParser},
    request,
    script::{EncodedSlashes, FileKind, Target},
};
use fcgi_proto::Params;
use http::{
    HeaderMap, HeaderName, HeaderValue, Method, Request, Response, Version, uri::Authority,
};
use proptest::{collection::vec, prelude::*, sample::select};

/// A value that no reader trims.
fn field_value() -> impl Strategy<Value = HeaderValue> {
    vec(prop_oneof![8 => 0x20u8..0x7f, 1 => 0x80u8.., 1 => Just(b'\t')], 0..24)
        .prop_map(|bytes| HeaderValue::from_bytes(bytes.trim_ascii()).unwrap())
}

/// A field of a message, neither hop-by-hop nor with a meaning of its own.
fn field_name() -> impl Strategy<Value = HeaderName> {
    "x-[a-z0-9]{1,3}(-[a-z0-9]{1,3}){0,2}|accept|cookie|user-agent|etag|set-cookie"
        .prop_map(|name| HeaderName::try_from(name).unwrap())
}

fn fields() -> impl Strategy<Value = Vec<(HeaderName, HeaderValue)>> {
    vec((field_name(), field_value()), 0..8)
}

fn header_map(fields: &[(HeaderName, HeaderValue)]) -> HeaderMap {
    let mut map = HeaderMap::new();
    for (name, value) in fields {
        map.append(name, value.clone());
    }
    map
}

/// Repeated fields after they were joined.
fn joined(headers: &HeaderMap) -> HeaderMap {
    let mut map = HeaderMap::new();
    for name in headers.keys() {
        let separator: &[u8] = if name == "cookie" { b"; " } else { b", " };
        let values: Vec<_> = headers.get_all(name).iter().map(HeaderValue::as_bytes).collect();
        map.insert(name, HeaderValue::from_bytes(&values.join(separator)).unwrap());
    }
    map
}

type Heads = Result<Option<(Option<Kind>, u16, HeaderMap, Bytes)>, HeadError>;

/// Pushes `input` in pieces of these lengths, the rest at once. The body's start is what is left
/// of the piece that ended the head, and what comes after it.
fn parse_cut(input: &[u8], cuts: &[usize], limits: HeadLimits) -> Heads {
    let mut parser = HeadParser::new(limits);
    let mut rest = Bytes::copy_from_slice(input);
    for cut in cuts.iter().copied().chain([usize::MAX]) {
        let mut piece = rest.split_to(cut.min(rest.len()));
        if let Some(head) = parser.push(&mut piece)? {
            let body = [piece, rest].concat().into();
            let (status, headers) = (head.parts.status.as_u16(), head.parts.headers);
            return Ok(Some((Some(head.kind), status, headers, body)));
        }
        assert!(piece.is_empty(), "what is not the body is used up");
    }
    assert_eq!(parser.finish(), Err(HeadError::Truncated { bytes: input.len() }));
    Ok(None)
}

/// Lines such as a head has, mostly.
fn near_head() -> impl Strategy<Value = Vec<u8>> {
    let line = prop_oneof![
        4 => "[A-Za-z-]{1,6}: ?[ -~]{0,8}".prop_map(String::into_bytes),
        1 => select(vec!["Status: 404 x", "Status: 404", "Location: /p", "Location: https://a/"])
            .prop_map(|line| line.as_bytes().to_vec()),
        1 => select(vec!["Content-Length: 3", "Transfer-Encoding: chunked", "Connection: a, b"])
            .prop_map(|line| line.as_bytes().to_vec()),
        1 => vec(any::<u8>(), 0..10),
    ];
    let end = select(vec![&b"\n"[..], b"\r\n", b"\r", b"\n\n", b"\r\n\r\n", b""]);
    vec((line, end), 0..8).prop_map(|lines| {
        lines.into_iter().flat_map(|(line, end)| [&line[..], end].concat()).collect()
    })
}

/// A path such as a client sends, or an attacker.
fn url_path() -> impl Strategy<Value = String> {
    let piece = select(vec![
        "/",
        "/",
        "/",
        "a",
        "b.php",
        "c.jpg",
        ".",
        "..",
        ".php",
        ".PHP",
        "%2e",
        "%2F",
        "%5c",
        "\\",
        "%00",
        "%0a",
        "%C8%BA",
        "%25",
        "%",
        "%zz",
        "index.php",
        ".git",
        "x y",
        "?",
    ]);
    vec(piece, 0..10).prop_map(|pieces| format!("/{}", pieces.concat()))
}

proptest! {
    #[test]
    fn a_host_is_what_an_authority_is(
        host in prop_oneof![
            "[a-z0-9._-]{0,8}(:[0-9+]{0,6})?",
            "[a-zA-Z0-9._:@%\\[\\] é-]{0,12}",
        ],
    ) {
        let authority = Authority::try_from(host.as_str()).ok();
        let authority = authority.filter(|it| {
            let (name, rest) = (it.host(), it.as_str().strip_prefix(it.host()));
            let is_name = match name.strip_prefix('[') {
                Some(address) => address.trim_end_matches(']').parse::<Ipv6Addr>().is_ok(),
                None => !name.is_empty(),
            };
            let is_port = |port: &str| {
                port.bytes().all(|digit| digit.is_ascii_digit())
                    && (port.is_empty() || port.parse::<u16>().is_ok())
            };
            is_name && rest.is_some_and(|it| it.is_empty() || it.strip_prefix(':').is_some_and(is_port))
        });
        prop_assert_eq!(request::is_host(host.as_bytes()), host.is_empty() || authority.is_some());

        let Ok(field) = HeaderValue::from_str(&host) else { return Ok(()) };
        let (mut parts, ()) = Request::new(()).into_parts();
        parts.headers.insert("host", field);
        let params = ParamsBuilder::new().build(&parts, &Script::new("", "/"), RequestBody::None);
        match (params, authority) {
            (Ok(params), Some(authority)) => {
                let port = authority.port_u16().unwrap_or(80).to_string();
                prop_assert_eq!(params.get_str("SERVER_NAME"), Some(authority.host()));
                prop_assert_eq!(params.get_str("SERVER_PORT"), Some(&*port));
            }
            (built, authority) => {
                prop_assert!(authority.is_none());
                prop_assert_eq!(built.is_ok(), host.is_empty());
            }
        }
    }

    #[test]
    fn a_request_goes_there_and_back(
        method in select(vec![Method::GET, Method::POST, Method::OPTIONS, Method::PATCH]),
        version in select(vec![
            Version::HTTP_09, Version::HTTP_10, Version::HTTP_11, Version::HTTP_2, Version::HTTP_3,
        ]),
        target in "/[a-zA-Z0-9/%._~!$&'()*+,;=:@-]{0,20}(\\?[a-zA-Z0-9/%?=&+]{0,20})?",
        fields in fields(),
        host in proptest::option::of("[a-z]{1,8}(:[1-9][0-9]{0,3})?"),
        length in proptest::option::of(any::<u64>()),
        content_type in proptest::option::of("[a-z]{1,5}/[a-z]{1,5}"),
    ) {
        let (mut parts, ()) = Request::new(()).into_parts();
        (parts.method, parts.version) = (method, version);
        parts.uri = target.parse().unwrap();
        parts.headers = header_map(&fields);
        if let Some(host) = &host {
            parts.headers.insert("host", host.parse().unwrap());
        }
        if let Some(content_type) = &content_type {
            parts.headers.insert("content-type", content_type.parse().unwrap());
        }
        let body = length.map_or(RequestBody::Unknown, RequestBody::Length);
        let params = ParamsBuilder::new().build(&parts, &Script::default(), body).unwrap();
        if let Some(length) = length {
            parts.headers.insert("content-length", length.into());
        }
        let back = request::from_params(params).unwrap();
        prop_assert_eq!(back.method, parts.method);
        prop_assert_eq!(back.version, parts.version);
        prop_assert_eq!(back.uri, parts.uri);
        prop_assert_eq!(back.headers, joined(&parts.headers));
    }

    #[test]
    fn a_path_below_a_mount_comes_back_by_script_name_and_path_info(
        info in vec(prop_oneof![4 => 0x20u8..0x7f, 1 => 0x80u8..], 0..20),
        query in "[a-z=&%]{0,10}",
    ) {
        let mut params = Params::from_iter([("REQUEST_METHOD", "GET"), ("SCRIPT_NAME", "/app")]);
        let info = [b"/", &info[..]].concat();
        params.push("PATH_INFO", &info);
        params.push("QUERY_STRING", &query);
        let request = request::from_params(params).unwrap();
        prop_assert_eq!(request.uri.query().unwrap_or(""), query);
        let decode = Mount::new("/app").unwrap().encoded_slashes(EncodedSlashes::Decode);
        let is_plain = |segment: &[u8]| !matches!(segment, b"" | b"." | b"..");
        let segments: Vec<_> = info.split(|byte| *byte == b'/').skip(1).collect();
        if segments.iter().all(|segment| is_plain(segment)) {
            let script = decode.resolve(request.uri.path()).unwrap();
            prop_assert_eq!(script.path_info, info);
        }
    }

    #[test]
    fn no_parameters_panic(
        pairs in vec((
            prop_oneof![
                select(vec![
                    "REQUEST_METHOD", "REQUEST_URI", "SERVER_PROTOCOL", "SCRIPT_NAME", "PATH_INFO",
                    "QUERY_STRING", "CONTENT_LENGTH", "CONTENT_TYPE", "SCRIPT_FILENAME",
                    "REMOTE_ADDR", "HTTP_HOST", "HTTP_", "HTTPS",
                ]).prop_map(|name| name.as_bytes().to_vec()),
                vec(any::<u8>(), 0..12).prop_map(|rest| [b"HTTP_", &rest[..]].concat()),
                vec(any::<u8>(), 0..12),
            ],
            prop_oneof![
                select(vec![
                    "GET", "/", "/a?b#c", "http://a/b", "*", "HTTP/1.1", "-1", "proxy:fcgi://",
                ]).prop_map(|value| value.as_bytes().to_vec()),
                vec(any::<u8>(), 0..20),
            ],
        ), 0..20),
    ) {
        let params: Params = pairs.into_iter().collect();
        if let Ok(request) = request::from_params(params) {
            // What was taken can be sent on.
            let body = RequestBody::from_headers(&request.headers).unwrap();
            let _ = ParamsBuilder::new().build(&request, &Script::default(), body);
        }
    }

    #[test]
    fn a_head_goes_there_and_back_at_any_cut(
        status in 200u16..1000,
        fields in fields(),
        location in proptest::option::of("(https://[a-z]{1,5})?/[a-z]{0,5}"),
        length in proptest::option::of(any::<u64>()),
        body in vec(any::<u8>(), 0..40),
        cuts in vec(1usize..30, 0..20),
    ) {
        let (mut parts, ()) = Response::new(()).into_parts();
        parts.status = status.try_into().unwrap();
        parts.headers = header_map(&fields);
        if let Some(location) = &location {
            parts.headers.insert("location", location.parse().unwrap());
        }
        if let Some(length) = length {
            parts.headers.insert("content-length", length.into());
        }
        let block = HeadBlock::new(&parts).unwrap();
        prop_assert!(block.fits_record());
        let stdout = [block.as_ref(), &body].concat();
        let kind = if parts.status.is_redirection() && location.is_some() {
            Kind::ClientRedirect
        } else {
            Kind::Document
        };
        let read = parse_cut(&stdout, &cuts, HeadLimits::default());
        prop_assert_eq!(read, Ok(Some((Some(kind), status, parts.headers, body.into()))));
    }

    #[test]
    fn any_cut_of_any_bytes_gives_the_same(
        input in near_head(),
        cuts in vec(0usize..12, 0..30),
        bytes in 0usize..120,
        fields in 0usize..6,
    ) {
        let mut small = HeadLimits::default();
        (small.bytes, small.fields) = (bytes, fields);
        for limits in [small, HeadLimits::default()] {
            let whole = parse_cut(&input, &[], limits);
            prop_assert_eq!(parse_cut(&input, &cuts, limits), whole.clone());
            prop_assert_eq!(parse_cut(&input, &vec![1; input.len()], limits), whole);
        }
    }

    #[test]
    fn what_was_read_is_written_and_read_the_same(input in near_head()) {
        let input = [&input[..], b"\n\n"].concat();
        if let Ok(Some((Some(kind), status, headers, _))) =
            parse_cut(&input, &[], HeadLimits::default())
        {
            let (mut parts, ()) = Response::new(()).into_parts();
            (parts.status, parts.headers) = (status.try_into().unwrap(), headers.clone());
            let again = HeadBlock::new(&parts).unwrap().into_bytes();
            let again = parse_cut(&again, &[], HeadLimits::default()).unwrap().unwrap();
            prop_assert_eq!((again.1, again.2), (status, headers));
            let was_local = matches!(kind, Kind::LocalRedirect(_));
            prop_assert!(was_local || again.0 == Some(kind));
        }
    }

    #[test]
    fn variables_go_there_and_back_or_are_refused(
        variables in vec((
            prop_oneof![4 => "[A-Za-z_]{1,8}", 1 => "[ -~]{0,4}"],
            prop_oneof![4 => "[ -~]{0,12}".prop_map(String::into_bytes), 1 => vec(any::<u8>(), 0..4)],
        ), 0..6),
    ) {
        let variables: Params = variables.into_iter().collect();
        if let Ok(block) = authorizer::allow(&variables) {
            let mut parser = AnswerParser::new(HeadLimits::default());
            match parser.push(&mut block.into_bytes()) {
                Ok(Some(Answer::Allow { variables: read })) => prop_assert_eq!(read, variables),
                other => prop_assert!(false, "{:?} became {:?}", variables, other),
            }
        }
    }

    #[test]
    fn h_14_a_script_is_a_file_below_the_root_with_a_suffix(
        path in url_path(),
        files in vec(select(vec![
            "/srv/b.php", "/srv/a/b.php", "/srv/index.php", "/srv/a/index.php", "/srv/c.jpg",
            "/srv/Ⱥ.php", "/srv/b.php/index.php", "/srv/.git/index.php", "/srv/a/b.PHP",
        ]), 0..6),
        front in any::<bool>(),
        slashes in select(vec![EncodedSlashes::Refuse, EncodedSlashes::Decode]),
    ) {
        let mut builder = ScriptMap::builder("/srv").encoded_slashes(slashes);
        if front {
            builder = builder.front_controller("/index.php");
        }
        let map = builder.build().unwrap();
        let mut asked = Vec::new();
        let kind = |name: &[u8]| {
            asked.push(name.to_vec());
            let name = std::str::from_utf8(name).unwrap_or("");
            if files.contains(&name) {
                FileKind::File
            } else if files.iter().any(|file| file.starts_with(&format!("{name}/"))) {
                FileKind::Directory
            } else {
                FileKind::Missing
            }
        };
        let target = map.resolve(&path, kind);
        for name in asked {
            let mut segments = name.split(|byte| *byte == b'/').skip(1);
            prop_assert_eq!(segments.next(), Some(&b"srv"[..]));
            prop_assert!(!segments.any(|segment| matches!(segment, b"." | b"..")));
            prop_assert!(!name.iter().any(|byte| *byte < 0x20));
        }
        match target {
            Ok(Target::Script(script)) => {
                let file = String::from_utf8(script.script_filename.unwrap()).unwrap();
                prop_assert!(files.contains(&&*file), "{}", file);
                prop_assert!(file.ends_with(".php"));
                prop_assert_eq!(file.as_bytes(), [b"/srv", &script.script_name[..]].concat());
                prop_assert!(script.path_info.is_empty() || script.path_info.starts_with(b"/"));
            }
            Ok(Target::File { file_name }) => {
                let file = String::from_utf8(file_name).unwrap();
                prop_assert!(files.contains(&&*file));
                prop_assert!(!file.to_ascii_lowercase().ends_with(".php"), "{}", file);
            }
            Ok(Target::Redirect { location }) => {
                prop_assert!(location.starts_with('/') && !location.starts_with("//"));
            }
            Ok(_) | Err(_) => {}
        }
        let _ = map.resolve_unseen(&path);
    }
}
