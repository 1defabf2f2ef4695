//! Masks secrets in a copy of a body, according to its media type. Lengths stay the same. The body
//! may be cut anywhere.

use super::mask::{NAME, Query, hex, is_secret, overwrite, remember, unescaped};

/// The longest field of a part's head that is examined. The part of a longer one is masked.
const LINE: usize = 1024;

#[derive(Debug)]
pub(crate) enum Body {
    Form(Query),
    Json(Json),
    Multipart(Multipart),
    /// Of a type that is not examined.
    Other,
}

impl Body {
    /// A body with this Content-Type.
    pub(crate) fn new(content_type: &[u8]) -> Self {
        let (kind, parameters) = match content_type.iter().position(|byte| *byte == b';') {
            Some(at) => content_type.split_at(at),
            None => (content_type, &b""[..]),
        };
        let kind = kind.trim_ascii().to_ascii_lowercase();
        match &*kind {
            b"application/x-www-form-urlencoded" => Self::Form(Query::new()),
            b"multipart/form-data" => match parameter(parameters, b"boundary") {
                Some(boundary) => Self::Multipart(Multipart::new(&boundary)),
                None => Self::Other,
            },
            // Also application/ld+json, application/x-ndjson and the like.
            kind if kind.ends_with(b"json") => Self::Json(Json::default()),
            _ => Self::Other,
        }
    }

    pub(crate) fn apply(&mut self, bytes: &mut [u8]) {
        match self {
            Self::Form(form) => form.apply(bytes),
            Self::Json(json) => bytes.iter_mut().for_each(|byte| json.apply(byte)),
            Self::Multipart(parts) => bytes.iter_mut().for_each(|byte| parts.apply(byte)),
            Self::Other => {}
        }
    }
}

/// Masks the values of members with the names of secrets, and all that is in such a value. In other
/// strings it masks the queries of URLs.
#[derive(Debug, Default)]
pub(crate) struct Json {
    /// The last string, which may be a name.
    name: Vec<u8>,
    /// The string that has begun, and whether a backslash came last.
    string: Option<(Query, bool)>,
    /// The value of a secret comes next.
    is_next: bool,
    /// How many brackets are open since a secret's value began.
    depth: usize,
}

impl Json {
    fn apply(&mut self, byte: &mut u8) {
        let hides = self.is_next || self.depth > 0;
        if let Some((query, is_escaped)) = &mut self.string {
            match (*byte, *is_escaped) {
                (b'"', false) => {
                    self.string = None;
                    return;
                }
                (other, escaped) => {
                    *is_escaped = other == b'\\' && !escaped;
                    remember(&mut self.name, &[other]);
                }
            }
            let one = std::slice::from_mut(byte);
            if hides {
                overwrite(one)
            } else {
                query.apply(one)
            }
            return;
        }
        match *byte {
            b'"' => {
                self.name.clear();
                self.string = Some((Query::of_url(), false));
            }
            // A name that was not examined to its end may be a secret's.
            b':' => {
                self.is_next = self.name.len() >= NAME || is_secret(&without_escapes(&self.name));
            }
            b',' => self.is_next = false,
            b'{' | b'[' => {
                self.depth += usize::from(hides);
                self.is_next = false;
            }
            b'}' | b']' => {
                self.depth = self.depth.saturating_sub(1);
                self.is_next = false;
            }
            b' ' | b'\t' | b'\r' | b'\n' => {}
            _ if hides => *byte = b'*',
            _ => {}
        }
    }
}

/// A name without its `\u00XX`.
fn without_escapes(name: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    let mut rest = name;
    while let [first, after @ ..] = rest {
        let code = match rest {
            [b'\\', b'u', b'0', b'0', high, low, ..] => hex(&[*high, *low]),
            _ => None,
        };
        out.push(code.unwrap_or(*first));
        rest = if code.is_some() { &rest[6..] } else { after };
    }
    out
}

/// Masks the parts of a form whose fields have the names of secrets.
#[derive(Debug)]
pub(crate) struct Multipart {
    /// A line's end and what a line between two parts begins with.
    delimiter: Vec<u8>,
    /// How many bytes of it have come.
    matched: usize,
    at: At,
    /// The line of a part's head so far.
    line: Vec<u8>,
    hides: bool,
}

#[derive(Clone, Copy, Debug)]
enum At {
    /// In a part's content, or before the first part.
    Content,
    /// In the line between two parts.
    Delimiter,
    Head,
}

impl Multipart {
    fn new(boundary: &[u8]) -> Self {
        let delimiter = [b"\n--", boundary].concat();
        Self { delimiter, matched: 1, at: At::Content, line: Vec::new(), hides: false }
    }

    fn apply(&mut self, byte: &mut u8) {
        match (self.at, *byte) {
            (At::Content, other) => self.content(other, byte),
            (At::Delimiter, b'\n') => {
                (self.at, self.hides) = (At::Head, false);
                self.line.clear();
            }
            (At::Delimiter, _) => {}
            (At::Head, b'\n') => {
                let line = std::mem::take(&mut self.line);
                match line.trim_ascii() {
                    // The first delimiter may follow at once.
                    [] => (self.at, self.matched) = (At::Content, 1),
                    field => self.hides |= line.len() >= LINE || names_secret(field),
                }
            }
            (At::Head, other) if self.line.len() < LINE => self.line.push(other),
            (At::Head, _) => {}
        }
    }

    fn content(&mut self, given: u8, byte: &mut u8) {
        // Only the first byte of the delimiter is a line's end.
        self.matched = match given {
            given if self.delimiter.get(self.matched) == Some(&given) => self.matched + 1,
            b'\n' => 1,
            _ => 0,
        };
        if self.matched == self.delimiter.len() {
            (self.at, self.matched) = (At::Delimiter, 0);
        } else if self.hides && self.matched == 0 && given != b'\r' {
            *byte = b'*';
        }
    }
}

/// Whether a field of a part's head gives the part a secret's name.
fn names_secret(field: &[u8]) -> bool {
    let Some(at) = field.iter().position(|byte| *byte == b':') else { return false };
    let (name, value) = field.split_at(at);
    name.trim_ascii().eq_ignore_ascii_case(b"content-disposition")
        && [&b"name"[..], b"name*"]
            .iter()
            .any(|name| parameter(value, name).is_some_and(|name| is_secret(&unescaped(&name))))
}

/// A parameter of a field's value, such as `; name="value"`.
fn parameter(value: &[u8], name: &[u8]) -> Option<Vec<u8>> {
    let mut rest = value;
    loop {
        let at = rest.iter().position(|byte| *byte == b';')?;
        rest = rest[at + 1..].trim_ascii_start();
        let equals = rest.iter().position(|byte| matches!(byte, b'=' | b';'))?;
        if rest[equals] == b';' {
            continue;
        }
        let is_it = rest[..equals].trim_ascii().eq_ignore_ascii_case(name);
        rest = rest[equals + 1..].trim_ascii_start();
        let found = if let Some(quoted) = rest.strip_prefix(b"\"") {
            let mut found = Vec::new();
            rest = quoted;
            loop {
                match rest {
                    [b'\\', escaped, after @ ..] => {
                        found.push(*escaped);
                        rest = after;
                    }
                    [] | [b'"', ..] => break found,
                    [other, after @ ..] => {
                        found.push(*other);
                        rest = after;
                    }
                }
            }
        } else {
            let end = rest.iter().position(|byte| *byte == b';').unwrap_or(rest.len());
            let (found, after) = rest.split_at(end);
            rest = after;
            found.trim_ascii().to_vec()
        };
        if is_it {
            return Some(found);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Body;

    /// Applied in one piece, and byte by byte.
    fn mask(content_type: &str, text: &str) -> String {
        let (mut whole, mut cut) = (text.as_bytes().to_vec(), text.as_bytes().to_vec());
        Body::new(content_type.as_bytes()).apply(&mut whole);
        let mut body = Body::new(content_type.as_bytes());
        cut.chunks_mut(1).for_each(|piece| body.apply(piece));
        assert_eq!(whole, cut, "any cut gives the same");
        String::from_utf8(whole).expect("text")
    }

    #[test]
    fn json() {
        for (text, masked) in [
            (r#"{"password":"x y","a":1}"#, r#"{"password":"***","a":1}"#),
            (r#"{"a":"password","b":"x"}"#, r#"{"a":"password","b":"x"}"#),
            (r#"{ "pin" : 1234 , "a" : 5 }"#, r#"{ "pin" : **** , "a" : 5 }"#),
            (r#"{"token":"a\"b\\","a":"\"c"}"#, r#"{"token":"******","a":"\"c"}"#),
            (
                r#"{"user":{"passw\u006frd":"x"},"password":"y"}"#,
                r#"{"user":{"passw\u006frd":"*"},"password":"*"}"#,
            ),
            (
                r#"[{"tokens":["a",{"b":[1,"c"]},true],"d":"e"},"f"]"#,
                r#"[{"tokens":["*",{"*":[*,"*"]},****],"d":"e"},"f"]"#,
            ),
            (r#"{"url":"/cb?code=12&a=1","b":"?"}"#, r#"{"url":"/cb?code=**&a=1","b":"?"}"#),
            ("{\"secret\":null}\n{\"a\":null}\n", "{\"secret\":****}\n{\"a\":null}\n"),
            (r#"{"secret":"never ends"#, r#"{"secret":"**********"#),
            (r#"]]}}{"secret":[[["x"]]],"a":"b"}"#, r#"]]}}{"secret":[[["*"]]],"a":"b"}"#),
        ] {
            assert_eq!(mask("application/json", text), masked);
            assert_eq!(mask("Application/LD+JSON ; charset=utf-8", text), masked);
            assert_eq!(mask("text/plain", text), text);
        }
        let long = "x".repeat(300);
        let text = format!(r#"{{"{long}token":"x"}}"#);
        assert_eq!(mask("text/json", &text), text.replace("\"x\"", "\"*\""));
    }

    #[test]
    fn parts() {
        let body = |end: &str| {
            [
                "preamble",
                "--B",
                "Content-Disposition: form-data; name=\"user\"",
                "",
                "ann",
                "--B",
                "content-type: text/plain",
                "CONTENT-DISPOSITION:form-data;filename=\"a;name=b\\\"\"; name=\"form[password]\"",
                "",
                "LEAK",
                "LEAK--B",
                "",
                "--",
                "--A",
                "LEAK",
                "--B",
                "Content-Disposition: form-data; filename=token; name=plain",
                "",
                "token",
                "--B",
                "Content-Disposition: form-data; name*=UTF-8''pass%77ord",
                "",
                "",
                "--B",
                "Content-Disposition: form-data; name=pin",
                "",
                "LEAK",
                "--B--",
                "",
            ]
            .join(end)
        };
        for end in ["\r\n", "\n"] {
            for kind in
                ["multipart/form-data; boundary=B", "Multipart/Form-Data;a=b;Boundary=\"B\""]
            {
                let text = body(end);
                let expected = text.replace("LEAK--B", "*******").replace("LEAK", "****");
                let expected = expected.replace("--A", "--*");
                assert_eq!(mask(kind, &text), expected);
                let first = text.strip_prefix("preamble").and_then(|text| text.strip_prefix(end));
                let first = first.expect("a preamble");
                assert!(!mask(kind, first).contains("LEAK"));
            }
        }
        let long = format!(
            "--B\r\nContent-Disposition: form-data; filename=\"{}\"; name=token\r\n\r\nLEAK\r\n--B--",
            "x".repeat(3000)
        );
        assert!(!mask("multipart/form-data; boundary=B", &long).contains("LEAK"));
        assert_eq!(mask("multipart/form-data", "a"), "a");
    }
}
