//! The sockets in the usual places.

use std::{
    fs,
    os::unix::fs::FileTypeExt,
    path::{Path, PathBuf},
};

use fcgi_tokio::Address;

/// Where packages put the sockets of php-fpm and the like. A `*` stands for the rest of a name.
const FOLDERS: [&str; 5] = [
    "run/php*",
    "run/fcgiwrap*",
    "var/run/php*",
    "var/opt/remi/php*/run/php-fpm",
    "usr/local/var/run",
];
/// Sockets directly in `/run`, which has other sockets too.
const IN_RUN: [&str; 3] = ["php*", "fcgi*", "fastcgi*"];
/// The port of php-fpm's container image.
const PORT: u16 = 9000;

/// The unix sockets in the usual places, each once, sorted by path.
pub(crate) fn sockets() -> Vec<PathBuf> {
    sockets_below(Path::new("/"))
}

/// The applications that may be meant if no address is given: sockets, and without any the port of
/// php-fpm's container image if something listens there. Of several sockets, only those with a
/// listener count.
pub(crate) fn addresses() -> Vec<Address> {
    let mut sockets = sockets();
    if sockets.len() > 1 {
        let listening: Vec<PathBuf> =
            sockets.iter().filter(|socket| is_listened_at(socket)).cloned().collect();
        // Sockets of another container are not in this one's tables.
        if !listening.is_empty() {
            sockets = listening;
        }
    }
    if sockets.is_empty() && is_port_taken(PORT) {
        return vec![Address::from(std::net::SocketAddr::from(([127, 0, 0, 1], PORT)))];
    }
    sockets.into_iter().map(Address::from).collect()
}

fn sockets_below(root: &Path) -> Vec<PathBuf> {
    let folders = FOLDERS.iter().flat_map(|folder| expand(root, folder)).flat_map(|folder| {
        fs::read_dir(folder).into_iter().flatten().filter_map(|entry| Some(entry.ok()?.path()))
    });
    let in_run = IN_RUN.iter().flat_map(|name| expand(&root.join("run"), name));
    let mut found: Vec<PathBuf> = folders
        .chain(in_run)
        .filter(|path| fs::metadata(path).is_ok_and(|meta| meta.file_type().is_socket()))
        // Debian's php-fpm.sock is a link to a version's socket; /var/run is a link to /run.
        .map(|path| fs::canonicalize(&path).unwrap_or(path))
        .collect();
    found.sort();
    found.dedup();
    found
}

/// The paths that match a pattern; each part of it may have one `*`. Sorted like the shell does.
pub(crate) fn expand(root: &Path, pattern: &str) -> Vec<PathBuf> {
    let mut paths = vec![root.to_owned()];
    for segment in pattern.split('/') {
        paths = match segment.split_once('*') {
            None => paths.into_iter().map(|path| path.join(segment)).collect(),
            Some((start, end)) => {
                let names = paths.iter().filter_map(|path| fs::read_dir(path).ok()).flatten();
                let is_meant =
                    |name: &str| name.strip_prefix(start).is_some_and(|rest| rest.ends_with(end));
                let mut found: Vec<PathBuf> = names
                    .filter_map(Result::ok)
                    .filter(|entry| is_meant(&entry.file_name().to_string_lossy()))
                    .map(|entry| entry.path())
                    .collect();
                found.sort();
                found
            }
        };
    }
    paths
}

/// Whether a process of this network namespace listens on a unix socket, by the kernel's table.
pub(crate) fn is_listened_at(socket: &Path) -> bool {
    /// `SO_ACCEPTCON`, among the flags.
    const LISTENS: &str = "00010000";
    let table = fs::read_to_string("/proc/net/unix").unwrap_or_default();
    table.lines().any(|line| {
        let mut fields = line.split_ascii_whitespace();
        fields.nth(3) == Some(LISTENS)
            && fields.nth(3).is_some_and(|path| {
                Path::new(path) == socket || fs::canonicalize(path).is_ok_and(|real| real == socket)
            })
    })
}

/// Whether something listens on a TCP port, by the kernel's tables.
fn is_port_taken(port: u16) -> bool {
    const LISTENS: &str = "0A";
    let end = format!(":{port:04X}");
    ["/proc/net/tcp", "/proc/net/tcp6"].iter().any(|table| {
        fs::read_to_string(table).unwrap_or_default().lines().any(|line| {
            let mut fields = line.split_ascii_whitespace();
            fields.nth(1).is_some_and(|local| local.ends_with(&end))
                && fields.nth(1) == Some(LISTENS)
        })
    })
}

#[cfg(test)]
mod tests {
    use std::{
        fs,
        os::unix::{fs::symlink, net::UnixListener},
        path::Path,
    };

    use super::{is_listened_at, sockets_below};

    fn socket(path: &Path) -> UnixListener {
        fs::create_dir_all(path.parent().expect("a folder")).expect("it can be made");
        UnixListener::bind(path).expect("it listens")
    }

    #[test]
    fn sockets_are_found_in_the_usual_places_each_once() {
        let root = tempfile::tempdir().expect("a folder");
        let real = fs::canonicalize(root.path()).expect("it is there");
        let places = [
            "run/fcgiwrap.socket",
            "run/php/php8.2-fpm.sock",
            "run/php-fpm/www.sock",
            "run/php8-fpm.sock",
            "var/opt/remi/php83/run/php-fpm/www.sock",
        ];
        let sockets: Vec<_> = places.iter().map(|place| socket(&real.join(place))).collect();
        let _others = [socket(&real.join("run/dbus.sock")), socket(&real.join("run/x/y.sock"))];
        symlink("php8.2-fpm.sock", real.join("run/php/php-fpm.sock")).expect("a link");
        symlink("../run", real.join("var/run")).expect("a link");
        fs::write(real.join("run/php/php8.2-fpm.pid"), "1").expect("a file");
        assert_eq!(sockets_below(root.path()), places.map(|place| real.join(place)));

        assert!(is_listened_at(&real.join(places[0])));
        drop(sockets);
        assert!(!is_listened_at(&real.join(places[0])), "only the file is left");
    }
}
