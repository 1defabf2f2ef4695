//! The Authorizer's requests and answers.

use bytes::Bytes;
use fcgi_http::{
    HeadError, Kind,
    authorizer::{self, Answer, AnswerParser},
    response::HeadWriteError,
};
use fcgi_proto::Params;
use http::Response;

fn parse(input: &[u8]) -> Result<(Answer, Bytes), HeadError> {
    let mut parser = AnswerParser::new(Default::default());
    let mut input = Bytes::copy_from_slice(input);
    match parser.push(&mut input)? {
        Some(answer) => Ok((answer, input)),
        None => Err(parser.finish().expect_err("the answer is not whole")),
    }
}

fn variables(input: &str) -> Params {
    match parse(input.as_bytes()) {
        Ok((Answer::Allow { variables }, _)) => variables,
        other => panic!("{input:?} gave {other:?}"),
    }
}

#[test]
fn fc_6_3_1_four_parameters_are_not_sent() {
    let all = [
        ("CONTENT_LENGTH", "1"),
        ("REQUEST_METHOD", "GET"),
        ("PATH_INFO", "/x"),
        ("PATH_TRANSLATED", "/srv/x"),
        ("SCRIPT_NAME", "/a.php"),
        ("SCRIPT_FILENAME", "/srv/a.php"),
        ("HTTP_AUTHORIZATION", "Basic x"),
    ];
    let sent = authorizer::params(&Params::from_iter(all));
    assert_eq!(
        sent,
        Params::from_iter([
            ("REQUEST_METHOD", "GET"),
            ("SCRIPT_FILENAME", "/srv/a.php"),
            ("HTTP_AUTHORIZATION", "Basic x"),
        ])
    );
}

#[test]
fn fc_6_3_2_status_200_allows_and_its_variables_are_taken() {
    let taken = variables(
        "Status: 200 OK\r\nVariable-AUTH_METHOD: database lookup\r\nX-Other: dropped\r\n\
         variable-MixedCase:\tv\r\nVariable-EMPTY:\r\n\r\nbody",
    );
    let expected = [("AUTH_METHOD", "database lookup"), ("MixedCase", "v"), ("EMPTY", "")];
    assert_eq!(taken, Params::from_iter(expected));
    assert!(variables("Status: 200\n\n").is_empty());
    assert_eq!(variables("Variable-A: 1\n\n"), Params::from_iter([("A", "1")]), "200 is implied");
}

#[test]
fn fc_6_3_2_another_status_denies_and_the_response_is_the_clients() {
    let (answer, body) = parse(
        b"Status: 401 Unauthorized\nWWW-Authenticate: Basic\nVariable-REMOTE_USER: x\n\
          Set-Cookie: a\nSet-Cookie: b\n\nbody",
    )
    .unwrap();
    let Answer::Deny(head) = answer else { panic!("it was denied") };
    assert_eq!((head.parts.status.as_u16(), &body[..]), (401, &b"body"[..]));
    let names: Vec<_> = head.parts.headers.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(names, ["www-authenticate", "set-cookie", "set-cookie"]);

    for input in ["Status: 201 x\n\n", "Status: 204 x\n\n", "Location: https://a/\n\n"] {
        assert!(matches!(parse(input.as_bytes()), Ok((Answer::Deny(_), _))), "{input:?}");
    }
    let Ok((Answer::Deny(head), _)) = parse(b"Location: /login\n\n") else { panic!() };
    assert_eq!(head.kind, Kind::LocalRedirect("/login".parse().unwrap()));
}

#[test]
fn fc_6_3_2_a_bad_answer_never_allows() {
    for (input, error) in [
        ("", HeadError::Truncated { bytes: 0 }),
        ("\n", HeadError::Empty),
        ("Status: 200 OK\n", HeadError::Truncated { bytes: 15 }),
        ("Status: 200 OK\nStatus: 403 x\n\n", HeadError::Repeated("Status")),
        ("Status: 200 OK\nVariable-: x\n\n", HeadError::FieldName("Variable-".into())),
        ("Status: 200 OK\nVariable-A B: x\n\n", HeadError::FieldName("Variable-A B: x".into())),
        ("Status: 200 OK\nVariable-A: \0\n\n", HeadError::FieldValue("Variable-A: \\x00".into())),
    ] {
        assert_eq!(parse(input.as_bytes()).map(drop), Err(error), "{input:?}");
    }
}

#[test]
fn fc_6_3_2_variables_replace_parameters_of_their_name() {
    let params = Params::from_iter([
        ("REMOTE_USER", "mallory"),
        ("CONTENT_LENGTH", "3"),
        ("A", "1"),
        ("REMOTE_USER", "mallory too"),
    ]);
    let variables =
        Params::from_iter([("REMOTE_USER", "alice"), ("CONTENT_LENGTH", "9"), ("NEW", "n")]);
    assert_eq!(
        authorizer::merge(&params, &variables),
        Params::from_iter([
            ("CONTENT_LENGTH", "3"),
            ("A", "1"),
            ("REMOTE_USER", "alice"),
            ("NEW", "n"),
        ])
    );
    let none = authorizer::merge(&Params::new(), &Params::from_iter([("CONTENT_LENGTH", "9")]));
    assert!(none.is_empty(), "a length without a body");
}

#[test]
fn an_answer_is_written_in_lines_that_can_be_read() {
    for (name, value) in [
        ("A", "x\r\nStatus: 200 OK"),
        ("A", "x\ny"),
        ("A", "\0"),
        ("A", " x"),
        ("A", "x\t"),
        ("", "x"),
        ("A B", "x"),
        ("A\r\nB", "x"),
        ("A:", "x"),
    ] {
        let result = authorizer::allow(&Params::from_iter([(name, value)]));
        assert!(matches!(result, Err(HeadWriteError::Field(_))), "{name:?}: {value:?}");
    }
    let (denial, ()) = Response::builder()
        .status(403)
        .header("Content-Type", "text/plain")
        .body(())
        .unwrap()
        .into_parts();
    assert_eq!(
        authorizer::deny(&denial).unwrap().as_ref(),
        b"Status: 403 Forbidden\r\ncontent-type: text/plain\r\n\r\n"
    );
    let (ok, ()) = Response::new(()).into_parts();
    assert_eq!(authorizer::deny(&ok), Err(HeadWriteError::DenyWithOk));
}
