//! Where an application listens.

use std::{
    fmt,
    net::{Ipv6Addr, SocketAddr},
    path::{Path, PathBuf},
    str::FromStr,
    sync::Arc,
};

/// The address of an application, as people write it:
///
/// | text | means |
/// | --- | --- |
/// | `unix:/run/x.sock`, `unix:///run/x.sock`, `/run/x.sock` | a unix socket |
/// | `unix:x.sock`, `./x.sock`, `../x.sock` | one, from the working directory |
/// | `tcp:host:9000`, `tcp://host:9000`, `fcgi://host:9000`, `host:9000`, `[::1]:9000` | a TCP port |
/// | `:9000`, also after `tcp:` | a TCP port: of all interfaces to listen, of loopback to call |
/// | `-` | descriptor 0, to listen only: a web server that starts its applications hands it down (FCGI_LISTENSOCK_FILENO, FC-2.2-1) |
///
/// A host may be a name. It is looked up each time that the address is used, and not before.
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
    /// Host and port, as the system's resolver takes them.
    Tcp(Arc<str>),
    /// `:PORT`, and what to call.
    Any(u16, Arc<str>),
    Stdin,
    /// Something that is connected already.
    Stream,
}

/// What an [`Address`] leads to: for those who connect.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum Target<'a> {
    /// A unix socket's path.
    Unix(&'a Path),
    /// Host and port, as [`ToSocketAddrs`](std::net::ToSocketAddrs) takes them: the host may be a
    /// name.
    Tcp(&'a str),
    /// Descriptor 0, which can't be called.
    Stdin,
    /// A stream that is there already.
    Stream,
}

impl Address {
    /// Descriptor 0, to listen on (FC-2.2-1).
    pub const STDIN: Self = Self(Kind::Stdin);

    /// What has no address of its own: a client over a stream, shown as `(stream)`. It can be
    /// neither called nor listened at.
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

    /// Whether it can be called: all but descriptor 0 and [`STREAM`](Self::STREAM) can.
    #[must_use]
    pub fn is_callable(&self) -> bool {
        !matches!(self.0, Kind::Stdin | Kind::Stream)
    }

    /// The port of all interfaces, if that is meant.
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

/// A text that is no [`Address`].
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error(
    "{given:?} is no address: expected unix:PATH, /PATH, ./PATH, tcp:HOST:PORT, fcgi://HOST:PORT, \
     HOST:PORT, [IPV6]:PORT, :PORT, or - for descriptor 0"
)]
pub struct AddressError {
    given: String,
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
        // After two slashes comes a host, which a socket has not: then the path.
        return match path.strip_prefix("//") {
            Some(path) if path.starts_with('/') => unix(path),
            Some(_) => None,
            None => unix(path),
        };
    }
    let host_port = ["tcp://", "fcgi://", "tcp:"].iter().find_map(|start| text.strip_prefix(start));
    tcp(host_port.unwrap_or(text))
}

fn unix(path: &str) -> Option<Kind> {
    (!path.is_empty() && !path.contains('\0')).then(|| Kind::Unix(path.into()))
}

fn tcp(host_port: &str) -> Option<Kind> {
    let (host, digits) = host_port.rsplit_once(':')?;
    // A number may have a sign for Rust, but not here.
    let port =
        digits.parse().ok().filter(|_| digits.bytes().all(|digit| digit.is_ascii_digit()))?;
    if host.is_empty() {
        return Some(Kind::Any(port, format!("127.0.0.1:{port}").into()));
    }
    let in_brackets = host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
    let is_host = match in_brackets {
        // With the name of an interface, maybe: `fe80::1%eth0`.
        Some(ip) => ip.split('%').next().is_some_and(|ip| ip.parse::<Ipv6Addr>().is_ok()),
        None => host.bytes().all(|b| b.is_ascii_alphanumeric() || b"-._".contains(&b) || b >= 0x80),
    };
    is_host.then(|| Kind::Tcp(host_port.into()))
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            // Two slashes would begin a host.
            Kind::Unix(path) if path.to_string_lossy().starts_with("//") => {
                write!(f, "unix://{}", path.display())
            }
            Kind::Unix(path) => write!(f, "unix:{}", path.display()),
            Kind::Tcp(host_port) => write!(f, "tcp:{host_port}"),
            Kind::Any(port, _) => write!(f, "tcp::{port}"),
            Kind::Stdin => f.write_str("-"),
            Kind::Stream => f.write_str("(stream)"),
        }
    }
}
