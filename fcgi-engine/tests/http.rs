//! The HTTP machines against simple models: any cut of a body gives the same bytes and the same end.
#![cfg(feature = "http")]

use std::{io::Read, task::Poll};

use bytes::Bytes;
use fcgi_engine::{
    Error,
    client::{Chunk, Replay},
    http::{
        Answered, Call, CallSettings, Gather, GatherStep, Gathered, Incoming, Received, Reply,
        ReplyStep, UnknownLength,
    },
    server::{FAILED, Failed},
};
use fcgi_http::{BodyLength, Mount, PathSource, RequestBody};
use fcgi_proto::{Params, Role};
use http::{HeaderMap, Response, header::CONTENT_LENGTH};
use proptest::{collection::vec, prelude::*};

#[derive(Default)]
struct NoBody;

impl Replay for NoBody {
    fn replay(&self) -> Option<Self> {
        Some(Self)
    }

    fn is_empty(&self) -> bool {
        true
    }
}

/// A body in pieces, some of which have to be waited for.
fn pieces() -> impl Strategy<Value = Vec<(bool, Vec<u8>)>> {
    vec((any::<bool>(), vec(any::<u8>(), 1..20)), 0..6)
}

fn whole(pieces: &[(bool, Vec<u8>)]) -> Vec<u8> {
    pieces.iter().flat_map(|(_, piece)| piece.clone()).collect()
}

/// About as long as the body, or not said.
fn declared(seen: usize) -> impl Strategy<Value = Option<u64>> {
    let about = seen.saturating_sub(2)..=seen + 2;
    prop_oneof![1 => Just(None), 2 => Just(Some(seen as u64)), 2 => about.prop_map(|n| Some(n as u64))]
}

/// What a reply has sent, and how its handler ends.
fn replied(
    reply: &mut Reply,
    pieces: Vec<(bool, Vec<u8>)>,
    fails: bool,
    gone_at: Option<usize>,
) -> (Vec<Bytes>, Result<u32, Failed>) {
    let mut sent = Vec::new();
    let is_pending = pieces.first().is_some_and(|(waits, _)| *waits);
    let mut pieces = pieces.into_iter();
    let mut next = |reply: &mut Reply| match pieces.next() {
        Some((_, piece)) => reply.handle_body(Ok(Some(piece.into()))),
        None if fails => reply.handle_body(Err("the body failed".into())),
        None => reply.handle_body(Ok(None)),
    };
    let mut looked = false;
    for _ in 0..50 {
        match reply.step() {
            ReplyStep::End => return (sent, reply.end()),
            ReplyStep::Reject(_) => panic!("its role is served"),
            ReplyStep::Look => {
                assert!(!std::mem::replace(&mut looked, true), "one look");
                if is_pending {
                    reply.handle_pending();
                } else {
                    next(reply);
                }
            }
            ReplyStep::Read => next(reply),
            ReplyStep::Record(bytes) | ReplyStep::Write(bytes) => {
                if gone_at == Some(sent.len()) {
                    reply.handle_gone();
                } else {
                    sent.push(bytes);
                }
            }
        }
    }
    panic!("a reply that does not end")
}

fn reply(method: &str) -> Reply {
    let params = Params::from_iter([("REQUEST_METHOD", method), ("REQUEST_URI", "/")]);
    let (reply, asked) = Reply::responder(Role::Responder, params, PathSource::RequestUri);
    assert!(asked.is_some());
    reply
}

proptest! {
    /// W-1, W-2, W-4, W-15: the head in one piece, a body of its length, or a page, or a cut.
    #[test]
    fn a_reply_is_whole_or_says_that_it_is_not(
        (pieces, length) in pieces().prop_flat_map(|pieces| {
            let seen = whole(&pieces).len();
            (Just(pieces), declared(seen))
        }),
        fails: bool,
        head_only: bool,
        gone_at in proptest::option::of(0usize..4),
    ) {
        let mut reply = reply(if head_only { "HEAD" } else { "GET" });
        let mut response = Response::new(());
        if let Some(length) = length {
            response.headers_mut().insert(CONTENT_LENGTH, length.into());
        }
        reply.handle_response(Ok(response), |_| None);
        let body = whole(&pieces);
        let begins = !pieces.is_empty();
        let (sent, end) = replied(&mut reply, pieces, fails, gone_at);
        if end == Err(Failed) && gone_at.is_some_and(|at| at == sent.len()) {
            return Ok(());
        }
        if end == Err(Failed) && !begins {
            prop_assert!(sent.is_empty(), "it becomes the server's page");
            return Ok(());
        }
        let (head, rest) = sent.split_first().expect("at least a head");
        prop_assert!(head.ends_with(b"\r\n\r\n"));
        let rest = rest.concat();
        let expected = match length {
            _ if head_only => (&b""[..], Ok(0)),
            // The rest is cut, and no later failure is seen.
            Some(length) if (length as usize) < body.len() => (&body[..length as usize], Ok(FAILED)),
            Some(length) if fails || (length as usize) > body.len() => (&body[..], Err(Failed)),
            None if fails => (&body[..], Err(Failed)),
            _ => (&body[..], Ok(0)),
        };
        prop_assert!(head.starts_with(b"Status: 200 "));
        prop_assert_eq!((&rest[..], end), expected);
    }

    /// what is sent is what was given, with its length if that can be known.
    #[test]
    fn a_gathered_body_is_what_was_given(
        pieces in pieces(),
        known: bool,
        is_declared: bool,
        spools: bool,
        memory in 0usize..60,
    ) {
        let body = whole(&pieces);
        let length = body.len() as u64;
        let mut headers = HeaderMap::new();
        if is_declared {
            headers.insert(CONTENT_LENGTH, length.into());
        }
        let unknown = if spools {
            UnknownLength::Spool { memory, limit: 1000 }
        } else {
            UnknownLength::Stream
        };
        let mut gather = Gather::new(&headers, known.then_some(length), unknown).unwrap();
        let mut left = pieces.into_iter().peekable();
        let (sent, gathered) = loop {
            match gather.step().unwrap() {
                GatherStep::Look if left.peek().is_some_and(|(waits, _)| *waits) => {
                    gather.handle_pending();
                }
                GatherStep::Look | GatherStep::Wait => {
                    let next = left.next().map(|(_, piece)| Bytes::from(piece));
                    gather.handle_chunk(Ok(next)).unwrap();
                }
                GatherStep::Done(length, body) => break (length, body),
            }
        };
        let (got, is_streamed) = match gathered {
            Gathered::Bytes(bytes) => (bytes.to_vec(), false),
            Gathered::File(mut file, size) => {
                let mut bytes = Vec::new();
                file.read_to_end(&mut bytes).unwrap();
                prop_assert_eq!(size, length);
                (bytes, false)
            }
            Gathered::Rest(head, size) => {
                prop_assert_eq!(size, (known || is_declared).then_some(length));
                let rest: Vec<u8> = left.by_ref().flat_map(|(_, piece)| piece).collect();
                ([&head[..], &rest[..]].concat(), true)
            }
        };
        prop_assert_eq!(got, body);
        prop_assert!(left.next().is_none(), "all was read");
        match sent {
            RequestBody::Unknown => prop_assert!(is_streamed && !known && !is_declared),
            RequestBody::None => prop_assert!(length == 0 && !is_declared),
            RequestBody::Length(said) => prop_assert_eq!(said, length),
        }
    }

    /// Q-20, CGI-6.3.5-1: every byte, up to the declared length, before the end or the error.
    #[test]
    fn a_response_is_handed_on_before_its_end(
        (pieces, length) in pieces().prop_flat_map(|pieces| {
            let seen = whole(&pieces).len();
            (Just(pieces), declared(seen))
        }),
        cut in 0usize..30,
        ending in 0u8..3,
    ) {
        let body = whole(&pieces);
        let mut stdout = b"Status: 201 Made\n".to_vec();
        if let Some(length) = length {
            stdout.extend(format!("Content-Length: {length}\n").into_bytes());
        }
        stdout.push(b'\n');
        // The head and the first piece in two chunks, cut somewhere.
        let mut pieces = pieces.into_iter().map(|(_, piece)| piece);
        stdout.extend(pieces.next().unwrap_or_default());
        let rest = stdout.split_off(cut.min(stdout.len()));
        let chunks = [stdout, rest].into_iter().chain(pieces).map(Bytes::from);

        let settings = CallSettings::new(Mount::new("").unwrap());
        let mut call = Call::responder(http::Request::get("/").body(()).unwrap().into_parts().0);
        prop_assert!(call.start(&settings, None::<&()>).unwrap().is_none());
        call.request(&settings, None, &mut NoBody).unwrap();
        let mut incoming: Option<Incoming> = None;
        let mut read = Vec::new();
        for chunk in chunks {
            let chunk = Ok(Some(Chunk::Stdout(chunk)));
            match &mut incoming {
                Some(incoming) => incoming.handle_chunk(chunk, None),
                None => match call.handle_chunk(&settings, chunk, None, "app".into()).unwrap() {
                    None => {}
                    Some(Received::Answered(Answered::Response(response))) => {
                        prop_assert_eq!(response.status(), 201);
                        incoming = Some(response.into_body());
                    }
                    other => panic!("{other:?}"),
                },
            }
            while let Some(Poll::Ready(Ok(Some(bytes)))) = incoming.as_mut().map(Incoming::poll_chunk) {
                read.extend(bytes);
            }
        }
        let mut incoming = incoming.expect("the head was whole");
        match ending {
            0 => incoming.handle_chunk(Ok(None), Some(0)),
            1 => incoming.handle_chunk(Ok(None), Some(7)),
            _ => incoming.handle_chunk(Err(Error::Truncated { address: "app".into() }), None),
        }
        let end = incoming.poll_chunk();
        let expected = length.map_or(body.len(), |length| body.len().min(length as usize));
        // An error that was met on the way has been handed out.
        let too_long = length.is_some_and(|length| (length as usize) < body.len());
        let too_short = length.is_some_and(|length| (length as usize) > body.len());
        let bad = too_short || ending == 2 || (ending == 1 && length.is_none());
        prop_assert_eq!(read, &body[..expected]);
        if !too_long {
            prop_assert_eq!(matches!(end, Poll::Ready(Err(_))), bad);
            prop_assert_eq!(matches!(end, Poll::Ready(Ok(None))), !bad);
        }
        prop_assert!(matches!(incoming.poll_chunk(), Poll::Ready(Ok(None))), "nothing follows");
    }
}

#[test]
fn parameters_that_are_no_http_request_get_a_page() {
    let (mut reply, asked) =
        Reply::responder(Role::Responder, Params::new(), PathSource::RequestUri);
    assert!(asked.is_none());
    let (sent, end) = replied(&mut reply, Vec::new(), false, None);
    assert!(sent.concat().starts_with(b"Status: 400 Bad Request\r\n"));
    assert_eq!(end, Ok(FAILED));
    let length = BodyLength::exactly(0);
    assert!(Incoming::new("app".into(), length, Bytes::new()).looks_ahead());
}
