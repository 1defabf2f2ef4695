//! The inputs of every run: a realistic request as nginx sends it, and bodies.

use bytes::Bytes;

use crate::wire::{self, put_pair, put_record};

/// The content of a request: pairs and a body, before any encoding.
pub(crate) struct Request {
    /// The parameters, in order.
    pub(crate) params: Vec<(Bytes, Bytes)>,
    /// The STDIN stream.
    pub(crate) body: Bytes,
}

/// One input in both forms.
pub(crate) struct Sample {
    /// Its name, for the table's title.
    pub(crate) title: &'static str,
    /// The request before encoding.
    pub(crate) request: Request,
    /// The same request on the wire.
    pub(crate) wire: Vec<u8>,
    /// Whether encoders are measured with it too.
    pub(crate) encodes: bool,
}

/// The 26 parameters of a browser's request through nginx's own `fastcgi_params`.
const PARAMS: [(&str, &str); 26] = [
    ("QUERY_STRING", "page=2&sort=date"),
    ("REQUEST_METHOD", "GET"),
    ("CONTENT_TYPE", ""),
    ("CONTENT_LENGTH", ""),
    ("SCRIPT_NAME", "/index.php"),
    ("REQUEST_URI", "/articles?page=2&sort=date"),
    ("DOCUMENT_URI", "/index.php"),
    ("DOCUMENT_ROOT", "/var/www/html"),
    ("SERVER_PROTOCOL", "HTTP/1.1"),
    ("REQUEST_SCHEME", "http"),
    ("GATEWAY_INTERFACE", "CGI/1.1"),
    ("SERVER_SOFTWARE", "nginx/1.22.1"),
    ("REMOTE_ADDR", "203.0.113.17"),
    ("REMOTE_PORT", "51724"),
    ("SERVER_ADDR", "198.51.100.4"),
    ("SERVER_PORT", "80"),
    ("SERVER_NAME", "www.example.com"),
    ("REDIRECT_STATUS", "200"),
    ("SCRIPT_FILENAME", "/var/www/html/index.php"),
    ("HTTP_HOST", "www.example.com"),
    ("HTTP_USER_AGENT", "Mozilla/5.0 (X11; Linux x86_64; rv:128.0) Gecko/20100101 Firefox/128.0"),
    ("HTTP_ACCEPT", "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"),
    ("HTTP_ACCEPT_LANGUAGE", "en-GB,en;q=0.7"),
    ("HTTP_ACCEPT_ENCODING", "gzip, deflate, br"),
    (
        "HTTP_COOKIE",
        "session=6f1e9c0b7a3d4e58b2c1d0f9a8e7b6c5d4f3a2b1; theme=dark; consent=2026-01-01T00:00:00Z; \
         cart=8d2f7c; seen=1234,1240,1251,1260",
    ),
    ("HTTP_CONNECTION", "keep-alive"),
];

/// The length of the large body.
const LARGE: usize = 1 << 20;

impl Sample {
    /// All samples for codecs.
    pub(crate) fn all() -> [Sample; 3] {
        [Sample::small(), Sample::large(), Sample::tiny()]
    }

    /// A 26-parameter request without a body.
    pub(crate) fn small() -> Sample {
        Sample::new("a 26-parameter request", 0, wire::FULL_RECORD)
    }

    /// The same request with a body of 1 MiB in records of the greatest length.
    fn large() -> Sample {
        Sample::new("a 1 MiB body in 64 KiB records", LARGE, wire::FULL_RECORD)
    }

    /// The same request with a body in records of one byte. No encoder here would write these.
    fn tiny() -> Sample {
        let sample = Sample::new("a body in 1,000 records of one byte", 1_000, 1);
        Sample { encodes: false, ..sample }
    }

    /// Creates both forms from the parameters and a body of this many bytes.
    fn new(title: &'static str, length: usize, record: usize) -> Sample {
        let body: Vec<u8> = (0..length).map(|i| (i * 7 + i / 251) as u8).collect();
        let params = PARAMS.map(|(name, value)| (name.into(), value.into())).into();
        let request = Request { params, body: body.into() };
        let wire = request.to_wire(wire::ID, true, record);
        Sample { title, request, wire, encodes: true }
    }

    /// The request on the wire with this id, for a connection that is kept or not.
    pub(crate) fn wire(&self, id: u16, keep: bool) -> Vec<u8> {
        self.request.to_wire(id, keep, wire::FULL_RECORD)
    }

    /// The same request as a browser sends it over HTTP/1.1.
    pub(crate) fn http(&self, keep: bool) -> Vec<u8> {
        let mut out = b"GET /articles?page=2&sort=date HTTP/1.1\r\n".to_vec();
        for (name, value) in &self.request.params {
            let Some(name) = name.strip_prefix(b"HTTP_") else { continue };
            let name: Vec<u8> = name.iter().map(|b| if *b == b'_' { b'-' } else { *b }).collect();
            let value = if name == b"CONNECTION" && !keep { b"close" } else { &value[..] };
            for part in [&name[..], b": ", value, b"\r\n"] {
                out.extend_from_slice(part);
            }
        }
        out.extend_from_slice(b"\r\n");
        out
    }
}

impl Request {
    /// BEGIN_REQUEST, PARAMS, STDIN and the two ends of stream, as one block.
    fn to_wire(&self, id: u16, keep: bool, record: usize) -> Vec<u8> {
        let mut pairs = Vec::new();
        for (name, value) in &self.params {
            put_pair(&mut pairs, name, value);
        }
        let mut out = Vec::with_capacity(pairs.len() + self.body.len() + 1024);
        put_record(&mut out, wire::BEGIN_REQUEST, id, &wire::begin_body(keep));
        put_record(&mut out, wire::PARAMS, id, &pairs);
        put_record(&mut out, wire::PARAMS, id, &[]);
        for chunk in self.body.chunks(record) {
            put_record(&mut out, wire::STDIN, id, chunk);
        }
        put_record(&mut out, wire::STDIN, id, &[]);
        out
    }
}
