//! Content that a reader wants in one piece, in one STDOUT record (W-1).

mod common;

use bytes::Bytes;
use common::*;
use fcgi_proto::{Limits, Output, server::Event};

fn lengths(wire: &[u8]) -> Vec<usize> {
    let stdout = records(wire).into_iter().filter(|record| record.kind == STDOUT);
    stdout.map(|record| record.content.len()).collect()
}

#[test]
fn one_record_holds_it_up_to_65535_bytes_and_what_follows_may_share_it() {
    for (size, after) in [
        (1, vec![11]),
        (4096, vec![4106]),
        (4097, vec![4107]),
        (65_520, vec![65_528, 2]),
        (65_528, vec![65_528, 10]),
        (65_529, vec![65_529, 10]),
        (65_535, vec![65_535, 10]),
        // No record holds it: it is cut as always.
        (65_536, vec![65_528, 8, 10]),
    ] {
        let mut server = server();
        let (key, _) = requested(&feed(&mut server, post(1, KEEP, b"")));
        let mut request = server.request(key).unwrap();
        let mut head = Bytes::from(vec![b'h'; size]);
        assert_eq!(request.write_record(Output::Stdout, &mut head), Ok(size));
        assert!(head.is_empty());
        request.write(Output::Stdout, &mut Bytes::from_static(b"0123456789")).unwrap();
        assert_eq!(lengths(&sent(&mut server)), after, "{size}");
    }
}

#[test]
fn it_is_all_or_nothing_and_announced() {
    let mut limits = Limits::server();
    limits.send_high_water = 10_000;
    let mut server = server_with(limits);
    let (key, _) = requested(&feed(&mut server, post(1, KEEP, b"")));
    let mut filler = Bytes::from(vec![b'x'; 9_000]);
    let mut head = Bytes::from(vec![b'h'; 8_000]);
    let mut request = server.request(key).unwrap();
    assert_eq!(request.write(Output::Stdout, &mut filler), Ok(9_000));
    assert_eq!(request.write_record(Output::Stdout, &mut head), Ok(0));
    assert_eq!(head.len(), 8_000, "nothing was taken");
    sent(&mut server);
    assert_eq!(feed(&mut server, b""), [Event::Writable { key }]);
    // One larger than the limit is taken too, once there is room for what the limit promises.
    let mut large = Bytes::from(vec![b'l'; 60_000]);
    let mut request = server.request(key).unwrap();
    assert_eq!(request.write_record(Output::Stdout, &mut head), Ok(8_000));
    assert_eq!(request.write_record(Output::Stdout, &mut large), Ok(0));
    sent(&mut server);
    assert_eq!(feed(&mut server, b""), [Event::Writable { key }]);
    let mut request = server.request(key).unwrap();
    assert_eq!(request.write_record(Output::Stdout, &mut large), Ok(60_000));
    assert_eq!(lengths(&sent(&mut server)), [60_000]);
}
