//! A small application in C on libfcgi, built for the test that starts it.

use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;

use super::daemon::{self, Daemon, doing};
use super::{Peer, StartError};

/// A running Responder on libfcgi, which serves one connection at a time. It
/// answers with the request's method, a line feed and STDIN. Its parameter
/// `STDERR` goes to STDERR, and `EXIT` is the app status.
#[derive(Debug)]
pub struct LibfcgiApp {
    // Stopped before its folder is removed.
    daemon: Daemon,
    dir: TempDir,
}

impl LibfcgiApp {
    /// Builds the application, starts it and waits until it accepts.
    ///
    /// # Errors
    ///
    /// [`StartError`], with what the compiler or the application said.
    pub fn start() -> Result<Self, StartError> {
        Peer::Libfcgi.find()?;
        let dir = daemon::scratch()?;
        let program = build(dir.path())?;
        let socket = dir.path().join("app.sock");
        let mut command = Command::new(program);
        command.arg(&socket);
        let daemon = Daemon::start(Peer::Libfcgi, command, dir.path().join("log"), || {
            UnixStream::connect(&socket).is_ok()
        })?;
        Ok(Self { daemon, dir })
    }

    /// Its socket, as `unix:PATH`.
    pub fn address(&self) -> String {
        format!("unix:{}", self.dir.path().join("app.sock").display())
    }

    /// Its process id.
    pub fn id(&self) -> u32 {
        self.daemon.id()
    }

    /// The end of its log, for a failed test's message.
    pub fn log(&self) -> String {
        self.daemon.log()
    }
}

fn build(dir: &Path) -> Result<PathBuf, StartError> {
    let (source, program) = (dir.join("responder.c"), dir.join("responder"));
    daemon::write(&source, include_str!("../../assets/responder.c"))?;
    let mut compiler = Command::new(Peer::Gcc.find()?);
    compiler.args(["-Wall", "-Werror", "-o"]).arg(&program).arg(&source).arg("-lfcgi");
    let output = compiler.output().map_err(doing("starting gcc"))?;
    if output.status.success() {
        return Ok(program);
    }
    Err(StartError::Build {
        peer: Peer::Libfcgi,
        tool: "gcc".into(),
        log: String::from_utf8_lossy(&output.stderr).into_owned(),
    })
}
