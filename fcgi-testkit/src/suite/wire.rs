//! Peers made of raw bytes on sockets of the standard library.

use std::{
    io::{self, Cursor, Read, Write},
    net::{Shutdown, TcpStream},
    os::unix::net::{UnixListener, UnixStream},
    path::PathBuf,
    time::Instant,
};

use fcgi_net::Address;
use fcgi_proto::record::{BeginRequestBody, EndRequestBody, HEADER_LEN, RecordHeader};
use tempfile::TempDir;

use super::signal::{Background, PATIENCE, background};

pub(crate) use fcgi_proto::record::RecordType as Type;

pub(crate) const RESPONDER: u16 = 1;
pub(crate) const AUTHORIZER: u16 = 2;
pub(crate) const FILTER: u16 = 3;
pub(crate) const KEEP: bool = true;
pub(crate) const CLOSE: bool = false;

/// One record as it came.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Record {
    pub(crate) kind: Type,
    pub(crate) id: u16,
    pub(crate) content: Vec<u8>,
}

impl Record {
    /// An END_REQUEST's app status and protocol status.
    pub(crate) fn end(&self) -> (u32, u8) {
        assert_eq!(self.kind, Type::EndRequest, "{self:?}");
        assert_eq!(self.content[5..], [0; 3], "FC-3.3-3: reserved bytes are sent as zero");
        let end = EndRequestBody::decode(self.content.as_slice().try_into().unwrap());
        (end.app_status, end.protocol_status)
    }
}

/// A record as bytes, padded to a multiple of 8.
pub(crate) fn record(kind: Type, id: u16, content: &[u8]) -> Vec<u8> {
    let length = u16::try_from(content.len()).unwrap();
    let header = RecordHeader::new(kind, id, length);
    let mut bytes = header.encode().to_vec();
    bytes.extend_from_slice(content);
    bytes.resize(bytes.len() + usize::from(header.padding_length), 0);
    bytes
}

/// A record with so much padding, all of it 0xFF, and a reserved byte that is not 0.
pub(crate) fn padded(kind: Type, id: u16, content: &[u8], padding: u8) -> Vec<u8> {
    let length = u16::try_from(content.len()).unwrap();
    let mut header =
        RecordHeader { padding_length: padding, ..RecordHeader::new(kind, id, length) }.encode();
    header[7] = 0xFF;
    let mut bytes = [&header[..], content].concat();
    bytes.resize(bytes.len() + usize::from(padding), 0xFF);
    bytes
}

pub(crate) fn begin(id: u16, role: u16, keep_conn: bool) -> Vec<u8> {
    record(Type::BeginRequest, id, &BeginRequestBody { role, keep_conn }.encode())
}

pub(crate) fn abort(id: u16) -> Vec<u8> {
    record(Type::AbortRequest, id, &[])
}

/// PARAMS and their end.
pub(crate) fn params(id: u16, pairs: &[(&str, &str)]) -> Vec<u8> {
    [stream(Type::Params, id, &encode(pairs)), close(Type::Params, id)].concat()
}

/// Pairs with lengths of one byte where that is enough.
pub(crate) fn encode(pairs: &[(&str, &str)]) -> Vec<u8> {
    let bytes = pairs.iter().map(|(name, value)| (name.as_bytes(), value.as_bytes()));
    bytes.flat_map(|(name, value)| pair(name, value)).collect()
}

/// One pair.
pub(crate) fn pair(name: &[u8], value: &[u8]) -> Vec<u8> {
    let length = |bytes: &[u8]| match u8::try_from(bytes.len()) {
        Ok(short) if short < 128 => vec![short],
        _ => long_length(u32::try_from(bytes.len()).unwrap()).to_vec(),
    };
    [length(name), length(value), name.to_vec(), value.to_vec()].concat()
}

/// The pairs of a content, which must be whole ones.
pub(crate) fn decode(mut content: &[u8]) -> Vec<(Vec<u8>, Vec<u8>)> {
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
pub(crate) fn long_length(length: u32) -> [u8; 4] {
    (length | 1 << 31).to_be_bytes()
}

/// A stream of records of at most 32 KiB, without its end.
pub(crate) fn stream(kind: Type, id: u16, content: &[u8]) -> Vec<u8> {
    content.chunks(32 * 1024).flat_map(|chunk| record(kind, id, chunk)).collect()
}

/// The end of a stream.
pub(crate) fn close(kind: Type, id: u16) -> Vec<u8> {
    record(kind, id, &[])
}

pub(crate) fn end(id: u16, app_status: u32, protocol_status: u8) -> Vec<u8> {
    record(Type::EndRequest, id, &EndRequestBody { app_status, protocol_status }.encode())
}

/// A whole Responder request.
pub(crate) fn request(id: u16, keep_conn: bool, pairs: &[(&str, &str)], stdin: &[u8]) -> Vec<u8> {
    [
        begin(id, RESPONDER, keep_conn),
        params(id, pairs),
        stream(Type::Stdin, id, stdin),
        close(Type::Stdin, id),
    ]
    .concat()
}

/// A whole answer: STDOUT, its end, END_REQUEST.
pub(crate) fn answer(id: u16, stdout: &[u8]) -> Vec<u8> {
    [stream(Type::Stdout, id, stdout), close(Type::Stdout, id), end(id, 0, 0)].concat()
}

/// What an application answered to one request.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(crate) struct Answer {
    pub(crate) stdout: Vec<u8>,
    pub(crate) stderr: Vec<u8>,
    pub(crate) stdout_closed: bool,
    pub(crate) stderr_closed: bool,
    pub(crate) app_status: u32,
    pub(crate) protocol_status: u8,
}

impl Answer {
    /// Takes a record; says whether it was the last.
    pub(crate) fn take(&mut self, record: &Record) -> bool {
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
pub(crate) fn complete(stdout: impl AsRef<[u8]>) -> Answer {
    Answer { stdout: stdout.as_ref().to_vec(), stdout_closed: true, ..Answer::default() }
}

#[derive(Debug)]
enum Io {
    Unix(UnixStream),
    Tcp(TcpStream),
    /// Bytes that were read before.
    Bytes(Cursor<Vec<u8>>),
}

impl Read for Io {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Unix(stream) => stream.read(buf),
            Self::Tcp(stream) => stream.read(buf),
            Self::Bytes(bytes) => bytes.read(buf),
        }
    }
}

impl Write for Io {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        match self {
            Self::Unix(stream) => stream.write(buf),
            Self::Tcp(stream) => stream.write(buf),
            Self::Bytes(_) => Err(io::ErrorKind::Unsupported.into()),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// The other end of a connection, which speaks records made by hand. Whatever waits too long
/// fails.
#[derive(Debug)]
pub(crate) struct Peer {
    io: Io,
    bytes: Vec<u8>,
    until: Instant,
}

impl Peer {
    fn new(io: Io) -> Self {
        Self { io, bytes: Vec::new(), until: Instant::now() + 3 * PATIENCE }
    }

    pub(crate) fn unix(stream: UnixStream) -> Self {
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_write_timeout(Some(PATIENCE)).unwrap();
        Self::new(Io::Unix(stream))
    }

    pub(crate) fn tcp(stream: TcpStream) -> Self {
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_write_timeout(Some(PATIENCE)).unwrap();
        Self::new(Io::Tcp(stream))
    }

    /// Of what was read before.
    pub(crate) fn replay(bytes: Vec<u8>) -> Self {
        Self::new(Io::Bytes(Cursor::new(bytes)))
    }

    pub(crate) fn dial(address: &Address) -> Self {
        match address {
            Address::Unix(path) => Self::unix(UnixStream::connect(path).unwrap()),
            Address::Tcp(host_port) => Self::tcp(TcpStream::connect(&**host_port).unwrap()),
            Address::Stdin => panic!("descriptor 0 can't be called"),
        }
    }

    pub(crate) fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.io.write_all(bytes.as_ref()).unwrap();
    }

    /// Sends beside the test, which reads meanwhile.
    pub(crate) fn send_beside(&self, bytes: Vec<u8>) -> Background<bool> {
        let mut writer = self.writer();
        background(move || writer.write_all(&bytes).is_ok())
    }

    /// The same socket, to write to.
    pub(crate) fn writer(&self) -> impl Write + Send + use<> {
        match &self.io {
            Io::Unix(stream) => Io::Unix(stream.try_clone().unwrap()),
            Io::Tcp(stream) => Io::Tcp(stream.try_clone().unwrap()),
            Io::Bytes(_) => panic!("nothing to write to"),
        }
    }

    /// Says that nothing more will be sent.
    pub(crate) fn shutdown_write(&self) {
        match &self.io {
            Io::Unix(stream) => stream.shutdown(Shutdown::Write).unwrap(),
            Io::Tcp(stream) => stream.shutdown(Shutdown::Write).unwrap(),
            Io::Bytes(_) => {}
        }
    }

    /// Ends the connection in both directions, whoever else has a hold of it.
    pub(crate) fn shutdown(&self) {
        // The other end may have done so before.
        let _ = match &self.io {
            Io::Unix(stream) => stream.shutdown(Shutdown::Both),
            Io::Tcp(stream) => stream.shutdown(Shutdown::Both),
            Io::Bytes(_) => Ok(()),
        };
    }

    /// All bytes up to the end of the connection, or to a reset.
    pub(crate) fn rest(&mut self) -> Vec<u8> {
        let mut bytes = std::mem::take(&mut self.bytes);
        match self.io.read_to_end(&mut bytes) {
            Err(error) if error.kind() != io::ErrorKind::ConnectionReset => panic!("{error}"),
            _ => bytes,
        }
    }

    /// The next record; `None` at the end of the connection, which may come between records only.
    pub(crate) fn try_record(&mut self) -> io::Result<Option<Record>> {
        if !self.fill(HEADER_LEN)? {
            assert!(self.bytes.is_empty(), "the connection ended inside a record");
            return Ok(None);
        }
        let bytes: [u8; HEADER_LEN] = self.bytes[..HEADER_LEN].try_into().unwrap();
        assert_eq!(bytes[7], 0, "FC-3.3-3: the reserved byte is sent as zero");
        let header = RecordHeader::decode(bytes).unwrap();
        let content = HEADER_LEN + usize::from(header.content_length);
        let whole = content + usize::from(header.padding_length);
        assert_eq!(whole % 8, 0, "FC-3.3-2: records are aligned: {header:?}");
        assert!(header.content_length > 0 || header.padding_length == 0, "Q-2: {header:?}");
        assert!(self.fill(whole)?, "the connection ended inside {header:?}");
        let record = Record {
            kind: header.record_type,
            id: header.request_id,
            content: self.bytes[HEADER_LEN..content].to_vec(),
        };
        self.bytes.drain(..whole);
        Ok(Some(record))
    }

    fn fill(&mut self, n: usize) -> io::Result<bool> {
        while self.bytes.len() < n {
            assert!(Instant::now() < self.until, "what should come, comes too slowly");
            let mut buffer = [0; 16 * 1024];
            let got = match self.io.read(&mut buffer) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                got => got?,
            };
            if got == 0 {
                return Ok(false);
            }
            self.bytes.extend_from_slice(&buffer[..got]);
        }
        Ok(true)
    }

    pub(crate) fn record(&mut self) -> Record {
        self.try_record().unwrap().expect("a record, not the end of the connection")
    }

    /// The next record of this kind; the others are passed over.
    pub(crate) fn record_of(&mut self, kind: Type) -> Record {
        loop {
            let record = self.record();
            if record.kind == kind {
                return record;
            }
        }
    }

    /// The next bytes of STDOUT, as many as expected, in whatever records.
    pub(crate) fn expect_stdout(&mut self, id: u16, expected: impl AsRef<[u8]>) {
        let expected = expected.as_ref();
        let mut came = Vec::new();
        while came.len() < expected.len() {
            let record = self.record();
            assert_eq!((record.kind, record.id), (Type::Stdout, id), "{record:?}");
            assert!(!record.content.is_empty(), "the end of STDOUT after {came:?}");
            came.extend(record.content);
        }
        assert_eq!(came, expected);
    }

    /// The answer to the only request under way.
    pub(crate) fn answer(&mut self, id: u16) -> Answer {
        let mut answer = Answer::default();
        loop {
            let record = self.record();
            assert_eq!(record.id, id, "{record:?}");
            if answer.take(&record) {
                return answer;
            }
        }
    }

    /// The answers to two requests under way, whichever ends first.
    pub(crate) fn answers(&mut self, ids: [u16; 2]) -> [Answer; 2] {
        let mut answers = [Answer::default(), Answer::default()];
        let mut ended = 0;
        while ended < 2 {
            let record = self.record();
            let n = ids.iter().position(|id| *id == record.id).expect("one of the two requests");
            ended += usize::from(answers[n].take(&record));
        }
        answers
    }

    /// Nothing more comes, and the connection ends in good order.
    pub(crate) fn expect_close(&mut self) {
        assert_eq!(self.try_record().unwrap(), None);
    }

    /// Nothing more comes. A reset is as good, where bytes that were sent were left unread.
    pub(crate) fn expect_end(&mut self) {
        if let Ok(record) = self.try_record() {
            assert_eq!(record, None);
        }
    }

    /// The connection ends, after what a cancelled request still had to say, if anything.
    pub(crate) fn expect_end_of_answer(&mut self) {
        while let Ok(Some(record)) = self.try_record() {
            let ends = matches!(record.kind, Type::Stdout | Type::Stderr | Type::EndRequest);
            assert!(ends && (record.content.is_empty() || record.end().1 == 0), "{record:?}");
        }
    }

    /// As an application: the next whole request's id, PARAMS and STDIN.
    pub(crate) fn request(&mut self) -> (u16, Vec<u8>, Vec<u8>) {
        let id = self.record_of(Type::BeginRequest).id;
        let params = self.stream_of(Type::Params, id);
        let stdin = self.stream_of(Type::Stdin, id);
        (id, params, stdin)
    }

    /// As an application: a request up to the end of its PARAMS.
    pub(crate) fn stream_of_params(&mut self) -> Vec<u8> {
        let id = self.record_of(Type::BeginRequest).id;
        self.stream_of(Type::Params, id)
    }

    /// A stream up to its end.
    pub(crate) fn stream_of(&mut self, kind: Type, id: u16) -> Vec<u8> {
        let mut all = Vec::new();
        loop {
            let record = self.record();
            assert_eq!((record.kind, record.id), (kind, id), "{record:?}");
            if record.content.is_empty() {
                return all;
            }
            all.extend(record.content);
        }
    }
}

/// An application made by hand.
pub(crate) struct RawApp {
    pub(crate) address: Address,
    listener: UnixListener,
    _folder: TempDir,
}

impl RawApp {
    pub(crate) fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("raw.sock");
        let listener = UnixListener::bind(&path).unwrap();
        Self { address: Address::Unix(path), listener, _folder: folder }
    }

    pub(crate) fn accept(&self) -> Peer {
        Peer::unix(self.listener.accept().unwrap().0)
    }
}

/// A folder and the address of a unix socket in it.
pub(crate) fn unix_address() -> (TempDir, PathBuf, Address) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("app.sock");
    let address = Address::Unix(path.clone());
    (folder, path, address)
}
