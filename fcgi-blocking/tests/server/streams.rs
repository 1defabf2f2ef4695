//! Roles, streams, backpressure.

use std::{
    io::{Read, Write},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use fcgi::{Error, Rejection, Request, Role, Server};
use fcgi_blocking as fcgi;

use crate::peer::*;

pub fn echo(request: Request) -> Result<(), Error> {
    let (mut stdin, mut stdout) = (request.stdin(), request.stdout());
    while let Some(chunk) = stdin.chunk()? {
        stdout.write_all(chunk)?;
    }
    Ok(())
}

#[test]
fn responder_fc_6_1_1_fc_6_2_1() {
    let app = serve(Server::new(), |request: Request| -> Result<u32, Error> {
        assert_eq!(request.role(), Role::Responder);
        assert!(!request.keep_conn());
        assert_eq!(request.data().chunk()?, None);
        let pairs: Vec<_> = request.params().iter().map(|(n, v)| [n, b"=", v].concat()).collect();
        request.stdout().write_all(pairs.join(&b' '))?;
        request.stderr().write_all("warning")?;
        let body = request.stdin().read_to_end(100)?;
        request.stdout().write_all([b"|".as_slice(), &body].concat())?;
        Ok(7)
    });
    let mut peer = app.dial();
    peer.send(request(1, CLOSE, &[("B", "2"), ("A", "1"), ("B", "")], b"body"));
    let answer = peer.answer(1);
    assert_eq!(answer.stdout, b"B=2 A=1 B=|body");
    assert_eq!(answer.stderr, b"warning");
    assert!(answer.stdout_closed && answer.stderr_closed, "FC-6.1-1");
    assert_eq!((answer.app_status, answer.protocol_status), (7, 0));
    peer.expect_close();
}

#[test]
fn authorizer_fc_6_3_1() {
    let app = serve(Server::new(), |request: Request| -> Result<(), Error> {
        assert_eq!(request.role(), Role::Authorizer);
        assert_eq!(request.stdin().chunk()?, None);
        request.stdout().write_all("Status: 200\r\n\r\n")
    });
    let mut peer = app.dial();
    for empty_stdin in [false, true] {
        peer.send(begin(1, AUTHORIZER, KEEP));
        peer.send(params(1, &[("REQUEST_METHOD", "GET")]));
        if empty_stdin {
            peer.send(close(Type::Stdin, 1));
        }
        assert_eq!(peer.answer(1), complete("Status: 200\r\n\r\n"));
    }
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
    peer.expect_stdout(b"form|");
    peer.send([stream(Type::Data, 1, b"the file"), close(Type::Data, 1)].concat());
    assert_eq!(peer.answer(1), complete("the file"));
}

#[test]
fn response_begins_before_stdin_ends_and_bytes_pass_through_fc_6_2_1() {
    let app = serve(Server::new(), |request: Request| -> Result<(), Error> {
        request.stdout().write_all("start")?;
        echo(request)
    });
    let mut peer = app.dial();
    peer.send([begin(1, RESPONDER, KEEP), params(1, &[])].concat());
    peer.expect_stdout(b"start");
    for chunk in ["one", "two", "three"] {
        peer.send(stream(Type::Stdin, 1, chunk.as_bytes()));
        peer.expect_stdout(chunk.as_bytes());
    }
    // The first half of a record is there before the second has been sent.
    let last = record(Type::Stdin, 1, b"abcdefgh");
    peer.send(&last[..12]);
    peer.expect_stdout(b"abcd");
    peer.send(&last[12..]);
    peer.expect_stdout(b"efgh");
    peer.send(close(Type::Stdin, 1));
    assert_eq!(peer.answer(1), complete(""));
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
    peer.expect_stdout(b"one two three");
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
    let mut sender = peer.sender();
    let wire = request(1, KEEP, &[], &body);
    let sending = std::thread::spawn(move || sender.write_all(&wire).unwrap());
    assert!(peer.answer(1) == complete(body));
    sending.join().unwrap();
}

#[test]
fn a_body_over_the_handlers_limit_is_an_error() {
    let app = serve(Server::new(), |request: Request| match request.stdin().read_to_end(10) {
        Ok(body) => body.len() as u32,
        Err(Error::InputTooLarge { limit: 10 }) => 99,
        Err(error) => panic!("{error}"),
    });
    let mut peer = app.dial();
    for (len, status) in [(0, 0), (10, 10), (11, 99), (50_000, 99)] {
        peer.send(request(1, KEEP, &[], &pattern(len, 1)));
        assert_eq!(peer.answer(1).app_status, status);
    }
}

#[test]
fn a_handler_may_reject_fc_5_5_1() {
    let app = serve(Server::new().rejection_body(false), |request: Request| {
        request.reject(Rejection::Overloaded);
    });
    let mut peer = app.dial();
    peer.send(request(1, KEEP, &[], b""));
    assert_eq!(peer.answer(1), Answer { protocol_status: 2, ..Answer::default() });
}

#[test]
fn what_was_flushed_is_with_the_peer_while_the_handler_goes_on() {
    let gate = Gate::default();
    let app = serve(Server::new(), {
        let gate = gate.clone();
        move |request: Request| {
            request.stdout().write_all("early")?;
            request.stdout().flush()?;
            gate.pass();
            request.stdout().write_all("late")
        }
    });
    let mut peer = app.dial();
    peer.send(request(1, KEEP, &[], b""));
    peer.expect_stdout(b"early");
    gate.open();
    assert_eq!(peer.answer(1), complete("late"));
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
        let mut sender = peer.sender();
        let wire = request(1, CLOSE, &[], &body);
        let sending = std::thread::spawn(move || sender.write_all(&wire).unwrap());
        assert!(peer.answer(1) == complete(&body), "the body came back changed");
        peer.expect_close();
        sending.join().unwrap();
    }
}

/// What the sockets' buffers, one chunk and the queue may hold together.
const IN_FLIGHT: usize = 2 << 20;

#[test]
fn a_handler_writes_no_faster_than_its_peer_reads_h_12() {
    const CHUNK: usize = 64 * 1024;
    const TOTAL: usize = 100 << 20;
    let written = Arc::new(AtomicUsize::new(0));
    let app = serve(Server::new(), {
        let written = Arc::clone(&written);
        move |request: Request| {
            let block = Bytes::from(vec![b'x'; CHUNK]);
            for _ in 0..TOTAL / CHUNK {
                request.stdout().write_all(block.clone())?;
                written.fetch_add(CHUNK, Ordering::SeqCst);
            }
            Ok::<_, Error>(())
        }
    });
    let mut peer = app.dial();
    peer.send(request(1, CLOSE, &[], b""));
    // A reader that comes late: the time only gives a handler that does not wait room to show it.
    until(|| written.load(Ordering::SeqCst) >= 2 * CHUNK);
    std::thread::sleep(Duration::from_millis(300));
    let mut read = 0;
    let mut most = 0;
    loop {
        most = most.max(written.load(Ordering::SeqCst).saturating_sub(read));
        let record = peer.record();
        match record.kind {
            Type::Stdout => read += record.content.len(),
            _ => break assert_eq!(record.end(), (0, 0)),
        }
    }
    assert_eq!(read, TOTAL);
    assert!(most <= IN_FLIGHT, "{most} bytes were written ahead of the reader");
    peer.expect_close();
}

#[test]
fn stdin_that_is_not_read_pushes_back() {
    let gate = Gate::default();
    let app = serve(Server::new(), {
        let gate = gate.clone();
        move |request: Request| {
            gate.pass();
            echo(request)
        }
    });
    let body = pattern(20 << 20, 7);
    let mut peer = app.dial();
    let mut to = peer.sender();
    let sent = Arc::new(AtomicUsize::new(0));
    let wire = request(1, CLOSE, &[], &body);
    let sender = std::thread::spawn({
        let sent = Arc::clone(&sent);
        move || {
            for piece in wire.chunks(16 * 1024) {
                to.write_all(piece).unwrap();
                sent.fetch_add(piece.len(), Ordering::SeqCst);
            }
        }
    });
    until(|| sent.load(Ordering::SeqCst) >= 128 * 1024);
    std::thread::sleep(Duration::from_millis(300));
    let ahead = sent.load(Ordering::SeqCst);
    assert!(ahead <= IN_FLIGHT, "{ahead} bytes were taken from the peer and not read");
    gate.open();
    assert!(peer.answer(1) == complete(body), "the body came back changed");
    sender.join().unwrap();
}
