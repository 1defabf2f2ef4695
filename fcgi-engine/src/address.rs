//! The address of an application.

use std::{
    fmt,
    net::{Ipv6Addr, SocketAddr},
    path::{Path, PathBuf},
    str::FromStr,
    sync::Arc,
};

use crate::Error;

/// The address of an application, as people write it:
///
/// | text | means |
/// | --- | --- |
/// | `unix:/run/x.sock`, `unix:///run/x.sock`, `/run/x.sock` | a unix socket |
/// | `unix:x.sock`, `./x.sock`, `../x.sock` | a unix socket, relative to the working directory |
/// | `tcp:host:9000`, `tcp://host:9000`, `fcgi://host:9000`, `host:9000`, `[::1]:9000`, `[fe80::1%eth0]:9000` | a TCP port |
/// | `:9000`, also after `tcp:` | a TCP port: on all interfaces when listening, on loopback when calling |
/// | `-` | descriptor 0, only for listening: a web server that starts its applications passes the socket there (FCGI_LISTENSOCK_FILENO, FC-2.2-1) |
///
/// After `tcp://` and `fcgi://` a slash at the end is ignored. A host may be a name. It is looked up
/// each time the address is used, and not before.
///
/// ```
/// use fcgi_engine::Address;
///
/// let address: Address = "127.0.0.1:9000".parse()?;
/// assert_eq!(address.to_string(), "tcp:127.0.0.1:9000");
/// assert_eq!(address, "fcgi://127.0.0.1:9000".parse()?);
/// assert_eq!(Address::unix("/run/x.sock"), "unix:///run/x.sock".parse()?);
/// assert!("9000".parse::<Address>().is_err());
/// # Ok::<(), fcgi_engine::AddressError>(())
/// ```
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Address(Kind);

#[derive(Clone, PartialEq, Eq, Hash, Debug)]
enum Kind {
    Unix(PathBuf),
    /// Host and port, in the form that the system's resolver takes.
    Tcp(Arc<str>),
    /// `:PORT`, and the address to call for it.
    Any(u16, Arc<str>),
    Stdin,
    /// A stream that is connected already.
    Stream,
}

/// What an [`Address`] leads to, for code that connects.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum Target<'a> {
    /// A unix socket's path.
    Unix(&'a Path),
    /// Host and port, in the form that [`ToSocketAddrs`](std::net::ToSocketAddrs) takes; the host
    /// may be a name.
    Tcp(&'a str),
    /// Descriptor 0, which can't be called.
    Stdin,
    /// A stream that is connected already.
    Stream,
}

impl Address {
    /// Descriptor 0, to listen on (FC-2.2-1).
    pub const STDIN: Self = Self(Kind::Stdin);

    /// The address of a client over a stream, which has no real one; it shows as `(stream)`. It
    /// can't be called or listened on.
    pub const STREAM: Self = Self(Kind::Stream);

    /// A unix socket's path.
    pub fn unix(path: impl Into<PathBuf>) -> Self {
        Self(Kind::Unix(path.into()))
    }

    /// What to connect to.
    #[must_use]
    pub fn target(&self) -> Target<'_> {
        match &self.0 {
            Kind::Unix(path) => Target::Unix(path),
            Kind::Tcp(host_port) | Kind::Any(_, host_port) => Target::Tcp(host_port),
            Kind::Stdin => Target::Stdin,
            Kind::Stream => Target::Stream,
        }
    }

    /// Whether it can be called. All addresses can, except descriptor 0 and
    /// [`STREAM`](Self::STREAM).
    #[must_use]
    pub fn is_callable(&self) -> bool {
        !matches!(self.0, Kind::Stdin | Kind::Stream)
    }

    /// Itself, if it can be called.
    #[doc(hidden)]
    pub fn callable(self) -> Result<Self, Error> {
        if self.is_callable() {
            return Ok(self);
        }
        Err(Error::NotCallable { address: self.to_string().into() })
    }

    /// The port, if the address means all interfaces.
    pub(crate) fn any_port(&self) -> Option<u16> {
        match self.0 {
            Kind::Any(port, _) => Some(port),
            _ => None,
        }
    }
}

impl From<SocketAddr> for Address {
    fn from(address: SocketAddr) -> Self {
        Self(Kind::Tcp(address.to_string().into()))
    }
}

impl From<PathBuf> for Address {
    fn from(path: PathBuf) -> Self {
        Self::unix(path)
    }
}

impl From<&Path> for Address {
    fn from(path: &Path) -> Self {
        Self::unix(path)
    }
}

impl From<&PathBuf> for Address {
    fn from(path: &PathBuf) -> Self {
        Self::unix(path)
    }
}

impl From<&Address> for Address {
    fn from(address: &Address) -> Self {
        address.clone()
    }
}

impl TryFrom<String> for Address {
    type Error = AddressError;

    fn try_from(text: String) -> Result<Self, AddressError> {
        text.parse()
    }
}

impl TryFrom<&String> for Address {
    type Error = AddressError;

    fn try_from(text: &String) -> Result<Self, AddressError> {
        text.parse()
    }
}

impl TryFrom<&str> for Address {
    type Error = AddressError;

    fn try_from(text: &str) -> Result<Self, AddressError> {
        text.parse()
    }
}

/// A text that is not an [`Address`].
#[derive(Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{given:?} is not an address: expected unix:PATH, /PATH, ./PATH, tcp:HOST:PORT, fcgi://HOST:PORT, \
     HOST:PORT, [IPV6]:PORT, :PORT, or - for descriptor 0"
)]
pub struct AddressError {
    given: String,
}

/// The same as its text: a `main` that returns it prints this.
impl fmt::Debug for AddressError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for Address {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<Self, AddressError> {
        parse(text).map(Self).ok_or_else(|| AddressError { given: text.to_owned() })
    }
}

fn parse(text: &str) -> Option<Kind> {
    if text == "-" {
        return Some(Kind::Stdin);
    }
    if ["/", "./", "../"].iter().any(|start| text.starts_with(start)) {
        return unix(text);
    }
    if let Some(path) = text.strip_prefix("unix:") {
        // After two slashes comes a host, which must be empty here, then the path.
        return match path.strip_prefix("//") {
            Some(path) if path.starts_with('/') => unix(path),
            Some(_) => None,
            None => unix(path),
        };
    }
    if let Some(url) = ["tcp://", "fcgi://"].iter().find_map(|start| text.strip_prefix(start)) {
        // A URL may end with the slash of an empty path.
        return tcp(url.strip_suffix('/').unwrap_or(url));
    }
    tcp(text.strip_prefix("tcp:").unwrap_or(text))
}

fn unix(path: &str) -> Option<Kind> {
    (!path.is_empty() && !path.contains('\0')).then(|| Kind::Unix(path.into()))
}

fn tcp(host_port: &str) -> Option<Kind> {
    let (host, digits) = host_port.rsplit_once(':')?;
    // Rust's parser allows a sign; a port has none.
    let port =
        digits.parse().ok().filter(|_| digits.bytes().all(|digit| digit.is_ascii_digit()))?;
    if host.is_empty() {
        return Some(Kind::Any(port, format!("127.0.0.1:{port}").into()));
    }
    let Some(ip) = host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) else {
        let is_plain = |b| u8::is_ascii_alphanumeric(&b) || b"-._".contains(&b) || b >= 0x80;
        return host.bytes().all(is_plain).then(|| Kind::Tcp(host_port.into()));
    };
    let (number, interface) =
        ip.split_once('%').map_or((ip, None), |(ip, interface)| (ip, Some(interface)));
    number.parse::<Ipv6Addr>().ok()?;
    let is_named = interface.is_some_and(|interface| interface.parse::<u32>().is_err());
    // The resolver takes an interface's name only without brackets: `fe80::1%eth0`.
    Some(Kind::Tcp(if is_named { format!("{ip}:{port}").into() } else { host_port.into() }))
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            // Two slashes would start a host.
            Kind::Unix(path) if path.to_string_lossy().starts_with("//") => {
                write!(f, "unix://{}", path.display())
            }
            Kind::Unix(path) => write!(f, "unix:{}", path.display()),
            Kind::Tcp(host_port) => match host_port.rsplit_once(':') {
                Some((ip, port)) if ip.contains(':') && !ip.starts_with('[') => {
                    write!(f, "tcp:[{ip}]:{port}")
                }
                _ => write!(f, "tcp:{host_port}"),
            },
            Kind::Any(port, _) => write!(f, "tcp::{port}"),
            Kind::Stdin => f.write_str("-"),
            Kind::Stream => f.write_str("(stream)"),
        }
    }
}
