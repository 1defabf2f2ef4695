//! Any tokio stream as a transport.

use std::{
    any::Any,
    io::{self, IoSlice},
    pin::Pin,
    task::{Context, Poll, ready},
};

use fcgi_driver::Over;
use futures_io::{AsyncRead as FuturesRead, AsyncWrite as FuturesWrite};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::{TcpStream, UnixStream},
};

use crate::Transport;

/// A stream with futures-io's traits instead of tokio's.
struct Compat<T>(T);

/// Takes any stream, such as TLS, vsock, or a pipe in memory. tokio's own sockets are used as such.
impl<T: AsyncRead + AsyncWrite + Send + Unpin + 'static> From<T> for Transport {
    fn from(io: T) -> Self {
        let io: Box<dyn Any + Send> = Box::new(io);
        let io = match io.downcast::<UnixStream>() {
            Ok(unix) => return Self::Unix(*unix),
            Err(io) => io,
        };
        let io = match io.downcast::<TcpStream>() {
            Ok(tcp) => {
                // Some systems refuse this for a connection that is gone already.
                let _ = tcp.set_nodelay(true);
                return Self::Tcp(*tcp);
            }
            Err(io) => io,
        };
        match io.downcast::<T>() {
            Ok(io) => Self::Stream(Box::new(Over::new(Compat(*io)))),
            Err(_) => unreachable!("it was made of one"),
        }
    }
}

impl<T: AsyncRead + Unpin> FuturesRead for Compat<T> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        let mut buf = ReadBuf::new(buf);
        ready!(Pin::new(&mut self.0).poll_read(cx, &mut buf))?;
        Poll::Ready(Ok(buf.filled().len()))
    }
}

impl<T: AsyncWrite + Unpin> FuturesWrite for Compat<T> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write_vectored(cx, slices)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }

    fn poll_close(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(cx)
    }
}
