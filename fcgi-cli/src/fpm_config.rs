//! php-fpm's configuration of its pools, as far as the files can be read.

use std::{
    collections::BTreeMap,
    fs,
    io::{self, Read},
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
};

use fcgi_tokio::Address;
use rustix::{
    fs::{Mode, OFlags},
    process::geteuid,
};

use crate::discovery::expand;

/// Where packages and php's container image put the files.
const FILES: [&str; 7] = [
    "etc/php/*/fpm/php-fpm.conf",
    "etc/php-fpm.conf",
    "etc/php*/php-fpm.conf",
    "etc/php/*-fpm*/php-fpm.conf",
    "etc/opt/remi/php*/php-fpm.conf",
    "usr/local/etc/php-fpm.conf",
    "usr/local/etc/php*/php-fpm.conf",
];
/// The depth limit for files that include each other.
const DEPTH: usize = 8;
/// How much of a file is read, in bytes.
const MOST: u64 = 1 << 20;
/// The title of php-fpm's master, before its file.
const MASTER: &str = "php-fpm: master process (";

/// A pool's section.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub(crate) struct Pool {
    pub(crate) name: String,
    /// The file that contains it.
    pub(crate) file: PathBuf,
    /// The file that php-fpm is started with, which includes `file`.
    pub(crate) main: PathBuf,
    settings: BTreeMap<String, String>,
}

impl Pool {
    /// A directive's value, with `$pool` replaced.
    pub(crate) fn get(&self, directive: &str) -> Option<String> {
        let value = self.settings.get(directive)?;
        (!value.is_empty()).then(|| value.replace("$pool", &self.name))
    }

    /// Where it listens.
    pub(crate) fn listen(&self) -> Option<Address> {
        self.address(&self.get("listen")?)
    }

    fn address(&self, listen: &str) -> Option<Address> {
        if listen.starts_with('/') {
            return Some(Address::unix(listen));
        }
        if listen.parse::<u16>().is_ok() {
            return format!(":{listen}").parse().ok();
        }
        match listen.rsplit_once(':') {
            Some((host, port)) if port.parse::<u16>().is_ok() => {
                // All of this machine's addresses.
                let any = ["", "*", "0.0.0.0", "[::]"].contains(&host);
                let text = if any { format!(":{port}") } else { format!("tcp:{listen}") };
                text.parse().ok()
            }
            // A relative path. Without `prefix` only php-fpm knows its folder.
            _ => Some(Address::unix(Path::new(&self.get("prefix")?).join(listen))),
        }
    }
}

/// A running master.
#[derive(Debug)]
pub(crate) struct Master {
    /// Its process id.
    pub(crate) id: u32,
    pub(crate) user: u32,
    /// Its configuration file, with links resolved.
    pub(crate) file: PathBuf,
}

/// The pools of the usual files, and of running php-fpms; each once, in the order of the files.
pub(crate) fn pools() -> Vec<Pool> {
    let usual = FILES.iter().flat_map(|file| expand(Path::new("/"), file));
    let mut files: Vec<PathBuf> = usual.filter_map(|file| fs::canonicalize(file).ok()).collect();
    files.extend(masters().into_iter().map(|master| master.file));
    files.sort();
    files.dedup();
    // Files that can't be read are ignored.
    let of = |file: &PathBuf| Some(Reader::of(file, &read_file(file).ok()?));
    files.iter().filter_map(of).flatten().collect()
}

/// The pools of a given file, and of the files that it includes.
///
/// # Errors
/// The file can't be read. Included files that can't be read are ignored.
pub(crate) fn pools_of(file: &Path) -> io::Result<Vec<Pool>> {
    // The file may be a pipe.
    Ok(Reader::of(file, &read_start(fs::File::open(file)?)?))
}

/// The running masters.
///
/// Anybody can give a process any title, and so name any file. A process counts only if it belongs
/// to root or to us, and runs php-fpm as far as that is visible. The same is true for its file.
pub(crate) fn masters() -> Vec<Master> {
    let entries = fs::read_dir("/proc").into_iter().flatten().filter_map(Result::ok);
    entries.filter_map(|entry| master(&entry.path())).collect()
}

fn master(folder: &Path) -> Option<Master> {
    let id = folder.file_name()?.to_str()?.parse().ok()?;
    let title = fs::read(folder.join("cmdline")).ok()?;
    let title = String::from_utf8_lossy(&title).into_owned();
    let file = title.strip_prefix(MASTER)?.rsplit_once(')')?.0;
    let user = user_of(folder).filter(|user| is_trusted(*user))?;
    // Only root sees the program of other users' processes.
    let program = fs::read_link(folder.join("exe"));
    if program.is_ok_and(|program| !program.to_string_lossy().contains("php-fpm")) {
        return None;
    }
    let file = match Path::new(file) {
        whole if whole.is_absolute() => whole.to_owned(),
        part => fs::read_link(folder.join("cwd")).ok()?.join(part),
    };
    let file = fs::canonicalize(file).ok()?;
    let is_own = fs::metadata(&file).is_ok_and(|meta| is_trusted(meta.uid()));
    is_own.then_some(Master { id, user, file })
}

/// The user of a process; `None` for one that has taken another user's rights (set-user-ID).
pub(crate) fn user_of(process: &Path) -> Option<u32> {
    let status = fs::read_to_string(process.join("status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("Uid:"))?;
    let mut users: Vec<u32> = line.split_whitespace().filter_map(|id| id.parse().ok()).collect();
    users.dedup();
    match users[..] {
        [user] => Some(user),
        _ => None,
    }
}

fn is_trusted(user: u32) -> bool {
    user == 0 || user == geteuid().as_raw()
}

/// Reads a configuration file, but nothing that may block, such as a pipe.
fn read_file(path: &Path) -> io::Result<String> {
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    let file = fs::File::from(rustix::fs::open(path, flags, Mode::empty())?);
    if !file.metadata()?.is_file() {
        return Err(io::Error::other("it is no regular file"));
    }
    read_start(file)
}

fn read_start(file: fs::File) -> io::Result<String> {
    let mut text = Vec::new();
    if file.take(MOST + 1).read_to_end(&mut text)? as u64 > MOST {
        return Err(io::Error::other(format!("it has more than {MOST} bytes")));
    }
    Ok(String::from_utf8_lossy(&text).into_owned())
}

#[derive(Default)]
struct Reader {
    pools: Vec<Pool>,
    /// The section of the current line; `None` is php-fpm's own.
    section: Option<usize>,
}

impl Reader {
    /// The pools of a file with this text.
    fn of(main: &Path, text: &str) -> Vec<Pool> {
        let mut reader = Self::default();
        reader.take(main, text, DEPTH);
        for pool in &mut reader.pools {
            pool.main = main.to_owned();
        }
        reader.pools
    }

    fn take(&mut self, file: &Path, text: &str, depth: usize) {
        for line in text.lines() {
            let line = line.trim();
            if line.is_empty() || line.starts_with([';', '#']) {
                continue;
            }
            if let Some(name) = line.strip_prefix('[').and_then(|it| it.split(']').next()) {
                self.begin(name.trim(), file);
                continue;
            }
            let Some((name, value)) = line.split_once('=') else { continue };
            let (name, value) = (name.trim(), value_of(value));
            if name == "include" {
                if depth > 0 {
                    let pattern = value.trim_start_matches('/');
                    for included in expand(Path::new("/"), pattern) {
                        if let Ok(text) = read_file(&included) {
                            self.take(&included, &text, depth - 1);
                        }
                    }
                }
            } else if let Some(pool) = self.section.and_then(|at| self.pools.get_mut(at)) {
                pool.settings.insert(name.to_owned(), value.to_owned());
            }
        }
    }

    fn begin(&mut self, name: &str, file: &Path) {
        self.section = (!name.eq_ignore_ascii_case("global")).then(|| {
            let known = self.pools.iter().position(|pool| pool.name == name);
            known.unwrap_or_else(|| {
                let (name, file) = (name.to_owned(), file.to_owned());
                self.pools.push(Pool { name, file, ..Pool::default() });
                self.pools.len() - 1
            })
        });
    }
}

/// A value without quotes, or without the comment after it.
fn value_of(text: &str) -> &str {
    let text = text.trim();
    match text.strip_prefix('"') {
        Some(quoted) => quoted.split('"').next().unwrap_or_default(),
        None => text.split(';').next().unwrap_or_default().trim(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pools_are_read_with_the_files_that_are_included() {
        let folder = tempfile::tempdir().expect("a folder");
        let more = folder.path().join("pool.d");
        fs::create_dir(&more).expect("a folder");
        let main = folder.path().join("php-fpm.conf");
        let text = format!("[global]\npid = /run/x ; its id\ninclude={}/*.conf\n", more.display());
        fs::write(&main, text).expect("a file");
        let www = "; a comment\n[www]\nlisten = /run/php/$pool.sock ; here\nping.path = \"/ping\"\n\
                   listen.mode = 0660\n[api]\nlisten = 9001\n";
        fs::write(more.join("a.conf"), www).expect("a file");
        fs::write(more.join("b.conf"), "[www]\npm.status_path=/status\n[v6]\nlisten=[::1]:9002")
            .expect("a file");
        fs::write(more.join("c.off"), "[off]\nlisten = 9003\n").expect("a file");
        let pools = pools_of(&main).expect("it can be read");
        let listen: Vec<(String, String)> = pools
            .iter()
            .map(|pool| (pool.name.clone(), pool.listen().expect("an address").to_string()))
            .collect();
        let expected =
            [("www", "unix:/run/php/www.sock"), ("api", "tcp::9001"), ("v6", "tcp:[::1]:9002")];
        assert_eq!(listen, expected.map(|(name, at)| (name.to_owned(), at.to_owned())));
        assert_eq!(pools[0].get("ping.path").as_deref(), Some("/ping"));
        assert_eq!(pools[0].get("pm.status_path").as_deref(), Some("/status"));
        assert_eq!(pools[1].get("ping.path"), None);
        assert!(pools_of(&folder.path().join("none")).is_err());
    }
}
