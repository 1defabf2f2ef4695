//! Texts for logs and terminals: a peer's bytes, escaped so that they can't control a terminal
//! (H-10), and errors with their causes.
//!
//! STDERR of an application, parameters and everything else that a peer sends may hold escape
//! sequences. They are escaped for a log or a terminal.
//!
//! ```
//! use fcgi_engine::text::escape;
//!
//! assert_eq!(escape(b"PHP Warning:\x1b[2J\n", b"\n"), "PHP Warning:\\x1b[2J\n");
//! ```

use std::{
    error::Error,
    fmt::{self, Write},
    iter,
};

/// Escapes control characters and bytes that are not UTF-8, except the bytes in `keep`, in text
/// that comes in pieces.
#[derive(Debug)]
pub struct Escaper {
    keep: &'static [u8],
    /// The start of a character whose rest has not come yet.
    cut: Vec<u8>,
}

impl Escaper {
    /// Escapes everything but the bytes in `keep`, which must be ASCII.
    #[must_use]
    pub const fn new(keep: &'static [u8]) -> Self {
        Self { keep, cut: Vec::new() }
    }

    /// The next piece as text. A character cut off at its end is returned with a later piece.
    pub fn push(&mut self, bytes: &[u8]) -> String {
        let mut all = std::mem::take(&mut self.cut);
        all.extend_from_slice(bytes);
        let mut out = String::with_capacity(all.len());
        let mut rest = &all[..];
        while !rest.is_empty() {
            let (valid, invalid) = match std::str::from_utf8(rest) {
                Ok(text) => (text.len(), 0),
                Err(error) => {
                    let valid = error.valid_up_to();
                    let Some(invalid) = error.error_len() else {
                        self.cut = rest[valid..].to_vec();
                        self.characters(&rest[..valid], &mut out);
                        break;
                    };
                    (valid, invalid)
                }
            };
            self.characters(&rest[..valid], &mut out);
            hex(&rest[valid..valid + invalid], &mut out);
            rest = &rest[valid + invalid..];
        }
        out
    }

    /// The end of the text: what is left of a cut-off character.
    pub fn finish(&mut self) -> String {
        let mut out = String::new();
        hex(&std::mem::take(&mut self.cut), &mut out);
        out
    }

    fn characters(&self, bytes: &[u8], out: &mut String) {
        for c in String::from_utf8_lossy(bytes).chars() {
            let kept = u8::try_from(c).is_ok_and(|byte| self.keep.contains(&byte));
            match c {
                c if kept || !c.is_control() => out.push(c),
                '\n' | '\r' | '\t' => out.extend(c.escape_default()),
                c => hex(c.encode_utf8(&mut [0; 4]).as_bytes(), out),
            }
        }
    }
}

/// A complete text, escaped; see [`Escaper`].
#[must_use]
pub fn escape(bytes: &[u8], keep: &'static [u8]) -> String {
    let mut escaper = Escaper::new(keep);
    let mut out = escaper.push(bytes);
    out.push_str(&escaper.finish());
    out
}

/// An error and its causes, on one line: `connect to unix:/run/app.sock: entity not found`.
///
/// A cause is left out if the text before it already ends with it: some errors include their
/// source's text.
pub fn chain<'a>(error: &'a (dyn Error + 'static)) -> impl fmt::Display + use<'a> {
    Chain(error)
}

struct Chain<'a>(&'a (dyn Error + 'static));

impl fmt::Display for Chain<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut last = self.0.to_string();
        f.write_str(&last)?;
        for cause in iter::successors(self.0.source(), |cause| (*cause).source()) {
            let text = cause.to_string();
            if !last.ends_with(&text) {
                write!(f, ": {text}")?;
            }
            last = text;
        }
        Ok(())
    }
}

fn hex(bytes: &[u8], out: &mut String) {
    for byte in bytes {
        // Writing to a String can't fail.
        let _ = write!(out, "\\x{byte:02x}");
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use std::io;

    use super::*;

    /// Walks through an error and its causes.
    pub(crate) fn assert_no_repetition(error: &(dyn Error + 'static)) {
        for error in iter::successors(Some(error), |error| (*error).source()) {
            let text = error.to_string();
            for cause in iter::successors(error.source(), |cause| (*cause).source()) {
                assert!(!text.contains(&cause.to_string()), "{text:?} repeats {cause}");
            }
        }
    }

    #[test]
    fn a_chain_has_each_cause_once() {
        let source = io::Error::other(io::Error::new(io::ErrorKind::NotFound, "gone"));
        let error = crate::Error::Connect { address: "unix:/x".into(), source };
        assert_eq!(chain(&error).to_string(), "connect to unix:/x: gone");
    }

    #[test]
    fn h_10_control_bytes_are_escaped() {
        assert_eq!(escape(b"\x1b[31mred\x07\n\r", b"\n"), "\\x1b[31mred\\x07\n\\r");
        assert_eq!(escape("caf\u{e9} \u{9b}2J".as_bytes(), b""), "café \\xc2\\x9b2J");
        assert_eq!(escape(b"\x9b2J \xff \xe2\x82", b""), "\\x9b2J \\xff \\xe2\\x82");
    }

    #[test]
    fn any_cut_gives_the_same_text() {
        let text = "a\u{e9}\u{20ac}\u{1f980}\u{9b}\x1b[0m\n".as_bytes();
        let text = [text, b"\xff\xe2\x82x\xf0\x9f"].concat();
        for (first, second) in (0..=text.len()).flat_map(|a| (a..=text.len()).map(move |b| (a, b)))
        {
            let mut escaper = Escaper::new(b"\n");
            let mut out = String::new();
            for piece in [&text[..first], &text[first..second], &text[second..]] {
                out.push_str(&escaper.push(piece));
            }
            out.push_str(&escaper.finish());
            assert_eq!(out, escape(&text, b"\n"), "cut at {first} and {second}");
        }
    }
}
