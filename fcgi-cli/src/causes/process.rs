//! An application that accepts connections but does not answer: what its processes are doing.

use std::{
    fs,
    net::SocketAddr,
    path::{Path, PathBuf},
};

use fcgi_tokio::{Address, Target};
use rustix::net::{
    AddressFamily, SocketAddrUnix, SocketFlags, SocketType, connect, socket_with,
    sockopt::socket_peercred,
};

use super::cause::Cause;
use crate::sock_diag::{self, Queue};

/// A process, from `/proc`.
#[derive(Debug)]
struct Process {
    id: u32,
    parent: u32,
    name: String,
    is_stopped: bool,
}

/// Why no answer comes on an open connection.
pub(super) fn silent(address: &Address) -> Cause {
    // Read it before another connection waits there too.
    let waiting = sock_diag::queue_now(address).map_or(0, |queue| queue.waiting);
    if let Some(cause) = workers(address).as_ref().and_then(stopped) {
        return cause;
    }
    let likely = match waiting {
        0 => "all of its workers are busy, or what one of them runs hangs".to_owned(),
        1 => "all of its workers are busy: 1 connection waits in its queue".to_owned(),
        waiting => {
            format!("all of its workers are busy: {waiting} connections wait in its queue")
        }
    };
    Cause::new(
        "busy",
        likely,
        "look at what they do (fcgi status), allow more of them (pm.max_children), or a longer \
         --timeout",
    )
}

/// The same for GET_VALUES. Not every application answers it, so the workers need not be busy.
pub(super) fn no_values(address: &Address) -> Cause {
    match sock_diag::queue_now(address) {
        Some(Queue { waiting: 0, .. }) => {}
        _ => return silent(address),
    }
    if let Some(cause) = workers(address).as_ref().and_then(stopped) {
        return cause;
    }
    Cause::new(
        "no-values",
        "it took the connection, and does not answer GET_VALUES: some applications, such as \
         uwsgi, do not know that; or what it runs hangs",
        "send it a request (fcgi ping, fcgi call)",
    )
}

/// The cause if no connection is made in time because the kernel's queue is full, as far as the
/// kernel of this machine knows.
pub(super) fn queue_full(address: &Address) -> Option<Cause> {
    let Queue { waiting, limit } = sock_diag::queue_now(address)?;
    if waiting < limit.max(1) {
        return None;
    }
    if let Some(cause) = workers(address).as_ref().and_then(stopped) {
        return Some(cause);
    }
    Some(Cause::new(
        "queue-full",
        format!(
            "the socket's queue is full ({waiting} of {limit}): all of its workers are busy, or it \
             is stopped"
        ),
        "look at what they do, allow more of them (pm.max_children), or restart it",
    ))
}

/// The process that listens, and its children.
struct Workers {
    listener: Process,
    workers: Vec<Process>,
}

fn workers(address: &Address) -> Option<Workers> {
    let all = processes();
    let (id, sockets) = match address.target() {
        Target::Unix(path) => (listener(path)?, sockets_at(path)),
        Target::Tcp(host_port) => {
            let sockets = sockets_of_port(host_port)?;
            (port_listener(&sockets, &all)?, sockets)
        }
        _ => return None,
    };
    let (mut listener, mut workers) = (None, Vec::new());
    for process in all {
        if process.id == id {
            listener = Some(process);
        } else if process.parent == id {
            workers.push(process);
        }
    }
    // A master may have workers of other sockets, as php-fpm has pools. Only root and their user can
    // tell which.
    if workers.iter().any(|worker| has_open(worker.id, &sockets)) {
        workers.retain(|worker| has_open(worker.id, &sockets));
    }
    Some(Workers { listener: listener?, workers })
}

/// Whether the processes that should answer were stopped by a signal.
fn stopped(found: &Workers) -> Option<Cause> {
    let Workers { listener, workers } = found;
    let who = match workers.len() {
        0 if listener.is_stopped => format!("process {} ({})", listener.id, listener.name),
        1 if workers[0].is_stopped => {
            format!("the only worker of process {} ({})", listener.id, listener.name)
        }
        n @ 2.. if workers.iter().all(|worker| worker.is_stopped) => {
            format!("all {n} workers of process {} ({})", listener.id, listener.name)
        }
        _ => return None,
    };
    let mut ids: Vec<String> = workers.iter().map(|worker| worker.id.to_string()).collect();
    if listener.is_stopped {
        ids.push(listener.id.to_string());
    }
    Some(Cause::new(
        "stopped",
        format!("stopped by a signal (SIGSTOP): {who}"),
        format!("let it go on: kill -CONT {}", ids.join(" ")),
    ))
}

/// The process that listens on a socket, if it is in this process-id namespace.
fn listener(path: &Path) -> Option<u32> {
    let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
    let socket = socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None).ok()?;
    connect(&socket, &SocketAddrUnix::new(path).ok()?).ok()?;
    let id = socket_peercred(&socket).ok()?.pid.as_raw_nonzero().get().unsigned_abs();
    // systemd listens on behalf of others.
    (id != 1).then_some(id)
}

/// The listening sockets that were bound to a path, as /proc shows open files.
fn sockets_at(path: &Path) -> Vec<PathBuf> {
    const LISTENS: &str = "00010000";
    let table = fs::read_to_string("/proc/net/unix").unwrap_or_default();
    let whole = fs::canonicalize(path).unwrap_or_default();
    let is_meant = |name: &str| Path::new(name) == path || Path::new(name) == whole;
    let one = |line: &str| {
        let mut fields = line.split_ascii_whitespace();
        let (flags, inode) = (fields.nth(3)?, fields.nth(2)?);
        // A path may hold spaces.
        let (_, name) = line.split_once(&format!(" {inode} "))?;
        (flags == LISTENS && is_meant(name)).then(|| open_socket(inode))
    };
    table.lines().filter_map(one).collect()
}

/// The sockets that listen on a port of this machine.
fn sockets_of_port(host_port: &str) -> Option<Vec<PathBuf>> {
    const LISTENS: &str = "0A";
    let address: SocketAddr = host_port.parse().ok()?;
    if !address.ip().is_loopback() {
        return None;
    }
    let end = format!(":{:04X}", address.port());
    let tables = ["/proc/net/tcp", "/proc/net/tcp6"].map(fs::read_to_string);
    let sockets = tables.iter().flatten().flat_map(|table| table.lines()).filter_map(|line| {
        let fields: Vec<&str> = line.split_ascii_whitespace().collect();
        let is_meant = fields.get(1)?.ends_with(&end) && *fields.get(3)? == LISTENS;
        is_meant.then(|| open_socket(fields[9]))
    });
    Some(sockets.collect())
}

/// The process that listens: of those that have one of the sockets open, the parent of the others.
/// Only root sees what others have open.
fn port_listener(sockets: &[PathBuf], all: &[Process]) -> Option<u32> {
    let holders: Vec<&Process> =
        all.iter().filter(|process| has_open(process.id, sockets)).collect();
    let is_first = |process: &&&Process| holders.iter().all(|other| other.id != process.parent);
    holders.iter().find(is_first).map(|process| process.id)
}

fn open_socket(inode: &str) -> PathBuf {
    PathBuf::from(format!("socket:[{inode}]"))
}

/// Whether a process has one of these sockets open.
fn has_open(id: u32, sockets: &[PathBuf]) -> bool {
    let files = fs::read_dir(format!("/proc/{id}/fd")).into_iter().flatten();
    files.flatten().any(|file| fs::read_link(file.path()).is_ok_and(|to| sockets.contains(&to)))
}

fn processes() -> Vec<Process> {
    let entries = fs::read_dir("/proc").into_iter().flatten().filter_map(Result::ok);
    entries.filter_map(|entry| process(&entry.path())).collect()
}

fn process(folder: &Path) -> Option<Process> {
    let id = folder.file_name()?.to_str()?.parse().ok()?;
    let stat = fs::read_to_string(folder.join("stat")).ok()?;
    // The name is in brackets and may contain brackets.
    let (start, rest) = stat.rsplit_once(") ")?;
    let name = start.split_once('(')?.1.to_owned();
    let mut fields = rest.split(' ');
    let is_stopped = matches!(fields.next()?, "T" | "t");
    Some(Process { id, parent: fields.next()?.parse().ok()?, name, is_stopped })
}
