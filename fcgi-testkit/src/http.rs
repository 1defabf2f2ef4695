//! A small blocking HTTP/1.1 client: enough to test a web server that passes
//! requests on to an application.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{Shutdown, TcpStream, ToSocketAddrs};
use std::thread;
use std::time::Duration;

/// A hung peer fails its test instead of hanging it.
const TIMEOUT: Duration = Duration::from_secs(60);
const MAX_LINE: u64 = 64 * 1024;
const MAX_FIELDS: usize = 1000;
const CHUNK: usize = 64 * 1024;

/// A connection that can carry one request after another.
#[derive(Debug)]
pub struct HttpConnection {
    stream: BufReader<TcpStream>,
    body: BodyLeft,
    /// The request was HEAD: its reply has no body, whatever its fields say.
    head_only: bool,
}

/// A request's body: bytes of the [`pattern`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Upload {
    /// This many bytes, declared by Content-Length.
    Length(u64),
    /// This many bytes in chunks, without a declared length.
    Chunked(u64),
}

/// How much of the current reply's body is still to be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum BodyLeft {
    Bytes(u64),
    /// Bytes left of the current chunk; 0 before the next chunk's head.
    Chunked(u64),
    UntilClose,
    Nothing,
}

/// A reply's status and fields.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReplyHead {
    /// The status code.
    pub status: u16,
    /// The fields in order, their names in lower case.
    pub fields: Vec<(String, String)>,
}

impl ReplyHead {
    /// The first value of a field; `name` in lower case.
    pub fn field(&self, name: &str) -> Option<&str> {
        self.all(name).next()
    }

    /// Every value of a field, in order; `name` in lower case.
    pub fn all(&self, name: &str) -> impl Iterator<Item = &str> {
        self.fields.iter().filter(move |(field, _)| field == name).map(|(_, value)| value.as_str())
    }
}

/// A whole reply.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reply {
    /// Status and fields.
    pub head: ReplyHead,
    /// The body, without its chunks' framing.
    pub body: Vec<u8>,
}

impl HttpConnection {
    /// Connects, for example to `("127.0.0.1", port)`.
    ///
    /// # Errors
    ///
    /// The error of the connect.
    pub fn connect(address: impl ToSocketAddrs) -> io::Result<Self> {
        let stream = TcpStream::connect(address)?;
        stream.set_read_timeout(Some(TIMEOUT))?;
        stream.set_write_timeout(Some(TIMEOUT))?;
        stream.set_nodelay(true)?;
        Ok(Self {
            stream: BufReader::with_capacity(CHUNK, stream),
            body: BodyLeft::Nothing,
            head_only: false,
        })
    }

    /// GET, and the whole reply.
    ///
    /// # Errors
    ///
    /// IO errors, and [`io::ErrorKind::InvalidData`] for what isn't HTTP.
    pub fn get(&mut self, target: &str) -> io::Result<Reply> {
        self.send_head("GET", target, &[])?;
        self.read_reply()
    }

    /// HEAD, and the reply, which has no body.
    ///
    /// # Errors
    ///
    /// As [`HttpConnection::get`].
    pub fn head(&mut self, target: &str) -> io::Result<Reply> {
        self.send_head("HEAD", target, &[])?;
        self.read_reply()
    }

    /// POST with `n` bytes of the pattern [`pattern`], and the whole reply; as
    /// [`HttpConnection::upload`].
    ///
    /// # Errors
    ///
    /// As [`HttpConnection::upload`].
    pub fn post(&mut self, target: &str, n: u64) -> io::Result<Reply> {
        self.upload(target, Upload::Length(n))
    }

    /// POST with a body, and the whole reply. Sends and reads at the same
    /// time, so that a body echoed as it comes can't fill both directions.
    ///
    /// # Errors
    ///
    /// As [`HttpConnection::get`]. A body that the server did not read to its end is not an error
    /// if the server replied.
    pub fn upload(&mut self, target: &str, body: Upload) -> io::Result<Reply> {
        let length;
        let field = match body {
            Upload::Length(n) => {
                length = n.to_string();
                ("Content-Length", length.as_str())
            }
            Upload::Chunked(_) => ("Transfer-Encoding", "chunked"),
        };
        self.send_head("POST", target, &[field])?;
        let mut writer = self.stream.get_ref().try_clone()?;
        thread::scope(|scope| {
            let sending = scope.spawn(move || write_body(&mut writer, body));
            let reply = self.read_reply();
            // A server that replied early may never read the rest.
            if reply.is_err() || self.must_close() {
                let _ = self.stream.get_ref().shutdown(Shutdown::Both);
            }
            // The reply tells more than how the sending ended.
            let _ = sending.join();
            reply
        })
    }

    /// Sends a request's head; its body, if it has one, goes out by
    /// [`HttpConnection::send`].
    ///
    /// # Errors
    ///
    /// The error of the write.
    pub fn send_head(
        &mut self,
        method: &str,
        target: &str,
        fields: &[(&str, &str)],
    ) -> io::Result<()> {
        let mut head = format!("{method} {target} HTTP/1.1\r\nHost: 127.0.0.1\r\n");
        for (name, value) in fields {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
        head.push_str("\r\n");
        self.head_only = method == "HEAD";
        self.send(head.as_bytes())
    }

    /// Sends these bytes unchanged.
    ///
    /// # Errors
    ///
    /// The error of the write.
    pub fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.stream.get_mut().write_all(bytes)
    }

    /// Reads a reply to its end.
    ///
    /// # Errors
    ///
    /// As [`HttpConnection::get`].
    pub fn read_reply(&mut self) -> io::Result<Reply> {
        let head = self.read_head()?;
        let mut body = Vec::new();
        let mut buffer = vec![0; CHUNK];
        loop {
            match self.read_body(&mut buffer)? {
                0 => return Ok(Reply { head, body }),
                n => body.extend_from_slice(&buffer[..n]),
            }
        }
    }

    /// Reads a reply's head; its body follows by [`HttpConnection::read_body`]. To leave early,
    /// drop the connection.
    ///
    /// # Errors
    ///
    /// As [`HttpConnection::get`].
    pub fn read_head(&mut self) -> io::Result<ReplyHead> {
        let line = self.read_line()?;
        let status = line
            .strip_prefix("HTTP/1.")
            .and_then(|rest| rest.split(' ').nth(1)?.parse().ok())
            .ok_or_else(|| invalid(format!("expected a status line, got {line:?}")))?;
        let mut fields = Vec::new();
        loop {
            let line = self.read_line()?;
            if line.is_empty() {
                break;
            }
            let (name, value) = line
                .split_once(':')
                .ok_or_else(|| invalid(format!("expected a header field, got {line:?}")))?;
            fields.push((name.to_ascii_lowercase(), value.trim().to_owned()));
            if fields.len() > MAX_FIELDS {
                return Err(invalid(format!("more than {MAX_FIELDS} header fields")));
            }
        }
        let head = ReplyHead { status, fields };
        self.body = if self.head_only { BodyLeft::Nothing } else { body_of(&head)? };
        Ok(head)
    }

    /// Reads some bytes of the body; 0 at its end.
    ///
    /// # Errors
    ///
    /// As [`HttpConnection::get`].
    pub fn read_body(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if buffer.is_empty() {
            return Ok(0);
        }
        match self.body {
            BodyLeft::Nothing => Ok(0),
            BodyLeft::UntilClose => self.read(buffer),
            BodyLeft::Bytes(left) => {
                let n = self.read_some(buffer, left)?;
                self.body = match left - n as u64 {
                    0 => BodyLeft::Nothing,
                    left => BodyLeft::Bytes(left),
                };
                Ok(n)
            }
            BodyLeft::Chunked(0) => {
                let line = self.read_line()?;
                let size = line.split(';').next().unwrap_or_default().trim();
                let size = u64::from_str_radix(size, 16)
                    .map_err(|_| invalid(format!("expected a chunk's size, got {line:?}")))?;
                if size == 0 {
                    while !self.read_line()?.is_empty() {}
                    self.body = BodyLeft::Nothing;
                    return Ok(0);
                }
                self.body = BodyLeft::Chunked(size);
                self.read_body(buffer)
            }
            BodyLeft::Chunked(left) => {
                let n = self.read_some(buffer, left)?;
                self.body = BodyLeft::Chunked(left - n as u64);
                if left == n as u64 {
                    let line = self.read_line()?;
                    if !line.is_empty() {
                        return Err(invalid(format!("expected a chunk's end, got {line:?}")));
                    }
                }
                Ok(n)
            }
        }
    }

    fn must_close(&self) -> bool {
        self.body == BodyLeft::UntilClose
    }

    fn read_some(&mut self, buffer: &mut [u8], left: u64) -> io::Result<usize> {
        let most = buffer.len().min(usize::try_from(left).unwrap_or(usize::MAX));
        match self.read(&mut buffer[..most])? {
            0 => Err(io::Error::new(
                io::ErrorKind::UnexpectedEof,
                format!("the reply's body ended {left} bytes early"),
            )),
            n => Ok(n),
        }
    }

    /// A read with a time limit is interrupted when the process was stopped for a while.
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            match self.stream.read(buffer) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                read => return read,
            }
        }
    }

    fn read_line(&mut self) -> io::Result<String> {
        let mut line = Vec::new();
        (&mut self.stream).take(MAX_LINE).read_until(b'\n', &mut line)?;
        if line.pop() != Some(b'\n') {
            return Err(io::Error::new(
                io::ErrorKind::UnexpectedEof,
                format!("no whole line: {:?}", String::from_utf8_lossy(&line)),
            ));
        }
        if line.last() == Some(&b'\r') {
            line.pop();
        }
        String::from_utf8(line).map_err(|error| invalid(error.to_string()))
    }
}

fn body_of(head: &ReplyHead) -> io::Result<BodyLeft> {
    if matches!(head.status, 100..=199 | 204 | 304) {
        return Ok(BodyLeft::Nothing);
    }
    if let Some(coding) = head.field("transfer-encoding") {
        return match coding {
            "chunked" => Ok(BodyLeft::Chunked(0)),
            other => Err(invalid(format!("unknown transfer coding {other:?}"))),
        };
    }
    match head.field("content-length").map(str::parse) {
        None => Ok(BodyLeft::UntilClose),
        Some(Ok(0)) => Ok(BodyLeft::Nothing),
        Some(Ok(n)) => Ok(BodyLeft::Bytes(n)),
        Some(Err(error)) => Err(invalid(format!("Content-Length: {error}"))),
    }
}

fn invalid(what: String) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}

/// The byte at `offset` of the bodies that [`HttpConnection::upload`] sends: it
/// has a period of 251, so that a lost, doubled or moved block shows.
pub fn pattern(offset: u64) -> u8 {
    (offset % 251) as u8
}

fn write_body(stream: &mut TcpStream, body: Upload) -> io::Result<()> {
    let (n, chunked) = match body {
        Upload::Length(n) => (n, false),
        Upload::Chunked(n) => (n, true),
    };
    let mut buffer = Vec::with_capacity(CHUNK + 20);
    let mut sent = 0;
    while sent < n {
        let end = n.min(sent + CHUNK as u64);
        buffer.clear();
        if chunked {
            write!(buffer, "{:x}\r\n", end - sent)?;
        }
        buffer.extend((sent..end).map(pattern));
        if chunked {
            buffer.extend(b"\r\n");
        }
        stream.write_all(&buffer)?;
        sent = end;
    }
    if chunked { stream.write_all(b"0\r\n\r\n") } else { Ok(()) }
}
