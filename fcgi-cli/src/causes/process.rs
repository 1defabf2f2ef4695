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

/// The cause if no connection can be made because the kernel's queue is full.
pub(super) fn queue_full(address: &Address) -> Cause {
    if let Some(cause) = workers(address).as_ref().and_then(stopped) {
        return cause;
    }
    let full = match sock_diag::queue_now(address) {
        Some(queue) => format!("the socket's queue is full ({} of {})", queue.waiting, queue.limit),
        None => "the socket's queue is full".to_owned(),
    };
    Cause::new(
        "queue-full",
        format!("{full}: all of its workers are busy, or it is stopped"),
        "look at what they do, allow more of them (pm.max_children), or restart it",
    )
}

/// The process that listens, and its children.
struct Workers {
    listener: Process,
    workers: Vec<Process>,
}

fn workers(address: &Address) -> Option<Workers> {
    let all = processes();
    let id = match address.target() {
        Target::Unix(path) => listener(path)?,
        Target::Tcp(host_port) => port_listener(host_port, &all)?,
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
    Some(Workers { listener: listener?, workers })
}

/// Whether the processes that should answer were stopped by a signal.
fn stopped(found: &Workers) -> Option<Cause> {
    let Workers { listener, workers } = found;
    let who = match workers.len() {
        0 if listener.is_stopped => format!("process {} ({})", listener.id, listener.name),
        n @ 1.. if workers.iter().all(|worker| worker.is_stopped) => {
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

/// The process that listens on a port of this machine: of those that have the socket open, the
/// parent of the others. Only root sees what others have open.
fn port_listener(host_port: &str, all: &[Process]) -> Option<u32> {
    const LISTENS: &str = "0A";
    let address: SocketAddr = host_port.parse().ok()?;
    if !address.ip().is_loopback() {
        return None;
    }
    let end = format!(":{:04X}", address.port());
    let tables = ["/proc/net/tcp", "/proc/net/tcp6"].map(fs::read_to_string);
    let sockets: Vec<PathBuf> = tables
        .iter()
        .flatten()
        .flat_map(|table| table.lines())
        .filter_map(|line| {
            let fields: Vec<&str> = line.split_ascii_whitespace().collect();
            let is_meant = fields.get(1)?.ends_with(&end) && *fields.get(3)? == LISTENS;
            is_meant.then(|| PathBuf::from(format!("socket:[{}]", fields[9])))
        })
        .collect();
    let has_it = |id: u32| {
        let files = fs::read_dir(format!("/proc/{id}/fd")).into_iter().flatten();
        files.flatten().any(|file| fs::read_link(file.path()).is_ok_and(|to| sockets.contains(&to)))
    };
    let holders: Vec<&Process> = all.iter().filter(|process| has_it(process.id)).collect();
    let is_first = |process: &&&Process| holders.iter().all(|other| other.id != process.parent);
    holders.iter().find(is_first).map(|process| process.id)
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
