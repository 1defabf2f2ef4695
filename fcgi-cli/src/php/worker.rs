//! Which user runs a pool's scripts, and which part of the file system they see.

use std::{
    fs,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
};

use fcgi_tokio::{Address, Target};
use rustix::process::geteuid;

use crate::fpm_config::{self, Master, Pool};

/// What is known of a pool's workers.
#[derive(Debug)]
pub(super) struct Worker {
    /// The user that they run as, if known.
    pub(super) user: Option<u32>,
    pool: Option<Pool>,
}

impl Worker {
    /// Looks at php-fpm's configuration and processes and, for an ordinary user, at the socket's
    /// owner.
    pub(super) fn find(address: &Address) -> Self {
        let pool = fpm_config::pools()
            .into_iter()
            .find(|pool| pool.listen().is_some_and(|listen| is_same(&listen, address)));
        let by_config = || user_id(&pool.as_ref()?.get("user")?);
        let me = geteuid().as_raw();
        // The socket's owner is only a guess, and root can't take back a script that it gave away.
        let by_socket = || match address.target() {
            Target::Unix(path) if me != 0 => {
                Some(fs::metadata(path).ok()?.uid()).filter(|user| *user != 0)
            }
            _ => None,
        };
        // An ordinary user's own pool runs as that user; nothing is known about others.
        let own = || Some(me).filter(|user| *user != 0);
        let of_masters = pool.as_ref().map(Masters::of).unwrap_or_default();
        let user = of_masters
            .ordinary()
            .or_else(by_config)
            .or_else(|| of_masters.user_of_workers(&pool.as_ref()?.name))
            .or_else(by_socket)
            .or_else(own);
        Self { user, pool }
    }

    /// The folder that is `/` for them.
    pub(super) fn chroot(&self) -> Option<PathBuf> {
        self.get("chroot").map(PathBuf::from)
    }

    /// The folders in which PHP may open files, as far as the configuration says.
    pub(super) fn open_basedir(&self) -> Vec<PathBuf> {
        let directives = ["php_admin_value[open_basedir]", "php_value[open_basedir]"];
        let value = directives.iter().find_map(|directive| self.get(directive));
        value.unwrap_or_default().split(':').filter(|it| !it.is_empty()).map(Into::into).collect()
    }

    /// The suffix of script names that php-fpm runs.
    pub(super) fn suffix(&self) -> String {
        let allowed = self.get("security.limit_extensions").unwrap_or_default();
        let mut allowed = allowed.split_whitespace();
        allowed.next().filter(|suffix| suffix.starts_with('.')).unwrap_or(".php").to_owned()
    }

    fn get(&self, directive: &str) -> Option<String> {
        self.pool.as_ref()?.get(directive)
    }
}

fn is_same(one: &Address, other: &Address) -> bool {
    match (one.target(), other.target()) {
        (Target::Unix(one), Target::Unix(other)) => {
            let whole = |path: &Path| fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
            whole(one) == whole(other)
        }
        // `:9000` means loopback here.
        (Target::Tcp(one), Target::Tcp(other)) => one == other,
        _ => false,
    }
}

/// The running masters that use a pool's configuration.
#[derive(Default)]
struct Masters(Vec<Master>);

impl Masters {
    fn of(pool: &Pool) -> Self {
        let all = fpm_config::masters().into_iter();
        Self(all.filter(|master| master.file == pool.main).collect())
    }

    /// Their user, if that is not root: then the workers run as this user, whatever the
    /// configuration says.
    fn ordinary(&self) -> Option<u32> {
        only(self.0.iter().map(|master| master.user)).filter(|user| *user != 0)
    }

    /// The user of the workers of the pool with this name, if it is the same for all. Anybody can
    /// take a worker's title, so a worker must also be a child of its master.
    fn user_of_workers(&self, name: &str) -> Option<u32> {
        let title = format!("php-fpm: pool {name}");
        let entries = fs::read_dir("/proc").ok()?.filter_map(Result::ok);
        only(entries.filter_map(|entry| {
            let folder = entry.path();
            let line = fs::read(folder.join("cmdline")).ok()?;
            let line = String::from_utf8_lossy(&line);
            let is_child = || {
                let parent = parent_of(&folder);
                self.0.iter().any(|master| Some(master.id) == parent)
            };
            let is_worker = line.trim_end_matches(['\0', ' ']) == title && is_child();
            if is_worker { fpm_config::user_of(&folder) } else { None }
        }))
    }
}

fn parent_of(process: &Path) -> Option<u32> {
    let status = fs::read_to_string(process.join("status")).ok()?;
    status.lines().find_map(|line| line.strip_prefix("PPid:"))?.trim().parse().ok()
}

/// The value, if all are equal.
fn only(mut values: impl Iterator<Item = u32>) -> Option<u32> {
    let first = values.next()?;
    values.all(|value| value == first).then_some(first)
}

/// The number of a user, given by name or number.
pub(super) fn user_id(user: &str) -> Option<u32> {
    if let Ok(id) = user.parse() {
        return Some(id);
    }
    let users = fs::read_to_string("/etc/passwd").ok()?;
    users.lines().find_map(|line| {
        let mut fields = line.split(':');
        (fields.next()? == user).then(|| fields.nth(1)?.parse().ok()).flatten()
    })
}
