//! Streams: who uses them, how far they carry.

use std::io::{Read, Write};

use fcgi::{Error, Request, Role, Server};
use fcgi_blocking as fcgi;

use crate::app::*;

pub fn echo(request: Request) -> Result<(), Error> {
    let (mut stdin, mut stdout) = (request.stdin(), request.stdout());
    while let Some(chunk) = stdin.chunk()? {
        stdout.write_all(chunk)?;
    }
    Ok(())
}

#[test]
fn filter_fc_6_4_1() {
    let app = serve(Server::new(), |request: Request| -> Result<(), Error> {
        assert_eq!(request.role(), Role::Filter);
        let stdin = request.stdin().read_to_end(1 << 20)?;
        request.stdout().write_all([&stdin[..], b"|"].concat())?;
        let data = request.data().read_to_end(1 << 20)?;
        request.stdout().write_all(data)
    });
    let mut peer = app.dial();
    peer.send([begin(1, FILTER, KEEP), params(1, &[("FCGI_DATA_LENGTH", "8")])].concat());
    peer.send([stream(Type::Stdin, 1, b"form"), close(Type::Stdin, 1)].concat());
    // Output may start once STDIN has ended.
    peer.expect_stdout(1, b"form|");
    peer.send([stream(Type::Data, 1, b"the file"), close(Type::Data, 1)].concat());
    assert_eq!(peer.answer(1), complete("the file"));
}

#[test]
fn streams_are_read_and_write() {
    let app = serve(Server::new(), |request: Request| -> std::io::Result<()> {
        let mut text = String::new();
        request.stdin().take(5).read_to_string(&mut text)?;
        let mut out = request.stdout();
        write!(out, "{text}, {}", 1 + 1)?;
        Write::flush(&mut out)
    });
    let mut peer = app.dial();
    peer.send(request(1, KEEP, &[], b"hello and more"));
    assert_eq!(peer.answer(1), complete("hello, 2"));
}

#[test]
fn small_writes_share_a_record() {
    let app = serve(Server::new(), |request: Request| {
        let mut stdout = request.stdout();
        ["one ", "two ", "three"].into_iter().try_for_each(|part| stdout.write_all(part))
    });
    let mut peer = app.dial();
    peer.send(request(1, KEEP, &[], b""));
    let record = peer.record();
    assert_eq!((record.kind, &record.content[..]), (Type::Stdout, &b"one two three"[..]));
    assert_eq!(peer.answer(1), complete(""));
}

#[test]
fn other_threads_use_the_streams() {
    let app = serve(Server::new().threads(1), |request: Request| -> Result<(), Error> {
        let (mut stdin, mut stdout) = (request.stdin(), request.stdout());
        let (sender, chunks) = std::sync::mpsc::sync_channel(4);
        let reader = std::thread::spawn(move || {
            while let Some(chunk) = stdin.chunk()? {
                sender.send(chunk).unwrap();
            }
            Ok::<_, Error>(())
        });
        for chunk in chunks {
            stdout.write_all(chunk)?;
        }
        reader.join().unwrap()
    });
    let body = pattern(3 << 20, 5);
    let mut peer = app.dial();
    let mut sender = peer.writer();
    let wire = request(1, KEEP, &[], &body);
    let sending = std::thread::spawn(move || sender.write_all(&wire).unwrap());
    assert!(peer.answer(1) == complete(body));
    sending.join().unwrap();
}

/// 30 MB go in and come out at the same time: neither end may wait for the other.
#[test]
fn thirty_megabytes_are_echoed_both_ways_at_once() {
    for threads in [1, 4] {
        let app = serve(Server::new().threads(threads), echo);
        let body = pattern(30 << 20, 11);
        let mut peer = app.dial();
        // One thread sends all before it looks at the answer would deadlock without buffers; two
        // keep both directions full.
        let mut sender = peer.writer();
        let wire = request(1, CLOSE, &[], &body);
        let sending = std::thread::spawn(move || sender.write_all(&wire).unwrap());
        assert!(peer.answer(1) == complete(&body), "the body came back changed");
        peer.expect_close();
        sending.join().unwrap();
    }
}
