//! Applications made of raw bytes, on threads.
#![allow(dead_code, unreachable_pub, reason = "each test program uses a part of it")]

use std::{
    io::{self, Read, Write},
    os::unix::net::{UnixListener, UnixStream},
    sync::mpsc,
    thread::{self, JoinHandle},
    time::Duration,
};

use bytes::Bytes;
use fcgi::{
    Address, Client, Error,
    client::{Collected, Connector, Request},
    proto::record::{EndRequestBody, HEADER_LEN, RecordHeader},
};
use fcgi_blocking as fcgi;
use tempfile::TempDir;

pub use fcgi::proto::record::RecordType as Type;

/// Fails instead of waiting for ever. No test depends on how long it is.
pub const TOO_LONG: Duration = Duration::from_secs(120);

/// Runs something on a thread of its own.
pub fn run<T: Send + 'static>(f: impl FnOnce() -> T + Send + 'static) -> Running<T> {
    let (sender, receiver) = mpsc::channel();
    let thread = thread::spawn(move || {
        // Nobody may be there any more to hear it.
        let _ = sender.send(f());
    });
    Running { receiver, thread }
}

pub struct Running<T> {
    receiver: mpsc::Receiver<T>,
    thread: JoinHandle<()>,
}

impl<T> Running<T> {
    /// Its result, or its panic.
    pub fn join(self) -> T {
        match self.receiver.recv_timeout(TOO_LONG) {
            Ok(result) => result,
            Err(mpsc::RecvTimeoutError::Timeout) => panic!("nothing happened for too long"),
            Err(mpsc::RecvTimeoutError::Disconnected) => {
                std::panic::resume_unwind(self.thread.join().unwrap_err())
            }
        }
    }
}

/// Waits until something is so.
pub fn until(mut is_so: impl FnMut() -> bool) {
    let start = std::time::Instant::now();
    while !is_so() {
        assert!(start.elapsed() < TOO_LONG, "nothing happened for too long");
        thread::sleep(Duration::from_millis(1));
    }
}

/// One record as it came.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Record {
    pub kind: Type,
    pub id: u16,
    pub content: Vec<u8>,
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

pub fn end(id: u16, app_status: u32, protocol_status: u8) -> Vec<u8> {
    record(Type::EndRequest, id, &EndRequestBody { app_status, protocol_status }.encode())
}

/// A whole answer: STDOUT, its end, END_REQUEST.
pub fn answer(id: u16, stdout: &[u8]) -> Vec<u8> {
    let mut bytes: Vec<u8> =
        stdout.chunks(32 * 1024).flat_map(|chunk| record(Type::Stdout, id, chunk)).collect();
    bytes.extend(record(Type::Stdout, id, &[]));
    bytes.extend(end(id, 0, 0));
    bytes
}

/// The web server's end of an accepted connection.
#[derive(Debug)]
pub struct Peer {
    pub io: UnixStream,
    bytes: Vec<u8>,
}

impl Peer {
    pub fn new(io: UnixStream) -> Self {
        io.set_read_timeout(Some(TOO_LONG)).unwrap();
        io.set_write_timeout(Some(TOO_LONG)).unwrap();
        Self { io, bytes: Vec::new() }
    }

    pub fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.io.write_all(bytes.as_ref()).unwrap();
    }

    /// The same, to a web server that may be gone.
    pub fn try_send(&mut self, bytes: impl AsRef<[u8]>) -> io::Result<()> {
        self.io.write_all(bytes.as_ref())
    }

    /// The next record; `None` at the end of the connection, which may come between records only.
    pub fn try_record(&mut self) -> io::Result<Option<Record>> {
        if !self.fill(HEADER_LEN)? {
            assert!(self.bytes.is_empty(), "the connection ended inside a record");
            return Ok(None);
        }
        let header = RecordHeader::decode(self.bytes[..HEADER_LEN].try_into().unwrap()).unwrap();
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

    /// The next record of this kind; the others are passed over.
    pub fn record_of(&mut self, kind: Type) -> Record {
        loop {
            let record = self.record();
            if record.kind == kind {
                return record;
            }
        }
    }

    /// Nothing more comes, and the connection ends in good order.
    pub fn expect_close(&mut self) {
        assert_eq!(self.try_record().unwrap(), None);
    }

    /// The next whole request's id, PARAMS and STDIN.
    pub fn request(&mut self) -> (u16, Vec<u8>, Vec<u8>) {
        self.try_request().expect("a request, not the end of the connection")
    }

    /// The same; `None` when the connection ends instead.
    pub fn try_request(&mut self) -> Option<(u16, Vec<u8>, Vec<u8>)> {
        let begin = loop {
            match self.try_record() {
                Ok(Some(record)) if record.kind == Type::BeginRequest => break record,
                Ok(Some(_)) => {}
                Ok(None) | Err(_) => return None,
            }
        };
        let params = self.stream_of(Type::Params, begin.id);
        let stdin = self.stream_of(Type::Stdin, begin.id);
        Some((begin.id, params, stdin))
    }

    /// A stream up to its end.
    pub fn stream_of(&mut self, kind: Type, id: u16) -> Vec<u8> {
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

    /// Answers each request with its own body, as it comes, until the web server leaves.
    pub fn echo(&mut self) {
        let mut begun = false;
        while let Ok(Some(Record { kind, id, content })) = self.try_record() {
            let reply = match kind {
                Type::BeginRequest => {
                    begun = true;
                    continue;
                }
                Type::AbortRequest => end(id, 1, 0),
                Type::Stdin if !begun => continue,
                Type::Stdin if content.is_empty() => {
                    [record(Type::Stdout, id, &[]), end(id, 0, 0)].concat()
                }
                Type::Stdin => record(Type::Stdout, id, &content),
                _ => continue,
            };
            begun &= !reply.ends_with(&end(id, 0, 0)) && kind != Type::AbortRequest;
            if self.io.write_all(&reply).is_err() {
                return;
            }
        }
    }
}

/// An application made by hand.
pub struct RawApp {
    pub folder: TempDir,
    pub address: Address,
    pub listener: UnixListener,
}

impl RawApp {
    pub fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("raw.sock");
        let listener = UnixListener::bind(&path).unwrap();
        Self { folder, address: Address::Unix(path), listener }
    }

    pub fn accept(&self) -> Peer {
        Peer::new(self.listener.accept().unwrap().0)
    }

    /// Serves each connection on a thread of its own, for as long as the test runs.
    pub fn serve(self, app: impl Fn(Peer) + Clone + Send + 'static) -> Address {
        let address = self.address.clone();
        thread::spawn(move || {
            loop {
                let (peer, app) = (self.accept(), app.clone());
                thread::spawn(move || app(peer));
            }
        });
        address
    }
}

/// Bytes that show where they come from, so that none can be lost, doubled or swapped unseen.
pub fn pattern(len: usize, seed: u64) -> Vec<u8> {
    let mut random = Random(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1);
    let mut bytes = Vec::with_capacity(len + 8);
    while bytes.len() < len {
        bytes.extend_from_slice(&random.next().to_le_bytes());
    }
    bytes.truncate(len);
    bytes
}

/// A small generator: a test must be the same each time.
pub struct Random(pub u64);

impl Random {
    pub fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    pub fn below(&mut self, n: u64) -> u64 {
        self.next() % n
    }
}

// What both tests of the client use.

pub fn post(body: &[u8]) -> Request {
    let length = body.len().to_string();
    Request::responder().param("CONTENT_LENGTH", length).stdin(Bytes::copy_from_slice(body))
}

pub fn call(client: &mut Client, request: Request) -> Result<Collected, Error> {
    client.send(request)?.collect(64 << 20)
}

pub fn stdout(bytes: impl Into<Bytes>) -> Collected {
    Collected { stdout: bytes.into(), ..Collected::default() }
}

pub fn connect(
    app: RawApp,
    peer: impl FnOnce(&mut Peer) + Send + 'static,
) -> (Client, Running<Peer>) {
    connect_by(&Connector::new(), app, peer)
}

/// A client and the application's end of its connection, on which `peer` runs.
pub fn connect_by(
    connector: &Connector,
    app: RawApp,
    peer: impl FnOnce(&mut Peer) + Send + 'static,
) -> (Client, Running<Peer>) {
    let client = connector.connect(&app.address).unwrap();
    let running = run(move || {
        let mut accepted = app.accept();
        peer(&mut accepted);
        accepted
    });
    (client, running)
}
