//! Records as bytes, and connections driven by any cut of them.
#![allow(dead_code)] // Each test binary uses a part.

use bytes::Buf;
use fcgi_proto::{
    Connection,
    record::{Framer, Piece, RecordHeader, RecordType},
};

pub(crate) const BEGIN: u8 = 1;
pub(crate) const ABORT: u8 = 2;
pub(crate) const END: u8 = 3;
pub(crate) const PARAMS: u8 = 4;
pub(crate) const STDIN: u8 = 5;
pub(crate) const STDOUT: u8 = 6;
pub(crate) const STDERR: u8 = 7;
pub(crate) const DATA: u8 = 8;
pub(crate) const GET_VALUES: u8 = 9;
pub(crate) const GET_VALUES_RESULT: u8 = 10;

/// One record, byte for byte; not by the crate's own encoder.
pub(crate) fn record(record_type: u8, id: u16, content: &[u8], padding: u8) -> Vec<u8> {
    let len = u16::try_from(content.len()).expect("content of one record").to_be_bytes();
    let id = id.to_be_bytes();
    let mut out = vec![1, record_type, id[0], id[1], len[0], len[1], padding, 0];
    out.extend_from_slice(content);
    out.resize(out.len() + usize::from(padding), 0xee);
    out
}

pub(crate) fn begin(id: u16, role: u16, flags: u8) -> Vec<u8> {
    let role = role.to_be_bytes();
    record(BEGIN, id, &[role[0], role[1], flags, 0, 0, 0, 0, 0], 0)
}

pub(crate) fn end(id: u16, app_status: u32, protocol_status: u8) -> Vec<u8> {
    let s = app_status.to_be_bytes();
    record(END, id, &[s[0], s[1], s[2], s[3], protocol_status, 0, 0, 0], 0)
}

/// Gives the connection as much of `bytes` as its window takes, at most `most`; says how much.
pub(crate) fn feed(connection: &mut impl Connection, bytes: &[u8], most: usize) -> usize {
    let window = connection.recv_buffer();
    let n = bytes.len().min(window.len()).min(most);
    window[..n].copy_from_slice(&bytes[..n]);
    connection.handle_recv(n).expect("no more than the window");
    n
}

/// Takes up to `most` bytes of what there is to send.
pub(crate) fn transmit(connection: &mut impl Connection, most: usize, out: &mut Vec<u8>) -> usize {
    let mut taken = 0;
    while taken < most {
        let Some(mut transmit) = connection.poll_transmit() else { break };
        let n = transmit.chunk().len().min(most - taken);
        assert!(n > 0, "a chunk of nothing");
        out.extend_from_slice(&transmit.chunk()[..n]);
        transmit.advance(n);
        taken += n;
    }
    taken
}

/// Sends everything to nowhere.
pub(crate) fn discard_transmit(connection: &mut impl Connection) {
    if let Some(mut transmit) = connection.poll_transmit() {
        transmit.advance(transmit.remaining());
    }
}

/// The records of `wire`, each checked against the rules that senders keep: version 1, reserved
/// byte 0, padded to 8 with zeros, bodies of the fixed length. Says how many bytes at the end are
/// no whole record.
pub(crate) fn parse(wire: &[u8]) -> (Vec<(RecordHeader, Vec<u8>)>, usize) {
    let mut records: Vec<(RecordHeader, Vec<u8>)> = Vec::new();
    let mut rest = wire;
    while rest.len() >= 8 {
        let header = RecordHeader::decode(rest[..8].try_into().unwrap()).expect("version 1");
        assert_eq!(rest[7], 0, "reserved byte");
        let content = usize::from(header.content_length);
        let padding = usize::from(header.padding_length);
        assert_eq!((content + padding) % 8, 0, "padded to 8: {header:?}");
        // GET_VALUES has padding even where none is needed.
        let most = if header.record_type == RecordType::GetValues { 8 } else { 7 };
        assert!(padding <= most, "no more padding than needed: {header:?}");
        let Some(body) = rest.get(8..8 + content + padding) else { break };
        assert!(body[content..].iter().all(|b| *b == 0), "padding of zeros");
        match header.record_type {
            RecordType::BeginRequest | RecordType::EndRequest | RecordType::UnknownType => {
                assert_eq!(content, 8, "{header:?}");
            }
            RecordType::AbortRequest => assert_eq!(content, 0),
            RecordType::Other(_) => panic!("{header:?} sent"),
            _ => {}
        }
        records.push((header, body[..content].to_vec()));
        rest = &rest[8 + content + padding..];
    }
    (records, rest.len())
}

/// The same records as the crate's own [`Framer`] finds them at these cuts.
pub(crate) fn framed(wire: &[u8], cuts: &[usize]) -> Vec<(RecordHeader, Vec<u8>)> {
    let mut framer = Framer::new();
    let mut records: Vec<(RecordHeader, Vec<u8>)> = Vec::new();
    let mut cuts = cuts.iter().cycle();
    let mut at = 0;
    while at < wire.len() {
        let end = wire.len().min(at + (*cuts.next().unwrap()).max(1));
        while let (used, Some(piece)) = framer.next(&wire[at..end], usize::MAX).unwrap() {
            match piece {
                Piece::Header(header) => records.push((header, Vec::new())),
                Piece::Content(n) => {
                    assert_eq!(n, used);
                    records.last_mut().unwrap().1.extend_from_slice(&wire[at..at + used]);
                }
                Piece::End => {}
            }
            at += used;
        }
        at = end;
    }
    records
}
