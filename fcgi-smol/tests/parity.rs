//! What every adapter has under the same name: `programs/parity.rs`, compiled with this one.

#[path = "../../fcgi-testkit/programs/parity.rs"]
mod parity;
#[path = "../examples/runtime/mod.rs"]
mod runtime;

use fcgi_smol as fcgi;

#[test]
fn names() {
    parity::names();
}

#[test]
fn a_conversation_over_a_unix_socket() {
    let folder = tempfile::tempdir().unwrap();
    parity::serve_and_talk(&format!("unix:{}/app.sock", folder.path().display()));
}

#[test]
fn a_conversation_over_tcp() {
    parity::serve_and_talk("tcp:127.0.0.1:0");
}

#[test]
fn a_given_socket_fc_2_2_1() {
    let folder = tempfile::tempdir().unwrap();
    parity::serve_a_given_socket(folder.path());
}
