//! A server under test as a child process, which never outlives its handle.

use std::net::{Ipv4Addr, TcpStream};
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
    pub(crate) fn start(command: Command, socket: &Path, cpus: Placement) -> Result<Server> {
        Server::start_when(command, socket, cpus, || UnixStream::connect(socket).is_ok())
    }

    /// Starts `command` on the server's processor and waits until `port` of this machine accepts
    /// connections.
    pub(crate) fn start_on(command: Command, port: u16, cpus: Placement) -> Result<Server> {
        let address = (Ipv4Addr::LOCALHOST, port);
        Server::start_when(command, Path::new(""), cpus, || TcpStream::connect(address).is_ok())
    }

    fn start_when(
        mut command: Command,
        socket: &Path,
        cpus: Placement,
        is_ready: impl Fn() -> bool,
    ) -> Result<Server> {
        // A child inherits the processors of its parent, so switch to them while it starts.
        cpu::pin(cpus.server)?;
        let child =
            command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn();
        cpu::pin(cpus.load)?;
        let mut server =
            Server { child: child.context("cannot start")?, socket: socket.to_owned() };
        let start = Instant::now();
        while !is_ready() {
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

    /// Seconds of processor time that it and its children have used so far.
    pub(crate) fn used(&self) -> Result<f64> {
        cpu::used(self.pid())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // Both fail only if it has already ended.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
