//! Settings for listening.

use super::{
    Listener,
    advice::Failure,
    bind, env,
    options::{Account, Options},
};
use crate::{Address, Error};

/// Settings for listening: the backlog, and the mode, owner and group of a unix socket's file. They
/// are in place before the first connection can be made; the file never allows more than `mode`
/// does.
#[derive(Debug)]
pub struct ListenerBuilder {
    address: Result<Address, Error>,
    name: Option<String>,
    options: Options,
}

impl Listener {
    /// A listener with a chosen mode, owner or backlog.
    ///
    /// ```
    /// use fcgi_engine::Listener;
    ///
    /// # let folder = tempfile::tempdir().unwrap();
    /// # let path = folder.path().join("app.sock");
    /// let listener = Listener::builder(path).mode(0o660).backlog(1024).bind()?;
    /// # Ok::<(), fcgi_engine::Error>(())
    /// ```
    #[must_use = "it listens once `bind` is called"]
    pub fn builder(address: impl TryInto<Address, Error: Into<Error>>) -> ListenerBuilder {
        ListenerBuilder::new(address.try_into().map_err(Into::into))
    }
}

impl ListenerBuilder {
    pub(super) fn new(address: Result<Address, Error>) -> Self {
        Self { address, name: None, options: Options::default() }
    }

    crate::setters! {
        /// The mode of a unix socket's file, whatever the process's umask. `0o660` lets its owner
        /// and its group connect. Default: `0o777` without the umask's bits. It has no effect on
        /// TCP, nor on an inherited socket.
        mode(mode: u32) { self.options.mode = Some(mode & 0o7777) }

        /// The owner of a unix socket's file, by name or number. Only root can change the owner.
        /// Default: the process's user.
        owner(owner: impl Into<Account>) { self.options.owner = Some(owner.into()) }

        /// The group of a unix socket's file, by name or number. It must be one of the process's
        /// own, except for root. Default: the process's group, or the folder's.
        group(group: impl Into<Account>) { self.options.group = Some(group.into()) }

        /// How many connections may wait to be accepted. The system may allow fewer, on Linux
        /// `net.core.somaxconn`. Default 4096.
        backlog(connections: u32) { self.options.backlog = connections }

        /// For [`inherit_or_bind`](Self::inherit_or_bind): take only the sockets that systemd
        /// passed under this name.
        name(name: impl Into<String>) { self.name = Some(name.into()) }
    }

    /// Listens on the address.
    ///
    /// # Errors
    /// [`Error::Address`] for a text that is not an address, [`Error::Listen`] for the rest. Both
    /// name the address and say what to do.
    pub fn bind(self) -> Result<Listener, Error> {
        listen(self.address?, &self.options)
    }

    /// Like [`Listener::from_env`], but uses these settings if it binds an address.
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
