//! What php-fpm's configuration files say of its pools, as far as they can be read.

use std::{
    collections::BTreeMap,
    fs, io,
    path::{Path, PathBuf},
};

use fcgi_tokio::Address;

use crate::discovery::expand;

/// Where packages and php's container image have the files.
const FILES: [&str; 7] = [
    "etc/php/*/fpm/php-fpm.conf",
    "etc/php-fpm.conf",
    "etc/php*/php-fpm.conf",
    "etc/php/*-fpm*/php-fpm.conf",
    "etc/opt/remi/php*/php-fpm.conf",
    "usr/local/etc/php-fpm.conf",
    "usr/local/etc/php*/php-fpm.conf",
];
/// Files that include each other end somewhere.
const DEPTH: usize = 8;
/// How php-fpm's master calls itself, before its file.
const MASTER: &str = "php-fpm: master process (";

/// A pool's section.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub(crate) struct Pool {
    pub(crate) name: String,
    /// The file that has it.
    pub(crate) file: PathBuf,
    settings: BTreeMap<String, String>,
}

impl Pool {
    /// A directive's value, with `$pool` in place.
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
            // A path from a folder that only php-fpm knows, unless it is given.
            _ => Some(Address::unix(Path::new(&self.get("prefix")?).join(listen))),
        }
    }
}

/// The pools of the usual files, and of the php-fpm that runs here; each once, in the files' order.
pub(crate) fn pools() -> Vec<Pool> {
    let mut files: Vec<PathBuf> =
        FILES.iter().flat_map(|file| expand(Path::new("/"), file)).collect();
    files.extend(masters());
    let mut files: Vec<PathBuf> =
        files.iter().filter_map(|file| fs::canonicalize(file).ok()).collect();
    files.sort();
    files.dedup();
    // What can't be read is as if it were not there.
    files.iter().filter_map(|file| pools_of(file).ok()).flatten().collect()
}

/// The pools of a file and of those that it includes.
///
/// # Errors
/// The file can't be read. One that it includes may be closed to us.
pub(crate) fn pools_of(file: &Path) -> io::Result<Vec<Pool>> {
    let mut reader = Reader::default();
    reader.read(file, DEPTH)?;
    Ok(reader.pools)
}

/// The files of the masters that run here.
fn masters() -> Vec<PathBuf> {
    let entries = fs::read_dir("/proc").into_iter().flatten().filter_map(Result::ok);
    let file = |folder: &Path| -> Option<PathBuf> {
        folder.file_name()?.to_str()?.parse::<u32>().ok()?;
        let title = fs::read(folder.join("cmdline")).ok()?;
        let title = String::from_utf8_lossy(&title).into_owned();
        let file = title.strip_prefix(MASTER)?.split(')').next()?;
        Some(fs::read_link(folder.join("cwd")).unwrap_or_default().join(file))
    };
    entries.filter_map(|entry| file(&entry.path())).collect()
}

#[derive(Default)]
struct Reader {
    pools: Vec<Pool>,
    /// The section that a line belongs to; `None` is php-fpm's own.
    section: Option<usize>,
}

impl Reader {
    fn read(&mut self, file: &Path, depth: usize) -> io::Result<()> {
        let text = fs::read(file)?;
        for line in String::from_utf8_lossy(&text).lines() {
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
                        let _ = self.read(&included, depth - 1);
                    }
                }
            } else if let Some(pool) = self.section.and_then(|at| self.pools.get_mut(at)) {
                pool.settings.insert(name.to_owned(), value.to_owned());
            }
        }
        Ok(())
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

/// A value without quotes, or without the comment behind it.
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
