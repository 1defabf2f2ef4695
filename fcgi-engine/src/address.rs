//! Where an application listens.

use std::{fmt, path::PathBuf, str::FromStr, sync::Arc};

/// The address of an application: `unix:PATH`, `tcp:HOST:PORT`, or `-` for descriptor 0, which a
/// web server that starts its applications hands down (FCGI_LISTENSOCK_FILENO, FC-2.2-1).
///
/// ```
/// use fcgi_engine::Address;
///
/// let address: Address = "tcp:127.0.0.1:9000".parse()?;
/// assert_eq!(address.to_string(), "tcp:127.0.0.1:9000");
/// assert!("9000".parse::<Address>().is_err());
/// # Ok::<(), fcgi_engine::AddressError>(())
/// ```
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum Address {
    /// A unix socket's path.
    Unix(PathBuf),
    /// Host and port, as `127.0.0.1:9000`, `[::1]:9000` or `localhost:9000`.
    Tcp(Arc<str>),
    /// Descriptor 0, to listen on.
    Stdin,
}

/// A text that is no [`Address`].
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("{given:?} is no address: expected unix:PATH, tcp:HOST:PORT, or - for descriptor 0")]
pub struct AddressError {
    given: String,
}

impl FromStr for Address {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<Self, AddressError> {
        let error = || AddressError { given: text.to_owned() };
        if text == "-" {
            return Ok(Self::Stdin);
        }
        match text.split_once(':').ok_or_else(error)? {
            ("unix", path) if !path.is_empty() => Ok(Self::Unix(path.into())),
            ("tcp", rest) => {
                let (host, port) = rest.rsplit_once(':').ok_or_else(error)?;
                if host.is_empty() || port.parse::<u16>().is_err() {
                    return Err(error());
                }
                Ok(Self::Tcp(rest.into()))
            }
            _ => Err(error()),
        }
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
            Self::Tcp(host_port) => write!(f, "tcp:{host_port}"),
            Self::Stdin => f.write_str("-"),
        }
    }
}
