//! What every adapter's module `http` has: `programs/http.rs`, compiled with this one.

#[path = "../../fcgi-testkit/programs/http.rs"]
mod http_parity;
#[path = "../examples/runtime/mod.rs"]
mod runtime;

use fcgi_tokio as fcgi;

#[test]
fn http_over_a_unix_socket() {
    let folder = tempfile::tempdir().unwrap();
    http_parity::serve_and_call(&format!("unix:{}/app.sock", folder.path().display()));
}

#[test]
fn http_over_tcp() {
    http_parity::serve_and_call("tcp:127.0.0.1:0");
}
