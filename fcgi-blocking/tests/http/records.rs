//! How a response is cut into records (W-1).

use fcgi_blocking as fcgi;

use fcgi::http::Body;
use http::Request;

use crate::{
    app::{App, CLOSE, KEEP, Type, request},
    kit::{answer, app, get, ok},
};

/// Heads have as many bytes as the path says.
fn padded() -> App {
    app(|request: Request<Body>| {
        let path = request.uri().path();
        if path == "/flood" {
            return answer(ok(), vec![b'x'; 1 << 20]);
        }
        let size: usize = path[1..].parse().unwrap();
        let rest = "Status: 200 OK\r\nx-pad: \r\ncontent-length: 5\r\n\r\n".len();
        answer(ok().header("X-Pad", "p".repeat(size - rest)), "hello")
    })
}

fn head_of(record: &[u8]) -> Option<usize> {
    record.windows(4).position(|end| end == b"\r\n\r\n").map(|at| at + 4)
}

#[test]
fn a_head_is_in_the_first_record_whatever_its_size_w_1() {
    let app = padded();
    // 4,096 is where a write is no longer gathered, 65,528 where records are cut else.
    for size in [100, 4095, 4096, 4097, 20_000, 65_528, 65_529, 65_535] {
        let mut peer = app.dial();
        peer.send(request(1, CLOSE, &get(&format!("/{size}")), b""));
        let mut records = Vec::new();
        while let Some(record) = peer.try_record().unwrap() {
            if record.kind == Type::Stdout {
                records.push(record.content);
            }
        }
        assert!(records[0].starts_with(b"Status: 200 OK\r\n"));
        assert_eq!(head_of(&records[0]), Some(size), "the head is whole in the first record");
        assert!(records.concat().ends_with(b"hello"));
        if size < 4096 {
            assert!(records[0].ends_with(b"hello"), "the body shares the record of a small head");
            assert_eq!(records.len(), 2, "and the stream's end is the other record");
        }
    }
}

#[test]
fn a_head_is_not_cut_when_others_fill_the_connection_w_1_w_9() {
    let app = padded();
    let mut peer = app.dial();
    let sizes = [60_000, 50_000, 65_535];
    peer.send(request(1, KEEP, &get("/flood"), b""));
    for (id, size) in (3..).zip(sizes) {
        peer.send(request(id, KEEP, &get(&format!("/{size}")), b""));
    }
    let mut first = [None; 3];
    let mut ended = 0;
    while ended < 1 + sizes.len() {
        let record = peer.record();
        match record.kind {
            Type::EndRequest => ended += 1,
            Type::Stdout if record.id >= 3 => {
                let first = &mut first[usize::from(record.id) - 3];
                *first = first.or_else(|| head_of(&record.content));
                assert!(first.is_some(), "the head of {} is cut", record.id);
            }
            _ => {}
        }
    }
    assert_eq!(first, sizes.map(Some));
}
