//! Checks sockets in `/proc`: whether somebody listens, and whether bytes have arrived.

use std::{net::SocketAddr, path::Path};

/// The flag of a listening socket in `/proc/net/unix`.
const ACCEPTS: u32 = 0x10000;

/// The open sockets of a server at this path. Each item says whether that socket listens.
pub(crate) fn sockets(path: &Path) -> Vec<bool> {
    let path = path.to_str().unwrap();
    let sockets = std::fs::read_to_string("/proc/net/unix").unwrap();
    let flags = |socket: &str| {
        let flags = socket.strip_suffix(path)?.split_whitespace().nth(3)?;
        u32::from_str_radix(flags, 16).ok()
    };
    sockets.lines().filter_map(flags).map(|flags| flags & ACCEPTS != 0).collect()
}

/// Whether somebody listens there. The path alone does not say so: it exists a moment earlier, and
/// connections in between are refused.
///
/// # Panics
/// If the system has no `/proc/net/unix`, or the path is not UTF-8.
#[must_use]
pub fn listens(path: &Path) -> bool {
    sockets(path).into_iter().any(|listens| listens)
}

/// Whether somebody listens at this IPv4 port. Unlike a connection, the question leaves nothing in the
/// listener's queue.
pub(crate) fn listens_at(port: u16) -> bool {
    let port = format!(":{port:04X}");
    let sockets = std::fs::read_to_string("/proc/net/tcp").unwrap();
    let listens = |line: &str| {
        // Number, address, the peer's, state.
        let mut columns = line.split_whitespace().skip(1);
        Some(columns.next()?.ends_with(&port) && columns.nth(1)? == "0A")
    };
    sockets.lines().skip(1).filter_map(listens).any(|listens| listens)
}

/// Whether all bytes that were sent from this local address, over an IPv4 connection, have arrived
/// at the other end. On a busy machine even the loopback takes time.
pub(crate) fn has_arrived(local: SocketAddr) -> bool {
    let port = format!(":{:04X}", local.port());
    let sockets = std::fs::read_to_string("/proc/net/tcp").unwrap();
    let unsent = |line: &str| {
        // Number, address, the peer's, state, bytes on their way and bytes to read.
        let mut columns = line.split_whitespace().skip(1);
        let own = columns.next()?.ends_with(&port);
        let (on_the_way, _) = columns.nth(2)?.split_once(':')?;
        own.then(|| on_the_way.bytes().any(|digit| digit != b'0'))
    };
    !sockets.lines().skip(1).filter_map(unsent).any(|unsent| unsent)
}
