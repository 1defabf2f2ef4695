//! Where clients connect: TCP ports and unix sockets, opened here or by systemd.

use std::{
    io,
    task::{Context, Poll},
};

use fcgi_engine::listener::{ListeningSocket, SocketFile, StdListener};
use fcgi_tokio::{self as fcgi, Address, Target};
use tokio::net::{TcpListener, UnixListener};

use super::{
    client::{Client, Ends},
    options::Options,
    stopped::Stopped,
    stream::Stream,
};

/// Where to listen by default.
const DEFAULT: &str = "127.0.0.1:8080";

pub(super) struct Listener {
    socket: Socket,
    /// Its name for people: a URL, or a unix socket.
    name: String,
    /// Removes the file with the listener.
    _file: Option<SocketFile>,
}

enum Socket {
    Tcp(TcpListener),
    Unix(UnixListener),
}

/// All listeners: those that systemd has opened, and those of the options.
pub(super) fn listen(options: &Options) -> Result<Vec<Listener>, Stopped> {
    let passed = fcgi::Listener::passed().map_err(|error| failed(&error))?;
    let mut sockets = passed.map(fcgi::Listener::into_sockets).unwrap_or_default();
    let default;
    let addresses = match &options.listen[..] {
        [] if sockets.is_empty() => {
            default = [DEFAULT.parse().map_err(Stopped::usage)?];
            &default
        }
        addresses => addresses,
    };
    for address in addresses {
        let listener = bind(address, options).map_err(|error| failed(&error))?;
        sockets.extend(listener.into_sockets());
    }
    let listeners = sockets.into_iter().map(Listener::new).collect::<io::Result<_>>();
    listeners.map_err(|error| Stopped::io(format!("listen: {error}")))
}

fn bind(address: &Address, options: &Options) -> Result<fcgi::Listener, fcgi::Error> {
    let mut builder = fcgi::Listener::builder(address.clone());
    if let Some(mode) = options.listen_mode {
        builder = builder.mode(mode);
    }
    if let Some(owner) = &options.listen_owner {
        builder = builder.owner(owner.as_str());
    }
    if let Some(group) = &options.listen_group {
        builder = builder.group(group.as_str());
    }
    builder.bind()
}

fn failed(error: &fcgi::Error) -> Stopped {
    let fcgi::Error::Listen { address, advice, source } = error else {
        return Stopped::io(error.report());
    };
    // Removes the scheme of the library's addresses, since this is HTTP.
    let (is_tcp, address) = match address.strip_prefix("tcp:") {
        Some(address) => (true, address),
        None => (false, &**address),
    };
    let advice = match source.kind() {
        io::ErrorKind::AddrInUse if is_tcp => "--listen HOST:PORT takes another",
        _ => advice,
    };
    Stopped::io(format!("listen at {address}: {source}; {advice}"))
}

impl Listener {
    fn new(socket: ListeningSocket) -> io::Result<Self> {
        let ListeningSocket { listener, address, file, .. } = socket;
        listener.set_nonblocking()?;
        let socket = match listener {
            StdListener::Tcp(tcp) => Socket::Tcp(TcpListener::from_std(tcp)?),
            StdListener::Unix(unix) => Socket::Unix(UnixListener::from_std(unix)?),
            _ => return Err(io::ErrorKind::Unsupported.into()),
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
