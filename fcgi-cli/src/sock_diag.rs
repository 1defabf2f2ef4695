//! Connections that wait to be accepted, as counted by the kernel and shown by `ss -xln`. php-fpm
//! always reports 0 for unix sockets.
//!
//! The kernel reports only sockets of its caller's network namespace, over netlink (sock_diag(7)),
//! and requires no privilege.

use std::{
    fmt, io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    path::{Path, PathBuf},
};

use fcgi_engine::{Address, Target};

/// How many connections wait at a listening socket, and how many may.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Queue {
    pub(crate) waiting: u32,
    /// The listener's backlog.
    pub(crate) limit: u32,
}

/// Why the kernel does not know an address's queue.
#[derive(Debug)]
pub(crate) enum NoQueue {
    /// The address is on another machine.
    OtherMachine(IpAddr),
    /// Nobody listens there, or only in another network namespace, as in most containers.
    NotHere,
    /// The address has no file, or its name can't be resolved.
    NoAddress(io::Error),
    /// The kernel does not support this, or not for us.
    Refused(io::Error),
}

impl fmt::Display for NoQueue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::OtherMachine(ip) => write!(f, "{ip} is not an address of this machine"),
            Self::NotHere => f.write_str("no such listener in this network namespace"),
            Self::NoAddress(error) => write!(f, "{error}"),
            Self::Refused(error) => write!(f, "sock_diag: {error}"),
        }
    }
}

/// A listening socket on a path.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct UnixListener {
    /// The name that it was bound to, which may be relative to another folder or root than ours.
    pub(crate) name: PathBuf,
    pub(crate) queue: Queue,
    inode: u64,
    device: u64,
}

/// A listening TCP port.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct TcpListener {
    pub(crate) address: SocketAddr,
    pub(crate) queue: Queue,
}

/// Asks the kernel how many connections wait at `address`. A host's name is resolved first. If
/// several processes share a port, their queues are added.
pub(crate) async fn accept_queue(address: &Address) -> Result<Queue, NoQueue> {
    match address.target() {
        Target::Unix(path) => unix_queue(path),
        Target::Tcp(host_port) => {
            let found = tokio::net::lookup_host(host_port).await.map_err(NoQueue::NoAddress)?;
            tcp_queue(found)
        }
        _ => Err(NoQueue::NotHere),
    }
}

/// The same without resolving a name: for a unix socket, or an IP address and port.
pub(crate) fn queue_now(address: &Address) -> Option<Queue> {
    match address.target() {
        Target::Unix(path) => unix_queue(path).ok(),
        Target::Tcp(host_port) => tcp_queue(std::iter::once(host_port.parse().ok()?)).ok(),
        _ => None,
    }
}

fn unix_queue(path: &Path) -> Result<Queue, NoQueue> {
    use std::os::unix::fs::MetadataExt;

    let file = std::fs::metadata(path).map_err(NoQueue::NoAddress)?;
    let listeners = unix_listeners().map_err(NoQueue::Refused)?;
    let here = |it: &&UnixListener| it.inode == file.ino() && it.device == file.dev();
    // On overlay file systems the kernel sees other numbers than we do; then compare the names.
    let whole = std::fs::canonicalize(path).unwrap_or_default();
    let named = |it: &&UnixListener| it.name == path || it.name == whole;
    let found = listeners.iter().find(here).or_else(|| listeners.iter().find(named));
    found.map(|listener| listener.queue).ok_or(NoQueue::NotHere)
}

fn tcp_queue(found: impl Iterator<Item = SocketAddr>) -> Result<Queue, NoQueue> {
    let listeners = tcp_listeners().map_err(NoQueue::Refused)?;
    let mut missing = NoQueue::NotHere;
    for address in found {
        if !is_here(address.ip()) {
            missing = NoQueue::OtherMachine(address.ip());
            continue;
        }
        // A listener on the exact address takes precedence over one on all addresses.
        let (v4, v6) = (Ipv4Addr::UNSPECIFIED.into(), Ipv6Addr::UNSPECIFIED.into());
        let takers = [address.ip().to_canonical(), v4, v6];
        let usable = if address.is_ipv4() { &takers[..] } else { &[takers[0], v6] };
        for ip in usable {
            let taker = SocketAddr::new(*ip, address.port());
            let shared = listeners.iter().filter(|it| it.address == taker).map(|it| it.queue);
            if let Some(queue) = shared.reduce(|one, other| Queue {
                waiting: one.waiting.saturating_add(other.waiting),
                limit: one.limit.saturating_add(other.limit),
            }) {
                return Ok(queue);
            }
        }
    }
    Err(missing)
}

/// Whether the address belongs to this machine: only such addresses can be bound.
fn is_here(ip: IpAddr) -> bool {
    ip.is_loopback() || std::net::UdpSocket::bind((ip, 0)).is_ok()
}

#[cfg(target_os = "linux")]
pub(crate) use netlink::{tcp_listeners, unix_listeners};

#[cfg(not(target_os = "linux"))]
pub(crate) fn unix_listeners() -> io::Result<Vec<UnixListener>> {
    Err(io::ErrorKind::Unsupported.into())
}

#[cfg(not(target_os = "linux"))]
pub(crate) fn tcp_listeners() -> io::Result<Vec<TcpListener>> {
    Err(io::ErrorKind::Unsupported.into())
}

#[cfg(target_os = "linux")]
mod netlink {
    use std::{ffi::OsStr, os::unix::ffi::OsStrExt, time::Duration};

    use rustix::{
        fs::makedev,
        net::{
            AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, netlink::SOCK_DIAG, recv,
            send, socket_with, sockopt,
        },
    };

    use super::{
        IpAddr, Ipv4Addr, Ipv6Addr, PathBuf, Queue, SocketAddr, TcpListener, UnixListener, io,
    };

    /// SOCK_DIAG_BY_FAMILY
    const BY_FAMILY: u16 = 20;
    const NLMSG_ERROR: u16 = 2;
    const NLMSG_DONE: u16 = 3;
    /// NLM_F_REQUEST and NLM_F_DUMP
    const DUMP: u16 = 0x301;
    /// Sockets in the state TCP_LISTEN, which unix sockets have too.
    const LISTENING: u32 = 1 << 10;
    const IPPROTO_TCP: u8 = 6;
    /// UDIAG_SHOW_NAME, UDIAG_SHOW_VFS and UDIAG_SHOW_RQLEN
    const NAME_FILE_QUEUE: u32 = 0x13;
    const UNIX_DIAG_NAME: u16 = 0;
    const UNIX_DIAG_VFS: u16 = 1;
    const UNIX_DIAG_RQLEN: u16 = 4;
    const HEADER: usize = 16;
    /// `struct unix_diag_msg`; attributes follow.
    const UNIX_MESSAGE: usize = 16;
    /// The kernel answers at once, or never.
    const PATIENCE: Duration = Duration::from_secs(1);

    /// The listening unix sockets that have a path.
    pub(crate) fn unix_listeners() -> io::Result<Vec<UnixListener>> {
        let mut request = [0; 24];
        request[0] = family(AddressFamily::UNIX);
        request[4..8].copy_from_slice(&LISTENING.to_ne_bytes());
        request[12..16].copy_from_slice(&NAME_FILE_QUEUE.to_ne_bytes());
        let mut listeners = Vec::new();
        dump(&request, |message| listeners.extend(unix_listener(message)))?;
        Ok(listeners)
    }

    /// The listening TCP ports.
    pub(crate) fn tcp_listeners() -> io::Result<Vec<TcpListener>> {
        let mut listeners = Vec::new();
        for family in [AddressFamily::INET, AddressFamily::INET6].map(family) {
            let mut request = [0; 56];
            request[0] = family;
            request[1] = IPPROTO_TCP;
            request[4..8].copy_from_slice(&LISTENING.to_ne_bytes());
            dump(&request, |message| listeners.extend(tcp_listener(message)))?;
        }
        Ok(listeners)
    }

    #[expect(clippy::cast_possible_truncation, reason = "the kernel has a byte for it")]
    fn family(family: AddressFamily) -> u8 {
        family.as_raw() as u8
    }

    /// Sends a request and passes on each message of the answer, without its header.
    fn dump(request: &[u8], mut each: impl FnMut(&[u8])) -> io::Result<()> {
        let socket = socket_with(
            AddressFamily::NETLINK,
            SocketType::DGRAM,
            SocketFlags::CLOEXEC,
            Some(SOCK_DIAG),
        )?;
        sockopt::set_socket_timeout(&socket, sockopt::Timeout::Recv, Some(PATIENCE))?;
        let mut message = Vec::with_capacity(HEADER + request.len());
        let length = u32::try_from(HEADER + request.len()).unwrap_or(u32::MAX);
        message.extend(length.to_ne_bytes());
        message.extend(BY_FAMILY.to_ne_bytes());
        message.extend(DUMP.to_ne_bytes());
        message.extend([0; 8]);
        message.extend(request);
        send(&socket, &message, SendFlags::empty())?;

        let mut buffer = vec![0; 32 * 1024];
        loop {
            let (n, _) = recv(&socket, &mut buffer[..], RecvFlags::empty())?;
            let mut rest = &buffer[..n];
            if rest.is_empty() {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            while let Some(length) = u32_at(rest, 0) {
                let length = usize::try_from(length).unwrap_or(usize::MAX);
                let Some(message) = rest.get(HEADER..length) else { break };
                match u16_at(rest, 4) {
                    Some(NLMSG_DONE) => return Ok(()),
                    Some(NLMSG_ERROR) => {
                        let errno = message.get(..4).and_then(|it| it.try_into().ok());
                        let errno = errno.map_or(0, i32::from_ne_bytes);
                        return Err(io::Error::from_raw_os_error(errno.saturating_neg()));
                    }
                    _ => each(message),
                }
                rest = rest.get(length.next_multiple_of(4)..).unwrap_or_default();
            }
        }
    }

    fn unix_listener(message: &[u8]) -> Option<UnixListener> {
        let (mut name, mut file, mut queue) = (None, None, None);
        let mut rest = message.get(UNIX_MESSAGE..)?;
        while let (Some(length), Some(kind)) = (u16_at(rest, 0), u16_at(rest, 2)) {
            let length = usize::from(length);
            let Some(value) = rest.get(4..length) else { break };
            match kind {
                UNIX_DIAG_NAME => name = Some(value),
                UNIX_DIAG_VFS => file = u32_at(value, 0).zip(u32_at(value, 4)),
                UNIX_DIAG_RQLEN => queue = u32_at(value, 0).zip(u32_at(value, 4)),
                _ => {}
            }
            rest = rest.get(length.next_multiple_of(4)..).unwrap_or_default();
        }
        let (waiting, limit) = queue?;
        let (inode, device) = file?;
        let name = name?.split(|byte| *byte == 0).next()?;
        Some(UnixListener {
            name: PathBuf::from(OsStr::from_bytes(name)),
            queue: Queue { waiting, limit },
            inode: inode.into(),
            device: makedev(device >> 20, device & 0xf_ffff),
        })
    }

    /// `struct inet_diag_msg`
    fn tcp_listener(message: &[u8]) -> Option<TcpListener> {
        let ip: IpAddr = match *message.first()? {
            it if it == family(AddressFamily::INET) => {
                Ipv4Addr::from(<[u8; 4]>::try_from(message.get(8..12)?).ok()?).into()
            }
            _ => Ipv6Addr::from(<[u8; 16]>::try_from(message.get(8..24)?).ok()?).into(),
        };
        let port = u16::from_be_bytes(message.get(4..6)?.try_into().ok()?);
        let (waiting, limit) = (u32_at(message, 56)?, u32_at(message, 60)?);
        let address = SocketAddr::new(ip.to_canonical(), port);
        Some(TcpListener { address, queue: Queue { waiting, limit } })
    }

    fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
        Some(u16::from_ne_bytes(bytes.get(at..at + 2)?.try_into().ok()?))
    }

    fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
        Some(u32::from_ne_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
    }
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use std::{
        net::{TcpListener, TcpStream},
        os::unix::net::{UnixListener, UnixStream},
    };

    use super::*;

    async fn waiting(address: &Address) -> u32 {
        accept_queue(address).await.expect("the kernel knows").waiting
    }

    #[tokio::test]
    async fn counts_what_waits_at_a_unix_socket() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("socket");
        let listener = UnixListener::bind(&path).expect("bind");
        let address = Address::unix(&path);
        assert_eq!(waiting(&address).await, 0);
        let _callers: Vec<_> =
            (0..3).map(|_| UnixStream::connect(&path).expect("connect")).collect();
        assert_eq!(waiting(&address).await, 3);
        // A link leads to the same socket.
        let link = folder.path().join("link");
        std::os::unix::fs::symlink(&path, &link).expect("a link");
        assert_eq!(waiting(&Address::unix(&link)).await, 3);
        let _accepted = listener.accept().expect("accept");
        assert_eq!(waiting(&address).await, 2);
        // Moved, as seen from another root: the file tells which it is.
        let moved = folder.path().join("moved");
        std::fs::rename(&path, &moved).expect("a new name");
        assert_eq!(waiting(&Address::unix(&moved)).await, 2);
        // The file of a listener that has gone.
        drop(listener);
        assert!(matches!(accept_queue(&Address::unix(&moved)).await, Err(NoQueue::NotHere)));
    }

    #[tokio::test]
    async fn counts_what_waits_at_a_port() {
        for ip in ["127.0.0.1", "0.0.0.0", "::1", "::"] {
            let Ok(listener) = TcpListener::bind((ip, 0)) else {
                assert!(ip.contains(':'), "{ip} can be bound");
                continue;
            };
            let port = listener.local_addr().expect("an address").port();
            let loopback = if ip == "::1" { "[::1]" } else { "127.0.0.1" };
            let text = format!("{loopback}:{port}");
            let address: Address = text.parse().expect("an address");
            let _callers: Vec<_> =
                (0..2).map(|_| TcpStream::connect(&text).expect("connect")).collect();
            assert_eq!(waiting(&address).await, 2, "{ip}");
        }
    }

    #[tokio::test]
    async fn says_what_it_can_not_know() {
        let other: Address = "192.0.2.1:9000".parse().expect("an address");
        assert!(matches!(accept_queue(&other).await, Err(NoQueue::OtherMachine(_))));
        let missing = Address::unix("/nonexistent/socket");
        assert!(matches!(accept_queue(&missing).await, Err(NoQueue::NoAddress(_))));
    }
}
