//! Who runs a pool's scripts, and what of the file system they see.

use std::{
    fs,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
};

use fcgi_tokio::{Address, Target};
use rustix::process::geteuid;

use crate::fpm_config::{self, Pool};

/// What is known of a pool's workers.
#[derive(Debug)]
pub(super) struct Worker {
    /// The user that they run as, where that is known.
    pub(super) user: Option<u32>,
    pool: Option<Pool>,
}

impl Worker {
    /// Asks php-fpm's configuration, the processes of this machine, and the socket's owner.
    pub(super) fn find(address: &Address) -> Self {
        let pool = fpm_config::pools()
            .into_iter()
            .find(|pool| pool.listen().is_some_and(|listen| is_same(&listen, address)));
        let by_process = pool.as_ref().and_then(|pool| user_of_processes(&pool.name));
        let by_config = || user_id(&pool.as_ref()?.get("user")?);
        let by_socket = || match address.target() {
            Target::Unix(path) => Some(fs::metadata(path).ok()?.uid()).filter(|user| *user != 0),
            _ => None,
        };
        // An ordinary user's own pool runs as that user; of others nothing can be known.
        let own = || Some(geteuid().as_raw()).filter(|user| *user != 0);
        let user = by_process.or_else(by_config).or_else(by_socket).or_else(own);
        Self { user, pool }
    }

    /// The folder that they take for `/`.
    pub(super) fn chroot(&self) -> Option<PathBuf> {
        self.get("chroot").map(PathBuf::from)
    }

    /// The folders that PHP may open files in, as far as the configuration says so.
    pub(super) fn open_basedir(&self) -> Vec<PathBuf> {
        let directives = ["php_admin_value[open_basedir]", "php_value[open_basedir]"];
        let value = directives.iter().find_map(|directive| self.get(directive));
        value.unwrap_or_default().split(':').filter(|it| !it.is_empty()).map(Into::into).collect()
    }

    /// The end of a script's name that php-fpm runs.
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
        // `:9000` is called at loopback.
        (Target::Tcp(one), Target::Tcp(other)) => one == other,
        _ => false,
    }
}

/// The user of the workers of a pool with this name, if all of them have the same.
fn user_of_processes(name: &str) -> Option<u32> {
    let title = format!("php-fpm: pool {name}");
    let entries = fs::read_dir("/proc").ok()?.filter_map(Result::ok);
    let mut users: Vec<u32> = entries
        .filter(|entry| {
            let line = fs::read(entry.path().join("cmdline")).unwrap_or_default();
            let line = String::from_utf8_lossy(&line);
            line.trim_end_matches(['\0', ' ']) == title
        })
        .filter_map(|entry| Some(fs::metadata(entry.path()).ok()?.uid()))
        .collect();
    users.sort_unstable();
    users.dedup();
    match users[..] {
        [user] => Some(user),
        _ => None,
    }
}

/// The number of a user, who may be given by it.
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
