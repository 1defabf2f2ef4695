//! Web servers made of raw bytes, and servers on sockets of their own.

use std::{
    io::{self, Read, Write},
    net::{Shutdown as Half, TcpStream},
    os::unix::net::UnixStream,
    path::PathBuf,
    sync::{Arc, Condvar, Mutex},
    thread::JoinHandle,
    time::{Duration, Instant},
};

use fcgi::{
    Address, Handler, Listener, Server, Shutdown,
    proto::record::{BeginRequestBody, EndRequestBody, HEADER_LEN, RecordHeader, RecordType},
};
use fcgi_blocking as fcgi;
use tempfile::TempDir;

pub use fcgi::proto::record::RecordType as Type;

pub const RESPONDER: u16 = 1;
pub const AUTHORIZER: u16 = 2;
pub const FILTER: u16 = 3;
pub const KEEP: bool = true;
pub const CLOSE: bool = false;

/// Fails instead of waiting for ever. No test depends on how long it is.
const TOO_LONG: Duration = Duration::from_secs(120);

/// One record as it came.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Record {
    pub kind: RecordType,
    pub id: u16,
    pub content: Vec<u8>,
}

impl Record {
    /// An END_REQUEST's app status and protocol status.
    pub fn end(&self) -> (u32, u8) {
        assert_eq!(self.kind, Type::EndRequest, "{self:?}");
        let end = EndRequestBody::decode(self.content.as_slice().try_into().unwrap());
        (end.app_status, end.protocol_status)
    }
}

/// A record as bytes.
pub fn record(kind: Type, id: u16, content: &[u8]) -> Vec<u8> {
    let length = u16::try_from(content.len()).unwrap();
    let header = RecordHeader::new(kind, id, length);
    let mut bytes = header.encode().to_vec();
    bytes.extend_from_slice(content);
    bytes.resize(bytes.len() + usize::from(header.padding_length), 0);
    bytes
}

pub fn begin(id: u16, role: u16, keep_conn: bool) -> Vec<u8> {
    record(Type::BeginRequest, id, &BeginRequestBody { role, keep_conn }.encode())
}

pub fn abort(id: u16) -> Vec<u8> {
    record(Type::AbortRequest, id, &[])
}

/// PARAMS and their end.
pub fn params(id: u16, pairs: &[(&str, &str)]) -> Vec<u8> {
    let mut bytes = Vec::new();
    if !pairs.is_empty() {
        bytes = record(Type::Params, id, &encode(pairs));
    }
    bytes.extend(record(Type::Params, id, &[]));
    bytes
}

/// Pairs with lengths of one byte.
pub fn encode(pairs: &[(&str, &str)]) -> Vec<u8> {
    let mut content = Vec::new();
    for (name, value) in pairs {
        content.extend([u8::try_from(name.len()).unwrap(), u8::try_from(value.len()).unwrap()]);
        content.extend_from_slice(name.as_bytes());
        content.extend_from_slice(value.as_bytes());
    }
    content
}

/// A stream of records of at most 32 KiB, without its end.
pub fn stream(kind: Type, id: u16, content: &[u8]) -> Vec<u8> {
    content.chunks(32 * 1024).flat_map(|chunk| record(kind, id, chunk)).collect()
}

/// The end of a stream.
pub fn close(kind: Type, id: u16) -> Vec<u8> {
    record(kind, id, &[])
}

/// A whole Responder request.
pub fn request(id: u16, keep_conn: bool, pairs: &[(&str, &str)], stdin: &[u8]) -> Vec<u8> {
    let mut bytes = begin(id, RESPONDER, keep_conn);
    bytes.extend(params(id, pairs));
    bytes.extend(stream(Type::Stdin, id, stdin));
    bytes.extend(close(Type::Stdin, id));
    bytes
}

/// What an application answered to one request.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Answer {
    pub stdout: Vec<u8>,
    pub stderr: Vec<u8>,
    pub stdout_closed: bool,
    pub stderr_closed: bool,
    pub app_status: u32,
    pub protocol_status: u8,
}

impl Answer {
    /// Takes a record; says whether it was the last.
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

pub fn complete(stdout: impl AsRef<[u8]>) -> Answer {
    Answer { stdout: stdout.as_ref().to_vec(), stdout_closed: true, ..Answer::default() }
}

pub fn rejected(rejection: fcgi::Rejection) -> Answer {
    let page =
        "Status: 503 Service Unavailable\r\nContent-Type: text/plain\r\n\r\nService Unavailable\n";
    Answer { protocol_status: rejection.as_u8(), ..complete(page) }
}

/// A socket of either kind.
pub trait Socket: Read + Write {
    fn ready(&self);
    fn half_close(&self);
}

impl Socket for UnixStream {
    fn ready(&self) {
        self.set_read_timeout(Some(TOO_LONG)).unwrap();
        self.set_write_timeout(Some(TOO_LONG)).unwrap();
    }

    fn half_close(&self) {
        self.shutdown(Half::Write).unwrap();
    }
}

impl Socket for TcpStream {
    fn ready(&self) {
        self.set_read_timeout(Some(TOO_LONG)).unwrap();
        self.set_write_timeout(Some(TOO_LONG)).unwrap();
    }

    fn half_close(&self) {
        self.shutdown(Half::Write).unwrap();
    }
}

/// The other end of a connection, which speaks records made by hand.
#[derive(Debug)]
pub struct Peer<S = UnixStream> {
    pub io: S,
    bytes: Vec<u8>,
}

impl<S: Socket> Peer<S> {
    pub fn new(io: S) -> Self {
        io.ready();
        Self { io, bytes: Vec::new() }
    }

    pub fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.io.write_all(bytes.as_ref()).unwrap();
    }

    /// The next record; `None` at the end of the connection, which may come between records only.
    pub fn try_record(&mut self) -> io::Result<Option<Record>> {
        let mut header = [0; HEADER_LEN];
        if !self.fill(HEADER_LEN)? {
            assert!(self.bytes.is_empty(), "the connection ended inside a record");
            return Ok(None);
        }
        header.copy_from_slice(&self.bytes[..HEADER_LEN]);
        let header = RecordHeader::decode(header).unwrap();
        let content = HEADER_LEN + usize::from(header.content_length);
        let whole = content + usize::from(header.padding_length);
        assert!(self.fill(whole)?, "the connection ended inside {header:?}");
        assert!(header.content_length > 0 || header.padding_length == 0, "Q-2: {header:?}");
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
            let mut buffer = [0; 16 * 1024];
            let got = self.io.read(&mut buffer)?;
            if got == 0 {
                return Ok(false);
            }
            self.bytes.extend_from_slice(&buffer[..got]);
        }
        Ok(true)
    }

    pub fn record(&mut self) -> Record {
        self.try_record().unwrap().expect("a record, not the end of the connection")
    }

    /// The next record, which must be STDOUT with this content.
    pub fn expect_stdout(&mut self, content: &[u8]) {
        let record = self.record();
        assert_eq!((record.kind, &record.content[..]), (Type::Stdout, content));
    }

    /// The answer to the only request under way.
    pub fn answer(&mut self, id: u16) -> Answer {
        let mut answer = Answer::default();
        loop {
            let record = self.record();
            assert_eq!(record.id, id, "{record:?}");
            if answer.take(&record) {
                return answer;
            }
        }
    }

    /// Nothing more comes, and the connection ends in good order.
    pub fn expect_close(&mut self) {
        assert_eq!(self.try_record().unwrap(), None);
    }

    pub fn half_close(&self) {
        self.io.half_close();
    }
}

impl Peer<UnixStream> {
    /// Another handle to the same socket.
    pub fn sender(&self) -> UnixStream {
        self.io.try_clone().unwrap()
    }
}

/// A server on a unix socket in a temporary folder, or on TCP.
pub struct App {
    folder: TempDir,
    pub address: Address,
    shutdown: Shutdown,
    thread: Option<JoinHandle<io::Result<()>>>,
}

/// Serves from now on.
pub fn serve(server: Server, handler: impl Handler) -> App {
    let folder = tempfile::tempdir().unwrap();
    let address = Address::Unix(folder.path().join("app.sock"));
    serve_at(folder, &address, server, handler)
}

pub fn serve_tcp(server: Server, handler: impl Handler) -> App {
    let folder = tempfile::tempdir().unwrap();
    serve_at(folder, &"tcp:127.0.0.1:0".parse().unwrap(), server, handler)
}

fn serve_at(folder: TempDir, address: &Address, server: Server, handler: impl Handler) -> App {
    let listener = Listener::bind(address).unwrap();
    let address = listener.local_address().clone();
    let shutdown = Shutdown::new();
    let stop = shutdown.clone();
    let thread = std::thread::spawn(move || server.serve_until(listener, handler, &stop));
    App { folder, address, shutdown, thread: Some(thread) }
}

impl App {
    pub fn path(&self) -> PathBuf {
        self.folder.path().join("app.sock")
    }

    pub fn dial(&self) -> Peer {
        Peer::new(UnixStream::connect(self.path()).unwrap())
    }

    pub fn dial_tcp(&self) -> Peer<TcpStream> {
        let Address::Tcp(address) = &self.address else { panic!("not TCP") };
        Peer::new(TcpStream::connect(&**address).unwrap())
    }

    /// Begins the shutdown.
    pub fn stop(&self) {
        self.shutdown.trigger();
    }

    pub fn is_finished(&self) -> bool {
        self.thread.as_ref().unwrap().is_finished()
    }

    /// Waits for the end of the shutdown.
    pub fn stopped(&mut self) {
        until(|| self.is_finished());
        self.thread.take().unwrap().join().unwrap().unwrap();
    }
}

impl Drop for App {
    fn drop(&mut self) {
        // Handlers that a test left waiting see their connections close.
        self.shutdown.trigger();
    }
}

/// What handlers wait for until the test lets one go.
#[derive(Clone, Default)]
pub struct Gate(Arc<(Mutex<usize>, Condvar)>);

impl Gate {
    pub fn open(&self) {
        *self.0.0.lock().unwrap() += 1;
        self.0.1.notify_one();
    }

    pub fn pass(&self) {
        let open = self.0.0.lock().unwrap();
        let (mut open, timeout) =
            self.0.1.wait_timeout_while(open, TOO_LONG, |open| *open == 0).unwrap();
        assert!(!timeout.timed_out(), "the gate was never opened");
        *open -= 1;
    }
}

/// Waits until something is so.
pub fn until(mut is_so: impl FnMut() -> bool) {
    let start = Instant::now();
    while !is_so() {
        assert!(start.elapsed() < TOO_LONG, "nothing happened for too long");
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// Bytes that show where they come from, so that none can be lost, doubled or swapped unseen.
pub fn pattern(len: usize, seed: u64) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    let mut bytes = Vec::with_capacity(len + 8);
    while bytes.len() < len {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend_from_slice(&state.to_le_bytes());
    }
    bytes.truncate(len);
    bytes
}
