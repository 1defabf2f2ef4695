//! A server under test as a child process, which never outlives its handle.

use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use rustix::process::Pid;

use crate::cpu::{self, Placement};

/// How long a server may take until its socket answers.
const START: Duration = Duration::from_secs(10);

/// A running server.
pub(crate) struct Server {
    child: Child,
    /// Where it listens.
    pub(crate) socket: PathBuf,
}

impl Server {
    /// Starts `command` on the server's processor and waits until `socket` takes connections.
    pub(crate) fn start(mut command: Command, socket: &Path, cpus: Placement) -> Result<Server> {
        // A child inherits its parent's processors, so move there while it starts.
        cpu::pin(cpus.server)?;
        let child = command.stdin(Stdio::null()).stdout(Stdio::null()).spawn();
        cpu::pin(cpus.load)?;
        let mut server =
            Server { child: child.context("cannot start")?, socket: socket.to_owned() };
        let start = Instant::now();
        while UnixStream::connect(socket).is_err() {
            if let Some(status) = server.child.try_wait()? {
                bail!("it ended at once: {status}");
            }
            if start.elapsed() > START {
                bail!("it did not listen within {START:?}");
            }
            sleep(Duration::from_millis(10));
        }
        Ok(server)
    }

    /// Its process id.
    pub(crate) fn pid(&self) -> Pid {
        Pid::from_child(&self.child)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // Both fail only if it has already ended.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
