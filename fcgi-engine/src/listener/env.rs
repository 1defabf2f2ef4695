//! What the process was started with: sockets from systemd, descriptor 0, FCGI_ADDR.

use std::{
    env, io,
    os::fd::{IntoRawFd, OwnedFd},
    process,
    sync::{Mutex, PoisonError},
};

use listenfd::ListenFd;
use rustix::net;

use super::{Listener, ListeningSocket, StdListener, advice::Failure, bind};
use crate::{Address, Error};

/// More than a process can have open.
const MOST: usize = 1 << 16;

/// The sockets that systemd passed, until somebody takes them.
static PASSED: Mutex<Option<Vec<Passed>>> = Mutex::new(None);

/// A descriptor that systemd passed.
#[derive(Debug)]
struct Passed {
    name: String,
    socket: Result<StdListener, Failure>,
}

/// The inherited listener, if there is one. A name selects among systemd's sockets only.
pub(super) fn inherited(name: Option<&str>) -> Result<Option<Listener>, Error> {
    match passed(name)? {
        None if name.is_none() => at_stdin(),
        passed => Ok(passed),
    }
}

/// The sockets that systemd passed, by name or all that are left.
pub(super) fn passed(name: Option<&str>) -> Result<Option<Listener>, Error> {
    let taken = {
        let mut passed = PASSED.lock().unwrap_or_else(PoisonError::into_inner);
        let all = passed.get_or_insert_with(passed_by_systemd);
        let wanted = |passed: &Passed| name.is_none_or(|name| passed.name == name);
        let (taken, left) = std::mem::take(all).into_iter().partition::<Vec<_>, _>(wanted);
        *all = left;
        taken
    };
    if taken.is_empty() {
        return Ok(None);
    }
    let socket = |Passed { name, socket }| match socket {
        Ok(listener) => Ok(ListeningSocket::inherited(listener)),
        Err(failure) => Err(failure.at(&format!("the descriptor {name:?} that systemd passed"))),
    };
    let sockets = taken.into_iter().map(socket).collect::<Result<_, _>>()?;
    Ok(Some(Listener { sockets }))
}

/// Descriptor 0, if it listens.
fn at_stdin() -> Result<Option<Listener>, Error> {
    if net::sockopt::socket_acceptconn(io::stdin()) != Ok(true) {
        return Ok(None);
    }
    let listener = bind::take_stdin().map_err(|failure| failure.at("-"))?;
    Ok(Some(Listener { sockets: vec![ListeningSocket::inherited(listener)] }))
}

/// The address in FCGI_ADDR.
pub(super) fn address() -> Result<Option<Address>, Error> {
    match env::var("FCGI_ADDR") {
        Ok(text) if !text.is_empty() => Ok(Some(text.parse()?)),
        _ => Ok(None),
    }
}

fn passed_by_systemd() -> Vec<Passed> {
    let number = |name| env::var(name).ok()?.parse::<usize>().ok();
    let Some(count) = number("LISTEN_FDS").filter(|count| (1..MOST).contains(count)) else {
        return Vec::new();
    };
    // The sockets were meant for a parent process, not for this one.
    if number("LISTEN_PID") != usize::try_from(process::id()).ok() {
        return Vec::new();
    }
    let names = env::var("LISTEN_FDNAMES").unwrap_or_default();
    let mut names = names.split(':');
    let mut fds = ListenFd::from_env();
    (0..count)
        .map(|index| {
            // The name that systemd's own library uses.
            let name = names.next().filter(|name| !name.is_empty()).unwrap_or("unknown").to_owned();
            let fd = match fds.take_unix_listener(index) {
                Ok(unix) => Ok(unix.map(OwnedFd::from)),
                Err(_) => fds.take_tcp_listener(index).map(|tcp| tcp.map(OwnedFd::from)),
            };
            let socket = match fd {
                // With a number that is too large, this may be anybody's: it stays open.
                Ok(Some(fd)) if net::sockopt::socket_acceptconn(&fd) != Ok(true) => {
                    let source = io::Error::from(io::ErrorKind::InvalidInput);
                    let descriptor = fd.into_raw_fd();
                    let what = format!("descriptor {descriptor} is not a listening socket");
                    Err(Failure::new(what, source))
                }
                Ok(Some(fd)) => StdListener::from_fd(fd),
                Ok(None) => Err(Failure::from(io::Error::from(io::ErrorKind::NotFound))),
                Err(error) => {
                    Err(Failure::new("it is not a stream socket: use ListenStream=", error))
                }
            };
            Passed { name, socket }
        })
        .collect()
}
