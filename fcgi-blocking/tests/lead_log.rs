//! The log of a server in which a handler leads while it waits for input.

use std::{
    sync::{Arc, Mutex},
    thread,
};

use fcgi_blocking::{Error, Request, Server};
use fcgi_testkit::{logs, signal::until, wire::*};

#[test]
fn a_connection_that_a_waiting_handler_accepts_is_no_part_of_its_request() {
    let lines: Arc<Mutex<Vec<String>>> = Arc::default();
    let to = Arc::clone(&lines);
    logs::forward(move |line| {
        to.lock().unwrap().push(String::from_utf8_lossy(line).into_owned());
    });
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("app.sock");
    let listener = fcgi_blocking::Listener::bind(path.as_path()).unwrap();
    let address = listener.local_addr().clone();
    thread::spawn(move || {
        let echo = |request: Request| -> Result<(), Error> {
            let (mut stdin, mut stdout) = (request.stdin(), request.stdout());
            while let Some(chunk) = stdin.chunk()? {
                stdout.write_all(chunk)?;
            }
            Ok(())
        };
        Server::new().threads(2).serve(listener, echo).run()
    });
    let mut waiting = Peer::dial(&address);
    waiting.send([begin(7, RESPONDER, KEEP), params(7, &[])].concat());
    for id in 1..=20 {
        waiting.send(stream(Type::Stdin, 7, b"some"));
        waiting.expect_stdout(7, b"some");
        let mut other = Peer::dial(&address);
        other.send(request(id, KEEP, &[], b"hello"));
        assert_eq!(other.answer(id), complete("hello"));
    }
    let ended = || {
        let lines = lines.lock().unwrap();
        let ended = lines.iter().filter(|line| line.contains("request ended"));
        ended.cloned().collect::<Vec<_>>()
    };
    until("all are logged", || ended().len() == 20);
    for line in ended() {
        assert_eq!(line.matches("fcgi_request").count(), 1, "{line}");
    }
}
