//! Response heads, read and written: the rules, the quirks, the hostile lines.

use bytes::Bytes;
use fcgi_http::{
    BodyLength, BodyLengthError,
    response::{
        Head, HeadBlock, HeadError, HeadLimits, HeadParser, HeadWriteError, Kind, ReasonPhrase,
    },
};
use http::{Method, Response, StatusCode};

/// What one push of everything gives, and the body's start.
fn parse(input: &[u8]) -> Result<(Head, Bytes), HeadError> {
    let mut parser = HeadParser::new(HeadLimits::default());
    let mut input = Bytes::copy_from_slice(input);
    match parser.push(&mut input)? {
        Some(head) => {
            assert_eq!(parser.finish(), Ok(()));
            Ok((head, input))
        }
        None => Err(parser.finish().expect_err("the head is not whole")),
    }
}

fn lines(head: &Head) -> Vec<String> {
    let text = |value: &http::HeaderValue| String::from_utf8_lossy(value.as_bytes()).into_owned();
    head.parts.headers.iter().map(|(name, value)| format!("{name}: {}", text(value))).collect()
}

fn reason(head: &Head) -> &[u8] {
    head.parts.extensions.get::<ReasonPhrase>().map_or(b"", |reason| reason.as_bytes())
}

#[test]
fn cgi_6_3_1_lines_end_with_lf_or_crlf() {
    for input in [
        "Status: 404 Not Found\nContent-Type: a/b\n\nbody",
        "Status: 404 Not Found\r\nContent-Type: a/b\r\n\r\nbody",
        "Status: 404 Not Found\nContent-Type: a/b\r\n\nbody",
        "status:404 Not Found\r\nCONTENT-TYPE:\t a/b \t\n\r\nbody",
    ] {
        let (head, body) = parse(input.as_bytes()).unwrap();
        assert_eq!((head.parts.status, reason(&head)), (StatusCode::NOT_FOUND, &b"Not Found"[..]));
        assert_eq!(lines(&head), ["content-type: a/b"]);
        assert_eq!(head.kind, Kind::Document);
        assert_eq!(body, "body", "{input:?}");
    }
}

#[test]
fn cgi_6_3_1_status_has_a_default() {
    for (fields, status, reason) in [
        ("Content-Type: a/b", 200, ""),
        ("Content-Type: a/b\nStatus: 201", 201, ""),
        ("Content-Type: a/b\nStatus: 299 Very  well ", 299, "Very  well"),
        ("Status: 999 x", 999, "x"),
        ("Location: https://example.org/", 302, ""),
        ("Location: https://example.org/\nContent-Type: a/b", 302, ""),
        ("Location: /p\nContent-Type: a/b", 302, ""),
        ("Location: https://example.org/\nStatus: 301 Moved", 301, "Moved"),
        ("Location: /created\nStatus: 201 Created", 201, "Created"),
    ] {
        let (head, _) = parse(format!("{fields}\n\n").as_bytes()).unwrap();
        assert_eq!(head.parts.status, status, "{fields}");
        assert_eq!(self::reason(&head), reason.as_bytes(), "{fields}");
    }
    for value in ["", "20", "2000", "abc", "-20", "200OK", "100 Continue", "101 x", "099", "2 0"] {
        let input = format!("Status: {value}\n\n");
        assert_eq!(parse(input.as_bytes()).unwrap_err(), HeadError::Status(value.into()));
    }
}

#[test]
fn cgi_6_2_2_1_location_is_local_or_not() {
    let local = |path: &str| Kind::LocalRedirect(path.parse().unwrap());
    for (fields, kind) in [
        ("Location: /p?q=1", local("/p?q=1")),
        ("location:/p", local("/p")),
        // Not alone, so that something would be lost: the client is redirected.
        ("Location: /p\nStatus: 302 Found", Kind::ClientRedirect),
        ("Location: /p\nSet-Cookie: a=b", Kind::ClientRedirect),
        // Not a path of this server, or with a fragment for the client to keep.
        ("Location: //evil.example/p", Kind::ClientRedirect),
        ("Location: /p#f", Kind::ClientRedirect),
        ("Location: https://example.org/p", Kind::ClientRedirect),
        ("Location: p", Kind::ClientRedirect),
        ("Location: /p\nStatus: 201 Created", Kind::Document),
        ("Content-Type: a/b\nStatus: 304 Not Modified", Kind::Document),
    ] {
        let (head, _) = parse(format!("{fields}\n\n").as_bytes()).unwrap();
        assert_eq!(head.kind, kind, "{fields}");
    }
    let error = parse(b"Location: /a b\n\n").unwrap_err();
    assert_eq!(error, HeadError::Location("/a b".into()));
}

#[test]
fn cgi_6_3_4_1_repeated_fields_are_kept_apart() {
    let (head, _) = parse(b"Set-Cookie: a=1, x\nX-A: 1\nSet-Cookie: b=2\nX-A: 2\n\n").unwrap();
    let cookies: Vec<_> = head.parts.headers.get_all("set-cookie").iter().collect();
    assert_eq!(cookies, ["a=1, x", "b=2"]);
    assert_eq!(head.parts.headers.get_all("x-a").iter().count(), 2);
    for name in ["Status", "Location", "Content-Type", "Content-Length"] {
        let value = if name == "Status" { "200 OK" } else { "5" };
        let input = format!("{name}: {value}\n{name}: {value}\n\n");
        assert_eq!(parse(input.as_bytes()).unwrap_err(), HeadError::Repeated(name));
    }
}

#[test]
fn cgi_6_3_4_1_bad_lines_are_bad_responses() {
    type Kind = fn(String) -> HeadError;
    let cases: &[(&[u8], &str, Kind)] = &[
        (b"X: a\rb\n\n", "X: a\\rb", HeadError::FieldValue),
        (b"X: a\r\r\n\r\n", "X: a\\r", HeadError::FieldValue),
        (b"X: a\rSet-Cookie: b\n\n", "X: a\\rSet-Cookie: b", HeadError::FieldValue),
        (b"X: \0\n\n", "X: \\x00", HeadError::FieldValue),
        (b"X: \x1b[31m\n\n", "X: \\x1b[31m", HeadError::FieldValue),
        (b"X: \x7f\n\n", "X: \\x7f", HeadError::FieldValue),
        (b"\0X: a\n\n", "\\x00X: a", HeadError::FieldName),
        (b"X : a\n\n", "X : a", HeadError::FieldName),
        (b"X Y: a\n\n", "X Y: a", HeadError::FieldName),
        (b": a\n\n", ": a", HeadError::FieldName),
        (b"X\xfc: a\n\n", "X\\xfc: a", HeadError::FieldName),
        (b"X\r: a\n\n", "X\\r: a", HeadError::FieldName),
        (b"<html>\n\n", "<html>", HeadError::NoColon),
        (b"X: a\nfoo\n\n", "foo", HeadError::NoColon),
        (b"X: a\n b\n\n", " b", HeadError::Continuation),
        (b"X: a\n\tb: c\n\n", "\\tb: c", HeadError::Continuation),
        (b" X: a\n\n", " X: a", HeadError::Continuation),
        (b"HTTP/1.1 200 OK\r\nX: a\r\n\r\n", "HTTP/1.1 200 OK", HeadError::StatusLine),
        (b"http/1.0 200: OK\n\n", "http/1.0 200: OK", HeadError::StatusLine),
        (b"Content-Length: -1\n\n", "-1", HeadError::ContentLength),
        (b"Content-Length: 5, 5\n\n", "5, 5", HeadError::ContentLength),
        (b"Content-Length:\n\n", "", HeadError::ContentLength),
        (
            b"Content-Length: 18446744073709551616\n\n",
            "18446744073709551616",
            HeadError::ContentLength,
        ),
    ];
    for (input, shown, kind) in cases {
        let shown = (*shown).to_owned();
        assert_eq!(parse(input).unwrap_err(), kind(shown), "{}", input.escape_ascii());
    }
    for input in [&b"\n"[..], b"\r\n\r\n", b"\nX: a\n\n"] {
        assert_eq!(parse(input).unwrap_err(), HeadError::Empty);
    }
    assert_eq!(HeadError::Empty.status(), 502);
    // Bytes above ASCII are legal in a value, and the empty value too.
    let (head, _) = parse(b"X: \xfc\nY:\n\n").unwrap();
    assert_eq!(head.parts.headers["x"].as_bytes(), b"\xfc");
    assert_eq!(head.parts.headers["y"], "");
}

#[test]
fn cgi_6_3_4_1_a_head_has_limits() {
    let mut limits = HeadLimits::default();
    (limits.bytes, limits.fields) = (20, 2);
    let run = |input: &str| {
        let mut parser = HeadParser::new(limits);
        let mut input = Bytes::copy_from_slice(input.as_bytes());
        parser.push(&mut input).map(|head| head.map(|_| input))
    };
    let filled = "X: 12345678901234\n\n";
    assert_eq!(run(&format!("{filled}0")), Ok(Some(Bytes::from_static(b"0"))), "19 and a body");
    assert_eq!(run("X: 123456789012345\n\nbody"), Ok(Some(Bytes::from_static(b"body"))), "20");
    let too_large = Err(HeadError::TooLarge { limit: 20 });
    assert_eq!(run("X: 1234567890123456\n\n"), too_large, "21");
    assert_eq!(run(&"X".repeat(21)), too_large);
    assert_eq!(run(&"X".repeat(20)), Ok(None));
    assert_eq!(run("A: 1\nB: 2\n\n"), Ok(Some(Bytes::new())));
    assert_eq!(run("A: 1\nB: 2\nC: 3\n\n"), Err(HeadError::TooManyFields { limit: 2 }));
    // A bad line is reported before a limit that only the lines after it pass.
    assert_eq!(run("bad\nXXXXXXXXXXXXXXXXXXXX"), Err(HeadError::NoColon("bad".into())));
}

#[test]
fn an_endless_head_ends_at_its_limit_whatever_its_form() {
    let long_line = [b"X: ".to_vec(), vec![b'y'; 300], b"\n".to_vec()].concat();
    for (piece, expected) in [
        (b"X".to_vec(), HeadError::TooLarge { limit: 65_536 }),
        (b"X: y".to_vec(), HeadError::TooLarge { limit: 65_536 }),
        (b"X: y\r\n".to_vec(), HeadError::TooManyFields { limit: 256 }),
        (long_line, HeadError::TooLarge { limit: 65_536 }),
    ] {
        let mut parser = HeadParser::new(HeadLimits::default());
        let mut pushed = 0;
        let error = loop {
            assert!(pushed < 70_000, "{} goes on", piece.escape_ascii());
            pushed += piece.len();
            match parser.push(&mut Bytes::copy_from_slice(&piece)) {
                Ok(head) => assert!(head.is_none()),
                Err(error) => break error,
            }
        };
        assert_eq!(error, expected);
        // And it stays so.
        assert_eq!(parser.push(&mut Bytes::from_static(b"\n\n")).unwrap_err(), expected);
        assert_eq!(parser.finish(), Err(expected));
    }
}

#[test]
fn q_13_q_14_a_response_that_ends_in_its_head_is_truncated() {
    for input in ["", "Status: 200 OK", "Status: 200 OK\r\n", "Status: 200 OK\n\r"] {
        assert_eq!(
            parse(input.as_bytes()).unwrap_err(),
            HeadError::Truncated { bytes: input.len() }
        );
    }
}

#[test]
fn a_head_is_read_once_and_its_body_is_not_copied() {
    let whole = Bytes::from_static(b"X: a\n\nbody: b\n\n");
    let mut input = whole.clone();
    let mut parser = HeadParser::new(HeadLimits::default());
    assert!(parser.push(&mut input).unwrap().is_some());
    assert_eq!(input, "body: b\n\n");
    assert_eq!(input.as_ptr(), whole[6..].as_ptr(), "the same bytes");
    assert_eq!(parser.push(&mut input).unwrap_err(), HeadError::Finished);
    assert_eq!(input, "body: b\n\n", "and they are left alone");
}

#[test]
fn cgi_6_3_5_1_hop_by_hop_fields_are_removed() {
    let (head, _) = parse(
        b"Connection: close, X-Mine\nTransfer-Encoding: chunked\nKeep-Alive: 5\nUpgrade: x\n\
          Trailer: y\nTE: z\nProxy-Connection: a\nX-Mine: b\nX-Other: c\n\n",
    )
    .unwrap();
    assert_eq!(lines(&head), ["x-other: c"]);
}

#[test]
fn cgi_6_3_5_1_content_length_is_held_against_the_body() {
    let (head, _) = parse(b"Content-Length: 5\n\n").unwrap();
    let mut body = BodyLength::of_response(&head.parts, &Method::GET).unwrap();
    assert_eq!(body.declared(), Some(5));
    assert_eq!(body.accept(4), Ok(4));
    assert_eq!(body.finish(), Err(BodyLengthError::TooShort { declared: 5, seen: 4 }));
    assert_eq!(body.accept(2), Err(BodyLengthError::TooLong { declared: 5, seen: 6 }));
    assert_eq!((body.seen(), body.remaining()), (4, Some(1)), "nothing was counted");
    assert_eq!(body.accept(1), Ok(1));
    assert_eq!(body.finish(), Ok(()));
    assert!(body.accept(usize::MAX).is_err());

    let (head, _) = parse(b"X: a\n\n").unwrap();
    let mut body = BodyLength::of_response(&head.parts, &Method::GET).unwrap();
    assert_eq!((body.declared(), body.accept(7), body.finish()), (None, Ok(7), Ok(())));
}

#[test]
fn responses_without_a_body_have_none_whatever_they_declare() {
    for (method, status) in
        [(Method::HEAD, "200 OK"), (Method::GET, "204 x"), (Method::GET, "304 x")]
    {
        let (head, _) =
            parse(format!("Status: {status}\nContent-Length: 5\n\n").as_bytes()).unwrap();
        let mut body = BodyLength::of_response(&head.parts, &method).unwrap();
        assert!(body.is_dropped());
        assert_eq!((body.finish(), body.accept(9), body.finish()), (Ok(()), Ok(0), Ok(())));
        assert_eq!(head.parts.headers["content-length"], "5", "the field stays");
    }
}

fn written(response: http::response::Builder) -> Result<String, HeadWriteError> {
    let (parts, ()) = response.body(()).unwrap().into_parts();
    HeadBlock::new(&parts).map(|head| String::from_utf8(head.into_bytes().to_vec()).unwrap())
}

#[test]
fn w_2_the_head_always_has_a_status() {
    for (status, line) in [
        (200, "Status: 200 OK"),
        (302, "Status: 302 Found"),
        (299, "Status: 299 Success"),
        (399, "Status: 399 Redirection"),
        (499, "Status: 499 Client Error"),
        (599, "Status: 599 Server Error"),
        (999, "Status: 999 Server Error"),
    ] {
        let head = written(Response::builder().status(status).header("Location", "/p")).unwrap();
        assert_eq!(head, format!("{line}\r\nlocation: /p\r\n\r\n"));
    }
    assert_eq!(written(Response::builder()).unwrap(), "Status: 200 OK\r\n\r\n");
    for status in [100, 101] {
        assert!(matches!(
            written(Response::builder().status(status)),
            Err(HeadWriteError::Informational(_))
        ));
    }
}

#[test]
fn w_3_hop_by_hop_fields_are_not_written() {
    let head = written(
        Response::builder()
            .header("Connection", "x-mine, close")
            .header("X-Mine", "a")
            .header("Transfer-Encoding", "chunked")
            .header("Keep-Alive", "5")
            .header("Upgrade", "h2c")
            .header("Trailer", "x")
            .header("TE", "x")
            .header("Status", "500 injected")
            .header("Set-Cookie", "a=1")
            .header("Set-Cookie", "b=2"),
    );
    assert_eq!(head.unwrap(), "Status: 200 OK\r\nset-cookie: a=1\r\nset-cookie: b=2\r\n\r\n");
}

#[test]
fn w_4_content_length_is_one_number() {
    for value in ["5, 5", "+5", ""] {
        assert_eq!(
            written(Response::builder().header("Content-Length", value)),
            Err(HeadWriteError::ContentLength(BodyLengthError::Invalid(value.into())))
        );
    }
    let twice = Response::builder().header("Content-Length", "5").header("Content-Length", "6");
    assert_eq!(
        written(twice),
        Err(HeadWriteError::ContentLength(BodyLengthError::Invalid("5, 6".into())))
    );
}

#[test]
fn w_1_a_head_says_whether_it_fits_a_record() {
    let block = |n: usize| {
        let (parts, ()) =
            Response::builder().header("X", "a".repeat(n)).body(()).unwrap().into_parts();
        HeadBlock::new(&parts).unwrap()
    };
    let rest = block(0).len();
    let fits = block(65_535 - rest);
    assert_eq!((fits.len(), fits.fits_record()), (65_535, true));
    assert!(!block(65_536 - rest).fits_record());
}
