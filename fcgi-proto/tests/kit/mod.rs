//! Bytes in, events and records out: what every test here does.
#![allow(dead_code, unreachable_pub, reason = "each test binary uses its part")]

use std::task::Poll;

use bytes::{Buf, Bytes};
use fcgi_proto::{
    Connection, Input, Output, Params, ProtocolError, RequestKey, client::ClientConnection,
    record::RecordType, server::ServerConnection,
};

/// A record, with zero padding.
pub fn record(kind: RecordType, id: u16, content: &[u8]) -> Vec<u8> {
    padded(kind.as_u8(), id, content, 0)
}

/// A record of any type with padding that is not zero.
pub fn padded(kind: u8, id: u16, content: &[u8], padding: u8) -> Vec<u8> {
    let len = u16::try_from(content.len()).expect("content fits a record").to_be_bytes();
    let id = id.to_be_bytes();
    let mut out = vec![1, kind, id[0], id[1], len[0], len[1], padding, 0xee];
    out.extend_from_slice(content);
    out.extend(std::iter::repeat_n(0xaa, usize::from(padding)));
    out
}

pub fn begin(id: u16, role: u16, keep_conn: bool) -> Vec<u8> {
    let role = role.to_be_bytes();
    record(RecordType::BeginRequest, id, &[role[0], role[1], keep_conn.into(), 0, 0, 0, 0, 0])
}

pub fn pair(name: &[u8], value: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    fcgi_proto::pairs::encode(name, value, &mut out).expect("short");
    out
}

/// PARAMS in one record, and their end.
pub fn params(id: u16, pairs: &[(&str, &str)]) -> Vec<u8> {
    let content: Vec<u8> =
        pairs.iter().flat_map(|(n, v)| pair(n.as_bytes(), v.as_bytes())).collect();
    let mut out =
        if content.is_empty() { vec![] } else { record(RecordType::Params, id, &content) };
    out.extend(record(RecordType::Params, id, b""));
    out
}

/// A whole Responder request.
pub fn request(id: u16, keep_conn: bool, body: &[u8]) -> Vec<u8> {
    let mut out = begin(id, 1, keep_conn);
    out.extend(params(id, &[("REQUEST_METHOD", "GET")]));
    for chunk in body.chunks(65_535) {
        out.extend(record(RecordType::Stdin, id, chunk));
    }
    out.extend(record(RecordType::Stdin, id, b""));
    out
}

pub fn end_request(id: u16, app_status: u32, protocol_status: u8) -> Vec<u8> {
    let mut body = app_status.to_be_bytes().to_vec();
    body.extend([protocol_status, 0xff, 0xff, 0xff]);
    record(RecordType::EndRequest, id, &body)
}

/// Gives a connection bytes for as long as it takes them, draining its events into `sink` after
/// each read; says how many it took.
pub fn feed<C: Connection>(
    connection: &mut C,
    mut bytes: &[u8],
    mut sink: impl FnMut(&mut C, C::Event),
) -> Result<usize, ProtocolError> {
    let all = bytes.len();
    loop {
        while let Some(event) = connection.poll_event()? {
            sink(connection, event);
        }
        let window = connection.recv_buffer();
        let n = window.len().min(bytes.len());
        if n == 0 {
            return Ok(all - bytes.len());
        }
        window[..n].copy_from_slice(&bytes[..n]);
        connection.handle_recv(n).expect("n fits");
        bytes = &bytes[n..];
    }
}

/// [`feed`] that keeps the events; all bytes are taken.
pub fn events<C: Connection>(
    connection: &mut C,
    bytes: &[u8],
) -> Result<Vec<C::Event>, ProtocolError> {
    let mut out = Vec::new();
    let n = feed(connection, bytes, |_, event| out.push(event))?;
    assert_eq!(n, bytes.len(), "the connection paused");
    Ok(out)
}

/// Everything that is queued.
pub fn sent<C: Connection>(connection: &mut C) -> Vec<u8> {
    let mut out = Vec::new();
    while let Some(mut queued) = connection.poll_transmit() {
        out.extend_from_slice(queued.chunk());
        let n = queued.chunk().len();
        queued.advance(n);
    }
    out
}

/// A record that was sent.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Record {
    pub kind: u8,
    pub id: u16,
    pub content: Vec<u8>,
    pub padding: u8,
}

/// Reads records as the specification has them, independently of the crate's own parser.
pub fn parse(mut bytes: &[u8]) -> Vec<Record> {
    let mut out = Vec::new();
    while !bytes.is_empty() {
        assert!(bytes.len() >= 8, "a header is cut: {bytes:?}");
        assert_eq!((bytes[0], bytes[7]), (1, 0), "version and reserved byte");
        let len = usize::from(u16::from_be_bytes([bytes[4], bytes[5]]));
        let padding = bytes[6];
        let end = 8 + len + usize::from(padding);
        assert!(bytes.len() >= end, "a record is cut");
        assert!(bytes[8 + len..end].iter().all(|byte| *byte == 0), "padding is zero");
        out.push(Record {
            kind: bytes[1],
            id: u16::from_be_bytes([bytes[2], bytes[3]]),
            content: bytes[8..8 + len].to_vec(),
            padding,
        });
        bytes = &bytes[end..];
    }
    out
}

/// What is queued, as records.
pub fn sent_records<C: Connection>(connection: &mut C) -> Vec<Record> {
    parse(&sent(connection))
}

/// Types and ids of records.
pub fn kinds(records: &[Record]) -> Vec<(u8, u16)> {
    records.iter().map(|record| (record.kind, record.id)).collect()
}

/// One stream's bytes.
pub fn stream(records: &[Record], kind: RecordType, id: u16) -> Vec<u8> {
    let of = |r: &&Record| r.kind == kind.as_u8() && r.id == id;
    records.iter().filter(of).flat_map(|record| record.content.clone()).collect()
}

/// The first request that `bytes` bring.
pub fn accept(server: &mut ServerConnection, bytes: &[u8]) -> (RequestKey, Params) {
    events(server, bytes)
        .expect("valid")
        .into_iter()
        .find_map(|event| match event {
            fcgi_proto::server::Event::Request { key, params, .. } => Some((key, params)),
            _ => None,
        })
        .expect("a request")
}

/// All that can be read now, and whether the stream has ended.
pub fn read_input(server: &mut ServerConnection, key: RequestKey, input: Input) -> (Vec<u8>, bool) {
    let mut out = Vec::new();
    loop {
        let Some(mut request) = server.request(key) else { return (out, true) };
        match request.read(input, usize::MAX) {
            Poll::Ready(Some(bytes)) => out.extend_from_slice(&bytes),
            Poll::Ready(None) => return (out, true),
            Poll::Pending => return (out, false),
        }
    }
}

/// All that can be read now.
pub fn read_output(client: &mut ClientConnection, key: RequestKey, output: Output) -> Vec<u8> {
    let mut out = Vec::new();
    while let Some(mut request) = client.request(key) {
        match request.read(output, usize::MAX) {
            Poll::Ready(Some(bytes)) => out.extend_from_slice(&bytes),
            _ => break,
        }
    }
    out
}

/// Writes and expects that all of it is taken.
pub fn write(server: &mut ServerConnection, key: RequestKey, output: Output, bytes: &[u8]) {
    let mut bytes = Bytes::copy_from_slice(bytes);
    server.request(key).expect("active").write(output, &mut bytes).expect("open");
    assert!(bytes.is_empty());
}

pub fn finish(server: &mut ServerConnection, key: RequestKey, app_status: u32) {
    server.request(key).expect("active").finish(app_status).expect("active");
}
