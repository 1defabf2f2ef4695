//! tokio's reactor, timers and spawn.

use std::{
    future::Future,
    io::{self, IoSlice},
    net::IpAddr,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    pin::Pin,
    task::{Context, Poll, ready},
    time::Instant,
};

use fcgi_driver::{Address, StdListener, runtime};
use rustix::net::{SocketAddrAny, SocketFlags};
use tokio::{
    io::{Interest, unix::AsyncFd},
    net::{TcpStream, UnixStream},
    time::Sleep,
};

/// The tokio runtime: the current one, wherever it is used.
#[derive(Clone, Copy, Debug)]
pub enum Tokio {}

/// A connected socket, unix or TCP; TCP without Nagle's delay.
///
/// It is registered for reading alone: tokio's own streams are registered for writing too, and are
/// woken each time the peer has read something.
#[derive(Debug)]
pub struct Transport {
    socket: AsyncFd<OwnedFd>,
    /// A second registration, from the first time that the socket was full.
    writable: Option<AsyncFd<OwnedFd>>,
}

/// A listening socket.
#[derive(Debug)]
pub struct TransportListener {
    socket: AsyncFd<OwnedFd>,
    is_tcp: bool,
}

/// A timer.
#[derive(Debug, Default)]
pub struct Timer(Option<Pin<Box<Sleep>>>);

impl runtime::Runtime for Tokio {
    type Transport = Transport;
    type Listener = TransportListener;
    type Timer = Timer;

    async fn connect(address: &Address) -> io::Result<Transport> {
        match address {
            Address::Unix(path) => {
                Transport::new(UnixStream::connect(path).await?.into_std()?.into())
            }
            Address::Tcp(host_port) => {
                let stream = TcpStream::connect(&**host_port).await?;
                stream.set_nodelay(true)?;
                Transport::new(stream.into_std()?.into())
            }
            Address::Stdin => Err(io::ErrorKind::Unsupported.into()),
        }
    }

    fn listen(listener: StdListener) -> io::Result<TransportListener> {
        let (fd, is_tcp): (OwnedFd, bool) = match listener {
            StdListener::Unix(unix) => (unix.into(), false),
            StdListener::Tcp(tcp) => (tcp.into(), true),
        };
        let socket = AsyncFd::with_interest(fd, Interest::READABLE)?;
        Ok(TransportListener { socket, is_tcp })
    }

    fn poll_accept(
        listener: &mut TransportListener,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<(Transport, Option<IpAddr>)>> {
        let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
        loop {
            let mut guard = ready!(listener.socket.poll_read_ready(cx))?;
            let accepted = guard.try_io(|socket| {
                rustix::net::acceptfrom_with(socket.get_ref(), flags).map_err(io::Error::from)
            });
            let Ok(accepted) = accepted else { continue };
            let (fd, peer) = accepted?;
            if listener.is_tcp {
                rustix::net::sockopt::set_tcp_nodelay(&fd, true)?;
            }
            let transport = Transport::new(fd)?;
            return Poll::Ready(Ok((transport, peer.and_then(ip))));
        }
    }

    fn timer() -> Timer {
        Timer::default()
    }

    fn now() -> Instant {
        tokio::time::Instant::now().into_std()
    }

    fn spawn(future: impl Future<Output = ()> + Send + 'static) {
        tokio::spawn(future);
    }
}

fn ip(peer: SocketAddrAny) -> Option<IpAddr> {
    std::net::SocketAddr::try_from(peer).ok().map(|peer| peer.ip())
}

impl Transport {
    fn new(fd: OwnedFd) -> io::Result<Self> {
        Ok(Self { socket: AsyncFd::with_interest(fd, Interest::READABLE)?, writable: None })
    }

    fn poll_writable(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let writable = match &mut self.writable {
            Some(writable) => writable,
            None => {
                let fd = self.socket.get_ref().try_clone()?;
                self.writable.insert(AsyncFd::with_interest(fd, Interest::WRITABLE)?)
            }
        };
        ready!(writable.poll_write_ready(cx))?.retain_ready();
        Poll::Ready(Ok(()))
    }

    fn clear_writable(&mut self, cx: &mut Context<'_>) {
        if let Some(Poll::Ready(Ok(mut guard))) =
            self.writable.as_ref().map(|writable| writable.poll_write_ready(cx))
        {
            guard.clear_ready();
        }
    }
}

impl runtime::Transport for Transport {
    fn poll_read_ready(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.socket.poll_read_ready(cx))?.retain_ready();
        Poll::Ready(Ok(()))
    }

    fn poll_read(&mut self, cx: &mut Context<'_>, buf: &mut [u8]) -> Poll<io::Result<usize>> {
        loop {
            let mut guard = ready!(self.socket.poll_read_ready(cx))?;
            match rustix::io::read(self.socket.get_ref(), &mut *buf) {
                Ok(n) => {
                    // A short read took all there was; more will make a new event.
                    if 0 < n && n < buf.len() {
                        guard.clear_ready();
                    }
                    return Poll::Ready(Ok(n));
                }
                Err(rustix::io::Errno::AGAIN) => guard.clear_ready(),
                Err(error) => return Poll::Ready(Err(error.into())),
            }
        }
    }

    fn poll_write(
        &mut self,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        if self.writable.is_some() {
            ready!(self.poll_writable(cx))?;
        }
        loop {
            let fd = self.socket.get_ref();
            let written = match slices {
                [one] => rustix::io::write(fd, one),
                many => rustix::io::writev(fd, many),
            };
            match written {
                Ok(n) => return Poll::Ready(Ok(n)),
                Err(rustix::io::Errno::AGAIN) => {
                    self.clear_writable(cx);
                    ready!(self.poll_writable(cx))?;
                }
                Err(error) => return Poll::Ready(Err(error.into())),
            }
        }
    }
}

impl AsFd for Transport {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.get_ref().as_fd()
    }
}

impl runtime::Timer for Timer {
    fn poll_until(&mut self, cx: &mut Context<'_>, deadline: Instant) -> Poll<()> {
        let deadline = tokio::time::Instant::from_std(deadline);
        let sleep =
            self.0.get_or_insert_with(|| Box::pin(tokio::time::sleep_until(deadline)));
        if sleep.deadline() != deadline {
            sleep.as_mut().reset(deadline);
        }
        sleep.as_mut().poll(cx)
    }
}
