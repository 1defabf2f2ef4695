//! `fcgi tap`: what it prints.

mod common;

use std::process::Stdio;

use common::{
    fcgi,
    gateway::until,
    tap::{PAGE, Tap, get, page},
};
use fcgi_testkit::wire::{
    CLOSE, KEEP, RESPONDER, Type, begin, close, pair, record, request, stream,
};
use rustix::process::Signal;
use serde_json::Value;

/// Numbers that depend on the clock become `#`: those before ` ms`, and a line's first one.
fn without_times(text: &str) -> String {
    let mut out = String::new();
    for line in text.lines() {
        let mut words: Vec<String> = line.split(' ').map(str::to_owned).collect();
        for n in 0..words.len() {
            if n + 1 < words.len() && words[n + 1].trim_end_matches(',') == "ms" {
                words[n] = "#".to_owned();
            }
        }
        if let Some(word) = words.iter_mut().find(|word| !word.is_empty() && word.contains('.')) {
            if word.parse::<f64>().is_ok() {
                *word = "#.###".to_owned();
            }
        }
        out.push_str(&words.join(" "));
        out.push('\n');
    }
    out
}

#[test]
fn a_request_is_a_line() {
    let mut tap = Tap::start(page("PHP Notice:\x1b[2J at 1\nmore\n", PAGE).to_string(), &[]);
    let mut web = tap.connect();
    web.send(get(1, "/a b?x=1&token=hidden"));
    web.answer(1);
    let pairs = [("REQUEST_METHOD", "POST"), ("SCRIPT_NAME", "/up"), ("QUERY_STRING", "q=1")];
    web.send(request(2, KEEP, &pairs, b"12345"));
    web.answer(2);
    tap.lines(6);
    tap.signal(Signal::TERM);
    assert_eq!(tap.wait().code(), Some(0));
    let expected = "    1  STDERR: PHP Notice:\\x1b[2J at 1
    1  STDERR: more
    1  GET /a\\x20b?x=1&token=******  404  first # ms, total # ms  in 0 B, out 61 B, STDERR 26 B
    2  STDERR: PHP Notice:\\x1b[2J at 1
    2  STDERR: more
    2  POST /up?q=1  404  first # ms, total # ms  in 5 B, out 61 B, STDERR 26 B
";
    assert_eq!(without_times(&tap.stdout()), expected);
    assert!(tap.stderr().ends_with("fcgi tap: 2 requests on 1 connections\n"), "{}", tap.stderr());
}

#[test]
fn verbose_shows_every_record() {
    let tap = Tap::start(page("a warning\n", PAGE).to_string(), &["-v"]);
    let mut web = tap.connect();
    web.send(record(Type::GetValues, 0, &pair(b"FCGI_MPXS_CONNS", b"")));
    // A pair that is cut over records is shown when it is whole (FC-3.4-3).
    let all = [pair(b"REQUEST_METHOD", b"PUT"), pair(b"HTTP_COOKIE", b"a=hidden")].concat();
    let (one, other) = all.split_at(30);
    web.send(
        [
            begin(1, RESPONDER, CLOSE),
            record(Type::Params, 1, one),
            record(Type::Params, 1, other),
            close(Type::Params, 1),
            stream(Type::Stdin, 1, b"one\ntwo\nthree\nfour\nfive\n"),
            close(Type::Stdin, 1),
        ]
        .concat(),
    );
    web.answer(1);
    let expected =
        "    #.###     1  web → app  GET_VALUES          0      17    7  FCGI_MPXS_CONNS=
    #.###     1  web → app  BEGIN_REQUEST       1       8    0  Responder, no keep_conn
    #.###     1  web → app  PARAMS              1      30    2  REQUEST_METHOD=PUT
    #.###     1  web → app  PARAMS              1      10    6  HTTP_COOKIE=********
    #.###     1  web → app  PARAMS              1       0    0  end of PARAMS
    #.###     1  web → app  STDIN               1      24    0  one\\n
                                                                two\\n
                                                                three\\n
                                                                four\\n
                                                                … 5 bytes more
    #.###     1  web → app  STDIN               1       0    0  end of STDIN
    #.###     1  web ← app  STDERR              1      10    6  a warning\\n
    #.###     1  web ← app  STDOUT              1      61    3  Status: 404 Not Found\\r\\n
                                                                Set-Cookie: *********\\r\\n
                                                                \\r\\n
                                                                nothing here\\n
    #.###     1  web ← app  STDOUT              1       0    0  end of STDOUT
    #.###     1  web ← app  END_REQUEST         1       8    0  app status 0, REQUEST_COMPLETE
    1  PUT -  404  first # ms, total # ms  in 24 B, out 61 B, STDERR 10 B
";
    tap.lines(expected.lines().count());
    assert_eq!(without_times(&tap.stdout()), expected);
}

#[test]
fn json_is_one_object_a_line() {
    let mut tap = Tap::start(page("oh", PAGE).to_string(), &["--json"]);
    let mut web = tap.connect();
    web.send(get(7, "/x"));
    web.answer(7);
    tap.lines(1);
    tap.stop();
    let lines: Vec<Value> =
        tap.lines(2).iter().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    let request = &lines[0];
    for (name, value) in [
        ("v", Value::from(1)),
        ("event", "request".into()),
        ("request", 1.into()),
        ("connection", 1.into()),
        ("request_id", 7.into()),
        ("role", "Responder".into()),
        ("method", "GET".into()),
        ("path", "/x".into()),
        ("status", 404.into()),
        ("app_status", 0.into()),
        ("ended", true.into()),
        ("stdin_bytes", 0.into()),
        ("stdout_bytes", 61.into()),
        ("stderr_bytes", 2.into()),
    ] {
        assert_eq!(request[name], value, "{name} of {request}");
    }
    let (first, total) = (request["first_byte_ms"].as_f64(), request["total_ms"].as_f64());
    assert!(first.is_some() && first <= total, "{request}");
    assert_eq!((&lines[1]["event"], &lines[1]["exit_status"]), (&"end".into(), &0.into()));
}

#[test]
fn filters_choose_requests() {
    let application = page("", PAGE).to_string();
    for (filters, expected) in [
        (&["/b"][..], &["/b"][..]),
        (&["path=/*"], &["/a?x", "/b", "/c"]),
        (&["!path=/?"], &["/a?x", "/b", "/c"]),
        (&["path=/a*", "method=GET"], &["/a?x"]),
        (&["method=POST"], &[]),
        (&["status=404"], &["/a?x", "/b", "/c"]),
        (&["status=5xx,cut"], &[]),
        (&["status>=400", "!/b"], &["/a?x", "/c"]),
        (&["!stderr", "ms>=0"], &["/a?x", "/b", "/c"]),
        (&["REQUEST_URI=/c"], &["/c"]),
    ] {
        let args: Vec<&str> = filters.iter().flat_map(|filter| ["--filter", filter]).collect();
        let mut tap = Tap::start(&application, &args);
        let mut web = tap.connect();
        for uri in ["/a?x", "/b", "/c"] {
            web.send(get(1, uri));
            web.answer(1);
        }
        tap.stop();
        let stdout = tap.stdout();
        let paths: Vec<_> = stdout.lines().map(|line| line.split_whitespace().nth(2)).collect();
        let expected: Vec<_> = expected.iter().map(|path| Some(*path)).collect();
        assert_eq!(paths, expected, "{filters:?}");
    }
    // Records are held back until that is known.
    let tap = Tap::start(&application, &["-v", "--filter", "/b"]);
    let mut web = tap.connect();
    for uri in ["/a", "/b", "/c"] {
        web.send(get(1, uri));
        web.answer(1);
    }
    drop(web);
    let shown = tap.lines(15);
    assert!(shown[0].contains("BEGIN_REQUEST") && shown[14].contains("GET /b"), "{shown:#?}");
    let output = fcgi().args(["tap", "--listen", "x", "y", "--filter", "status=no"]).output();
    assert_eq!(output.expect("it runs").status.code(), Some(2));
}

#[test]
fn nobody_to_carry_to() {
    let folder = tempfile::tempdir().expect("a folder");
    let nowhere = folder.path().join("none.sock");
    let mut tap = Tap::start(nowhere.display(), &[]);
    let mut web = tap.connect();
    web.expect_end();
    until("it says so", || tap.stderr().contains("connection 1: connect to unix:"));
    assert!(tap.stderr().contains("No such file"), "{}", tap.stderr());
    assert_eq!(tap.stop().code(), Some(0));
}

#[test]
fn what_can_not_start_says_why() {
    let run = |args: &[&str]| {
        let output = fcgi().arg("tap").args(args).stdin(Stdio::null()).output().expect("it runs");
        (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
    };
    let (code, said) = run(&["--listen", "/nonexistent/x.sock", "127.0.0.1:1"]);
    assert_eq!(code, Some(5), "{said}");
    assert!(said.starts_with("fcgi tap: listen at unix:/nonexistent/x.sock: "), "{said}");
    let (code, said) =
        run(&["--listen", "127.0.0.1:0", "127.0.0.1:1", "--write", "/nonexistent/f"]);
    assert_eq!(code, Some(2), "{said}");
    assert!(said.starts_with("fcgi tap: write /nonexistent/f: "), "{said}");
    assert_eq!(run(&["127.0.0.1:1"]).0, Some(2), "--listen is needed");
    // For programs it is an object.
    let output = fcgi()
        .args(["tap", "--listen", "/nonexistent/x.sock", "127.0.0.1:1", "--json"])
        .output()
        .expect("it runs");
    let end: Value = serde_json::from_slice(&output.stdout).expect("an object");
    assert_eq!((&end["event"], &end["exit_status"]), (&"end".into(), &5.into()), "{end}");
    assert_eq!((output.status.code(), &*output.stderr), (Some(5), &b""[..]));
}
