//! Web servers that hand every request on to one FastCGI application: all but nginx, which has
//! [`Nginx`](super::Nginx).

use std::fs;
use std::net::{Ipv4Addr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;

use super::daemon::{self, Daemon, doing};
use super::{Peer, StartError};

/// A kind of web server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum WebServerKind {
    /// Apache httpd with mod_proxy_fcgi and mod_authnz_fcgi.
    Apache,
    /// lighttpd with mod_fastcgi.
    Lighttpd,
    /// HAProxy with an `fcgi-app`, under `http-reuse always`.
    Haproxy {
        /// `option keep-conn`.
        keep: bool,
        /// `option mpxs-conns`, several requests at once on one connection, and
        /// `option get-values`, which asks the application first.
        multiplex: bool,
    },
    /// Caddy's reverse proxy with its fastcgi transport.
    Caddy,
    /// h2o.
    H2o,
    /// nginx, for [`WebServer::with_config`] only: the rest is [`Nginx`](super::Nginx)'s.
    Nginx,
}

/// What comes before the sections of every configuration of HAProxy's.
macro_rules! haproxy_defaults {
    () => {
        include_str!("../../assets/haproxy-defaults.cfg")
    };
}

const HAPROXY_DEFAULTS: &str = haproxy_defaults!();

impl WebServerKind {
    /// The program that has to be installed.
    pub fn peer(self) -> Peer {
        match self {
            Self::Apache => Peer::Apache,
            Self::Lighttpd => Peer::Lighttpd,
            Self::Haproxy { .. } => Peer::Haproxy,
            Self::Caddy => Peer::Caddy,
            Self::H2o => Peer::H2o,
            Self::Nginx => Peer::Nginx,
        }
    }
}

/// A running web server on a loopback port.
#[derive(Debug)]
pub struct WebServer {
    // Stopped before its folder is removed.
    daemon: Daemon,
    port: u16,
    _dir: TempDir,
}

impl WebServer {
    /// Starts it and waits until it accepts. Requests for any path go to the Responder at
    /// `upstream`, `unix:PATH` or `tcp:HOST:PORT`; those below `/guarded/` are shown to the
    /// Authorizer first, if there is one (Apache: `tcp:HOST:PORT` only; lighttpd: then the only path
    /// for the Responder there is `/guarded/echo`).
    ///
    /// Where root starts it, its workers may be an ordinary user's: the sockets must be open to
    /// all.
    ///
    /// # Errors
    ///
    /// [`StartError`], with the end of the server's log where it has one.
    pub fn start(
        kind: WebServerKind,
        upstream: &str,
        authorizer: Option<&str>,
    ) -> Result<Self, StartError> {
        Self::with(kind, |dir, port| config(kind, upstream, authorizer, dir, port))
    }

    /// Starts HAProxy with some sections of a configuration, and hands every request on to
    /// `backend`, which is one of them.
    ///
    /// # Errors
    ///
    /// As for [`start`](Self::start).
    pub fn haproxy(sections: &str, backend: &str) -> Result<Self, StartError> {
        Self::with(WebServerKind::Haproxy { keep: true, multiplex: true }, |_, port| {
            Ok(format!(
                "{HAPROXY_DEFAULTS}frontend http\n  bind 127.0.0.1:{port}\n  \
                 default_backend {backend}\n{sections}"
            ))
        })
    }

    /// Starts it with a configuration of the caller's, for a folder of its own and a free port. Its
    /// log has to be the file `log` in that folder, or its own output.
    ///
    /// # Errors
    ///
    /// As for [`start`](Self::start).
    pub fn with_config(
        kind: WebServerKind,
        config: impl Fn(&Path, u16) -> String,
    ) -> Result<Self, StartError> {
        Self::with(kind, |dir, port| Ok(config(dir, port)))
    }

    /// Starts Apache with these directives instead of a ProxyPass of every path. In them `@DIR@` is
    /// its folder, which is also the document root, and `@MODULES@` that of its modules.
    ///
    /// # Errors
    ///
    /// As for [`start`](Self::start).
    pub fn apache(directives: &str) -> Result<Self, StartError> {
        Self::with(WebServerKind::Apache, |dir, port| Ok(apache(directives, "", dir, port)))
    }

    fn with(
        kind: WebServerKind,
        config: impl Fn(&Path, u16) -> Result<String, StartError>,
    ) -> Result<Self, StartError> {
        let program = kind.peer().find()?;
        let dir = daemon::scratch()?;
        let log = dir.path().join("log");
        let (daemon, port) = daemon::on_free_port(|port| {
            let conf = dir.path().join("conf");
            daemon::write(&conf, &config(dir.path(), port)?)?;
            let command = command(kind, &program, &conf, dir.path());
            Daemon::start(kind.peer(), command, log.clone(), || {
                TcpStream::connect((Ipv4Addr::LOCALHOST, port)).is_ok()
            })
        })?;
        Ok(Self { daemon, port, _dir: dir })
    }

    /// The loopback port that it listens on.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The end of its log, for a failed test's message.
    pub fn log(&self) -> String {
        self.daemon.log()
    }
}

fn command(kind: WebServerKind, program: &Path, conf: &Path, dir: &Path) -> Command {
    let mut command = Command::new(program);
    match kind {
        WebServerKind::Apache => command.arg("-DFOREGROUND").arg("-f").arg(conf),
        WebServerKind::Lighttpd => command.arg("-D").arg("-f").arg(conf),
        // In the foreground and in one process.
        WebServerKind::Haproxy { .. } => command.arg("-db").arg("-f").arg(conf),
        WebServerKind::Caddy => command
            .env("XDG_DATA_HOME", dir)
            .env("XDG_CONFIG_HOME", dir)
            .args(["run", "--adapter", "caddyfile", "--config"])
            .arg(conf),
        WebServerKind::H2o => command.args(["-m", "worker", "-c"]).arg(conf),
        WebServerKind::Nginx => {
            command.args(["-g", "daemon off;", "-p"]).arg(dir).arg("-c").arg(conf);
            command.arg("-e").arg(dir.join("log"))
        }
    };
    command
}

fn config(
    kind: WebServerKind,
    upstream: &str,
    authorizer: Option<&str>,
    dir: &Path,
    port: u16,
) -> Result<String, StartError> {
    let refused = |reason: String| StartError::Options { peer: kind.peer(), reason };
    let (unix, at) = match upstream.split_once(':') {
        Some(("unix", path)) => (true, path),
        Some(("tcp", address)) => (false, address),
        _ => {
            return Err(refused(format!("the upstream must be unix:… or tcp:…, not {upstream:?}")));
        }
    };
    let authorizer = match (kind, authorizer) {
        (_, None) => String::new(),
        (WebServerKind::Apache, Some(address)) => {
            let Some(at) = address.strip_prefix("tcp:") else {
                return Err(refused(format!("an Authorizer has to be at tcp:…, not {address:?}")));
            };
            include_str!("../../assets/apache-authorizer.conf").replace("@AUTHORIZER@", at)
        }
        (WebServerKind::Lighttpd, Some(address)) => {
            // Behind an Authorizer it calls a Responder only for a file that exists.
            let guarded = dir.join("guarded");
            fs::create_dir_all(&guarded)
                .map_err(doing(format!("creating {}", guarded.display())))?;
            daemon::write(&guarded.join("echo"), "")?;
            include_str!("../../assets/lighttpd-authorizer.conf")
                .replace("@AUTHORIZER@", &lighttpd_upstream(address))
        }
        (_, Some(_)) => return Err(refused("it calls no Authorizer".into())),
    };
    let (template, upstream) = match kind {
        WebServerKind::Nginx => return Err(refused("it has a type of its own".into())),
        WebServerKind::Apache => {
            let upstream = if unix {
                format!("unix:{at}|fcgi://application/")
            } else {
                format!("fcgi://{at}/")
            };
            let pass = format!(r#"ProxyPass "/" "{upstream}" enablereuse=on flushpackets=on"#);
            return Ok(apache(&pass, &authorizer, dir, port));
        }
        WebServerKind::Lighttpd => {
            (include_str!("../../assets/lighttpd.conf"), lighttpd_upstream(upstream))
        }
        WebServerKind::Haproxy { .. } => {
            let upstream = if unix { format!("unix@{at}") } else { at.to_owned() };
            (concat!(haproxy_defaults!(), include_str!("../../assets/haproxy.cfg")), upstream)
        }
        WebServerKind::Caddy => {
            let upstream = if unix { format!("unix/{at}") } else { at.to_owned() };
            (include_str!("../../assets/Caddyfile"), upstream)
        }
        WebServerKind::H2o => {
            let upstream = match at.rsplit_once(':') {
                Some((host, port)) if !unix => format!("{{host: {host}, port: {port}}}"),
                _ => format!("{{port: {at}, type: unix}}"),
            };
            (include_str!("../../assets/h2o.conf"), upstream)
        }
    };
    let (keep, multiplex) = match kind {
        WebServerKind::Haproxy { keep, multiplex } => (keep, multiplex),
        _ => (false, false),
    };
    let option = |on: bool, name: &str| format!("{}option {name}", if on { "" } else { "no " });
    Ok(template
        .replace("@AUTHORIZER@", &authorizer)
        .replace("@UPSTREAM@", &upstream)
        .replace("@KEEP@", &option(keep, "keep-conn"))
        .replace("@VALUES@", &option(multiplex, "get-values"))
        .replace("@MULTIPLEX@", &option(multiplex, "mpxs-conns"))
        .replace("@MOST@", if multiplex { "option max-reqs 100" } else { "" })
        .replace("@USER@", &user(kind))
        .replace("@PORT@", &port.to_string())
        .replace("@DIR@", &dir.display().to_string()))
}

fn apache(pass: &str, authorizer: &str, dir: &Path, port: u16) -> String {
    include_str!("../../assets/apache.conf")
        .replace("@PASS@", pass)
        .replace("@AUTHORIZER@", authorizer)
        .replace("@USER@", &user(WebServerKind::Apache))
        .replace("@MODULES@", &apache_modules().display().to_string())
        .replace("@PORT@", &port.to_string())
        .replace("@DIR@", &dir.display().to_string())
}

/// The directives that say as whom the workers run, where root starts the server: Apache refuses to
/// stay root.
pub fn user(kind: WebServerKind) -> String {
    if !daemon::is_root() {
        return String::new();
    }
    match kind {
        WebServerKind::Apache => {
            let group = if daemon::worker_user() == "www-data" { "www-data" } else { "nogroup" };
            format!("User {}\nGroup {group}", daemon::worker_user())
        }
        WebServerKind::H2o => format!("user: {}", daemon::worker_user()),
        _ => String::new(),
    }
}

fn lighttpd_upstream(address: &str) -> String {
    match address.strip_prefix("tcp:").and_then(|at| at.rsplit_once(':')) {
        Some((host, port)) => format!("\"host\" => \"{host}\", \"port\" => {port}"),
        None => format!("\"socket\" => \"{}\"", address.strip_prefix("unix:").unwrap_or(address)),
    }
}

/// Debian's folder of Apache's modules, or the one of other systems.
#[must_use]
pub fn apache_modules() -> PathBuf {
    let folders = ["/usr/lib/apache2/modules", "/usr/lib64/httpd/modules"];
    let found = folders.iter().map(PathBuf::from).find(|folder| folder.is_dir());
    found.unwrap_or_else(|| folders[0].into())
}
