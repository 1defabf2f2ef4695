//! An application that takes connections and does not answer: what its processes are doing.

use std::{fs, path::Path};

use fcgi_tokio::{Address, Target};
use rustix::net::{
    AddressFamily, SocketAddrUnix, SocketFlags, SocketType, connect, socket_with,
    sockopt::socket_peercred,
};

use super::Cause;

/// A process, as `/proc` has it.
#[derive(Debug)]
struct Process {
    id: u32,
    parent: u32,
    name: String,
    is_stopped: bool,
}

/// Why no answer comes on a connection that was made.
pub(super) fn silent(address: &Address) -> Cause {
    if let Some(cause) = stopped(address) {
        return cause;
    }
    Cause::new(
        "busy",
        "all of its workers are busy, or what it runs hangs",
        "look at what they do (fcgi status), allow more of them (pm.max_children), or a longer \
         --timeout",
    )
}

/// Why no connection is made: the kernel holds as many as may wait.
pub(super) fn queue_full(address: &Address) -> Cause {
    if let Some(cause) = stopped(address) {
        return cause;
    }
    Cause::new(
        "queue-full",
        "the socket's queue is full: all of its workers are busy, or it is stopped",
        "look at what they do, allow more of them (pm.max_children), or restart it",
    )
}

/// Whether the processes that should answer were stopped by a signal.
fn stopped(address: &Address) -> Option<Cause> {
    let Target::Unix(path) = address.target() else { return None };
    let listener = listener(path)?;
    let all = processes();
    let listener = all.iter().find(|process| process.id == listener)?;
    let workers: Vec<&Process> =
        all.iter().filter(|process| process.parent == listener.id).collect();
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

/// The process that listens at a socket, if it is of this process-id namespace.
fn listener(path: &Path) -> Option<u32> {
    let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
    let socket = socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None).ok()?;
    connect(&socket, &SocketAddrUnix::new(path).ok()?).ok()?;
    let id = socket_peercred(&socket).ok()?.pid.as_raw_nonzero().get().unsigned_abs();
    // systemd listens for others.
    (id != 1).then_some(id)
}

fn processes() -> Vec<Process> {
    let entries = fs::read_dir("/proc").into_iter().flatten().filter_map(Result::ok);
    entries.filter_map(|entry| process(&entry.path())).collect()
}

fn process(folder: &Path) -> Option<Process> {
    let id = folder.file_name()?.to_str()?.parse().ok()?;
    let stat = fs::read_to_string(folder.join("stat")).ok()?;
    // The name is in brackets, and may hold some.
    let (start, rest) = stat.rsplit_once(") ")?;
    let name = start.split_once('(')?.1.to_owned();
    let mut fields = rest.split(' ');
    let is_stopped = matches!(fields.next()?, "T" | "t");
    Some(Process { id, parent: fields.next()?.parse().ok()?, name, is_stopped })
}
