//! How to listen.

use super::{
    Listener,
    advice::Failure,
    bind, env,
    options::{Account, Options},
};
use crate::{Address, Error};

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

impl ListenerBuilder {
    pub(super) fn new(address: Result<Address, Error>) -> Self {
        Self { address, name: None, options: Options::default() }
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
