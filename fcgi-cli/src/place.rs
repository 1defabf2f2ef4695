//! The application that a command is for.

use std::env;

use clap::Args;
use fcgi_tokio::Address;

use crate::{discovery, exit::Exit};

/// The variables that name an application, in order of precedence. The second one is for users of
/// php-fpm-healthcheck.
const VARIABLES: [&str; 2] = ["FCGI_ADDR", "FCGI_CONNECT"];

/// The argument ADDR, to be flattened into a subcommand's arguments.
#[derive(Args, Clone, Debug)]
pub(crate) struct Place {
    /// unix:PATH, /PATH, HOST:PORT or :PORT; else FCGI_ADDR, FCGI_CONNECT, or the only socket found
    #[arg(value_name = "ADDR")]
    pub(crate) address: Option<Address>,
}

impl Place {
    /// The application's address.
    ///
    /// # Errors
    /// No address is given, and discovery finds none or several; or the address can't be called.
    pub(crate) fn find(&self) -> Result<Address, NoPlace> {
        find(self.address.as_ref())
    }
}

/// Like [`Place::find`], for an address from elsewhere.
pub(crate) fn find(given: Option<&Address>) -> Result<Address, NoPlace> {
    let address = match given {
        Some(address) => address.clone(),
        None => match from_environment()? {
            Some(address) => address,
            None => discovered()?,
        },
    };
    if address.is_callable() { Ok(address) } else { Err(NoPlace::NotCallable) }
}

fn from_environment() -> Result<Option<Address>, NoPlace> {
    for name in VARIABLES {
        let Some(value) = env::var_os(name).filter(|value| !value.is_empty()) else { continue };
        let text = value.to_string_lossy();
        // FCGI_CONNECT is cgi-fcgi's, which takes a text without a colon as a path.
        let address = match text.parse() {
            Err(_) if name == "FCGI_CONNECT" && !text.contains(':') => {
                Ok(Address::unix(value.clone()))
            }
            parsed => parsed,
        };
        return address.map(Some).map_err(|error| NoPlace::Variable(name, error.to_string()));
    }
    Ok(None)
}

fn discovered() -> Result<Address, NoPlace> {
    let mut found = discovery::addresses();
    match (found.pop(), found.is_empty()) {
        (Some(address), true) => Ok(address),
        (Some(last), false) => {
            found.push(last);
            let names: Vec<String> = found.iter().map(ToString::to_string).collect();
            Err(NoPlace::Several(names.join(", ")))
        }
        (None, _) => Err(NoPlace::None),
    }
}

/// Why there is no address.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub(crate) enum NoPlace {
    #[error(
        "no ADDR given, FCGI_ADDR and FCGI_CONNECT are not set, and no socket is in /run/php*, \
         /run/php-fpm and the like: is the application running? Name its socket, as in unix:PATH \
         or HOST:PORT"
    )]
    None,
    #[error("no ADDR given, and several sockets are there: name one of {0}")]
    Several(String),
    #[error("{0}: {1}")]
    Variable(&'static str, String),
    #[error("-: only unix:PATH and tcp:HOST:PORT can be called")]
    NotCallable,
}

impl NoPlace {
    pub(crate) const EXIT: Exit = Exit::Usage;

    /// Whether there may be an address later.
    pub(crate) fn may_come(&self) -> bool {
        *self == Self::None
    }
}
