//! Masks secrets in a copy of the bytes on the wire. Lengths stay the same, so records stay
//! records. Names may be cut anywhere.

use fcgi_tokio::proto::pairs::{PairDecoder, PairPiece};

use super::body::Body;

/// How much of a name is examined.
pub(super) const NAME: usize = 256;

/// Parts of the names of secrets, in capitals and with `_` for `-`.
const PARTS: [&str; 21] = [
    "COOKIE",
    "AUTHORIZATION",
    "PASSWORD",
    "PASSWD",
    "PASSPHRASE",
    "SECRET",
    "TOKEN",
    "CREDENTIAL",
    "API_KEY",
    "APIKEY",
    "PRIVATE_KEY",
    "ACCESS_KEY",
    "ACCESSKEY",
    "SESSION",
    "SESSID",
    "BEARER",
    "JWT",
    "CSRF",
    "XSRF",
    "SAMLRESPONSE",
    "CODE_VERIFIER",
];
/// The same, but as a whole word: PHP_AUTH_PW, DB_PASS, HTTP_X_AMZ_SIGNATURE, connect.sid.
const WORDS: [&str; 11] =
    ["PASS", "PW", "PWD", "PASSCODE", "SIGNATURE", "SIG", "SID", "AUTH", "OTP", "TOTP", "PIN"];
/// The same, but as the whole name: OAuth's code, but not a status_code.
const NAMES: [&str; 1] = ["CODE"];
/// Parameters with such names that hold no secret.
const PLAIN: [&str; 4] = ["AUTH_TYPE", "PHP_AUTH_USER", "PWD", "SERVER_SIGNATURE"];

/// Whether the value of a parameter, header field or form field with this name is a secret.
pub(crate) fn is_secret(name: &[u8]) -> bool {
    let mut given = name;
    while let Some(rest) = given.strip_prefix(b"REDIRECT_") {
        given = rest;
    }
    if PLAIN.iter().any(|plain| plain.as_bytes() == given) {
        return false;
    }
    let name: String =
        name.iter()
            .map(|byte| {
                if byte.is_ascii_alphanumeric() {
                    char::from(byte.to_ascii_uppercase())
                } else {
                    '_'
                }
            })
            .collect();
    PARTS.iter().any(|part| name.contains(part))
        || name.split('_').any(|word| WORDS.contains(&word))
        || NAMES.contains(&&*name)
}

/// Masks all of it.
pub(crate) fn overwrite(bytes: &mut [u8]) {
    bytes.fill(b'*');
}

pub(super) fn remember(name: &mut Vec<u8>, bytes: &[u8]) {
    let room = NAME.saturating_sub(name.len());
    name.extend_from_slice(&bytes[..bytes.len().min(room)]);
}

/// How to treat a value.
#[derive(Debug)]
enum Treat {
    Hide,
    Query(Query),
}

impl Treat {
    fn param(name: &[u8]) -> Self {
        match name {
            _ if is_secret(name) => Self::Hide,
            _ if name.ends_with(b"QUERY_STRING") => Self::Query(Query::new()),
            // Any value may contain a URL: REQUEST_URI, HTTP_REFERER, HTTP_X_ORIGINAL_URL, THE_REQUEST.
            _ => Self::Query(Query::of_url()),
        }
    }

    fn header(name: &[u8]) -> Self {
        // Any field may contain a URL: Location, Refresh, Link, X-Accel-Redirect.
        if is_secret(name) { Self::Hide } else { Self::Query(Query::of_url()) }
    }

    fn apply(&mut self, bytes: &mut [u8]) {
        match self {
            Self::Hide => overwrite(bytes),
            Self::Query(query) => query.apply(bytes),
        }
    }
}

/// Masks the values of name-value pairs, in a stream of PARAMS.
#[derive(Debug)]
pub(crate) struct Pairs {
    decoder: PairDecoder,
    name: Vec<u8>,
    value: Option<Treat>,
}

impl Pairs {
    pub(crate) const fn new() -> Self {
        Self { decoder: PairDecoder::new(), name: Vec::new(), value: None }
    }

    pub(crate) fn apply(&mut self, mut bytes: &mut [u8]) {
        loop {
            let (used, piece) = self.decoder.next(bytes);
            let is_value = match piece {
                Some(PairPiece::Lengths { .. }) => {
                    self.name.clear();
                    self.value = None;
                    false
                }
                Some(PairPiece::Name(name)) => {
                    remember(&mut self.name, name);
                    false
                }
                Some(PairPiece::Value(_)) => true,
                None => return,
            };
            let (now, later) = bytes.split_at_mut(used);
            if is_value {
                self.value.get_or_insert_with(|| Treat::param(&self.name)).apply(now);
            }
            bytes = later;
        }
    }
}

/// Masks the values of `name=value&name=value`: a query, or a form's fields. This includes those of
/// a URL in a value, plain or with `%XX`.
#[derive(Debug)]
pub(crate) struct Query {
    is_url: bool,
    at: At,
    /// What may be a name: everything since the last character that ends one.
    name: Vec<u8>,
    /// The name is longer than what is examined, and its start was a secret's name.
    was_secret: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum At {
    /// Before the `?` or `#` of a URL.
    Path,
    Text,
    Secret,
}

impl Query {
    pub(crate) const fn new() -> Self {
        Self { is_url: false, at: At::Text, name: Vec::new(), was_secret: false }
    }

    pub(super) const fn of_url() -> Self {
        Self { is_url: true, at: At::Path, name: Vec::new(), was_secret: false }
    }

    pub(crate) fn apply(&mut self, bytes: &mut [u8]) {
        for byte in bytes {
            match (self.at, *byte) {
                (At::Path, b'?' | b'#') => self.next(),
                (At::Path, _) => {}
                // Any other character may be part of the secret.
                (At::Secret, b'&') => self.next(),
                (At::Secret, b'#') if self.is_url => self.next(),
                (At::Secret, _) => *byte = b'*',
                (At::Text, other) => self.text(other),
            }
        }
    }

    fn next(&mut self) {
        self.at = At::Text;
        self.name.clear();
        self.was_secret = false;
    }

    fn text(&mut self, byte: u8) {
        if self.name.len() == NAME {
            self.was_secret |= is_secret(&unescaped(&self.name));
            self.name.drain(..NAME / 2);
        }
        self.name.push(byte);
        let (sign, length) = match *self.name {
            [.., b'%', a, b] => (hex(&[a, b]).unwrap_or(byte), 3),
            _ => (byte, 1),
        };
        match sign {
            b'&' | b';' | b'?' | b'#' => self.next(),
            b'=' => {
                let name = unescaped(&self.name[..self.name.len() - length]);
                let is_secret = self.was_secret || is_secret(&name);
                self.next();
                if is_secret {
                    self.at = At::Secret;
                }
            }
            _ => {}
        }
    }
}

pub(super) fn hex(digits: &[u8]) -> Option<u8> {
    let [high, low] = *digits else { return None };
    let digit = |byte| char::from(byte).to_digit(16);
    u8::try_from(digit(high)? << 4 | digit(low)?).ok()
}

/// A name without its `%XX`.
pub(super) fn unescaped(name: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    let mut rest = name;
    while let [first, after @ ..] = rest {
        let hex = (*first == b'%').then(|| after.get(..2)).flatten();
        let hex = hex.and_then(self::hex);
        out.push(hex.unwrap_or(*first));
        rest = if hex.is_some() { &after[2..] } else { after };
    }
    out
}

/// Masks the secrets in a response, and finds its status.
#[derive(Debug)]
pub(crate) struct Head {
    state: HeadState,
    content_type: Vec<u8>,
    name: Vec<u8>,
    /// Whether the line so far is empty.
    is_empty: bool,
    /// The digits of the status.
    digits: Vec<u8>,
    has_location: bool,
}

#[derive(Debug)]
enum HeadState {
    Name,
    Value(Treat),
    Body(Body),
}

impl Head {
    pub(crate) const fn new() -> Self {
        Self {
            state: HeadState::Name,
            content_type: Vec::new(),
            name: Vec::new(),
            is_empty: true,
            digits: Vec::new(),
            has_location: false,
        }
    }

    /// The status in the head (CGI-6.3-1), once the head has ended.
    pub(crate) fn status(&self) -> Option<u16> {
        let is_whole = matches!(self.state, HeadState::Body(_));
        let given = std::str::from_utf8(&self.digits).ok().and_then(|digits| digits.parse().ok());
        is_whole.then(|| given.unwrap_or(if self.has_location { 302 } else { 200 }))
    }

    pub(crate) fn apply(&mut self, bytes: &mut [u8], hide: bool) {
        let mut rest = bytes;
        loop {
            if let (HeadState::Body(body), true) = (&mut self.state, hide) {
                return body.apply(rest);
            }
            let [byte, after @ ..] = rest else { return };
            match (&mut self.state, *byte) {
                (HeadState::Body(_), _) => return,
                (state, b'\n') => {
                    *state = if self.is_empty {
                        HeadState::Body(Body::new(&self.content_type))
                    } else {
                        HeadState::Name
                    };
                    self.is_empty = true;
                    self.name.clear();
                }
                (_, b'\r') => {}
                (HeadState::Name, b':') => {
                    self.is_empty = false;
                    self.has_location |= self.name.eq_ignore_ascii_case(b"location");
                    self.state = HeadState::Value(Treat::header(&self.name));
                }
                (HeadState::Name, other) => {
                    self.is_empty = false;
                    remember(&mut self.name, &[other]);
                }
                (HeadState::Value(treat), other) => {
                    let is_status = self.name.eq_ignore_ascii_case(b"status");
                    if is_status && self.digits.len() < 3 && other.is_ascii_digit() {
                        self.digits.push(other);
                    }
                    if self.name.eq_ignore_ascii_case(b"content-type") {
                        remember(&mut self.content_type, &[other]);
                    }
                    if hide && other != b' ' {
                        treat.apply(std::slice::from_mut(byte));
                    }
                }
            }
            rest = after;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Head, Pairs, Query, is_secret};

    #[test]
    fn names_of_secrets() {
        for name in [
            "HTTP_COOKIE",
            "HTTP_AUTHORIZATION",
            "REDIRECT_HTTP_AUTHORIZATION",
            "HTTP_PROXY_AUTHORIZATION",
            "PHP_AUTH_PW",
            "DB_PASSWORD",
            "db-passwd",
            "user[password]",
            "HTTP_X_API_KEY",
            "X-Auth-Token",
            "Set-Cookie",
            "PHPSESSID",
            "JSESSIONID",
            "ASP.NET_SessionId",
            "connect.sid",
            "sid",
            "code",
            "HTTP_X_SESSION_ID",
            "X-Session",
            "HTTP_X_CSRF",
            "XSRF",
            "jwt",
            "auth",
            "PHP_AUTH_DIGEST",
            "otp",
            "sig",
            "pin",
            "pwd",
            "SAMLResponse",
            "AWSAccessKeyId",
        ] {
            assert!(is_secret(name.as_bytes()), "{name}");
        }
        for name in [
            "PATH_INFO",
            "PWD",
            "REQUEST_METHOD",
            "HTTP_HOST",
            "PASSENGER_ID",
            "KEY",
            "AUTH_TYPE",
            "REDIRECT_AUTH_TYPE",
            "PHP_AUTH_USER",
            "SERVER_SIGNATURE",
            "author",
            "status_code",
            "REMOTE_USER",
        ] {
            assert!(!is_secret(name.as_bytes()), "{name}");
        }
    }

    /// Applied in one piece, and byte by byte.
    fn both<T>(text: &[u8], new: impl Fn() -> T, apply: impl Fn(&mut T, &mut [u8])) -> String {
        let (mut whole, mut cut) = (text.to_vec(), text.to_vec());
        apply(&mut new(), &mut whole);
        let mut mask = new();
        cut.chunks_mut(1).for_each(|piece| apply(&mut mask, piece));
        assert_eq!(whole, cut, "any cut gives the same");
        String::from_utf8_lossy(&whole).into_owned()
    }

    #[test]
    fn queries_and_forms() {
        let mask = |text: &str| both(text.as_bytes(), Query::new, Query::apply);
        assert_eq!(mask("a=1&password=x&b=2"), "a=1&password=*&b=2");
        assert_eq!(mask("pass%77ord=abc;token=t=t&c"), "pass%77ord=*************&c");
        assert_eq!(mask("token=a#b&x=1;sid=1"), "token=***&x=1;sid=*");
        assert_eq!(mask("next=/in?code=12&x=%2Fa%3Fb%3Dc%26sid%3d1%26a=1&y=2"), {
            "next=/in?code=**&x=%2Fa%3Fb%3Dc%26sid%3d*******&y=2"
        });
        let long = "x".repeat(3 * super::NAME);
        assert_eq!(mask(&format!("a={long}&token=1")), format!("a={long}&token=*"));
        assert_eq!(mask(&format!("a={long}?sid=1")), format!("a={long}?sid=*"));
        assert_eq!(mask(&format!("token{long}=1&a=1")), format!("token{long}=*&a=1"));
        assert_eq!(mask(&format!("{long}token=1&a=1")), format!("{long}token=*&a=1"));
        assert_eq!(mask("a=%&b=%3&c=%zz&sid=%31"), "a=%&b=%3&c=%zz&sid=***");
        let url = |text: &str| both(text.as_bytes(), Query::of_url, Query::apply);
        assert_eq!(url("/token=a?api_key=12#x"), "/token=a?api_key=**#x");
        assert_eq!(url("https://a/cb#access_token=12&b=1"), "https://a/cb#access_token=**&b=1");
        assert_eq!(url("0; url=/a?code=12"), "0; url=/a?code=**");
    }

    #[test]
    fn parameters() {
        let mut wire = Vec::new();
        let long = "s".repeat(200);
        for (name, value) in [
            ("HTTP_COOKIE", &*long),
            ("REQUEST_METHOD", "GET"),
            ("REQUEST_URI", "/p?token=12&x=1"),
            ("PHP_AUTH_PW", "pw"),
            ("EMPTY_PASSWORD", ""),
            ("HTTP_X_ORIGINAL_URI", "/y?token=LEAK"),
            ("DOCUMENT_URL", "/y?sid=LEAK"),
            ("THE_REQUEST", "GET /y?code=LEAK"),
            ("REDIRECT_REDIRECT_QUERY_STRING", "sid=LEAK"),
            ("X-Sid", "LEAK"),
        ] {
            fcgi_tokio::proto::pairs::encode(name.as_bytes(), value.as_bytes(), &mut wire).unwrap();
        }
        let masked = both(&wire, Pairs::new, Pairs::apply);
        assert!(masked.contains(&"*".repeat(200)) && !masked.contains("ss"), "{masked}");
        assert!(masked.contains("/p?token=**&x=1") && masked.contains("PHP_AUTH_PW**"), "{masked}");
        assert!(masked.contains("REQUEST_METHODGET"), "{masked}");
        assert!(!masked.contains("LEAK") && masked.contains("/y?token=****"), "{masked}");
    }

    #[test]
    fn heads() {
        let mask =
            |text: &str| both(text.as_bytes(), Head::new, |head, bytes| head.apply(bytes, true));
        assert_eq!(
            mask("Status: 404 x\r\nSet-Cookie: a=b c\r\nX: y\r\n\r\nSet-Cookie: body"),
            "Status: 404 x\r\nSet-Cookie: *** *\r\nX: y\r\n\r\nSet-Cookie: body",
        );
        for head in
            ["Location: /cb#access_token=12", "Link: </a?sid=12", "X-Accel-Redirect: /?code=12"]
        {
            assert_eq!(mask(head), head.replace("12", "**"));
        }
        let status = |text: &str| {
            let mut head = Head::new();
            head.apply(&mut text.as_bytes().to_vec(), true);
            head.status()
        };
        assert_eq!(status("Status: 404 Not Found\n\n"), Some(404));
        assert_eq!(status("Content-Type: a\r\n\r\n"), Some(200));
        assert_eq!(status("Location: /x\r\n\r\n"), Some(302));
        assert_eq!(status("Status: 500\r\n"), None);
        let json = "Set-Cookie: a\r\nContent-type: application/json\r\n\r\n{\"token\":\"12\"}";
        assert_eq!(mask(json), json.replace("Cookie: a", "Cookie: *").replace("12", "**"));
        assert_eq!(
            mask("Content-Type: a/b\n\n{\"token\":1}"),
            "Content-Type: a/b\n\n{\"token\":1}"
        );
    }
}
