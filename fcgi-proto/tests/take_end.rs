//! The end of a request's STDIN, taken with its start.

mod kit;

use std::task::Poll;

use fcgi_proto::{Connection, Input, ServerConfig, ServerConnection, server::Event};
use kit::*;

#[test]
fn the_end_of_stdin_that_came_with_the_start_can_be_taken_at_once() {
    let bytes = request(1, true, b"");
    for cut in [bytes.len(), 1] {
        let mut server = ServerConnection::new(ServerConfig::default());
        let mut told = Vec::new();
        for piece in bytes.chunks(cut) {
            feed(&mut server, piece, |server, event| {
                let (Event::Request { key, .. } | Event::Readable { key, .. }) = event else {
                    panic!("{event:?}");
                };
                server.take_end(key);
                let mut request = server.request(key).expect("active");
                told.push((request.read(Input::Stdin, 1), request.is_input_complete()));
            })
            .expect("valid");
        }
        let whole = (Poll::Ready(None), true);
        match cut {
            1 => assert_eq!(told, [(Poll::Pending, false), whole]),
            _ => assert_eq!(told, [whole], "no Readable follows"),
        }
        assert!(server.poll_event().expect("valid").is_none() && server.is_between_records());
    }
}

#[test]
fn an_end_of_stdin_is_taken_for_its_own_request_and_only_once() {
    let mut bytes = request(1, true, b"");
    bytes.extend(request(2, true, b"body"));
    let mut server = ServerConnection::new(ServerConfig::default());
    let mut keys = Vec::new();
    let mut readable = Vec::new();
    feed(&mut server, &bytes, |server, event| match event {
        Event::Request { key, .. } => {
            // The first has been taken already when the second is told.
            keys.push(key);
            keys.iter().for_each(|key| server.take_end(*key));
        }
        Event::Readable { key, .. } => readable.push(key),
        other => panic!("{other:?}"),
    })
    .expect("valid");
    assert_eq!(readable, [keys[1]]);
    let mut second = server.request(keys[1]).expect("active");
    assert_eq!(second.read(Input::Stdin, 9), Poll::Ready(Some("body".into())));
    assert!(server.request(keys[0]).expect("active").is_input_complete());
}
