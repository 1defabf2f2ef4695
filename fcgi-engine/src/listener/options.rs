//! The settings of a listener: its backlog, and the rights of its file.

/// Connections that may wait to be accepted. This is also Linux's default limit
/// (`net.core.somaxconn`).
const BACKLOG: u32 = 4096;

/// The settings that [`ListenerBuilder`](super::ListenerBuilder) collected.
#[derive(Debug)]
pub(super) struct Options {
    pub(super) mode: Option<u32>,
    pub(super) owner: Option<Account>,
    pub(super) group: Option<Account>,
    pub(super) backlog: u32,
}

impl Default for Options {
    fn default() -> Self {
        Self { mode: None, owner: None, group: None, backlog: BACKLOG }
    }
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
    /// A name, or a number if no user or group has that name.
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
