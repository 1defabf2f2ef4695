//! The heads of requests as the client sent them. hyper silently drops a Content-Length next to a
//! Transfer-Encoding; here both are visible (RFC 9112, 6.3). Bodies are followed, so that the head
//! of a pipelined request is found behind them.

use bytes::{Buf, BytesMut};
use memchr::{memchr, memchr_iter};

const HTTP_2: &[u8] = b"PRI * HTTP/2.0\r\n";

/// How much memory is kept for the next head, in bytes.
const KEPT: usize = 4096;

/// A connection's next head, and what has come behind it. hyper reads no more than the limit of a
/// head before it has answered a request, apart from that request's body.
#[derive(Debug, Default)]
pub(super) struct RawHead {
    bytes: Vec<u8>,
    is_whole: bool,
    is_http_2: bool,
    /// The body before the bytes that come next: the last request's, or this one's once its head is
    /// whole.
    body: Body,
    /// What came behind the body of a whole head.
    next: BytesMut,
}

impl RawHead {
    /// Takes bytes as they come.
    pub(super) fn push(&mut self, bytes: &[u8]) {
        let rest = self.take(bytes);
        self.next.extend_from_slice(rest);
    }

    /// Takes the bytes up to the end of the body of a whole head, and returns those behind it.
    fn take<'a>(&mut self, bytes: &'a [u8]) -> &'a [u8] {
        if self.is_http_2 {
            return &[];
        }
        let mut rest = self.body.skip(bytes);
        if !self.is_whole && !rest.is_empty() {
            rest = self.take_head(rest);
            if self.is_whole {
                self.body = self.body();
                rest = self.body.skip(rest);
            }
        }
        rest
    }

    /// Takes the bytes up to the end of the head, and returns those behind it.
    fn take_head<'a>(&mut self, mut bytes: &'a [u8]) -> &'a [u8] {
        if self.bytes.is_empty() {
            // Empty lines before a request are skipped (RFC 9112, 2.2).
            while let [b'\r' | b'\n', rest @ ..] = bytes {
                bytes = rest;
            }
        }
        let end = end_of_head(&self.bytes, bytes);
        let (head, rest) = bytes.split_at(end.unwrap_or(bytes.len()));
        self.bytes.extend_from_slice(head);
        if self.bytes.starts_with(HTTP_2) {
            (self.is_http_2, self.bytes) = (true, Vec::new());
            return &[];
        }
        self.is_whole = end.is_some();
        rest
    }

    /// The body that this head announces, as hyper takes it.
    fn body(&self) -> Body {
        let mut length = None;
        for (name, value) in fields(&self.bytes) {
            if name.eq_ignore_ascii_case(b"transfer-encoding") {
                return Body::Chunked(Chunk::Size { size: 0, is_read: false });
            }
            if length.is_none() && name.eq_ignore_ascii_case(b"content-length") {
                length = Some(number(value).unwrap_or(0));
            }
        }
        Body::Length(length.unwrap_or(0))
    }

    /// Whether there is a field of this name. `None` if these bytes are
    /// not the whole head of a request with this method and this many other fields, as when a body
    /// before it was not understood.
    pub(super) fn has_field(&self, name: &[u8], method: &[u8], others: usize) -> Option<bool> {
        let rest = self.bytes.strip_prefix(method).filter(|_| self.is_whole)?;
        let all = names(&self.bytes).count();
        let found = names(&self.bytes).filter(|found| found.eq_ignore_ascii_case(name)).count();
        (rest.starts_with(b" ") && all - found == others).then_some(found > 0)
    }

    /// Whether the first line has begun but not ended.
    pub(super) fn is_within_first_line(&self) -> bool {
        !self.bytes.is_empty() && !self.bytes.contains(&b'\n')
    }

    /// The values of the fields of this name, if the head is whole.
    pub(super) fn values(&self, name: &[u8]) -> Vec<&[u8]> {
        if !self.is_whole {
            return Vec::new();
        }
        let named = fields(&self.bytes).filter(|(found, _)| found.eq_ignore_ascii_case(name));
        named.map(|(_, value)| value).collect()
    }

    /// Whether the body of the last request has not come to its end.
    pub(super) const fn is_within_body(&self) -> bool {
        !self.is_whole && !matches!(self.body, Body::Length(0))
    }

    /// Whether a request that was not taken yet has come to its end.
    pub(super) const fn is_complete(&self) -> bool {
        self.is_whole && matches!(self.body, Body::Length(0))
    }

    pub(super) const fn is_http_2(&self) -> bool {
        self.is_http_2
    }

    /// Goes on to the next head.
    pub(super) fn clear(&mut self) {
        self.is_whole = false;
        if self.bytes.capacity() > KEPT {
            self.bytes = Vec::new();
        }
        self.bytes.clear();
        if !self.next.is_empty() {
            let mut next = std::mem::take(&mut self.next);
            let used = next.len() - self.take(&next).len();
            next.advance(used);
            if !next.is_empty() {
                self.next = next;
            }
        }
    }
}

/// What is left of a body.
#[derive(Debug)]
enum Body {
    Length(u64),
    Chunked(Chunk),
}

/// Where a chunked body is (RFC 9112, 7.1). hyper checks it; here only its end is looked for.
#[derive(Debug)]
enum Chunk {
    /// In the line with a chunk's size.
    Size {
        size: u64,
        /// An extension or the line's end has begun.
        is_read: bool,
    },
    Data(u64),
    /// Behind a chunk's data.
    End,
    /// In a line of the trailer section.
    Trailer {
        is_empty: bool,
    },
}

impl Default for Body {
    fn default() -> Self {
        Self::Length(0)
    }
}

impl Body {
    /// Returns what is behind the body.
    fn skip<'a>(&mut self, mut bytes: &'a [u8]) -> &'a [u8] {
        loop {
            match self {
                Self::Length(left) | Self::Chunked(Chunk::Data(left)) => {
                    let n = bytes.len().min(usize::try_from(*left).unwrap_or(usize::MAX));
                    *left -= n as u64;
                    bytes = &bytes[n..];
                    if *left > 0 || matches!(self, Self::Length(_)) {
                        return bytes;
                    }
                    *self = Self::Chunked(Chunk::End);
                }
                Self::Chunked(chunk) => {
                    let [byte, rest @ ..] = bytes else { return bytes };
                    bytes = rest;
                    match chunk.next(*byte) {
                        Some(next) => *chunk = next,
                        None => *self = Self::default(),
                    }
                }
            }
        }
    }
}

impl Chunk {
    /// What follows this byte, which is not data. `None` behind the last one of the body.
    fn next(&self, byte: u8) -> Option<Self> {
        let start = Self::Size { size: 0, is_read: false };
        match *self {
            Self::Size { size: 0, .. } if byte == b'\n' => Some(Self::Trailer { is_empty: true }),
            Self::Size { size, .. } if byte == b'\n' => Some(Self::Data(size)),
            Self::Size { size, is_read } => {
                let digit = char::from(byte).to_digit(16).filter(|_| !is_read);
                let size = digit.map_or(size, |digit| (size << 4) | u64::from(digit));
                Some(Self::Size { size, is_read: digit.is_none() })
            }
            Self::Data(_) | Self::End if byte == b'\n' => Some(start),
            Self::Data(_) | Self::End => Some(Self::End),
            Self::Trailer { is_empty: true } if byte == b'\n' => None,
            Self::Trailer { is_empty } => {
                let is_empty = byte == b'\n' || (is_empty && byte == b'\r');
                Some(Self::Trailer { is_empty })
            }
        }
    }
}

fn number(text: &[u8]) -> Option<u64> {
    std::str::from_utf8(text).ok()?.parse().ok()
}

/// Where the empty line behind a head ends in `new`, which comes after `known`.
fn end_of_head(known: &[u8], new: &[u8]) -> Option<usize> {
    let before = |at: usize, back: usize| match at.checked_sub(back) {
        Some(at) => Some(new[at]),
        None => known.len().checked_sub(back - at).map(|at| known[at]),
    };
    let mut line_ends = memchr_iter(b'\n', new);
    let last = line_ends.find(|at| match before(*at, 1) {
        Some(b'\n') => true,
        Some(b'\r') => before(*at, 2) == Some(b'\n'),
        _ => false,
    });
    last.map(|at| at + 1)
}

/// The lines of a head's fields.
fn lines(head: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut ends = memchr_iter(b'\n', head);
    let mut start = ends.next().map(|end| end + 1);
    std::iter::from_fn(move || {
        let (from, end) = (start?, ends.next());
        start = end.map(|end| end + 1);
        Some(&head[from..end.unwrap_or(head.len())])
    })
    .take_while(|line| !matches!(line, [] | [b'\r']))
}

/// The names and values of a head's fields.
fn fields(head: &[u8]) -> impl Iterator<Item = (&[u8], &[u8])> {
    lines(head).filter_map(|line| {
        let at = memchr(b':', line)?;
        Some((line[..at].trim_ascii(), line[at + 1..].trim_ascii()))
    })
}

/// The names of a head's fields.
fn names(head: &[u8]) -> impl Iterator<Item = &[u8]> {
    lines(head).filter_map(|line| line.split(|byte| *byte == b':').next()).map(<[u8]>::trim_ascii)
}

#[cfg(test)]
mod tests {
    use super::RawHead;

    /// The first lines of all whole heads.
    fn first_lines(wire: &[u8], cut: usize) -> Vec<String> {
        let (mut head, mut found) = (RawHead::default(), Vec::new());
        for piece in wire.chunks(cut) {
            head.push(piece);
            while head.is_whole {
                let line = head.bytes.split(|byte| *byte == b'\r' || *byte == b'\n').next();
                found.push(String::from_utf8_lossy(line.unwrap_or_default()).into_owned());
                head.clear();
            }
        }
        found
    }

    #[test]
    fn any_cut_gives_the_same_heads() {
        let wire = b"\r\n\nGET /1 HTTP/1.1\r\nHost: a\r\n\r\n\
            POST /2 HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n\
            2;a=\"b\"\r\n\r\n\r\n00a\r\nGET / HTT\n\r\n0\r\nA: b\r\n\r\n\
            PUT /3 HTTP/1.1\nContent-Length: 9\n\nGET / H\n\nGET /4 HTTP/1.1\n\r\n\r\nGET /5";
        for cut in 1..wire.len() {
            let lines = ["GET /1", "POST /2", "PUT /3", "GET /4"];
            assert_eq!(
                first_lines(wire, cut),
                lines.map(|line| format!("{line} HTTP/1.1")),
                "{cut}"
            );
        }
    }

    #[test]
    fn many_pipelined_heads_take_no_time() {
        let wire = b"GET / HTTP/1.1\r\n\r\n".repeat(200_000);
        assert_eq!(first_lines(&wire, wire.len()).len(), 200_000);
    }
}
