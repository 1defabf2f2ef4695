//! How to listen.

use super::{Listener, advice::Failure, bind, env};
use crate::{Address, Error};

/// Connections that may wait to be accepted. Linux takes no more either, as it comes
/// (`net.core.somaxconn`).
const BACKLOG: u32 = 4096;

/// How to listen: mode, owner and group of a unix socket's file, the backlog. They are in place
/// before the first connection can be made, and the file is at no time open to more than `mode`
/// says.
#[derive(Debug)]
#[must_use = "it listens once `bind` is called"]
pub struct ListenerBuilder {
    address: Result<Address, Error>,
    name: Option<String>,
    options: Options,
}

/// What [`ListenerBuilder`] was given.
#[derive(Debug)]
pub(super) struct Options {
    pub(super) mode: Option<u32>,
    pub(super) owner: Option<Account>,
    pub(super) group: Option<Account>,
    pub(super) backlog: u32,
}

/// A user or a group, by name or by number.
///
/// ```
/// use fcgi_engine::Account;
///
/// assert_eq!(Account::from("www-data").to_string(), "www-data");
/// assert_eq!(Account::from(33).to_string(), "33");
/// ```
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Account(pub(super) Kind);

#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Kind {
    Id(u32),
    /// A name, or a number where nobody has that name.
    Name(String),
}

impl From<u32> for Account {
    fn from(id: u32) -> Self {
        Self(Kind::Id(id))
    }
}

impl From<&str> for Account {
    fn from(name: &str) -> Self {
        Self(Kind::Name(name.to_owned()))
    }
}

impl From<String> for Account {
    fn from(name: String) -> Self {
        Self(Kind::Name(name))
    }
}

impl std::fmt::Display for Account {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.0 {
            Kind::Id(id) => id.fmt(f),
            Kind::Name(name) => f.write_str(name),
        }
    }
}

impl ListenerBuilder {
    pub(super) fn new(address: Result<Address, Error>) -> Self {
        let options = Options { mode: None, owner: None, group: None, backlog: BACKLOG };
        Self { address, name: None, options }
    }

    /// The mode of a unix socket's file, whatever the process's umask: `0o660` lets its owner and
    /// its group connect. Default: what the umask leaves of `0o777`. TCP has none, and a socket that
    /// was inherited keeps its own.
    pub fn mode(mut self, mode: u32) -> Self {
        self.options.mode = Some(mode & 0o7777);
        self
    }

    /// The owner of a unix socket's file, by name or number. Only root may give a file away. Default:
    /// the process's user.
    pub fn owner(mut self, owner: impl Into<Account>) -> Self {
        self.options.owner = Some(owner.into());
        self
    }

    /// The group of a unix socket's file, by name or number: one of the process's own, unless it is
    /// root. Default: the process's group, or the folder's.
    pub fn group(mut self, group: impl Into<Account>) -> Self {
        self.options.group = Some(group.into());
        self
    }

    /// Connections that may wait to be accepted; the system may take fewer, on Linux
    /// `net.core.somaxconn`. Default 4096.
    pub fn backlog(mut self, connections: u32) -> Self {
        self.options.backlog = connections;
        self
    }

    /// With [`inherit_or_bind`](Self::inherit_or_bind): only the sockets that systemd passed under
    /// this name.
    pub fn name(mut self, name: impl Into<String>) -> Self {
        self.name = Some(name.into());
        self
    }

    /// Listens at the address.
    ///
    /// # Errors
    /// [`Error::Address`] for a text that is no address, [`Error::Listen`] for the rest: it names
    /// the address and says what to do.
    pub fn bind(self) -> Result<Listener, Error> {
        listen(self.address?, &self.options)
    }

    /// As [`Listener::from_env`], with these settings where it binds an address.
    ///
    /// # Errors
    /// As for [`Listener::from_env`].
    pub fn inherit_or_bind(self) -> Result<Listener, Error> {
        if let Some(inherited) = env::inherited(self.name.as_deref())? {
            return Ok(inherited);
        }
        let given = if self.name.is_none() { env::address()? } else { None };
        match given {
            Some(address) => listen(address, &self.options),
            None => self.bind(),
        }
    }
}

fn listen(address: Address, options: &Options) -> Result<Listener, Error> {
    let failed = |failure: Failure| failure.at(&address.to_string());
    let socket = bind::bind(&address, options).map_err(failed)?;
    Ok(Listener { sockets: vec![socket] })
}
