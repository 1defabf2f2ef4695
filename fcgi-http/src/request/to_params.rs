//! The web server's side: turns a request's head into parameters.

use std::{
    borrow::Cow,
    net::{Ipv6Addr, SocketAddr},
    sync::OnceLock,
};

use fcgi_proto::Params;
use http::{
    HeaderMap, Method, StatusCode, Version,
    header::{AUTHORIZATION, CONTENT_TYPE, HOST, HeaderName, TRANSFER_ENCODING},
    request::Parts,
    uri::Authority,
};

use super::{HeaderPolicy, policy::Output};
use crate::{
    body::{self, BodyLength, BodyLengthError},
    script::Script,
    text::excerpt,
};

/// What is known about a request's body before it is sent. There is no other case.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum RequestBody {
    /// There is no body: no CONTENT_LENGTH.
    None,
    /// There is a body of exactly this many bytes, possibly 0: CONTENT_LENGTH says so.
    Length(u64),
    /// There is a body of unknown length, which is streamed: no CONTENT_LENGTH. php-fpm does not
    /// read such a body and resets the connection (Q-4); spool it and use [`Length`](Self::Length).
    Unknown,
}

impl RequestBody {
    /// The body that the header fields of an HTTP/1 request declare: Transfer-Encoding,
    /// Content-Length, or neither, which means no body. In HTTP/2 and later, a request with neither
    /// may still have a body of unknown length; the caller knows.
    ///
    /// # Errors
    /// A Content-Length that is not one number, or that comes with Transfer-Encoding (RFC 9112,
    /// 6.3: possibly an attempt at request smuggling).
    pub fn from_headers(headers: &HeaderMap) -> Result<Self, ParamsError> {
        let declared = body::content_length(headers)?;
        match (headers.contains_key(TRANSFER_ENCODING), declared) {
            (true, Some(_)) => Err(ParamsError::TwoLengths),
            (true, None) => Ok(Self::Unknown),
            (false, Some(length)) => Ok(Self::Length(length)),
            (false, None) => Ok(Self::None),
        }
    }
}

/// Counts the body as it is sent.
impl From<RequestBody> for BodyLength {
    fn from(body: RequestBody) -> Self {
        match body {
            RequestBody::None => Self::exactly(0),
            RequestBody::Length(length) => Self::exactly(length),
            RequestBody::Unknown => Self::new(None),
        }
    }
}

/// Builds a request's parameters (CGI-4.1-1).
///
/// Set what all requests share, clone the builder for a connection, and [`build`](Self::build) for
/// each request. Parameters you do not set are omitted, except SERVER_NAME, SERVER_PORT and
/// SERVER_SOFTWARE, which CGI requires: they come from the request, the scheme and this crate's
/// name.
#[derive(Clone, Debug, Default)]
pub struct ParamsBuilder {
    server_software: Option<String>,
    server_name: Option<String>,
    server_addr: Option<Shown>,
    remote_addr: Option<Shown>,
    remote_host: Option<String>,
    remote_ident: Option<String>,
    auth_type: Option<String>,
    remote_user: Option<Vec<u8>>,
    https: bool,
    headers: HeaderPolicy,
    extra: Vec<(Vec<u8>, Vec<u8>)>,
    /// The parameters that are the same for each request, made for the first one.
    shared: OnceLock<Params>,
}

/// An address as text, written once for all requests of a connection.
#[derive(Clone, Debug)]
struct Shown {
    ip: String,
    port: String,
    is_v6: bool,
}

impl Shown {
    fn new(address: SocketAddr) -> Self {
        let ip = address.ip().to_canonical();
        Self { ip: ip.to_string(), port: address.port().to_string(), is_v6: ip.is_ipv6() }
    }
}

impl ParamsBuilder {
    /// A builder without values, for plain HTTP, with the default [`HeaderPolicy`].
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// SERVER_SOFTWARE, such as `example/1.0`.
    #[must_use]
    pub fn server_software(mut self, software: impl Into<String>) -> Self {
        self.server_software = Some(software.into());
        self.changed()
    }

    /// SERVER_NAME. Default: the host that the request names, which the client chose; without that
    /// the server's address; without that `localhost`.
    #[must_use]
    pub fn server_name(mut self, name: impl Into<String>) -> Self {
        self.server_name = Some(name.into());
        self.changed()
    }

    /// SERVER_ADDR and SERVER_PORT: the address at which the connection arrived. Default: no
    /// SERVER_ADDR, and the port of the host that the request names, or the scheme's.
    #[must_use]
    pub fn server_addr(mut self, address: SocketAddr) -> Self {
        self.server_addr = Some(Shown::new(address));
        self.changed()
    }

    /// REMOTE_ADDR and REMOTE_PORT: the address that the connection came from. An IPv4 address
    /// inside an IPv6 one is shown as IPv4. Default: neither is sent.
    #[must_use]
    pub fn remote_addr(mut self, address: SocketAddr) -> Self {
        self.remote_addr = Some(Shown::new(address));
        self.changed()
    }

    /// REMOTE_HOST: the client's name, if it was looked up.
    #[must_use]
    pub fn remote_host(mut self, name: impl Into<String>) -> Self {
        self.remote_host = Some(name.into());
        self.changed()
    }

    /// REMOTE_IDENT: the answer of the client's identity daemon (RFC 1413).
    #[must_use]
    pub fn remote_ident(mut self, user: impl Into<String>) -> Self {
        self.remote_ident = Some(user.into());
        self.changed()
    }

    /// AUTH_TYPE and REMOTE_USER: how the web server has authenticated the client, and as whom.
    /// Never set them from an Authorization field that nobody has checked (W-6).
    #[must_use]
    pub fn authenticated(mut self, auth_type: impl Into<String>, user: impl Into<Vec<u8>>) -> Self {
        self.auth_type = Some(auth_type.into());
        self.remote_user = Some(user.into());
        self.changed()
    }

    /// Whether the client's connection is encrypted. If so, HTTPS is `on`; otherwise it is not
    /// sent. REQUEST_SCHEME is `https` or `http`.
    #[must_use]
    pub fn https(mut self, yes: bool) -> Self {
        self.https = yes;
        self.changed()
    }

    /// Which header fields are passed.
    #[must_use]
    pub fn headers(mut self, policy: HeaderPolicy) -> Self {
        self.headers = policy;
        self.changed()
    }

    /// A parameter of your own. It is sent after the others, and replaces one of the same name. A
    /// later call with the same name replaces an earlier one.
    #[must_use]
    pub fn param(mut self, name: impl Into<Vec<u8>>, value: impl Into<Vec<u8>>) -> Self {
        let (name, value) = (name.into(), value.into());
        match self.extra.iter_mut().find(|(known, _)| *known == name) {
            Some((_, old)) => *old = value,
            None => self.extra.push((name, value)),
        }
        self.changed()
    }

    /// After a setting was changed.
    fn changed(mut self) -> Self {
        self.shared = OnceLock::new();
        self
    }

    /// The parameters of a request that `script` serves.
    ///
    /// PATH_INFO, and with it PATH_TRANSLATED, is sent unless it is empty. REDIRECT_STATUS is 200,
    /// which a php with `cgi.force_redirect` requires.
    ///
    /// # Errors
    /// The request can't be expressed as parameters without guessing; see [`ParamsError`].
    pub fn build(
        &self,
        request: &Parts,
        script: &Script,
        body: RequestBody,
    ) -> Result<Params, ParamsError> {
        if request.method == Method::CONNECT {
            return Err(ParamsError::Connect);
        }
        let repeats = request.headers.len() > request.headers.keys_len();
        for name in [HOST, CONTENT_TYPE, AUTHORIZATION] {
            if repeats && request.headers.get_all(&name).iter().nth(1).is_some() {
                return Err(ParamsError::Repeated(name));
            }
        }
        check_length(&request.headers, body)?;
        let host = Host::of(request)?;

        let params = Params::with_capacity(1024);
        let mut out = Output { params, overrides: &self.extra };
        self.put_script(&mut out, script);
        out.put("REQUEST_METHOD", request.method.as_str());
        match request.uri.path_and_query().map_or("/", |path| path.as_str()) {
            // `http://host?query` has an empty path, which stands for `/` (RFC 9110, 4.2.3).
            query if query.starts_with('?') => out.put("REQUEST_URI", &*format!("/{query}")),
            target => out.put("REQUEST_URI", target),
        }
        out.put("QUERY_STRING", request.uri.query().unwrap_or(""));
        out.put("SERVER_PROTOCOL", protocol(request.version));
        if let Some(content_type) = request.headers.get(CONTENT_TYPE) {
            out.put("CONTENT_TYPE", content_type);
        }
        if let RequestBody::Length(length) = body {
            out.put("CONTENT_LENGTH", length.to_string());
        }
        self.put_connection(&mut out, &host);
        if let Some(host) = &host.field {
            out.put("HTTP_HOST", *host);
        }
        self.headers.each(&request.headers, |name, value| out.put(name, value));

        let mut params = out.params;
        params.extend(self.extra.iter().map(|(name, value)| (name, value)));
        Ok(params)
    }

    fn put_script(&self, out: &mut Output<'_>, script: &Script) {
        if let Some(file) = &script.script_filename {
            out.put("SCRIPT_FILENAME", file);
        }
        out.put("SCRIPT_NAME", &script.script_name);
        if !script.path_info.is_empty() {
            out.put("PATH_INFO", &script.path_info);
        }
        if let Some(path) = script.path_translated() {
            out.put("PATH_TRANSLATED", path);
        }
        if let Some(root) = &script.document_root {
            out.put("DOCUMENT_ROOT", root);
        }
        match (&script.script_name[..], &script.path_info[..]) {
            (all, []) | ([], all) => out.put("DOCUMENT_URI", all),
            (name, info) => out.put("DOCUMENT_URI", [name, info].concat()),
        }
    }

    fn put_connection(&self, out: &mut Output<'_>, host: &Host<'_>) {
        out.params.append(self.shared.get_or_init(|| self.shared()));
        match (&self.server_addr, host.port, self.https) {
            (Some(_), _, _) => {}
            (None, Some(port), _) => out.put("SERVER_PORT", port.to_string()),
            (None, None, true) => out.put("SERVER_PORT", "443"),
            (None, None, false) => out.put("SERVER_PORT", "80"),
        }
        match (&self.server_name, &host.name, &self.server_addr) {
            (Some(_), _, _) => {}
            (None, Some(name), _) => out.put("SERVER_NAME", &**name),
            (None, None, Some(Shown { ip, is_v6: false, .. })) => out.put("SERVER_NAME", ip),
            (None, None, Some(Shown { ip, .. })) => out.put("SERVER_NAME", format!("[{ip}]")),
            (None, None, None) => out.put("SERVER_NAME", "localhost"),
        }
    }

    /// What does not depend on the request.
    fn shared(&self) -> Params {
        let mut out = Output { params: Params::new(), overrides: &self.extra };
        let software = concat!("fcgi-http/", env!("CARGO_PKG_VERSION"));
        out.put("GATEWAY_INTERFACE", "CGI/1.1");
        out.put("SERVER_SOFTWARE", self.server_software.as_deref().unwrap_or(software));
        out.put("REQUEST_SCHEME", if self.https { "https" } else { "http" });
        if self.https {
            out.put("HTTPS", "on");
        }
        if let Some(remote) = &self.remote_addr {
            out.put("REMOTE_ADDR", &remote.ip);
            out.put("REMOTE_PORT", &remote.port);
        }
        if let Some(server) = &self.server_addr {
            out.put("SERVER_ADDR", &server.ip);
            out.put("SERVER_PORT", &server.port);
        }
        if let Some(name) = &self.server_name {
            out.put("SERVER_NAME", name);
        }
        if let Some(name) = &self.remote_host {
            out.put("REMOTE_HOST", name);
        }
        if let Some(user) = &self.remote_ident {
            out.put("REMOTE_IDENT", user);
        }
        if let (Some(auth_type), Some(user)) = (&self.auth_type, &self.remote_user) {
            out.put("AUTH_TYPE", auth_type);
            out.put("REMOTE_USER", user);
        }
        out.put("REDIRECT_STATUS", "200");
        out.params
    }
}

/// Checks that the Content-Length field agrees with the body that is sent (CGI-4.1-2, Q-4).
fn check_length(headers: &HeaderMap, body: RequestBody) -> Result<(), ParamsError> {
    let Some(field) = body::content_length(headers)? else { return Ok(()) };
    let length = match body {
        RequestBody::None => Some(0),
        RequestBody::Length(length) => Some(length),
        RequestBody::Unknown => None,
    };
    if length == Some(field) { Ok(()) } else { Err(ParamsError::LengthMismatch { field, length }) }
}

fn protocol(version: Version) -> &'static str {
    match version {
        Version::HTTP_09 => "HTTP/0.9",
        Version::HTTP_10 => "HTTP/1.0",
        Version::HTTP_2 => "HTTP/2.0",
        Version::HTTP_3 => "HTTP/3.0",
        _ => "HTTP/1.1",
    }
}

/// The host that a request names: in its target, otherwise in Host (RFC 9112, 3.2.2).
#[derive(Default)]
struct Host<'a> {
    field: Option<&'a [u8]>,
    name: Option<Cow<'a, str>>,
    port: Option<u16>,
}

impl<'a> Host<'a> {
    fn of(request: &'a Parts) -> Result<Self, ParamsError> {
        let field = match (request.uri.authority(), request.headers.get(HOST)) {
            // What stands before an @ is not meant for the server.
            (Some(authority), _) => {
                authority.as_str().rsplit('@').next().unwrap_or_default().as_bytes()
            }
            (None, Some(field)) => field.as_bytes(),
            (None, None) => b"",
        };
        // An empty Host names no host (RFC 9110, 7.2).
        if field.is_empty() {
            return Ok(Self::default());
        }
        match split_host(field) {
            Some((name, port)) => Ok(Self { field: Some(field), name: Some(name), port }),
            None => Err(ParamsError::Host(excerpt(field))),
        }
    }
}

/// Whether the value of a Host field is valid (RFC 9112, 3.2). An empty one is: it names no host
/// (RFC 9110, 7.2).
///
/// ```
/// use fcgi_http::request::is_host;
///
/// assert!(is_host(b"www.example.org:8080") && is_host(b"[::1]") && is_host(b""));
/// assert!(!is_host(b"user@example.org") && !is_host(b"a b") && !is_host(b":80"));
/// assert!(!is_host(b"example.org:http") && !is_host(b"[::1]8080"));
/// ```
#[must_use]
pub fn is_host(field: &[u8]) -> bool {
    field.is_empty() || plain_host(field).is_some() || authority(field).is_some()
}

/// The host and its port, if that is a port.
fn split_host(field: &[u8]) -> Option<(Cow<'_, str>, Option<u16>)> {
    if let Some((name, port)) = plain_host(field) {
        return Some((std::str::from_utf8(name).ok()?.into(), port));
    }
    let host = authority(field)?;
    Some((host.host().to_owned().into(), host.port_u16()))
}

/// An [`Authority`] may have user information before its host, and anything after it.
fn authority(field: &[u8]) -> Option<Authority> {
    let authority = Authority::try_from(field).ok()?;
    let host = authority.host();
    let is_named = match host.strip_prefix('[') {
        Some(address) => address.strip_suffix(']')?.parse::<Ipv6Addr>().is_ok(),
        None => !host.is_empty(),
    };
    let is_whole = match authority.as_str().strip_prefix(host)? {
        "" | ":" => true,
        rest => {
            rest.strip_prefix(':').is_some_and(|port| !port.starts_with('+'))
                && authority.port_u16().is_some()
        }
    };
    (is_named && is_whole).then_some(authority)
}

/// The same for what most clients send: a name or an IPv4 address, and perhaps a number as port. An
/// [`Authority`] finds the same, but takes ten times as long.
fn plain_host(field: &[u8]) -> Option<(&[u8], Option<u16>)> {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-');
    let end = field.iter().position(|byte| !is_plain(*byte)).unwrap_or(field.len());
    match field.split_at(end) {
        ([], _) => None,
        (name, []) => Some((name, None)),
        (name, [b':', port @ ..]) if port.first().is_some_and(u8::is_ascii_digit) => {
            Some((name, Some(std::str::from_utf8(port).ok()?.parse().ok()?)))
        }
        _ => None,
    }
}

/// A request that a web server can't pass to an application.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ParamsError {
    /// CONNECT asks for a tunnel.
    #[error("CONNECT asks for a tunnel, which CGI can't provide")]
    Connect,
    /// A field came more than once that may come only once.
    #[error("the request has more than one {0} field")]
    Repeated(HeaderName),
    /// Host is not a valid host.
    #[error("the request's Host is \"{0}\", which is not a valid host")]
    Host(String),
    /// Content-Length is not one number.
    #[error("the request's length is not known")]
    ContentLength(#[from] BodyLengthError),
    /// Content-Length and Transfer-Encoding came together.
    #[error("the request has both Content-Length and Transfer-Encoding")]
    TwoLengths,
    /// Content-Length is not the length of the body that is sent (Q-4).
    #[error("the request's Content-Length is {field}, but its body has {}",
        length.map_or("an unknown length".to_owned(), |length| format!("{length} bytes")))]
    LengthMismatch {
        /// The length in the field.
        field: u64,
        /// The length that the caller gave.
        length: Option<u64>,
    },
}

impl ParamsError {
    /// The status to answer with: 405 for CONNECT, otherwise 400.
    #[must_use]
    pub fn status(&self) -> StatusCode {
        match self {
            Self::Connect => StatusCode::METHOD_NOT_ALLOWED,
            _ => StatusCode::BAD_REQUEST,
        }
    }
}
