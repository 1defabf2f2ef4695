//! A URL's path, decoded and normalised once, and back.

use super::{EncodedSlashes, ScriptError};
use crate::text::is_control;

/// Decodes the path of a URL, then removes its `.`, `..` and empty segments, in that order and only
/// once, so that no later step sees anything but what was checked. A trailing slash stays.
pub(super) fn decode(raw: &str, slashes: EncodedSlashes) -> Result<Vec<u8>, ScriptError> {
    if !raw.starts_with('/') {
        return Err(ScriptError::NotAbsolute);
    }
    let mut path = Vec::with_capacity(raw.len());
    let mut bytes = raw.bytes();
    while let Some(byte) = bytes.next() {
        let (byte, encoded) = match byte {
            b'%' => (decode_escape(bytes.next(), bytes.next())?, true),
            byte => (byte, false),
        };
        if is_control(byte) {
            return Err(ScriptError::ControlByte(byte));
        }
        if slashes != EncodedSlashes::Decode && (byte == b'\\' || (byte == b'/' && encoded)) {
            return Err(ScriptError::EncodedSlash);
        }
        path.push(byte);
    }
    normalise(&path)
}

fn decode_escape(high: Option<u8>, low: Option<u8>) -> Result<u8, ScriptError> {
    let digit = |byte: Option<u8>| char::from(byte?).to_digit(16);
    match (digit(high), digit(low)) {
        (Some(high), Some(low)) => Ok((high * 16 + low) as u8),
        _ => Err(ScriptError::BadEscape),
    }
}

/// Decodes each `%XX` of a path and leaves everything else as it is.
pub(crate) fn unescape(path: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(path.len());
    let mut rest = path;
    while let [byte, after @ ..] = rest {
        let escape = match (byte, after) {
            (b'%', [high, low, after @ ..]) => {
                decode_escape(Some(*high), Some(*low)).ok().map(|byte| (byte, after))
            }
            _ => None,
        };
        let (byte, after) = escape.unwrap_or((*byte, after));
        out.push(byte);
        rest = after;
    }
    out
}

/// `path` starts with a slash, and so does the result, which never has two in a row.
fn normalise(path: &[u8]) -> Result<Vec<u8>, ScriptError> {
    let mut out: Vec<u8> = Vec::with_capacity(path.len());
    let mut segments = path.split(|byte| *byte == b'/').skip(1).peekable();
    while let Some(segment) = segments.next() {
        let last = segments.peek().is_none();
        match segment {
            b"" | b"." => {
                if last {
                    out.push(b'/');
                }
            }
            b".." => {
                let parent = out.iter().rposition(|byte| *byte == b'/');
                out.truncate(parent.ok_or(ScriptError::AboveRoot)?);
                if last {
                    out.push(b'/');
                }
            }
            name => {
                out.push(b'/');
                out.extend_from_slice(name);
            }
        }
    }
    Ok(out)
}

/// The segments of a raw path before the first one with an encoded slash or a backslash, without
/// the slash after them; a slash if there are no such segments.
pub(super) fn before_encoded_slash(raw: &str) -> &str {
    let bytes = raw.as_bytes();
    let is_slash = |at: &usize| match bytes[*at] {
        b'\\' => true,
        b'%' => {
            let digits = bytes.get(at + 1..at + 3).unwrap_or_default();
            digits.eq_ignore_ascii_case(b"2f") || digits.eq_ignore_ascii_case(b"5c")
        }
        _ => false,
    };
    let first = (0..bytes.len()).find(is_slash).unwrap_or(bytes.len());
    let end = bytes[..first].iter().rposition(|byte| *byte == b'/').unwrap_or(0);
    &raw[..end.max(1)]
}

/// The part of a normalised path before its last segment, with the slash.
pub(super) fn folder(path: &[u8]) -> &[u8] {
    let end = path.iter().rposition(|byte| *byte == b'/').map_or(0, |slash| slash + 1);
    &path[..end]
}

/// Whether a segment of a normalised path starts with a dot. `/.well-known` at the top does not
/// count (RFC 8615).
pub(super) fn has_hidden_segment(path: &[u8]) -> bool {
    let mut segments = path.split(|byte| *byte == b'/').skip(1);
    let first =
        segments.next().is_some_and(|name| name.starts_with(b".") && name != b".well-known");
    first || segments.any(|name| name.starts_with(b"."))
}

/// Appends a decoded path in the form of a URL: everything is percent-encoded but unreserved
/// characters, `/`, and the few delimiters that mean nothing in a path.
pub(crate) fn encode(path: &[u8], out: &mut String) {
    for &byte in path {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' => out.push(char::from(byte)),
            b'/' | b'-' | b'.' | b'_' | b'~' | b'!' | b'$' | b'&' | b'\'' | b'(' | b')' | b'*'
            | b'+' | b',' | b';' | b'=' | b':' | b'@' => out.push(char::from(byte)),
            byte => encode_byte(byte, out),
        }
    }
}

/// Appends `%XX`.
pub(crate) fn encode_byte(byte: u8, out: &mut String) {
    const HEX: &[u8; 16] = b"0123456789ABCDEF";
    out.push('%');
    out.push(char::from(HEX[usize::from(byte >> 4)]));
    out.push(char::from(HEX[usize::from(byte & 15)]));
}
