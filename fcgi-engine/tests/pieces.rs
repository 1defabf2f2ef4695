//! A reader is read piece by piece, into one buffer as long as nobody keeps its pieces.

use std::{
    collections::VecDeque,
    io::{self, Read},
    task::Poll,
};

use fcgi_engine::client::PieceReader;

const PIECE: usize = 64 * 1024;

/// What each read returns; a length larger than the buffer is reported as it is.
struct Reads(VecDeque<io::Result<(u8, usize)>>);

impl Read for Reads {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let Some(read) = self.0.pop_front() else { return Ok(0) };
        let (byte, n) = read?;
        let room = n.min(buffer.len());
        buffer[..room].fill(byte);
        Ok(n)
    }
}

fn reader<const N: usize>(reads: [io::Result<(u8, usize)>; N]) -> PieceReader<Reads> {
    PieceReader::new(Reads(reads.into()))
}

#[test]
fn pieces_come_until_the_end() {
    let mut reader = reader([Ok((b'a', 3)), Ok((b'b', PIECE)), Ok((b'c', 1))]);
    assert_eq!(reader.read_piece().unwrap().unwrap(), "aaa");
    assert!(reader.read_piece().unwrap().unwrap() == vec![b'b'; PIECE]);
    assert_eq!(reader.read_piece().unwrap().unwrap(), "c");
    assert!(reader.read_piece().unwrap().is_none());
}

#[test]
fn a_dropped_piece_lends_its_buffer_and_a_kept_one_keeps_its_bytes() {
    let mut reader =
        reader([Ok((b'a', PIECE)), Ok((b'b', 1)), Ok((b'b', PIECE)), Ok((b'c', PIECE))]);
    let first = reader.read_piece().unwrap().unwrap();
    let place = first.as_ptr();
    drop(first);
    let second = reader.read_piece().unwrap().unwrap();
    assert_eq!(second.as_ptr(), place, "the same buffer");
    assert_eq!(second, "b");
    drop(second);
    let second = reader.read_piece().unwrap().unwrap();
    assert_eq!(second.as_ptr(), place, "the same buffer after a short piece");
    let third = reader.read_piece().unwrap().unwrap();
    assert!(second == vec![b'b'; PIECE] && third == vec![b'c'; PIECE]);
}

#[test]
fn an_interrupted_read_is_done_again_and_another_error_is_reported() {
    let mut reader = reader([
        Err(io::ErrorKind::Interrupted.into()),
        Ok((b'a', 2)),
        Err(io::ErrorKind::PermissionDenied.into()),
    ]);
    assert_eq!(reader.read_piece().unwrap().unwrap(), "aa");
    assert_eq!(reader.read_piece().unwrap_err().kind(), io::ErrorKind::PermissionDenied);
}

#[test]
fn a_reader_that_reports_too_much_gives_a_whole_piece() {
    let mut reader = reader([Ok((b'a', PIECE + 1))]);
    assert!(reader.read_piece().unwrap().unwrap() == vec![b'a'; PIECE]);
}

#[test]
fn a_reader_that_has_nothing_yet_keeps_its_buffer() {
    let mut reader = reader([Ok((b'a', 1))]);
    let mut place = None;
    let waits = reader.poll_piece(|_, buffer| {
        place = Some(buffer.as_ptr());
        Poll::Pending
    });
    assert!(waits.is_pending());
    let Poll::Ready(Ok(Some(piece))) =
        reader.poll_piece(|reader, buffer| Poll::Ready(reader.read(buffer)))
    else {
        panic!("no piece");
    };
    assert_eq!(piece, "a");
    assert_eq!(Some(piece.as_ptr()), place, "the same buffer");
}
