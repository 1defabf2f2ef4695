//! Where clients connect: TCP ports and unix sockets, opened here or by systemd.

use std::{
    io,
    task::{Context, Poll},
};

use fcgi_engine::{
    ListeningSocket,
    socket::{SocketFile, StdListener},
};
use fcgi_tokio::{Address, Target};
use listenfd::ListenFd;
use tokio::net::{TcpListener, UnixListener};

use super::{
    client::{Client, Ends},
    stopped::Stopped,
    stream::Stream,
};

/// Where to listen when nothing is said.
const DEFAULT: &str = "127.0.0.1:8080";
/// Connections that may wait to be accepted.
const BACKLOG: i32 = 1024;

pub(super) struct Listener {
    socket: Socket,
    /// For people: a URL, or a unix socket.
    name: String,
    /// Removed with the listener.
    _file: Option<SocketFile>,
}

enum Socket {
    Tcp(TcpListener),
    Unix(UnixListener),
}

/// All that is listened at: what systemd has opened, and what the options name.
pub(super) fn listen(addresses: &[Address]) -> Result<Vec<Listener>, Stopped> {
    let mut listeners = inherited()?;
    let default;
    let addresses = match addresses {
        [] if listeners.is_empty() => {
            default = [DEFAULT.parse().map_err(Stopped::usage)?];
            &default
        }
        addresses => addresses,
    };
    for address in addresses {
        let listener = ListeningSocket::bind(address).and_then(Listener::new);
        listeners.push(listener.map_err(|error| failed(address, &error))?);
    }
    Ok(listeners)
}

/// The sockets that systemd hands over (LISTEN_FDS).
fn inherited() -> Result<Vec<Listener>, Stopped> {
    let mut given = ListenFd::from_env();
    let sockets = (0..given.len()).map(|at| {
        let listener = match given.take_tcp_listener(at) {
            Ok(Some(tcp)) => StdListener::Tcp(tcp),
            _ => match given.take_unix_listener(at)? {
                Some(unix) => StdListener::Unix(unix),
                None => return Err(io::ErrorKind::InvalidInput.into()),
            },
        };
        let fd = match listener {
            StdListener::Tcp(tcp) => tcp.into(),
            StdListener::Unix(unix) => unix.into(),
        };
        Listener::new(ListeningSocket::from_fd(fd)?)
    });
    sockets
        .collect::<io::Result<_>>()
        .map_err(|error| Stopped::io(format!("listen at a socket of LISTEN_FDS: {error}")))
}

fn failed(address: &Address, error: &io::Error) -> Stopped {
    let address = address.to_string();
    let address = address.strip_prefix("tcp:").unwrap_or(&address);
    let hint = match error.kind() {
        io::ErrorKind::AddrInUse => "; --listen HOST:PORT takes another",
        io::ErrorKind::PermissionDenied if !address.starts_with("unix:") => {
            "; ports below 1024 are for root, --listen HOST:PORT takes another"
        }
        _ => "",
    };
    Stopped::io(format!("listen at {address}: {error}{hint}"))
}

impl Listener {
    fn new(socket: ListeningSocket) -> io::Result<Self> {
        let ListeningSocket { listener, address, file } = socket;
        let socket = match listener {
            StdListener::Tcp(tcp) => {
                rustix::net::listen(&tcp, BACKLOG)?;
                Socket::Tcp(TcpListener::from_std(tcp)?)
            }
            StdListener::Unix(unix) => {
                rustix::net::listen(&unix, BACKLOG)?;
                Socket::Unix(UnixListener::from_std(unix)?)
            }
        };
        let name = match (&socket, address.target()) {
            (Socket::Tcp(tcp), _) => format!("http://{}/", tcp.local_addr()?),
            (Socket::Unix(_), Target::Unix(_)) => address.to_string(),
            (Socket::Unix(_), _) => "a unix socket".to_owned(),
        };
        Ok(Self { socket, name, _file: file })
    }

    pub(super) fn name(&self) -> &str {
        &self.name
    }

    pub(super) fn poll_accept(&self, cx: &mut Context<'_>) -> Poll<io::Result<Client>> {
        match &self.socket {
            Socket::Tcp(tcp) => tcp.poll_accept(cx).map_ok(|(stream, remote)| {
                stream.set_nodelay(true)?;
                let local = Some(stream.local_addr()?);
                Ok(Client::new(Stream::Tcp(stream), Ends { remote: Some(remote), local }))
            }),
            Socket::Unix(unix) => unix.poll_accept(cx).map_ok(|(stream, _)| {
                let ends = Ends { remote: None, local: None };
                Ok(Client::new(Stream::Unix(stream), ends))
            }),
        }
        .map(|accepted| accepted.and_then(|client| client))
    }
}
