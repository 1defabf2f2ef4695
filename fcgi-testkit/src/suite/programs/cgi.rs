//! `auto`, as a CGI program and as a FastCGI application.

use std::{
    io::{Read, Write},
    net::TcpListener,
    os::fd::OwnedFd,
    process::{Child, Command, Stdio},
};

use super::super::{Case, Suite, signal::background};

pub(super) const CASES: &[(&str, Case)] = cases!["programs":
    cgi_answers_one_request,
    cgi_passes_bodies_both_ways_fc_6_2_2,
    cgi_takes_no_body_without_a_length,
    cgi_has_a_page_for_a_failure_w_12,
    cgi_ends_when_nobody_reads,
    cgi_is_fastcgi_when_descriptor_0_listens_fc_2_2_1,
    cgi_or_fastcgi_is_needed,
];

/// As a web server starts a CGI program.
pub(super) fn cgi(suite: &Suite, method: &str, path: &str) -> Command {
    let mut command = suite.programs().command("auto");
    command
        .env_clear()
        .env("GATEWAY_INTERFACE", "CGI/1.1")
        .env("SERVER_PROTOCOL", "HTTP/1.1")
        .env("SERVER_NAME", "localhost")
        .env("SERVER_PORT", "80")
        .env("REMOTE_ADDR", "192.0.2.7")
        .env("REQUEST_METHOD", method)
        .env("SCRIPT_NAME", "/app.cgi")
        .env("PATH_INFO", path)
        .env("QUERY_STRING", "a=b")
        .env("REQUEST_URI", format!("/app.cgi{path}?a=b"))
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    command
}

/// The head, and the body.
fn parts(answer: &[u8]) -> (String, &[u8]) {
    let end = answer.windows(4).position(|bytes| bytes == b"\r\n\r\n");
    let end = end.unwrap_or_else(|| panic!("no head: {}", String::from_utf8_lossy(answer)));
    (String::from_utf8_lossy(&answer[..end]).into_owned(), &answer[end + 4..])
}

fn cgi_answers_one_request(suite: &Suite) {
    let output = cgi(suite, "GET", "/news").output().unwrap();
    let (head, body) = parts(&output.stdout);
    let log = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{log}");
    assert!(head.starts_with("Status: 200"), "{head}");
    assert!(head.to_ascii_lowercase().contains("content-type: text/plain"), "{head}");
    assert_eq!(body, b"GET /app.cgi/news?a=b\n");
    // What it prints is not part of the answer.
    assert_eq!(log, "asked for /app.cgi/news?a=b\n");
}

fn cgi_passes_bodies_both_ways_fc_6_2_2(suite: &Suite) {
    let sent: Vec<u8> = (0..3_000_000_u32).map(|n| (n / 7) as u8).collect();
    let mut command = cgi(suite, "POST", "/");
    let command = command.env("CONTENT_LENGTH", sent.len().to_string()).stdin(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let bytes = sent.clone();
    // It is not closed: CONTENT_LENGTH says where the body ends.
    let writer = background(move || {
        stdin.write_all(&bytes).unwrap();
        stdin
    });
    let output = background(move || child.wait_with_output().unwrap()).join();
    drop(writer.join());
    let (head, body) = parts(&output.stdout);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert!(head.starts_with("Status: 200"), "{head}");
    assert!(body == sent, "it came back changed: {} bytes", body.len());
}

fn cgi_takes_no_body_without_a_length(suite: &Suite) {
    let mut child = cgi(suite, "POST", "/").stdin(Stdio::piped()).spawn().unwrap();
    // It would wait for ever for this one's end.
    let stdin = child.stdin.take().unwrap();
    let output = background(move || child.wait_with_output().unwrap()).join();
    drop(stdin);
    let (head, body) = parts(&output.stdout);
    assert!(head.starts_with("Status: 200"), "{head}");
    assert_eq!(body, b"");

    // A length that the web server does not know, as in a chunked request.
    let mut command = cgi(suite, "POST", "/");
    command.env("HTTP_TRANSFER_ENCODING", "chunked").stdin(Stdio::piped());
    let mut child = command.spawn().unwrap();
    child.stdin.take().unwrap().write_all(b"to the end").unwrap();
    let output = background(move || child.wait_with_output().unwrap()).join();
    assert_eq!(parts(&output.stdout).1, b"to the end");
}

fn cgi_has_a_page_for_a_failure_w_12(suite: &Suite) {
    let output = cgi(suite, "GET", "/fail").output().unwrap();
    let (head, _) = parts(&output.stdout);
    assert!(head.starts_with("Status: 500"), "{head}");
}

fn cgi_ends_when_nobody_reads(suite: &Suite) {
    let mut command = cgi(suite, "POST", "/");
    command.env("CONTENT_LENGTH", "1000000").stdin(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let stdin = child.stdin.take().unwrap();
    drop(child.stdout.take());
    // The body never comes; the web server has gone.
    let status = background(move || child.wait().unwrap()).join();
    drop(stdin);
    assert!(!status.success());
}

fn cgi_is_fastcgi_when_descriptor_0_listens_fc_2_2_1(suite: &Suite) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    // GATEWAY_INTERFACE says nothing then: mod_fcgid sets it too.
    let mut command = cgi(suite, "GET", "/");
    command.stdin(OwnedFd::from(listener)).stdout(Stdio::null()).stderr(Stdio::null());
    let mut child = Killed(command.spawn().unwrap());
    for _ in 0..2 {
        let params = ["REQUEST_METHOD=GET", "REQUEST_URI=/over", "SERVER_PROTOCOL=HTTP/1.1"];
        let mut args = vec![address.to_string()];
        args.extend(params.iter().flat_map(|param| ["--param".to_owned(), (*param).to_owned()]));
        let args: Vec<_> = args.iter().map(String::as_str).collect();
        let output = suite.programs().call(&args);
        assert_eq!(parts(&output.stdout).1, b"GET /over\n");
    }
    let pid = child.0.id().to_string();
    assert!(Command::new("kill").args(["-TERM", &pid]).status().unwrap().success());
    assert!(child.0.wait().unwrap().success(), "SIGTERM ends it well");
}

fn cgi_or_fastcgi_is_needed(suite: &Suite) {
    let mut command = cgi(suite, "GET", "/");
    let mut child = command.env_remove("GATEWAY_INTERFACE").spawn().unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(1));
    let mut said = String::new();
    child.stderr.take().unwrap().read_to_string(&mut said).unwrap();
    assert!(said.contains("not a listening socket") && said.contains("FCGI_ADDR"), "{said}");
}

/// It does not outlive its test.
struct Killed(Child);

impl Drop for Killed {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
