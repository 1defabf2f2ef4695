//! The other end of a connection, on sockets of the standard library.

use std::{
    io::{self, Cursor, Read, Write},
    net::{Shutdown, TcpStream},
    os::{
        fd::OwnedFd,
        unix::net::{UnixListener, UnixStream},
    },
    path::PathBuf,
    time::{Duration, Instant},
};

use fcgi_engine::{Address, Target};
use fcgi_proto::record::{HEADER_LEN, RecordHeader};
use tempfile::TempDir;

use super::{Answer, Record, Type, close, end, record};
use crate::{
    listening::has_arrived,
    signal::{Background, PATIENCE, background, until},
};

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

/// The other end of a connection, which speaks hand-made records. Anything that waits too long
/// fails.
#[derive(Debug)]
pub struct Peer {
    io: Io,
    bytes: Vec<u8>,
    until: Instant,
}

impl Peer {
    fn new(io: Io) -> Self {
        Self { io, bytes: Vec::new(), until: Instant::now() + 3 * PATIENCE }
    }

    /// On a unix socket.
    pub fn unix(stream: UnixStream) -> Self {
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_write_timeout(Some(PATIENCE)).unwrap();
        Self::new(Io::Unix(stream))
    }

    /// On TCP.
    pub fn tcp(stream: TcpStream) -> Self {
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_write_timeout(Some(PATIENCE)).unwrap();
        Self::new(Io::Tcp(stream))
    }

    /// A peer of bytes that were read before.
    pub fn replay(bytes: Vec<u8>) -> Self {
        Self::new(Io::Bytes(Cursor::new(bytes)))
    }

    /// Connects.
    pub fn dial(address: &Address) -> Self {
        match address.target() {
            Target::Unix(path) => Self::unix(UnixStream::connect(path).unwrap()),
            Target::Tcp(host_port) => Self::tcp(TcpStream::connect(host_port).unwrap()),
            _ => panic!("descriptor 0 can't be called"),
        }
    }

    /// Sends to an end that must take the bytes.
    pub fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.io.write_all(bytes.as_ref()).unwrap();
    }

    /// Sends to an end that may be gone.
    ///
    /// # Errors
    /// The socket's error.
    pub fn try_send(&mut self, bytes: impl AsRef<[u8]>) -> io::Result<()> {
        self.io.write_all(bytes.as_ref())
    }

    /// Waits until all sent bytes have arrived at the other end's socket.
    pub fn until_it_has_arrived(&self) {
        if let Io::Tcp(stream) = &self.io {
            let local = stream.local_addr().unwrap();
            until("it has arrived", || has_arrived(local));
        }
    }

    /// Sends in a thread, while the test reads.
    pub fn send_beside(&self, bytes: Vec<u8>) -> Background<bool> {
        let mut writer = self.writer();
        background(move || writer.write_all(&bytes).is_ok())
    }

    /// The same socket, to write to.
    pub fn writer(&self) -> impl Write + Send + use<> {
        match &self.io {
            Io::Unix(stream) => Io::Unix(stream.try_clone().unwrap()),
            Io::Tcp(stream) => Io::Tcp(stream.try_clone().unwrap()),
            Io::Bytes(_) => panic!("nothing to write to"),
        }
    }

    /// Another handle to the same socket.
    pub fn socket(&self) -> OwnedFd {
        match &self.io {
            Io::Unix(stream) => stream.try_clone().unwrap().into(),
            Io::Tcp(stream) => stream.try_clone().unwrap().into(),
            Io::Bytes(_) => panic!("no socket"),
        }
    }

    /// Shuts down the sending side.
    pub fn shutdown_write(&self) {
        match &self.io {
            Io::Unix(stream) => stream.shutdown(Shutdown::Write).unwrap(),
            Io::Tcp(stream) => stream.shutdown(Shutdown::Write).unwrap(),
            Io::Bytes(_) => {}
        }
    }

    /// Makes the last close a reset, over TCP.
    pub fn reset_on_close(&self) {
        if let Io::Tcp(stream) = &self.io {
            rustix::net::sockopt::set_socket_linger(stream, Some(Duration::ZERO)).unwrap();
        }
    }

    /// Ends the connection in both directions, even if others have handles of it.
    pub fn shutdown(&self) {
        // The other end may have done so before.
        let _ = match &self.io {
            Io::Unix(stream) => stream.shutdown(Shutdown::Both),
            Io::Tcp(stream) => stream.shutdown(Shutdown::Both),
            Io::Bytes(_) => Ok(()),
        };
    }

    /// All bytes up to the end of the connection, or to a reset.
    pub fn rest(&mut self) -> Vec<u8> {
        let mut bytes = std::mem::take(&mut self.bytes);
        match self.io.read_to_end(&mut bytes) {
            Err(error) if error.kind() != io::ErrorKind::ConnectionReset => panic!("{error}"),
            _ => bytes,
        }
    }

    /// The next record; `None` at the end of the connection, which must be between records.
    ///
    /// # Errors
    /// The socket's error.
    ///
    /// # Panics
    /// If it is a record that nobody may send: not aligned (FC-3.3-2), reserved bytes that are not
    /// zero (FC-3.3-3), padding without content.
    pub fn try_record(&mut self) -> io::Result<Option<Record>> {
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

    /// The next record, which must come.
    pub fn record(&mut self) -> Record {
        self.try_record().unwrap().expect("a record, not the end of the connection")
    }

    /// The next record of this kind; others are skipped.
    pub fn record_of(&mut self, kind: Type) -> Record {
        loop {
            let record = self.record();
            if record.kind == kind {
                return record;
            }
        }
    }

    /// The next bytes of STDOUT, as many as expected, in whatever records.
    pub fn expect_stdout(&mut self, id: u16, expected: impl AsRef<[u8]>) {
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

    /// The answer to the only active request.
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

    /// The answers to two active requests, whichever ends first.
    pub fn answers(&mut self, ids: [u16; 2]) -> [Answer; 2] {
        let mut answers = [Answer::default(), Answer::default()];
        let mut ended = 0;
        while ended < 2 {
            let record = self.record();
            let n = ids.iter().position(|id| *id == record.id).expect("one of the two requests");
            ended += usize::from(answers[n].take(&record));
        }
        answers
    }

    /// Nothing more comes, and the connection ends normally.
    pub fn expect_close(&mut self) {
        assert_eq!(self.try_record().unwrap(), None);
    }

    /// The rest of a truncated response: these bytes of STDOUT, neither its end nor END_REQUEST,
    /// and the end of the connection (W-12).
    pub fn expect_cut(&mut self, id: u16, expected: impl AsRef<[u8]>) {
        let mut came = Vec::new();
        while let Some(record) = self.try_record().unwrap() {
            assert_eq!((record.kind, record.id), (Type::Stdout, id), "{record:?}");
            assert!(!record.content.is_empty(), "the end of STDOUT after {} bytes", came.len());
            came.extend(record.content);
        }
        assert!(came == expected.as_ref(), "{} bytes before the end", came.len());
    }

    /// Nothing more comes. A reset is fine too if sent bytes were left unread.
    pub fn expect_end(&mut self) {
        if let Ok(record) = self.try_record() {
            assert_eq!(record, None);
        }
    }

    /// The connection ends, after the rest of a cancelled request's answer, if there is any.
    pub fn expect_end_of_answer(&mut self) {
        while let Ok(Some(record)) = self.try_record() {
            let ends = matches!(record.kind, Type::Stdout | Type::Stderr | Type::EndRequest);
            assert!(ends && (record.content.is_empty() || record.end().1 == 0), "{record:?}");
        }
    }

    /// As an application: the next whole request's id, PARAMS and STDIN.
    pub fn request(&mut self) -> (u16, Vec<u8>, Vec<u8>) {
        self.try_request().expect("a request, not the end of the connection")
    }

    /// The same; `None` when the connection ends instead.
    pub fn try_request(&mut self) -> Option<(u16, Vec<u8>, Vec<u8>)> {
        let id = loop {
            match self.try_record() {
                Ok(Some(record)) if record.kind == Type::BeginRequest => break record.id,
                Ok(Some(_)) => {}
                Ok(None) | Err(_) => return None,
            }
        };
        let params = self.stream_of(Type::Params, id);
        let stdin = self.stream_of(Type::Stdin, id);
        Some((id, params, stdin))
    }

    /// As an application: answers each request with its own body, as it comes, until the web
    /// server leaves.
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
                    [close(Type::Stdout, id), end(id, 0, 0)].concat()
                }
                Type::Stdin => record(Type::Stdout, id, &content),
                _ => continue,
            };
            begun &= !reply.ends_with(&end(id, 0, 0)) && kind != Type::AbortRequest;
            if self.try_send(reply).is_err() {
                return;
            }
        }
    }

    /// As an application: a request up to the end of its PARAMS.
    pub fn stream_of_params(&mut self) -> Vec<u8> {
        let id = self.record_of(Type::BeginRequest).id;
        self.stream_of(Type::Params, id)
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
}

/// A hand-made application, on a unix socket in a temporary folder.
#[derive(Debug)]
pub struct RawApp {
    /// The address that it listens on.
    pub address: Address,
    /// Listens until this is dropped.
    pub listener: UnixListener,
    _folder: TempDir,
}

impl RawApp {
    /// Listens.
    #[expect(clippy::new_without_default, reason = "it binds a socket")]
    pub fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("raw.sock");
        let listener = UnixListener::bind(&path).unwrap();
        Self { address: Address::unix(path), listener, _folder: folder }
    }

    /// The next connection.
    pub fn accept(&self) -> Peer {
        Peer::unix(self.listener.accept().unwrap().0)
    }

    /// Serves each connection on its own thread, for as long as the test runs.
    pub fn serve(self, app: impl Fn(Peer) + Clone + Send + 'static) -> Address {
        let address = self.address.clone();
        std::thread::spawn(move || {
            loop {
                let (peer, app) = (self.accept(), app.clone());
                std::thread::spawn(move || app(peer));
            }
        });
        address
    }
}

/// A folder and the address of a unix socket in it.
pub fn unix_address() -> (TempDir, PathBuf, Address) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("app.sock");
    let address = Address::unix(path.clone());
    (folder, path, address)
}
