//! Implements the IO traits of futures-io for streams of bytes, and those of tokio with the feature
//! `tokio`.

/// Implements both crates' `AsyncRead` for a type that has `poll_bytes(&mut self, cx, max) ->
/// Poll<io::Result<Bytes>>`. That returns at least one byte and at most `max`, or none at the end.
macro_rules! byte_reader {
    ([$($generics:tt)*] $reader:ty) => {
        impl<$($generics)*> ::futures_io::AsyncRead for $reader {
            fn poll_read(
                self: ::std::pin::Pin<&mut Self>,
                cx: &mut ::std::task::Context<'_>,
                buf: &mut [u8],
            ) -> ::std::task::Poll<::std::io::Result<usize>> {
                if buf.is_empty() {
                    return ::std::task::Poll::Ready(Ok(0));
                }
                let polled = self.get_mut().poll_bytes(cx, buf.len());
                polled.map_ok(|bytes| {
                    buf[..bytes.len()].copy_from_slice(&bytes);
                    bytes.len()
                })
            }
        }

        #[cfg(feature = "tokio")]
        impl<$($generics)*> ::tokio::io::AsyncRead for $reader {
            fn poll_read(
                self: ::std::pin::Pin<&mut Self>,
                cx: &mut ::std::task::Context<'_>,
                buf: &mut ::tokio::io::ReadBuf<'_>,
            ) -> ::std::task::Poll<::std::io::Result<()>> {
                if buf.remaining() == 0 {
                    return ::std::task::Poll::Ready(Ok(()));
                }
                let polled = self.get_mut().poll_bytes(cx, buf.remaining());
                polled.map_ok(|bytes| buf.put_slice(&bytes))
            }
        }
    };
}

/// Implements tokio's `AsyncWrite` for a type that has that of futures-io.
macro_rules! tokio_writer {
    ($writer:ty) => {
        #[cfg(feature = "tokio")]
        impl ::tokio::io::AsyncWrite for $writer {
            fn poll_write(
                self: ::std::pin::Pin<&mut Self>,
                cx: &mut ::std::task::Context<'_>,
                buf: &[u8],
            ) -> ::std::task::Poll<::std::io::Result<usize>> {
                ::futures_io::AsyncWrite::poll_write(self, cx, buf)
            }

            fn poll_flush(
                self: ::std::pin::Pin<&mut Self>,
                cx: &mut ::std::task::Context<'_>,
            ) -> ::std::task::Poll<::std::io::Result<()>> {
                ::futures_io::AsyncWrite::poll_flush(self, cx)
            }

            fn poll_shutdown(
                self: ::std::pin::Pin<&mut Self>,
                cx: &mut ::std::task::Context<'_>,
            ) -> ::std::task::Poll<::std::io::Result<()>> {
                ::futures_io::AsyncWrite::poll_close(self, cx)
            }
        }
    };
}

pub(crate) use {byte_reader, tokio_writer};

/// A reader of tokio as a reader of futures-io.
#[cfg(feature = "tokio")]
pub(crate) struct FromTokio<T>(pub(crate) std::pin::Pin<Box<T>>);

#[cfg(feature = "tokio")]
impl<T: tokio::io::AsyncRead> futures_io::AsyncRead for FromTokio<T> {
    fn poll_read(
        mut self: std::pin::Pin<&mut Self>,
        cx: &mut std::task::Context<'_>,
        buf: &mut [u8],
    ) -> std::task::Poll<std::io::Result<usize>> {
        let mut buf = tokio::io::ReadBuf::new(buf);
        let polled = self.0.as_mut().poll_read(cx, &mut buf);
        polled.map_ok(|()| buf.filled().len())
    }
}
