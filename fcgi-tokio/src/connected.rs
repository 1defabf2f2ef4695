//! A socket that was just connected or accepted, and that the runtime does not watch yet.
//!
//! A unix socket can be written to at once, but the runtime knows that only after it has waited for
//! events. By then the application has looked for a request, has found none, and sleeps again. And a
//! socket that was accepted mostly has its request by now: if the connection is not kept, it can be
//! read, answered and closed without anybody waiting for it. So the first reads and writes go out
//! directly, and the runtime watches the socket when something is waited for.

use std::{
    io::{self, IoSlice},
    os::fd::{AsFd, BorrowedFd},
};

use fcgi_engine::socket::StdSocket;
use tokio::{net::TcpStream, runtime::Handle};

use crate::{Reading, Transport};

/// A socket that was just connected or accepted, which the runtime does not watch yet.
#[derive(Debug)]
pub struct Connected {
    /// `None` if the runtime could not watch it: it is closed then.
    socket: Option<StdSocket>,
    /// Whether a read may find something.
    readable: bool,
    /// Whoever waits for it first may not be inside the runtime.
    runtime: Handle,
}

impl Connected {
    pub(crate) fn new(socket: StdSocket, runtime: Handle) -> Self {
        Self { socket: Some(socket), readable: false, runtime }
    }

    pub(crate) fn accepted(socket: StdSocket, runtime: Handle) -> Self {
        Self { socket: Some(socket), readable: true, runtime }
    }

    /// Whether a read may find something without waiting.
    pub(crate) fn is_readable(&self) -> bool {
        self.readable && self.socket.is_some()
    }

    /// Reads if there may be something; `None` if that has to be waited for.
    pub(crate) fn read(&mut self, buf: &mut [u8]) -> Option<io::Result<usize>> {
        let socket = self.socket.as_ref().filter(|_| self.readable)?;
        let read = socket.read(buf);
        self.readable = matches!(read, Ok(n) if n == buf.len());
        match read {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => None,
            read => Some(read),
        }
    }

    pub(crate) fn write(&mut self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        self.socket.as_ref().ok_or(io::ErrorKind::NotConnected)?.write(slices)
    }

    /// Lets the runtime watch it.
    pub(crate) fn watch(&mut self) -> io::Result<Transport> {
        let socket = self.socket.take().ok_or(io::ErrorKind::NotConnected)?;
        match socket {
            StdSocket::Unix(unix) => {
                Reading::new(unix, self.runtime.clone()).map(Transport::Reading)
            }
            StdSocket::Tcp(tcp) => {
                let _inside = self.runtime.enter();
                TcpStream::from_std(tcp).map(Transport::Tcp)
            }
            _ => Err(io::ErrorKind::Unsupported.into()),
        }
    }

    /// The error of a socket that the runtime could not watch.
    pub(crate) fn closed<T>(&self) -> io::Result<T> {
        Err(io::ErrorKind::NotConnected.into())
    }

    pub(crate) fn as_socket(&self) -> Option<BorrowedFd<'_>> {
        self.socket.as_ref().map(AsFd::as_fd)
    }

    pub(crate) fn is_unix(&self) -> bool {
        matches!(self.socket, Some(StdSocket::Unix(_)))
    }
}

#[cfg(test)]
mod tests {
    use std::{
        future::poll_fn,
        io::{ErrorKind, IoSlice, Read, Write},
        os::unix::net::UnixListener,
        task::{Context, Poll, Waker},
    };

    use fcgi_driver::{
        Address,
        runtime::{Runtime as _, Transport as _},
    };
    use tokio::runtime::{Builder, Runtime};

    use crate::{Tokio, Transport};

    /// A new connection, its other end, and the runtime that it belongs to.
    fn connected() -> (Transport, std::os::unix::net::UnixStream, Runtime) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("socket");
        let listener = UnixListener::bind(&path).unwrap();
        let runtime = Builder::new_current_thread().enable_all().build().unwrap();
        let transport = runtime.block_on(Tokio::connect(&Address::unix(path))).unwrap();
        (transport, listener.accept().unwrap().0, runtime)
    }

    #[test]
    fn it_is_written_to_at_once_and_watched_from_the_first_read_on() {
        let (mut transport, mut peer, runtime) = connected();
        let mut cx = Context::from_waker(Waker::noop());
        let slices = [IoSlice::new(b"he"), IoSlice::new(b"llo")];
        assert!(matches!(transport.poll_write(&mut cx, &slices), Poll::Ready(Ok(5))));
        let mut came = [0; 5];
        peer.read_exact(&mut came).unwrap();
        assert_eq!(&came, b"hello");
        assert!(matches!(transport, Transport::Connected(_)));

        // Outside of the runtime, too.
        assert!(transport.poll_read(&mut cx, &mut came).is_pending());
        assert!(matches!(transport, Transport::Reading(_)));
        peer.write_all(b"world").unwrap();
        let read = runtime.block_on(poll_fn(|cx| transport.poll_read(cx, &mut came)));
        assert_eq!((read.unwrap(), &came), (5, b"world"));
    }

    #[test]
    fn a_full_socket_is_waited_for() {
        let (mut transport, mut peer, runtime) = connected();
        let block = [b'x'; 64 * 1024];
        let mut sent = 0;
        let mut cx = Context::from_waker(Waker::noop());
        while let Poll::Ready(written) = transport.poll_write(&mut cx, &[IoSlice::new(&block)]) {
            sent += written.unwrap();
        }
        assert!(matches!(transport, Transport::Unix(_)));
        let reader = std::thread::spawn(move || {
            let mut all = Vec::new();
            peer.read_to_end(&mut all).unwrap();
            all.len()
        });
        let write = poll_fn(|cx| transport.poll_write(cx, &[IoSlice::new(b"last")]));
        sent += runtime.block_on(write).unwrap();
        drop(transport);
        assert_eq!(reader.join().unwrap(), sent);
    }

    /// The runtime hears of room only later, and of a unix socket's only when that is nearly empty.
    #[test]
    fn room_is_used_at_once() {
        let (mut transport, mut peer, _runtime) = connected();
        let block = [b'x'; 16 * 1024];
        let slices = [IoSlice::new(&block)];
        let mut cx = Context::from_waker(Waker::noop());
        while transport.poll_write(&mut cx, &slices).is_ready() {}
        let full = transport.write_at_once(&slices).unwrap_err();
        assert_eq!(full.kind(), ErrorKind::WouldBlock);
        peer.read_exact(&mut vec![0; 64 * 1024]).unwrap();
        assert!(transport.poll_write(&mut cx, &slices).is_pending());
        assert!(transport.write_at_once(&slices).unwrap() > 0);
    }
}
