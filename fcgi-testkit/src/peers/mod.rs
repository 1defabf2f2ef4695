//! Real peers: finds them on this machine, and runs them for a test.
//!
//! Every daemon runs in the foreground in its own temporary folder, on unix sockets and free
//! loopback ports. It is stopped by its process id when its value is dropped.

mod application;
mod daemon;
mod libfcgi;
mod nginx;
mod php_fpm;
mod version;
mod web_server;

use std::env;
use std::fmt;
use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::ExitStatus;
use std::time::Duration;

pub use application::{Application, ApplicationKind, Flup};
pub use daemon::scratch;
pub use libfcgi::LibfcgiApp;
pub use nginx::{Nginx, NginxOptions};
pub use php_fpm::{PhpFpm, PhpFpmOptions};
pub use web_server::{WebServer, WebServerKind, apache_modules, user};

/// Something outside this workspace that a test needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Peer {
    /// The web server nginx.
    Nginx,
    /// PHP's FastCGI process manager, of any PHP 8.
    PhpFpm,
    /// The browser Chromium, with chromedriver.
    Chromium,
    /// libfcgi's command-line client.
    CgiFcgi,
    /// libfcgi's headers and library, to build a C application.
    Libfcgi,
    /// A C compiler, to build a C application.
    Gcc,
    /// strace, to count system calls.
    Strace,
    /// Wireshark in a terminal, to read recordings with its FastCGI dissector.
    Tshark,
    /// The web server Apache httpd.
    Apache,
    /// The web server lighttpd.
    Lighttpd,
    /// The proxy HAProxy.
    Haproxy,
    /// The web server Caddy.
    Caddy,
    /// The web server h2o.
    H2o,
    /// The Go toolchain, to build an application on its net/http/fcgi.
    Go,
    /// Apache's mod_fcgid.
    Fcgid,
    /// lighttpd's spawn-fcgi.
    SpawnFcgi,
    /// systemd's programs, to check units and to pass sockets on.
    Systemd,
    /// fcgiwrap, which runs CGI programs.
    Fcgiwrap,
    /// git's CGI program, to clone by HTTP.
    GitHttp,
    /// uWSGI with its plugin for Python.
    Uwsgi,
    /// Python with pip, to install [`Flup`] from PyPI.
    Pip,
}

impl Peer {
    /// What `cargo xtask test` needs.
    pub const TESTS: &'static [Self] = &[
        Self::Nginx,
        Self::Apache,
        Self::Fcgid,
        Self::Haproxy,
        Self::Lighttpd,
        Self::Fcgiwrap,
        Self::PhpFpm,
        Self::Chromium,
        Self::CgiFcgi,
        Self::Libfcgi,
        Self::Gcc,
        Self::Strace,
        Self::Tshark,
        Self::Go,
    ];

    /// What `cargo xtask interop` needs.
    pub const INTEROP: &'static [Self] = &[
        Self::Nginx,
        Self::Apache,
        Self::Lighttpd,
        Self::Haproxy,
        Self::Caddy,
        Self::H2o,
        Self::PhpFpm,
        Self::Libfcgi,
        Self::Gcc,
        Self::Fcgid,
        Self::SpawnFcgi,
        Self::Systemd,
        Self::Fcgiwrap,
        Self::GitHttp,
        Self::Uwsgi,
        Self::Go,
        Self::Pip,
    ];

    /// What the peer calls itself.
    pub fn name(self) -> &'static str {
        match self {
            Self::Nginx => "nginx",
            Self::PhpFpm => "php-fpm",
            Self::Chromium => "chromedriver",
            Self::CgiFcgi => "cgi-fcgi",
            Self::Libfcgi => "libfcgi",
            Self::Gcc => "gcc",
            Self::Strace => "strace",
            Self::Tshark => "tshark",
            Self::Apache => "Apache",
            Self::Lighttpd => "lighttpd",
            Self::Haproxy => "HAProxy",
            Self::Caddy => "Caddy",
            Self::H2o => "h2o",
            Self::Go => "Go",
            Self::Fcgid => "mod_fcgid",
            Self::SpawnFcgi => "spawn-fcgi",
            Self::Systemd => "systemd-socket-activate",
            Self::Fcgiwrap => "fcgiwrap",
            Self::GitHttp => "git-http-backend",
            Self::Uwsgi => "uWSGI",
            Self::Pip => "pip",
        }
    }

    /// The Debian and Ubuntu package that installs it.
    pub fn package(self) -> &'static str {
        match self {
            Self::Nginx => "nginx-light",
            // Depends on the release's own PHP 8.x.
            Self::PhpFpm => "php-fpm",
            // Depends on the browser.
            Self::Chromium => "chromium-driver",
            Self::CgiFcgi => "libfcgi-bin",
            Self::Libfcgi => "libfcgi-dev",
            Self::Gcc => "gcc",
            Self::Strace => "strace",
            Self::Tshark => "tshark",
            Self::Apache => "apache2",
            Self::Lighttpd => "lighttpd",
            Self::Haproxy => "haproxy",
            Self::Caddy => "caddy",
            Self::H2o => "h2o",
            Self::Go => "golang-go",
            Self::Fcgid => "libapache2-mod-fcgid",
            Self::SpawnFcgi => "spawn-fcgi",
            Self::Systemd => "systemd",
            Self::Fcgiwrap => "fcgiwrap",
            Self::GitHttp => "git",
            Self::Uwsgi => "uwsgi-plugin-python3",
            Self::Pip => "python3-pip",
        }
    }

    /// The program, or for [`Peer::Libfcgi`] the header `fcgiapp.h`.
    ///
    /// # Errors
    ///
    /// [`Missing`] if it is in none of the usual places.
    pub fn find(self) -> Result<PathBuf, Missing> {
        let found = match self {
            Self::PhpFpm => find_php_fpm(),
            Self::Libfcgi => ["/usr/include", "/usr/local/include"]
                .iter()
                .map(|folder| Path::new(folder).join("fcgiapp.h"))
                .find(|header| header.is_file()),
            Self::Apache => find_program("apache2"),
            Self::Fcgid => {
                Some(apache_modules().join("mod_fcgid.so")).filter(|file| file.is_file())
            }
            Self::GitHttp => ["/usr/lib/git-core", "/usr/libexec/git-core"]
                .iter()
                .map(|folder| Path::new(folder).join("git-http-backend"))
                .find(|program| is_executable(program)),
            Self::Uwsgi => Path::new("/usr/lib/uwsgi/plugins/python3_plugin.so")
                .is_file()
                .then(|| find_program("uwsgi-core"))
                .flatten(),
            Self::Haproxy => find_program("haproxy"),
            Self::Caddy => find_program("caddy"),
            Self::Go => find_program("go"),
            Self::Pip => find_program("pip3"),
            Self::Nginx
            | Self::Chromium
            | Self::CgiFcgi
            | Self::Gcc
            | Self::Strace
            | Self::Tshark
            | Self::Fcgiwrap
            | Self::SpawnFcgi
            | Self::Systemd
            | Self::Lighttpd
            | Self::H2o => find_program(self.name()),
        };
        found.ok_or(Missing { peer: self })
    }
}

impl fmt::Display for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A peer that is not on this machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{} not found, install {}", .peer.name(), .peer.package())]
pub struct Missing {
    /// The peer that was looked for.
    pub peer: Peer,
}

/// The path of `nginx`.
///
/// # Errors
///
/// [`Missing`] when it is not installed.
pub fn nginx() -> Result<PathBuf, Missing> {
    Peer::Nginx.find()
}

/// The path of the newest `php-fpm8.*`, or of `php-fpm`.
///
/// # Errors
///
/// [`Missing`] when none is installed.
pub fn php_fpm() -> Result<PathBuf, Missing> {
    Peer::PhpFpm.find()
}

/// The path of libfcgi's `cgi-fcgi`.
///
/// # Errors
///
/// [`Missing`] when it is not installed.
pub fn cgi_fcgi() -> Result<PathBuf, Missing> {
    Peer::CgiFcgi.find()
}

/// Why a peer could not be started.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StartError {
    /// The peer is not installed.
    #[error(transparent)]
    Missing(#[from] Missing),
    /// The file system or the process table refused something.
    #[error("{doing}: {source}")]
    Io {
        /// What was being done.
        doing: String,
        /// What came instead.
        source: io::Error,
    },
    /// The options can't be put into the peer's configuration.
    #[error("{peer}: {reason}")]
    Options {
        /// The peer.
        peer: Peer,
        /// Which option, and why.
        reason: String,
    },
    /// What a peer needs does not build, or can't be installed.
    #[error("{peer}: {tool} failed:\n{log}")]
    Build {
        /// The peer.
        peer: Peer,
        /// The compiler or installer.
        tool: String,
        /// What it said.
        log: String,
    },
    /// The peer ended before it accepted connections.
    #[error("{peer} ended ({status}) before it accepted connections; its log:\n{log}")]
    Exited {
        /// The peer.
        peer: Peer,
        /// How it ended.
        status: ExitStatus,
        /// The end of its log.
        log: String,
    },
    /// The peer runs, but accepts no connections.
    #[error("{peer} accepted no connection within {waited:?}; its log:\n{log}")]
    NotReady {
        /// The peer.
        peer: Peer,
        /// How long it was given.
        waited: Duration,
        /// The end of its log.
        log: String,
    },
}

fn is_executable(path: &Path) -> bool {
    fs::metadata(path).is_ok_and(|meta| meta.is_file() && meta.permissions().mode() & 0o111 != 0)
}

/// PATH, then the folders of daemons, which an ordinary user's PATH lacks.
fn search_path() -> Vec<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    env::split_paths(&path)
        .chain(["/usr/local/sbin", "/usr/sbin", "/sbin"].map(PathBuf::from))
        .collect()
}

fn find_program(name: &str) -> Option<PathBuf> {
    search_path().into_iter().map(|folder| folder.join(name)).find(|program| is_executable(program))
}

fn find_php_fpm() -> Option<PathBuf> {
    let minor = |path: &Path| -> Option<u32> {
        let name = path.file_name()?.to_str()?;
        name.strip_prefix("php-fpm8.")?.parse().ok()
    };
    search_path()
        .iter()
        .filter_map(|folder| fs::read_dir(folder).ok())
        .flat_map(|entries| entries.filter_map(|entry| Some(entry.ok()?.path())))
        .filter_map(|path| Some((minor(&path)?, path)))
        .filter(|(_, path)| is_executable(path))
        .max()
        .map(|(_, path)| path)
        .or_else(|| find_program("php-fpm"))
}
