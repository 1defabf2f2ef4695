//! nginx in front of one FastCGI application.

use std::net::{Ipv4Addr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;

use super::daemon::{self, Daemon};
use super::{Peer, StartError, nginx};

/// How to start [`Nginx`].
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct NginxOptions {
    /// The application, as `unix:PATH` or `tcp:HOST:PORT`.
    pub upstream: String,
    /// How many idle connections to the application are kept: at least 1,
    /// 16 by default.
    pub keep_alive: usize,
    /// Whether `/kept` and `/plain` read a request's whole body before they
    /// pass it on, as nginx does by default.
    pub request_buffering: bool,
    /// DOCUMENT_ROOT, and the folder that SCRIPT_FILENAME is in; nginx's own
    /// temporary folder by default.
    pub document_root: Option<PathBuf>,
    /// Directives to add to each location that passes requests on, such as
    /// `fastcgi_read_timeout 1s;`.
    pub extra: String,
    /// Directives to add to the server, such as a location; in them `@DIR@` is nginx's folder, and
    /// `application` the upstream.
    pub server: String,
}

impl NginxOptions {
    /// The defaults, with the application at `upstream`: `unix:PATH` or
    /// `tcp:HOST:PORT`.
    pub fn new(upstream: impl Into<String>) -> Self {
        Self {
            upstream: upstream.into(),
            keep_alive: 16,
            request_buffering: true,
            document_root: None,
            extra: String::new(),
            server: String::new(),
        }
    }

    /// Sets how many idle connections to the application are kept.
    pub fn keep_alive(mut self, connections: usize) -> Self {
        self.keep_alive = connections;
        self
    }

    /// Sets whether `/kept` and `/plain` read the whole body first.
    pub fn request_buffering(mut self, on: bool) -> Self {
        self.request_buffering = on;
        self
    }

    /// Sets DOCUMENT_ROOT.
    pub fn document_root(mut self, folder: impl Into<PathBuf>) -> Self {
        self.document_root = Some(folder.into());
        self
    }

    /// Sets directives for the server.
    pub fn server(mut self, directives: impl Into<String>) -> Self {
        self.server = directives.into();
        self
    }

    /// Sets directives for each location that passes requests on.
    pub fn extra(mut self, directives: impl Into<String>) -> Self {
        self.extra = directives.into();
        self
    }
}

/// A running nginx with one worker. The rest of a path after its prefix
/// becomes SCRIPT_NAME; bodies may have up to 64 MiB.
///
/// | path | does |
/// | --- | --- |
/// | `/kept/…` | passes the request on over a connection that is kept |
/// | `/plain/…` | passes it on over a new connection, without FCGI_KEEP_CONN |
/// | `/unbuffered/…` | as `/kept`, with both bodies passed on as they come |
/// | `/static` | answers `Hello, world\n` by itself |
#[derive(Debug)]
pub struct Nginx {
    // Stopped before its folder is removed.
    daemon: Daemon,
    port: u16,
    _dir: TempDir,
}

impl Nginx {
    /// Starts nginx and waits until it accepts.
    ///
    /// # Errors
    ///
    /// [`StartError`], with the end of nginx's log where it has one.
    pub fn start(options: NginxOptions) -> Result<Self, StartError> {
        let program = nginx()?;
        let dir = daemon::scratch()?;
        let root = options.document_root.as_deref().unwrap_or(dir.path());
        let params = include_str!("../../assets/nginx-params.conf")
            .replace("@ROOT@", &root.display().to_string());
        let params = format!("{params}{}\n", options.extra);
        daemon::write(&dir.path().join("params.conf"), &params)?;
        let conf = dir.path().join("nginx.conf");
        let log = dir.path().join("log");
        let (daemon, port) = daemon::on_free_port(|port| {
            daemon::write(&conf, &config(&options, dir.path(), port)?)?;
            let mut command = Command::new(&program);
            command.arg("-p").arg(dir.path());
            command.arg("-c").arg(&conf).arg("-e").arg(&log);
            Daemon::start(Peer::Nginx, command, log.clone(), || {
                TcpStream::connect((Ipv4Addr::LOCALHOST, port)).is_ok()
            })
        })?;
        Ok(Self { daemon, port, _dir: dir })
    }

    /// The loopback port that it listens on.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The URL of its root, `http://127.0.0.1:PORT`.
    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// The process id of the master.
    pub fn id(&self) -> u32 {
        self.daemon.id()
    }

    /// The end of its error log, for a failed test's message.
    pub fn log(&self) -> String {
        self.daemon.log()
    }
}

fn config(options: &NginxOptions, dir: &Path, port: u16) -> Result<String, StartError> {
    let upstream = match options.upstream.split_once(':') {
        Some(("unix", _)) => options.upstream.as_str(),
        Some(("tcp", address)) => address,
        _ => {
            return Err(StartError::Options {
                peer: Peer::Nginx,
                reason: format!(
                    "the upstream must be unix:PATH or tcp:HOST:PORT, not {:?}",
                    options.upstream
                ),
            });
        }
    };
    // The worker opens the test's socket, so it runs as the test's user.
    let user = if daemon::is_root() { "user root root;" } else { "" };
    let buffering = if options.request_buffering { "on" } else { "off" };
    Ok(include_str!("../../assets/nginx.conf")
        .replace("@SERVER@", &options.server)
        .replace("@USER@", user)
        .replace("@UPSTREAM@", upstream)
        .replace("@KEEP_ALIVE@", &options.keep_alive.max(1).to_string())
        .replace("@REQUEST_BUFFERING@", buffering)
        .replace("@PORT@", &port.to_string())
        .replace("@DIR@", &dir.display().to_string()))
}
