//! `echo`, and `call` with it.

use std::time::{Duration, Instant};

use super::assert_fails;
use crate::suite::{Case, Suite, signal::pattern};

pub(super) const CASES: &[(&str, Case)] = cases![
    "programs":
    echo_sends_parameters_stdin_and_data_back,
    echo_sends_a_large_body_back_q_15,
    echo_authorizes_whoever_has_credentials_fc_6_3_1,
    echo_is_steered_by_parameters,
];

const HEAD: &str = "Content-Type: text/plain\r\n\r\n";

fn echo_sends_parameters_stdin_and_data_back(suite: &Suite) {
    let programs = suite.programs();
    let echo = programs.start("echo");
    let data = echo.folder.path().join("data");
    std::fs::write(&data, "the file").unwrap();
    let output = programs.call_with(
        b"the body",
        &[&echo.address, "--param", "B=2=3", "--param", "A=", "--param", "B=1", "--stdin", "-"],
    );
    assert!(output.status.success());
    let expected = format!("{HEAD}B=2=3\nA=\nB=1\nCONTENT_LENGTH=8\n\nthe body");
    assert_eq!(String::from_utf8_lossy(&output.stdout), expected);
    assert_eq!(output.stderr, b"");
    let output = programs.call_with(
        b"form",
        &[&echo.address, "--role", "filter", "--stdin", "-", "--data", data.to_str().unwrap()],
    );
    let expected = format!("{HEAD}CONTENT_LENGTH=4\n\nformthe file");
    assert_eq!(String::from_utf8_lossy(&output.stdout), expected);
    // No STDIN, no parameters.
    let output = programs.call(&[&echo.address, "--keep-conn"]);
    assert_eq!(String::from_utf8_lossy(&output.stdout), format!("{HEAD}\n"));
}

fn echo_sends_a_large_body_back_q_15(suite: &Suite) {
    let programs = suite.programs();
    let echo = programs.start("echo");
    let body = pattern(30 << 20, 5);
    let file = echo.folder.path().join("body");
    std::fs::write(&file, &body).unwrap();
    let output = programs.call(&[&echo.address, "--stdin", file.to_str().unwrap()]);
    assert!(output.status.success());
    let head = format!("{HEAD}CONTENT_LENGTH={}\n\n", body.len());
    assert!(output.stdout.starts_with(head.as_bytes()));
    assert!(output.stdout[head.len()..] == body, "the body came back changed");
    // Both streams of a Filter.
    let half = echo.folder.path().join("half");
    std::fs::write(&half, &body[..3 << 20]).unwrap();
    let files = ["--stdin", half.to_str().unwrap(), "--data", file.to_str().unwrap()];
    let output =
        programs.call(&[&[echo.address.as_str(), "--role", "filter"][..], &files].concat());
    assert!(output.status.success());
    let expected = [&body[..3 << 20], &body].concat();
    assert!(output.stdout.ends_with(&expected), "the streams came back changed");
}

fn echo_authorizes_whoever_has_credentials_fc_6_3_1(suite: &Suite) {
    let programs = suite.programs();
    let echo = programs.start("echo");
    let output = programs.call(&[&echo.address, "--role", "authorizer"]);
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(text.starts_with("Status: 403") && text.ends_with("\r\n\r\n"), "{text:?}");
    let credentials = ["--param", "HTTP_AUTHORIZATION=Basic eA==", "--param", "SECRET=1"];
    let output = programs
        .call(&[&[echo.address.as_str(), "--role", "authorizer"][..], &credentials].concat());
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(text.starts_with("Status: 200"), "{text:?}");
    assert!(text.contains("\r\nVariable-REMOTE_USER: "), "{text:?}");
    assert!(text.ends_with("\r\n\r\n") && !text.contains("SECRET"), "no echo: {text:?}");
}

fn echo_is_steered_by_parameters(suite: &Suite) {
    let programs = suite.programs();
    let echo = programs.start("echo");
    for n in ["0", "1", "65535", "65536", "200000", "5000000"] {
        let param = format!("ECHO_REPEAT_BYTES={n}");
        let output = programs.call(&[&echo.address, "--param", &param]);
        assert!(output.status.success());
        let (head, body) = output.stdout.split_at(HEAD.len());
        assert_eq!(head, HEAD.as_bytes());
        assert_eq!(body.len().to_string(), n, "instead of the echo");
    }
    let output = programs.call(&[&echo.address, "--param", "ECHO_STDERR=a warning"]);
    assert_eq!((output.status.code(), output.stderr.as_slice()), (Some(0), &b"a warning"[..]));
    assert_eq!(output.stdout, format!("{HEAD}ECHO_STDERR=a warning\n\n").as_bytes());
    for status in ["1", "255", "256", "2147483648", "4294967295"] {
        let param = format!("ECHO_EXIT={status}");
        let output = programs.call(&[&echo.address, "--param", &param]);
        assert_fails(&output, 1, &echo.address, status);
        assert_eq!(output.stdout, format!("{HEAD}ECHO_EXIT={status}\n\n").as_bytes());
    }
    let output = programs.call(&[&echo.address, "--param", "ECHO_EXIT=0"]);
    assert!(output.status.success());
    let output = programs.call(&[&echo.address, "--param", "ECHO_PANIC=1"]);
    assert_fails(&output, 1, &echo.address, "101");
    // Empty values have no effect.
    let steers = ["SLEEP_MS", "REPEAT_BYTES", "STDERR", "EXIT", "PANIC", "FAIL_AFTER_BYTES"];
    let empty = steers.map(|name| format!("ECHO_{name}="));
    let args = empty.iter().flat_map(|param| ["--param", param]);
    let args: Vec<_> = std::iter::once(echo.address.as_str()).chain(args).collect();
    let output = programs.call(&args);
    assert_eq!((output.status.code(), output.stderr.as_slice()), (Some(0), &b""[..]));
    assert_eq!(output.stdout, format!("{HEAD}{}\n\n", empty.join("\n")).as_bytes());
    // It still serves after all that.
    let start = Instant::now();
    let output = programs.call(&[&echo.address, "--param", "ECHO_SLEEP_MS=300"]);
    assert!(output.status.success());
    assert!(start.elapsed() >= Duration::from_millis(300));
    assert_eq!(output.stdout, format!("{HEAD}ECHO_SLEEP_MS=300\n\n").as_bytes());
}
