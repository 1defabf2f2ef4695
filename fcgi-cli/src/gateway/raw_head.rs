//! The head of a request as the client sent it. hyper silently drops a Content-Length next to a
//! Transfer-Encoding; here both are visible (RFC 9112, 6.3).

const HTTP_2: &[u8] = b"PRI * HTTP/2.0\r\n";

/// How much memory is kept for the next head, in bytes.
const KEPT: usize = 4096;

/// A head that is being read.
#[derive(Debug, Default)]
pub(super) struct RawHead {
    bytes: Vec<u8>,
    is_whole: bool,
    is_http_2: bool,
}

impl RawHead {
    /// Takes bytes up to the end of the head. hyper reads no more than the limit of a head.
    pub(super) fn push(&mut self, mut bytes: &[u8]) {
        if self.is_whole || self.is_http_2 {
            return;
        }
        if self.bytes.is_empty() {
            // Empty lines before a request are skipped (RFC 9112, 2.2).
            while let [b'\r' | b'\n', rest @ ..] = bytes {
                bytes = rest;
            }
        }
        let known = self.bytes.len().saturating_sub(3);
        self.bytes.extend_from_slice(bytes);
        if self.bytes.starts_with(HTTP_2) {
            (self.is_http_2, self.bytes) = (true, Vec::new());
            return;
        }
        let new = &self.bytes[known..];
        let mut lines = new.split(|byte| *byte == b'\n').skip(1).peekable();
        // The last line is not complete yet.
        while let (Some(line), Some(_)) = (lines.next(), lines.peek()) {
            self.is_whole |= matches!(line, [] | [b'\r']);
        }
    }

    /// Whether there is a field of this name. `None` if these bytes are
    /// not the whole head of a request with this method and this many other fields: its beginning
    /// may have come unseen.
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
        let fields = lines(&self.bytes).filter_map(|line| {
            let at = line.iter().position(|byte| *byte == b':')?;
            line[..at].trim_ascii().eq_ignore_ascii_case(name).then(|| line[at + 1..].trim_ascii())
        });
        fields.collect()
    }

    /// Prepares for the next head.
    pub(super) fn clear(&mut self) {
        self.is_whole = false;
        if self.bytes.capacity() > KEPT {
            self.bytes = Vec::new();
        }
        self.bytes.clear();
    }
}

/// The lines of a head's fields.
fn lines(head: &[u8]) -> impl Iterator<Item = &[u8]> {
    let lines = head.split(|byte| *byte == b'\n').skip(1);
    lines.take_while(|line| !matches!(line, [] | [b'\r']))
}

/// The names of a head's fields.
fn names(head: &[u8]) -> impl Iterator<Item = &[u8]> {
    lines(head).filter_map(|line| line.split(|byte| *byte == b':').next()).map(<[u8]>::trim_ascii)
}
