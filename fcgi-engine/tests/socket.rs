//! What is done with sockets besides reading them.

use std::{
    io::{ErrorKind, IoSlice, Read},
    os::unix::net::UnixStream,
};

use fcgi_engine::socket;

/// Writes until the socket is full. Returns how many bytes it took.
fn fill(stream: &UnixStream) -> usize {
    let (mut all, block) = (0, [b'x'; 8192]);
    loop {
        match socket::write(stream, &[IoSlice::new(&block), IoSlice::new(b"end")]) {
            Ok(n) => all += n,
            Err(error) if error.kind() == ErrorKind::WouldBlock => return all,
            Err(error) => panic!("{error}"),
        }
    }
}

#[test]
fn a_full_unix_socket_gets_more_room_once() {
    let (ours, mut theirs) = UnixStream::pair().unwrap();
    ours.set_nonblocking(true).unwrap();
    let before = fill(&ours);
    assert!(before > 0);
    assert!(socket::widen(&ours));
    let more = fill(&ours);
    assert!(more > before / 2, "{more} bytes more than {before}");
    assert!(!socket::widen(&ours));

    // Nothing is lost.
    drop(ours);
    let mut all = Vec::new();
    theirs.read_to_end(&mut all).unwrap();
    assert_eq!(all.len(), before + more);
}

#[test]
fn a_write_to_nobody_is_an_error_and_no_signal() {
    let (ours, theirs) = UnixStream::pair().unwrap();
    drop(theirs);
    let error = socket::write(&ours, &[IoSlice::new(b"x")]).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::BrokenPipe);
}
