//! A php-fpm in the states that a health check is for.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
};

use fcgi_testkit::{
    peers::{PhpFpm, scratch},
    program,
};
use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use super::{fcgi, gateway::until};

/// An ordinary user that owns nothing.
pub(crate) const NOBODY: u32 = 65534;

/// The command with these arguments, without variables that the machine may have set.
pub(crate) fn run(args: &[&str]) -> Output {
    command(args).output().expect("fcgi runs")
}

pub(crate) fn command(args: &[&str]) -> Command {
    let mut command = fcgi();
    command.args(args).env_remove("FCGI_ADDR").env_remove("FCGI_CONNECT").stdin(Stdio::null());
    command
}

/// Its exit status, and what it wrote to stdout and stderr.
pub(crate) fn seen(output: &Output) -> (i32, String, String) {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (output.status.code().expect("no signal"), text(&output.stdout), text(&output.stderr))
}

/// Requests that keep workers of a pool busy until this is dropped.
pub(crate) struct Busy(Vec<Child>);

impl Busy {
    /// Starts this many.
    pub(crate) fn start(php: &PhpFpm, address: &str, requests: usize) -> Self {
        let script = format!("SCRIPT_FILENAME={}", php.script("sleep.php").display());
        let call = || {
            let args = ["call", address, "--param", &script, "--param", "QUERY_STRING=s=600"];
            let more = ["--param", "REQUEST_METHOD=GET", "--timeout", "0"];
            let mut command = command(&[&args[..], &more].concat());
            command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("fcgi call runs")
        };
        Self((0..requests).map(|_| call()).collect())
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        for child in &mut self.0 {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// A php-fpm whose processes are stopped until this is dropped.
pub(crate) struct Stopped(Vec<Pid>);

impl Stopped {
    /// Waits until each pool has this many workers.
    pub(crate) fn stop(php: &PhpFpm, workers: usize) -> Self {
        Self::stop_some(php, workers, |_| true)
    }

    /// Only the workers of one pool.
    pub(crate) fn stop_pool(php: &PhpFpm, workers: usize, pool: &str) -> Self {
        Self::stop_some(php, workers, |id| is_of(id, pool))
    }

    fn stop_some(php: &PhpFpm, workers: usize, is_meant: impl Fn(i32) -> bool) -> Self {
        let master = php.id();
        let sockets = sockets(php);
        let mut children = Vec::new();
        // It starts them after its sockets accept.
        until("both pools have their workers", || {
            let text = fs::read_to_string(format!("/proc/{master}/task/{master}/children"));
            let text = text.expect("the kernel tells");
            children = text.split_whitespace().map(|id| id.parse().expect("a number")).collect();
            // A worker has its title a moment after its start, and has closed the other pool's
            // socket a moment later.
            let is_ready = |id: &i32| {
                let has = |socket: &&String| has_open(*id, socket);
                title(*id).contains(": pool ") && sockets.iter().filter(has).count() == 1
            };
            children.len() == 2 * workers && children.iter().all(is_ready)
        });
        children.push(i32::try_from(master).expect("an id"));
        let meant = children.into_iter().filter(|id| is_meant(*id));
        let ids: Vec<Pid> = meant.filter_map(Pid::from_raw).collect();
        for id in &ids {
            kill_process(*id, Signal::STOP).expect("it can be stopped");
        }
        Self(ids)
    }

    /// The ids for one pool, as the command prints them: workers first, then the master.
    pub(crate) fn ids(&self, php: &PhpFpm, pool: &str) -> String {
        let ids = self.0.iter().map(|id| id.as_raw_nonzero().get());
        let is_meant = |id: &i32| is_of(*id, pool) || u32::try_from(*id) == Ok(php.id());
        ids.filter(is_meant).map(|id| id.to_string()).collect::<Vec<_>>().join(" ")
    }
}

/// The sockets of both pools, as `/proc` shows open files.
fn sockets(php: &PhpFpm) -> Vec<String> {
    let (unix, tcp) = (php.unix_address(), php.tcp_address());
    let path = unix.trim_start_matches("unix:");
    let port: u16 = tcp.rsplit(':').next().and_then(|port| port.parse().ok()).expect("a port");
    let port = format!(":{port:04X}");
    let table = |name| fs::read_to_string(format!("/proc/net/{name}")).expect("the kernel tells");
    let column = |line: &str, n| line.split_whitespace().nth(n).unwrap_or_default().to_owned();
    let is_ours = |line: &&str| column(line, 3) == "00010000" && line.ends_with(path);
    let unix = table("unix").lines().filter(is_ours).map(|it| column(it, 6)).next();
    let is_ours = |line: &&str| column(line, 1).ends_with(&port) && column(line, 3) == "0A";
    let tcp = table("tcp").lines().filter(is_ours).map(|it| column(it, 9)).next();
    [unix, tcp].map(|inode| format!("socket:[{}]", inode.expect("it listens"))).into()
}

/// Whether a process has this file open.
fn has_open(id: i32, file: &str) -> bool {
    let open = fs::read_dir(format!("/proc/{id}/fd")).into_iter().flatten().flatten();
    open.into_iter().any(|fd| fs::read_link(fd.path()).is_ok_and(|to| to == Path::new(file)))
}

/// Whether a process is a worker of this pool.
fn is_of(id: i32, pool: &str) -> bool {
    title(id).trim_end_matches(['\0', ' ']) == format!("php-fpm: pool {pool}")
}

fn title(id: i32) -> String {
    fs::read_to_string(format!("/proc/{id}/cmdline")).unwrap_or_default()
}

impl Drop for Stopped {
    fn drop(&mut self) {
        for id in &self.0 {
            let _ = kill_process(*id, Signal::CONT);
        }
    }
}

/// A copy of the command where every user can run it.
pub(crate) struct ForAll {
    folder: TempDir,
}

impl ForAll {
    pub(crate) fn copy() -> Self {
        let folder = scratch().expect("a folder");
        program::copy(env!("CARGO_BIN_EXE_fcgi"), folder.path().join("fcgi")).expect("a copy");
        Self { folder }
    }

    pub(crate) fn path(&self) -> PathBuf {
        self.folder.path().join("fcgi")
    }

    /// Runs it as nobody.
    pub(crate) fn run(&self, args: &[&str]) -> Output {
        use std::os::unix::process::CommandExt;
        let mut command = Command::new(self.path());
        command.args(args).env_clear().uid(NOBODY).gid(NOBODY).current_dir(Path::new("/"));
        command.stdin(Stdio::null()).output().expect("fcgi runs")
    }
}

/// Why tests that change the user can't run.
pub(crate) fn not_root() -> Option<String> {
    (!rustix::process::geteuid().is_root()).then(|| "only root can run it as nobody".to_owned())
}
