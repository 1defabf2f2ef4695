//! What the log says of a service that failed. Alone in its process: the subscriber is global.
#![cfg(feature = "http")]

use std::{
    io,
    sync::{Arc, Mutex},
};

use fcgi_engine::http::Reply;
use fcgi_http::PathSource;
use fcgi_proto::{Params, Role};

#[derive(Clone, Default)]
struct Lines(Arc<Mutex<Vec<u8>>>);

impl io::Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[test]
fn a_failure_names_method_and_path_at_info_h_10() {
    let lines = Lines::default();
    let writer = lines.clone();
    tracing_subscriber::fmt()
        .with_max_level(tracing::Level::INFO)
        .with_writer(move || writer.clone())
        .with_ansi(false)
        .init();
    // The path is the client's.
    let pairs = [("REQUEST_METHOD", "POST"), ("REQUEST_URI", "/shop/\u{e9}?id=7")];
    let asked =
        || Reply::responder(Role::Responder, Params::from_iter(pairs), PathSource::RequestUri).0;
    asked().handle_response::<()>(Err("no database".into()), |()| None);
    let lines = String::from_utf8(lines.0.lock().unwrap().clone()).unwrap();
    let lines: Vec<_> = lines.lines().collect();
    assert_eq!(lines.len(), 1, "{lines:?}");
    let line = lines[0];
    for part in ["the service failed", "POST", "/shop/", "no database"] {
        assert!(line.contains(part), "{line}");
    }
    assert!(line.is_ascii() && !line.contains("id=7"), "a query may hold secrets: {line}");
}
