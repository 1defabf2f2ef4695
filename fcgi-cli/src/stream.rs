//! Unix and TCP sockets, read and written when they are ready.

use std::{io, time::Duration};

use fcgi_tokio::{Address, Target, Transport};
use tokio::{
    io::Interest,
    net::{TcpStream, UnixStream},
    time::sleep,
};

/// The interval at which a unix socket with a full backlog is tried again, and for how long: a
/// plain connect(2) would wait there.
const RETRY: Duration = Duration::from_millis(5);
const RETRIES: u32 = 1000;
/// How long to wait if no connection can be accepted, for lack of descriptors.
pub(crate) const BREATH: Duration = Duration::from_millis(50);

/// Connects, as patiently as a plain connect(2).
pub(crate) async fn connect(address: &Address) -> io::Result<Transport> {
    let mut tries = 0;
    loop {
        let connected = match address.target() {
            Target::Unix(path) => UnixStream::connect(path).await.map(Transport::Unix),
            Target::Tcp(host_port) => TcpStream::connect(host_port).await.map(|stream| {
                // The sender has already combined the bytes.
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

/// Waits until an attempt is worth it.
pub(crate) async fn ready(stream: &Transport, interest: Interest) -> io::Result<()> {
    match stream {
        Transport::Unix(stream) => stream.ready(interest).await.map(drop),
        Transport::Tcp(stream) => stream.ready(interest).await.map(drop),
        _ => Err(no_socket()),
    }
}

/// Reads what there is. If that does not fill the buffer, the socket is empty: this tells the
/// runtime, which saves a second read.
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

/// Writes as much as the socket takes.
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

/// Whether a socket call only has to wait.
pub(crate) fn waits<T>(result: &io::Result<T>) -> bool {
    let kind = result.as_ref().err().map(io::Error::kind);
    matches!(kind, Some(io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted))
}

/// Makes a socket close with a reset. Unix sockets have no reset.
pub(crate) fn reset(stream: &Transport) {
    if let Transport::Tcp(stream) = stream {
        let _ = rustix::net::sockopt::set_socket_linger(stream, Some(Duration::ZERO));
    }
}
