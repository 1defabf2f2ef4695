//! The small programs: a bare handler with settings, and two ends in one process.

use std::os::unix::fs::PermissionsExt;

use crate::suite::{Case, Suite};

pub(super) const CASES: &[(&str, Case)] = cases!["programs":
    a_bare_handler_greets_and_sends_the_body_back,
    a_bare_handlers_socket_has_its_mode,
    a_server_and_a_client_share_a_stream,
];

fn a_bare_handler_greets_and_sends_the_body_back(suite: &Suite) {
    let programs = suite.programs();
    let handler = programs.start("handler");
    let args = [&*handler.address, "--param", "REMOTE_USER=ann", "--stdin", "-"];
    let output = programs.call_with(b"the body", &args);
    assert_eq!(output.stdout, b"Content-Type: text/plain\r\n\r\nHello, ann\nthe body");
    let output = programs.call(&[&handler.address]);
    assert_eq!(output.stdout, b"Content-Type: text/plain\r\n\r\nHello, world\n");
    // A body that is larger than the handler accepts is the handler's error: the client gets a
    // page, and the log a line.
    let file = handler.folder.path().join("large");
    std::fs::write(&file, vec![b'x'; (1 << 20) + 1]).unwrap();
    let output = programs.call(&[&handler.address, "--stdin", file.to_str().unwrap()]);
    assert!(output.stdout.starts_with(b"Status: 500"), "{output:?}");
}

fn a_bare_handlers_socket_has_its_mode(suite: &Suite) {
    let handler = suite.programs().start("handler");
    let mode = std::fs::metadata(handler.path()).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o660);
}

fn a_server_and_a_client_share_a_stream(suite: &Suite) {
    let output = suite.programs().command("duplex").output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(output.stdout, b"Content-Type: text/plain\r\n\r\nhello\n");
}
