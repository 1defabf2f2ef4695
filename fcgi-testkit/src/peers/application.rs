//! Applications in other languages, with the routes of the interop tests: on Go's net/http/fcgi,
//! on Python's flup and on libfcgi. php-fpm runs the same routes as `interop.php`.

use std::fs;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;

use super::daemon::{self, Daemon, doing};
use super::{Peer, StartError};

/// The version to install from PyPI.
const FLUP: &str = "flup==1.0.3";

/// What an [`Application`] is written with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum ApplicationKind {
    /// Go's net/http/fcgi: it multiplexes.
    Go,
    /// libfcgi, in this many processes, each with one connection at a time.
    Libfcgi {
        /// Processes, at least 1.
        workers: usize,
    },
}

/// A running application on a unix socket. Its routes go by the last part of the path:
///
/// | route | answers with |
/// | --- | --- |
/// | `echo` | method, query, STDIN's length and CRC-32, the length of the field `X-Big` |
/// | `download?n=` | `n` bytes, of which byte `i` is `i % 251` |
/// | `slow?gate=PATH` | five lines; after each but the last it waits for the file `PATH.LINE` |
/// | `redirect` | 302 to `http://www.example.org/elsewhere` |
/// | `cookies` | two Set-Cookie fields |
/// | `bigheaders` | a field of 7,000 bytes and 40 small ones |
/// | any other | 404 with a body |
#[derive(Debug)]
pub struct Application {
    // Stopped before its folder is removed.
    daemon: Daemon,
    dir: TempDir,
}

impl Application {
    /// Builds the application, starts it and waits until it accepts.
    ///
    /// # Errors
    ///
    /// [`StartError`], with what the compiler or the application said.
    pub fn start(kind: ApplicationKind) -> Result<Self, StartError> {
        let dir = daemon::scratch()?;
        let program = dir.path().join("app");
        match kind {
            ApplicationKind::Go => build_go(dir.path(), &program)?,
            ApplicationKind::Libfcgi { .. } => build_c(dir.path(), &program)?,
        }
        let mut command = Command::new(program);
        command.arg(dir.path().join("app.sock"));
        let peer = match kind {
            ApplicationKind::Go => Peer::Go,
            ApplicationKind::Libfcgi { workers } => {
                command.arg(workers.max(1).to_string());
                Peer::Libfcgi
            }
        };
        Self::run(peer, command, dir)
    }

    /// Starts the one on flup, one thread for each connection, and waits until it accepts.
    ///
    /// # Errors
    ///
    /// As [`Application::start`].
    pub fn start_flup(flup: &Flup) -> Result<Self, StartError> {
        let dir = daemon::scratch()?;
        let script = dir.path().join("app.py");
        daemon::write(&script, include_str!("../../assets/interop/app.py"))?;
        let mut command = flup.python();
        command.arg(script).arg(dir.path().join("app.sock"));
        Self::run(Peer::Pip, command, dir)
    }

    fn run(peer: Peer, command: Command, dir: TempDir) -> Result<Self, StartError> {
        let socket = dir.path().join("app.sock");
        let daemon = Daemon::start(peer, command, dir.path().join("log"), || {
            UnixStream::connect(&socket).is_ok()
        })?;
        Ok(Self { daemon, dir })
    }

    /// Its socket, as `unix:PATH`.
    pub fn address(&self) -> String {
        format!("unix:{}", self.dir.path().join("app.sock").display())
    }

    /// The end of its log, for a failed test's message.
    pub fn log(&self) -> String {
        self.daemon.log()
    }
}

/// Python's flup, from PyPI, in its own folder.
#[derive(Debug, Clone)]
pub struct Flup {
    folder: PathBuf,
}

impl Flup {
    /// Installs it into `folder`, unless it is there.
    ///
    /// # Errors
    ///
    /// [`StartError`], with what pip said.
    pub fn install(folder: impl Into<PathBuf>) -> Result<Self, StartError> {
        let pip = Peer::Pip.find()?;
        let flup = Self { folder: folder.into() };
        if flup.version().is_some() {
            return Ok(flup);
        }
        let mut command = Command::new(pip);
        // Into a folder: the system's packages are the distribution's.
        command.args(["install", "--quiet", "--disable-pip-version-check", "--no-deps"]);
        command.args(["--retries", "1", "--upgrade", "--target"]).arg(&flup.folder).arg(FLUP);
        build(Peer::Pip, command)?;
        Ok(flup)
    }

    /// Its version, if it can be loaded.
    pub fn version(&self) -> Option<String> {
        let program = "import flup.server.fcgi, importlib.metadata as m; print(m.version('flup'))";
        let output = self.python().args(["-c", program]).output().ok()?;
        let text = String::from_utf8_lossy(&output.stdout).trim().to_owned();
        (output.status.success() && !text.is_empty()).then_some(text)
    }

    fn python(&self) -> Command {
        let mut command = Command::new("python3");
        command.env("PYTHONPATH", &self.folder).env("PYTHONDONTWRITEBYTECODE", "1");
        command
    }
}

fn build_go(dir: &Path, program: &Path) -> Result<(), StartError> {
    let source = dir.join("app.go");
    daemon::write(&source, include_str!("../../assets/interop/app.go"))?;
    let mut command = Command::new(Peer::Go.find()?);
    // One file and the standard library: no module, no network.
    command.current_dir(dir).env("GO111MODULE", "off").env("GOFLAGS", "").env("GOPROXY", "off");
    command.env("GOCACHE", dir.join("cache")).env("CGO_ENABLED", "0");
    command.args(["build", "-o"]).arg(program).arg(source);
    build(Peer::Go, command)?;
    fs::remove_dir_all(dir.join("cache")).map_err(doing("removing Go's cache"))
}

fn build_c(dir: &Path, program: &Path) -> Result<(), StartError> {
    Peer::Libfcgi.find()?;
    let source = dir.join("app.c");
    daemon::write(&source, include_str!("../../assets/interop/app.c"))?;
    let mut command = Command::new(Peer::Gcc.find()?);
    command.args(["-O1", "-Wall", "-Werror", "-o"]).arg(program).arg(source).arg("-lfcgi");
    build(Peer::Libfcgi, command)
}

fn build(peer: Peer, mut command: Command) -> Result<(), StartError> {
    let tool = command.get_program().to_string_lossy().into_owned();
    let output = command.output().map_err(doing(format!("starting {tool}")))?;
    if output.status.success() {
        return Ok(());
    }
    let log = [output.stdout, output.stderr].concat();
    Err(StartError::Build { peer, tool, log: String::from_utf8_lossy(&log).into_owned() })
}
