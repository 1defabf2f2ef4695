//! Sockets of both kinds, read and written when they are ready.

use std::{io, time::Duration};

use fcgi_tokio::{Address, Target, Transport};
use tokio::{
    io::Interest,
    net::{TcpStream, UnixStream},
    time::sleep,
};

/// How often, and how long, a unix socket with a full backlog is tried again: a plain connect(2)
/// would wait there.
const RETRY: Duration = Duration::from_millis(5);
const RETRIES: u32 = 1000;

/// Connects, as patiently as a plain connect(2) is.
pub(crate) async fn connect(address: &Address) -> io::Result<Transport> {
    let mut tries = 0;
    loop {
        let connected = match address.target() {
            Target::Unix(path) => UnixStream::connect(path).await.map(Transport::Unix),
            Target::Tcp(host_port) => TcpStream::connect(host_port).await.map(|stream| {
                // The bytes were put together by their sender already.
                let _ = stream.set_nodelay(true);
                Transport::Tcp(stream)
            }),
            _ => Err(io::ErrorKind::Unsupported.into()),
        };
        match connected {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock && tries < RETRIES => {
                tries += 1;
                sleep(RETRY).await;
            }
            connected => return connected,
        }
    }
}

/// Waits until it is worth a try.
pub(crate) async fn ready(stream: &Transport, interest: Interest) -> io::Result<()> {
    match stream {
        Transport::Unix(stream) => stream.ready(interest).await.map(drop),
        Transport::Tcp(stream) => stream.ready(interest).await.map(drop),
        _ => Err(no_socket()),
    }
}

/// Reads what there is. A read that does not fill the buffer has emptied the socket: the runtime is
/// told so, and spares a second one.
pub(crate) fn try_read(stream: &Transport, buffer: &mut [u8]) -> io::Result<usize> {
    let mut some = None;
    let fd = stream.as_socket().ok_or_else(no_socket)?;
    let read = || match rustix::io::read(fd, &mut *buffer)? {
        n if 0 < n && n < buffer.len() => {
            some = Some(n);
            Err(io::ErrorKind::WouldBlock.into())
        }
        n => Ok(n),
    };
    let read = match stream {
        Transport::Unix(stream) => stream.try_io(Interest::READABLE, read),
        Transport::Tcp(stream) => stream.try_io(Interest::READABLE, read),
        _ => Err(no_socket()),
    };
    some.map_or(read, Ok)
}

/// Writes what the socket takes.
pub(crate) fn try_write(stream: &Transport, bytes: &[u8]) -> io::Result<usize> {
    match stream {
        Transport::Unix(stream) => stream.try_write(bytes),
        Transport::Tcp(stream) => stream.try_write(bytes),
        _ => Err(no_socket()),
    }
}

/// The command has made each stream itself.
fn no_socket() -> io::Error {
    io::ErrorKind::Unsupported.into()
}

/// Whether a socket call has to wait, and not more than that.
pub(crate) fn waits<T>(result: &io::Result<T>) -> bool {
    let kind = result.as_ref().err().map(io::Error::kind);
    matches!(kind, Some(io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted))
}

/// Has a socket closed with a reset. A unix socket has no such thing.
pub(crate) fn reset(stream: &Transport) {
    if let Transport::Tcp(stream) = stream {
        let _ = rustix::net::sockopt::set_socket_linger(stream, Some(Duration::ZERO));
    }
}
