//! Where clients connect: TCP ports and unix sockets, opened here or by systemd.

use std::{
    future::poll_fn,
    io,
    os::fd::{AsFd, BorrowedFd},
    task::{Context, Poll, ready},
    time::Instant,
};

use fcgi_engine::{
    listener::StdListener,
    server::{Settings, Sockets, Tally},
    socket::Peer,
};
use fcgi_tokio::{self as fcgi, Address, Target};
use tokio::{
    net::{TcpListener, UnixListener},
    time::sleep_until,
};

use super::{
    client::{Client, Ends},
    options::Options,
    stopped::Stopped,
    stream::Stream,
};

/// Where to listen by default.
const DEFAULT: &str = "127.0.0.1:8080";

/// The listening sockets. Dropping them removes their files.
pub(super) struct Listeners {
    sockets: Sockets<Socket>,
    /// It admits everybody.
    tally: Tally,
    /// Their names for people: URLs, and unix sockets.
    names: Vec<String>,
}

enum Socket {
    Tcp(TcpListener),
    Unix(UnixListener),
}

/// All listening sockets: those that systemd has opened, and those of the options.
pub(super) fn listen(options: &Options) -> Result<Listeners, Stopped> {
    let mut listener = fcgi::Listener::passed().map_err(|error| failed(&error))?;
    let default;
    let addresses = match &options.listen[..] {
        [] if listener.is_none() => {
            default = [DEFAULT.parse().map_err(Stopped::usage)?];
            &default
        }
        addresses => addresses,
    };
    for address in addresses {
        let more = bind(address, options).map_err(|error| failed(&error))?;
        listener = Some(match listener {
            Some(listener) => listener.and(more),
            None => more,
        });
    }
    // There is one: that of the default, if no other.
    let listener = listener.ok_or_else(|| Stopped::usage("there is nowhere to listen"))?;
    Listeners::new(listener).map_err(|error| Stopped::io(error.report()))
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

impl Listeners {
    fn new(listener: fcgi::Listener) -> Result<Self, fcgi::Error> {
        let addresses: Vec<_> = listener.local_addrs().cloned().collect();
        let sockets = Sockets::adopt(listener, Socket::new)?;
        let names = sockets.iter().zip(&addresses).map(|(socket, address)| socket.name(address));
        let names = names.collect();
        Ok(Self { sockets, tally: Tally::new(Settings::new()), names })
    }

    pub(super) fn names(&self) -> &[String] {
        &self.names
    }

    /// The next connection of any of the sockets.
    ///
    /// # Errors
    /// A socket is unusable.
    pub(super) async fn accept(&mut self) -> Result<Client, fcgi::Error> {
        loop {
            if let Some(until) = self.sockets.paused_until(Instant::now) {
                sleep_until(until.into()).await;
            }
            let accepted = poll_fn(|cx| {
                let accept = |socket: &mut Socket| socket.poll_accept(cx);
                self.sockets.poll_accept(&self.tally, Instant::now, Socket::fd, accept)
            });
            // A client may be gone already.
            let client = accepted.await?.and_then(|(stream, peer)| client(stream, peer).ok());
            if let Some(client) = client {
                return Ok(client);
            }
        }
    }
}

fn client(stream: Stream, peer: Peer) -> io::Result<Client> {
    let remote = match peer {
        Peer::Tcp(remote) => Some(remote),
        _ => None,
    };
    let local = match &stream {
        Stream::Tcp(tcp) => {
            tcp.set_nodelay(true)?;
            Some(tcp.local_addr()?)
        }
        Stream::Unix(_) => None,
    };
    Ok(Client::new(stream, Ends { remote, local }))
}

impl Socket {
    fn new(listener: StdListener) -> io::Result<Self> {
        match listener {
            StdListener::Tcp(tcp) => TcpListener::from_std(tcp).map(Self::Tcp),
            StdListener::Unix(unix) => UnixListener::from_std(unix).map(Self::Unix),
            _ => Err(io::ErrorKind::Unsupported.into()),
        }
    }

    fn name(&self, address: &Address) -> String {
        match (self, address.target()) {
            (Self::Tcp(tcp), _) => match tcp.local_addr() {
                Ok(local) => format!("http://{local}/"),
                Err(_) => address.to_string(),
            },
            (Self::Unix(_), Target::Unix(_)) => address.to_string(),
            (Self::Unix(_), _) => "a unix socket".to_owned(),
        }
    }

    fn fd(&self) -> Option<BorrowedFd<'_>> {
        Some(match self {
            Self::Tcp(tcp) => tcp.as_fd(),
            Self::Unix(unix) => unix.as_fd(),
        })
    }

    fn poll_accept(&self, cx: &mut Context<'_>) -> Poll<io::Result<(Stream, Peer)>> {
        Poll::Ready(match self {
            Self::Tcp(tcp) => ready!(tcp.poll_accept(cx))
                .map(|(stream, remote)| (Stream::Tcp(stream), Peer::Tcp(remote))),
            Self::Unix(unix) => {
                ready!(unix.poll_accept(cx)).map(|(stream, _)| (Stream::Unix(stream), Peer::Unix))
            }
        })
    }
}
