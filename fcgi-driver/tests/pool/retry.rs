//! What is sent again, and what never is: the application counts what it sees.

use std::{io, sync::Arc, sync::Mutex};

use bytes::Bytes;
use fcgi_driver::{
    Error,
    client::{Body, Request},
};
use fcgi_proto::{Rejection, ServerConfig};
use fcgi_testkit::sim;

use crate::support::{Log, Peer, address, builder, call, ms, numbered};

/// What the application does with a request.
#[derive(Clone, Copy, Debug)]
enum Act {
    Answer,
    /// Closes without a byte of an answer.
    Close,
    /// Closes after some bytes of it.
    CloseAfterBytes,
    /// Has done the request, but closes within its END_REQUEST.
    CloseBeforeTheEnd,
    /// Answers, then closes.
    AnswerAndClose,
    Overloaded,
    /// Breaks the protocol.
    Garbage,
}

/// An application that does the given things with the requests of each connection in turn, and
/// notes what it saw as `connection:N`.
fn application(acts: &'static [&'static [Act]]) -> Log {
    let seen = Log::default();
    let log = seen.clone();
    let mut backlog = sim::backlog(&address());
    sim::spawn(async move {
        for (number, acts) in acts.iter().enumerate() {
            let io = backlog.accept().await;
            let log = log.clone();
            sim::spawn(async move {
                let mut peer = Peer::new(io, ServerConfig::default());
                for act in *acts {
                    let Some((key, params)) = peer.request().await else { return };
                    log.note(format!("{number}:{}", params.get_str("N").unwrap()));
                    match act {
                        Act::Answer => peer.answer(key, &params).await,
                        Act::AnswerAndClose => {
                            peer.answer(key, &params).await;
                            return;
                        }
                        Act::Close => return,
                        Act::CloseAfterBytes => {
                            peer.write(key, "some");
                            peer.send().await;
                            return;
                        }
                        Act::CloseBeforeTheEnd => {
                            // The end of STDOUT, and a half of END_REQUEST.
                            let records = b"\x01\x06\0\x01\0\0\0\0\x01\x03\0\x01";
                            peer.io.write_all(records).await.unwrap();
                            return;
                        }
                        Act::Overloaded => {
                            let request = peer.connection.request(key).unwrap();
                            request.reject(Rejection::Overloaded).unwrap();
                            peer.send().await;
                        }
                        Act::Garbage => {
                            peer.io.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await.unwrap();
                        }
                    }
                }
                // All expected requests have come: one more is an error.
                assert!(peer.request().await.is_none(), "one request too many");
            });
        }
        std::future::pending::<()>().await;
    });
    seen
}

fn streamed(n: usize) -> Request {
    let body = futures_body(vec![Ok(Bytes::from_static(b"x"))]);
    numbered(n).param("CONTENT_LENGTH", "1").stdin(body)
}

fn futures_body(chunks: Vec<io::Result<Bytes>>) -> Body {
    struct Chunks(Arc<Mutex<std::vec::IntoIter<io::Result<Bytes>>>>);
    impl futures_core::Stream for Chunks {
        type Item = io::Result<Bytes>;
        fn poll_next(
            self: std::pin::Pin<&mut Self>,
            _: &mut std::task::Context<'_>,
        ) -> std::task::Poll<Option<Self::Item>> {
            std::task::Poll::Ready(self.0.lock().unwrap().next())
        }
    }
    Body::from_stream(Chunks(Arc::new(Mutex::new(chunks.into_iter()))))
}

#[test]
fn a_kept_connection_that_fails_before_the_first_byte_is_tried_once_more_q_10() {
    sim::run(1, async {
        let seen = application(&[&[Act::Answer, Act::Close], &[Act::Answer]]);
        let pool = builder().build().unwrap();
        for n in 0..2 {
            let body = Bytes::from_static(b"bytes at hand");
            let request = numbered(n).param("CONTENT_LENGTH", "13").stdin(body);
            assert_eq!(call(&pool, request).await.unwrap().stdout, n.to_string().as_bytes());
        }
        assert_eq!(seen.all(), ["0:0", "0:1", "1:1"]);
    });
}

#[test]
fn only_once_and_on_a_fresh_connection() {
    sim::run(1, async {
        let seen = application(&[&[Act::Answer, Act::Close], &[Act::Close], &[Act::Answer]]);
        let pool = builder().build().unwrap();
        call(&pool, numbered(0)).await.unwrap();
        let error = call(&pool, numbered(1)).await.unwrap_err();
        assert!(matches!(error, Error::Truncated { .. }), "{error}");
        assert_eq!(seen.all(), ["0:0", "0:1", "1:1"]);
        call(&pool, numbered(2)).await.unwrap();
    });
}

#[test]
fn never_on_a_fresh_connection() {
    sim::run(1, async {
        let seen = application(&[&[Act::Close], &[Act::Answer]]);
        let pool = builder().build().unwrap();
        let error = call(&pool, numbered(0)).await.unwrap_err();
        assert!(matches!(error, Error::Truncated { .. }), "{error}");
        assert_eq!(seen.all(), ["0:0"]);
    });
}

#[test]
fn never_after_the_first_byte() {
    sim::run(1, async {
        let seen = application(&[&[Act::Answer, Act::CloseAfterBytes], &[Act::Answer]]);
        let pool = builder().build().unwrap();
        call(&pool, numbered(0)).await.unwrap();
        let error = call(&pool, numbered(1)).await.unwrap_err();
        assert!(matches!(error, Error::Truncated { .. }), "{error}");
        assert_eq!(seen.all(), ["0:0", "0:1"]);
    });
}

#[test]
fn never_after_a_record_without_content_q_10() {
    for multiplex in [1, 4] {
        sim::run(1, async move {
            // With multiplexing the first connection is for GET_VALUES.
            let seen = application(match multiplex {
                1 => &[&[Act::Answer, Act::CloseBeforeTheEnd], &[Act::Answer]],
                _ => &[&[], &[Act::Answer, Act::CloseBeforeTheEnd], &[Act::Answer]],
            });
            let pool = builder().multiplex(multiplex).build().unwrap();
            call(&pool, numbered(0)).await.unwrap();
            let error = call(&pool, numbered(1)).await.unwrap_err();
            assert!(matches!(error, Error::Truncated { .. }), "{error}");
            assert_eq!(seen.all().len(), 2);
        });
    }
}

#[test]
fn never_with_a_body_that_can_be_read_only_once() {
    sim::run(1, async {
        let seen = application(&[&[Act::Answer, Act::Close], &[Act::Answer]]);
        let pool = builder().build().unwrap();
        call(&pool, numbered(0)).await.unwrap();
        let error = call(&pool, streamed(1)).await.unwrap_err();
        assert!(matches!(error, Error::Truncated { .. }), "{error}");
        assert_eq!(seen.all(), ["0:0", "0:1"]);
    });
}

#[test]
fn never_after_a_refusal_or_a_protocol_error() {
    sim::run(1, async {
        let seen = application(&[&[Act::Answer, Act::Overloaded, Act::Garbage], &[Act::Answer]]);
        let pool = builder().build().unwrap();
        call(&pool, numbered(0)).await.unwrap();
        let error = call(&pool, numbered(1)).await.unwrap_err();
        assert!(
            matches!(error, Error::Rejected { rejection: Rejection::Overloaded, .. }),
            "{error}"
        );
        let error = call(&pool, numbered(2)).await.unwrap_err();
        assert!(matches!(error, Error::Protocol { .. }), "{error}");
        assert_eq!(seen.all(), ["0:0", "0:1", "0:2"], "a refused request leaves it fit for more");
        call(&pool, numbered(3)).await.unwrap();
    });
}

#[test]
fn a_connection_that_was_closed_while_idle_is_not_used() {
    sim::run(1, async {
        let seen = application(&[&[Act::AnswerAndClose], &[Act::Answer]]);
        let pool = builder().build().unwrap();
        call(&pool, numbered(0)).await.unwrap();
        sim::sleep(ms(10)).await;
        // Not even a body that can't be replayed is lost.
        call(&pool, streamed(1)).await.unwrap();
        assert_eq!(seen.all(), ["0:0", "1:1"]);
    });
}

#[test]
fn stray_bytes_on_an_idle_connection_end_it_h_11() {
    sim::run(1, async {
        let mut backlog = sim::backlog(&address());
        let pool = builder().build().unwrap();
        sim::spawn(async move {
            let mut first = Peer::new(backlog.accept().await, ServerConfig::default());
            let (key, params) = first.request().await.unwrap();
            first.answer(key, &params).await;
            sim::sleep(ms(5)).await;
            // A late STDOUT of the request that has ended, whose id is the next one's too.
            first.io.write_all(&[1, 6, 0, 1, 0, 1, 7, 0, b'!', 0, 0, 0, 0, 0, 0, 0]).await.unwrap();
            let mut second = Peer::new(backlog.accept().await, ServerConfig::default());
            let (key, params) = second.request().await.unwrap();
            second.answer(key, &params).await;
            assert!(first.request().await.is_none());
        });
        call(&pool, numbered(0)).await.unwrap();
        sim::sleep(ms(10)).await;
        assert_eq!(&call(&pool, numbered(1)).await.unwrap().stdout[..], b"1");
    });
}
