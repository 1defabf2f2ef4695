//! The head of a request as the client sent it. hyper silently drops a Content-Length next to a
//! Transfer-Encoding; here both are visible (RFC 9112, 6.3).

const HTTP_2: &[u8] = b"PRI * HTTP/2.0\r\n";

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
        self.is_whole =
            new.windows(2).any(|end| end == b"\n\n") || new.windows(3).any(|end| end == b"\n\r\n");
    }

    /// The bytes, if they start with a complete head.
    pub(super) fn take(&mut self) -> Option<Vec<u8>> {
        let bytes = std::mem::take(&mut self.bytes);
        std::mem::take(&mut self.is_whole).then_some(bytes)
    }
}

/// Whether a head has a field of this name, which must be in lower case.
pub(super) fn has_field(head: &[u8], name: &[u8]) -> bool {
    let lines = head.split(|byte| *byte == b'\n').skip(1);
    let lines = lines.take_while(|line| !matches!(line, [] | [b'\r']));
    let names = lines.filter_map(|line| line.split(|byte| *byte == b':').next());
    names.into_iter().any(|found| found.trim_ascii().eq_ignore_ascii_case(name))
}
