//! What CGI says about a request beyond HTTP.

use std::{borrow::Cow, fmt, net::IpAddr, str::FromStr, sync::Arc};

use fcgi_proto::Params;

use super::RequestError;
use crate::{body::parse_length, text::excerpt};

/// The meta-variables of a request, in its extensions after [`from_params`](super::from_params).
///
/// Every value is only as reliable as the web server. In particular, nginx and HAProxy set
/// REMOTE_USER from Basic credentials that nobody has checked; AUTH_TYPE is then usually missing
/// (W-6).
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct MetaVariables {
    params: Arc<Params>,
}

impl MetaVariables {
    /// The meta-variables among these parameters.
    #[must_use]
    pub fn new(params: impl Into<Arc<Params>>) -> Self {
        Self { params: params.into() }
    }

    /// All parameters, as they came.
    #[must_use]
    pub fn params(&self) -> &Params {
        &self.params
    }

    /// CONTENT_LENGTH in bytes. `None` if it is absent, empty (W-10) or -1, which Caddy sends; the
    /// body then ends where STDIN ends.
    ///
    /// # Errors
    /// It is anything but a decimal number below 2^64.
    pub fn content_length(&self) -> Result<Option<u64>, RequestError> {
        content_length(self.params.get("CONTENT_LENGTH"))
    }

    /// FCGI_DATA_LENGTH in bytes, of a Filter's request (FC-6.4-1). A value that is not a number
    /// counts as absent: DATA then ends where its stream ends.
    #[must_use]
    pub fn data_length(&self) -> Option<u64> {
        self.params.get("FCGI_DATA_LENGTH").and_then(parse_length)
    }

    /// REMOTE_ADDR: the client's address. `None` also if it is not an IP address, such as nginx's
    /// `unix:`.
    #[must_use]
    pub fn remote_addr(&self) -> Option<IpAddr> {
        self.parsed("REMOTE_ADDR")
    }

    /// REMOTE_PORT: the client's port.
    #[must_use]
    pub fn remote_port(&self) -> Option<u16> {
        self.parsed("REMOTE_PORT")
    }

    /// SERVER_ADDR: the address that the client connected to.
    #[must_use]
    pub fn server_addr(&self) -> Option<IpAddr> {
        self.parsed("SERVER_ADDR")
    }

    /// SERVER_PORT: the port that the client connected to.
    #[must_use]
    pub fn server_port(&self) -> Option<u16> {
        self.parsed("SERVER_PORT")
    }

    /// SERVER_NAME.
    #[must_use]
    pub fn server_name(&self) -> Option<&str> {
        self.params.get_str("SERVER_NAME")
    }

    /// Whether the client's connection is encrypted: HTTPS is set and neither empty nor `off`, or
    /// REQUEST_SCHEME is `https`.
    #[must_use]
    pub fn is_https(&self) -> bool {
        match self.params.get("HTTPS") {
            None | Some(b"") => {
                self.params.get("REQUEST_SCHEME").is_some_and(|s| s.eq_ignore_ascii_case(b"https"))
            }
            Some(value) => !value.eq_ignore_ascii_case(b"off"),
        }
    }

    /// AUTH_TYPE: how the web server authenticated the client; `None` if it is absent or empty.
    #[must_use]
    pub fn auth_type(&self) -> Option<&str> {
        self.params.get_str("AUTH_TYPE").filter(|value| !value.is_empty())
    }

    /// REMOTE_USER; `None` if it is empty. See the type's documentation on how far to trust it
    /// (W-6).
    #[must_use]
    pub fn remote_user(&self) -> Option<&[u8]> {
        self.params.get("REMOTE_USER").filter(|value| !value.is_empty())
    }

    /// SCRIPT_NAME, decoded; empty if it is absent.
    #[must_use]
    pub fn script_name(&self) -> &[u8] {
        self.params.get("SCRIPT_NAME").unwrap_or(b"")
    }

    /// PATH_INFO, decoded; empty if it is absent. It may hold any byte, even line ends and NUL.
    #[must_use]
    pub fn path_info(&self) -> &[u8] {
        self.params.get("PATH_INFO").unwrap_or(b"")
    }

    /// QUERY_STRING, as it was sent; empty if it is absent.
    #[must_use]
    pub fn query_string(&self) -> &[u8] {
        self.params.get("QUERY_STRING").unwrap_or(b"")
    }

    /// DOCUMENT_ROOT.
    #[must_use]
    pub fn document_root(&self) -> Option<&[u8]> {
        self.params.get("DOCUMENT_ROOT")
    }

    /// SCRIPT_FILENAME, without what Apache's mod_proxy_fcgi adds to it (W-5): the prefix
    /// `proxy:fcgi://host:port` or `proxy:balancer://name`, and a query at the end.
    #[must_use]
    pub fn script_filename(&self) -> Option<&[u8]> {
        let filename = self.params.get("SCRIPT_FILENAME")?;
        Some(proxied_path(filename).unwrap_or(filename))
    }

    /// The part of mod_proxy_fcgi's SCRIPT_FILENAME after its prefix; `None` behind other servers.
    pub(super) fn proxied_path(&self) -> Option<&[u8]> {
        self.params.get("SCRIPT_FILENAME").and_then(proxied_path)
    }

    fn parsed<T: FromStr>(&self, name: &str) -> Option<T> {
        self.params.get_str(name)?.parse().ok()
    }

    /// Whether the client asked for `*`, which means the server and not a path.
    pub(super) fn is_about_server(&self) -> bool {
        self.params.get("REQUEST_URI") == Some(b"*")
    }

    /// The path that SCRIPT_NAME and PATH_INFO form, decoded; `None` if both are absent.
    pub(super) fn path(&self) -> Option<Cow<'_, [u8]>> {
        match (self.params.get("SCRIPT_NAME"), self.params.get("PATH_INFO")) {
            (None, None) => None,
            (Some(path), None | Some(b"")) | (None | Some(b""), Some(path)) => {
                Some(Cow::Borrowed(path))
            }
            (Some(name), Some(info)) => Some(Cow::Owned([name, info].concat())),
        }
    }
}

/// See [`MetaVariables::content_length`].
pub(super) fn content_length(value: Option<&[u8]>) -> Result<Option<u64>, RequestError> {
    match value {
        None | Some(b"" | b"-1") => Ok(None),
        Some(value) => parse_length(value)
            .map(Some)
            .ok_or_else(|| RequestError::Invalid { name: "CONTENT_LENGTH", value: excerpt(value) }),
    }
}

fn proxied_path(filename: &[u8]) -> Option<&[u8]> {
    let rest = [&b"proxy:fcgi://"[..], b"proxy:balancer://"]
        .iter()
        .find_map(|prefix| filename.strip_prefix(*prefix))?;
    let start = rest.iter().position(|byte| *byte == b'/').unwrap_or(rest.len());
    let path = &rest[start..];
    let end = path.iter().position(|byte| *byte == b'?').unwrap_or(path.len());
    Some(&path[..end])
}

/// The client's address, as the web server reports it: REMOTE_ADDR and REMOTE_PORT.
///
/// With the feature `axum` it is an extractor. If the address is missing, the client gets status
/// 500 with a text that says what to do. Applications that work without the address can use
/// `Option<RemoteAddr>`.
///
/// ```
/// use fcgi_http::{MetaVariables, RemoteAddr};
/// use fcgi_proto::Params;
///
/// let of = |pairs: &[(&str, &str)]| {
///     RemoteAddr::of(&MetaVariables::new(Params::from_iter(pairs.iter().copied())))
/// };
/// let client = of(&[("REMOTE_ADDR", "192.0.2.7"), ("REMOTE_PORT", "4711")])?;
/// assert_eq!((client.to_string(), client.port()), ("192.0.2.7".into(), Some(4711)));
///
/// let error = of(&[]).unwrap_err();
/// assert!(error.to_string().contains("no parameter REMOTE_ADDR"));
/// # Ok::<(), fcgi_http::request::RemoteAddrError>(())
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct RemoteAddr {
    ip: IpAddr,
    port: Option<u16>,
}

impl RemoteAddr {
    /// The client that these parameters name.
    ///
    /// # Errors
    /// REMOTE_ADDR is missing, or is not an IP address.
    pub fn of(meta: &MetaVariables) -> Result<Self, RemoteAddrError> {
        match (meta.remote_addr(), meta.params().get("REMOTE_ADDR")) {
            (Some(ip), _) => Ok(Self { ip, port: meta.remote_port() }),
            (None, None | Some(b"")) => Err(RemoteAddrError::Missing),
            (None, Some(value)) => Err(RemoteAddrError::Invalid(excerpt(value))),
        }
    }

    /// REMOTE_ADDR.
    #[must_use]
    pub fn ip(&self) -> IpAddr {
        self.ip
    }

    /// REMOTE_PORT; `None` if it is missing or not a port.
    #[must_use]
    pub fn port(&self) -> Option<u16> {
        self.port
    }
}

/// Shows the IP address only.
impl fmt::Display for RemoteAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.ip.fmt(f)
    }
}

/// A request's extensions have no [`MetaVariables`].
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("the request has no meta-variables: it did not come over FastCGI")]
pub struct MissingMeta;

/// Why the client's address is not known.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RemoteAddrError {
    /// The request has no parameters at all.
    #[error(transparent)]
    NoMeta(#[from] MissingMeta),
    /// The web server did not send it.
    #[error(
        "the request has no parameter REMOTE_ADDR: configure the web server to send it, in nginx \
         with `include fastcgi_params;`"
    )]
    Missing,
    /// It is not an IP address, as behind a web server that itself listens on a unix socket.
    #[error(
        "the request's REMOTE_ADDR is \"{0}\", which is not an IP address: make the web server say who \
         its client is, nginx with its realip module"
    )]
    Invalid(String),
}
