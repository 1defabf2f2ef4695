//! One foreground daemon in a temporary folder: start, wait, log, stop.

use std::fs;
use std::io;
use std::net::{Ipv4Addr, TcpListener};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use super::{Peer, StartError};

/// Generous: the machine may be busy with the other tests.
const START: Duration = Duration::from_secs(120);
const STOP: Duration = Duration::from_secs(60);
const POLL: Duration = Duration::from_millis(10);
/// How much of a log goes into an error.
const LOG_TAIL: usize = 4096;
/// A free port can be taken before the daemon binds it.
const PORT_ATTEMPTS: usize = 5;

/// Puts a context on an IO error.
pub(super) fn doing(what: impl Into<String>) -> impl FnOnce(io::Error) -> StartError {
    move |source| StartError::Io { doing: what.into(), source }
}

/// A folder whose path is short enough for a unix socket's 107 bytes, and
/// which a daemon's unprivileged workers can enter when root starts it.
///
/// # Errors
///
/// [`StartError::Io`].
pub fn scratch() -> Result<TempDir, StartError> {
    let short = Path::new("/tmp");
    let mut builder = tempfile::Builder::new();
    builder.prefix("fcgi-");
    let dir = if short.is_dir() { builder.tempdir_in(short) } else { builder.tempdir() }
        .map_err(doing("creating a temporary folder"))?;
    if is_root() {
        set_mode(dir.path(), 0o755)?;
    }
    Ok(dir)
}

pub(super) fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// Debian's user of web servers, or the one that every system has.
pub(super) fn worker_user() -> &'static str {
    let users = fs::read_to_string("/etc/passwd").unwrap_or_default();
    if users.lines().any(|line| line.starts_with("www-data:")) { "www-data" } else { "nobody" }
}

pub(super) fn set_mode(path: &Path, mode: u32) -> Result<(), StartError> {
    fs::set_permissions(path, fs::Permissions::from_mode(mode))
        .map_err(doing(format!("setting the mode of {}", path.display())))
}

pub(super) fn write(path: &Path, text: &str) -> Result<(), StartError> {
    fs::write(path, text).map_err(doing(format!("writing {}", path.display())))
}

fn free_port() -> Result<u16, StartError> {
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0))
        .and_then(|listener| listener.local_addr())
        .map(|address| address.port())
        .map_err(doing("looking for a free loopback port"))
}

/// Starts on a free port, and on another one when it was taken meanwhile.
pub(super) fn on_free_port(
    mut start: impl FnMut(u16) -> Result<Daemon, StartError>,
) -> Result<(Daemon, u16), StartError> {
    for _ in 1..PORT_ATTEMPTS {
        let port = free_port()?;
        match start(port) {
            Err(StartError::Exited { log, .. }) if log.contains("Address already in use") => {}
            started => return Ok((started?, port)),
        }
    }
    let port = free_port()?;
    Ok((start(port)?, port))
}

/// A running daemon, stopped on drop.
#[derive(Debug)]
pub(super) struct Daemon {
    peer: Peer,
    child: Child,
    log: PathBuf,
}

impl Daemon {
    /// Starts `command` with its output in the file `log` and waits until
    /// `ready` says so.
    pub(super) fn start(
        peer: Peer,
        mut command: Command,
        log: PathBuf,
        mut ready: impl FnMut() -> bool,
    ) -> Result<Self, StartError> {
        let open_log = || fs::File::options().create(true).append(true).open(&log);
        let opening = || doing(format!("opening the log {}", log.display()));
        command
            .stdin(Stdio::null())
            .stdout(open_log().map_err(opening())?)
            .stderr(open_log().map_err(opening())?);
        let child = command.spawn().map_err(doing(format!("starting {peer}")))?;
        let mut daemon = Self { peer, child, log };
        let started = Instant::now();
        loop {
            // In this order: who accepts is this daemon, for it still runs.
            let accepts = ready();
            if let Some(status) = daemon.exited()? {
                return Err(StartError::Exited { peer, status, log: daemon.log() });
            }
            if accepts {
                return Ok(daemon);
            }
            if started.elapsed() > START {
                return Err(StartError::NotReady { peer, waited: START, log: daemon.log() });
            }
            thread::sleep(POLL);
        }
    }

    pub(super) fn id(&self) -> u32 {
        self.child.id()
    }

    /// The end of the log, lossy.
    pub(super) fn log(&self) -> String {
        match fs::read(&self.log) {
            Ok(bytes) => {
                let tail = &bytes[bytes.len().saturating_sub(LOG_TAIL)..];
                String::from_utf8_lossy(tail).into_owned()
            }
            Err(error) => format!("(reading {}: {error})", self.log.display()),
        }
    }

    fn exited(&mut self) -> Result<Option<ExitStatus>, StartError> {
        self.child.try_wait().map_err(doing(format!("waiting for {}", self.peer)))
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        // Once reaped, its process id may be another's.
        if !matches!(self.child.try_wait(), Ok(None)) {
            return;
        }
        // The quick stop of nginx and php-fpm: it ends their workers too, even
        // one that sleeps in a script.
        let asked = kill_process(Pid::from_child(&self.child), Signal::TERM).is_ok();
        let stopping = Instant::now();
        while asked && stopping.elapsed() < STOP {
            if !matches!(self.child.try_wait(), Ok(None)) {
                return;
            }
            thread::sleep(POLL);
        }
        // Nothing is left to do about a failure here.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
