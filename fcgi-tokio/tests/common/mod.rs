//! Peers made of raw bytes, and servers on sockets of their own, on tokio's clock.
#![allow(dead_code, unreachable_pub, reason = "each test program uses a part of it")]

use std::{
    future::Future,
    io,
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use fcgi::{
    Address, Handler, Listener, Server,
    proto::record::{BeginRequestBody, EndRequestBody, HEADER_LEN, RecordHeader, RecordType},
};
use fcgi_tokio as fcgi;
use tempfile::TempDir;
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::{UnixListener, UnixStream},
    sync::oneshot,
    task::JoinHandle,
};

pub use fcgi::proto::record::RecordType as Type;

pub const RESPONDER: u16 = 1;
pub const KEEP: bool = true;
pub const CLOSE: bool = false;

/// Fails instead of waiting for ever. No test depends on how long it is.
pub async fn within<F: Future>(future: F) -> F::Output {
    match tokio::time::timeout(Duration::from_secs(120), future).await {
        Ok(output) => output,
        Err(_) => panic!("nothing happened for too long"),
    }
}

/// With a paused clock, tokio jumps to the next timer whenever it looks at the sockets. A timer
/// that is always near makes those jumps small, so that no limit passes while bytes are under way.
pub fn tick() {
    tokio::spawn(async {
        loop {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    });
}

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

pub fn end(id: u16, app_status: u32, protocol_status: u8) -> Vec<u8> {
    record(Type::EndRequest, id, &EndRequestBody { app_status, protocol_status }.encode())
}

/// A whole Responder request.
pub fn request(id: u16, keep_conn: bool, pairs: &[(&str, &str)], stdin: &[u8]) -> Vec<u8> {
    let mut bytes = begin(id, RESPONDER, keep_conn);
    bytes.extend(params(id, pairs));
    bytes.extend(stream(Type::Stdin, id, stdin));
    bytes.extend(close(Type::Stdin, id));
    bytes
}

/// An application's answer to one request.
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
    /// Takes a record; true if it was the last.
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

/// The other end of a connection, which speaks records made by hand.
#[derive(Debug)]
pub struct Peer<S = UnixStream> {
    pub io: S,
    bytes: Vec<u8>,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Peer<S> {
    pub fn new(io: S) -> Self {
        Self { io, bytes: Vec::new() }
    }

    pub async fn send(&mut self, bytes: impl AsRef<[u8]>) {
        within(self.io.write_all(bytes.as_ref())).await.unwrap();
    }

    /// The next record; `None` at the end of the connection, which must be between records.
    pub async fn try_record(&mut self) -> io::Result<Option<Record>> {
        let mut header = [0; HEADER_LEN];
        if !self.fill(HEADER_LEN).await? {
            assert!(self.bytes.is_empty(), "the connection ended inside a record");
            return Ok(None);
        }
        header.copy_from_slice(&self.bytes[..HEADER_LEN]);
        let header = RecordHeader::decode(header).unwrap();
        let content = HEADER_LEN + usize::from(header.content_length);
        let whole = content + usize::from(header.padding_length);
        assert!(self.fill(whole).await?, "the connection ended inside {header:?}");
        assert!(header.content_length > 0 || header.padding_length == 0, "Q-2: {header:?}");
        let record = Record {
            kind: header.record_type,
            id: header.request_id,
            content: self.bytes[HEADER_LEN..content].to_vec(),
        };
        self.bytes.drain(..whole);
        Ok(Some(record))
    }

    async fn fill(&mut self, n: usize) -> io::Result<bool> {
        while self.bytes.len() < n {
            let mut buffer = [0; 16 * 1024];
            let got = within(self.io.read(&mut buffer)).await?;
            if got == 0 {
                return Ok(false);
            }
            self.bytes.extend_from_slice(&buffer[..got]);
        }
        Ok(true)
    }

    pub async fn record(&mut self) -> Record {
        self.try_record().await.unwrap().expect("a record, not the end of the connection")
    }

    /// The next record of this kind; others are skipped.
    pub async fn record_of(&mut self, kind: Type) -> Record {
        loop {
            let record = self.record().await;
            if record.kind == kind {
                return record;
            }
        }
    }

    /// The answer to the only active request.
    pub async fn answer(&mut self, id: u16) -> Answer {
        let mut answer = Answer::default();
        loop {
            let record = self.record().await;
            assert_eq!(record.id, id, "{record:?}");
            if answer.take(&record) {
                return answer;
            }
        }
    }

    /// Nothing more comes, and the connection ends normally.
    pub async fn expect_close(&mut self) {
        assert_eq!(self.try_record().await.unwrap(), None);
    }

    /// As an application: the next whole request's id, PARAMS and STDIN.
    pub async fn request(&mut self) -> (u16, Vec<u8>, Vec<u8>) {
        let id = self.record_of(Type::BeginRequest).await.id;
        let params = self.stream_of(Type::Params, id).await;
        let stdin = self.stream_of(Type::Stdin, id).await;
        (id, params, stdin)
    }

    /// A stream up to its end.
    pub async fn stream_of(&mut self, kind: Type, id: u16) -> Vec<u8> {
        let mut all = Vec::new();
        loop {
            let record = self.record().await;
            assert_eq!((record.kind, record.id), (kind, id), "{record:?}");
            if record.content.is_empty() {
                return all;
            }
            all.extend(record.content);
        }
    }
}

/// A server on a unix socket in a temporary folder.
pub struct App {
    folder: TempDir,
    stop: Option<oneshot::Sender<()>>,
    task: JoinHandle<Result<(), fcgi_tokio::Error>>,
}

/// Serves from now on.
pub fn serve(server: Server, handler: impl Handler) -> App {
    let folder = tempfile::tempdir().unwrap();
    let address = Address::unix(folder.path().join("app.sock"));
    let listener = Listener::bind(&address).unwrap();
    let (stop, stopped) = oneshot::channel::<()>();
    let task = tokio::spawn(async move {
        let stopped = async move {
            // A test that forgot the sender goes on to the end of its runtime.
            if stopped.await.is_err() {
                std::future::pending::<()>().await;
            }
        };
        server.serve(listener, handler).with_graceful_shutdown(stopped).await
    });
    App { folder, stop: Some(stop), task }
}

impl App {
    fn path(&self) -> PathBuf {
        self.folder.path().join("app.sock")
    }

    pub async fn dial(&self) -> Peer {
        Peer::new(UnixStream::connect(self.path()).await.unwrap())
    }

    /// Begins the shutdown.
    pub fn stop(&mut self) {
        self.stop.take().unwrap().send(()).unwrap();
    }

    /// Waits for the end of the shutdown.
    pub async fn stopped(&mut self) {
        within(&mut self.task).await.unwrap().unwrap();
    }
}

/// An application made by hand.
pub struct RawApp {
    _folder: TempDir,
    pub address: Address,
    listener: UnixListener,
}

impl RawApp {
    pub fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("raw.sock");
        let listener = UnixListener::bind(&path).unwrap();
        Self { _folder: folder, address: Address::unix(path), listener }
    }

    pub async fn accept(&self) -> Peer {
        Peer::new(within(self.listener.accept()).await.unwrap().0)
    }
}

/// Says when it was dropped: a handler's future, for one.
#[derive(Clone, Debug, Default)]
pub struct Flag(Arc<AtomicBool>);

pub struct SetOnDrop(Flag);

impl Flag {
    pub fn on_drop(&self) -> SetOnDrop {
        SetOnDrop(self.clone())
    }

    pub fn set(&self) {
        self.0.store(true, Ordering::SeqCst);
    }

    pub fn is_set(&self) -> bool {
        self.0.load(Ordering::SeqCst)
    }

    /// Waits until it is set.
    pub async fn wait(&self) {
        until(|| self.is_set()).await;
    }
}

impl Drop for SetOnDrop {
    fn drop(&mut self) {
        self.0.set();
    }
}

/// Waits until something is so.
pub async fn until(mut is_so: impl FnMut() -> bool) {
    within(async {
        while !is_so() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    })
    .await;
}
