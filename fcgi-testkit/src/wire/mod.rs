//! Raw FastCGI bytes: hand-made records, an application's answer, and the other end of a connection
//! that speaks them ([`Peer`], [`RawApp`]).
//!
//! A test of what goes over the wire must not read it with the code under test. So this module uses
//! as little of the protocol crate as it can: only [`fcgi_proto`]'s layout of a header and of the
//! fixed bodies. Everything here is for tests: it panics if a test has failed.
//!
//! ```
//! use std::os::unix::net::UnixStream;
//!
//! use fcgi_testkit::wire::{KEEP, Peer, answer, complete, request};
//!
//! let (one, other) = UnixStream::pair()?;
//! let (mut web_server, mut application) = (Peer::unix(one), Peer::unix(other));
//! web_server.send(request(1, KEEP, &[("REQUEST_METHOD", "POST")], b"body"));
//! let (id, _params, stdin) = application.request();
//! application.send(answer(id, &stdin));
//! assert_eq!(web_server.answer(1), complete("body"));
//! # Ok::<(), std::io::Error>(())
//! ```

mod peer;

use fcgi_proto::{
    Rejection,
    record::{BeginRequestBody, EndRequestBody, RecordHeader},
};

pub use fcgi_proto::record::RecordType as Type;
pub use peer::{Peer, RawApp, unix_address};

/// The role of a request that is answered with a page (FC-6.2-1).
pub const RESPONDER: u16 = 1;
/// The role of a request for permission (FC-6.3-1).
pub const AUTHORIZER: u16 = 2;
/// The role of a request with DATA (FC-6.4-1).
pub const FILTER: u16 = 3;
/// The connection stays open after the request.
pub const KEEP: bool = true;
/// The application closes the connection after the request.
pub const CLOSE: bool = false;

/// One record as it came.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Record {
    /// Its type.
    pub kind: Type,
    /// Its request id; 0 for a management record.
    pub id: u16,
    /// Its content, without the padding.
    pub content: Vec<u8>,
}

impl Record {
    /// An END_REQUEST's app status and protocol status.
    ///
    /// # Panics
    /// When it is another record.
    pub fn end(&self) -> (u32, u8) {
        assert_eq!(self.kind, Type::EndRequest, "{self:?}");
        assert_eq!(self.content[5..], [0; 3], "FC-3.3-3: reserved bytes are sent as zero");
        let end = EndRequestBody::decode(self.content.as_slice().try_into().unwrap());
        (end.app_status, end.protocol_status)
    }
}

/// A record as bytes, padded to a multiple of 8.
pub fn record(kind: Type, id: u16, content: &[u8]) -> Vec<u8> {
    let length = u16::try_from(content.len()).unwrap();
    let header = RecordHeader::new(kind, id, length);
    let mut bytes = header.encode().to_vec();
    bytes.extend_from_slice(content);
    bytes.resize(bytes.len() + usize::from(header.padding_length), 0);
    bytes
}

/// A record with this much padding, all of it 0xFF, and a reserved byte that is not 0.
pub fn padded(kind: Type, id: u16, content: &[u8], padding: u8) -> Vec<u8> {
    let length = u16::try_from(content.len()).unwrap();
    let mut header =
        RecordHeader { padding_length: padding, ..RecordHeader::new(kind, id, length) }.encode();
    header[7] = 0xFF;
    let mut bytes = [&header[..], content].concat();
    bytes.resize(bytes.len() + usize::from(padding), 0xFF);
    bytes
}

/// BEGIN_REQUEST.
pub fn begin(id: u16, role: u16, keep_conn: bool) -> Vec<u8> {
    record(Type::BeginRequest, id, &BeginRequestBody { role, keep_conn }.encode())
}

/// ABORT_REQUEST.
pub fn abort(id: u16) -> Vec<u8> {
    record(Type::AbortRequest, id, &[])
}

/// PARAMS and their end.
pub fn params(id: u16, pairs: &[(&str, &str)]) -> Vec<u8> {
    [stream(Type::Params, id, &encode(pairs)), close(Type::Params, id)].concat()
}

/// Pairs with lengths of one byte where that is enough.
pub fn encode(pairs: &[(&str, &str)]) -> Vec<u8> {
    let bytes = pairs.iter().map(|(name, value)| (name.as_bytes(), value.as_bytes()));
    bytes.flat_map(|(name, value)| pair(name, value)).collect()
}

/// One pair.
pub fn pair(name: &[u8], value: &[u8]) -> Vec<u8> {
    let length = |bytes: &[u8]| match u8::try_from(bytes.len()) {
        Ok(short) if short < 128 => vec![short],
        _ => long_length(u32::try_from(bytes.len()).unwrap()).to_vec(),
    };
    [length(name), length(value), name.to_vec(), value.to_vec()].concat()
}

/// The pairs of a content, which must be whole ones.
pub fn decode(mut content: &[u8]) -> Vec<(Vec<u8>, Vec<u8>)> {
    fn length(content: &mut &[u8]) -> usize {
        let (bytes, rest) = content.split_at(if content[0] < 128 { 1 } else { 4 });
        *content = rest;
        let sum = bytes.iter().fold(0, |sum, byte| sum << 8 | usize::from(*byte));
        if bytes.len() == 4 { sum & 0x7FFF_FFFF } else { sum }
    }
    let mut pairs = Vec::new();
    while !content.is_empty() {
        let (name, value) = (length(&mut content), length(&mut content));
        pairs.push((content[..name].to_vec(), content[name..name + value].to_vec()));
        content = &content[name + value..];
    }
    pairs
}

/// A length in four bytes.
pub fn long_length(length: u32) -> [u8; 4] {
    (length | 1 << 31).to_be_bytes()
}

/// A stream of records of at most 32 KiB, without its end.
pub fn stream(kind: Type, id: u16, content: &[u8]) -> Vec<u8> {
    content.chunks(32 * 1024).flat_map(|chunk| record(kind, id, chunk)).collect()
}

/// The end of a stream.
pub fn close(kind: Type, id: u16) -> Vec<u8> {
    record(kind, id, &[])
}

/// END_REQUEST.
pub fn end(id: u16, app_status: u32, protocol_status: u8) -> Vec<u8> {
    record(Type::EndRequest, id, &EndRequestBody { app_status, protocol_status }.encode())
}

/// A whole Responder request.
pub fn request(id: u16, keep_conn: bool, pairs: &[(&str, &str)], stdin: &[u8]) -> Vec<u8> {
    [
        begin(id, RESPONDER, keep_conn),
        params(id, pairs),
        stream(Type::Stdin, id, stdin),
        close(Type::Stdin, id),
    ]
    .concat()
}

/// A whole answer: STDOUT, its end, END_REQUEST.
pub fn answer(id: u16, stdout: &[u8]) -> Vec<u8> {
    [stream(Type::Stdout, id, stdout), close(Type::Stdout, id), end(id, 0, 0)].concat()
}

/// An application's answer to one request.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Answer {
    /// All of STDOUT.
    pub stdout: Vec<u8>,
    /// All of STDERR.
    pub stderr: Vec<u8>,
    /// Whether STDOUT was ended by its own record (FC-6.1-1).
    pub stdout_closed: bool,
    /// The same for STDERR.
    pub stderr_closed: bool,
    /// The handler's app status.
    pub app_status: u32,
    /// REQUEST_COMPLETE (0), or why the request was refused (FC-5.5-1).
    pub protocol_status: u8,
}

impl Answer {
    /// Takes a record; true if it was the last.
    ///
    /// # Panics
    /// If the record has no place in an answer, or comes after the end of its stream.
    pub fn take(&mut self, record: &Record) -> bool {
        let (bytes, closed) = match record.kind {
            Type::Stdout => (&mut self.stdout, &mut self.stdout_closed),
            Type::Stderr => (&mut self.stderr, &mut self.stderr_closed),
            _ => {
                (self.app_status, self.protocol_status) = record.end();
                return true;
            }
        };
        assert!(!*closed, "FC-3.3-12: {:?} after the end of its stream", record.kind);
        *closed = record.content.is_empty();
        bytes.extend_from_slice(&record.content);
        false
    }
}

/// An answer of these bytes and nothing unusual.
pub fn complete(stdout: impl AsRef<[u8]>) -> Answer {
    Answer { stdout: stdout.as_ref().to_vec(), stdout_closed: true, ..Answer::default() }
}

/// The end of a request that failed before anything was written, with its page (W-15).
pub fn failed(app_status: u32) -> Answer {
    let page = "Status: 500 Internal Server Error\r\nContent-Type: text/plain\r\n\
                Content-Length: 22\r\n\r\nInternal Server Error\n";
    Answer { app_status, ..complete(page) }
}

/// A refusal, with its page (W-2).
pub fn rejected(rejection: Rejection) -> Answer {
    let page = "Status: 503 Service Unavailable\r\nContent-Type: text/plain\r\n\
                Content-Length: 20\r\n\r\nService Unavailable\n";
    Answer { protocol_status: rejection.as_u8(), ..complete(page) }
}
